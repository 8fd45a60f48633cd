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

from candlemark.benchmark.plan import Work
from candlemark.benchmark.tasks.base import FloatArray, History, IntArray, TaskResult
from candlemark.benchmark.tasks.steps import (
    environment_of,
    open_planned,
    slices,
    timed,
    training_order,
)
from candlemark.dataset.lazy import Dataset
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
    dataset = open_planned(work)
    rows = slices(dataset)
    row = _make_row(work, dataset)
    order = training_order(work.trial, rows)
    row.fit(rows, {name: dataset.targets(rows[name])[order[name]] for name in order})
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
    environment = environment_of(work.trial.config["device"], row.conditions())
    measurements = (*scores, *timed(work.trial, lambda: row.measure(test)))
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


def _make_row(work: Work, dataset: Dataset) -> Row:
    if work.trial.config["kind"] == "numeric":
        from candlemark.benchmark.tasks.numbers import NumericRow

        return NumericRow(work, dataset)
    from candlemark.benchmark.tasks.images import ImageRow

    return ImageRow(work, dataset)
