"""The versions of a store: list them, choose one, delete the old.

    list_models("models")                                   # the newest first
    find_model("models", "best", metric="auroc")
    prune("models", keep=5, keep_best="auroc", dry_run=True)

Only `model.json` is read: nothing here opens a model. What deletes is careful in one direction:
a folder that the store did not write, whole, stays.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from candlemark import progress
from candlemark.errors import ConfigError, ModelError
from candlemark.models.saved import (
    FILE,
    PAYLOADS,
    Direction,
    SavedModel,
    read_saved,
    version_key,
)

DEFAULT_STORE = Path("models")
LEFTOVER_AFTER_S = 86_400.0
"""A folder that a save did not finish is taken for dead after a day: no save lasts that long."""

_SAVING = re.compile(r"\.saving_[0-9a-f]{16}")
_PRUNING = re.compile(r"\.pruning_[0-9a-f]{16}")
_OUR_FILES = frozenset({FILE, *PAYLOADS.values()})


def scratch_path(store: Path) -> Path:
    """A name for a save that is not finished, which nobody else has."""
    return store / f".saving_{secrets.token_hex(8)}"


def next_version(store: Path) -> str:
    """The version that a model saved in this second gets, if nobody is faster."""
    second = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    keys = (version_key(entry.name) for entry in store.iterdir())
    # After the highest there is, not in a gap that prune has left: order is age.
    number = 1 + max((key[1] for key in keys if key and key[0] == second), default=0)
    return f"model_{second}" if number == 1 else f"model_{second}_{number}"


def list_models(store: Path | str = DEFAULT_STORE, *, name: str | None = None) -> list[SavedModel]:
    """Every version in `store`, the newest first; damaged ones too, with their problem.

    name: only versions of this name, and damaged ones that do not tell theirs. No model is
    opened. A store that is not there is empty. Raises ModelError: it is no folder.
    """
    store = Path(store)
    if store.exists() and not store.is_dir():
        raise ModelError(f"{store} is a file; a store of models is a folder")
    if not store.is_dir():
        return []
    keys = {entry.name: key for entry in store.iterdir() if (key := version_key(entry.name))}
    newest_first = sorted(keys, key=lambda version: keys[version], reverse=True)
    found = (read_saved(store / version) for version in newest_first)
    return [
        one
        for one in found
        # What another process pruned since the folder was listed is no damage.
        if (one.problem is None or os.path.lexists(one.path))
        and (name is None or one.kind is None or one.name == name)
    ]


def find_model(
    store: Path | str | SavedModel = DEFAULT_STORE,
    version: str = "latest",
    *,
    metric: str | None = None,
    better: Direction | None = None,
    name: str | None = None,
) -> SavedModel:
    """The version that `version` means.

    version: "latest"; "best", by `metric`; or a folder's name such as model_20260101T120000Z
    metric: its best is the version with the highest or lowest number, as `better` or else the
        saved directions say. Unknown numbers are never the best; of equals it is the newest.
    name: look only among versions of this name

    Raises ModelError: no such version or metric, no direction known, the newest one damaged.
    ConfigError: arguments that do not belong together.
    """
    if metric is not None and version != "best":
        raise ConfigError(f"metric '{metric}' is given with version '{version}'; it needs 'best'")
    if version == "best" and metric is None:
        raise ConfigError("'best' needs a metric: metric='auroc', or --metric auroc")
    single = store.path if isinstance(store, SavedModel) else Path(store)
    if isinstance(store, SavedModel) or (single / FILE).is_file() or version_key(single.name):
        if version not in {"latest", single.name} or name is not None:
            asked = version if name is None else name
            raise ConfigError(f"{single} is one version; '{asked}' is asked of its store")
        return _existing(single)
    models = list_models(single, name=name)
    if not models:
        named = f" named '{name}'" if name is not None else ""
        raise ModelError(f"no model{named} in {single}; save one with candlemark.save_model")
    if version == "latest":
        return _latest(models)
    if metric is not None:
        return _whole(best_of(models, metric, better))
    return _named(models, version, single)


def best_of(
    models: Sequence[SavedModel], metric: str, better: Direction | None = None
) -> SavedModel:
    """The best of `models`, newest first, by a metric; a line of progress tells ties and damage.

    Raises ModelError: nobody has the metric or a number for it; its direction is not known.
    """
    ranked = ranking(models, metric, better)
    for one in models:
        if one.kind is None:
            progress.warning(f"{one.version} was not looked at: {one.problem}", task="models")
    equals = [one for one in ranked if one.metrics[metric] == ranked[0].metrics[metric]]
    if len(equals) > 1:
        others = ", ".join(one.version for one in equals[1:4])
        more = f" and {len(equals) - 4} more" if len(equals) > 4 else ""
        progress.note(
            f"{metric} of {equals[0].version} is also that of {others}{more}; it is the newest",
            task="models",
        )
    return ranked[0]


def ranking(
    models: Sequence[SavedModel], metric: str, better: Direction | None = None
) -> list[SavedModel]:
    """`models` that have a number for `metric`, best first, equals in the order given.

    Raises ModelError as `best_of` does.
    """
    having = [one for one in models if metric in one.metrics]
    if not having:
        known = ", ".join(sorted({key for one in models for key in one.metrics}))
        raise ModelError(f"no model has the metric '{metric}'; known: {known or 'none'}")
    numbered = [one for one in having if one.metrics[metric] is not None]
    if not numbered:
        raise ModelError(f"'{metric}' is unknown in every model, so none is the best by it")
    said = {one.directions[metric] for one in having if metric in one.directions}
    if better is None and len(said) != 1:
        why = "both are said" if said else "nobody has said it"
        raise ModelError(
            f"is a higher or a lower '{metric}' better? {why}: give better='higher' or 'lower' "
            f"(--better), or save with directions={{'{metric}': 'lower'}}"
        )
    lower = (better or next(iter(said))) == "lower"
    sign = 1 if lower else -1
    return sorted(numbered, key=lambda one: sign * float(one.metrics[metric] or 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What `prune` did, or would do: every version is in one of the three, newest first.

    left_alone: versions that are not counted and not deleted, with the reason: damaged ones,
        and folders that hold what the store did not write
    """

    kept: tuple[SavedModel, ...]
    removed: tuple[SavedModel, ...]
    left_alone: tuple[tuple[SavedModel, str], ...]


def prune(
    store: Path | str = DEFAULT_STORE,
    *,
    keep: int,
    keep_best: str | Sequence[str] = (),
    better: Direction | None = None,
    name: str | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete all but the newest `keep` versions and the best by each metric of `keep_best`.

    Only whole versions are deleted, and of those only files that the store wrote: a folder with
    anything else in it is left alone. `name` confines it to versions of one name. What killed
    saves have left behind for a day goes too. `dry_run` deletes nothing.

    Raises ConfigError: `keep` below 0. ModelError, before anything is deleted: as `best_of`.
    """
    if keep < 0:
        raise ConfigError(f"keep is {keep}; allowed: 0 or more")
    store = Path(store)
    models = list_models(store, name=name)
    reasons = {one.version: _why_alone(one) for one in models}
    whole = [one for one in models if reasons[one.version] is None]
    kept = {one.version for one in whole[:keep]}
    for metric in (keep_best,) if isinstance(keep_best, str) else keep_best:
        if whole:
            kept.add(best_of(whole, metric, better).version)
    plan = Pruned(
        kept=tuple(one for one in whole if one.version in kept),
        removed=tuple(one for one in whole if one.version not in kept),
        left_alone=tuple((one, why) for one in models if (why := reasons[one.version])),
    )
    if not dry_run:
        delete(store, plan.removed)
    return plan


def delete(store: Path | str, versions: Sequence[SavedModel]) -> None:
    """Delete versions of `store`, the oldest first, and what killed saves have left in it.

    Each is looked at once more, and stays if it is no longer whole or holds something else.
    """
    for one in reversed(versions):
        if _why_alone(read_saved(one.path)) is None:
            _remove(one)
    _sweep(Path(store))


def _existing(folder: Path) -> SavedModel:
    if not folder.is_dir():
        raise ModelError(
            f"no model at {folder}; see: candlemark models list --store {folder.parent}"
        )
    # A link that the caller names leads where the caller wants.
    return _whole(read_saved(folder.resolve()))


def _whole(saved: SavedModel) -> SavedModel:
    if saved.problem is not None:
        raise ModelError(f"{saved.path} cannot be loaded: {saved.problem}")
    return saved


def _latest(models: Sequence[SavedModel]) -> SavedModel:
    newest = models[0]
    if newest.problem is None:
        return newest
    whole = next((one.version for one in models if one.problem is None), None)
    advice = f"the newest whole one is {whole}" if whole else "no version is whole"
    raise ModelError(
        f"the newest model, {newest.path}, cannot be loaded: {newest.problem}; {advice}"
    )


def _named(models: Sequence[SavedModel], version: str, store: Path) -> SavedModel:
    for one in models:
        if one.version == version:
            return _whole(one)
    if any(one.name == version for one in models):
        raise ModelError(f"'{version}' is a name; ask for its newest with name='{version}'")
    versions = ", ".join(one.version for one in models[:5])
    more = f" and {len(models) - 5} more" if len(models) > 5 else ""
    raise ModelError(f"no version '{version}' in {store}; allowed: latest, best, {versions}{more}")


def _why_alone(saved: SavedModel) -> str | None:
    """Why `prune` does not touch a version; None where it may."""
    if saved.problem is not None:
        return f"{saved.problem}; delete it by hand if it is of no use"
    try:
        names = {entry.name for entry in saved.path.iterdir()}
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    strange = sorted(names - {FILE, *saved.files})
    if strange:
        return f"it holds {', '.join(strange[:3])}, which candlemark did not write"
    return None


def _remove(saved: SavedModel) -> None:
    """Out of sight by one rename, then gone: a kill between leaves what the next prune sweeps."""
    hidden = saved.path.with_name(f".pruning_{secrets.token_hex(8)}")
    try:
        saved.path.rename(hidden)
    except FileNotFoundError:
        return  # another prune was here first
    _remove_ours(hidden)


def _sweep(store: Path) -> None:
    """Delete what killed saves and prunes have left, where it is certainly theirs."""
    if not store.is_dir():
        return
    for entry in store.iterdir():
        saving = _SAVING.fullmatch(entry.name)
        if not saving and not _PRUNING.fullmatch(entry.name):
            continue
        try:
            age_s = time.time() - entry.stat().st_mtime
            if not saving or age_s > LEFTOVER_AFTER_S:
                _remove_ours(entry)
        except FileNotFoundError:
            continue  # another prune was here first


def _remove_ours(folder: Path) -> None:
    """Delete the files that a store writes, and the folder if that leaves it empty."""
    if folder.is_symlink() or not folder.is_dir():
        return  # a file, or what a link leads to, is not the store's
    for name in _OUR_FILES:
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise
