"""A small chart of candles in text, for a look at a series in a terminal.

    for line in draw(series, width=60, height=12):
        ...

Wicks are thin lines, rising bodies are full blocks and falling bodies are shaded, so the
chart reads without colour. Slots are grouped evenly when there are more than columns; a
column whose slots are all missing stays blank.
"""

from __future__ import annotations

import numpy as np

from candlemark.candles.series import CandleSeries, FloatArray, format_time

WICK = "│"
RISING = "█"
FALLING = "░"


def draw(series: CandleSeries, *, width: int = 72, height: int = 12) -> list[str]:
    """`height` lines of candles with a price axis, and one line with the time range.

    width: columns for candles, at least 1; height: rows, at least 2. A market that never
    moved is one line in the middle.
    """
    columns = group(series, width)
    low, high = float(np.nanmin(columns[2])), float(np.nanmax(columns[1]))
    span = high - low
    count = columns.shape[1]

    def row_of(price: FloatArray) -> FloatArray:
        share = (high - price) / span if span > 0 else np.full_like(price, 0.5)
        return np.clip(np.floor(share * height), 0, height - 1)

    open_, top, bottom, close = (row_of(column) for column in columns)
    cells = np.full((height, count), " ")
    for at in np.flatnonzero(~np.isnan(columns[3])):
        cells[int(top[at]) : int(bottom[at]) + 1, at] = WICK
        first, last = sorted((int(open_[at]), int(close[at])))
        cells[first : last + 1, at] = RISING if columns[3][at] >= columns[0][at] else FALLING
    labels = {0: f"{high:,.6g}", height - 1: f"{low:,.6g}"}
    margin = max(len(label) for label in labels.values())
    lines = [f"{labels.get(row, ''):>{margin}} ┤{''.join(cells[row])}" for row in range(height)]
    start = format_time(int(series.open_time_ms[0]))
    end = format_time(int(series.open_time_ms[-1]))
    gap = max(1, count - len(start) - len(end))
    return [*lines, f"{'':>{margin}}  {start}{' ' * gap}{end}"]


def group(series: CandleSeries, width: int) -> FloatArray:
    """float64[4, C] open, high, low, close of C <= width groups of slots, NaN where empty."""
    slots = series.slots
    per_column = max(1, -(-len(slots) // width))
    count = -(-len(slots) // per_column)
    grouped = np.full((4, count), np.nan)
    for at in range(count):
        part = slice(at * per_column, (at + 1) * per_column)
        present = np.flatnonzero(slots.present[part])
        if len(present) == 0:
            continue
        grouped[0, at] = slots.open[part][present[0]]
        grouped[1, at] = slots.high[part][present].max()
        grouped[2, at] = slots.low[part][present].min()
        grouped[3, at] = slots.close[part][present[-1]]
    return grouped
