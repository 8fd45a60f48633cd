"""The candles that are measured on: a seeded random walk, the same on every machine.

walk(20_000)                                                  # prices of any length
walk(20_000, price=50_000, step=0.005, volume=6, cents=True)  # as an exchange quotes them
"""

from __future__ import annotations

import numpy as np

from candlemark.candles.series import CandleSeries, interval_ms

FIRST_MS = 1_704_067_200_000


def walk(
    count: int,
    *,
    price: float = 100.0,
    step: float = 0.01,
    volume: float = 3.0,
    pull: float = 0.0,
    cents: bool = False,
) -> CandleSeries:
    """`count` hourly candles from `price` on.

    step: standard deviation of a candle's log return; wicks have 0.4 of it
    volume: mean of the logarithm of volumes
    pull: share of the way back to `price` that each candle goes, in logarithms: without it a
        million steps end at nothing or beyond all numbers
    cents: prices with two and volumes with five decimal places
    """
    random = np.random.default_rng(0)
    steps = random.normal(0, step, count)
    if pull:
        level, now = np.empty(count), 0.0
        for n, one in enumerate(steps.tolist()):
            now += one - pull * now
            level[n] = now
    else:
        level = np.cumsum(steps)
    close = price * np.exp(level)
    if cents:
        close = np.round(close, 2)
    open_ = np.concatenate([[price], close[:-1]])
    spread = np.abs(random.normal(0, 0.4 * step, (2, count)))
    high = np.maximum(open_, close) * (1 + spread[0])
    low = np.minimum(open_, close) * (1 - spread[1])
    traded = random.lognormal(volume, 1, count)
    columns = {
        "open_time_ms": FIRST_MS + np.arange(count) * interval_ms("1h"),
        "open": open_,
        "high": np.round(high, 2) if cents else high,
        "low": np.round(low, 2) if cents else low,
        "close": close,
        "volume": np.round(traded, 5) if cents else traded,
    }
    return CandleSeries.from_numpy(columns, symbol="WALK", interval="1h")
