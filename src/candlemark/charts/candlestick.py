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
from candlemark.charts.vectors import (
    LINE_BYTES,
    PAGE_BYTES,
    copy_line,
    copy_word,
    fence,
    stream_line,
)

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
    """uint8[13 * 3 * body]: a row of pixels in each of `colors`, to be copied from."""
    return np.tile(colors(palette, candle), (1, candle.body)).reshape(-1)


@njit(cache=True, nogil=True, error_model="numpy")
def paint_candles(  # noqa: PLR0912, PLR0915, PLR0917 -- positions only, and calls cost more
    rows: Int32Array,
    lines: Int32Array,
    left: npt.NDArray[np.int64],
    body: int,
    wick: int,
    height: int,
    background: np.uint8,
    strips: UInt8Array,
    sheet: UInt8Array,
    streamed: bool,
    out: UInt8Array,
) -> None:
    """Paint N pictures.

    rows: int32[N, PLANES, W]; lines: int32[N, K, 2, width]; left: int64[W], first body columns
    strips: uint8[13 * 3 * body] as from `strips`; out: uint8[N, height * width * 3]
    sheet: uint8[height * width * 3 + PAGE_BYTES], scratch, all background before and after
    streamed: past the cache. The picture is painted on the sheet, which stays in the cache,
        and the sheet is cleared behind each line of memory that leaves it.

    It is one function, as one for each span would have the references of its arrays counted,
    atomically, 120 times a picture. The picture lies on the sheet as it will lie in memory,
    relative to lines and pages: a store across the end of a page waits for all streamed ones.
    """
    size = out.shape[1]
    pitch = size // height
    strip = 3 * body
    inset = 3 * ((body - wick) // 2)
    blank = np.full(LINE_BYTES, background, np.uint8)
    for n in range(out.shape[0]):
        picture = sheet if streamed else out[n]
        origin = 0
        if streamed:
            origin = (out[n].ctypes.data - sheet.ctypes.data) % PAGE_BYTES
        else:
            picture[:] = background
        for i in range(left.size):
            high, low = rows[n, HIGH, i], rows[n, LOW, i]
            if high == MISSING:
                continue
            opened, closed = rows[n, OPEN, i], rows[n, CLOSE, i]
            top, bottom, kind = min(opened, closed), max(opened, closed), rows[n, DIRECTION, i]
            x = origin + 3 * left[i]
            for part in range(4):
                # The wick above and below: what the body covers is painted once.
                if part == 0:
                    row, stop, at, count, look = high, top, x + inset, 3 * wick, 3 + kind
                elif part == 1:
                    row, stop, at, count, look = bottom + 1, low + 1, x + inset, 3 * wick, 3 + kind
                elif part == 2:
                    row, stop, at, count, look = top, bottom + 1, x, strip, kind
                else:
                    tall = rows[n, VOLUME, i]
                    row, stop, at, count, look = height - tall, height, x, strip, 6 + kind
                source = look * strip
                at += row * pitch
                until = origin + stop * pitch
                while at < until:
                    if count >= 8:
                        # Whole words, the last one laid back over the one before.
                        for word in range(0, count - 8, 8):
                            copy_word(picture, at + word, strips, source + word)
                        copy_word(picture, at + count - 8, strips, source + count - 8)
                    else:
                        for byte in range(count):
                            picture[at + byte] = strips[source + byte]
                    at += pitch
        for k in range(lines.shape[1]):
            source = (9 + k) * strip
            red, green, blue = strips[source], strips[source + 1], strips[source + 2]
            for column in range(lines.shape[3]):
                at = origin + lines[n, k, 0, column] * pitch + 3 * column
                until = origin + lines[n, k, 1, column] * pitch
                while at < until:
                    picture[at] = red
                    picture[at + 1] = green
                    picture[at + 2] = blue
                    at += pitch
        if streamed:
            target = out[n]
            begin = min(-target.ctypes.data % LINE_BYTES, size)
            end = begin + (size - begin) // LINE_BYTES * LINE_BYTES
            for at in range(begin):
                target[at] = sheet[origin + at]
                sheet[origin + at] = background
            for at in range(begin, end, LINE_BYTES):
                stream_line(target, at, sheet, origin + at)
                copy_line(sheet, origin + at, blank, 0)
            for at in range(end, size):
                target[at] = sheet[origin + at]
                sheet[origin + at] = background
    fence()
