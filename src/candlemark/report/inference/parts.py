"""What figures and pages draw, worked out once: stages, parts of the memory, batches, fronts.

    stage_parts(cell)          # {"preprocess": 1.2, "forward": 12.0, "postprocess": 0.1}, ms
    memory_parts(cell)         # {"model": 438.0, "activations": 31.0, "rest": 143.0}, MB
    pareto(cells)              # those that none beats in both latency and peak memory

Unknown parts are left out, never drawn as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from candlemark.records import Verdict
from candlemark.report.inference.cells import (
    LATENCY,
    PEAK,
    Cell,
    families,
    labels_without,
)
from candlemark.report.style import BASELINE, CONTROL, series_colour

MOST_NAMED = 12
"""Of more points than these, only those that none beats are named."""
RATE = "throughput_items_per_s"


STAGES = ("preprocess", "transfer", "forward", "prefill", "decode", "postprocess")
"""In the order in which they run; prefill and decode stand for the forward pass of a generator."""

COLOURS = {
    **{name: series_colour(place) for place, name in enumerate(STAGES)},
    "model": series_colour(0),
    "activations": series_colour(1),
    "rest": CONTROL,
    "not told apart": BASELINE,
}
"""Of each part of a bar, the same in every figure."""


def stage_parts(cell: Cell) -> dict[str, float]:
    """Median ms of each stage of one batch, those that are known.

    Empty where the forward pass (of a generator the prefill) is unknown, for the shares of the
    rest would mislead, and where it is all that is known.
    """
    prefill, step = cell.value("prefill_ms"), cell.value("decode_ms_per_token")
    tokens = _new_tokens(cell)
    decode = None if step is None or tokens is None else step * (tokens - 1)
    values = {
        "preprocess": cell.value("preprocess_ms"),
        "transfer": cell.value("transfer_ms"),
        "forward": cell.value(LATENCY) if prefill is None else None,
        "prefill": prefill,
        "decode": None if prefill is None else decode,
        "postprocess": cell.value("postprocess_ms"),
    }
    if values["forward"] is None and prefill is None:
        return {}
    found = {name: values[name] for name in STAGES}
    known = {name: value for name, value in found.items() if value is not None}
    return known if len(known) > 1 else {}


def _new_tokens(cell: Cell) -> int | None:
    for value in (cell.record.facts.get("new_tokens"), cell.record.trial.get("new_tokens")):
        if isinstance(value, int):
            return value
    return None


def memory_parts(cell: Cell) -> dict[str, float]:
    """MB of the peak: the model, activations, and what is neither; empty where it is unknown."""
    peak = cell.value(PEAK)
    if peak is None:
        return {}
    model, activations = cell.value("model_bytes"), cell.value("activation_memory_bytes")
    known = {"model": model, "activations": activations}
    parts = {name: value / 1e6 for name, value in known.items() if value is not None}
    rest = peak / 1e6 - sum(parts.values())
    if rest < 0:
        return {"not told apart": peak / 1e6}  # stored parts need not be in memory at once
    return {**parts, "rest": rest}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPoint:
    """Items a second with one batch size."""

    batch: int
    rate: float
    quotable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCurve:
    """Throughput of one model under one set of conditions, by batch size, ascending."""

    label: str
    item: str
    points: tuple[BatchPoint, ...]

    @property
    def best(self) -> BatchPoint:
        """The batch with the highest throughput."""
        return max(self.points, key=lambda point: point.rate)


def batch_curves(cells: Sequence[Cell]) -> tuple[BatchCurve, ...]:
    """Those with two batch sizes or more, from a sweep, else from a search of the largest batch."""
    found: dict[str, dict[int, BatchPoint]] = {}
    items: dict[str, str] = {}
    labelled = [
        (label, cell)
        for label, cell in zip(labels_without(cells, "batch_size"), cells, strict=True)
        if cell.finished
    ]
    for label, cell in labelled:
        points = found.setdefault(label, {})
        items[label] = cell.item
        for size, rate in _searched(cell).items():
            points.setdefault(size, BatchPoint(batch=size, rate=rate, quotable=True))
    for label, cell in labelled:
        m, batch = cell.get(RATE), cell.record.trial.get("batch_size")
        if m is not None and m.value is not None and isinstance(batch, int):
            found[label][batch] = BatchPoint(
                batch=batch, rate=m.value, quotable=m.verdict is Verdict.VALID
            )
    return tuple(
        BatchCurve(
            label=label,
            item=items[label],
            points=tuple(points[batch] for batch in sorted(points)),
        )
        for label, points in found.items()
        if len(points) > 1
    )


def _searched(cell: Cell) -> dict[int, float]:
    """Throughputs that the search of the largest batch left."""
    found = cell.record.facts.get("throughput_by_batch")
    if not isinstance(found, dict):
        return {}
    return {int(batch): float(rate) for batch, rate in found.items() if rate is not None}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TradeOff:
    """Cells of one modality on one device, their names without the device, and those none beats."""

    title: str
    cells: tuple[Cell, ...]
    names: tuple[str, ...]
    front: tuple[Cell, ...]


def trade_offs(cells: Sequence[Cell]) -> tuple[TradeOff, ...]:
    """One for each modality and device with two cells or more that can be placed.

    Peaks of unlike devices are not of the same memory, so they share no panel.
    """
    groups: dict[tuple[str, str], list[tuple[Cell, str]]] = {}
    names = dict(
        zip((c.record.trial_id for c in cells), labels_without(cells, "device"), strict=True)
    )
    for family in families(cells):
        for cell in family.cells:
            if cell.value(LATENCY) and cell.value(PEAK) is not None:
                device = str(cell.record.trial.get("device"))
                named = (cell, names[cell.record.trial_id])
                groups.setdefault((family.modality, device), []).append(named)
    return tuple(
        TradeOff(
            title=f"{modality}, {device}",
            cells=tuple(cell for cell, _ in members),
            names=tuple(name for _, name in members),
            front=pareto([cell for cell, _ in members]),
        )
        for (modality, device), members in groups.items()
        if len(members) > 1
    )


def memory_range(cells: Sequence[Cell]) -> tuple[float, float]:
    """MB from which to which an axis runs: never so narrow that one part in ten looks like much."""
    heavy = [(cell.value(PEAK) or 0.0) / 1e6 for cell in cells]
    reach = max(max(heavy) - min(heavy), 0.1 * max(heavy))
    return max(min(heavy) - 0.35 * reach, 0.0), max(heavy) + 0.35 * reach


def pareto(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Cells that none beats in both latency and peak memory; lower is better in both.

    A latency that may not be quoted beats nothing, nor does a changed answer.
    """
    sound = [cell for cell in cells if cell.quotable and not cell.changed_answer]
    return tuple(
        cell for cell in sound if not any(_beats(other, cell) for other in sound if other != cell)
    )


def _beats(one: Cell, two: Cell) -> bool:
    ours = [one.value(name) or 0.0 for name in (LATENCY, PEAK)]
    theirs = [two.value(name) or 0.0 for name in (LATENCY, PEAK)]
    return all(a <= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs
