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
HALF = 0.5 - 2.0**-20


@njit(cache=True, nogil=True, error_model="numpy")
def measure(  # noqa: PLR0912, PLR0917 -- kernels take positions only, and calls cost more
    open_: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    means: FloatArray,
    means_at: Int64Array,
    starts: Int64Array,
    visible: npt.NDArray[np.bool_],
    price_rows: int,
    volume_rows: int,
    rows: Int32Array,
    average_rows: Int32Array,
) -> None:
    """Write rows of N windows to `rows` and rows of their averages to `average_rows`.

    open_ ... volume: float64[S]; visible: bool[N, W] or bool[0, 0]
    means: float64[K, M], the averages of window n from column means_at[n] on
    rows: int32[N, PLANES, W], plane HIGH is MISSING where nothing is drawn; the other planes
        are meaningless there
    average_rows: int32[N, K, W], within -price_rows .. 2 * price_rows; 0 where the slot is
        not drawn
    """
    window = rows.shape[2]
    masked = visible.shape[0] > 0
    last = float(price_rows - 1)
    lowest, highest = -float(price_rows), 2.0 * price_rows
    middle = np.int32((price_rows - 1) // 2)
    drawn = np.empty(window, np.bool_)
    # One plain loop a quantity: each becomes a handful of vector instructions.
    for n in range(starts.size):
        first, until = starts[n], starts[n] + window
        opens, highs, lows = open_[first:until], high[first:until], low[first:until]
        closes, volumes = close[first:until], volume[first:until]
        for i in range(window):
            drawn[i] = (
                (lows[i] <= opens[i])
                & (opens[i] <= highs[i])
                & (lows[i] <= closes[i])
                & (closes[i] <= highs[i])
                & (abs(lows[i]) < np.inf)
                & (abs(highs[i]) < np.inf)
                & (volumes[i] >= 0.0)
                & (volumes[i] < np.inf)
            )
        if masked:
            for i in range(window):
                drawn[i] &= visible[n, i]
        top, bottom, largest = -np.inf, np.inf, 0.0
        for i in range(window):
            if drawn[i]:
                top = max(top, highs[i])
                bottom = min(bottom, lows[i])
                largest = max(largest, volumes[i])
        scale = 1.0 if top - bottom < np.inf else 0.25
        top *= scale
        span = top - bottom * scale
        flat = span == 0.0
        if flat:
            rows[n, OPEN:VOLUME] = middle
        else:
            _place(opens, scale, top, span, last, rows[n, OPEN])
            _place(highs, scale, top, span, last, rows[n, HIGH])
            _place(lows, scale, top, span, last, rows[n, LOW])
            _place(closes, scale, top, span, last, rows[n, CLOSE])
        marks, directions = rows[n, HIGH], rows[n, DIRECTION]
        for i in range(window):
            marks[i] = marks[i] if drawn[i] else np.int32(MISSING)
            directions[i] = (
                np.int32(1) + np.int32(closes[i] > opens[i]) - np.int32(closes[i] < opens[i])
            )
        if volume_rows > 0 and largest > 0.0:
            talls = rows[n, VOLUME]
            for i in range(window):
                tall = max(np.int32(1), np.int32(volumes[i] / largest * volume_rows + HALF))
                talls[i] = tall if volumes[i] > 0.0 else np.int32(0)
        else:
            rows[n, VOLUME] = np.int32(0)
        for k in range(means.shape[0]):
            mean, average = means[k, means_at[n] : means_at[n] + window], average_rows[n, k]
            for i in range(window):
                gap = top - mean[i] * scale
                if flat:
                    place = float(middle) if gap == 0.0 else gap * np.inf
                else:
                    place = np.floor(gap / span * last + HALF)
                held = np.int32(min(max(place, lowest), highest))
                average[i] = held if drawn[i] else np.int32(0)


@njit(cache=True, nogil=True, error_model="numpy")
def _place(  # noqa: PLR0917 -- as above
    prices: FloatArray, scale: float, top: float, span: float, last: float, rows: Int32Array
) -> None:
    """Write the rows of prices within top - span .. top."""
    for i in range(rows.size):
        rows[i] = np.int32((top - prices[i] * scale) / span * last + HALF)


@njit(cache=True, nogil=True, error_model="numpy")
def trace(  # noqa: PLR0917 -- kernels take positions only
    rows: Int32Array,
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
    begin, end = centres[0], centres[-1] + 1
    count = end - begin
    # For each column of the lines: the slots that it lies between, twice the distance from
    # the left one, and twice the distance between both. Unsigned numbers and loops from 0
    # spare every index the test for a negative one, without which nothing is vectorized.
    left, right = np.empty(count, np.uint64), np.empty(count, np.uint64)
    since, whole = np.empty(count), np.empty(count)
    own_centre = np.empty(count, np.int32)
    for x in range(count):
        slot = ends[begin + x]
        before = max(slot - 1, 0)
        left[x], right[x] = before, slot
        since[x] = 2 * (begin + x - centres[before])
        whole[x] = 2 * max(centres[slot] - centres[before], 1)
        own_centre[x] = begin + x == centres[slot]
    starts, goals = np.empty(count, np.int32), np.empty(count, np.int32)
    joined, painted = np.empty(count, np.int32), np.empty(count, np.int32)
    levels = np.empty(count + 1, np.int32)
    level, previous = levels[1:], levels[:-1]
    for n in range(rows.shape[0]):
        marks = rows[n, HIGH]
        for x in range(count):
            joined[x] = marks[left[x]] != MISSING
            painted[x] = marks[right[x]] != MISSING
        for x in range(count):
            painted[x] &= joined[x] | own_centre[x]
        for k in range(average_rows.shape[1]):
            average = average_rows[n, k]
            lines[n, k] = np.int32(0)
            firsts, stops = lines[n, k, 0, begin:end], lines[n, k, 1, begin:end]
            for x in range(count):
                starts[x] = average[left[x]]
                goals[x] = average[right[x]]
            for x in range(count):
                # Whole numbers below 2^53, so the floor of their quotient is exact.
                rise = np.float64(goals[x] - starts[x])
                steps = np.floor((since[x] * rise + 0.5 * whole[x]) / whole[x])
                level[x] = starts[x] + np.int32(steps)
            levels[0] = level[0]
            for x in range(count):
                row = level[x]
                before = previous[x] if joined[x] != 0 else row
                first = max(min(row, before + np.int32(1)), np.int32(0))
                stop = min(max(row, before - np.int32(1)) + np.int32(thick), np.int32(price_rows))
                seen = (painted[x] != 0) & (first < stop)
                firsts[x] = first if seen else np.int32(0)
                stops[x] = stop if seen else np.int32(0)


def line_ends(centres: Int32Array, width: int) -> Int32Array:
    """int32[width], the slot at whose centre the line through each column ends."""
    columns = np.arange(width)
    slots = np.minimum(np.searchsorted(centres, columns), len(centres) - 1)
    return slots.astype(np.int32)
