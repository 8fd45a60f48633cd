"""Draw the pictures of docs/charts.md from a seeded random walk.

python docs/make_charts.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from candlemark.candles.series import CandleSeries, interval_ms
from candlemark.charts.render import render
from candlemark.charts.style import ChartStyle

FOLDER = Path(__file__).parent / "images"
SEED = 11

FULL = {"kind": "candlestick", "volume": True, "moving_averages": (7, 25)}
PICTURES: dict[str, tuple[ChartStyle, int, int]] = {
    "ohlc4": (ChartStyle(kind="ohlc4", height=200), 100, 1),
    "jkx": (ChartStyle(kind="jkx"), 20, 3),
    "candlestick": (ChartStyle(kind="candlestick"), 30, 1),
    "candlestick_light": (ChartStyle.model_validate({**FULL, "theme": "light"}), 60, 1),
    "candlestick_dark": (ChartStyle.model_validate({**FULL, "theme": "dark"}), 60, 1),
}
"""Name of the file -> style, window, and how many times each pixel is enlarged to be seen."""


def walk(count: int = 400) -> CandleSeries:
    """Hourly candles whose volume grows with their range, and one gap of three slots."""
    random = np.random.default_rng(SEED)
    path = 100 * np.exp(np.cumsum(random.normal(0, 0.004, (count, 8)).ravel())).reshape(count, 8)
    open_ = np.concatenate([[100.0], path[:-1, -1]])
    high = np.maximum(path.max(axis=1), open_)
    low = np.minimum(path.min(axis=1), open_)
    columns = {
        "open_time_ms": 1_704_067_200_000 + np.arange(count) * interval_ms("1h"),
        "open": open_,
        "high": high,
        "low": low,
        "close": path[:, -1],
        "volume": (high / low - 1) * random.lognormal(8, 0.4, count),
    }
    keep = ~np.isin(np.arange(count), [152, 153, 154])
    return CandleSeries.from_numpy(
        {name: column[keep] for name, column in columns.items()}, symbol="WALK", interval="1h"
    )


def main() -> None:
    """Write one PNG a picture, each window ending at the same slot."""
    FOLDER.mkdir(exist_ok=True)
    series = walk()
    for name, (style, window, zoom) in PICTURES.items():
        picture = render(series, style, window=window, start=165 - window, count=1)[0]
        enlarged = picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
        Image.fromarray(enlarged).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
