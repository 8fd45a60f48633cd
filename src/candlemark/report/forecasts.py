"""What a record says of the next close, in time order, ready to be scored again.

    found = forecast_of(record)
    found.value, found.forecast           # float64[M], log returns
    found.cases                           # what must be equal for two records to be compared

A fusion trial keeps its test cases as predictions of the class, and of those whose next close is
known three samples: `log_return`, `forecast_log_return`, and `forecast_case`, their places among
the predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from candlemark.errors import ResultsError
from candlemark.metrics.summary import time_order
from candlemark.records import RunRecord

FloatArray = npt.NDArray[np.float64]

VALUE, FORECAST, CASE = "log_return", "forecast_log_return", "forecast_case"
"""Names of the samples."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """Returns that came true and those forecast, float64[M] in time order."""

    value: FloatArray
    forecast: FloatArray
    cases: bytes


def forecast_of(record: RunRecord) -> Forecast | None:
    """The forecasts of a record, None where it made none.

    Raises ResultsError: the samples do not fit each other or the predictions.
    """
    predictions = record.predictions
    if predictions is None or FORECAST not in record.samples:
        return None
    count = len(predictions.target)
    forecast = np.asarray(record.samples[FORECAST], dtype=np.float64)
    value = np.asarray(record.samples.get(VALUE, ()), dtype=np.float64)
    places = np.asarray(record.samples.get(CASE, np.arange(count)), dtype=np.int64)
    fits = len(value) == len(forecast) == len(places) == len(np.unique(places))
    if not fits or (len(places) and not 0 <= places.min() <= places.max() < count):
        raise ResultsError(
            f"trial {record.trial_id} keeps {len(forecast)} forecasts, {len(value)} returns and "
            f"{len(places)} places among {count} cases, which do not fit; run it again with "
            "--no-resume"
        )
    rank = np.empty(count, dtype=np.int64)
    rank[time_order(predictions)] = np.arange(count)
    order = np.argsort(rank[places])
    kept, value = places[order], value[order]
    series = "\n".join(np.asarray(predictions.series, dtype=object)[kept]).encode()
    cases = predictions.window_start_ms[kept].tobytes() + value.tobytes() + series
    return Forecast(value=value, forecast=forecast[order], cases=cases)
