"""Scores of a forecast of the next close, each a pure function of weighted cases.

    weight = np.ones((1, len(value)))
    mase(value, forecast, weight)           # float64[1]
    mase(value, forecast, resample_counts)  # float64[B]: a whole bootstrap in one call

Shapes: N cases, B weightings.
    value     float64[N], natural log return of the next close against the last visible one
    forecast  float64[N], what was said of it; 0 is "the next close is the last one"
    weight    float64[B, N], >= 0; a whole number k counts a case k times
    result    float64[B], NaN where the score is undefined for that weighting

Errors are errors of the price in per cent of the last close, 100 (exp(forecast) - exp(value)):
what someone who reads prices means, and the same whatever the price is. Cases of several
symbols and years may be put together, which errors in dollars do not allow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
WeightedError = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


def mae_percent(value: FloatArray, forecast: FloatArray, weight: FloatArray) -> FloatArray:
    """Mean absolute error of the price in per cent of the last close; >= 0, lower is better.

    NaN where all weights are 0.
    """
    return _ratio(weight @ _absolute(value, forecast), weight.sum(axis=1))


def rmse_percent(value: FloatArray, forecast: FloatArray, weight: FloatArray) -> FloatArray:
    """Root of the mean squared error of the price in per cent of the last close.

    >= 0, lower is better; large misses count more than in the MAE. NaN where all weights are 0.
    """
    return np.sqrt(_ratio(weight @ _absolute(value, forecast) ** 2, weight.sum(axis=1)))


def mase(value: FloatArray, forecast: FloatArray, weight: FloatArray) -> FloatArray:
    """Mean absolute error over that of persistence; >= 0, lower is better, 1 is as good as it.

    Persistence says that the next close is the last visible one, and its own MASE is exactly 1.
    Hyndman and Koehler (International Journal of Forecasting 22, 2006) divide by persistence's
    error on the training series; here it is its error on the same cases, so that a calm test
    slice flatters no forecast. NaN where no price moved.
    """
    still = np.zeros_like(forecast)
    return _ratio(weight @ _absolute(value, forecast), weight @ _absolute(value, still))


def directional_accuracy(value: FloatArray, forecast: FloatArray, weight: FloatArray) -> FloatArray:
    """Share of moves whose sign was forecast; 0 to 1, higher is better, a coin has 0.5.

    Cases whose price did not move are left out. A forecast of exactly 0 among others counts
    half, as a coin would have. NaN where no price moved, or where no forecast has a direction:
    persistence says nothing about it.
    """
    moved = value != 0
    right = np.where(forecast == 0, 0.5, np.sign(forecast) == np.sign(value))[moved]
    counted = weight[:, moved]
    directed = weight @ (forecast != 0).astype(np.float64)
    share = _ratio(counted @ right.astype(np.float64), counted.sum(axis=1))
    share[directed == 0] = np.nan
    return share


def _absolute(value: FloatArray, forecast: FloatArray) -> FloatArray:
    error: FloatArray = 100 * np.abs(np.exp(forecast) - np.exp(value))
    return error


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Element-wise quotient, NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    quotient: FloatArray = np.divide(numerator, denominator, out=undefined, where=denominator > 0)
    return quotient
