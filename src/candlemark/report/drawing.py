"""What all figures share: a sheet, its file, panels, round places on a log axis, names of points.

figure = new_figure(7.2, 4.6)
place_labels(figure.axes[0], [Point(x=1.0, y=2.0, text="resnet18")])
save_figure(figure, folder / "trade_off.png")
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from candlemark.report.style import figure_style
from candlemark.results.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 9
MOST_TICKS = 7


def new_figure(width: float, height: float) -> Figure:
    """A figure that no global state knows, so that none is left open; inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG, complete or not at all; a letter that the font lacks is drawn as a box."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.25)
    return write_bytes(path, buffer.getvalue())


def save_all(
    drawings: Mapping[str, Callable[[], Figure | None]], folder: Path, prefix: str
) -> list[Path]:
    """Draw in the one style and write `{prefix}_{name}.png` for each that is not None."""
    written = []
    for name, draw in drawings.items():
        with figure_style():
            figure = draw()
            if figure is not None:
                written.append(save_figure(figure, folder / f"{prefix}_{name}.png"))
    return written


def panel_grid(count: int) -> tuple[int, int]:
    """Columns and lines of a sheet of panels: at most three wide, four as a square."""
    columns = 2 if count == 4 else min(3, count)
    return columns, -(-count // columns)


def round_ticks(
    values: Sequence[float], write: Callable[[float], str], *, binary: bool = False
) -> tuple[list[float], list[str]]:
    """At most seven round places on a log axis around `values`, and their labels.

    binary: powers of two, for bytes in KiB, MiB and GiB
    """
    low, high = min(values), max(values)
    candidates = [
        step * 10.0**power
        for power in range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
        for step in (1, 2, 5)
    ]
    if binary:
        candidates = [2.0**power for power in range(10, 51)]
    ticks = [tick for tick in candidates if low / 1.6 <= tick <= high * 1.6]
    keep = ticks[:: max(1, -(-len(ticks) // MOST_TICKS))]
    return keep, [write(tick) for tick in keep]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point with a name, and the ends of its interval where it has one.

    required: False leaves the name out where there is no room for it
    """

    x: float
    y: float
    text: str
    low: float | None = None
    high: float | None = None
    required: bool = True


def place_labels(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside their points, each at the first of its places where nothing else lies.

    The layout of the figure must be final: names are placed by pixels.
    """
    inside = axes.get_window_extent()
    taken = []
    for point in points:
        left, bottom = axes.transData.transform(
            (point.x, point.y if point.low is None else point.low)
        )
        _, top = axes.transData.transform((point.x, point.y if point.high is None else point.high))
        taken.append((left - 5, bottom - 2, left + 5, top + 2))
    for point in sorted(points, key=lambda point: (not point.required, -point.y)):
        for dx, dy, ha in _PLACES if point.required else _PLACES[:_NEAR]:
            text = axes.annotate(
                point.text,
                (point.x, point.y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=ha,
                va="center",
                fontsize=8.5,
            )
            box = text.get_window_extent()
            # A margin, because text is a little wider at the resolution of the file.
            edges = (box.x0 - 6, box.y0 - 1, box.x1 + 6, box.y1 + 1)
            fits = inside.x0 < box.x0 and box.x1 < inside.x1
            free = fits and not any(_overlap(edges, other) for other in taken)
            if free or (point.required and (dx, dy, ha) == _PLACES[-1]):
                taken.append(edges)
                break
            text.remove()


_PLACES = (
    (8, 7, "left"),
    (-8, 7, "right"),
    (8, -8, "left"),
    (-8, -8, "right"),
    (8, 18, "left"),
    (-8, -19, "right"),
    (8, -19, "left"),
    (-8, 18, "right"),
    (0, 28, "center"),
    (0, -29, "center"),
    (8, 32, "left"),
    (-8, -33, "right"),
    (8, -33, "left"),
    (-8, 32, "right"),
    (8, -48, "left"),
)
_NEAR = 8
"""Places so near that nobody takes a name for another point's."""


def _overlap(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
