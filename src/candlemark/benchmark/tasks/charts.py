"""The task `charts`: train one row on pictures of windows, or on their numbers, and measure it.

    result = run(work)

An image model and a numeric baseline differ only in how they are made (`ImageRow`,
`NumericRow`): both are fitted on the training slice, give probabilities for the test slice,
and are scored by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from candlemark import progress
from candlemark.benchmark.plan import Work
from candlemark.benchmark.tasks.base import FloatArray, History, IntArray, TaskResult
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.errors import DatasetError
from candlemark.execution import leases
from candlemark.hardware.comparability import comparability_key
from candlemark.hardware.conditions import watch
from candlemark.hardware.snapshot import snapshot
from candlemark.metrics import summary
from candlemark.records import Measurement, Predictions


class Row(Protocol):
    """What a row of the table can do, whatever it is made of."""

    history: History

    def fit(self, rows: Mapping[str, IntArray], targets: Mapping[str, IntArray]) -> None:
        """Train on the slice "train", watching "validation"."""

    def predict(self, rows: IntArray) -> FloatArray:
        """float64[N, C] probabilities of the windows at `rows`."""

    def measure(self, rows: IntArray) -> tuple[Measurement, ...]:
        """Speed, memory and size, on windows at `rows`."""

    def conditions(self) -> Mapping[str, Any]:
        """What speed depends on beyond the machine: precision, input shape, batch size."""

    def facts(self) -> Mapping[str, Any]:
        """What was found out and is no measurement."""

    def keep(self, store: Path, scores: Sequence[Measurement]) -> Mapping[str, Any]:
        """Save what was trained as a version of `store`; facts that say which."""


def run(work: Work) -> TaskResult:
    """Fit, predict, score and time one row; the dataset must be the one that was planned."""
    dataset = open_dataset(work.dataset_path)
    if dataset.content_hash != work.trial.config["dataset"]:
        raise DatasetError(
            f"{work.dataset_path} changed since the trial was planned; run the suite again"
        )
    rows = {name: dataset.split(name) for name in ("train", "validation", "test")}
    row = _make_row(work, dataset)
    row.fit(rows, _training_targets(work, dataset, rows))
    test = rows["test"]
    probability = row.predict(test)
    target = dataset.targets(test)
    block_length = dataset.block_length(test)
    scores = summary.score(
        target,
        probability,
        block_length=block_length,
        replicates=work.trial.config["measure"]["replicates"],
    )
    environment = _environment(work.trial.config["device"], row.conditions())
    measurements = (*scores, *_timed(work, row, test))
    kept = row.keep(work.models, scores) if work.models is not None else {}
    return TaskResult(
        measurements=measurements,
        predictions=Predictions(
            window_start_ms=dataset.window_start_ms(test),
            target=target,
            probability=probability,
            series=tuple(dataset.symbols(test)),
        ),
        history=row.history,
        facts={
            "block_length": block_length,
            "case_counts": {name: len(indices) for name, indices in rows.items()},
            **row.facts(),
            **kept,
        },
        environment=environment,
    )


def _timed(work: Work, row: Row, test: IntArray) -> tuple[Measurement, ...]:
    """What `row` measures on windows at `test`, while nothing else of ours is timed or loads."""
    import torch

    device = torch.device(work.trial.config["device"])
    with leases.timing(device), progress.timing(work.trial.row), watch(device) as seen:
        measured = row.measure(test)
    return seen.apply(measured)


def _environment(device: str, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The machine and the conditions that the speed of a row depends on, with their key."""
    import torch

    fields = snapshot(torch.device(device), **conditions)
    return {**fields, "comparability_key": comparability_key(fields)}


def _make_row(work: Work, dataset: Dataset) -> Row:
    if work.trial.config["kind"] == "numeric":
        from candlemark.benchmark.tasks.numbers import NumericRow

        return NumericRow(work, dataset)
    from candlemark.benchmark.tasks.images import ImageRow

    return ImageRow(work, dataset)


def _training_targets(
    work: Work, dataset: Dataset, rows: Mapping[str, IntArray]
) -> dict[str, IntArray]:
    """Targets to learn from; for the control they are shuffled, so nothing can be learnt."""
    targets = {name: dataset.targets(rows[name]) for name in ("train", "validation")}
    if work.trial.role != "control":
        return targets
    generator = np.random.default_rng([work.trial.config["seed"], len(rows["train"])])
    return {name: generator.permutation(values) for name, values in targets.items()}
