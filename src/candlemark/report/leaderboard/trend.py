"""Downloads over the snapshots: as a picture, and as a chart of the page.

    write_trend(board, Path("trend.png"))

Two snapshots are needed; with one there is nothing to draw, and that is what is said. Lines are
the Hub's count of the last 30 days on a log axis, of the most downloaded models that any section
recommends first.
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from math import log, log10
from pathlib import Path
from typing import TYPE_CHECKING

from candlemark.errors import ResultsError
from candlemark.report.drawing import new_figure, round_ticks, save_figure
from candlemark.report.leaderboard.board import Board
from candlemark.report.leaderboard.words import count
from candlemark.report.page import Chart
from candlemark.report.style import GRID, MUTED, SERIES, figure_style, series_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = len(SERIES)
_LONGEST_NAME = 44

Line = tuple[str, list[tuple[str, int]]]
"""A model and its (when, downloads)."""


def lines(board: Board) -> list[Line]:
    """The models to draw, the most downloaded first; empty with fewer than two snapshots.

    A model without a count in two snapshots has no line; one with 0 downloads in all of them
    has none on a log axis.
    """
    wanted = [one.model.id for section in board.sections for one in section.recommended]
    others = [name for name in board.models if name not in set(wanted)]
    found: list[Line] = []
    for name in dict.fromkeys([*wanted, *others]):
        told = [(when, value) for when, value in board.history.get(name, ()) if value]
        if len({when for when, _ in told}) > 1:
            found.append((name, told))
    return sorted(found[:MOST_LINES], key=lambda line: -line[1][-1][1])


def why_none(board: Board) -> str:
    """Why there is no trend to draw."""
    if len(board.snapshots) < 2:
        return (
            f"a trend needs two snapshots, and there is {len(board.snapshots)}; look again another "
            "day, or let cron do it: candlemark hub leaderboard --watch"
        )
    return "no model has a count of downloads above 0 at two times"


def write_trend(board: Board, path: Path) -> Path:
    """Write the picture.

    Raises ResultsError: there are fewer than two snapshots, the name is another format's, or the
    file cannot be written.
    """
    if path.suffix.lower() not in {"", ".png"}:
        raise ResultsError(f"cannot draw {path}: it is drawn as PNG; write {path.stem}.png")
    drawn = lines(board)
    if not drawn:
        raise ResultsError(f"cannot draw {path}: {why_none(board)}")
    with figure_style():
        return save_figure(_figure(board, drawn), path)


def _figure(board: Board, drawn: list[Line]) -> Figure:
    figure = new_figure(8.6, 1.6 + 0.42 * max(6, len(drawn)))
    axes = figure.add_subplot()
    values = [value for _, told in drawn for _, value in told]
    for place, (_, told) in enumerate(drawn):
        times = [datetime.fromisoformat(when) for when, _ in told]
        axes.plot(
            times,  # type: ignore[arg-type]  # the stubs know no dates
            [value for _, value in told],
            color=series_colour(place),
            marker="o",
            markersize=3.5,
        )
    axes.set_yscale("log")
    ticks, labels = _ticks(values)
    axes.set_yticks(ticks, labels)
    axes.set_yticks([], minor=True)
    axes.set_ylim(min(values) / 1.5, max(values) * 1.5)
    axes.grid(axis="y", color=GRID)
    axes.set_title("Downloads in the last 30 days, as the Hub counts them", pad=24)
    _date_axis(axes)
    _name_lines(axes, drawn)
    axes.annotate(
        f"{len(board.snapshots)} snapshots, {board.snapshots[0][:10]} to "
        f"{board.snapshots[-1][:10]}; they say how much a model is used, not how good it is",
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, 9),
        textcoords="offset points",
        color=MUTED,
        annotation_clip=False,
    )
    return figure


def _ticks(values: list[int]) -> tuple[list[float], list[str]]:
    """Places of a log axis: powers of ten where the range is wide, else round ones between."""
    low, high = min(values), max(values)
    if high < 100 * low:
        return round_ticks(values, lambda value: count(round(value)))
    powers = [10.0**power for power in range(int(log10(low)), int(log10(high)) + 2)]
    kept = [place for place in powers if low / 1.6 <= place <= high * 1.6]
    return kept, [count(round(place)) for place in kept]


def _date_axis(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # The stubs have no types for either.
    locator = AutoDateLocator(minticks=2, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _name_lines(axes: Axes, drawn: list[Line]) -> None:
    """Names right of the last points, moved apart where two would lie on each other."""
    low, high = axes.get_ylim()
    heights = [log(told[-1][1] / low) / log(high / low) for _, told in drawn]
    for place, ((name, told), height) in enumerate(zip(drawn, spread(heights), strict=True)):
        axes.annotate(
            f"{short_name(name)}  {count(told[-1][1])}",
            xy=(1, height),
            xycoords="axes fraction",
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=series_colour(place),
            annotation_clip=False,
        )


def short_name(name: str) -> str:
    """A name that leaves room for the lines."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def spread(heights: list[float], step: float = 0.055) -> list[float]:
    """Heights from the top down, moved as little as keeps them `step` apart and above 0."""
    found: list[float] = []
    for height in heights:
        found.append(min(height, found[-1] - step) if found else height)
    floor = 0.0
    for place in range(len(found) - 1, -1, -1):
        found[place] = max(found[place], floor)
        floor = found[place] + step
    return found


def trend_chart(board: Board) -> Chart | None:
    """The chart of the page; None: there are fewer than two snapshots."""
    drawn = lines(board)
    if not drawn:
        return None
    values = [value for _, told in drawn for _, value in told]
    ticks, labels = _ticks(values)
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escape(name),
                "x": [when for when, _ in told],
                "y": [value for _, value in told],
                "line": {"color": series_colour(place), "width": 2},
                "marker": {"size": 6},
                "hovertemplate": f"<b>{escape(name)}</b><br>%{{x}}<br>%{{y:,}}<extra></extra>",
            }
            for place, (name, told) in enumerate(drawn)
        ],
        "layout": {
            "height": 360 + 20 * len(drawn),
            "title": {"text": "Downloads in the last 30 days, by snapshot", "font": {"size": 14}},
            "yaxis": {"type": "log", "tickvals": ticks, "ticktext": labels},
            "xaxis": {"type": "date"},
            "legend": {"orientation": "h", "y": -0.12, "yanchor": "top"},
        },
    }
