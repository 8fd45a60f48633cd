"""Trained models on disk: each save is a version, with its scores, its config and hashes.

    saved = save_model(network, "models", metrics={"auroc": 0.74}, config=config, note="first")
    network = load_model("models", "best", metric="auroc", into=network)
    for saved in list_models("models"):
        print(saved.version, saved.metrics)

A version is a folder, `model_<UTC time>`, written beside its place and renamed: a save that is
killed leaves nothing that anyone sees, and any number of savers may share a store. Networks
are safetensors and load from anyone; a scikit-learn object is a pickle, which runs code when it
is opened, and loads only with `trust=True`. Listing and choosing open no model at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from candlemark.config import Config
from candlemark.errors import ConfigError, ModelError
from candlemark.models import payload
from candlemark.models.saved import (
    DIRECTIONS,
    FILE,
    MAX_JSON_BYTES,
    PAYLOADS,
    Direction,
    ModelFile,
    SavedModel,
    StoredFile,
    damaged_files,
    plain,
    read_saved,
)
from candlemark.models.versions import DEFAULT_STORE, find_model, next_version, scratch_path
from candlemark.records import content_id


def save_model(
    model: Any,
    store: Path | str = DEFAULT_STORE,
    *,
    metrics: Mapping[str, float | None] | None = None,
    config: Mapping[str, Any] | Config | None = None,
    name: str | None = None,
    directions: Mapping[str, Direction] | None = None,
    **fields: Any,
) -> SavedModel:
    """Save a model as the newest version of `store`, which is made if it is not there.

    model: a torch module (its state dict: parameters and buffers, types kept, tied tensors
        once; `torch.compile` and data parallelism are unwrapped), a mapping of names to
        tensors, or a scikit-learn estimator or pipeline (joblib, compressed)
    metrics: its scores; one that is None or not finite is kept as None and is never the best
    config: what it was made with, no secrets; fields: whatever else is worth keeping
    name: a line of text that versions of one model share
    directions: "higher" or "lower" is better, for metrics that `DIRECTIONS` does not know

    Raises ModelError: another kind of model, values that JSON cannot hold, an estimator that
    cannot be pickled. ConfigError: a direction that is none, or of a metric not given.
    """
    kind = payload.kind_of(model)
    store = Path(store)
    scores = {key: _score(key, value) for key, value in (metrics or {}).items()}
    plain_config = plain(config if config is not None else {}, "config")
    record = {
        "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "name": _checked_name(name),
        "kind": kind,
        "class_path": payload.class_path(model),
        "metrics": scores,
        "directions": _directions(scores, directions or {}),
        "config": plain_config,
        "config_hash": content_id(plain_config),
        "fields": plain(fields, "fields"),
        "libraries": _versions(kind),
    }
    _make_store(store)
    with _scratch(store) as folder:
        file = folder / PAYLOADS[kind]
        payload.write(model, kind, file)
        _sync(file)
        entry = StoredFile(size_bytes=file.stat().st_size, sha256=_hash(file))
        _write_json(ModelFile.model_validate(record | {"files": {file.name: entry}}), folder)
        _sync(folder)
        path = _claim(folder, store)
    _sync(store)
    return read_saved(path)


def load_model(
    store: Path | str | SavedModel = DEFAULT_STORE,
    version: str = "latest",
    *,
    metric: str | None = None,
    better: Direction | None = None,
    name: str | None = None,
    into: Any = None,
    trust: bool = False,
    device: Any = None,
) -> Any:
    """Load a version: the module given, a dict of tensors, or the scikit-learn object.

    store: a store, one version's folder, or what `save_model` and `list_models` return
    version, metric, better, name: as `find_model` takes them
    into: the module to fill, built as it was when it was saved; every name, shape and type is
        checked before anything is copied. Without it a network is a dict of tensors.
    trust: leave to open a pickle, which runs code; a hash proves that nothing was damaged
        since it was saved, not who saved it
    device: where the tensors or the module go; default: the CPU, or where the module is

    Warns (UserWarning) where scikit-learn is of another version than the one that saved.
    Raises ModelError: nothing to load, a damaged file, a pickle without trust, a module that
    does not fit. ConfigError: arguments that do not belong together.
    """
    saved = find_model(store, version, metric=metric, better=better, name=name)
    file = saved.payload
    entry = saved.files[file.name]
    if saved.kind == "estimator":
        if into is not None or device is not None:
            raise ConfigError(
                f"{saved.path} is a {saved.class_path}, no network; leave into= and device= out"
            )
        if not trust:
            raise _untrusted(saved)
        return payload.read_estimator(file, entry, foreign=_warn_of_versions(saved))
    damage = damaged_files(saved)
    if damage:
        raise ModelError(f"{saved.path}: {'; '.join(damage)}; save the model again")
    if into is None:
        return payload.read_tensors(file, device="cpu" if device is None else str(device))
    payload.fill(into, payload.read_tensors(file, device="cpu"))
    return into if device is None else into.to(device)


def _untrusted(saved: SavedModel) -> ModelError:
    return ModelError(
        f"{saved.payload} is a pickle ({saved.class_path}), and a pickle can run any code when it "
        "is opened. Its hash shows damage, not who made it: check that you or someone you trust "
        f"saved it and that nobody else can write to {saved.path.parent}, then call "
        f"load_model({str(saved.path)!r}, trust=True)"
    )


def _warn_of_versions(saved: SavedModel) -> bool:
    """True, after one warning, where another scikit-learn reads than wrote."""
    wrote, reads = saved.libraries.get("scikit-learn"), installed("scikit-learn")
    if wrote == reads:
        return False
    warnings.warn(
        f"{saved.version} was saved with scikit-learn {wrote or 'of an unknown version'} and is "
        f"loaded with {reads}; it may fail or predict otherwise. Install scikit-learn=={wrote}, "
        "or fit and save it again",
        UserWarning,
        stacklevel=3,
    )
    return True


def _score(name: Any, value: Any) -> float | None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ModelError(f"a metric is called {name!r:.40}; a name is a line of text")
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"metric '{name}' is {value!r:.40}; a metric is one number") from error
    return number if math.isfinite(number) else None


def _directions(scores: Mapping[str, Any], given: Mapping[str, Direction]) -> dict[str, Direction]:
    for name, direction in given.items():
        if name not in scores:
            known = ", ".join(scores) or "none"
            raise ConfigError(f"directions name '{name}', which is no metric given: {known}")
        if direction not in {"higher", "lower"}:
            raise ConfigError(
                f"the direction of '{name}' is {direction!r}; allowed: 'higher', 'lower'"
            )
    known_too = {name: DIRECTIONS[name] for name in scores if name in DIRECTIONS}
    return {**known_too, **given}


def _checked_name(name: str | None) -> str | None:
    if name is not None and (not name.strip() or len(name) > 200 or not name.isprintable()):
        raise ConfigError(f"name is {name!r:.60}; allowed: a line of 1 to 200 characters")
    return name


def _versions(kind: Any) -> dict[str, str]:
    python = ".".join(str(part) for part in sys.version_info[:3])
    packages = ("candlemark", *payload.libraries(kind))
    return {"python": python, **{package: installed(package) for package in packages}}


def _make_store(store: Path) -> None:
    if store.exists() and not store.is_dir():
        raise ModelError(f"{store} is a file; a store of models is a folder")
    store.mkdir(parents=True, exist_ok=True)


@contextmanager
def _scratch(store: Path) -> Iterator[Path]:
    """A hidden folder of the store, on the same disk as the place it is renamed to."""
    folder = scratch_path(store)
    folder.mkdir()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_json(record: ModelFile, folder: Path) -> None:
    text = json.dumps(record.model_dump(mode="json"), indent=2, allow_nan=False, ensure_ascii=False)
    content = f"{text}\n".encode()
    if len(content) > MAX_JSON_BYTES:
        raise ModelError(
            f"config, metrics and fields are {len(content) >> 20} MiB of JSON; allowed: "
            f"{MAX_JSON_BYTES >> 20} MiB. Keep what is large in a file, and its path as a field"
        )
    with (folder / FILE).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _claim(folder: Path, store: Path) -> Path:
    """Rename the finished folder to the first free version of this second."""
    while True:
        try:
            # A folder that holds files is never replaced, so of two savers one gets the name.
            return folder.rename(store / next_version(store))
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                raise


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to the disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
