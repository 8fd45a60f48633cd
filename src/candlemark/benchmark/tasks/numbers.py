"""A row that learns from the same windows as numbers: rules and small learners."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from candlemark.benchmark.plan import Work
from candlemark.benchmark.tasks.base import FloatArray, History, IntArray
from candlemark.dataset.lazy import Dataset
from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.timing import measure_latency
from candlemark.models.baselines import make_baseline
from candlemark.records import Measurement

LATENCY_BUDGET_S = 0.5

WORTH_THREADS = 20_000
"""Training windows from which more threads pay. Below, they gain nothing on an idle machine,
and on a busy one they spin for each other: boosting 1,700 windows took 27 s instead of 0.4."""


def threads_for(windows: int) -> int | None:
    """Threads worth training so many windows with; None: as many as there are."""
    return 1 if windows < WORTH_THREADS else None


def measure_baseline(
    ask: Callable[[], object], *, training_time_s: float
) -> tuple[Measurement, ...]:
    """Training time, and the latency of `ask`, which answers one window."""
    clock = DeviceClock(torch.device("cpu"))
    clock.self_test()
    latency = measure_latency(ask, clock, budget_s=LATENCY_BUDGET_S)
    return (
        Measurement(name="training_time_s", value=training_time_s, unit="s", sample_count=1),
        *latency.measurements,
    )


class NumericRow:
    """Fits and times one baseline, on the CPU."""

    history: History = ()

    def __init__(self, work: Work, dataset: Dataset) -> None:
        self.dataset = dataset
        self.baseline = make_baseline(work.trial.model, seed=work.trial.config["seed"])
        self._training_time_s = 0.0

    def fit(self, rows: Mapping[str, IntArray], targets: Mapping[str, IntArray]) -> None:
        """Learn from the training slice; nothing here watches the validation slice."""
        features = self.dataset.features(rows["train"])
        with threadpool_limits(threads_for(len(features))):
            started = time.perf_counter()
            self.baseline.fit(features, targets["train"], class_count=len(self.dataset.class_names))
            self._training_time_s = time.perf_counter() - started

    def predict(self, rows: IntArray) -> FloatArray:
        """Probabilities of the windows at `rows`."""
        return self.baseline.predict_proba(self.dataset.features(rows))

    def measure(self, rows: IntArray) -> tuple[Measurement, ...]:
        """Training time, and the latency of one window."""
        one = self.dataset.features(rows[:1])
        return measure_baseline(
            lambda: self.baseline.predict_proba(one), training_time_s=self._training_time_s
        )

    def conditions(self) -> Mapping[str, Any]:
        """One window at a time, in double precision."""
        return {"precision": "fp64", "input_shape": [self.dataset.window, 5], "batch_size": 1}

    def facts(self) -> Mapping[str, Any]:
        """Nothing beyond the plan."""
        return {}

    def keep(self, store: Path, scores: Sequence[Measurement]) -> Mapping[str, Any]:  # noqa: ARG002
        """Nothing: it is trained again sooner than it is found."""
        return {}
