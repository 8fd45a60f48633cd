"""What every task that trains on a dataset does the same way, whatever it trains.

dataset = open_planned(work)
rows = slices(dataset)
order = training_order(work.trial, rows)
measured = timed(work.trial, lambda: row.measure(rows["test"]))
environment = environment_of(work.trial.config["device"], row.conditions())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from candlemark import progress
from candlemark.benchmark.tasks.base import IntArray
from candlemark.benchmark.trial import TrainedWork, Trial
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.errors import DatasetError
from candlemark.execution import leases
from candlemark.hardware.comparability import comparability_key
from candlemark.hardware.conditions import watch
from candlemark.hardware.snapshot import snapshot
from candlemark.records import Measurement

Slices = dict[str, IntArray]
"""Rows of a dataset by split: "train", "validation" and "test", each in time order."""


def open_planned(work: TrainedWork) -> Dataset:
    """The dataset of a trial; DatasetError if it is not the one that was planned."""
    dataset = open_dataset(work.dataset_path)
    if dataset.content_hash != work.trial.config["dataset"]:
        raise DatasetError(
            f"{work.dataset_path} changed since the trial was planned; run the suite again"
        )
    return dataset


def slices(dataset: Dataset) -> Slices:
    """Rows of the three splits."""
    return {name: dataset.split(name) for name in ("train", "validation", "test")}


def training_order(trial: Trial, rows: Mapping[str, IntArray]) -> Slices:
    """Whose answer each training and validation case is given, as positions in its split.

    Each its own; for the control they are shuffled, so that nothing can be learnt.
    """
    counts = {name: len(rows[name]) for name in ("train", "validation")}
    if trial.role != "control":
        return {name: np.arange(count, dtype=np.int64) for name, count in counts.items()}
    generator = np.random.default_rng([trial.config["seed"], counts["train"]])
    return {name: generator.permutation(count).astype(np.int64) for name, count in counts.items()}


def timed(trial: Trial, measure: Callable[[], tuple[Measurement, ...]]) -> tuple[Measurement, ...]:
    """What `measure` gives, taken while nothing else of ours is timed or loads."""
    device = torch.device(trial.config["device"])
    with leases.timing(device), progress.timing(trial.row), watch(device) as seen:
        measured = measure()
    return seen.apply(measured)


def environment_of(device: str, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The machine and the conditions that the speed of a row depends on, with their key."""
    fields = snapshot(torch.device(device), **conditions)
    return {**fields, "comparability_key": comparability_key(fields)}
