"""How well the next close was forecast, with intervals and paired differences.

    measurements = score_forecast(value, forecast, block_length=31)
    found = forecast_difference(value, model, other, block_length=31)      # of the MASE
    found.value < 0 and found.high < 0                                     # the model errs less

Values and forecasts are log returns; `metrics.regression` says how they become errors of the
price, and `metrics.summary` how intervals come from blocks of neighbouring cases. Errors are
skewed and know no upper bound, so their intervals are made on a logarithm. Share of samples whose
95 % interval held the truth, in simulation: 500 to 2000 cases in blocks of 25, with a volatility
and with errors of the forecast that remember as much.

    MASE                  95 to 96 %      difference of the MASE, equal skill      95 to 96 %
    MAE                   90 to 91 %      difference of the MASE, unequal skill    95 to 96 %
    RMSE                  86 to 90 %
    directional accuracy  93 to 97 %

Turbulence lasts longer than a block, which the errors themselves feel and their ratio does not:
compare models by the MASE. `python -m pytest -m slow tests/metrics` measures this again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from candlemark.errors import ConfigError
from candlemark.metrics.catalog import find_forecast
from candlemark.metrics.summary import (
    LEVEL,
    REPLICATES,
    Difference,
    difference,
    measurement,
    replicate,
)
from candlemark.records import Measurement, Verdict

FloatArray = npt.NDArray[np.float64]

_LARGEST_RETURN = 20.0
"""A log return beyond this, a factor of 5e8, is no price but a model that diverged."""


def score_forecast(
    value: FloatArray,
    forecast: FloatArray,
    *,
    block_length: int,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> tuple[Measurement, ...]:
    """MASE, MAE, RMSE and directional accuracy (or those in `names`), each with its interval.

    value, forecast: float64[N] log returns in time order, of cases whose next close is known.
    block_length: cases to a block, at least window + horizon slots' worth.

    With fewer than 5 blocks values stand without intervals and the verdict is TOO_FEW. Without
    any case, or where a score is undefined, the value is None and the reason says why: a
    forecast of persistence has no directional accuracy.

    Raises ConfigError: lengths differ, a number is not finite or no return, or a name is unknown.
    """
    metrics = find_forecast(tuple(names) if names is not None else None)
    value, forecast = checked_returns(value, forecast)
    if not len(value):
        return tuple(
            Measurement(
                name=metric.name,
                value=None,
                unit=metric.unit,
                sample_count=0,
                verdict=Verdict.TOO_FEW,
                reason="no test case has a known next close",
            )
            for metric in metrics
        )
    samples = replicate(
        [partial(metric.function, value, forecast) for metric in metrics],
        case_count=len(value),
        block_length=block_length,
        replicates=replicates,
        seed=seed,
    )
    moved, directed = np.count_nonzero(value), np.count_nonzero(forecast)
    cases = f"{len(value)} test cases, {moved} moves, {directed} forecasts of a move"
    return tuple(
        measurement(
            metric,
            found,
            cases=cases,
            case_count=len(value),
            block_length=block_length,
            level=level,
        )
        for metric, found in zip(metrics, samples, strict=True)
    )


def forecast_difference(
    value: FloatArray,
    first: FloatArray,
    second: FloatArray,
    *,
    block_length: int,
    metric: str = "mase",
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Difference:
    """First - second of one score on the same cases, resampled together.

    value, first, second: float64[N] log returns in time order. Of an error, a negative
    difference says that `first` is better.

    Raises ConfigError: as `score_forecast`.
    """
    (chosen,) = find_forecast((metric,))
    sides = [checked_returns(value, side) for side in (first, second)]
    if not len(sides[0][0]):
        reason = "no test case has a known next close"
        return Difference(metric=metric, value=None, level=level, reason=reason)
    one, two = replicate(
        [partial(chosen.function, known, said) for known, said in sides],
        case_count=len(sides[0][0]),
        block_length=block_length,
        replicates=replicates,
        seed=seed,
    )
    return difference(
        one,
        two,
        metric=chosen,
        case_count=len(sides[0][0]),
        block_length=block_length,
        level=level,
    )


def forecast_replicates_of(
    metric: str,
    value: FloatArray,
    forecast: FloatArray,
    *,
    block_length: int,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[float, FloatArray]:
    """The score itself and its resamples, float64[replicates] (NaN where undefined).

    Raises ConfigError: as `score_forecast`, and where there is no case.
    """
    (chosen,) = find_forecast((metric,))
    value, forecast = checked_returns(value, forecast)
    if not len(value):
        raise ConfigError("no test case has a known next close; there is nothing to score")
    (found,) = replicate(
        [partial(chosen.function, value, forecast)],
        case_count=len(value),
        block_length=block_length,
        replicates=replicates,
        seed=seed,
    )
    return found


def checked_returns(value: FloatArray, forecast: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same arrays as float64[N].

    Raises ConfigError: lengths differ, a number is not finite, or is no log return of a price.
    """
    value = np.asarray(value, dtype=np.float64)
    forecast = np.asarray(forecast, dtype=np.float64)
    if value.ndim != 1 or value.shape != forecast.shape:
        raise ConfigError(
            f"value is {value.shape} and forecast {forecast.shape}; expected (N,) and (N,)"
        )
    if not np.all(np.isfinite(value)):
        raise ConfigError(
            f"{np.count_nonzero(~np.isfinite(value))} of {len(value)} returns are not known; "
            "leave those cases out before scoring"
        )
    if not np.all(np.isfinite(forecast)):
        raise ConfigError("forecast holds NaN or infinity; the model diverged")
    for name, numbers in (("value", value), ("forecast", forecast)):
        largest = float(np.abs(numbers).max(initial=0.0))
        if largest > _LARGEST_RETURN:
            raise ConfigError(
                f"{name} holds {largest:.3g}; a log return lies within +-{_LARGEST_RETURN:g}: give "
                "returns, neither prices nor per cent"
            )
    return value, forecast
