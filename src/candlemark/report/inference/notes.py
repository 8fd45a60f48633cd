"""Why numbers may not be quoted, each reason once, however many cells it concerns.

    for note in notes(family.cells):
        note.verdict, note.text, note.cells

Reasons carry figures that differ from cell to cell ("other processes used 0.71 of 2 cores").
Those that differ in figures alone are one note, which says between what they lie.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement, Verdict
from candlemark.report.inference.cells import LATENCY, Cell

_NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
_ASIDE = re.compile(r" ?\([^()]*\)")
_SHOWN = (
    *(LATENCY, "throughput_items_per_s", "decode_ms_per_token", "generated_tokens_per_s"),
    *("real_time_factor", "peak_memory_bytes", "activation_memory_bytes", "flops", "utilisation"),
    *("energy_per_item_j", "relative_error"),
)
"""Measures whose unknowns and verdicts are noted under a table, the median latency first."""

_EXPECTED = (
    "torch keeps no account of tensors on a CPU",
    "nothing is transferred on a CPU",
    "no pool to tell on",
)
"""What is unknown by its nature, and no fault of a measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One reason: the verdict it led to, None where a number is unknown; measures and cells."""

    verdict: Verdict | None
    text: str
    measures: tuple[str, ...]
    cells: tuple[str, ...]


def notes(cells: Sequence[Cell]) -> tuple[Note, ...]:
    """Every reason not to quote a number of these cells, the most serious first."""
    groups: dict[str, list[tuple[str, Cell, Measurement]]] = {}
    for cell in cells:
        for m in _doubtful(cell):
            reason = m.reason or str(m.verdict)
            groups.setdefault(_pattern(reason), []).append((reason, cell, m))
    found = [_note(group) for group in groups.values()]
    order = [Verdict.CONTENDED, Verdict.THROTTLED, Verdict.UNSTABLE, Verdict.TOO_FEW]
    found.sort(key=lambda n: order.index(n.verdict) if n.verdict in order else len(order))
    return tuple(found)


def _doubtful(cell: Cell) -> Iterable[Measurement]:
    """Numbers that may not be quoted or are not known, what follows from another left out."""
    latency = cell.latency
    said = None if latency is None or latency.verdict is Verdict.VALID else latency.reason
    for name in _SHOWN:
        m = cell.get(name)
        if m is None or (m.verdict is Verdict.VALID and m.value is not None):
            continue
        if any(expected in (m.reason or "") for expected in _EXPECTED):
            continue
        if name == "utilisation" and (m.value is not None or _follows(cell)):
            continue
        if name == LATENCY or m.reason != said:
            yield m


def _follows(cell: Cell) -> bool:
    """Is the utilisation unknown because the FLOPs or the latency are?"""
    return cell.value("flops") is None or cell.value(LATENCY) is None


def _pattern(text: str) -> str:
    return _NUMBER.sub("#", _ASIDE.sub("", text))


def _note(group: Sequence[tuple[str, Cell, Measurement]]) -> Note:
    verdicts = Counter(m.verdict for _, _, m in group if m.verdict is not Verdict.VALID)
    names = {m.name for _, _, m in group}
    return Note(
        verdict=verdicts.most_common(1)[0][0] if verdicts else None,
        text=merged([reason for reason, _, _ in group]),
        measures=tuple(MEASURES[name].title for name in _SHOWN if name in names),
        cells=tuple(dict.fromkeys(cell.label for _, cell, _ in group)),
    )


def merged(texts: Sequence[str]) -> str:
    """Texts that differ in figures and asides alone as one: `used 0.2 to 0.9 of 2 cores`."""
    if len(set(texts)) == 1:
        return texts[0]
    bare = [_ASIDE.sub("", text) for text in texts]
    columns = list(zip(*(_NUMBER.findall(text) for text in bare), strict=True))
    spans = iter([_span(column) for column in columns])
    return _NUMBER.sub(lambda _: next(spans), bare[0])


def _span(numbers: Sequence[str]) -> str:
    ordered = sorted(set(numbers), key=lambda number: float(number.replace(",", "")))
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"
