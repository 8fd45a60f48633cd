"""One look for every figure and the page: colours that survive print and colour blindness.

Roles have colours, so that a reader who has seen one figure can read all: models are blue,
baselines grey, controls light grey, chance is a thin line, the attainable level is green.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INK = "#1b1f24"
MUTED = "#6a737d"
GRID = "#e4e7eb"
PAPER = "#ffffff"
MODEL = "#0b62c4"
BASELINE = "#7d8590"
CONTROL = "#b3bac2"
ATTAINABLE = "#1a7f4b"
WARNING = "#b35900"

ROLE_COLOUR = {"model": MODEL, "baseline": BASELINE, "control": CONTROL}

# Okabe and Ito's palette, less its yellow, which is too light on white.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#4d4d4d")

_SETTINGS: dict[str, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.labelsize": 9,
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 160,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib settings of every figure, restored afterwards."""
    import matplotlib as mpl

    with mpl.rc_context():
        for name, value in _SETTINGS.items():
            mpl.rcParams[name] = value  # type: ignore[index]  # a dict of any string is refused
        yield


def series_colour(place: int) -> str:
    """A colour for the place-th of several models; repeats after seven."""
    return SERIES[place % len(SERIES)]
