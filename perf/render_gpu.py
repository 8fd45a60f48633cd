"""Pictures a second of each chart style on a CUDA device, next to filling the same memory.

    python perf/render_gpu.py [--device cuda] [--gigabytes 1.0] [--rounds 20] [--json gpu.json]

The bound of any raster is writing its bytes once, so each style is measured against the driver's
own fill (cudaMemsetAsync) of the same buffer, in turns, by events on the device. `share of fill`
is the fill's time divided by the drawing's. Windows are random and lie on the device already;
`from host` is the rate of calls that bring their starts along and wait for the pictures.

Before anything is timed, pictures of random windows, some with hidden candles, are compared bit
for bit with those of the CPU. A difference ends the program with status 1; a machine without
a CUDA device ends it with status 0 and one line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from candlemark.candles.series import COLUMNS, CandleSeries
from candlemark.charts.device import DeviceRenderer, choose_backend
from candlemark.charts.render import render_windows
from candlemark.charts.style import ChartStyle, image_shape
from candlemark.errors import ChartError
from market import walk

CANDLES = 200_000
COMPARED = 400

CASES: dict[str, tuple[ChartStyle, int]] = {
    "ohlc4 500x400": (ChartStyle(kind="ohlc4"), 100),
    "jkx 64x60, volume, average": (ChartStyle(kind="jkx"), 20),
    "jkx 96x180, volume, average": (ChartStyle(kind="jkx"), 60),
    "candlestick 224x224, volume, 2 averages": (
        ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25)),
        30,
    ),
    "candlestick 224x224, 224 bars": (ChartStyle(kind="candlestick"), 224),
}


def with_holes(series: CandleSeries) -> CandleSeries:
    """The series with one candle in a hundred missing."""
    keep = np.random.default_rng(1).random(len(series)) > 0.01
    columns = {name: getattr(series, name)[keep] for name in ("open_time_ms", *COLUMNS)}
    return CandleSeries.from_numpy(columns, symbol=series.symbol, interval=series.interval)


def differing_pictures(
    cupy: Any, renderer: DeviceRenderer, series: CandleSeries, style: ChartStyle, window: int
) -> int:
    """How many of some random pictures differ from the CPU's in any byte."""
    random = np.random.default_rng(window)
    starts = random.integers(0, len(series.slots) - window + 1, COMPARED)
    wrong = 0
    for visible in (None, random.random((COMPARED, window)) < 0.7):
        drawn = cupy.asnumpy(renderer.draw(starts, visible))
        wanted = render_windows(series.slots, style, starts, window=window, visible=visible)
        wrong += int((drawn != wanted).reshape(COMPARED, -1).any(axis=1).sum())
    return wrong


def device_seconds(cupy: Any, rounds: int, *works: Callable[[], object]) -> list[float]:
    """Median time on the device of each work, taken in turns so that they meet alike."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 3):
        for taken, work in zip(times, works, strict=True):
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            work()
            end.record()
            end.synchronize()
            if turn >= 3:
                taken.append(cupy.cuda.get_elapsed_time(begin, end) / 1000)
    return [statistics.median(taken) for taken in times]


def measure(
    cupy: Any,
    series: CandleSeries,
    style: ChartStyle,
    window: int,
    *,
    device: str,
    buffer_bytes: int,
    rounds: int,
) -> dict[str, Any]:
    """The numbers of one style."""
    slots = series.slots
    renderer = DeviceRenderer(slots, style, window=window, device=device)
    wrong = differing_pictures(cupy, renderer, series, style, window)
    shape = image_shape(style, window)
    count = max(1, buffer_bytes // prod(shape))
    out = cupy.empty((count, *shape), dtype=cupy.uint8)
    starts = np.random.default_rng(1).integers(0, len(slots) - window + 1, count)
    placed = renderer.place(starts)

    def fill() -> None:
        stream = cupy.cuda.get_current_stream().ptr
        cupy.cuda.runtime.memsetAsync(out.data.ptr, 255, out.nbytes, stream)

    def draw() -> None:
        renderer.draw(placed, out=out)

    drawn_s, filled_s = device_seconds(cupy, rounds, draw, fill)
    begin = time.perf_counter()
    for _ in range(rounds):
        renderer.draw(starts, out=out)
        cupy.cuda.get_current_stream().synchronize()
    from_host_s = (time.perf_counter() - begin) / rounds
    return {
        "pictures": count,
        "pictures_per_s": count / drawn_s,
        "pictures_per_s_from_host": count / from_host_s,
        "bytes_per_s": out.nbytes / drawn_s,
        "fill_bytes_per_s": out.nbytes / filled_s,
        "share_of_fill": filled_s / drawn_s,
        "compared": 2 * COMPARED,
        "differing": wrong,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or one of several as in cuda:1")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of pictures a draw")
    parser.add_argument("--rounds", type=int, default=20, help="draws timed for each case")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    try:
        backend = choose_backend(arguments.device)
    except ChartError as error:
        print(f"no CUDA device, nothing measured: {error}")
        return 0
    if backend.cuda_index is None:
        print(f"nothing measured: {backend.line}")
        return 0
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(backend.cuda_index):
        return report(cupy, backend.name, backend.line, arguments)


def report(cupy: Any, device: str, line: str, arguments: argparse.Namespace) -> int:
    """Measure every case and print it; 1 where a picture differs from the CPU's."""
    free, _ = cupy.cuda.runtime.memGetInfo()
    buffer_bytes = int(min(arguments.gigabytes * 1e9, free // 3))
    results: dict[str, Any] = {"device": line, "buffer_bytes": buffer_bytes, "cases": {}}
    print(line)
    print(
        f"{'style':42}{'pictures/s':>13}{'from host':>13}{'GB/s':>8}{'fill GB/s':>11}"
        f"{'share of fill':>15}{'differing':>14}"
    )
    series = with_holes(walk(CANDLES))
    for name, (style, window) in CASES.items():
        row = measure(
            cupy,
            series,
            style,
            window,
            device=device,
            buffer_bytes=buffer_bytes,
            rounds=arguments.rounds,
        )
        cupy.get_default_memory_pool().free_all_blocks()
        results["cases"][name] = row
        print(
            f"{name:42}{row['pictures_per_s']:13,.0f}{row['pictures_per_s_from_host']:13,.0f}"
            f"{row['bytes_per_s'] / 1e9:8,.0f}{row['fill_bytes_per_s'] / 1e9:11,.0f}"
            f"{row['share_of_fill']:15.2f}{row['differing']:7d} of {row['compared']}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return int(any(row["differing"] for row in results["cases"].values()))


if __name__ == "__main__":
    sys.exit(main())
