"""Draw the same windows with mplfinance and with candlemark, and compare the rows of each candle.

python docs/make_mplfinance.py            # a seeded random walk; writes the picture of charts.md
python docs/make_mplfinance.py SOURCE     # a file or symbol, as `load_candles` takes it; no picture

Needs `pip install 'candlemark[perf]'`.

mplfinance draws in units of a figure, so its figure is one panel of exactly the picture's pixels,
without axes and without smoothing, and its limits say which price lies where. Agg, which rasters
it, moves a stroke one pixel wide onto whole pixels: what lies y rows below the upper edge goes to
row floor(y + 1/2). There are two ways to lay prices on P rows:

    `SNAPPED`   high at y = 0 and low at y = P - 1, which Agg draws in the first row and the last
    `CENTRED`   high at y = 1/2 and low at y = P - 1/2, the middle of those rows; Agg then draws
                about every second price one row lower
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from make_charts import FOLDER, walk
from PIL import Image

from candlemark import load_candles
from candlemark.candles.series import Slots
from candlemark.charts.render import render_windows
from candlemark.errors import ChartError

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PICTURE = FOLDER / "mplfinance.png"
SIDE = 224
WINDOWS = (20, 30, 40)
"""Slots of a picture: both draw wicks of one pixel there, and bodies of three or more."""

SHOWN = 30
SHOWN_START = 130
ZOOM = 2
SNAPPED, CENTRED = 0.0, 0.5
"""y of the high, in rows below the upper edge."""

BODY, CANDLE = 2, 1
"""How many of the middle columns have ink in a row of the body, and of the body or the wick."""

NOTHING = -1
PAPER, OURS, THEIRS, BOTH = (255, 255, 255), (41, 98, 255), (255, 128, 0), (205, 205, 205)
"""Colours of the third part of the picture: ink of none, of one alone, of both."""


def draw_ours(slots: Slots, start: int, window: int) -> UInt8Array:
    """uint8 (SIDE, SIDE, 3), drawn by candlemark."""
    picture: UInt8Array = render_windows(
        slots, "candlestick", [start], window=window, height=SIDE, width=SIDE
    )[0]
    return picture


def draw_theirs(slots: Slots, start: int, window: int, high_at: float = SNAPPED) -> UInt8Array:
    """uint8 (SIDE, SIDE, 3), drawn by mplfinance in its style `charles`.

    high_at: `SNAPPED` or `CENTRED`
    """
    import matplotlib as mpl
    import mplfinance
    import pandas as pd
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    at = np.arange(start, start + window)
    frame = pd.DataFrame(
        {name.title(): getattr(slots, name)[at] for name in ("open", "high", "low", "close")},
        index=pd.to_datetime(slots.start_ms + at * slots.interval_ms, unit="ms"),
    )
    high, low = float(frame["High"].max()), float(frame["Low"].min())
    row = (high - low) / (SIDE - 1)
    points_per_inch = 72  # at as many pixels an inch a stroke of one point is one pixel wide
    with mpl.rc_context({"lines.antialiased": False, "patch.antialiased": False}):
        size = (SIDE / points_per_inch, SIDE / points_per_inch)
        figure = Figure(figsize=size, dpi=points_per_inch)
        canvas: Any = FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        mplfinance.plot(
            frame,
            type="candle",
            style="charles",
            ax=axes,
            update_width_config={"candle_linewidth": 1.0},  # as it has at 30 candles by itself
        )
        axes.set_axis_off()
        axes.set_xlim(-0.5, window - 0.5)
        axes.set_ylim(low - (1 - high_at) * row, high + high_at * row)
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def ink(picture: UInt8Array) -> BoolArray:
    """Where a picture is not white: bool (H, W) from uint8 (H, W, 3)."""
    inked: BoolArray = (picture != 255).any(axis=-1)
    return inked


def rows_of(picture: UInt8Array, window: int, part: int = BODY) -> IntArray:
    """int64 (window, 2): first and last row of each slot's `BODY` or `CANDLE`; NOTHING if blank.

    Only the three columns in the middle of a slot are looked at. A wick is one pixel wide, so
    a row with ink in two of them or more is a row of the body.
    """
    inked = ink(picture)
    found = np.full((window, 2), NOTHING, dtype=np.int64)
    for slot in range(window):
        middle = (2 * slot + 1) * picture.shape[1] // (2 * window)
        rows = np.flatnonzero(inked[:, middle - 1 : middle + 2].sum(axis=1) >= part)
        if rows.size:
            found[slot] = rows[0], rows[-1]
    return found


def compare(
    slots: Slots, window: int, high_at: float = SNAPPED, part: int = BODY, count: int = 12
) -> IntArray:
    """How many rows lower mplfinance draws tops and bottoms, int64 [2 x candles drawn].

    count: windows, spread evenly over the slots

    Raises ChartError where one of both draws other candles than there are.
    """
    differences = []
    for start in np.linspace(0, len(slots) - window, count).astype(int):
        ours = rows_of(draw_ours(slots, start, window), window, part)
        theirs = rows_of(draw_theirs(slots, start, window, high_at), window, part)
        present = slots.present[start : start + window]
        for name, rows in (("candlemark", ours), ("mplfinance", theirs)):
            if ((rows[:, 0] != NOTHING) != present).any():
                raise ChartError(f"{name} drew other candles than there are from slot {start} on")
        differences.append((theirs - ours)[present].ravel())
    return np.concatenate(differences)


def side_by_side(ours: UInt8Array, theirs: UInt8Array) -> UInt8Array:
    """Ours, theirs and their difference, with lines between them, each pixel enlarged."""
    difference = np.array([PAPER, OURS, THEIRS, BOTH], dtype=np.uint8)[ink(ours) + 2 * ink(theirs)]
    between = np.full((SIDE, 13, 3), 255, dtype=np.uint8)
    between[:, 6] = BOTH
    picture = np.concatenate([ours, between, theirs, between, difference], axis=1)
    return picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)


def summary(differences: IntArray) -> str:
    """What was compared and how far it is apart, in one line."""
    values, counts = np.unique(differences, return_counts=True)
    apart = ", ".join(f"{count} by {value}" for value, count in zip(values, counts, strict=True))
    return f"{np.mean(differences == 0):6.1%} of {differences.size} rows the same ({apart})"


def main() -> None:
    """Compare windows of the walk or the source, and draw the picture from the walk."""
    if len(sys.argv) > 2:
        sys.exit("usage: python docs/make_mplfinance.py [SOURCE]")
    slots = (load_candles(sys.argv[1]) if len(sys.argv) == 2 else walk()).slots
    for name, high_at in (("snapped", SNAPPED), ("centred", CENTRED)):
        for window in WINDOWS:
            for what, part in (("bodies", BODY), ("wicks", CANDLE)):
                found = summary(compare(slots, window, high_at, part))
                sys.stdout.write(f"{name}, {window} slots, {what}: {found}\n")
    if len(sys.argv) == 1:
        shown = (slots, SHOWN_START, SHOWN)
        picture = side_by_side(draw_ours(*shown), draw_theirs(*shown))
        Image.fromarray(picture).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
