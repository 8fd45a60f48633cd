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
from candlemark.charts.vectors import LANES, gather_bits

Int32Array = npt.NDArray[np.int32]
UInt8Array = npt.NDArray[np.uint8]
UInt64Array = npt.NDArray[np.uint64]

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_0, _1, _3, _7, _64 = (np.uint64(number) for number in (0, 1, 3, 7, 64))


@njit(cache=True, nogil=True, error_model="numpy")
def set_ohlc4(
    rows: Int32Array, left: UInt64Array, unit: np.uint64, pitch: np.uint64, bits: UInt8Array
) -> None:
    """Set the bits of N pictures of bars alone.

    rows: int32[N, PLANES, W]; left: uint64[W], first columns
    bits: uint8[N, groups * pitch], packed as in `packed` with rows `pitch` bytes apart
    """
    for n in range(bits.shape[0]):
        picture = bits[n]
        picture[:] = np.uint8(0)
        opens, highs, lows, closes = rows[n, OPEN], rows[n, HIGH], rows[n, LOW], rows[n, CLOSE]
        for i in range(left.size):
            if highs[i] == MISSING:
                continue
            # Unsigned numbers spare every index the test for a negative one.
            high, low = np.uint64(highs[i]), np.uint64(lows[i])
            opened, closed = np.uint64(opens[i]), np.uint64(closes[i])
            for x in range(left[i], left[i] + unit):
                at = (opened >> _3) * pitch + x
                picture[at] |= np.uint8(_1 << (opened & _7))
                at = (closed >> _3) * pitch + x + unit + unit
                picture[at] |= np.uint8(_1 << (closed & _7))
                first = (high >> _3) * pitch + x + unit
                last = (low >> _3) * pitch + x + unit
                at = first
                while at <= last:
                    picture[at] = np.uint8(255)
                    at += pitch
                picture[first] &= np.uint8(np.uint64(255) << (high & _7))
                picture[last] &= np.uint8(np.uint64(255) >> (_7 - (low & _7)))


@njit(cache=True, nogil=True, error_model="numpy")
def set_jkx(  # noqa: PLR0917 -- kernels take positions only
    rows: Int32Array,
    lines: Int32Array,
    left: UInt64Array,
    unit: np.uint64,
    height: int,
    pitch: int,
    bits: UInt8Array,
) -> None:
    """Set the bits of N pictures of bars, volume and averages.

    lines: int32[N, K, 2, width]; the rest as in `set_ohlc4`; LANES divides pitch

    A column is a word of 64 rows, so that a bar of any length is two shifts. For pictures as
    low and as crowded as these that is faster than byte after byte.
    """
    columns = np.zeros(pitch, np.uint64)
    open_bits, bars, close_bits = np.empty((3, left.size), np.uint64)
    for n in range(bits.shape[0]):
        picture = bits[n]
        opens, highs, lows, closes = rows[n, OPEN], rows[n, HIGH], rows[n, LOW], rows[n, CLOSE]
        talls = rows[n, VOLUME]
        for begin in range(0, height, 64):
            floor = _lowest(height - begin)
            for i in range(left.size):
                bar = _lowest(lows[i] + 1 - begin) & ~_lowest(highs[i] - begin)
                bar |= floor & ~_lowest(height - talls[i] - begin)
                opened = _lowest(opens[i] + 1 - begin) & ~_lowest(opens[i] - begin)
                closed = _lowest(closes[i] + 1 - begin) & ~_lowest(closes[i] - begin)
                drawn = highs[i] != MISSING
                bars[i] = bar if drawn else _0
                open_bits[i] = opened if drawn else _0
                close_bits[i] = closed if drawn else _0
            columns[:] = _0
            for u in range(unit):
                for i in range(left.size):
                    x = left[i] + u
                    columns[x] = open_bits[i]
                    columns[x + unit] = bars[i]
                    columns[x + unit + unit] = close_bits[i]
            for k in range(lines.shape[1]):
                firsts, stops = lines[n, k, 0], lines[n, k, 1]
                for x in range(firsts.size):
                    columns[x] |= _lowest(stops[x] - begin) & ~_lowest(firsts[x] - begin)
            for row in range(begin, min(begin + 64, height), 8):
                for x in range(0, pitch, LANES):
                    at = row // 8 * pitch + x
                    gather_bits(picture, at, columns, x, np.uint64(row - begin))


@njit(cache=True, nogil=True, error_model="numpy")
def _lowest(count: int) -> np.uint64:
    """A word whose lowest `count` bits are set: none below 1, all above 63."""
    held = np.uint64(min(max(count, 0), 64))
    return _ALL >> (_64 - held) if held > _0 else _0
