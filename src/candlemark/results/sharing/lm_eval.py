"""Results as JSON lines in the shape that EleutherAI's lm-evaluation-harness writes.

    export_lm_eval(selections, Path("copies"))        # benchmark_suite_<time>_lm_eval.jsonl

One line a trial, each an object with the keys of a `results_*.json` of the harness:

    results            {task: {"alias": ..., "latency_p50_ms,none": 2.31, ...}}; every key is
                       `measure,filter`, the filter always `none`
    configs            {task: the trial's config}; versions {task: 1}; n-shot {task: 0}
    higher_is_better   {task: {measure: true | false | null}}
    n-samples          {task: {"original": n, "effective": n}}: test cases, null for inference
    config             model, model_args, batch_size, device, model_dtype, random_seed, ...
    date               seconds since 1970 when the trial began
    model_source, model_name, model_name_sanitized, total_evaluation_time_seconds
    candlemark         what the shape has no place for: trial id, status, reason, intervals, and
                       `withheld`, the numbers that may not be quoted, with verdict and reason

The task is `inference`, or `charts_<dataset>_<label>`. The harness gives standard errors, and
candlemark measures intervals: `..._stderr,none` is "N/A", its word for none. Numbers with a
verdict other than VALID are in `withheld` alone, as a reader of the harness's files would
quote whatever stands in `results`. A trial that failed is a line with no results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from candlemark.metrics.catalog import all_scores
from candlemark.metrics.measures import MEASURES
from candlemark.records import RunRecord, Verdict
from candlemark.results.files import file_stem, write_text
from candlemark.results.naming import SCORED_TASKS, fact, row_name, task_of
from candlemark.results.selection import Selection
from candlemark.results.store import Attempt


def export_lm_eval(selections: Sequence[Selection], folder: Path) -> list[Path]:
    """One file a suite."""
    return [
        write_text(
            folder / f"{selection.name}_lm_eval.jsonl",
            "".join(
                json.dumps(lm_eval_line(attempt), allow_nan=False, ensure_ascii=False) + "\n"
                for attempt in selection.attempts
            ),
        )
        for selection in selections
    ]


def lm_eval_line(attempt: Attempt) -> dict[str, Any]:
    """One trial as an object of the harness's shape."""
    record = attempt.record
    task = _task(record)
    quoted = [m for m in record.measurements if m.verdict is Verdict.VALID and m.value is not None]
    metrics: dict[str, Any] = {"alias": row_name(record)}
    for m in quoted:
        metrics[f"{m.name},none"] = m.value
        metrics[f"{m.name}_stderr,none"] = "N/A"
    cases = None if record.predictions is None else len(record.predictions.target)
    model = str(fact(record, "model") or row_name(record))
    return {
        "results": {task: metrics},
        "configs": {task: dict(record.trial)},
        "versions": {task: 1},
        "n-shot": {task: 0},
        "higher_is_better": {task: {m.name: _direction(m.name) for m in quoted}},
        "n-samples": {task: {"original": cases, "effective": cases}},
        "config": {
            "model": fact(record, "library") or "candlemark",
            "model_args": f"pretrained={model},dtype={fact(record, 'precision')}",
            "model_num_parameters": _value(record, "parameters"),
            "model_dtype": fact(record, "precision"),
            "model_sha": record.trial.get("weights_sha256"),
            "batch_size": fact(record, "batch_size"),
            "device": fact(record, "device"),
            "random_seed": fact(record, "seed"),
        },
        "git_hash": None,
        "date": _seconds(record.started_at),
        "transformers_version": _version(record, "transformers"),
        "model_source": "candlemark",
        "model_name": model,
        "model_name_sanitized": re.sub(r'[\\/:*?"<>|\[\]]+', "__", model),
        "total_evaluation_time_seconds": str(record.duration_s),
        "candlemark": {
            "trial_id": record.trial_id,
            "suite_id": attempt.suite_id,
            "run": attempt.run,
            "status": str(record.status),
            "reason": record.reason,
            "intervals": {
                m.name: {"low": m.low, "high": m.high, "level": m.level}
                for m in quoted
                if m.low is not None
            },
            "withheld": {
                m.name: {**asdict(m), "verdict": str(m.verdict)}
                for m in record.measurements
                if m not in quoted
            },
            "environment": dict(record.environment),
        },
    }


def _task(record: RunRecord) -> str:
    if task_of(record) not in SCORED_TASKS:
        return task_of(record)
    names = (record.facts.get("dataset"), record.facts.get("label"))
    return "_".join([task_of(record), *(file_stem(str(name)) for name in names if name)])


def _direction(name: str) -> bool | None:
    if name in MEASURES:
        return MEASURES[name].higher_is_better
    score = all_scores().get(name)
    return None if score is None else score.higher_is_better


def _value(record: RunRecord, name: str) -> float | None:
    found = record.measurement(name)
    return None if found is None else found.value


def _version(record: RunRecord, package: str) -> str | None:
    packages = record.environment.get("packages")
    return packages.get(package) if isinstance(packages, dict) else None


def _seconds(when: str) -> float | None:
    try:
        return datetime.fromisoformat(when).timestamp()
    except ValueError:
        return None
