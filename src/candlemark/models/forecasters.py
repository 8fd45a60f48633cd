"""What a forecast of the next close must beat: rules and a learner on the windows as numbers.

    forecaster = make_forecaster("gradient_boosting", seed=0)
    forecaster.fit(features, log_return)
    forecaster.predict(features)              # float64 (N,), log returns

    N windows, W slots a window
    features: float (N, W, 5), open, high, low, close, volume; NaN in missing slots
    log_return: float64 (N,), next close against the last visible close; NaN where unknown

A window without a known return teaches nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from candlemark.errors import DatasetError, ModelError
from candlemark.models.baselines import Features, flatten, varying_columns

Returns = npt.NDArray[np.float64]


class Forecaster(Protocol):
    """Learns from training windows only, then foretells log returns."""

    def fit(self, features: Features, log_return: Returns) -> Self:
        """Learn; DatasetError where shapes do not belong together."""
        ...

    def predict(self, features: Features) -> Returns:
        """float64 (N,) log returns."""
        ...


class NoChange:
    """The next close is the last one: what any forecast of a price is held against."""

    def fit(self, features: Features, log_return: Returns) -> Self:
        """Learn nothing."""
        _known(features, log_return)
        return self

    def predict(self, features: Features) -> Returns:
        """Zeros."""
        return np.zeros(len(features))


class MeanReturn:
    """The mean of the training returns, whatever the window; 0 where none is known."""

    def __init__(self) -> None:
        self._mean = 0.0

    def fit(self, features: Features, log_return: Returns) -> Self:
        """Learn one number."""
        known = _known(features, log_return)
        self._mean = float(log_return[known].mean()) if known.any() else 0.0
        return self

    def predict(self, features: Features) -> Returns:
        """That number for every window."""
        return np.full(len(features), self._mean)


class BoostedReturn:
    """Gradient boosting of squared errors; the mean where nothing can be learnt."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._mean = MeanReturn()
        self._model: Any = None
        self._columns: npt.NDArray[np.bool_] = np.empty(0, dtype=np.bool_)

    def fit(self, features: Features, log_return: Returns) -> Self:
        """Learn; returns that are all alike, or fewer than 2, leave the mean."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        self._mean.fit(features, log_return)
        known = _known(features, log_return)
        self._model = None
        if known.sum() < 2 or np.ptp(log_return[known]) == 0:
            return self
        # The numbers of the classifier among the baselines: no early stopping, whose own random
        # validation split would leak across time.
        model = HistGradientBoostingRegressor(
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=self.seed,
        )
        flat = flatten(features[known])
        self._columns = varying_columns(flat)  # scikit-learn's binning fails on others
        if self._columns.any():
            self._model = model.fit(flat[:, self._columns], log_return[known])
        return self

    def predict(self, features: Features) -> Returns:
        """What boosting says."""
        if self._model is None or not len(features):
            return self._mean.predict(features)
        said: Returns = self._model.predict(flatten(features)[:, self._columns])
        return said


def make_forecaster(name: str, *, seed: int = 0) -> Forecaster:
    """The forecaster called `name`; ModelError names the known ones."""
    if name not in FORECASTERS:
        raise ModelError(f"unknown forecaster '{name}'; known: {', '.join(FORECASTERS)}")
    return FORECASTERS[name](seed)


FORECASTERS: dict[str, Callable[[int], Forecaster]] = {
    "majority": lambda _: MeanReturn(),
    "persistence": lambda _: NoChange(),
    "gradient_boosting": BoostedReturn,
}
"""By the name of the baseline that foretells the class beside it: a function of the seed."""


def _known(features: Features, log_return: Returns) -> npt.NDArray[np.bool_]:
    if features.ndim != 3 or features.shape[2] != 5 or log_return.shape != (len(features),):
        raise DatasetError(
            f"features {features.shape} and returns {log_return.shape} do not fit; "
            "they are (N, window, 5) and (N,)"
        )
    return np.isfinite(log_return)
