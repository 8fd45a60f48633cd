"""Publish datasets, models and results: one commit each, and none where nothing changed.

    pushed = push_dataset(open_dataset("datasets/btc"), "me/btc", private=True)
    pushed = push_model(Path("models/btc"), "me/btc-fusion", dry_run=True)
    pushed.changes.text()              # what would be added, changed and removed
    pushed = push_results(Path("benchmarks/results"), "me/btc-fusion")

What is pushed follows from what is here alone: the same dataset gives the same Parquet and the
same card to the byte, so pushing twice changes nothing. A `README.md` that is there already is
kept but for the part that candlemark wrote (see `hub.cards`). Nothing of a repository is removed
but files that candlemark writes itself and has no more of.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from candlemark.dataset.audit import Audit, audit
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing.card import FILE as DESCRIPTION
from candlemark.dataset.sharing.export import export
from candlemark.dataset.sharing.options import SHARD_BYTES, ExportOptions
from candlemark.dataset.sheet import contact_sheet
from candlemark.errors import HubError
from candlemark.hub.badges import endpoint, svg
from candlemark.hub.benchmark_section import BADGES, CSV, Section, benchmark_section
from candlemark.hub.cards import README, Card, front_matter, merge, without_front_matter
from candlemark.hub.changes import Changes, LocalFile, local_files
from candlemark.hub.client import Hub, Kind
from candlemark.hub.dataset_card import SHEET, dataset_card
from candlemark.hub.model_card import model_card
from candlemark.hub.secrets import refuse_secrets, warn_of_home
from candlemark.hub.trained import TRAINING, read_trained
from candlemark.progress import warning
from candlemark.records import RunRecord
from candlemark.results.query import matching
from candlemark.results.store import Results, open_results

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_OF_A_MODEL = (
    *WEIGHTS,
    *(TRAINING, "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt"),
)
"""Files of a model that say something false when another model is pushed beside them."""

_BADGES = tuple(
    f"{BADGES}/{name}.{suffix}"
    for name in ("auroc", "label", "latency")
    for suffix in ("svg", "json")
)
_SHEET_PICTURES = 12
_SCRATCH = ".candlemark-push-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did, or would do.

    commit: None where nothing changed, or where it was only asked what would
    pull_request: address of the pull request, where one was asked for
    """

    repo_id: str
    kind: Kind
    url: str
    commit: str | None
    changes: Changes
    dry_run: bool = False
    pull_request: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "repo_id": self.repo_id,
            "kind": self.kind,
            "url": self.url,
            "commit": self.commit,
            "pull_request": self.pull_request,
            "dry_run": self.dry_run,
            "changes": self.changes.to_dict(),
        }


def push_dataset(
    dataset: Dataset,
    repo_id: str,
    *,
    hub: Hub | None = None,
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
    caption: str = "window",
    license_id: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Pushed:
    """Publish a dataset as `datasets.load_dataset(repo_id)` reads it.

    Parquet of every split with the fields image, text, label, next_close and image_path, a card
    with its audit, source, gaps and licence note, a contact sheet, and `dataset.json`.

    repo_id: user/name, or a name of one's own
    private: what a new repository is
    create_pr: as a pull request instead of on main
    dry_run: only say what would change; nothing is made
    caption: style of the texts
    license_id: what its owner puts it under

    Raises HubError: the Hub refuses, files of the dataset are damaged. MissingExtraError: the
    library `datasets` is not installed. DatasetError, ConfigError: as `export`.
    """
    found = audit(dataset)
    _check_audit(found, dataset)
    place = _Place.of(hub, repo_id, "dataset", private=private, dry_run=dry_run)
    card = dataset_card(
        dataset, found, repo_id=place.repo_id, caption=caption, license_id=license_id
    )
    with _scratch(dataset.path.parent) as scratch:
        folder = export(
            dataset,
            scratch / "export",
            to="datasets",
            options=ExportOptions(caption=caption, shard_bytes=shard_bytes),
        )
        _leave_out_places(folder / DESCRIPTION)
        contact_sheet(dataset, folder / SHEET, per_split=_SHEET_PICTURES)
        files = local_files(folder)
        files[README] = place.readme(card)
        return place.push(
            files,
            message=f"{len(dataset):,} chart images of {dataset.window} candles",
            remove=("data/",),
            create_pr=create_pr,
        )


def push_model(
    folder: Path,
    repo_id: str,
    *,
    hub: Hub | None = None,
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
    kind: Kind = "model",
    license_id: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> Pushed:
    """Publish a model's folder with a card; every file goes under its own name.

    A front matter of the folder's own README.md is kept beside the card's, so that one folder is
    a model and a Space. Hidden files stay here.

    kind: "model", or "space" for a folder with an app
    extra: texts by name that go along, in the place of the folder's own of that name

    Other arguments and errors as `push_dataset`; HubError also where the folder is no model, or
    as a Space has no app, or a file holds a token or a key.
    """
    trained = read_trained(folder)
    files = {
        path: file
        for path, file in local_files(folder).items()
        if not any(part.startswith(".") for part in path.split("/"))
    }
    files |= {name: LocalFile(content=text.encode()) for name, text in (extra or {}).items()}
    missing = [name for name in ("app.py", README) if name not in files]
    if kind == "space" and missing:
        raise HubError(
            f"{folder} holds no {missing[0]}, so it is no Space; make it one with: "
            f"candlemark app {folder} --space {folder}"
        )
    if not any(name in files for name in WEIGHTS):
        raise HubError(
            f"{folder} holds none of {', '.join(WEIGHTS)}, so there is nothing to load; train the "
            f"model again with: candlemark fuse train --output {folder}"
        )
    hub = hub or Hub()
    refuse_secrets(files, hub)
    warn_of_home(files)
    place = _Place.of(hub, repo_id, kind, private=private, dry_run=dry_run)
    card = model_card(trained, repo_id=place.repo_id, files=files, license_id=license_id)
    own = files.pop(README, None)
    files[README] = place.readme(card, own=None if own is None else _text(own.read(), folder))
    return place.push(
        files, message=f"Model {folder.name}", remove=_OF_A_MODEL, create_pr=create_pr
    )


def push_results(
    results_dir: Path,
    repo_id: str,
    *,
    hub: Hub | None = None,
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
    kind: Kind = "model",
    pattern: str | None = None,
) -> Pushed:
    """Write a benchmark section into the card of a repository, with badges and a CSV.

    results_dir: folder of candlemark.duckdb, or the file
    kind: what the repository is; it is made where there is none
    pattern: only suites whose id or export name fits this glob

    Other arguments and errors as `push_dataset`; ResultsError as `open_results`.
    """
    with open_results(results_dir, read_only=True) as results:
        records = _records(results, pattern)
    if not records:  # nothing to say, and no repository is made for it
        raise HubError(f"{results_dir} holds no trial to publish; run one first: candlemark bench")
    place = _Place.of(hub, repo_id, kind, private=private, dry_run=dry_run)
    section = benchmark_section(
        records, repo_id=place.repo_id, kind=kind, endpoint=place.hub.endpoint
    )
    files = {**section_files(section), README: place.readme(section.card)}
    return place.push(
        files,
        message=f"Benchmark of {len(records)} trials",
        remove=(*_BADGES, CSV),
        create_pr=create_pr,
    )


def section_files(section: Section) -> dict[str, LocalFile]:
    """Badges and table of a benchmark by their path in a repository."""
    files = {CSV: LocalFile(content=section.csv.encode())}
    for badge in section.badges:
        told = json.dumps(endpoint(badge), indent=2, ensure_ascii=False) + "\n"
        files[f"{BADGES}/{badge.name}.svg"] = LocalFile(content=svg(badge).encode())
        files[f"{BADGES}/{badge.name}.json"] = LocalFile(content=told.encode())
    return files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a push goes: a repository as it is now.

    head: its newest commit, None where it is not there and only a dry run asks
    """

    hub: Hub
    repo_id: str
    kind: Kind
    head: str | None
    dry_run: bool

    @classmethod
    def of(
        cls, hub: Hub | None, repo_id: str, kind: Kind, *, private: bool, dry_run: bool
    ) -> _Place:
        """Make sure of the repository, before anything costly is done for it."""
        hub = hub or Hub()
        full = hub.full_id(repo_id)
        if not dry_run:
            hub.ensure_repo(full, kind, private=private)
        head = hub.head(full, kind)
        return cls(hub=hub, repo_id=full, kind=kind, head=head, dry_run=dry_run)

    def readme(self, card: Card, *, own: str | None = None) -> LocalFile:
        """The repository's README.md with `card` in it.

        own: a README.md that comes with what is pushed: its front matter joins the card's, and
        its text is the beginning of one that is not there yet
        """
        where = f"{self.repo_id}/{README}"
        there = (
            None if self.head is None else self.hub.read(self.repo_id, self.kind, README, self.head)
        )
        if own is not None:
            theirs = front_matter(own, where=README)
            tags = [*(theirs.get("tags") or []), *card.data.get("tags", [])]
            data = {**theirs, **card.data, "tags": list(dict.fromkeys(tags))}
            card = Card(name=card.name, body=card.body, data=data)
        begin = _beginning(own) if own is not None else None
        text = merge(begin if there is None else _text(there, where), card, where=where)
        return LocalFile(content=text.encode())

    def push(
        self,
        files: Mapping[str, LocalFile],
        *,
        message: str,
        remove: tuple[str, ...],
        create_pr: bool,
    ) -> Pushed:
        """Upload, or say what an upload would do."""
        if self.dry_run:
            return Pushed(
                repo_id=self.repo_id,
                kind=self.kind,
                url=self.hub.url(self.repo_id, self.kind),
                commit=None,
                changes=self.hub.plan(
                    self.repo_id, self.kind, files, remove=remove, head=self.head
                ),
                dry_run=True,
            )
        done = self.hub.upload(
            self.repo_id,
            self.kind,
            files,
            message=message,
            remove=remove,
            create_pr=create_pr,
            head=self.head,  # what somebody writes into its card meanwhile is not written over
        )
        return Pushed(
            repo_id=self.repo_id,
            kind=self.kind,
            url=done.url,
            commit=done.commit,
            changes=done.changes,
            pull_request=done.pull_request,
        )


def _beginning(own: str) -> str:
    """What a README of the folder's own has to say; a heading alone says no more than ours."""
    text = without_front_matter(own)
    lines = [line for line in text.splitlines() if line.strip()]
    return "" if len(lines) == 1 and lines[0].startswith("# ") else text


def _check_audit(found: Audit, dataset: Dataset) -> None:
    """Refuse what is damaged; say loudly what leaks, which its card says too."""
    damaged = [name for name in ("files", "index") if not found.check(name).ok]
    if damaged:
        raise HubError(
            f"{dataset.path} is damaged ({found.check(damaged[0]).detail}), and nothing damaged "
            f"is published; see: candlemark dataset audit {dataset.path}"
        )
    if not found.ok:
        failed = next(check for check in found.checks if not check.ok)
        warning(f"{dataset.path} leaks, and its card says so: {failed.detail}", task="hub")


def _leave_out_places(path: Path) -> None:
    """Take out of the description where its candles lay here, or at which mirror."""
    value = json.loads(path.read_text(encoding="utf-8"))
    candles = value["config"]["candles"]
    if candles.get("path"):
        candles["path"] = Path(candles["path"]).name
    candles["base_url"] = None
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _records(results: Results, pattern: str | None) -> list[RunRecord]:
    if pattern is None:
        return results.records()
    found = [r for suite in matching(results, pattern) for r in results.records(suite.suite_id)]
    return list({record.trial_id: record for record in found}.values())


def _text(content: bytes, where: object) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise HubError(
            f"the {README} of {where} is no text in UTF-8; write it in UTF-8 and push again"
        ) from error


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """A folder for an export: beside the dataset, where there is room for one.

    One that a killed process left there is removed.
    """
    for leftover in beside.glob(f"{_SCRATCH}*"):
        process = leftover.name.removeprefix(_SCRATCH).partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)
    prefix = f"{_SCRATCH}{os.getpid()}-"
    try:
        made = tempfile.TemporaryDirectory(dir=beside, prefix=prefix)
    except OSError:  # a folder that is only read
        made = tempfile.TemporaryDirectory(prefix=prefix)
    with made as folder:
        yield Path(folder)
