"""Stored runs side by side: what became faster, with an interval, or why that cannot be said.

    compared = compare(attempts_of_a, attempts_of_b)                  # the same cells, two runs
    compared = compare(attempts, attempts, across="precision")        # cells of one run
    gains = speedups(records)                                         # for reports

Runs that were stored did not take turns: the machine may have changed between them, and each
attempt at a cell is one process. Two processes of one program differ by more than their samples
tell, so the interval comes from the spread between attempts at the same cell (Student's t), and
is never narrower than what a block bootstrap of the samples gives. The noise floor is that
spread's half-width: what a rerun of the same thing may differ by. Where no cell was run twice
there is no floor, the interval is that of the samples alone, and the verdict is UNSURE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from candlemark.errors import ConfigError
from candlemark.hardware.comparability import differing_fields
from candlemark.metrics.contrast import MARGIN, Change, Contrast, Judgement, judge
from candlemark.metrics.measures import MEASURES, find_measure
from candlemark.records import RunRecord, Status, content_id
from candlemark.report.attempts import contrast_attempts, logs, value_of

Across = Literal["precision", "backend", "device", "batch_size", "model"]

IMPLIED: dict[Across, tuple[str, ...]] = {
    "precision": ("precision", "matmul_precision", "cudnn_tf32"),
    "backend": ("backend", "attention"),
    "device": ("device", "gpu", "gpu_memory_bytes", "driver", "cuda", "cudnn", "cudnn_tf32"),
    "batch_size": ("batch_size", "input_shape"),
    "model": ("attention", "channels_last", "input_shape"),
}
"""Fields of the environment that differ because the cells do."""

HOW = ("metrics", "timing", "isolation", "tolerance")
"""Keys of a trial that say how it was measured, and not what."""

COMPARED = ("latency_p50_ms", "throughput_items_per_s", "peak_memory_bytes")
"""Measures that are compared unless others are asked for."""

REFERENCE: dict[Across, str] = {"device": "cpu", "precision": "fp32", "backend": "eager"}
"""What the others are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One measure of one cell in A and in B.

    label: the cell; first, second: names of what is compared (a run, a precision, ...)
    value_a, value_b: medians over attempts
    ratio: B / A, of geometric means over attempts; low, high: its interval at 95 %
    floor: share by which a rerun may differ; None where nothing was run twice
    same_answer: False where the faster of the two gave another answer than fp32 eager
    """

    label: str
    measure: str
    first: str
    second: str
    change: Change
    grounds: str
    value_a: float | None = None
    value_b: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    p_value: float | None = None
    same_answer: bool | None = None

    @property
    def offered(self) -> bool:
        """May this be called a gain? A faster row that changed the answer may not."""
        return self.change in {Change.FASTER, Change.LESS} and self.same_answer is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times as fast a cell is when one thing about it changes.

    dimension: "device", "precision" or "backend"; first: the reference, such as "cpu"
    times: latency of the first over that of the second, above 1 is faster; low, high at 95 %
    offered: the gain is established and the answer is the same
    """

    label: str
    dimension: Across
    first: str
    second: str
    times: float | None
    low: float | None
    high: float | None
    change: Change
    same_answer: bool | None
    offered: bool
    grounds: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """Two cells to be compared: their attempts, and what may differ between their machines."""

    label: str
    first: str
    second: str
    a: list[RunRecord]
    b: list[RunRecord]
    allowed: tuple[str, ...]


def compare(
    first: Iterable[RunRecord],
    second: Iterable[RunRecord],
    *,
    names: tuple[str, str] = ("A", "B"),
    measures: Sequence[str] = COMPARED,
    across: Across | None = None,
    repeats: Iterable[RunRecord] = (),
    margin: float = MARGIN,
) -> tuple[Compared, ...]:
    """Every cell that both sides have, in the order of the first.

    first, second: attempts, several of one trial where it was repeated
    across: the one key in which cells may differ; the sides are then compared in all pairs, or
        where both are the same run, each value against the reference or the first
    repeats: further attempts that tell how much a rerun differs, such as all of a store

    Raises ConfigError: a measure is unknown, or no cell is in both.
    """
    measured = contrasts(
        first, second, names=names, measures=measures, across=across, repeats=repeats
    )
    judged = judge(
        [one for _, _, one in measured],
        margin=margin,
        speed=[lower_is_faster(name) for _, name, _ in measured],
    )
    return tuple(
        _compared(pair, name, one, verdict)
        for (pair, name, one), verdict in zip(measured, judged, strict=True)
    )


def contrasts(
    first: Iterable[RunRecord],
    second: Iterable[RunRecord],
    *,
    names: tuple[str, str],
    measures: Sequence[str],
    across: Across | None = None,
    repeats: Iterable[RunRecord] = (),
) -> list[tuple[Pair, str, Contrast]]:
    """What `compare` judges: each pair of cells in each measure that one of them has.

    Raises ConfigError: a measure is unknown, or no cell is in both.
    """
    for name in measures:
        find_measure(name)
    a, b = _finished(first), _finished(second)
    pairs = _pairs(a, b, names) if across is None else _pairs_across(a, b, across)
    if not pairs:
        raise ConfigError(_no_pairs(a, b, names, across))
    others = _finished(repeats)
    return [
        (pair, name, _contrast(pair, name, others))
        for pair in pairs
        for name in measures
        if any(value_of(record, name) is not None for record in (*pair.a, *pair.b))
    ]


def speedups(records: Iterable[RunRecord]) -> tuple[Speedup, ...]:
    """All pairs of cells that differ in exactly one of device, precision and backend.

    CPU against GPU, precisions against fp32, backends against eager.

    records: of one machine; several attempts at a trial give the floor without which no gain
    is established
    """
    kept = _finished(records)
    found: list[Speedup] = []
    for dimension in REFERENCE:
        pairs = _pairs_across(kept, kept, dimension)
        contrasts = [_contrast(pair, "latency_p50_ms", ()) for pair in pairs]
        for pair, one, verdict in zip(pairs, contrasts, judge(contrasts), strict=True):
            row = _compared(pair, "latency_p50_ms", one, verdict)
            found.append(
                Speedup(
                    label=row.label,
                    dimension=dimension,
                    first=row.first,
                    second=row.second,
                    times=None if row.ratio is None else 1 / row.ratio,
                    low=None if row.high is None else 1 / row.high,
                    high=None if row.low is None else 1 / row.low,
                    change=row.change,
                    same_answer=row.same_answer,
                    offered=row.offered,
                    grounds=row.grounds,
                )
            )
    return tuple(found)


def cell_label(record: RunRecord, without: Sequence[str] = ()) -> str:
    """The row, and what tells its cells apart."""
    trial = record.trial
    parts = [
        str(trial[name])
        for name in ("device", "precision", "backend")
        if name not in without and trial.get(name) is not None
    ]
    sizes = [
        f"{short} {trial[name]}"
        for name, short in (("batch_size", "batch"), ("sequence_length", "length"))
        if name not in without and trial.get(name) is not None
    ]
    row = () if "model" in without else (str(record.facts.get("row", record.trial_id)),)
    return " ".join((*row, *parts, *sizes))


def _finished(records: Iterable[RunRecord]) -> list[RunRecord]:
    return [
        record
        for record in records
        if record.status is Status.OK and record.trial.get("task") == "inference"
    ]


def _question(record: RunRecord, without: Sequence[str] = ()) -> str:
    """What a cell asks, apart from how it is measured; equal where two may be compared."""
    left = {*HOW, "weights_sha256", *without}
    return content_id({key: value for key, value in record.trial.items() if key not in left})


def _pairs(first: list[RunRecord], second: list[RunRecord], names: tuple[str, str]) -> list[Pair]:
    theirs: dict[str, list[RunRecord]] = {}
    for record in second:
        theirs.setdefault(_question(record), []).append(record)
    ours: dict[str, list[RunRecord]] = {}
    for record in first:
        ours.setdefault(_question(record), []).append(record)
    return [
        Pair(
            label=cell_label(records[0]),
            first=names[0],
            second=names[1],
            a=records,
            b=theirs[key],
            allowed=(),
        )
        for key, records in ours.items()
        if key in theirs
    ]


def _pairs_across(first: list[RunRecord], second: list[RunRecord], across: Across) -> list[Pair]:
    """Each value of `across` against the reference, or the first that there is."""
    groups: dict[str, dict[str, list[RunRecord]]] = {}
    for record in first:
        values = groups.setdefault(_question(record, (across,)), {})
        values.setdefault(str(record.trial.get(across)), []).append(record)
    others: dict[str, dict[str, list[RunRecord]]] = {}
    for record in second:
        values = others.setdefault(_question(record, (across,)), {})
        values.setdefault(str(record.trial.get(across)), []).append(record)
    pairs = []
    for key, values in groups.items():
        reference = REFERENCE.get(across)
        start = reference if reference in values else next(iter(values))
        if reference is not None and start != reference:
            continue  # two GPUs, or bf16 beside fp16: neither is what the other is measured by
        pairs += [
            Pair(
                label=cell_label(values[start][0], (across,)),
                first=str(start),
                second=value,
                a=values[str(start)],
                b=records,
                allowed=IMPLIED[across],
            )
            for value, records in others.get(key, {}).items()
            if value != start
        ]
    return pairs


def _no_pairs(
    a: list[RunRecord], b: list[RunRecord], names: tuple[str, str], across: Across | None
) -> str:
    for side, name in ((a, names[0]), (b, names[1])):
        if not side:
            return f"'{name}' has no finished cell of an inference benchmark"
    if across is not None:
        return f"no two cells differ in {across} alone"
    differing = sorted(
        key
        for key in a[0].trial.keys() | b[0].trial.keys()
        if key not in HOW and a[0].trial.get(key) != b[0].trial.get(key)
    )
    return (
        f"'{names[0]}' and '{names[1]}' have no cell in common; the first of each differ in "
        f"{', '.join(differing)}; to compare across one of them: --across"
    )


def _contrast(pair: Pair, name: str, others: Sequence[RunRecord]) -> Contrast:
    unlike = _unlike(pair)
    if unlike is not None:
        return Contrast(values=np.empty((0, 2)), reason=unlike)
    sides = ((pair.first, pair.a), (pair.second, pair.b))
    empty = next((side for side, records in sides if not len(logs(records, name))), None)
    if empty is not None:
        return Contrast(values=np.empty((0, 2)), reason=f"{empty} has no value above 0")
    return contrast_attempts(pair.a, pair.b, name, repeats=others)


def _unlike(pair: Pair) -> str | None:
    """The fields that forbid the comparison, with both values."""
    for one in pair.a:
        for other in pair.b:
            found = {
                name: values
                for name, values in differing_fields(one.environment, other.environment).items()
                if name.split(".")[0] not in pair.allowed
            }
            if found:
                shown = "; ".join(
                    f"{name} {first!r} against {second!r}"
                    for name, (first, second) in list(found.items())[:3]
                )
                return f"not comparable: {shown}"
    return None


def lower_is_faster(name: str) -> bool | None:
    """True of times, False of rates, None of amounts."""
    measure = MEASURES[name]
    if measure.group in {"latency", "stages"} and measure.higher_is_better is False:
        return True
    if measure.higher_is_better and measure.group in {"throughput", "stages"}:
        return False
    return None


def _compared(pair: Pair, name: str, one: Contrast, verdict: Judgement) -> Compared:
    change, grounds = verdict.change, verdict.grounds
    b = pair.b if change is not Change.SLOWER else pair.a
    same = _same_answer(b)
    if same is False and change is Change.FASTER:
        grounds = f"{grounds}; but the answer changed: {_error(b)}"
    if change is Change.UNSURE and one.ratio is not None:
        grounds = _what_settles(pair, one)
    return Compared(
        label=pair.label,
        measure=name,
        first=pair.first,
        second=pair.second,
        change=change,
        grounds=grounds,
        value_a=_middle(pair.a, name),
        value_b=_middle(pair.b, name),
        ratio=one.ratio,
        low=one.low,
        high=one.high,
        floor=one.floor,
        p_value=verdict.p_value,
        same_answer=same,
    )


def _what_settles(pair: Pair, one: Contrast) -> str:
    again = f"candlemark profile {pair.a[0].facts.get('model', 'MODEL')} --rerun"
    if one.floor is None:
        return f"nothing was run twice, so there is no noise floor; run it again: {again}"
    return (
        f"neither told apart nor shown equal, noise floor {one.floor:.1%} from "
        f"{len(pair.a)} and {len(pair.b)} processes; more of them: {again}"
    )


def _same_answer(records: Sequence[RunRecord]) -> bool | None:
    """False where one attempt gave another answer, by its own tolerance."""
    seen: list[bool | None] = []
    for record in records:
        said: Any = record.facts.get("same_answer")
        error, tolerance = value_of(record, "relative_error"), record.trial.get("tolerance")
        if said is None and error is not None and tolerance is not None:
            said = error <= tolerance
        seen.append(said)
    return False if False in seen else True if True in seen else None


def _error(records: Sequence[RunRecord]) -> str:
    error, tolerance = value_of(records[0], "relative_error"), records[0].trial.get("tolerance")
    if error is None:
        return "it was said not to be the same"
    return f"error {error:.2g}, tolerated {tolerance:g}"


def _middle(records: Sequence[RunRecord], name: str) -> float | None:
    values = [value for record in records if (value := value_of(record, name)) is not None]
    return float(np.median(values)) if values else None
