"""Pictures of the best, the median and the worst case of each model.

    paths = draw_overlays(board, load, Path("reports"), prefix="run")

Each picture has a column a case: the slice where the reference is largest, whole and close up.
A filled area is the reference and a line the prediction, in one colour a class.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark import progress
from candlemark.errors import ResultsError
from candlemark.report.drawing import new_figure, save_figure
from candlemark.report.format import UNKNOWN, short
from candlemark.report.segmentation.board import Board, CaseScore, Row
from candlemark.report.segmentation.text import head
from candlemark.report.segmentation.views import (
    SIDES,
    CaseView,
    Labels,
    Loader,
    close_up,
    contestants,
    edges,
    grey,
    labels_in,
    telling_slice,
    trials_of,
)
from candlemark.report.style import INK, MUTED, WARNING, figure_style
from candlemark.results.files import file_stem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASS_COLOURS = ("#56b4e9", "#e69f00", "#2fd6a1", "#f08cc0", "#f2e14c", "#ff8a65", "#b39ddb")
"""Of classes in their order; light, because scans are dark."""

_LETTER: Mapping[str, Any] = {
    "color": "white",
    "fontsize": 9,
    "fontweight": "bold",
    "ha": "center",
    "va": "center",
    "bbox": {"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.6, "linewidth": 0},
}
"""How the side of the patient is written on a slice."""

LINE_OF_ONE = "#ffb000"
"""The prediction where there is one class: its area is blue, so that both can be told apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """One case of one row, cut down to the slice that is drawn.

    which: "best", "median" or "worst"
    pixels: uint8 (Y, X) or (Y, X, 3); reference, prediction: uint8 (Y, X)
    place, slices: which slice of how many, from 1
    sides: letters to the left and at the top
    """

    which: str
    case: CaseScore
    pixels: npt.NDArray[np.uint8]
    reference: Labels
    prediction: Labels
    place: int
    slices: int
    aspect: float
    sides: tuple[str, str] | None


def draw_overlays(board: Board, load: Loader, folder: Path, *, prefix: str) -> list[Path]:
    """Write `{prefix}_overlay_{row}.png` for each model that has an answer; returns the paths.

    Each case is loaded once, whatever number of models it tells something about.
    """
    primary = board.settings.primary.name
    wanted: dict[str, list[tuple[str, Row, CaseScore]]] = {}
    for row in contestants(board):
        for which, scored in _unlike(row.telling_cases(primary)).items():
            wanted.setdefault(scored.case, []).append((which, row, scored))
    panels: dict[str, list[Panel]] = {}
    with progress.track("overlays", total=len(wanted), unit="cases") as bar:
        for case, asked in wanted.items():
            names = {row.name for _, row, _ in asked}
            trials = {name: t for name, t in trials_of(board, case).items() if name in names}
            seen = load(case, trials)
            if seen is not None:
                for which, row, scored in asked:
                    if row.name in seen.predictions:
                        panels.setdefault(row.name, []).append(_panel(which, scored, seen, row))
            bar.advance()
    return _write(board, panels, folder, prefix)


def overlay_path(row: str, folder: Path, *, prefix: str) -> Path:
    """Where the picture of a row is written."""
    return folder / f"{prefix}_overlay_{file_stem(row)}.png"


def drop_overlays(folder: Path, *, prefix: str, keep: Collection[Path]) -> None:
    """Delete pictures of rows that are no part of the report any more; no other file.

    Raises ResultsError: one cannot be deleted.
    """
    for path in folder.glob(f"{glob.escape(prefix)}_overlay_*.png"):
        if path not in keep:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise ResultsError(f"cannot delete {path}: {error.strerror}") from error


def _unlike(telling: Mapping[str, CaseScore]) -> dict[str, CaseScore]:
    """Each case once: of two cases the median is one of the others, of one it is all there is."""
    kept: dict[str, CaseScore] = {}
    for which in ("best", "worst", "median"):
        case = telling.get(which)
        if case is not None and all(case.case != other.case for other in kept.values()):
            kept[which] = case
    return {"only": kept["best"]} if len(kept) == 1 else kept


def _panel(which: str, scored: CaseScore, seen: CaseView, row: Row) -> Panel:
    prediction = seen.predictions[row.name]
    place = telling_slice(seen.reference, prediction)
    return Panel(
        which=which,
        case=scored,
        pixels=grey(seen.image[place], seen.window),
        reference=seen.reference[place].copy(),
        prediction=prediction[place].copy(),
        place=place + 1,
        slices=seen.reference.shape[0],
        aspect=seen.pixel_aspect,
        sides=seen.sides,
    )


def _write(
    board: Board, panels: Mapping[str, Sequence[Panel]], folder: Path, prefix: str
) -> list[Path]:
    written: list[Path] = []
    for row in contestants(board):
        if row.name not in panels:
            continue
        order = ("only", "best", "median", "worst")
        drawn = sorted(panels[row.name], key=lambda panel: order.index(panel.which))
        path = overlay_path(row.name, folder, prefix=prefix)
        if path in written:  # names that differ only in what a file name cannot have
            path = path.with_stem(f"{path.stem}_{len(written)}")
        with figure_style():
            written.append(save_figure(draw_overlay(board, row, drawn), path))
    return written


def draw_overlay(board: Board, row: Row, panels: Sequence[Panel]) -> Figure:
    """The sheet of one row: whole slices above, the same close up below."""
    tallest = max(p.pixels.shape[0] * p.aspect / p.pixels.shape[1] for p in panels)
    heights = (min(1.6, tallest), 1.0)
    figure = new_figure(3.1 * max(2, len(panels)), 3.1 * sum(heights) + 1.2)
    axes = figure.subplots(2, len(panels), squeeze=False, height_ratios=heights)
    colours = class_colours(board.class_names)
    for column, panel in enumerate(panels):
        for line, near in enumerate((False, True)):
            _draw(axes[line][column], panel, colours, near=near)
        axes[0][column].set_title(_title(board, panel), fontsize=9, fontweight="normal", pad=6)
        axes[1][column].set_xlabel("close up", fontsize=8, color=MUTED)
        for letter, x, y in zip(panel.sides or (), (0.03, 0.5), (0.5, 0.97), strict=False):
            axes[0][column].text(x, y, letter, transform=axes[0][column].transAxes, **_LETTER)
    marks = [row.protocol, *(["ORACLE"] if row.oracle else [])]
    marks += ["UNTRAINED"] if row.untrained else []
    figure.suptitle(
        f"{short(row.name)}  ·  {', '.join(marks)}",
        x=0.01,
        ha="left",
        fontsize=11.5,
        fontweight="bold",
        color=WARNING if row.oracle or row.untrained else INK,
    )
    failed = (
        f"  ·  failed cases: {row.failed_cases} of {len(row.cases)}" if row.failed_cases else ""
    )
    seeds = "  ·  first seed" if len(row.seeds) > 1 else ""
    volumes = any(panel.slices > 1 for panel in panels)
    where = "  ·  the slice where the reference is largest" if volumes else ""
    note = f"{board.title}{where}{seeds}{failed}"
    note += f"\n{SIDES}" if any(panel.sides for panel in panels) else ""
    _legend(figure, board, panels, colours, note)
    return figure


def class_colours(class_names: Mapping[str, str]) -> dict[int, str]:
    """A colour for each label; they repeat after seven."""
    return {
        int(label): CLASS_COLOURS[place % len(CLASS_COLOURS)]
        for place, label in enumerate(class_names)
    }


def line_colours(colours: Mapping[int, str]) -> dict[int, str]:
    """Colours of predictions: those of their class, and another one where there is only one."""
    return dict.fromkeys(colours, LINE_OF_ONE) if len(colours) == 1 else dict(colours)


def score_of(board: Board, case: CaseScore, metric: str) -> str:
    """A case's score with its title and unit, as `HD95 3.16 mm`."""
    title, _, unit = head(board, metric).partition(", ")
    value = case.scores.get(metric)
    if value is None:
        return f"{title} {UNKNOWN}"
    if not unit:
        return f"{title} {value:.3f}"
    return f"{title} {value:.{1 if value >= 10 else 2}f} {unit}"


def _title(board: Board, panel: Panel) -> str:
    beside = [name for name in board.settings.metrics if name in {"dice", "hd95"}]
    metrics = list(dict.fromkeys((board.settings.primary.name, *beside)))[:2]
    told = [score_of(board, panel.case, metric) for metric in metrics]
    which = "the only answer" if panel.which == "only" else panel.which
    place = f"slice {panel.place} of {panel.slices}" if panel.slices > 1 else ""
    below = "  ·  ".join(filter(None, (*told, place)))
    return f"{which}: {panel.case.case}\n{below}"


def _draw(axes: Axes, panel: Panel, colours: Mapping[int, str], *, near: bool) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    colour = panel.pixels.ndim == 3
    axes.imshow(
        panel.pixels,
        cmap=None if colour else "gray",
        vmin=None if colour else 0,
        vmax=None if colour else 255,
        aspect=panel.aspect,
        interpolation="nearest" if near else "antialiased",
    )
    lines = line_colours(colours)
    for label in labels_in((panel.reference, panel.prediction)):
        fill: Any = np.zeros((*panel.reference.shape, 4))
        fill[panel.reference == label] = to_rgba(colours.get(label, "#ffffff"), 0.42)
        axes.imshow(fill, aspect=panel.aspect, interpolation="nearest")
        outline = edges(panel.prediction == label)
        if outline:
            axes.add_collection(
                LineCollection(
                    outline,
                    colors=lines.get(label, "#ffffff"),
                    linewidths=1.5 if near else 0.9,
                    capstyle="projecting",
                )
            )
    rows, columns = panel.reference.shape
    part = (slice(0, rows), slice(0, columns))
    if near:
        part = close_up(panel.reference, panel.prediction, aspect=panel.aspect)
    axes.set_xlim(part[1].start - 0.5, part[1].stop - 0.5)
    axes.set_ylim(part[0].stop - 0.5, part[0].start - 0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _legend(
    figure: Figure, board: Board, panels: Sequence[Panel], colours: Mapping[int, str], note: str
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lines = line_colours(colours)
    shown = labels_in([labels for p in panels for labels in (p.reference, p.prediction)])
    parts: list[Any] = []
    for label in shown or tuple(colours)[:1]:
        name = board.class_names.get(str(label), str(label))
        alone = len(colours) == 1
        parts.append(
            Patch(facecolor=colours.get(label, "#ffffff"), alpha=0.7, label=f"{name}, reference")
        )
        if alone:
            parts.append(Line2D([], [], color=lines[label], label=f"{name}, prediction"))
    if len(colours) > 1:
        parts.append(Line2D([], [], color=MUTED, label="line: prediction, in its class's colour"))
    legend = figure.legend(
        handles=parts,
        loc="outside lower left",
        ncols=min(4, len(parts)),
        fontsize=8,
        title=note,
        title_fontsize=8,
        alignment="left",
    )
    legend.get_title().set_color(MUTED)
