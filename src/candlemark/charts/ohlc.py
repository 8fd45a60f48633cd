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

from candlemark.charts.geometry import CLOSE, HIGH, LOW, MISSING, OPEN, PLANES, VOLUME
from candlemark.charts.vectors import (
    LANES,
    LINE_BYTES,
    PAGE_BYTES,
    copy_lanes,
    copy_line,
    fence,
    gather_bits,
    spread_bits,
    stream_line,
)

Int32Array = npt.NDArray[np.int32]
UInt8Array = npt.NDArray[np.uint8]
UInt64Array = npt.NDArray[np.uint64]

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_0, _1, _3, _7, _64, _255 = (np.uint64(number) for number in (0, 1, 3, 7, 64, 255))


# In all kernels: positions are unsigned, which spares every index the test for a negative
# one; and no loop over pictures makes slices or calls, whose references are counted atomically.


@njit(cache=True, nogil=True, error_model="numpy")
def set_ohlc4(
    rows: Int32Array, left: UInt64Array, unit: np.uint64, pitch: np.uint64, bits: UInt8Array
) -> None:
    """Set the bits of N pictures of bars alone.

    rows: int32[N, PLANES, W]; left: uint64[W], first columns
    bits: uint8[N * groups * pitch], all clear: packed as in `packed`, with rows `pitch`
        bytes apart
    """
    size = np.uint64(bits.size) // np.uint64(max(rows.shape[0], 1))
    for n in range(rows.shape[0]):
        for i in range(np.uint64(left.size)):
            if rows[n, HIGH, i] == MISSING:
                continue
            high, low = np.uint64(rows[n, HIGH, i]), np.uint64(rows[n, LOW, i])
            opened, closed = np.uint64(rows[n, OPEN, i]), np.uint64(rows[n, CLOSE, i])
            for column in range(left[i], left[i] + unit):
                tick = np.uint64(n) * size + column
                at = (opened >> _3) * pitch + tick
                bits[at] |= np.uint8(_1 << (opened & _7))
                at = (closed >> _3) * pitch + tick + unit + unit
                bits[at] |= np.uint8(_1 << (closed & _7))
                top = (high >> _3) * pitch + tick + unit
                bottom = (low >> _3) * pitch + tick + unit
                at = top
                while at <= bottom:
                    bits[at] = np.uint8(255)
                    at += pitch
                bits[top] &= np.uint8(_255 << (high & _7))
                bits[bottom] &= np.uint8(_255 >> (_7 - (low & _7)))


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
    window, width = np.uint64(left.size), np.uint64(lines.shape[3])
    size = (height + 7) // 8 * pitch
    columns = np.zeros(pitch, np.uint64)
    opens, bars = np.empty(window, np.uint64), np.empty(window, np.uint64)
    closes = np.empty(window, np.uint64)
    for n in range(rows.shape[0]):
        for begin in range(0, height, 64):
            floor = _lowest(np.int32(height - begin))
            for i in range(window):
                high = np.int32(rows[n, HIGH, i] - begin)
                low = np.int32(rows[n, LOW, i] + 1 - begin)
                opened = np.int32(rows[n, OPEN, i] - begin)
                closed = np.int32(rows[n, CLOSE, i] - begin)
                volume = np.int32(height - begin - rows[n, VOLUME, i])
                bar = (_lowest(low) & ~_lowest(high)) | (floor & ~_lowest(volume))
                drawn = rows[n, HIGH, i] != MISSING
                bars[i] = bar if drawn else _0
                opens[i] = _lowest(np.int32(opened + 1)) & ~_lowest(opened) if drawn else _0
                closes[i] = _lowest(np.int32(closed + 1)) & ~_lowest(closed) if drawn else _0
            for x in range(np.uint64(pitch)):
                columns[x] = _0
            for u in range(unit):
                for i in range(window):
                    x = left[i] + u
                    columns[x] = opens[i]
                    columns[x + unit] = bars[i]
                    columns[x + unit + unit] = closes[i]
            for k in range(lines.shape[1]):
                for x in range(width):
                    first = np.int32(lines[n, k, 0, x] - begin)
                    stop = np.int32(lines[n, k, 1, x] - begin)
                    columns[x] |= _lowest(stop) & ~_lowest(first)
            for row in range(begin, min(begin + 64, height), 8):
                at = n * size + row // 8 * pitch
                for column in range(0, pitch, LANES):
                    gather_bits(bits, at + column, columns, column, np.uint64(row - begin))


@njit(cache=True, nogil=True, error_model="numpy")
def _lowest(count: np.int32) -> np.uint64:
    """A word whose lowest `count` bits are set: none below 1, all above 63."""
    held = min(max(count, np.int32(0)), np.int32(64))
    return _ALL >> np.uint64(np.int32(64 - held)) if held > 0 else _0


NO_BARS = (np.empty((0, PLANES, 0), np.int32), np.empty(0, np.uint64), np.uint64(0))
"""What `spread` takes where all bits are set already."""


@njit(cache=True, nogil=True, error_model="numpy")
def spread(  # noqa: PLR0912, PLR0915, PLR0917 -- positions only, and calls cost more
    bits: UInt8Array,
    pitch: int,
    height: int,
    paper: np.uint8,
    ink: np.uint8,
    rows: Int32Array,
    left: UInt64Array,
    unit: np.uint64,
    streamed: bool,
    out: UInt8Array,
) -> None:
    """Turn bits into N pictures, uint8[N, height * width].

    bits: uint8[N * groups * pitch], and LANES bytes more that are read and mean nothing
    pitch: bytes from one row of `bits` to the next, at least the width
    rows, left, unit: NO_BARS, or bars of N windows to be set on the way as `set_ohlc4` does;
        `bits` is clear then and has room for two pictures. The bits of the next picture are
        set between the rows of this one, while those are on their way to memory.
    streamed: past the cache

    Eight rows at a time are spread in a block and leave it in whole lines of memory; what
    does not fill a line waits in front of the block for the rows that follow, as a line that
    is streamed in two parts is written twice. The block lies in one page where it fits (500
    columns): a store across the end of a page waits for all streamed ones before it.
    """
    width, stride = out.shape[1] // height, np.uint64(pitch)
    groups = (height + 7) // 8
    wide = (width + LANES - 1) // LANES * LANES
    room = np.zeros(8 * width + LINE_BYTES + wide + LANES + PAGE_BYTES, np.uint8)
    block = room[-room.ctypes.data % PAGE_BYTES :]
    clear = np.zeros(LANES, np.uint8)
    flat = out.reshape(-1)
    count, window = out.shape[0], left.size
    if window > 0 and count > 0:
        set_ohlc4(rows[:1], left, unit, stride, bits[: groups * pitch])
    place, held, source = 0, 0, 0
    for n in range(count):
        following, done = (n + 1) % 2 * groups * pitch, np.uint64(0)
        for group in range(groups):
            for x in range(wide - LANES, -1, -LANES):
                spread_bits(block, held + x, width, bits, source + x, paper, ink)
            if window > 0:
                for x in range(0, pitch, LANES):
                    copy_lanes(bits, source + x, clear, 0)
            source += pitch
            held += min(8, height - 8 * group) * width
            short = min(-(flat.ctypes.data + place) % LINE_BYTES, held)
            if short > 0:  # only until the first whole line of `out`
                for i in range(short):
                    flat[place + i] = block[i]
                for i in range(short, held):
                    block[i - short] = block[i]
                place += short
                held -= short
            whole = held // LINE_BYTES * LINE_BYTES
            if streamed:
                for i in range(0, whole, LINE_BYTES):
                    stream_line(flat, place + i, block, i)
            else:
                for i in range(0, whole, LINE_BYTES):
                    copy_line(flat, place + i, block, i)
            copy_line(block, 0, block, whole)
            place += whole
            held -= whole
            if n + 1 == count:
                continue
            # As in `set_ohlc4`, of which a call would wait for the stores just streamed.
            until = np.uint64(window * (group + 1) // groups)
            for i in range(done, until):
                if rows[n + 1, HIGH, i] == MISSING:
                    continue
                high, low = np.uint64(rows[n + 1, HIGH, i]), np.uint64(rows[n + 1, LOW, i])
                opened, closed = np.uint64(rows[n + 1, OPEN, i]), np.uint64(rows[n + 1, CLOSE, i])
                for column in range(left[i], left[i] + unit):
                    tick = np.uint64(following) + column
                    at = (opened >> _3) * stride + tick
                    bits[at] |= np.uint8(_1 << (opened & _7))
                    at = (closed >> _3) * stride + tick + unit + unit
                    bits[at] |= np.uint8(_1 << (closed & _7))
                    top = (high >> _3) * stride + tick + unit
                    bottom = (low >> _3) * stride + tick + unit
                    at = top
                    while at <= bottom:
                        bits[at] = np.uint8(255)
                        at += stride
                    bits[top] &= np.uint8(_255 << (high & _7))
                    bits[bottom] &= np.uint8(_255 >> (_7 - (low & _7)))
            done = until
        if window > 0:
            source = following
    for i in range(held):
        flat[place + i] = block[i]
    fence()
