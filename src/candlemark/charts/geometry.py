"""From prices to rows: the one place where numbers become pixels.

Every style shares these rules. A reader can re-implement them from this text.

**Slots.** Slot i of W slots in a picture `width` columns wide begins at column
floor(i * width / W). All slots are drawn alike, in their first floor(width / W) columns;
columns left over by the division stay background.

**Scale.** `high` and `low` are the highest high and the lowest low of the candles drawn, so
a picture depends on nothing but its own candles (and, for averages, the closes before it).
The price panel has P rows, row 0 on top, and a price p lies in row

    floor((high - p) / (high - low) * (P - 1) + 1/2 - 2^-20)      in IEEE double, in this order

so the high is in row 0 and the low in row P - 1. A price half-way between two rows goes to
the upper one, and so does one that is a millionth of a row below: prices in round ticks sit on
such halves, and the same chart in another unit must not flicker there. Subtraction, division
and floor are monotone, so a higher price is never drawn lower. Multiplying all prices by a
power of two changes no pixel. Where high - low overflows, all prices are first divided by 4.

**Flat.** Where high equals low, everything lies in row floor((P - 1) / 2).

**Volume.** In a panel of V rows a volume v > 0 is max(1, floor(v / largest * V + 1/2 - 2^-20))
rows tall, counted from the bottom; no volume is no bar.

**Lines.** An average is drawn in its slot's centre column and joined to the next slot's
centre where both slots hold a candle. With rows y0, y1 at columns x0 < x1, the line at column
x lies in row y0 + floor((2 (x - x0) (y1 - y0) + (x1 - x0)) / (2 (x1 - x0))) and colours
every row between the one before (left out) and its own (included); at x0 of a line's start
only its own. A line `thick` rows tall adds thick - 1 rows below. Averages may lie outside the
panel: they are held at most P rows outside it, and what is outside is not drawn.

**Missing.** A slot without a candle, or not visible, draws nothing. Nor does one whose numbers
break the rules of a `CandleSeries` (finite, low <= open, close <= high, 0 <= volume): slots can
be made by hand, and a row computed from NaN could lie outside the picture's memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

OPEN, HIGH, LOW, CLOSE, VOLUME, DIRECTION = range(6)
"""Planes of `rows`: four rows, the volume bar's height, and 0, 1, 2 for down, flat, up."""

PLANES = 6
MISSING = -1
GAP = -(2**30)
"""The row of an average at a slot that is not drawn."""

HALF = 0.5 - 2.0**-20


@njit(cache=True, nogil=True, error_model="numpy")
def measure(  # noqa: PLR0912, PLR0915, PLR0917 -- positions only, and calls cost more
    open_: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    means: FloatArray,
    whole: bool,
    starts: Int64Array,
    visible: npt.NDArray[np.bool_],
    price_rows: int,
    volume_rows: int,
    rows: Int32Array,
    average_rows: Int32Array,
) -> None:
    """Write rows of N windows to `rows` and rows of their averages to `average_rows`.

    open_ ... volume: float64[S]; visible: bool[N, W] or bool[0, 0]
    means: float64[1, K, S], the averages at all slots, if `whole`; else float64[N, K, W]
    rows: int32[N, PLANES, W], plane HIGH is MISSING where nothing is drawn; the other planes
        are meaningless there
    average_rows: int32[N, K, W], within -price_rows .. 2 * price_rows; GAP where the slot is
        not drawn
    """
    window = np.uint64(rows.shape[2])
    masked = visible.shape[0] > 0
    last = float(price_rows - 1)
    lowest, highest = -float(price_rows), 2.0 * price_rows
    middle = np.int32((price_rows - 1) // 2)
    drawn = np.empty(window, np.bool_)
    # One plain loop a quantity: each becomes a handful of vector instructions. Unsigned
    # positions spare the test for negative ones, and there is no slice and no call in a
    # loop: references to arrays are counted atomically, which costs as much as the loop.
    for n in range(starts.size):
        first = np.uint64(starts[n])
        for i in range(window):
            s = first + i
            drawn[i] = (
                (low[s] <= open_[s])
                & (open_[s] <= high[s])
                & (low[s] <= close[s])
                & (close[s] <= high[s])
                & (abs(low[s]) < np.inf)
                & (abs(high[s]) < np.inf)
                & (volume[s] >= 0.0)
                & (volume[s] < np.inf)
            )
        if masked:
            for i in range(window):
                drawn[i] &= visible[n, i]
        top, bottom, largest = -np.inf, np.inf, 0.0
        for i in range(window):
            if drawn[i]:
                top = max(top, high[first + i])
                bottom = min(bottom, low[first + i])
                largest = max(largest, volume[first + i])
        scale = 1.0 if top - bottom < np.inf else 0.25
        top *= scale
        span = top - bottom * scale
        flat = span == 0.0
        if flat:
            for i in range(window):
                rows[n, OPEN, i] = middle
                rows[n, LOW, i] = middle
                rows[n, CLOSE, i] = middle
                rows[n, HIGH, i] = middle if drawn[i] else MISSING
        else:
            for i in range(window):
                rows[n, OPEN, i] = np.int32((top - open_[first + i] * scale) / span * last + HALF)
            for i in range(window):
                rows[n, LOW, i] = np.int32((top - low[first + i] * scale) / span * last + HALF)
            for i in range(window):
                rows[n, CLOSE, i] = np.int32((top - close[first + i] * scale) / span * last + HALF)
            for i in range(window):
                row = np.int32((top - high[first + i] * scale) / span * last + HALF)
                rows[n, HIGH, i] = row if drawn[i] else np.int32(MISSING)
        for i in range(window):
            s = first + i
            up, down = np.int32(close[s] > open_[s]), np.int32(close[s] < open_[s])
            rows[n, DIRECTION, i] = np.int32(1) + up - down
        if volume_rows > 0 and largest > 0.0:
            for i in range(window):
                tall = np.int32(volume[first + i] / largest * volume_rows + HALF)
                tall = max(np.int32(1), tall)
                rows[n, VOLUME, i] = tall if volume[first + i] > 0.0 else np.int32(0)
        else:
            for i in range(window):
                rows[n, VOLUME, i] = 0
        own, at = (0, first) if whole else (n, np.uint64(0))
        for k in range(means.shape[1]):
            if flat:
                for i in range(window):
                    gap = top - means[own, k, at + i] * scale
                    place = float(middle) if gap == 0.0 else gap * np.inf
                    row = np.int32(min(max(place, lowest), highest))
                    average_rows[n, k, i] = row if drawn[i] else np.int32(GAP)
            else:
                for i in range(window):
                    gap = top - means[own, k, at + i] * scale
                    place = np.floor(gap / span * last + HALF)
                    row = np.int32(min(max(place, lowest), highest))
                    average_rows[n, k, i] = row if drawn[i] else np.int32(GAP)


@njit(cache=True, nogil=True, error_model="numpy")
def trace(  # noqa: PLR0917 -- kernels take positions only
    average_rows: Int32Array,
    centres: Int32Array,
    ends: Int32Array,
    price_rows: int,
    thick: int,
    lines: Int32Array,
) -> None:
    """Write what each average paints in each column to `lines`, int32[N, K, 2, width].

    centres: int32[W], the centre column of each slot
    ends: int32[width], from `line_ends`
    lines[n, k, 0, x] is the first row painted, lines[n, k, 1, x] the one after the last
    """
    begin = np.uint64(centres[0])
    count = np.uint64(centres[-1] + 1) - begin
    # For each column of the lines: the slots that it lies between, twice the distance from
    # the left one, the distance between both and a quarter, and the inverse of twice that.
    left, right = np.empty(count, np.uint64), np.empty(count, np.uint64)
    since, half, inverse = np.empty(count), np.empty(count), np.empty(count)
    own_centre = np.empty(count, np.int32)
    for x in range(count):
        slot = ends[begin + x]
        before = max(slot - 1, 0)
        column = np.int64(begin + x)
        distance = max(centres[slot] - centres[before], 1)
        left[x], right[x] = before, slot
        since[x] = 2 * (column - centres[before])
        half[x] = distance + 0.25
        inverse[x] = 1.0 / (2 * distance)
        own_centre[x] = column == centres[slot]
    starts, goals = np.empty(count, np.int32), np.empty(count, np.int32)
    level = np.empty(count + np.uint64(1), np.int32)
    one = np.uint64(1)
    # Sums of int32 are int64 in numba; cast back, twice as many fit a vector.
    lines[:] = np.int32(0)
    for n in range(lines.shape[0]):
        for k in range(lines.shape[1]):
            for x in range(count):
                starts[x] = average_rows[n, k, left[x]]
                goals[x] = average_rows[n, k, right[x]]
            for x in range(count):
                # Floor of a quotient of whole numbers below 2^50: the quarter, less than the
                # distance to the next one, outweighs what rounding does to the product.
                rise = np.float64(np.int32(goals[x] - starts[x]))
                steps = np.floor((since[x] * rise + half[x]) * inverse[x])
                level[x + one] = np.int32(starts[x] + np.int32(steps))
            level[0] = level[1]
            for x in range(count):
                row, joined = level[x + one], starts[x] != GAP
                previous = level[x] if joined else row
                first = max(min(row, np.int32(previous + 1)), np.int32(0))
                stop = np.int32(max(row, np.int32(previous - 1)) + thick)
                stop = min(stop, np.int32(price_rows))
                painted = (goals[x] != GAP) & (joined | (own_centre[x] != 0)) & (first < stop)
                lines[n, k, 0, begin + x] = first if painted else np.int32(0)
                lines[n, k, 1, begin + x] = stop if painted else np.int32(0)


def line_ends(centres: Int32Array, width: int) -> Int32Array:
    """int32[width], the slot at whose centre the line through each column ends."""
    columns = np.arange(width)
    slots = np.minimum(np.searchsorted(centres, columns), len(centres) - 1)
    return slots.astype(np.int32)
