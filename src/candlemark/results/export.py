"""Copies of the store that need no candlemark to read: strict JSON and CSV.

    export(results, Path("benchmarks/results"))

Writes, for each suite, `benchmark_suite_<time>.json` (config and every trial) and
`benchmark_suite_<time>.csv` (one line a trial), and for each row of the benchmark
`<row>_results.json` with its trials. Predictions stay in the store; the JSON names how many
there are. Every file is complete or absent: it is written beside its place and renamed.
Unknown numbers are null in JSON and empty in CSV, never NaN.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from candlemark.errors import ResultsError
from candlemark.records import RunRecord
from candlemark.results.query import export_name
from candlemark.results.store import Results

FORMAT_VERSION = 1
_FACTS = ("dataset", "market", "label", "label_kind", "role", "weights", "seed")


def export(results: Results, folder: str | Path, *, suite_id: str | None = None) -> list[Path]:
    """Write the copies of one suite, or of all, into `folder`; returns the files written.

    Raises ResultsError: there is nothing to export or the folder cannot be written.
    """
    folder = Path(folder)
    suites = [s for s in results.suites() if suite_id in (None, s.suite_id)]
    if not suites:
        raise ResultsError(f"no suite '{suite_id}' in {results.path}; see: candlemark results list")
    written: list[Path] = []
    by_row: dict[str, dict[str, RunRecord]] = {}
    for suite in suites:
        records = results.records(suite.suite_id)
        value = {
            "format": "candlemark suite",
            "version": FORMAT_VERSION,
            "suite_id": suite.suite_id,
            "started_at": suite.started_at,
            "config": dict(suite.config),
            "trials": [record_to_dict(record) for record in records],
        }
        name = export_name(suite)
        written.append(write_json(folder / f"{name}.json", value))
        written.append(write_text(folder / f"{name}.csv", records_to_csv(records)))
        for record in records:
            by_row.setdefault(row_name(record), {})[record.trial_id] = record
    for row, trials in by_row.items():
        value = {
            "format": "candlemark row",
            "version": FORMAT_VERSION,
            "row": row,
            "trials": [record_to_dict(record) for record in trials.values()],
        }
        written.append(write_json(folder / f"{file_stem(row)}_results.json", value))
    return written


def row_name(record: RunRecord) -> str:
    """What a record is called in tables: a model, a baseline or a control."""
    return str(record.facts.get("row") or record.trial_id)


def file_stem(name: str) -> str:
    """A name as part of a file name: `timm/resnet18.a1` becomes `timm_resnet18.a1`."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._") or "row"


def record_to_dict(record: RunRecord) -> dict[str, Any]:
    """A record as JSON types, its predictions only counted."""
    return {
        "trial_id": record.trial_id,
        "row": row_name(record),
        "status": str(record.status),
        "reason": record.reason,
        "started_at": record.started_at,
        "duration_s": record.duration_s,
        "measurements": {
            m.name: {**asdict(m), "verdict": str(m.verdict)} for m in record.measurements
        },
        "prediction_count": len(record.predictions.target) if record.predictions else None,
        "history": [dict(epoch) for epoch in record.history],
        "facts": dict(record.facts),
        "trial": dict(record.trial),
        "environment": dict(record.environment),
    }


def records_to_csv(records: Sequence[RunRecord]) -> str:
    """One line a trial: what it was, how it ended, and every measurement with its bounds."""
    names = list(dict.fromkeys(m.name for record in records for m in record.measurements))
    head = ["trial_id", "row", *_FACTS, "status", "reason", "started_at", "duration_s"]
    for name in names:
        head += [name, f"{name}_low", f"{name}_high", f"{name}_verdict"]
    return to_csv(head, (_csv_line(record, names) for record in records))


def _csv_line(record: RunRecord, names: Sequence[str]) -> list[Any]:
    line: list[Any] = [record.trial_id, row_name(record)]
    line += [record.facts.get(fact) for fact in _FACTS]
    line += [str(record.status), record.reason, record.started_at, record.duration_s]
    for name in names:
        m = record.measurement(name)
        line += [None] * 4 if m is None else [m.value, m.low, m.high, str(m.verdict)]
    return line


def to_csv(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """CSV text with unknown values left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()


def write_json(path: Path, value: Any) -> Path:
    """Write strict JSON; ResultsError if the value holds NaN or an unknown type."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{path.name} cannot be written as strict JSON: {error}") from error
    return write_text(path, text + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a whole file or none: beside its place, then renamed."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a whole file or none: beside its place, then renamed.

    Raises ResultsError: the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error
    return path
