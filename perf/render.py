"""Pictures a second of each chart style, next to filling the same buffer with a constant.

    python perf/render.py [--seconds 1.0] [--json render.json]

The bound of any raster is writing its bytes once, so each style is measured against
`ndarray.fill` on the same 50 MB buffer in the same process, in turns, on one thread and on two:
where one thread fills memory as fast as two do, no raster near that bound gains by a second.
`share of fill` is the time of the fill divided by the time of the drawing, both on one thread.
Where mplfinance is installed, it draws the same candlestick charts for scale.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from candlemark.candles.series import COLUMNS
from candlemark.charts.render import Renderer
from candlemark.charts.style import ChartStyle, image_shape
from market import walk

BUFFER_BYTES = 50_000_000
CANDLES = 20_000

CASES: dict[str, tuple[ChartStyle, int]] = {
    "ohlc4 500x400": (ChartStyle(kind="ohlc4"), 100),
    "jkx 64x60, volume, average": (ChartStyle(kind="jkx"), 20),
    "candlestick 224x224, volume, 2 averages": (
        ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25)),
        30,
    ),
}

LIKE_MPLFINANCE = "candlestick 224x224, volume, 2 averages"
GOALS = dict(zip(CASES, (0.85, 0.25, 0.5), strict=True))
"""Shares of fill to reach."""


def median_times(seconds: float, *works: Callable[[], object]) -> list[float]:
    """Median wall time of each work in seconds, taken in turns so that they meet alike."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    end = time.perf_counter() + seconds * len(works)
    while time.perf_counter() < end or len(times[0]) < 5:
        for work, own in zip(works, times, strict=True):
            begin = time.perf_counter()
            work()
            own.append(time.perf_counter() - begin)
    return [statistics.median(own) for own in times]


def fill_in_two(out: np.ndarray[Any, Any]) -> None:
    """Fill both halves, a thread each."""
    half = len(out) // 2
    other = threading.Thread(target=out[:half].fill, args=(255,))
    other.start()
    out[half:].fill(255)
    other.join()


def measure_style(style: ChartStyle, window: int, seconds: float) -> dict[str, float]:
    """Draw a full buffer on one thread and on two, and fill it likewise."""
    slots = walk(CANDLES).slots
    shape = image_shape(style, window)
    count = BUFFER_BYTES // int(np.prod(shape))
    starts = np.arange(count) % (len(slots) - window)
    out = np.empty((count, *shape), dtype=np.uint8)
    renderer = Renderer(slots, style, window=window)

    def draw(threads: int) -> Callable[[], object]:
        return lambda: renderer.draw(starts, out=out, threads=threads)

    one, two, fill, fill_two = median_times(
        seconds, draw(1), draw(2), lambda: out.fill(255), lambda: fill_in_two(out)
    )
    return {
        "pictures_per_s": count / one,
        "pictures_per_s_2_threads": count / two,
        "fill_bytes_per_s": out.nbytes / fill,
        "fill_bytes_per_s_2_threads": out.nbytes / fill_two,
        "share_of_fill": fill / one,
        "share_of_fill_2_threads": fill_two / two,
        "speedup_2_threads": one / two,
        "fill_speedup_2_threads": fill / fill_two,
    }


def mplfinance_rate(window: int, count: int = 8) -> float | None:
    """Candlestick charts a second drawn with mplfinance, or None where it is absent."""
    try:
        mplfinance = importlib.import_module("mplfinance")
    except ImportError:
        return None
    import io

    frame = walk(200).to_pandas()[list(COLUMNS)].rename(columns=str.title)
    begin = time.perf_counter()
    for start in range(count):
        mplfinance.plot(
            frame.iloc[start : start + window],
            type="candle",
            volume=True,
            mav=(7, 25),
            savefig={"fname": io.BytesIO(), "dpi": 56},
            figsize=(4, 4),
        )
    return count / (time.perf_counter() - begin)


def measure(seconds: float = 3.0) -> dict[str, Any]:
    """Every style, and mplfinance, as a plain dict."""
    return {
        "machine": platform.processor() or platform.machine(),
        "buffer_bytes": BUFFER_BYTES,
        "styles": {
            name: measure_style(style, window, seconds) for name, (style, window) in CASES.items()
        },
        "goals": GOALS,
        "mplfinance_pictures_per_s": mplfinance_rate(30),
    }


def show(results: dict[str, Any]) -> None:
    print(
        f"{'one thread':42}{'pictures/s':>12}{'fill GB/s':>11}{'share of fill':>15}{'goal':>7}"
        f"{'2 threads':>11}{'fill, 2':>9}"
    )
    for name, row in results["styles"].items():
        print(
            f"{name:42}{row['pictures_per_s']:12,.0f}{row['fill_bytes_per_s'] / 1e9:11.1f}"
            f"{row['share_of_fill']:15.2f}{results['goals'][name]:7.2f}"
            f"{row['speedup_2_threads']:10.2f}x{row['fill_speedup_2_threads']:8.2f}x"
        )
    peer = results["mplfinance_pictures_per_s"]
    if peer is None:
        print("mplfinance: not installed")
    else:
        ours = results["styles"][LIKE_MPLFINANCE]["pictures_per_s"]
        print(f"mplfinance: {peer:.1f} candlestick charts/s, {ours / peer:,.0f} times slower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each work of each case")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    results = measure(arguments.seconds)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
