"""Bars in two levels: `ohlc4` and `jkx`, uint8 (H, W), background and ink only.

Rows come from `geometry`, whose text is the first half of this specification. The second:

**Bars.** A slot is made of units u = floor(floor(width / W) / pixels) columns wide, with 4
pixels a slot for `ohlc4` and 3 for `jkx`; at the default widths u is 1. In the slot that
begins at column x

    columns x      .. x +  u - 1    the open tick: ink in the open's row
    columns x +  u .. x + 2u - 1    the bar: ink from the high's row to the low's row
    columns x + 2u .. x + 3u - 1    the close tick: ink in the close's row

and the rest of the slot, for `ohlc4` at least u columns, is background. Ticks are one row tall.

**ohlc4.** Ink 0 on background 255 (dark theme: 255 on 0). All H rows are the price panel;
no volume, no averages.

**jkx.** Ink 255 on background 0 (light theme: 0 on 255). With volume the panel of
floor(H / 5) rows lies at the bottom, one background row above it, and the price panel has
the rest: 25, 51 and 76 rows of 32, 64 and 96. Volume bars stand in the bar's columns. The
centre column of averages is x + u + floor((u - 1) / 2); lines are one row thick.

After Jiang, Kelly and Xiu, "(Re-)Imag(in)ing Price Trends", The Journal of Finance 78 (2023).
There the scale may include the average; here it never does, so that candles are drawn alike
whatever came before them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from candlemark.charts.geometry import CLOSE, HIGH, LOW, MISSING, OPEN, VOLUME

Int32Array = npt.NDArray[np.int32]


@njit(cache=True, nogil=True, error_model="numpy")
def paint_bars(  # noqa: PLR0917 -- kernels take positions only
    rows: Int32Array,
    lines: Int32Array,
    left: Int32Array,
    unit: int,
    height: int,
    background: int,
    ink: int,
    out: npt.NDArray[np.uint8],
) -> None:
    """Paint N pictures.

    rows: int32[N, PLANES, W]; lines: int32[N, K, width, 2]; left: int32[W], first columns
    out: uint8[N, height * width]
    """
    width = out.shape[1] // height
    for n in range(out.shape[0]):
        picture = out[n]
        picture[:] = background
        for i in range(left.size):
            top = rows[n, HIGH, i]
            if top == MISSING:
                continue
            x = left[i]
            opened = rows[n, OPEN, i] * width + x
            closed = rows[n, CLOSE, i] * width + x + 2 * unit
            for u in range(unit):
                picture[opened + u] = ink
                picture[closed + u] = ink
                at = top * width + x + unit + u
                for _ in range(rows[n, LOW, i] - top + 1):
                    picture[at] = ink
                    at += width
                at = (height - 1) * width + x + unit + u
                for _ in range(rows[n, VOLUME, i]):
                    picture[at] = ink
                    at -= width
        for k in range(lines.shape[1]):
            for x in range(width):
                first = lines[n, k, x, 0]
                at = first * width + x
                for _ in range(lines[n, k, x, 1] - first + 1):
                    picture[at] = ink
                    at += width
