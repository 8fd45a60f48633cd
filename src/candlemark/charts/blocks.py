"""Whole batches of pictures in one compiled call, block by block: measure, trace, paint.

A call without the interpreter between its blocks can take blocks so small that all scratch of
one stays in the core's own cache (a tenth faster), and threads share nothing but memory.

The kernels called here live in other files, and numba's disk cache looks for changes only in
the file of the kernel that it loads. So these are closures over the times and sizes of those
files, which numba makes part of the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from candlemark.charts import candlestick, geometry, indicators, ohlc, vectors
from candlemark.charts.candlestick import paint_candles
from candlemark.charts.geometry import PLANES, measure, trace
from candlemark.charts.indicators import window_averages
from candlemark.charts.ohlc import set_jkx, set_ohlc4, spread
from candlemark.charts.vectors import LANES, PAGE_BYTES

BLOCK_BYTES = 96 * 1024
"""What rows, averages and lines of a block may take."""

CACHED, STREAMED, PACKED = range(3)
"""Where bars go: into the cache, past it, or nowhere but to their bits."""


@njit(nogil=True, error_model="numpy")
def _lay(  # noqa: PLR0917 -- kernels take positions only
    columns: Any,
    means: npt.NDArray[np.float64],
    starts: npt.NDArray[np.int64],
    visible: npt.NDArray[np.bool_],
    averages: Any,
    panels: Any,
    scratch: Any,
) -> None:
    """Measure and trace one block into `scratch`."""
    lengths, centres, ends, thick = averages
    own, rows, average_rows, lines = scratch
    whole = means.shape[0] > 0
    if lengths.size > 0 and not whole:
        window_averages(columns[3], starts, visible, lengths, own)
    use = means if whole else own
    measure(*columns, use, whole, starts, visible, *panels, rows, average_rows)
    if lengths.size > 0:
        trace(average_rows, centres, ends, panels[0], thick, lines)


@njit(nogil=True, error_model="numpy")
def _room(block: int, window: int, width: int, averages: Any) -> Any:
    """Scratch for `block` pictures."""
    count = averages[0].size
    return (
        np.empty((block, count, window)),
        np.empty((block, PLANES, window), np.int32),
        np.empty((block, count, window), np.int32),
        np.empty((block, count, 2, width), np.int32),
    )


@njit(nogil=True, error_model="numpy")
def _block_of(window: int, width: int, averages: Any) -> int:
    count: int = averages[0].size
    return max(2, BLOCK_BYTES // (window * 4 * PLANES + count * (window * 12 + width * 8)))


def _stamp() -> tuple[tuple[int, int], ...]:
    files = (candlestick, geometry, indicators, ohlc, vectors)
    stats = [Path(module.__file__ or "").stat() for module in files]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


def _compiled(stamp: tuple[tuple[int, int], ...]) -> tuple[Any, Any]:
    @njit(cache=True, nogil=True, error_model="numpy")
    def draw_bars(  # noqa: PLR0917 -- kernels take positions only
        columns: Any,
        means: npt.NDArray[np.float64],
        starts: npt.NDArray[np.int64],
        visible: npt.NDArray[np.bool_],
        averages: Any,
        panels: Any,
        bars: Any,
        levels: Any,
        form: int,
        out: npt.NDArray[np.uint8],
    ) -> None:
        """Draw N windows of `ohlc4` or `jkx`.

        columns: open, high, low, close, volume, float64[S] each
        means: float64[1, K, S], averages at all slots, or [0, K, 0] to compute them here
        starts: int64[N]; visible: bool[N, W] or bool[0, 0]
        averages: lengths int64[K], centres int32[W], ends int32[width], thickness
        panels: rows of prices, rows of volume
        bars: first columns uint64[W], unit, height, width, whether bars are all there is
        levels: paper, ink; form: CACHED, STREAMED or PACKED
        out: uint8[N, height * width], or [N, groups * width] where packed
        """
        stamp  # noqa: B018 -- makes it a part of the closure
        left, unit, height, width, only_bars = bars
        paper, ink = levels
        window, groups = left.size, (height + 7) // 8
        pitch = (width + LANES - 1) // LANES * LANES
        block = _block_of(window, width, averages)
        scratch = _room(block, window, width, averages)
        no_rows = np.empty((0, PLANES, 0), np.int32)
        bits = np.zeros((2 if only_bars else block) * groups * pitch + LANES, np.uint8)
        for begin in range(0, starts.size, block):
            end = min(begin + block, starts.size)
            n = end - begin
            own, rows, average_rows, lines = scratch
            part = (own[:n], rows[:n], average_rows[:n], lines[:n])
            shown = visible[begin:end] if visible.shape[0] > 0 else visible
            _lay(columns, means, starts[begin:end], shown, averages, panels, part)
            target = out[begin:end]
            if form == PACKED:
                if only_bars:
                    target[:] = np.uint8(0)
                    set_ohlc4(rows[:n], left, unit, np.uint64(width), target.reshape(-1))
                    continue
                set_jkx(rows[:n], lines[:n], left, unit, height, pitch, bits)
                for row in range(n * groups):
                    for x in range(width):
                        at = row % groups * width + x
                        target[row // groups, at] = bits[row * pitch + x]
                continue
            streamed = form == STREAMED
            if only_bars:
                spread(bits, pitch, height, paper, ink, rows[:n], left, unit, streamed, target)
                continue
            set_jkx(rows[:n], lines[:n], left, unit, height, pitch, bits)
            spread(bits, pitch, height, paper, ink, no_rows, left[:0], unit, streamed, target)

    @njit(cache=True, nogil=True, error_model="numpy")
    def draw_candles(  # noqa: PLR0917 -- as above
        columns: Any,
        means: npt.NDArray[np.float64],
        starts: npt.NDArray[np.int64],
        visible: npt.NDArray[np.bool_],
        averages: Any,
        panels: Any,
        candles: Any,
        form: int,
        out: npt.NDArray[np.uint8],
    ) -> None:
        """Draw N windows of `candlestick`.

        candles: first body columns int64[W], body, wick, height, width, background, strips
        out: uint8[N, height * width * 3]; the rest as in `draw_bars`
        """
        stamp  # noqa: B018 -- makes it a part of the closure
        left, body, wick, height, width, background, strips = candles
        window = left.size
        block = _block_of(window, width, averages)
        scratch = _room(block, window, width, averages)
        streamed = form == STREAMED
        sheet = np.full(out.shape[1] + PAGE_BYTES if streamed else 0, background, np.uint8)
        for begin in range(0, starts.size, block):
            end = min(begin + block, starts.size)
            n = end - begin
            own, rows, average_rows, lines = scratch
            part = (own[:n], rows[:n], average_rows[:n], lines[:n])
            shown = visible[begin:end] if visible.shape[0] > 0 else visible
            _lay(columns, means, starts[begin:end], shown, averages, panels, part)
            paint_candles(
                rows[:n],
                lines[:n],
                left,
                body,
                wick,
                height,
                background,
                strips,
                sheet,
                streamed,
                out[begin:end],
            )

    return draw_bars, draw_candles


draw_bars, draw_candles = _compiled(_stamp())
