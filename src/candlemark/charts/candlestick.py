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

Int32Array = npt.NDArray[np.int32]
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


def colors(palette: Palette, candle: Candle) -> npt.NDArray[np.uint8]:
    """uint8[13, 3]: bodies, wicks, volumes (down, flat, up each), then four averages."""
    bodies = [palette.down, palette.flat, palette.up]
    pale = [tuple((level + palette.background) // 2 for level in color) for color in bodies]
    wicks = pale if candle.pale_wick else bodies
    return np.array([*bodies, *wicks, *pale, *palette.averages], dtype=np.uint8)


@njit(cache=True, nogil=True, error_model="numpy")
def paint_candles(  # noqa: PLR0917 -- kernels take positions only
    rows: Int32Array,
    lines: Int32Array,
    left: Int32Array,
    body: int,
    wick: int,
    height: int,
    background: int,
    colors: npt.NDArray[np.uint8],
    out: npt.NDArray[np.uint8],
) -> None:
    """Paint N pictures.

    rows: int32[N, PLANES, W]; lines: int32[N, K, width, 2]; left: int32[W], first body columns
    colors: uint8[13, 3] as from `colors`; out: uint8[N, height * width * 3]
    """
    pitch = out.shape[1] // height
    inset = 3 * ((body - wick) // 2)
    for n in range(out.shape[0]):
        picture = out[n]
        picture[:] = background
        for i in range(left.size):
            high = rows[n, HIGH, i]
            if high == MISSING:
                continue
            direction = rows[n, DIRECTION, i]
            x = 3 * left[i]
            opened, closed = rows[n, OPEN, i], rows[n, CLOSE, i]
            top, bottom = min(opened, closed), max(opened, closed)
            tall = rows[n, VOLUME, i]
            for part in range(3):
                if part == 0:
                    first, count, start, wide = high, rows[n, LOW, i] - high + 1, x + inset, wick
                elif part == 1:
                    first, count, start, wide = top, bottom - top + 1, x, body
                else:
                    first, count, start, wide = height - tall, tall, x, body
                color = colors[(1 - part) * 3 + direction if part < 2 else 6 + direction]
                red, green, blue = color[0], color[1], color[2]
                at = first * pitch + start
                for _ in range(count):
                    for c in range(at, at + 3 * wide, 3):
                        picture[c] = red
                        picture[c + 1] = green
                        picture[c + 2] = blue
                    at += pitch
        for k in range(lines.shape[1]):
            red, green, blue = colors[9 + k, 0], colors[9 + k, 1], colors[9 + k, 2]
            for column in range(lines.shape[2]):
                first = lines[n, k, column, 0]
                at = first * pitch + 3 * column
                for _ in range(lines[n, k, column, 1] - first + 1):
                    picture[at] = red
                    picture[at + 1] = green
                    picture[at + 2] = blue
                    at += pitch
