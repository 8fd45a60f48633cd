"""Results from elsewhere, brought into the store with a note where they come from.

    for done in import_into("benchmarks/results", ["benchmark_suite_20250131T120000Z.json"]):
        done.added, done.present

Three kinds of file are read: a suite exported as JSON, a candlemark store (`.duckdb`), and
tables of measurements as CSV or JSON lines (`results.import_table`). All files are read before
the first record is stored, and all is stored or nothing. A record that is in the store
already is not stored again, so a second import adds nothing.

What was imported carries the fact `imported_from`: the file's name and SHA-256, and how many
predictions were left out, as JSON only counts them. It never counts as finished here: a trial
that was measured elsewhere is still measured on this machine when asked for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from candlemark.errors import ResultsError
from candlemark.records import Measurement, RunRecord, Status, Verdict, content_id
from candlemark.results.opening import connect, store_path
from candlemark.results.rows import finite
from candlemark.results.schema import VERSION, stored_version
from candlemark.results.sharing.import_table import Incoming, read_table
from candlemark.results.sharing.suites import FORMAT_VERSION
from candlemark.results.store import Results, open_results

TABLES = (".csv", ".jsonl", ".ndjson")

ReadFile = tuple[str, str, list[Incoming]]
"""Name, SHA-256 and what the file holds, suite by suite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What one file brought.

    added, present: records stored now, and records that were in the store before
    """

    file: str
    sha256: str
    suite_ids: tuple[str, ...]
    added: int
    present: int


def import_into(store: str | Path, paths: Iterable[str | Path]) -> tuple[Imported, ...]:
    """As `import_files`, into a store that is made only where every file could be read."""
    file = store_path(store)
    read = [_read(file, Path(path).expanduser()) for path in paths]
    with open_results(file) as results:
        return _add(results, read)


def import_files(results: Results, paths: Iterable[str | Path]) -> tuple[Imported, ...]:
    """Read every file, then store what is new: all of it or nothing.

    Raises ResultsError: a file is missing, damaged, newer than this candlemark, of no kind that
    is known, or the store itself.
    """
    return _add(results, [_read(results.path, Path(path).expanduser()) for path in paths])


def _add(results: Results, read: Sequence[ReadFile]) -> tuple[Imported, ...]:
    seen = {identity(attempt.record) for attempt in results.attempts(bulk=False)}
    known_suites = {suite.suite_id for suite in results.suites()}
    done = []
    with results.together():
        for file, sha256, batches in read:
            added = present = 0
            for batch in batches:
                if batch.suite_id not in known_suites:
                    known_suites.add(batch.suite_id)
                    results.add_suite(
                        batch.suite_id, batch.config, batch.started_at, trial_ids=batch.plan
                    )
                for record, run in batch.entries:
                    if identity(record) in seen:
                        present += 1
                        continue
                    seen.add(identity(record))
                    results.append(_with_source(record, file, sha256), batch.suite_id, run=run)
                    added += 1
            suites = tuple(batch.suite_id for batch in batches)
            done.append(
                Imported(file=file, sha256=sha256, suite_ids=suites, added=added, present=present)
            )
    return tuple(done)


def identity(record: RunRecord) -> str:
    """What makes two records the same, wherever they were read from.

    Samples and predictions are left out: the same trial that began at the same moment and
    measured the same numbers is the same record. So is the start where it is only the date of
    a file.
    """
    facts = {key: value for key, value in record.facts.items() if key != "imported_from"}
    return content_id(
        finite(
            {
                "trial": record.trial_id,
                "status": str(record.status),
                "reason": record.reason,
                "started_at": None if facts.get("started_at_of_file") else record.started_at,
                "duration_s": record.duration_s,
                "measurements": [
                    {**asdict(m), "verdict": str(m.verdict)} for m in record.measurements
                ],
                "facts": facts,
            }
        )
    )


def _with_source(record: RunRecord, file: str, sha256: str) -> RunRecord:
    source: dict[str, Any] = {"file": file, "sha256": sha256}
    earlier = record.facts.get("imported_from")
    if isinstance(earlier, Mapping):
        left_out = earlier.get("predictions_left_out")
        if "file" in earlier:
            source["earlier"] = dict(earlier)
        elif left_out is not None:
            source["predictions_left_out"] = left_out
    return replace(record, facts={**record.facts, "imported_from": source})


def _read(store: Path, path: Path) -> ReadFile:
    if path.is_dir():
        raise ResultsError(f"{path} is a folder; name a file in it, such as {store_path(path)}")
    if not path.is_file():
        raise ResultsError(f"cannot import {path}: there is no such file")
    if path.resolve() == store.resolve():
        raise ResultsError(f"{path} is the store itself; name a file from elsewhere")
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ResultsError(f"cannot import {path}: {error.strerror}") from error
    kind = path.suffix.lower()
    if kind == ".duckdb":
        return path.name, sha256, _read_store(path)
    if kind in TABLES:
        return path.name, sha256, read_table(path)
    if kind == ".json":
        return path.name, sha256, _read_json(path)
    raise ResultsError(
        f"cannot import {path}: unknown kind of file '{path.suffix}'; "
        f"known: .json, .duckdb, {', '.join(TABLES)}"
    )


def _read_store(path: Path) -> list[Incoming]:
    """Every attempt of another store; one of an earlier version is upgraded in a copy."""
    connection = connect(path, read_only=True)
    try:
        version = stored_version(connection)
    finally:
        connection.close()
    if not version or version >= VERSION:
        with open_results(path, read_only=True) as other:
            return _all_of(other)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, store_path(folder)))
        log = path.with_name(f"{path.name}.wal")  # what a kill kept from the file itself
        if log.is_file():
            shutil.copy(log, copy.with_name(f"{copy.name}.wal"))
        with open_results(copy) as other:
            return _all_of(other)


def _all_of(other: Results) -> list[Incoming]:
    attempts = other.attempts()
    suites = {suite.suite_id: suite for suite in other.suites()}
    found = []
    for suite_id in dict.fromkeys([*suites, *(attempt.suite_id for attempt in attempts)]):
        entries = [(one.record, one.run) for one in attempts if one.suite_id == suite_id]
        suite = suites.get(suite_id)
        first = min((record.started_at for record, _ in entries), default="")
        found.append(
            Incoming(
                suite_id=suite_id,
                started_at=first if suite is None else suite.started_at,
                config={} if suite is None else suite.config,
                plan=() if suite is None else suite.trial_ids,
                entries=tuple(entries),
            )
        )
    return found


def _read_json(path: Path) -> list[Incoming]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ResultsError(
            f"{path} is damaged or no JSON: {str(error).splitlines()[0]}; export it again"
        ) from error
    if isinstance(value, list):
        return read_table(path)
    kind = value.get("format") if isinstance(value, dict) else None
    if kind == "candlemark row":
        raise ResultsError(
            f"{path} holds the trials of one row without their samples; import the file of the "
            "suite, benchmark_suite_*.json, that stands beside it"
        )
    if kind != "candlemark suite":
        raise ResultsError(
            f"{path} is no export of candlemark; known: a suite exported as JSON, or a list of "
            "measurements (see: candlemark results import --help)"
        )
    version = value.get("version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ResultsError(
            f"{path} has format {version}, this candlemark reads up to {FORMAT_VERSION}; "
            "update with: python -m pip install -U candlemark"
        )
    try:
        return [_suite(value, version)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise ResultsError(f"{path} is damaged: {what}; export it again") from error


def _suite(value: Mapping[str, Any], version: int) -> Incoming:
    trials: Sequence[Mapping[str, Any]] = value["trials"]
    return Incoming(
        suite_id=value["suite_id"],
        started_at=value["started_at"],
        config=value["config"],
        plan=tuple(value.get("plan") or (trial["trial_id"] for trial in trials)),
        entries=tuple((_record(trial, version), trial.get("run")) for trial in trials),
    )


def _record(value: Mapping[str, Any], version: int) -> RunRecord:
    facts = dict(value["facts"])
    if value["prediction_count"] is not None:
        facts.setdefault("imported_from", {"predictions_left_out": value["prediction_count"]})
    return RunRecord(
        trial_id=value["trial_id"],
        trial=value["trial"],
        status=Status(value["status"]),
        reason=value["reason"],
        started_at=value["started_at"],
        duration_s=value["duration_s"],
        measurements=tuple(_measurement(m, version) for m in value["measurements"].values()),
        history=tuple(value["history"]),
        samples={
            name: np.array([np.nan if x is None else x for x in values], np.float64)
            for name, values in value.get("samples", {}).items()
        },
        cases=tuple(value.get("cases", ())),
        facts=facts,
        environment=value["environment"],
    )


def _measurement(value: Mapping[str, Any], version: int) -> Measurement:
    name = str(value["name"])
    if version == 1 and name.startswith("latency_ms_"):
        name = f"latency_{name.removeprefix('latency_ms_')}_ms"
    return Measurement(**{**value, "name": name, "verdict": Verdict(value["verdict"])})
