"""Forecasts of a stored record, in time order, or the reason why they are damaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from candlemark.errors import ResultsError
from candlemark.records import Predictions, RunRecord, Status
from candlemark.report.forecasts import forecast_of


def record(**samples: Any) -> RunRecord:
    """Four cases of two symbols, not in time order; the close of the third is not known."""
    return RunRecord(
        trial_id="abc",
        trial={"task": "fusion"},
        status=Status.OK,
        started_at="2025-06-01T09:30:00+00:00",
        duration_s=1.0,
        predictions=Predictions(
            window_start_ms=np.array([300, 100, 200, 100]),
            target=np.array([0, 1, 2, 1]),
            probability=np.full((4, 3), 1 / 3),
            series=("A", "B", "A", "A"),
        ),
        samples={name: np.asarray(values, dtype=np.float64) for name, values in samples.items()},
    )


def test_cases_come_in_time_order_without_those_that_are_not_known() -> None:
    found = forecast_of(
        record(log_return=[3, 1, 2], forecast_log_return=[0.3, 0.1, 0.2], forecast_case=[0, 1, 3])
    )
    assert found is not None
    # At 100 symbol A stands before B, as `time_order` has it; 200 is not known.
    assert found.value.tolist() == [2, 1, 3]
    assert found.forecast.tolist() == [0.2, 0.1, 0.3]


def test_the_order_of_storing_does_not_change_the_cases() -> None:
    one = record(log_return=[3, 1], forecast_log_return=[0, 0], forecast_case=[0, 1])
    two = record(log_return=[1, 3], forecast_log_return=[9, 9], forecast_case=[1, 0])
    other = record(log_return=[1, 3], forecast_log_return=[9, 9], forecast_case=[1, 2])
    first, second, third = (forecast_of(each) for each in (one, two, other))
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.cases == second.cases != third.cases


def test_a_record_without_forecasts_has_none() -> None:
    assert forecast_of(record()) is None
    full = record(log_return=[1], forecast_log_return=[1], forecast_case=[0])
    assert forecast_of(replace(full, predictions=None)) is None


@pytest.mark.parametrize(
    "samples",
    [
        {"log_return": [1, 2], "forecast_log_return": [1], "forecast_case": [0]},
        {"log_return": [1, 2], "forecast_log_return": [1, 2], "forecast_case": [0, 4]},
        {"log_return": [1, 2], "forecast_log_return": [1, 2], "forecast_case": [1, 1]},
        {"forecast_log_return": [1, 2], "forecast_case": [1, 2]},
        {"log_return": [1, 2], "forecast_log_return": [1, 2]},
    ],
)
def test_samples_that_do_not_fit_are_refused(samples: dict[str, list[float]]) -> None:
    with pytest.raises(ResultsError, match=r"trial abc keeps \d forecasts, .* run it again with"):
        forecast_of(record(**samples))
