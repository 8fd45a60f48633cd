"""Copies of the store that need no candlemark to read; here strict JSON and CSV.

    export(results, Path("benchmarks/results"))

Writes, for each suite, `benchmark_suite_<time>.json` (config and every trial) and
`benchmark_suite_<time>.csv` (one line a trial), and for each row of the benchmark
`<row>_results.json` with its trials. The suite's JSON can be imported again: it holds all
but the predictions, of which it names how many there are. Every file is complete or absent:
it is written beside its place and renamed. Unknown numbers are null in JSON and empty in CSV,
never NaN. Further formats stand in `sharing.formats`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from candlemark.records import RunRecord, content_id
from candlemark.results.files import file_stem, write_json, write_text
from candlemark.results.naming import fact, row_name
from candlemark.results.selection import Selection, select
from candlemark.results.store import Results

FORMAT_VERSION = 2
"""2 added samples, runs and the plan, and moved the percentile before the unit of a latency."""
_FACTS = (
    *("task", "model", "device", "precision", "backend", "batch_size", "sequence_length"),
    *("dataset", "market", "label", "label_kind", "role", "weights", "seed"),
)


def export(results: Results, folder: str | Path, *, suite_id: str | None = None) -> list[Path]:
    """Write JSON and CSV of one suite, or of all, into `folder`; returns the files written.

    Raises ResultsError: there is nothing to export or the folder cannot be written.
    """
    selections = select(results, suite_id=suite_id)
    return [*export_json(selections, Path(folder)), *export_csv(selections, Path(folder))]


def export_json(selections: Sequence[Selection], folder: Path) -> list[Path]:
    """One file a suite, and, of whole suites, one a row with what its trials measured."""
    written: list[Path] = []
    by_row: dict[str, dict[str, RunRecord]] = {}
    for selection in selections:
        suite = selection.suite
        value = {
            "format": "candlemark suite",
            "version": FORMAT_VERSION,
            "suite_id": suite.suite_id,
            "started_at": suite.started_at,
            "config": dict(suite.config),
            "plan": list(suite.trial_ids),
            "trials": [
                {
                    **record_to_dict(one.record),
                    "run": one.run,
                    **_samples(one.record),
                    "cases": [dict(case) for case in one.record.cases],
                }
                for one in selection.attempts
            ],
        }
        written.append(write_json(folder / f"{selection.name}.json", value))
        if selection.run is not None:  # a row's file is of all that is known of it
            continue
        for record in selection.records:
            by_row.setdefault(row_name(record), {})[record.trial_id] = record
    taken: set[str] = set()
    for row, trials in by_row.items():
        stem = file_stem(row)
        stem = f"{stem}_{content_id(row)[:8]}" if stem in taken else stem
        taken.add(stem)
        value = {
            "format": "candlemark row",
            "version": FORMAT_VERSION,
            "row": row,
            "trials": [record_to_dict(record) for record in trials.values()],
        }
        written.append(write_json(folder / f"{stem}_results.json", value))
    return written


def export_csv(selections: Sequence[Selection], folder: Path) -> list[Path]:
    """One file a suite, one line a trial."""
    return [
        write_text(folder / f"{selection.name}.csv", records_to_csv(selection.records))
        for selection in selections
    ]


def record_to_dict(record: RunRecord) -> dict[str, Any]:
    """A record as JSON types, its predictions only counted and without its samples."""
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


def _samples(record: RunRecord) -> dict[str, Any]:
    """Samples by name, null where one is unknown."""
    return {
        "samples": {
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            for name, values in record.samples.items()
        }
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
    line += [_plain(fact(record, name)) for name in _FACTS]
    line += [str(record.status), record.reason, record.started_at, record.duration_s]
    for name in names:
        m = record.measurement(name)
        line += [None] * 4 if m is None else [m.value, m.low, m.high, str(m.verdict)]
    return line


def _plain(value: Any) -> Any:
    """A cell of CSV: nested values as JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def to_csv(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """CSV text with unknown values left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()
