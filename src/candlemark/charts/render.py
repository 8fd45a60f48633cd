"""Windows to pictures: any style, any size, drawn directly at that size.

    pictures = render(series, "candlestick", window=30, stride=5)     # uint8 (N, 224, 224, 3)
    pictures = render(series, "jkx", window=20, out=buffer)           # into your own buffer

    renderer = Renderer(series.slots, "jkx", window=20)               # for many small batches
    renderer.draw(starts)                                             # uint8 (N, 64, 60)
    renderer.draw_packed(starts)                                      # uint8 (N, 8, 60), in bits

`render` walks a series; `Renderer` draws any windows of its slots, in any order, and can hide
candles; `render_windows` and `render_packed` are a `Renderer` used once. What each style
paints is written in `geometry`, `ohlc` and `candlestick`, pixel by pixel.

Work goes block by block through compiled kernels: averages, rows, lines, paint. They release
the interpreter lock, so threads scale, and keep their scratch in the processor's cache. No
kernel calls one in another file (bar the intrinsics of `vectors`), because numba's disk cache
looks for changes only in the file of the kernel it loads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.charts import geometry
from candlemark.charts.candlestick import (
    PALETTES,
    candle_columns,
    paint_candles,
    sheet_bytes,
    strips,
)
from candlemark.charts.indicators import read_only, window_averages
from candlemark.charts.ohlc import NO_BARS, set_jkx, set_ohlc4, spread
from candlemark.charts.packed import checked_out, packed_shape
from candlemark.charts.style import SLOT_PIXELS, ChartStyle, image_shape, levels, resolve_style
from candlemark.charts.threads import in_threads
from candlemark.charts.vectors import LANES, STREAM_FROM_BYTES
from candlemark.charts.windows import checked_starts, checked_visible, window_starts

if TYPE_CHECKING:
    from candlemark.candles.series import CandleSeries, Slots

UInt8Array = npt.NDArray[np.uint8]
Paint = Callable[[Any, Any, UInt8Array, UInt8Array], None]
"""Paints rows and lines, with scratch, into uint8[N, bytes of a picture]."""

Int32Array = npt.NDArray[np.int32]
Scratch = tuple[Int32Array, Int32Array, Int32Array, UInt8Array]

SCRATCH_BYTES = 1024 * 1024
"""What a block of pictures may take before it is painted, so that it stays in the cache."""

LARGEST_SUMMED = 2.0**960
"""Above this price averages are computed window by window, which guards against overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A style at one window and size, in pixels: all that the kernels must know."""

    shape: tuple[int, ...]
    window: int
    price_rows: int
    volume_rows: int
    lengths: npt.NDArray[np.int64]
    centres: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    thick: int
    paint: Callable[[bool], Paint]
    pack: Paint | None
    bits_bytes: int
    sheet: UInt8Array

    @property
    def scratch_bytes(self) -> int:
        """Scratch for one picture."""
        average_bytes = self.window * 12 + self.shape[1] * 8
        row_bytes = self.window * geometry.PLANES * 4
        return row_bytes + len(self.lengths) * average_bytes + self.bits_bytes

    def scratch(self) -> Scratch:
        """Rows, rows of averages, lines and what `paint` needs, for a block of pictures."""
        block, averages = max(2, SCRATCH_BYTES // self.scratch_bytes), len(self.lengths)
        if self.bits_bytes:
            paint = np.zeros(block * self.bits_bytes + LANES, dtype=np.uint8)
        else:
            paint = self.sheet.copy()
        return (
            np.empty((block, geometry.PLANES, self.window), dtype=np.int32),
            np.empty((block, averages, self.window), dtype=np.int32),
            np.empty((block, averages, 2, self.shape[1]), dtype=np.int32),
            paint,
        )


class Renderer:
    """Draws windows of the same slots in one look, again and again.

    slots: the candles, as in `CandleSeries.slots`
    style: a ChartStyle, or the name of one ("ohlc4", "jkx", "candlestick", or a preset that
        an installed package offers)
    window: in slots
    height, width: pixels, instead of the style's own

    Raises ChartError for an unknown style or a size too small for the window. It may be used
    by several threads at once.
    """

    def __init__(
        self,
        slots: Slots,
        style: ChartStyle | str,
        *,
        window: int,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        resolved = resolve_style(style)
        self.shape = image_shape(resolved, window, height, width)
        self.window = window
        self._layout = plan_layout(resolved, window, self.shape)
        self._columns = [
            read_only(np.ascontiguousarray(column, dtype=np.float64))
            for column in (slots.open, slots.high, slots.low, slots.close, slots.volume)
        ]
        self._slot_count = len(slots)
        self._candles_drawn = 0
        self._means: npt.NDArray[np.float64] | None = None
        self._scratch: list[Scratch] = []

    def draw(
        self,
        starts: npt.ArrayLike,
        *,
        visible: npt.NDArray[np.bool_] | None = None,
        out: UInt8Array | None = None,
        threads: int | None = None,
    ) -> UInt8Array:
        """The windows that begin at `starts`, in that order: uint8 (N, H, W) or (N, H, W, 3).

        starts: int64[N], first slots, in any order and as often as wanted
        visible: bool[N, window]; a slot that is False is drawn as if its candle were missing,
            and no moving average reads it. Candles before the window are not hidden.
        out: a C-contiguous, writable uint8 array of exactly that shape, filled and returned
        threads: None takes one for each 8 MiB of pictures, at most one a core

        Raises ChartError for windows outside the slots or an `out` that does not fit.
        """

        def choose(size: int) -> Paint:
            return self._layout.paint(size >= STREAM_FROM_BYTES)

        return self._draw(starts, visible, out, threads, self.shape, choose)

    def draw_packed(
        self,
        starts: npt.ArrayLike,
        *,
        visible: npt.NDArray[np.bool_] | None = None,
        out: UInt8Array | None = None,
        threads: int | None = None,
    ) -> UInt8Array:
        """As `draw`, in the form of `packed`: uint8 (N, ceil(H / 8), W), two-level styles only."""
        pack = self._layout.pack
        shape = packed_shape(self.shape)
        assert pack is not None  # noqa: S101 -- packed_shape has refused every other style
        return self._draw(starts, visible, out, threads, shape, lambda _: pack)

    def _draw(  # noqa: PLR0917 -- the arguments of `draw`, then what it draws
        self,
        starts: npt.ArrayLike,
        visible: npt.NDArray[np.bool_] | None,
        out: UInt8Array | None,
        threads: int | None,
        shape: tuple[int, ...],
        choose: Callable[[int], Paint],
    ) -> UInt8Array:
        first_slots = checked_starts(starts, self._slot_count, self.window)
        shown = checked_visible(visible, len(first_slots), self.window)
        pictures = checked_out(out, (len(first_slots), *shape))
        flat = pictures.reshape(len(first_slots), prod(shape))
        paint = choose(flat.nbytes)
        means = None if visible is not None else self._averages(len(first_slots))

        def work(part: slice) -> None:
            hidden = shown[part] if visible is not None else shown
            self._draw_blocks(first_slots[part], hidden, means, paint, flat[part])

        in_threads(work, len(first_slots), flat.nbytes, threads)
        return pictures

    def _averages(self, count: int) -> npt.NDArray[np.float64] | None:
        """float64[K, S], averages at every slot, once that is less work than window by window.

        None until then. The bits are the same: each average is a sum from oldest to newest.
        """
        if self._means is not None or not len(self._layout.lengths):
            return self._means
        self._candles_drawn += count * self.window
        if self._candles_drawn < self._slot_count:
            return None
        close = self._columns[3]
        if not np.nanmax(np.abs(close), initial=0.0) <= LARGEST_SUMMED:
            return None
        means = np.empty((1, len(self._layout.lengths), self._slot_count))
        everything = read_only(np.empty((0, 0), dtype=np.bool_))
        start = read_only(np.zeros(1, dtype=np.int64))
        window_averages(close, start, everything, self._layout.lengths, means)
        self._means = means[0]
        return self._means

    def _draw_blocks(
        self,
        starts: npt.NDArray[np.int64],
        visible: npt.NDArray[np.bool_],
        means: npt.NDArray[np.float64] | None,
        paint: Paint,
        out: UInt8Array,
    ) -> None:
        """Draw windows into `out`, uint8[N, bytes of a picture], one block after the other."""
        layout, window = self._layout, self.window
        averages, columns = len(layout.lengths), self._columns
        # Kept from call to call: fresh memory costs a page fault every 4 KiB.
        scratch = self._scratch.pop() if self._scratch else layout.scratch()
        rows, average_rows, lines, paint_scratch = scratch
        block = len(rows)
        own = np.empty((averages, 0)) if means is None else means
        for begin in range(0, len(starts), block):
            part = read_only(starts[begin : begin + block])
            n = len(part)
            shown = read_only(visible[begin : begin + block] if len(visible) else visible)
            at = part
            if averages and means is None:
                at = read_only(np.arange(n, dtype=np.int64) * window)
                each = np.empty((n, averages, window))
                window_averages(columns[3], part, shown, layout.lengths, each)
                own = np.ascontiguousarray(each.transpose(1, 0, 2)).reshape(averages, n * window)
            geometry.measure(
                *columns,
                own,
                at,
                part,
                shown,
                layout.price_rows,
                layout.volume_rows,
                rows[:n],
                average_rows[:n],
            )
            if averages:
                geometry.trace(
                    average_rows[:n],
                    layout.centres,
                    layout.ends,
                    layout.price_rows,
                    layout.thick,
                    lines[:n],
                )
            paint(rows[:n], lines[:n], paint_scratch, out[begin : begin + n])
        self._scratch.append(scratch)


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
    """Draw windows once: see `Renderer` and `Renderer.draw` for arguments, shapes and errors."""
    renderer = Renderer(slots, style, window=window, height=height, width=width)
    return renderer.draw(starts, visible=visible, out=out, threads=threads)


def render_packed(
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
    """Draw windows packed, once: see `Renderer` and `Renderer.draw_packed`."""
    renderer = Renderer(slots, style, window=window, height=height, width=width)
    return renderer.draw_packed(starts, visible=visible, out=out, threads=threads)


def plan_layout(style: ChartStyle, window: int, shape: tuple[int, ...]) -> Layout:
    """Work out panels and columns of `style` for pictures of `shape` (from `image_shape`)."""
    height, width = shape[:2]
    slot = width // window
    left = np.arange(window, dtype=np.int64) * width // window
    volume_rows = height // 5 if style.draws_volume else 0
    pack: Paint | None = None
    if style.kind == "candlestick":
        spacer = max(1, height // 50)
        palette = PALETTES["dark" if style.is_dark else "light"]
        candle = candle_columns(slot)
        left += candle.offset
        centre, thick = (candle.body - 1) // 2, max(1, min(height, width) // 256)
        table, background = strips(palette, candle), np.uint8(palette.background)
        body, wick = candle.body, candle.wick

        bits_bytes, sheet = 0, np.full(sheet_bytes(shape), background, dtype=np.uint8)

        def paint(streamed: bool) -> Paint:
            return lambda rows, lines, sheet, out: paint_candles(
                rows, lines, left, body, wick, height, background, table, sheet, streamed, out
            )
    else:
        spacer = 1
        units = slot // SLOT_PIXELS[style.kind]
        centre, thick = units + (units - 1) // 2, 1
        paper, ink = (np.uint8(level) for level in levels(style))
        columns, unit = left.astype(np.uint64), np.uint64(units)
        pitch = (width + LANES - 1) // LANES * LANES
        groups = (height + 7) // 8
        bits_bytes, sheet = groups * pitch, np.empty(0, dtype=np.uint8)

        def paint(streamed: bool) -> Paint:
            def paint_bits(rows: Any, lines: Any, scratch: UInt8Array, out: UInt8Array) -> None:
                bars = NO_BARS
                if style.kind == "jkx":
                    set_jkx(rows, lines, columns, unit, height, pitch, scratch)
                else:
                    bars = (rows, columns, unit)
                spread(scratch, pitch, height, paper, ink, *bars, streamed, out)

            return paint_bits

        def pack(rows: Any, lines: Any, scratch: UInt8Array, out: UInt8Array) -> None:
            if style.kind == "ohlc4":
                out[:] = 0
                set_ohlc4(rows, columns, unit, np.uint64(width), out.reshape(-1))
                return
            bits = scratch[: len(rows) * bits_bytes]
            set_jkx(rows, lines, columns, unit, height, pitch, bits)
            padded = bits.reshape(len(rows), groups, pitch)
            out.reshape(len(rows), groups, width)[:] = padded[:, :, :width]

    centres = (left + centre).astype(np.int32)
    return Layout(
        shape=shape,
        window=window,
        price_rows=height - volume_rows - spacer if volume_rows else height,
        volume_rows=volume_rows,
        lengths=np.array(style.average_lengths(window), dtype=np.int64),
        centres=centres,
        ends=geometry.line_ends(centres, width),
        thick=thick,
        paint=paint,
        pack=pack,
        bits_bytes=bits_bytes,
        sheet=sheet,
    )
