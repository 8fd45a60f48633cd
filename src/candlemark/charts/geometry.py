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

OPEN, HIGH, LOW, CLOSE, VOLUME, DIRECTION = range(6)
"""Planes of `rows`: four rows, the volume bar's height, and 0, 1, 2 for down, flat, up."""

PLANES = 6
MISSING = -1
HALF = 0.5 - 2.0**-20


@njit(cache=True, nogil=True, error_model="numpy")
def measure(  # noqa: PLR0917 -- kernels take positions only
    open_: FloatArray,
    high: FloatArray,
    low: FloatArray,
    close: FloatArray,
    volume: FloatArray,
    means: FloatArray,
    starts: npt.NDArray[np.int64],
    visible: npt.NDArray[np.bool_],
    price_rows: int,
    volume_rows: int,
    rows: Int32Array,
    average_rows: Int32Array,
) -> None:
    """Write rows of N windows to `rows` and rows of their averages to `average_rows`.

    open_ ... volume: float64[S]; means: float64[N, K, W]; visible: bool[N, W] or bool[0, 0]
    rows: int32[N, PLANES, W], plane HIGH is MISSING where nothing is drawn
    average_rows: int32[N, K, W], within -price_rows .. 2 * price_rows; read only where the
        slot is drawn
    """
    window = rows.shape[2]
    masked = visible.shape[0] > 0
    last = float(price_rows - 1)
    for n in range(starts.size):
        first = starts[n]
        top, bottom, largest = -np.inf, np.inf, 0.0
        for i in range(window):
            s = first + i
            whole = (
                (low[s] <= open_[s])
                & (open_[s] <= high[s])
                & (low[s] <= close[s])
                & (close[s] <= high[s])
                & (abs(low[s]) < np.inf)
                & (abs(high[s]) < np.inf)
                & (volume[s] >= 0.0)
                & (volume[s] < np.inf)
            )
            if whole and not (masked and not visible[n, i]):
                rows[n, HIGH, i] = 0
                top = max(top, high[s])
                bottom = min(bottom, low[s])
                largest = max(largest, volume[s])
            else:
                rows[n, HIGH, i] = MISSING
        scale = 1.0 if top - bottom < np.inf else 0.25
        top *= scale
        span = top - bottom * scale
        flat = span == 0.0
        middle = (price_rows - 1) // 2
        for i in range(window):
            if rows[n, HIGH, i] == MISSING:
                continue
            s = first + i
            if flat:
                rows[n, OPEN, i] = middle
                rows[n, HIGH, i] = middle
                rows[n, LOW, i] = middle
                rows[n, CLOSE, i] = middle
            else:
                rows[n, OPEN, i] = int((top - open_[s] * scale) / span * last + HALF)
                rows[n, HIGH, i] = int((top - high[s] * scale) / span * last + HALF)
                rows[n, LOW, i] = int((top - low[s] * scale) / span * last + HALF)
                rows[n, CLOSE, i] = int((top - close[s] * scale) / span * last + HALF)
            rows[n, DIRECTION, i] = 1 + int(close[s] > open_[s]) - int(close[s] < open_[s])
            tall = 0
            if volume_rows > 0 and volume[s] > 0.0:
                tall = max(1, int(volume[s] / largest * volume_rows + HALF))
            rows[n, VOLUME, i] = tall
            for k in range(means.shape[1]):
                gap = top - means[n, k, i] * scale
                if flat:
                    place = float(middle) if gap == 0.0 else gap * np.inf
                else:
                    place = np.floor(gap / span * last + HALF)
                place = min(max(place, -float(price_rows)), 2.0 * price_rows)
                average_rows[n, k, i] = int(place)


@njit(cache=True, nogil=True, error_model="numpy")
def trace(  # noqa: PLR0917 -- kernels take positions only
    rows: Int32Array,
    average_rows: Int32Array,
    centres: Int32Array,
    price_rows: int,
    thick: int,
    lines: Int32Array,
) -> None:
    """Write what each average paints in each column to `lines`, int32[N, K, width, 2].

    centres: int32[W], the centre column of each slot
    lines[n, k, x] is the first and the last row painted; first > last paints nothing
    """
    window = centres.size
    width = lines.shape[2]
    for n in range(rows.shape[0]):
        for k in range(average_rows.shape[1]):
            for x in range(width):
                lines[n, k, x, 0] = 1
                lines[n, k, x, 1] = 0
            joined = False
            row = 0
            for i in range(window):
                if rows[n, HIGH, i] == MISSING:
                    joined = False
                    continue
                target = average_rows[n, k, i]
                x = centres[i - 1] + 1 if joined else centres[i]
                distance = centres[i] - x + 1
                rise = target - row if joined else 0
                # The formula of the docstring without a division a column: the fraction of a
                # row stays in [0, 2 * distance) while whole rows move on.
                whole = int(np.floor(rise / distance))
                step = 2 * (rise - whole * distance)
                fraction = distance
                previous = row if joined else target
                row = previous
                while x <= centres[i]:
                    row += whole
                    fraction += step
                    if fraction >= 2 * distance:
                        fraction -= 2 * distance
                        row += 1
                    first, last = row, row
                    if previous < row:
                        first = previous + 1
                    elif previous > row:
                        last = previous - 1
                    lines[n, k, x, 0] = max(first, 0)
                    lines[n, k, x, 1] = min(last + thick - 1, price_rows - 1)
                    previous = row
                    x += 1
                joined = True
