"""The PNG figures of a report: each says one thing, in its title, with direct labels.

    draw_all(board, folder, prefix="demo")     # paths of the files written

All figures share `report.style`. A figure for which the records hold no numbers is not
drawn: an empty frame would look like a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from candlemark.metrics.classification import calibration_bin
from candlemark.report.contests import pareto_front
from candlemark.report.drawing import (
    MOST_PANELS,
    Point,
    new_figure,
    panel_grid,
    place_labels,
    round_ticks,
    save_all,
)
from candlemark.report.format import quantity, short, title_of
from candlemark.report.statistics import PRIMARY, Board, Row
from candlemark.report.style import (
    ATTAINABLE,
    INK,
    MODEL,
    MUTED,
    ROLE_COLOUR,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_all(board: Board, folder: Path, *, prefix: str) -> list[Path]:
    """Every figure that a board needs and its records allow, as `{prefix}_{figure}.png`."""
    figures: dict[str, Callable[[], Figure | None]] = {"performance": lambda: performance(board)}
    if board.market != "random_walk" and not board.is_recognition:
        # A check has one question, and the forest plot answers it.
        figures |= {
            "training_curves": lambda: training_curves(board),
            "accuracy_parameters": lambda: trade_off(board, "parameters"),
            "accuracy_memory": lambda: trade_off(board, "peak_memory_bytes"),
            "efficiency": lambda: trade_off(board, "latency_p50_ms"),
            "calibration": lambda: calibration(board),
            "confusion": lambda: confusion(board),
        }
    return save_all(figures, folder, prefix)


def _heading(figure: Figure, board: Board, text: str) -> None:
    """Title, and below it what was asked, with the badges that change its meaning."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    figure.text(0.01, -0.02, subtitle(board), ha="left", va="top", fontsize=8, color=MUTED)


def subtitle(board: Board) -> str:
    """Dataset, label, kind and weights in one line."""
    kind = "recognition: the answer is visible" if board.is_recognition else "forecast"
    parts = [board.dataset, f"label {board.label}", kind]
    if any(row.random_weights for row in board.rows):
        parts.append("random weights")
    if board.leaky_split:
        parts.append("random split: leaky")
    return "  ·  ".join(parts)


def performance(board: Board) -> Figure | None:
    """Forest plot: AUROC of every row with both of its intervals, chance and attainable."""
    rows = [row for row in reversed(board.rows) if row.value(PRIMARY) is not None]
    if not rows:
        return None
    figure = new_figure(8.4, 1.5 + 0.36 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _forest_line(axes, place, row)
    axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    near = board.attainable_auroc is not None and abs(board.attainable_auroc - 0.5) < 0.1
    _line_label(axes, 0.5, "chance ", MUTED, ha="right" if near else "center")
    if board.attainable_auroc is not None:
        axes.axvline(board.attainable_auroc, color=ATTAINABLE, linewidth=1.2, zorder=1)
        ha = "left" if near else "center"
        _line_label(axes, board.attainable_auroc, "attainable", ATTAINABLE, ha=ha)
    axes.set_yticks(range(len(rows)), [short(row.name) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(INK if row.is_model else MUTED)
        label.set_fontweight("bold" if row.is_model else "normal")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    low, high = _bounds(rows, board.attainable_auroc)
    axes.set_xlim(low, high)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    together = f"{board.family_level:.0%}".replace("%", " %")
    axes.set_xlabel(f"AUROC on the test slice: thick 95 %, thin {together} for all rows together")
    _heading(figure, board, _performance_title(board))
    return figure


def _performance_title(board: Board) -> str:
    if board.is_recognition:
        return "Reading charts: AUROC where the answer is visible"
    if board.market == "random_walk":
        outside = len(board.outside_chance)
        return (
            "Random walk: every interval contains chance"
            if not outside
            else f"Random walk: {outside} intervals leave out chance"
        )
    return "How well each row forecasts"


def _forest_line(axes: Axes, place: int, row: Row) -> None:
    colour = ROLE_COLOUR.get(row.role, MODEL)
    m = row.scores[PRIMARY]
    if row.adjusted.low is not None and row.adjusted.high is not None:
        axes.plot([row.adjusted.low, row.adjusted.high], [place] * 2, color=colour, linewidth=1)
    if m.low is not None and m.high is not None:
        axes.plot([m.low, m.high], [place] * 2, color=colour, linewidth=3.2)
    axes.plot(_of(row, PRIMARY), place, "o", color=colour, markersize=6.5, markeredgecolor="white")
    axes.annotate(
        quantity(PRIMARY, m.value),
        (1.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK if row.is_model else MUTED,
        annotation_clip=False,
    )


def _of(row: Row, name: str) -> float:
    """A score that the caller knows to be there."""
    value = row.value(name)
    if value is None:
        raise ValueError(f"{row.name} has no {name}")
    return value


def _line_label(axes: Axes, x: float, text: str, colour: str, *, ha: str) -> None:
    axes.annotate(
        text,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha=ha,
        va="bottom",
        fontsize=8,
        color=colour,
    )


def _bounds(rows: Sequence[Row], attainable: float | None) -> tuple[float, float]:
    ends = [0.5] if attainable is None else [0.5, attainable]
    for row in rows:
        m = row.scores[PRIMARY]
        ends += [x for x in (m.value, m.low, m.high, row.adjusted.low, row.adjusted.high) if x]
    margin = 0.04 * max(max(ends) - min(ends), 0.1)
    return max(min(ends) - margin, -0.02), min(max(ends) + margin, 1.02)


def training_curves(board: Board) -> Figure | None:
    """Loss by epoch, one panel a model, train and validation; the seeds lie over each other."""
    rows = [row for row in board.rows if any(r.history for r in row.records)]
    rows = [row for row in rows if row.is_model][:MOST_PANELS]
    if not rows:
        return None
    columns, lines = panel_grid(len(rows))
    figure = new_figure(0.6 + 2.9 * columns, 0.9 + 2.2 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, row in zip(panels, rows, strict=False):
        for record in row.records:
            _curve(panel, record.history, "train_loss", MUTED)
            _curve(panel, record.history, "validation_loss", MODEL)
        panel.set_title(short(row.name), fontsize=9)
        panel.grid(axis="y")
        panel.xaxis.get_major_locator().set_params(integer=True)
    for panel in panels[len(rows) :]:
        panel.set_visible(False)
    for panel in panels[-columns:]:
        panel.set_xlabel("epoch")
    for panel in panels[::columns]:
        panel.set_ylabel("loss")
    _key(panels[0], (("train", MUTED), ("validation", MODEL)))
    _heading(figure, board, "Training: loss by epoch")
    return figure


def _curve(panel: Axes, history: Sequence[Any], name: str, colour: str) -> None:
    points = [(e["epoch"], e[name]) for e in history if e.get(name) is not None]
    if points:
        marker = "o" if len(points) < 3 else ""
        panel.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4)


def _key(panel: Axes, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, label=text) for text, colour in entries]
    panel.legend(handles=handles, loc="best", fontsize=8, handlelength=1.4)


def trade_off(board: Board, cost: str) -> Figure | None:
    """AUROC against a cost, with the front that no model beats in both."""
    rows = [row for row in board.models if row.value(cost)]
    if not rows:
        return None
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    axes.set_xscale("log")
    front = pareto_front(rows, cost)
    steps = sorted((_of(row, cost), _of(row, PRIMARY)) for row in rows if row.name in front)
    axes.step(*zip(*steps, strict=True), where="post", color=MODEL, linewidth=1.2, alpha=0.5)
    for row in rows:
        m = row.scores[PRIMARY]
        colour = MODEL if row.name in front else MUTED
        if m.low is not None and m.high is not None:
            axes.plot([_of(row, cost)] * 2, [m.low, m.high], color=colour, linewidth=1, alpha=0.6)
        axes.plot(
            _of(row, cost), _of(row, PRIMARY), "o", color=colour, markersize=7, markeredgecolor="w"
        )
    _level(axes, 0.5, "chance")
    if board.yardsticks:
        best = board.yardsticks[0]
        _level(axes, best.value(PRIMARY) or 0.5, f"best control:\n{_bare(best.name)}")
    axes.margins(x=0.3, y=0.15)
    axes.grid(axis="y")
    axes.minorticks_off()
    axes.set_xticks(*cost_ticks(cost, [_of(row, cost) for row in rows]))
    axes.set_xlabel(f"{title_of(cost)} (log scale); the line joins what no model beats in both")
    axes.set_ylabel("AUROC, 95 % interval")
    titles = {"latency_p50_ms": "Efficiency: accuracy against latency"}
    _heading(figure, board, titles.get(cost, f"Accuracy against {title_of(cost)}"))
    figure.canvas.draw()
    # Names are placed in the final layout; left on, it would make room for them and move all.
    figure.set_layout_engine("none")
    place_labels(axes, [_point(row, cost) for row in rows])
    return figure


def _point(row: Row, cost: str) -> Point:
    m = row.scores[PRIMARY]
    x, y = _of(row, cost), _of(row, PRIMARY)
    return Point(x=x, y=y, text=short(row.name), low=m.low, high=m.high)


def _level(axes: Axes, y: float, text: str) -> None:
    axes.axhline(y, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        text,
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=MUTED,
    )


def _bare(name: str) -> str:
    """A baseline or control without the word that says so."""
    return short(name).split(": ", 1)[-1]


def cost_ticks(cost: str, values: Sequence[float]) -> tuple[list[float], list[str]]:
    """At most seven round places on a log axis around `values`, and their labels."""
    return round_ticks(values, lambda tick: quantity(cost, tick), binary=cost.endswith("_bytes"))


def calibration(board: Board) -> Figure | None:
    """Said against came true, for the class predicted, in the bins of the calibration error."""
    rows = [row for row in board.models if row.records and row.records[0].predictions]
    rows = rows[:MOST_PANELS]
    if not rows:
        return None
    columns, lines = panel_grid(len(rows))
    figure = new_figure(0.6 + 2.7 * columns, 0.8 + 2.7 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    floor = 1 / max(len(board.class_names), 2)
    for panel, row in zip(panels, rows, strict=False):
        said, came_true, count = reliability(row)
        panel.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        panel.plot(said, came_true, color=MODEL, linewidth=1, alpha=0.5)
        panel.scatter(said, came_true, s=8 + 220 * count / count.sum(), color=MODEL, zorder=3)
        panel.set_title(short(row.name), fontsize=9)
        panel.text(
            0.96,
            0.04,
            f"error {quantity('ece', row.value('ece'))}",
            transform=panel.transAxes,
            ha="right",
            fontsize=8,
            color=MUTED,
        )
        panel.set(xlim=(floor - 0.03, 1.03), ylim=(-0.03, 1.03))
        panel.grid()
    for panel in panels[len(rows) :]:
        panel.set_visible(False)
    for panel in panels[-columns:]:
        panel.set_xlabel("probability said")
    for panel in panels[::columns]:
        panel.set_ylabel("share that came true")
    _heading(figure, board, "Calibration: dots on the line mean what they say")
    return figure


def reliability(row: Row) -> tuple[Any, Any, Any]:
    """Mean confidence, share right and case count of each bin that holds cases."""
    parts = [r.predictions for r in row.records if r.predictions is not None]
    probability = np.concatenate([p.probability for p in parts])
    target = np.concatenate([p.target for p in parts])
    confidence = probability.max(axis=1)
    right = (probability.argmax(axis=1) == target).astype(np.float64)
    bins = calibration_bin(confidence)
    count = np.bincount(bins, minlength=15).astype(np.float64)
    held = count > 0
    said = np.bincount(bins, confidence, 15)[held] / count[held]
    return said, np.bincount(bins, right, 15)[held] / count[held], count[held]


def confusion(board: Board) -> Figure | None:
    """Share of each true class by predicted class, one panel a model."""
    rows = [row for row in board.models if row.records and row.records[0].predictions]
    rows = rows[:MOST_PANELS]
    if not rows:
        return None
    columns, lines = panel_grid(len(rows))
    figure = new_figure(0.8 + 2.5 * columns, 0.8 + 2.6 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, row in zip(panels, rows, strict=False):
        _confusion_panel(panel, row, board.class_names)
    for panel in panels[len(rows) :]:
        panel.set_visible(False)
    _heading(figure, board, "Confusion: what came of each true class")
    return figure


def _confusion_panel(panel: Axes, row: Row, class_names: Sequence[str]) -> None:
    counts = confusion_counts(row)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (true, predicted), value in np.ndenumerate(share):
        panel.text(
            predicted,
            true,
            f"{value:.0%}\n{int(counts[true, predicted]):,}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value > 0.55 else INK,
        )
    names = list(class_names) or [str(label) for label in range(len(counts))]
    panel.set_xticks(range(len(counts)), names)
    panel.set_yticks(range(len(counts)), names, rotation=90, va="center")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_title(short(row.name), fontsize=9)
    panel.set_xlabel("predicted")
    panel.set_ylabel("came true")


def confusion_counts(row: Row) -> Any:
    """Counts [true, predicted] over all seeds of a row."""
    parts = [r.predictions for r in row.records if r.predictions is not None]
    classes = parts[0].probability.shape[1]
    counts = np.zeros((classes, classes))
    for p in parts:
        np.add.at(counts, (p.target, p.probability.argmax(axis=1)), 1)
    return counts
