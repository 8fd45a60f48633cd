"""Candles in colour: `candlestick`, uint8 (H, W, 3), red, green, blue.

Rows come from `geometry`, whose text is the first half of this specification. The second:

**Panels.** With volume the panel of floor(H / 5) rows lies at the bottom,
max(1, floor(H / 50)) background rows above it, and the price panel has the rest. Without
volume all H rows are the price panel.

**Bodies.** Let s = floor(width / W), the columns a slot has to draw in. The body is b
columns wide and the wick w:

    s = 1, 2    b = w = 1
    s = 3       b = w = 2
    s >= 4      w = max(1, floor(b' / 5)) with b' = s - max(1, floor(s / 4)),
                and b = b', less 1 where b' - w is odd, so that the wick is in the middle

The body begins floor((s - b) / 2) columns into its slot and spans the rows from open to
close, at least one row. The wick spans the rows from high to low under the body, (b - w) / 2
columns into it. Below 4 px a slot both share their columns, and the wick is told by its
paler colour, the one of volume bars.

**Colours.** Up where close > open, down where close < open, flat where they are equal; wick
and body in the colour of the direction. Volume bars are as wide as the body, in the mean of
that colour and the background, rounded down. The colours stand in `PALETTES`. Backgrounds are
greys, so that filling one is writing one byte over and over.

**Averages.** Line k has colour k of the palette, max(1, floor(min(H, width) / 256)) rows thick,
painted last, in order. The centre column is floor((b - 1) / 2) columns into the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from candlemark.charts.geometry import CLOSE, DIRECTION, HIGH, LOW, MISSING, OPEN, VOLUME
from candlemark.charts.vectors import LINE_BYTES, copy_word, fence, stream_line

Int32Array = npt.NDArray[np.int32]
UInt8Array = npt.NDArray[np.uint8]
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours of a theme; `background` is a level of grey."""

    background: int
    down: Color
    flat: Color
    up: Color
    averages: tuple[Color, Color, Color, Color]


PALETTES: dict[str, Palette] = {
    "light": Palette(
        background=255,
        down=(242, 54, 69),
        flat=(120, 123, 134),
        up=(8, 153, 129),
        averages=((41, 98, 255), (255, 152, 0), (156, 39, 176), (121, 85, 72)),
    ),
    "dark": Palette(
        background=20,
        down=(239, 83, 80),
        flat=(150, 153, 163),
        up=(38, 166, 154),
        averages=((91, 156, 246), (255, 183, 77), (206, 147, 216), (188, 170, 164)),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """Columns of a candle in its slot: where the body begins, its width and the wick's."""

    offset: int
    body: int
    wick: int

    @property
    def pale_wick(self) -> bool:
        """Whether body and wick share their columns."""
        return self.body == self.wick


def candle_columns(slot: int) -> Candle:
    """How a candle is laid out in `slot` >= 1 columns."""
    if slot < 4:
        body = wick = max(1, slot - 1)
    else:
        body = slot - max(1, slot // 4)
        wick = max(1, body // 5)
        body -= (body - wick) % 2
    return Candle(offset=(slot - body) // 2, body=body, wick=wick)


def colors(palette: Palette, candle: Candle) -> UInt8Array:
    """uint8[13, 3]: bodies, wicks, volumes (down, flat, up each), then four averages."""
    bodies = [palette.down, palette.flat, palette.up]
    pale = [tuple((level + palette.background) // 2 for level in color) for color in bodies]
    wicks = pale if candle.pale_wick else bodies
    return np.array([*bodies, *wicks, *pale, *palette.averages], dtype=np.uint8)


def strips(palette: Palette, candle: Candle) -> UInt8Array:
    """uint8[13, 3 * body]: a row of pixels in each of `colors`, to be copied from."""
    return np.tile(colors(palette, candle), (1, candle.body))


@njit(cache=True, nogil=True, error_model="numpy")
def paint_candles(  # noqa: PLR0917 -- kernels take positions only
    rows: Int32Array,
    lines: Int32Array,
    left: npt.NDArray[np.int64],
    body: int,
    wick: int,
    height: int,
    background: np.uint8,
    strips: UInt8Array,
    streamed: bool,
    out: UInt8Array,
) -> None:
    """Paint N pictures.

    rows: int32[N, PLANES, W]; lines: int32[N, K, 2, width]; left: int64[W], first body columns
    strips: uint8[13, 3 * body] as from `strips`; out: uint8[N, height * width * 3]
    streamed: past the cache

    Streamed pictures are painted on one sheet that stays in the cache.
    """
    size = out.shape[1]
    pitch = size // height
    sheet = np.full(size if streamed else 0, background, np.uint8)
    for n in range(out.shape[0]):
        picture = out[n]
        if streamed:
            _paint(rows[n], lines[n], left, body, wick, height, pitch, strips, sheet)
            begin = min(-picture.ctypes.data % LINE_BYTES, size)
            end = begin + (size - begin) // LINE_BYTES * LINE_BYTES
            picture[:begin] = sheet[:begin]
            picture[end:] = sheet[end:]
            for at in range(begin, end, LINE_BYTES):
                stream_line(picture, at, sheet, at)
            sheet[:] = background
        else:
            picture[:] = background
            _paint(rows[n], lines[n], left, body, wick, height, pitch, strips, picture)
    fence()


@njit(cache=True, nogil=True, error_model="numpy")
def _paint(  # noqa: PLR0917 -- kernels take positions only
    rows: Int32Array,
    lines: Int32Array,
    left: npt.NDArray[np.int64],
    body: int,
    wick: int,
    height: int,
    pitch: int,
    strips: UInt8Array,
    picture: UInt8Array,
) -> None:
    """Paint one picture on its background."""
    inset = 3 * ((body - wick) // 2)
    for i in range(left.size):
        high, low = rows[HIGH, i], rows[LOW, i]
        if high == MISSING:
            continue
        opened, closed, tall = rows[OPEN, i], rows[CLOSE, i], rows[VOLUME, i]
        top, bottom, kind = min(opened, closed), max(opened, closed), rows[DIRECTION, i]
        x = 3 * left[i]
        # The wick in two parts, above and below: what the body covers is painted once.
        _fill(picture, high, top, x + inset, pitch, strips[3 + kind], 3 * wick)
        _fill(picture, bottom + 1, low + 1, x + inset, pitch, strips[3 + kind], 3 * wick)
        _fill(picture, top, bottom + 1, x, pitch, strips[kind], 3 * body)
        _fill(picture, height - tall, height, x, pitch, strips[6 + kind], 3 * body)
    for k in range(lines.shape[0]):
        red, green, blue = strips[9 + k, 0], strips[9 + k, 1], strips[9 + k, 2]
        firsts, stops = lines[k, 0], lines[k, 1]
        for column in range(firsts.size):
            at = firsts[column] * pitch + 3 * column
            until = stops[column] * pitch
            while at < until:
                picture[at] = red
                picture[at + 1] = green
                picture[at + 2] = blue
                at += pitch


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(  # noqa: PLR0917 -- kernels take positions only
    picture: UInt8Array,
    first: int,
    stop: int,
    start: int,
    pitch: int,
    strip: UInt8Array,
    count: int,
) -> None:
    """Copy `count` bytes of `strip` to byte `start` of rows first .. stop - 1."""
    for row in range(first, stop):
        at = row * pitch + start
        if count >= 8:
            # Whole words, the last one laid back over the one before.
            for i in range(0, count - 8, 8):
                copy_word(picture, at + i, strip, i)
            copy_word(picture, at + count - 8, strip, count - 8)
        else:
            for i in range(count):
                picture[at + i] = strip[i]
