"""Moving averages against pandas, at gaps, at the start and at the ends of the number line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from candlemark.charts.indicators import moving_average
from candlemark.errors import ChartError


@pytest.mark.parametrize("length", [1, 2, 7, 50])
def test_agrees_with_pandas(length: int) -> None:
    random = np.random.default_rng(length)
    close = random.normal(100, 5, 40)
    close[random.random(40) < 0.3] = np.nan
    expected = pd.Series(close).rolling(length, min_periods=1).mean().to_numpy()
    np.testing.assert_allclose(
        moving_average(close, length), np.where(np.isnan(close), np.nan, expected), rtol=1e-12
    )


def test_a_large_price_leaves_no_trace_behind() -> None:
    close = np.array([1e300, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(moving_average(close, 2)[2:], [1.5, 2.5])


def test_the_largest_prices_do_not_overflow() -> None:
    close = np.full(5, 1.5e308)
    np.testing.assert_array_equal(moving_average(close, 4), close)


def test_no_candles_no_average() -> None:
    assert len(moving_average(np.empty(0), 3)) == 0
    assert np.isnan(moving_average(np.full(3, np.nan), 3)).all()


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(ChartError, match="a moving average of 0 slots; it must be at least 1"):
        moving_average(np.ones(3), 0)
