"""What a model must beat: rules and small learners on the same windows as numbers.

    baseline = make_baseline("persistence", seed=0)
    baseline.fit(features, target, class_count=2)
    probability = baseline.predict_proba(features)

    N windows, W slots a window, C classes
    features: float (N, W, 5), open, high, low, close, volume; NaN in missing slots
    target: int64 (N,), 0..C-1
    probability: float64 (N, C), rows sum to 1

Every baseline takes any number of classes, and training data that hold one class only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from candlemark.errors import DatasetError, ModelError

Features = npt.NDArray[np.floating[Any]]
Targets = npt.NDArray[np.int64]
Probability = npt.NDArray[np.float64]

OPEN, CLOSE = 0, 3


class Baseline(Protocol):
    """Learns from training windows only, then gives class probabilities."""

    def fit(self, features: Features, target: Targets, *, class_count: int) -> Self:
        """Learn; DatasetError for no windows, or shapes that do not belong together."""
        ...

    def predict_proba(self, features: Features) -> Probability:
        """float64 (N, C) class probabilities."""
        ...


class FrequencyRule:
    """Training frequencies of the classes, told apart by what `signal` sees in a window.

    signal: features -> int (N,), -1, 0 or +1. A signal that training never saw gets the
    frequencies of all windows. Frequencies are smoothed by one count shared out over the
    classes, so that none is 0 or 1.
    """

    def __init__(self, signal: Callable[[Features], npt.NDArray[np.int64]]) -> None:
        self.signal = signal
        self._table: dict[int, Probability] = {}
        self._prior: Probability = np.empty(0)

    def fit(self, features: Features, target: Targets, *, class_count: int) -> Self:
        """Count classes behind each signal."""
        _check(features, target, class_count)
        seen = self.signal(features)
        self._prior = _frequencies(target, class_count)
        self._table = {
            int(value): _frequencies(target[seen == value], class_count)
            for value in np.unique(seen)
        }
        return self

    def predict_proba(self, features: Features) -> Probability:
        """The frequencies behind each window's signal."""
        _check_fitted(len(self._prior) > 0)
        rows = [self._table.get(int(value), self._prior) for value in self.signal(features)]
        return np.asarray(rows, dtype=np.float64).reshape(len(features), len(self._prior))


class SklearnBaseline:
    """A scikit-learn classifier on flattened windows."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self._class_count = 0
        self._only: int | None = None
        self._model: Any = None
        self._kept: npt.NDArray[np.bool_] = np.empty(0, dtype=np.bool_)

    def fit(self, features: Features, target: Targets, *, class_count: int) -> Self:
        """Fit; one class only is remembered as a certainty, since there is nothing to learn."""
        _check(features, target, class_count)
        self._class_count = class_count
        classes = np.unique(target)
        self._only = int(classes[0]) if len(classes) == 1 else None
        if self._only is None:
            flat = flatten(features)
            self._kept = varying_columns(flat)
            if not self._kept.any():
                raise DatasetError("no number in the training windows varies; nothing to learn")
            self._model = self.make().fit(flat[:, self._kept], target)
        return self

    def predict_proba(self, features: Features) -> Probability:
        """Probabilities; 0 for a class that training never saw."""
        _check_fitted(self._class_count > 0)
        probability = np.zeros((len(features), self._class_count))
        if self._only is not None:
            probability[:, self._only] = 1
        elif len(features):
            probability[:, self._model.classes_] = self._model.predict_proba(
                flatten(features)[:, self._kept]
            )
        return probability


def make_baseline(name: str, *, seed: int = 0) -> Baseline:
    """The baseline called `name`; ModelError names the known ones."""
    if name not in BASELINES:
        raise ModelError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")
    return BASELINES[name](seed)


def last_colour(features: Features) -> npt.NDArray[np.int64]:
    """(N,) sign of close - open of the last candle there is; 0 for a flat one or none."""
    present = ~np.isnan(features[:, :, CLOSE])
    last = features.shape[1] - 1 - np.argmax(present[:, ::-1], axis=1)
    rows = np.arange(len(features))
    return _sign(features[rows, last, CLOSE] - features[rows, last, OPEN])


def visible_trend(features: Features) -> npt.NDArray[np.int64]:
    """(N,) sign of last close - first open over the candles there are; 0 for flat or none."""
    present = ~np.isnan(features[:, :, CLOSE])
    rows = np.arange(len(features))
    first = np.argmax(present, axis=1)
    last = features.shape[1] - 1 - np.argmax(present[:, ::-1], axis=1)
    return _sign(features[rows, last, CLOSE] - features[rows, first, OPEN])


def _no_signal(features: Features) -> npt.NDArray[np.int64]:
    return np.zeros(len(features), dtype=np.int64)


def _logistic(seed: int) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # Missing values become the mean, which after scaling says nothing.
        return make_pipeline(
            StandardScaler(),
            SimpleImputer(strategy="constant", fill_value=0.0),
            LogisticRegression(C=0.1, max_iter=1000, random_state=seed),
        )

    return make


def _gradient_boosting(seed: int) -> Callable[[], Any]:
    def make() -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        # No early stopping: its own random validation split would leak across time.
        return HistGradientBoostingClassifier(
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        )

    return make


BASELINES: dict[str, Callable[[int], Baseline]] = {
    "majority": lambda _: FrequencyRule(_no_signal),
    "persistence": lambda _: FrequencyRule(last_colour),
    "visible_trend": lambda _: FrequencyRule(visible_trend),
    "logistic": lambda seed: SklearnBaseline(_logistic(seed)),
    "gradient_boosting": lambda seed: SklearnBaseline(_gradient_boosting(seed)),
}
"""By name: a function of the seed. Only the learners use it, and both are deterministic."""


def flatten(features: Features) -> npt.NDArray[np.float64]:
    """(N, W, 5) as float64 (N, W * 5)."""
    return features.reshape(len(features), -1).astype(np.float64)


def varying_columns(flat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Bool (W * 5,): columns with two values or more; scikit-learn's binning fails on others."""
    low = np.where(np.isnan(flat), np.inf, flat).min(axis=0)
    high = np.where(np.isnan(flat), -np.inf, flat).max(axis=0)
    varying: npt.NDArray[np.bool_] = high > low
    return varying


def _sign(difference: Features) -> npt.NDArray[np.int64]:
    return np.sign(np.nan_to_num(difference)).astype(np.int64)


def _frequencies(target: Targets, class_count: int) -> Probability:
    counts = np.bincount(target, minlength=class_count) + 1 / class_count
    frequencies: Probability = counts / counts.sum()
    return frequencies


def _check(features: Features, target: Targets, class_count: int) -> None:
    if features.ndim != 3 or features.shape[2] != 5 or target.shape != (len(features),):
        raise DatasetError(
            f"features {features.shape} and targets {target.shape} do not fit; "
            "they are (N, window, 5) and (N,)"
        )
    if len(target) == 0:
        raise DatasetError("no training windows")
    if target.min() < 0 or target.max() >= class_count:
        raise DatasetError(
            f"targets span {target.min()}..{target.max()}; allowed: 0..{class_count - 1}"
        )


def _check_fitted(fitted: bool) -> None:
    if not fitted:
        raise ModelError("this baseline has not been fitted; call fit first")
