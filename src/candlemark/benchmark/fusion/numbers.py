"""A row that reads the windows as numbers: rules and gradient boosting, of class and return."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from candlemark.benchmark.fusion.row import Answer, Residuals
from candlemark.benchmark.tasks.base import FloatArray, History, IntArray
from candlemark.benchmark.tasks.numbers import measure_baseline, threads_for
from candlemark.benchmark.trial import Trial
from candlemark.dataset.lazy import Dataset
from candlemark.models.baselines import make_baseline
from candlemark.models.forecasters import make_forecaster
from candlemark.records import Measurement


class NumbersRow:
    """Fits and times the two halves of one baseline, on the CPU."""

    history: History = ()

    def __init__(self, trial: Trial, dataset: Dataset) -> None:
        self.dataset = dataset
        seed = trial.config["seed"]
        self.classifier = make_baseline(trial.model, seed=seed)
        self.forecaster = make_forecaster(trial.model, seed=seed)
        self._training_time_s = 0.0

    def fit(
        self,
        rows: Mapping[str, IntArray],
        targets: Mapping[str, IntArray],
        returns: Mapping[str, FloatArray],
    ) -> None:
        """Learn from the training split; nothing here watches the validation split."""
        features = self.dataset.features(rows["train"])
        with threadpool_limits(threads_for(len(features))):
            started = time.perf_counter()
            self.classifier.fit(
                features, targets["train"], class_count=len(self.dataset.class_names)
            )
            self.forecaster.fit(features, returns["train"])
            self._training_time_s = time.perf_counter() - started

    def predict(self, rows: IntArray) -> Answer:
        """What both halves say."""
        features = self.dataset.features(rows)
        return Answer(
            probability=self.classifier.predict_proba(features),
            log_return=self.forecaster.predict(features),
        )

    def measure(self, rows: IntArray) -> tuple[Measurement, ...]:
        """Training time, and the latency of one window."""
        one = self.dataset.features(rows[:1])

        def ask() -> None:
            self.classifier.predict_proba(one)
            self.forecaster.predict(one)

        return measure_baseline(ask, training_time_s=self._training_time_s)

    def conditions(self) -> Mapping[str, Any]:
        """One window at a time, in double precision."""
        return {"precision": "fp64", "input_shape": [self.dataset.window, 5], "batch_size": 1}

    def facts(self) -> Mapping[str, Any]:
        """Nothing beyond the plan."""
        return {}

    def keep(self, folder: Path, residuals: Residuals, training: Mapping[str, Any]) -> None:
        """Nothing: it is trained again sooner than it is found."""
