"""The PNG figures of an inference benchmark; one for which there are no numbers is not drawn.

    draw_all(cells, folder, prefix="profile")     # paths of the files written

A filled mark may be quoted; a hollow one may not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from candlemark.records import Verdict
from candlemark.report.drawing import (
    MOST_PANELS,
    Point,
    new_figure,
    panel_grid,
    place_labels,
    round_ticks,
    save_all,
)
from candlemark.report.inference.cells import LATENCY, PEAK, Cell, families
from candlemark.report.inference.numbers import figures, with_interval
from candlemark.report.inference.parts import (
    COLOURS,
    MOST_NAMED,
    TradeOff,
    batch_curves,
    memory_parts,
    memory_range,
    stage_parts,
    trade_offs,
)
from candlemark.report.style import INK, MODEL, MUTED, WARNING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 48
LONGEST_NAME = 46
LONGEST_TITLE = 34
"""Of a panel, beyond which it would run into its neighbour's."""

ON_CPU = "on a CPU the peak is of the whole process: the rest is code and libraries"


def draw_all(cells: Sequence[Cell], folder: Path, *, prefix: str) -> list[Path]:
    """Every figure that the records allow, as `{prefix}_{figure}.png`."""
    drawings: dict[str, Callable[[], Figure | None]] = {
        "latency": lambda: latency(cells),
        "stages": lambda: stages(cells),
        "memory": lambda: memory(cells),
        "throughput": lambda: throughput(cells),
        "trade_off": lambda: trade_off(cells),
        "samples": lambda: samples(cells),
        "memory_timeline": lambda: memory_timeline(cells),
    }
    return save_all(drawings, folder, prefix)


def grouped(cells: Sequence[Cell], name: str) -> list[tuple[str, Cell]]:
    """(modality, cell) for the cells that have the number, those of a modality side by side."""
    return [
        (family.modality, cell)
        for family in families(cells)
        for cell in family.cells
        if cell.value(name) is not None
    ]


def _heading(figure: Figure, title: str, note: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    figure.text(0.01, -0.02, note.removeprefix(_DOT), ha="left", va="top", fontsize=8, color=MUTED)


_DOT = "  ·  "


def _left_out(shown: int, there: int) -> str:
    return "" if shown == there else f"{_DOT}the first {shown} of {there}"


def clip(text: str, longest: int = LONGEST_NAME) -> str:
    """A long name without its middle: the end tells precisions and batches apart."""
    if len(text) <= longest:
        return text
    end = round(0.62 * (longest - 1))
    return f"{text[: longest - 1 - end]}…{text[-end:]}"


def _rows(axes: Axes, rows: Sequence[tuple[str, Cell]]) -> list[float]:
    """Name the lines of a figure, downwards, with a gap and a heading for each modality."""
    places: list[float] = []
    height = 0.0
    several = len({modality for modality, _ in rows}) > 1
    for place, (modality, _) in enumerate(rows):
        if several and (place == 0 or rows[place - 1][0] != modality):
            height -= 0.85
            axes.annotate(
                modality,
                (0, height + 0.92),
                xycoords=("axes fraction", "data"),
                xytext=(-6, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8.5,
                color=MUTED,
                style="italic",
            )
        places.append(height)
        height -= 1.0
    axes.set_yticks(places, [clip(cell.label) for _, cell in rows])
    axes.set_ylim(height + 0.3, 0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return places


def _height(rows: Sequence[tuple[str, Cell]]) -> float:
    return 1.5 + 0.27 * (len(rows) + len({modality for modality, _ in rows}))


def _beside(axes: Axes, y: float, text: str, colour: str = INK) -> None:
    axes.annotate(
        text,
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=colour,
        annotation_clip=False,
    )


def _round(tick: float) -> str:
    return f"{tick:,g}"


def _log_x(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(*round_ticks(values, _round))
    axes.set_xlim(min(values) / 1.15, max(values) * 1.15)


def latency(cells: Sequence[Cell]) -> Figure | None:
    """p50 with its interval, p95 and p99, a line a cell on a log axis."""
    rows = grouped(cells, LATENCY)
    if not rows:
        return None
    shown = rows[:MOST_ROWS]
    figure = new_figure(8.6, _height(shown))
    axes = figure.subplots()
    values: list[float] = []
    for (_, cell), y in zip(shown, _rows(axes, shown), strict=True):
        values += _latency_line(axes, cell, y)
    _log_x(axes, values)
    axes.grid(axis="x")
    axes.set_xlabel("ms a call (log scale): dot p50 with its 95 % interval, | p95, ¦ p99")
    note = "hollow: may not be quoted" if any(not cell.quotable for _, cell in shown) else ""
    _heading(figure, "How fast: latency of one call", note + _left_out(len(shown), len(rows)))
    return figure


def _latency_line(axes: Axes, cell: Cell, y: float) -> list[float]:
    """Draw one cell; returns the places on the axis that it needs."""
    m = cell.latency
    if m is None or m.value is None:
        return []
    colour = MODEL if cell.quotable else WARNING
    ends = [m.value]
    if m.low is not None and m.high is not None:
        axes.plot([m.low, m.high], [y, y], color=colour, linewidth=3.2)
        ends += [m.low, m.high]
    tails = [
        (value, style)
        for name, style in (("latency_p95_ms", "-"), ("latency_p99_ms", (0, (1, 1))))
        if (value := cell.value(name)) is not None
    ]
    if tails:
        axes.plot([m.value, max(v for v, _ in tails)], [y, y], color=colour, linewidth=0.7)
    for value, style in tails:
        axes.plot([value, value], [y - 0.26, y + 0.26], color=colour, linewidth=1.4, ls=style)
    face = colour if cell.quotable else "white"
    axes.plot(m.value, y, "o", color=colour, markersize=6.2, markerfacecolor=face, zorder=3)
    text = f"{with_interval(m.value, m.low, m.high)} ms"
    doubt = "" if m.verdict is Verdict.VALID else f" {m.verdict}"
    _beside(axes, y, text + doubt, INK if cell.quotable else WARNING)
    return [*ends, *(value for value, _ in tails)]


def _stacked(
    cells: Sequence[Cell],
    parts_of: Callable[[Cell], dict[str, float]],
    *,
    relative: bool,
    total: Callable[[float], str],
) -> tuple[Figure, Axes, str] | None:
    """Stacked bars, one a cell; `relative` bars are all as long as one another."""
    every = [
        (family.modality, cell)
        for family in families(cells)
        for cell in family.cells
        if parts_of(cell)
    ]
    if not every:
        return None
    shown = every[:MOST_ROWS]
    seen = {name for _, cell in shown for name in parts_of(cell)}
    names = [name for name in COLOURS if name in seen]
    figure = new_figure(8.6, _height(shown) + 0.3)
    axes = figure.subplots()
    for (_, cell), y in zip(shown, _rows(axes, shown), strict=True):
        parts, left = parts_of(cell), 0.0
        whole = sum(parts.values())
        scale = 100 / whole if relative and whole else 1.0
        for name, value in parts.items():
            axes.barh(y, value * scale, 0.62, left=left, color=COLOURS[name], linewidth=0)
            left += value * scale
        _beside(axes, y, total(whole))
    handles = [_patch(COLOURS[name], name) for name in names]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        ncols=min(len(names), 6),
        fontsize=8.5,
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
    )
    axes.grid(axis="x")
    return figure, axes, _left_out(len(shown), len(every))


def _patch(colour: str, text: str) -> object:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=text)


def stages(cells: Sequence[Cell]) -> Figure | None:
    """Where the time of one call goes, as shares, with the sum beside."""
    drawn = _stacked(cells, stage_parts, relative=True, total=lambda whole: f"{figures(whole)} ms")
    if drawn is None:
        return None
    figure, axes, left_out = drawn
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the time, %; beside it the sum of the medians")
    _heading(
        figure,
        "Where the time goes: a batch from raw items to answers",
        f"load and first call are apart{left_out}",
    )
    return figure


def any_on_cpu(cells: Sequence[Cell]) -> bool:
    """Was a finished cell measured on a CPU?"""
    return any(cell.record.trial.get("device") == "cpu" for cell in cells if cell.finished)


def memory(cells: Sequence[Cell]) -> Figure | None:
    """Peak memory split into the model, activations and the rest."""
    drawn = _stacked(
        cells, memory_parts, relative=False, total=lambda whole: f"{figures(whole)} MB"
    )
    if drawn is None:
        return None
    figure, axes, left_out = drawn
    axes.set_xlabel("MB at the peak of forward passes")
    _heading(figure, "How heavy: peak memory", (ON_CPU if any_on_cpu(cells) else "") + left_out)
    return figure


def throughput(cells: Sequence[Cell]) -> Figure | None:
    """Items a second by batch size, where a model was measured with several; the best is named."""
    curves = batch_curves(cells)
    if not curves:
        return None
    shown = curves[:MOST_PANELS]
    columns, lines = panel_grid(len(shown))
    figure = new_figure(0.6 + 2.9 * columns, 0.9 + 2.3 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, curve in zip(panels, shown, strict=False):
        sizes, rates = [p.batch for p in curve.points], [p.rate for p in curve.points]
        panel.plot(sizes, rates, color=MODEL, linewidth=1.2)
        for point in curve.points:
            face = MODEL if point.quotable else "white"
            panel.plot(point.batch, point.rate, "o", color=MODEL, ms=5, markerfacecolor=face)
        best = curve.best
        panel.annotate(
            f"batch {best.batch}: {figures(best.rate)}/s",
            (best.batch, best.rate),
            xytext=(0, 7),
            textcoords="offset points",
            ha="right"
            if best.batch == sizes[-1]
            else "center"
            if best.batch > sizes[0]
            else "left",
            fontsize=8,
        )
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.set_ylim(0, max(rates) * 1.2)
        _panel_title(panel, curve.label)
        panel.set_ylabel(f"{curve.item} a second")
        panel.grid(axis="y")
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for panel in panels[max(len(shown) - columns, 0) : len(shown)]:
        panel.set_xlabel("batch size")
    note = "the best batch is named; hollow: may not be quoted"
    _heading(figure, "Throughput by batch size", note + _left_out(len(shown), len(curves)))
    return figure


def trade_off(cells: Sequence[Cell]) -> Figure | None:
    """Latency against peak memory, one panel a modality and device, with what none beats."""
    groups = trade_offs(cells)
    if not groups:
        return None
    shown = groups[:MOST_PANELS]
    columns = 1 if len(shown) == 1 else 2
    lines = -(-len(shown) // columns)
    figure = new_figure(7.2 if columns == 1 else 11, 0.8 + (3.8 if columns == 1 else 3.3) * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, group in zip(panels, shown, strict=False):
        _trade_off_panel(panel, group)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    _heading(
        figure,
        "Fast or light: latency against peak memory",
        "lower left is better; the line joins what no cell beats in both. "
        "Hollow: may not be quoted, or the answer changed",
    )
    figure.canvas.draw()
    # Names are placed in the final layout; left on, it would make room for them and move all.
    figure.set_layout_engine("none")
    for panel, group in zip(panels, shown, strict=False):
        points = [
            Point(
                x=_of(cell, LATENCY),
                y=_of(cell, PEAK) / 1e6,
                text=clip(name),
                required=cell in group.front,
            )
            for cell, name in zip(group.cells, group.names, strict=True)
            if cell in group.front or len(group.cells) <= MOST_NAMED
        ]
        place_labels(panel, points)
    return figure


def _of(cell: Cell, name: str) -> float:
    """A number that the caller knows to be there."""
    value = cell.value(name)
    if value is None:
        raise ValueError(f"{cell.label} has no {name}")
    return value


def _trade_off_panel(panel: Axes, group: TradeOff) -> None:
    members, front = group.cells, group.front
    steps = sorted((_of(cell, LATENCY), _of(cell, PEAK) / 1e6) for cell in front)
    if len(steps) > 1:
        panel.step(*zip(*steps, strict=True), where="post", color=MODEL, linewidth=1.2, alpha=0.5)
    for cell in members:
        sound = cell.quotable and not cell.changed_answer
        colour = MODEL if cell in front else MUTED if sound else WARNING
        panel.plot(
            _of(cell, LATENCY),
            _of(cell, PEAK) / 1e6,
            "o",
            color=colour,
            markerfacecolor=colour if sound else "white",
            markersize=6.5,
        )
    panel.set_xscale("log")
    panel.minorticks_off()
    times = [_of(cell, LATENCY) for cell in members]
    panel.set_xticks(*round_ticks(times, _round))
    spread = max(max(times) / min(times), 1.5)
    room = spread**0.3
    panel.set_xlim(min(times) / room, max(times) * room)
    panel.set_ylim(*memory_range(members))
    panel.set_title(group.title, fontsize=9.5)
    panel.set_xlabel("latency p50, ms (log scale)")
    panel.set_ylabel("peak memory, MB")
    panel.grid()


def _panel_title(panel: Axes, text: str) -> None:
    panel.set_title(clip(text, LONGEST_TITLE), fontsize=8.5, fontweight="normal", pad=6)


def _corner(panel: Axes, text: str, colour: str) -> None:
    panel.text(
        0.98, 0.97, text, transform=panel.transAxes, ha="right", va="top", fontsize=8, color=colour
    )


def samples(cells: Sequence[Cell]) -> Figure | None:
    """Latency by call number: drift and outliers are seen, and whether to believe a median."""
    timed = [c for c in cells if c.finished and len(c.record.samples.get("latency_ms", ())) > 1]
    if not timed:
        return None
    # What may not be quoted first: that is where one looks.
    shown = sorted(timed, key=lambda cell: cell.quotable)[:MOST_PANELS]
    columns, lines = panel_grid(len(shown))
    figure = new_figure(0.6 + 2.9 * columns, 0.9 + 2.0 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, cell in zip(panels, shown, strict=False):
        values = np.asarray(cell.record.samples["latency_ms"])
        colour = MODEL if cell.quotable else WARNING
        panel.plot(np.arange(1, len(values) + 1), values, ".", color=colour, markersize=2.6)
        panel.axhline(float(np.median(values)), color=INK, linewidth=0.8)
        spread = float(values.max() - values.min()) or 0.1 * float(values.max())
        panel.set_ylim(max(float(values.min()) - 0.25 * spread, 0), values.max() + 0.2 * spread)
        _panel_title(panel, cell.label)
        if not cell.quotable and cell.verdict is not None:
            _corner(panel, str(cell.verdict), WARNING)
        panel.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        panel.grid(axis="y")
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel("ms")
    for panel in panels[max(len(shown) - columns, 0) : len(shown)]:
        panel.set_xlabel("call")
    _heading(
        figure,
        "How steady: each call in the order it was made",
        f"the line is the median{_left_out(len(shown), len(timed))}",
    )
    return figure


def memory_timeline(cells: Sequence[Cell]) -> Figure | None:
    """Memory during forward passes, apart from any timing."""
    watched = [
        cell
        for cell in cells
        if cell.finished and len(cell.record.samples.get("memory_timeline_s", ())) > 2
    ]
    if not watched:
        return None
    shown = watched[:MOST_PANELS]
    columns, lines = panel_grid(len(shown))
    figure = new_figure(0.6 + 2.9 * columns, 0.9 + 1.9 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, cell in zip(panels, shown, strict=False):
        seconds = np.asarray(cell.record.samples["memory_timeline_s"]) * 1000
        taken = np.asarray(cell.record.samples["memory_timeline_bytes"]) / 1e6
        low, high = float(taken.min()), float(taken.max())
        panel.plot(seconds, taken, color=MODEL, linewidth=1.1)
        panel.set_xlim(0, float(seconds.max()) or 1)
        room = max(0.25 * (high - low), 0.01 * high)
        panel.set_ylim(max(low - room, 0), high + 1.6 * room)
        _corner(panel, f"+{figures((high - low), 2)} MB", MUTED)
        _panel_title(panel, cell.label)
        panel.xaxis.get_major_locator().set_params(nbins=4)
        panel.grid(axis="y")
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel("MB")
    for panel in panels[max(len(shown) - columns, 0) : len(shown)]:
        panel.set_xlabel("ms")
    _heading(
        figure,
        "Memory while the model works",
        "forward passes of their own, never while anything is timed; the axis does not start at 0"
        f"{_left_out(len(shown), len(watched))}",
    )
    return figure
