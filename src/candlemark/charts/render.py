"""Windows to pictures: any style, any size, drawn directly at that size.

    pictures = render(series, "candlestick", window=30, stride=5)     # uint8 (N, 224, 224, 3)
    pictures = render(series, "jkx", window=20, out=buffer)           # into your own buffer

`render` walks a series; `render_windows` draws any windows of its slots and can hide candles.
What each style paints is written in `geometry`, `ohlc` and `candlestick`, pixel by pixel.

Work goes block by block through four compiled kernels: averages, rows, lines, paint. They
release the interpreter lock, so threads scale, and keep their scratch in the processor's
cache. Threads are Python's own: numba's parallel layers may not be entered from several
threads at once, and compete with torch for the cores. No kernel calls one in another file,
because numba's disk cache looks for changes only in the file of the kernel it loads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.charts import geometry
from candlemark.charts.candlestick import PALETTES, candle_columns, colors, paint_candles
from candlemark.charts.indicators import read_only, window_averages
from candlemark.charts.ohlc import paint_bars
from candlemark.charts.style import SLOT_PIXELS, ChartStyle, image_shape, resolve_style
from candlemark.charts.windows import checked_starts, checked_visible, window_starts
from candlemark.errors import ChartError

if TYPE_CHECKING:
    from candlemark.candles.series import CandleSeries, Slots

UInt8Array = npt.NDArray[np.uint8]

SCRATCH_BYTES = 256 * 1024
"""What rows and lines of a block may take, so that they stay in the second-level cache."""

BYTES_A_THREAD = 8 * 1024 * 1024
"""Below this many bytes of pictures a further thread costs more than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A style at one window and size, in pixels: all that the kernels must know."""

    shape: tuple[int, ...]
    window: int
    price_rows: int
    volume_rows: int
    lengths: npt.NDArray[np.int64]
    centres: npt.NDArray[np.int32]
    thick: int
    paint: Callable[[npt.NDArray[np.int32], npt.NDArray[np.int32], UInt8Array], None]

    @property
    def scratch_bytes(self) -> int:
        """Scratch for one picture."""
        average_bytes = self.window * 12 + self.shape[1] * 8
        return self.window * geometry.PLANES * 4 + len(self.lengths) * average_bytes


def render(
    candles: CandleSeries,
    style: ChartStyle | str,
    *,
    window: int,
    stride: int = 1,
    start: int = 0,
    count: int | None = None,
    height: int | None = None,
    width: int | None = None,
    out: UInt8Array | None = None,
) -> UInt8Array:
    """Draw windows of a series: uint8 (N, H, W), or (N, H, W, 3) for `candlestick`.

    style: a ChartStyle, or the name of one ("ohlc4", "jkx", "candlestick", or a preset that
        an installed package offers)
    window, stride, start: in slots; picture n covers slots start + n * stride and the
        window - 1 after it. Slots without candles are drawn empty.
    count: how many pictures; None draws every window that fits
    height, width: pixels, instead of the style's own
    out: a C-contiguous, writable uint8 array of exactly that shape, filled and returned

    Moving averages read the candles before a window where they exist. Raises ChartError for
    an unknown style, a window that the series cannot give, a size too small for the window,
    or an `out` that does not fit.
    """
    slots = candles.slots
    starts = window_starts(len(slots), window, stride=stride, start=start, count=count)
    return render_windows(slots, style, starts, window=window, height=height, width=width, out=out)


def render_windows(
    slots: Slots,
    style: ChartStyle | str,
    starts: npt.ArrayLike,
    *,
    window: int,
    visible: npt.NDArray[np.bool_] | None = None,
    height: int | None = None,
    width: int | None = None,
    out: UInt8Array | None = None,
    threads: int | None = None,
) -> UInt8Array:
    """Draw the windows that begin at `starts`, in that order: uint8 (N, H, W) or (N, H, W, 3).

    starts: int64[N], first slots, in any order and as often as wanted
    visible: bool[N, window]; a slot that is False is drawn as if its candle were missing,
        and no moving average reads it. Candles before the window are not hidden.
    threads: None takes one for each 8 MiB of pictures, at most one a core

    The rest, and the errors, as in `render`.
    """
    resolved = resolve_style(style)
    shape = image_shape(resolved, window, height, width)
    first_slots = checked_starts(starts, len(slots), window)
    shown = checked_visible(visible, len(first_slots), window)
    pictures = _checked_out(out, (len(first_slots), *shape))
    if threads is not None and threads < 1:
        raise ChartError(f"threads is {threads}; it must be at least 1, or None to choose")
    layout = plan_layout(resolved, window, shape)
    columns = [
        read_only(np.ascontiguousarray(column, dtype=np.float64))
        for column in (slots.open, slots.high, slots.low, slots.close, slots.volume)
    ]
    flat = pictures.reshape(len(first_slots), prod(shape))

    def draw(part: slice) -> None:
        hidden = shown[part] if visible is not None else shown
        _draw_blocks(layout, columns, first_slots[part], hidden, flat[part])

    workers = min(threads or _thread_count(flat.nbytes), max(1, len(first_slots)))
    if workers == 1:
        draw(slice(None))
        return pictures
    with ThreadPoolExecutor(workers, thread_name_prefix="candlemark-draw") as pool:
        # Listed, so that an error in a thread is raised here.
        list(pool.map(draw, _even_parts(len(first_slots), workers)))
    return pictures


def plan_layout(style: ChartStyle, window: int, shape: tuple[int, ...]) -> Layout:
    """Work out panels and columns of `style` for pictures of `shape` (from `image_shape`)."""
    height, width = shape[:2]
    slot = width // window
    left = (np.arange(window, dtype=np.int64) * width // window).astype(np.int32)
    volume_rows = height // 5 if style.draws_volume else 0
    if style.kind == "candlestick":
        spacer = max(1, height // 50)
        palette = PALETTES["dark" if style.is_dark else "light"]
        candle = candle_columns(slot)
        left += np.int32(candle.offset)
        centre, thick = (candle.body - 1) // 2, max(1, min(height, width) // 256)
        table = colors(palette, candle)
        body, wick, background = candle.body, candle.wick, palette.background

        def paint(rows: Any, lines: Any, out: UInt8Array) -> None:
            paint_candles(rows, lines, left, body, wick, height, background, table, out)
    else:
        spacer = 1
        unit = slot // SLOT_PIXELS[style.kind]
        centre, thick = unit + (unit - 1) // 2, 1
        paper, ink = (0, 255) if style.is_dark else (255, 0)

        def paint(rows: Any, lines: Any, out: UInt8Array) -> None:
            paint_bars(rows, lines, left, unit, height, paper, ink, out)

    return Layout(
        shape=shape,
        window=window,
        price_rows=height - volume_rows - spacer if volume_rows else height,
        volume_rows=volume_rows,
        lengths=np.array(style.average_lengths(window), dtype=np.int64),
        centres=(left + centre).astype(np.int32),
        thick=thick,
        paint=paint,
    )


def _draw_blocks(
    layout: Layout,
    columns: list[Any],
    starts: npt.NDArray[np.int64],
    visible: npt.NDArray[np.bool_],
    out: UInt8Array,
) -> None:
    """Draw windows into `out`, uint8[N, bytes of a picture], one block after the other."""
    block = max(1, min(len(starts), SCRATCH_BYTES // layout.scratch_bytes))
    averages, window = len(layout.lengths), layout.window
    means = np.empty((block, averages, window))
    rows = np.empty((block, geometry.PLANES, window), dtype=np.int32)
    average_rows = np.empty((block, averages, window), dtype=np.int32)
    lines = np.empty((block, averages, layout.shape[1], 2), dtype=np.int32)
    for begin in range(0, len(starts), block):
        part = read_only(starts[begin : begin + block])
        n = len(part)
        shown = read_only(visible[begin : begin + block] if len(visible) else visible)
        if averages:
            window_averages(columns[3], part, shown, layout.lengths, means[:n])
        geometry.measure(
            *columns,
            means[:n],
            part,
            shown,
            layout.price_rows,
            layout.volume_rows,
            rows[:n],
            average_rows[:n],
        )
        if averages:
            geometry.trace(
                rows[:n],
                average_rows[:n],
                layout.centres,
                layout.price_rows,
                layout.thick,
                lines[:n],
            )
        layout.paint(rows[:n], lines[:n], out[begin : begin + n])


def _checked_out(out: object, shape: tuple[int, ...]) -> UInt8Array:
    if out is None:
        return np.empty(shape, dtype=np.uint8)
    wanted = f"it must be a uint8 array of shape {shape}"
    if not isinstance(out, np.ndarray):
        raise ChartError(f"out is a {type(out).__name__}; {wanted}")
    if out.dtype != np.uint8 or out.shape != shape:
        raise ChartError(f"out is {out.dtype} of shape {out.shape}; {wanted}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        what = "read-only" if out.flags.c_contiguous else "not C-contiguous"
        raise ChartError(
            f"out is {what}; draw into a writable C-contiguous array, "
            f"for example np.empty({shape}, np.uint8)"
        )
    return out


def _thread_count(size: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, size // BYTES_A_THREAD))


def _even_parts(count: int, parts: int) -> Iterator[slice]:
    edges = [count * part // parts for part in range(parts + 1)]
    return (slice(begin, end) for begin, end in pairwise(edges))
