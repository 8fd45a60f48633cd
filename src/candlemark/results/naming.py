"""What a record is known by: its task, its row and its facts, wherever they stand in it.

row_name(record)             # "timm/resnet18.a1", what tables call it
fact(record, "precision")    # "fp16", a fact of the record or a field of its config
"""

from __future__ import annotations

from typing import Any

from candlemark.records import RunRecord

SCORED_TASKS = ("charts", "fusion")
"""Tasks whose trials are scored on the test cases of a data set of markets."""

SEGMENTATION = "segmentation"
"""The task whose trials are scored on scans; its tables and statistics are its own."""


def task_of(record: RunRecord) -> str:
    """The task of a record; what names none is of the first one, `charts`."""
    return str(record.trial.get("task") or "charts")


def fact(record: RunRecord, name: str) -> Any:
    """What a record is known by: a fact, else a field of its config, else None."""
    if name == "task":
        return task_of(record)
    value = record.facts.get(name)
    return record.trial.get(name) if value is None else value


def row_name(record: RunRecord) -> str:
    """What a record is called in tables: a model, a baseline or a control."""
    return str(record.facts.get("row") or record.trial_id)
