"""Windows to pictures: any style, any size, drawn directly at that size.

    pictures = render(series, "candlestick", window=30, stride=5)     # uint8 (N, 224, 224, 3)
    pictures = render(series, "jkx", window=20, out=buffer)           # into your own buffer

    renderer = Renderer(series.slots, "jkx", window=20)               # for many small batches
    renderer.draw(starts)                                             # uint8 (N, 64, 60)
    renderer.draw_packed(starts)                                      # uint8 (N, 8, 60), in bits

`render` walks a series; `Renderer` draws any windows of its slots, in any order, and can hide
candles; `render_windows` and `render_packed` are a `Renderer` used once. What each style
paints is written in `geometry`, `ohlc` and `candlestick`, pixel by pixel.

`blocks` does the work, in compiled code that releases the interpreter lock, so threads scale.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.charts.blocks import CACHED, PACKED, STREAMED, draw_bars, draw_candles
from candlemark.charts.candlestick import PALETTES, candle_columns, strips
from candlemark.charts.geometry import line_ends
from candlemark.charts.indicators import read_only, window_averages
from candlemark.charts.packed import checked_out, packed_shape
from candlemark.charts.style import SLOT_PIXELS, ChartStyle, image_shape, levels, resolve_style
from candlemark.charts.threads import in_threads
from candlemark.charts.vectors import STREAM_FROM_BYTES
from candlemark.charts.windows import checked_starts, checked_visible, window_starts

if TYPE_CHECKING:
    from candlemark.candles.series import CandleSeries, Slots

UInt8Array = npt.NDArray[np.uint8]
Paint = Callable[[Any, Any, Any, Any, int, UInt8Array], None]
"""Draws windows: columns, means, starts, visible, form, uint8[N, bytes of a picture]."""

LARGEST_SUMMED = 2.0**960
"""Above this price averages are computed window by window, which guards against overflow."""


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
        self._lengths = np.array(resolved.average_lengths(window), dtype=np.int64)
        self._paint = plan_painting(resolved, window, self.shape)
        self._columns = tuple(
            read_only(np.ascontiguousarray(column, dtype=np.float64))
            for column in (slots.open, slots.high, slots.low, slots.close, slots.volume)
        )
        self._slot_count = len(slots)
        self._candles_drawn = 0
        self._means = np.empty((0, len(self._lengths), 0))

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
        return self._draw(starts, visible, out, threads, self.shape, packed=False)

    def draw_packed(
        self,
        starts: npt.ArrayLike,
        *,
        visible: npt.NDArray[np.bool_] | None = None,
        out: UInt8Array | None = None,
        threads: int | None = None,
    ) -> UInt8Array:
        """As `draw`, in the form of `packed`: uint8 (N, ceil(H / 8), W), two-level styles only."""
        shape = packed_shape(self.shape)
        return self._draw(starts, visible, out, threads, shape, packed=True)

    def _draw(
        self,
        starts: npt.ArrayLike,
        visible: npt.NDArray[np.bool_] | None,
        out: UInt8Array | None,
        threads: int | None,
        shape: tuple[int, ...],
        *,
        packed: bool,
    ) -> UInt8Array:
        first_slots = read_only(checked_starts(starts, self._slot_count, self.window))
        shown = read_only(checked_visible(visible, len(first_slots), self.window))
        pictures = checked_out(out, (len(first_slots), *shape))
        flat = pictures.reshape(len(first_slots), prod(shape))
        form = STREAMED if flat.nbytes >= STREAM_FROM_BYTES else CACHED
        form = PACKED if packed else form
        means = self._averages(len(first_slots)) if visible is None else self._means[:0, :, :0]

        def work(part: slice) -> None:
            hidden = shown if visible is None else shown[part]
            self._paint(self._columns, means, first_slots[part], hidden, form, flat[part])

        in_threads(work, len(first_slots), flat.nbytes, threads)
        return pictures

    def _averages(self, count: int) -> npt.NDArray[np.float64]:
        """float64[1, K, S], averages at every slot, once that is less work than by window.

        Empty until then. The bits are the same: each average is a sum from oldest to newest.
        """
        if len(self._means) or not len(self._lengths):
            return self._means
        self._candles_drawn += count * self.window
        if self._candles_drawn < self._slot_count:
            return self._means
        close = self._columns[3]
        if not np.nanmax(np.abs(close), initial=0.0) <= LARGEST_SUMMED:
            return self._means
        means = np.empty((1, len(self._lengths), self._slot_count))
        everything = read_only(np.empty((0, 0), dtype=np.bool_))
        start = read_only(np.zeros(1, dtype=np.int64))
        window_averages(close, start, everything, self._lengths, means)
        self._means = means
        return means


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


def plan_painting(style: ChartStyle, window: int, shape: tuple[int, ...]) -> Paint:
    """Work out panels and columns of `style` for pictures of `shape` (from `image_shape`)."""
    height, width = shape[:2]
    slot = width // window
    left = np.arange(window, dtype=np.int64) * width // window
    volume_rows = height // 5 if style.draws_volume else 0
    lengths = np.array(style.average_lengths(window), dtype=np.int64)

    def plan(centre: int, thick: int, spacer: int) -> tuple[Any, Any]:
        """What the kernels want to know of averages and panels."""
        centres = (left + centre).astype(np.int32)
        price_rows = height - volume_rows - spacer if volume_rows else height
        averages = (lengths, centres, line_ends(centres, width), thick)
        return averages, (price_rows, volume_rows)

    if style.kind == "candlestick":
        palette = PALETTES["dark" if style.is_dark else "light"]
        candle = candle_columns(slot)
        left += candle.offset
        thick, spacer = max(1, min(height, width) // 256), max(1, height // 50)
        averages, panels = plan((candle.body - 1) // 2, thick, spacer)
        look = (np.uint8(palette.background), strips(palette, candle))
        candles = (left, candle.body, candle.wick, height, width, *look)
        return lambda *batch: draw_candles(*batch[:4], averages, panels, candles, *batch[4:])
    unit = slot // SLOT_PIXELS[style.kind]
    averages, panels = plan(unit + (unit - 1) // 2, 1, 1)
    only_bars = style.kind == "ohlc4"
    bars = (left.astype(np.uint64), np.uint64(unit), height, width, only_bars)
    tones = tuple(np.uint8(level) for level in levels(style))
    return lambda *batch: draw_bars(*batch[:4], averages, panels, bars, tones, *batch[4:])
