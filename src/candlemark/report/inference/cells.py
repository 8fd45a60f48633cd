"""Inference trials as reports show them: cells, what varies between them, and what is alike.

    cells = build_cells(records)                # those of the task `inference`, failed ones too
    for family in families(cells):              # one a modality
        family.shared                           # ("cpu", "fp32", "eager", "batch 1", "2 threads")
        family.varying                          # the dimensions that tell its cells apart
    answer(cells)                               # one sentence: how much of it may be quoted

A cell is one model under one set of conditions. What all cells of a table share is said once,
above it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from candlemark.metrics.latency import SAMPLES_NEEDED
from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement, RunRecord, Status, Verdict
from candlemark.report.format import short
from candlemark.results.naming import fact, row_name, task_of
from candlemark.results.store import Results

LATENCY = "latency_p50_ms"
PEAK = "peak_memory_bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """Something in which cells may differ.

    head: above its column; written: a value as it reads on its own, such as "batch 8"
    """

    name: str
    head: str
    of: Callable[[RunRecord], Any]
    written: str = "{}"


def _trial(name: str) -> Callable[[RunRecord], Any]:
    return lambda record: fact(record, name)


def _shape(name: str) -> Callable[[RunRecord], Any]:
    """What was asked for, else what the model was made for."""

    def of(record: RunRecord) -> Any:
        asked = record.trial.get(name)
        found = record.facts.get("shape")
        return found.get(name) if asked is None and isinstance(found, dict) else asked

    return of


DIMENSIONS = (
    Dimension(name="device", head="device", of=_trial("device")),
    Dimension(name="precision", head="precision", of=_trial("precision")),
    Dimension(name="backend", head="backend", of=_trial("backend")),
    Dimension(name="batch_size", head="batch", of=_trial("batch_size"), written="batch {}"),
    Dimension(
        name="sequence_length", head="tokens", of=_shape("sequence_length"), written="{} tokens"
    ),
    Dimension(name="image_size", head="px", of=_shape("image_size"), written="{} px"),
    Dimension(name="audio_s", head="sound s", of=_shape("audio_s"), written="{:g} s of sound"),
    Dimension(name="new_tokens", head="new", of=_shape("new_tokens"), written="{} new tokens"),
    Dimension(name="threads", head="threads", of=_trial("threads"), written="{} threads"),
    Dimension(name="weights", head="weights", of=_trial("weights"), written="{} weights"),
    Dimension(name="seed", head="seed", of=lambda r: r.trial.get("seed"), written="seed {}"),
    Dimension(name="isolation", head="isolation", of=_trial("isolation"), written="isolation {}"),
)
"""In the order of tables."""

UNREMARKABLE = {"seed": 0, "isolation": "cell"}
"""Values that go without saying where all cells share them."""

OWN_SHAPE = frozenset({"sequence_length", "image_size", "audio_s", "new_tokens"})
"""Dimensions that follow from the model, and tell two of its cells apart only where asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """One inference trial; `label` names it among those it is shown with."""

    record: RunRecord
    name: str
    label: str

    @property
    def finished(self) -> bool:
        """Did it end well?"""
        return self.record.status is Status.OK

    @property
    def modality(self) -> str:
        """What the model reads."""
        return _reads(self.record)

    @property
    def item(self) -> str:
        """What one item of a batch is, in the plural."""
        return str(self.record.facts.get("item") or "items")

    def get(self, name: str) -> Measurement | None:
        """The measurement, known or not; None where it was not made."""
        return self.record.measurement(name)

    def value(self, name: str) -> float | None:
        """The measurement's value; None where it is unknown or was not made."""
        found = self.get(name)
        return None if found is None else found.value

    @property
    def latency(self) -> Measurement | None:
        """The median latency."""
        return self.get(LATENCY)

    @property
    def quotable(self) -> bool:
        """Is the median latency known, and may it be quoted?"""
        found = self.latency
        return found is not None and found.value is not None and found.verdict is Verdict.VALID

    @property
    def verdict(self) -> Verdict | None:
        """That of the median latency, else of the first number that is known."""
        found = self.latency
        if found is not None:
            return found.verdict
        known = [m for m in self.record.measurements if m.value is not None and m.name in MEASURES]
        timed = [m for m in known if MEASURES[m.name].group in {"throughput", "stages", "energy"}]
        return (timed or known)[0].verdict if known else None

    @property
    def changed_answer(self) -> bool:
        """Was its answer found to differ from fp32 eager's beyond what is tolerated?"""
        return self.record.facts.get("same_answer") is False

    def lacking(self, percentile: str) -> int | None:
        """Samples that a percentile still needs; None where it is known or was not timed."""
        found = self.get(f"latency_{percentile}_ms")
        if found is None or found.value is not None or found.verdict is not Verdict.TOO_FEW:
            return None
        return max(SAMPLES_NEEDED[percentile] - (found.sample_count or 0), 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """The cells of one modality that are shown in one table.

    shared: what all of them have in common, in words; varying: what tells them apart
    """

    modality: str
    cells: tuple[Cell, ...]
    shared: tuple[str, ...]
    varying: tuple[Dimension, ...]

    @property
    def item(self) -> str:
        """What one item is, in the plural."""
        return self.cells[0].item

    def has(self, name: str) -> bool:
        """Is the value known for any cell?"""
        return any(cell.value(name) is not None for cell in self.cells)


def build_cells(records: Iterable[RunRecord]) -> tuple[Cell, ...]:
    """The trials of the task `inference`, each named by its model and what else varies."""
    chosen = [record for record in records if task_of(record) == "inference"]
    rows = [row_name(record) for record in chosen]
    full: dict[str, set[str]] = {}
    for row in rows:
        full.setdefault(short(row), set()).add(row)
    modalities = dict.fromkeys(map(_reads, chosen))
    told = {of: _telling([r for r in chosen if _reads(r) == of]) for of in modalities}
    cells = []
    for record, row in zip(chosen, rows, strict=True):
        name = short(row) if len(full[short(row)]) == 1 else row
        cells.append(
            Cell(record=record, name=name, label=_label(name, record, told[_reads(record)]))
        )
    return tuple(cells)


def labels_without(cells: Sequence[Cell], dimension: str) -> list[str]:
    """The label of each cell but for one dimension, in which cells are compared."""
    told = {
        of: _telling([c.record for c in cells if c.modality == of])
        for of in dict.fromkeys(cell.modality for cell in cells)
    }
    return [
        _label(cell.name, cell.record, [d for d in told[cell.modality] if d.name != dimension])
        for cell in cells
    ]


def _reads(record: RunRecord) -> str:
    return str(record.facts.get("modality") or "unknown modality")


def _telling(records: Sequence[RunRecord]) -> list[Dimension]:
    """The dimensions that tell cells apart which the model does not."""
    return [d for d in _varying(records) if d.name not in OWN_SHAPE or _asked(records, d)]


def _label(name: str, record: RunRecord, told: Sequence[Dimension]) -> str:
    return " ".join([name, *filter(None, (written(d, record) for d in told))])


def _asked(records: Sequence[RunRecord], dimension: Dimension) -> bool:
    """Does one model have cells that differ in this dimension?"""
    seen: dict[str, set[Any]] = {}
    for record in records:
        seen.setdefault(row_name(record), set()).add(dimension.of(record))
    return any(len(values) > 1 for values in seen.values())


def _varying(records: Sequence[RunRecord]) -> tuple[Dimension, ...]:
    """Dimensions with several values; a model that has no such dimension does not count."""
    found = []
    for dimension in DIMENSIONS:
        values = {str(dimension.of(record)) for record in records}
        if len(values - {str(None)} if dimension.name in OWN_SHAPE else values) > 1:
            found.append(dimension)
    return tuple(found)


def written(dimension: Dimension, record: RunRecord) -> str:
    """A value in words, "" where the record has none."""
    value = dimension.of(record)
    if value is None:
        return ""
    text = dimension.written.format(value)
    return text[:-1] if value == 1 and text.endswith("s") and dimension.name != "weights" else text


def families(cells: Sequence[Cell]) -> tuple[Family, ...]:
    """The finished cells by modality, in the order in which each first appears."""
    found = []
    for modality in dict.fromkeys(cell.modality for cell in cells if cell.finished):
        members = tuple(c for c in cells if c.finished and c.modality == modality)
        records = [cell.record for cell in members]
        varying = _varying(records)
        alike = [d for d in DIMENSIONS if d not in varying]
        shared = [_common(d, records) for d in alike]
        found.append(
            Family(
                modality=modality,
                cells=members,
                shared=tuple(text for text in shared if text),
                varying=varying,
            )
        )
    return tuple(found)


def _common(dimension: Dimension, records: Sequence[RunRecord]) -> str:
    """The one value of all that have one, "" where none has or it goes without saying."""
    texts = [
        written(dimension, record)
        for record in records
        if dimension.of(record) not in {None, UNREMARKABLE.get(dimension.name)}
    ]
    return texts[0] if texts else ""


def answer(cells: Sequence[Cell]) -> str:
    """How much was measured, on what, and how many of the latencies may be quoted."""
    if not cells:
        return "There are no cells of inference."
    finished = [cell for cell in cells if cell.finished]
    failed = Counter(str(c.record.status).replace("_", " ") for c in cells if not c.finished)
    parts = [f"{_count(len(finished), 'cell')} measured"]
    if failed:
        told = ", ".join(f"{count} {status}" for status, count in failed.items())
        parts[0] = f"{len(finished)} of {_count(len(cells), 'cell')} measured ({told})"
    if machines := _machines(finished):
        parts[0] += f" on {machines}"
    if finished:
        parts.append(_quotable(finished))
    changed = sum(cell.changed_answer for cell in finished)
    if changed:
        parts.append(f"{_count(changed, 'cell')} changed the answer beyond what is tolerated")
    return "; ".join(parts) + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _quotable(finished: Sequence[Cell]) -> str:
    timed = [cell for cell in finished if cell.latency is not None]
    if not timed:
        return "no latency was asked for"
    good = sum(cell.quotable for cell in timed)
    if good == len(timed):
        return "the latency may be quoted" if good == 1 else f"all {good} latencies may be quoted"
    # An unknown median has no number to quote, whatever its verdict.
    kinds = Counter(
        "unknown"
        if cell.latency.value is None and cell.latency.verdict is Verdict.VALID
        else str(cell.latency.verdict)
        for cell in timed
        if cell.latency is not None and not cell.quotable
    )
    why = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    if good == 0 and len(kinds) == 1:
        why = next(iter(kinds))
    how_many = "no latency may" if good == 0 else f"{good} of {len(timed)} latencies may"
    return f"{how_many} be quoted ({why})"


def _machines(cells: Sequence[Cell]) -> str:
    """Names of the processors, with the threads that all cells on a CPU share."""
    names: dict[str, set[int]] = {}
    for cell in cells:
        environment = cell.record.environment
        gpu = environment.get("gpu") if environment.get("device") != "cpu" else None
        name = str(gpu or environment.get("cpu") or environment.get("device") or "")
        if not name:
            continue
        used = names.setdefault(name, set())
        threads = cell.record.trial.get("threads")
        if gpu is None and isinstance(threads, int):
            used.add(threads)
    told = []
    for name, used in names.items():
        threads = f", {_count(next(iter(used)), 'thread')}" if len(used) == 1 else ""
        told.append(f"{name}{threads}")
    return " and on ".join(told)


def all_attempts(results: Results, records: Iterable[RunRecord]) -> list[RunRecord]:
    """Every stored attempt at the trials of these records, which tells how much a rerun differs."""
    mine = {r.trial_id: r for r in records if task_of(r) == "inference"}
    if not mine:
        return []
    # Samples are most of a store, so they are read again only where there are further attempts.
    counts = Counter(one.record.trial_id for one in results.attempts(bulk=False))
    found: list[RunRecord] = []
    for trial_id, record in mine.items():
        again = counts[trial_id] > 1
        found += [a.record for a in results.attempts(trial_id)] if again else [record]
    return found
