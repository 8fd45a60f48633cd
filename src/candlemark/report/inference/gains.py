"""What a precision, a backend or a device gained, and what must not be called a gain.

    for line in gain_lines(speedups(attempts)):
        line.text, line.kind                  # kind: "gain", "loss", "same", "changed", "unsure"

Established changes have a line each; what is unsure for one and the same reason is one line,
which says what settles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from candlemark.metrics.contrast import Change
from candlemark.report.comparison import Speedup, cell_label
from candlemark.report.inference.cells import LATENCY, Cell, labels_without
from candlemark.report.inference.notes import merged
from candlemark.report.inference.numbers import with_interval

Kind = Literal["gain", "loss", "same", "changed", "unsure"]
MOST_UNSURE = 3
"""So many unsure comparisons have a line each; more are one line a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GainLine:
    """One sentence about one comparison, or about several that are unsure alike."""

    kind: Kind
    text: str


def kind_of(gain: Speedup) -> Kind:
    """What a comparison came to; a changed answer is never a gain."""
    if gain.change is Change.FASTER:
        return "gain" if gain.offered else "changed"
    if gain.change is Change.SLOWER:
        return "loss"
    return "same" if gain.change is Change.SAME else "unsure"


def times(gain: Speedup) -> str:
    """`1.80 ±0.05 x`, or why there is no number."""
    if gain.times is None:
        return "not known"
    return f"{with_interval(gain.times, gain.low, gain.high)} x"


def same_answer(gain: Speedup) -> str:
    """What is known about the answer of the faster side."""
    if gain.same_answer is None:
        return "answer not compared"
    return "same answer" if gain.same_answer else "OTHER ANSWER"


def named(gains: Sequence[Speedup], cells: Sequence[Cell]) -> tuple[Speedup, ...]:
    """The same comparisons, called as the cells are in tables: by the model and what varies.

    None where no latency was asked for: nothing could have been gained.
    """
    if all(cell.latency is None for cell in cells):
        return ()
    shorter = {
        (dimension, cell_label(cell.record, (dimension,))): label
        for dimension in {gain.dimension for gain in gains}
        for cell, label in zip(cells, labels_without(cells, dimension), strict=True)
    }
    return tuple(
        replace(gain, label=shorter.get((gain.dimension, gain.label), gain.label)) for gain in gains
    )


def gain_lines(gains: Sequence[Speedup]) -> tuple[GainLine, ...]:
    """Gains first, then what is no gain and why, and last what is unsure."""
    lines = []
    for kind in ("gain", "changed", "loss", "same"):
        lines += [GainLine(kind=kind_of(g), text=_line(g)) for g in gains if kind_of(g) == kind]
    unsure = [gain for gain in gains if kind_of(gain) == "unsure"]
    return (*lines, *_unsure(unsure))


def _line(gain: Speedup) -> str:
    number = "" if gain.times is None else f" {times(gain)}"
    head = f"{gain.second} against {gain.first}, {gain.label}:{number}"
    if kind_of(gain) == "changed":
        return f"{head}, no gain: {gain.grounds}"
    if kind_of(gain) == "unsure":
        return f"{head}{', ' if gain.times is not None else ' '}UNSURE: {_briefly(gain)}"
    return f"{head} {gain.change}, {same_answer(gain)}"


def settled_by(gain: Speedup) -> str:
    """Why it is unsure and what settles it; the command is the same for all cells."""
    text, command, rest = gain.grounds.partition(": candlemark profile")
    if not command:
        return text
    _, left_out, more = rest.partition("; left out")
    return f"{text} with --rerun{left_out}{more}"


def _briefly(gain: Speedup) -> str:
    """As `settled_by`; what is wrong with one side's latency stands among the notes already."""
    text = settled_by(gain)
    for side in (gain.first, gain.second):
        stated = f"{side}: {LATENCY} is "
        if text.startswith(stated):
            return f"the latency of {side} is {text.removeprefix(stated).split(':')[0]}"
    return text


def _unsure(gains: Sequence[Speedup]) -> list[GainLine]:
    if len(gains) <= MOST_UNSURE:
        return [GainLine(kind="unsure", text=_line(gain)) for gain in gains]
    groups: dict[str, list[Speedup]] = {}
    for gain in gains:
        groups.setdefault(_briefly(gain).split(",")[0].split(":")[0], []).append(gain)
    lines = []
    for group in groups.values():
        texts = list(dict.fromkeys(_briefly(gain) for gain in group))
        told = merged(texts) if _alike(texts) else f"{texts[0]}; and alike"
        changes = dict.fromkeys(f"{gain.second} against {gain.first}" for gain in group)
        number = f"{len(group)} comparisons" if len(group) > 1 else "1 comparison"
        lines.append(
            GainLine(kind="unsure", text=f"{number} UNSURE ({', '.join(changes)}): {told}")
        )
    return lines


def _alike(texts: Sequence[str]) -> bool:
    try:
        merged(texts)
    except ValueError:
        return False
    return True
