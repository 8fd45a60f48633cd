"""The PNG figure of what each input adds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from candlemark.report.drawing import new_figure, save_all
from candlemark.report.fusion.charts import line_name
from candlemark.report.fusion.questions import Answer, Study
from candlemark.report.fusion.sentences import bare, headline
from candlemark.report.statistics import Board
from candlemark.report.style import ATTAINABLE, INK, MUTED, WARNING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLES = {
    "auroc": "the class, by AUROC",
    "mase": "the next close, by MASE",
}
_COLOURS = {"yes": ATTAINABLE, "worse": WARNING, "not shown": MUTED}


def draw(board: Board, study: Study, folder: Path, *, prefix: str) -> list[Path]:
    """`{prefix}_inputs.png`; nothing where no comparison could be made."""
    return save_all({"inputs": lambda: inputs(board, study)}, folder, prefix)


def inputs(board: Board, study: Study) -> Figure | None:
    """What the text adds, what the pixels, and both over the numbers and persistence."""
    shown = [answer for answer in study.answers if answer.gain_bounds is not None]
    if not shown:
        return None
    measures = [metric for metric in _TITLES if any(a.metric == metric for a in shown)]
    names = list(dict.fromkeys(line_name(answer, study) for answer in reversed(shown)))
    said = textwrap.fill(f"What each input adds: {headline(study)}", 96)
    lines = said.count("\n")
    figure = new_figure(2.6 + 3.4 * len(measures), 1.5 + 0.25 * lines + 0.46 * len(names))
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, measures, strict=True):
        answers = [answer for answer in shown if answer.metric == metric]
        _panel(panel, answers, names, study)
        panel.set_title(_TITLES[metric], fontsize=9.5)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    figure.suptitle(said, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    figure.supxlabel(
        "better by, 95 % intervals; green better, orange worse, after Holm's correction over "
        f"{study.comparisons} comparisons",
        fontsize=8.5,
        color=INK,
    )
    note = f"{board.dataset}  ·  label {board.label}  ·  paired on the same test cases"
    figure.text(0.01, -0.02, note, ha="left", va="top", fontsize=8, color=MUTED)
    return figure


def _panel(axes: Axes, answers: Sequence[Answer], names: Sequence[str], study: Study) -> None:
    axes.axvline(0.0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ends = [0.0, *(end for answer in answers for end in answer.gain_bounds or ())]
    margin = 0.12 * max(max(ends) - min(ends), 1e-6)
    left, right = min(ends) - margin, max(ends) + margin
    axes.set_xlim(left, right)
    for answer in answers:
        low, high = answer.gain_bounds or (0.0, 0.0)
        gain, place = answer.gain or 0.0, names.index(line_name(answer, study))
        colour = _COLOURS.get(answer.verdict, MUTED)
        axes.plot([low, high], [place] * 2, color=colour, linewidth=3.2)
        axes.plot(gain, place, "o", color=colour, markersize=6.5, markeredgecolor="white")
        # Beside an edge the words grow away from it, so that they stay in their own panel.
        where = (gain - left) / (right - left)
        x, ha = (
            (low, "left") if where < 0.35 else (high, "right") if where > 0.65 else (gain, "center")
        )
        axes.annotate(
            f"over {bare(answer.other or '')}",
            (x, place),
            xytext=(0, 7),
            textcoords="offset points",
            ha=ha,
            fontsize=7.5,
            color=MUTED,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    axes.grid(axis="x")
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
