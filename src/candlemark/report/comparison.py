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

Only numbers that may be quoted take part, and only attempts of one environment a side: the
newest ones that may be compared. Those left out are counted in the grounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from candlemark.errors import ConfigError
from candlemark.hardware.comparability import comparability_key, differing_fields
from candlemark.metrics.contrast import MARGIN, Change, Contrast, Judgement, judge
from candlemark.metrics.measures import MEASURES, find_measure
from candlemark.records import RunRecord, Status, content_id
from candlemark.report.attempts import contrast_attempts, logs, quoted, value_of, why_not_quoted

Across = Literal["precision", "backend", "device", "batch_size", "model"]

IMPLIED: dict[Across, tuple[str, ...]] = {
    "precision": ("precision", "matmul_precision", "cudnn_tf32"),
    "backend": ("backend", "attention"),
    "device": (
        *("device", "gpu", "gpu_memory_bytes", "power_cap_w"),
        *("driver", "cuda", "cudnn", "cudnn_tf32"),
    ),
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
    """Two cells to be compared: their attempts, and what may differ between their machines.

    unlike: why no attempt at one may be compared with one at the other; None where some may
    left_out: attempts that are none of `a` and `b`, as they were made in other environments
    """

    label: str
    first: str
    second: str
    a: list[RunRecord]
    b: list[RunRecord]
    allowed: tuple[str, ...]
    unlike: str | None = None
    left_out: int = 0


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
    across: the one key in which cells may differ; each value of one run is then compared with
        each other value of the other, or where both are the same run, with the reference or
        the first
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
    pairs = _pairs(a, b, names) if across is None else _pairs_across(a, b, across, names)
    if not pairs:
        raise ConfigError(_no_pairs(a, b, names, across))
    pairs = [_in_one_environment(pair) for pair in pairs]
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

    records: several attempts at a trial give the floor without which no gain is established
    """
    kept = _finished(records)
    found: list[Speedup] = []
    for dimension in REFERENCE:
        pairs = [_in_one_environment(pair) for pair in _pairs_across(kept, kept, dimension)]
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
    ours, theirs = _by_question(first), _by_question(second)
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


def _by_question(
    records: Iterable[RunRecord], without: Sequence[str] = ()
) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        found.setdefault(_question(record, without), []).append(record)
    return found


def _pairs_across(
    first: list[RunRecord],
    second: list[RunRecord],
    across: Across,
    names: tuple[str, str] | None = None,
) -> list[Pair]:
    """Cells that differ in `across` alone: within one run from its reference, else all of them."""
    same = {(r.trial_id, r.started_at) for r in first} == {
        (r.trial_id, r.started_at) for r in second
    }
    suffixes = ("", "") if same or names is None else tuple(f" of {name}" for name in names)
    others = _by_question(second, (across,))
    pairs = []
    for key, records in _by_question(first, (across,)).items():
        ours, theirs = _by_value(records, across), _by_value(others.get(key, ()), across)
        pairs += [
            Pair(
                label=cell_label(ours[start][0], (across,)),
                first=f"{start}{suffixes[0]}",
                second=f"{value}{suffixes[1]}",
                a=ours[start],
                b=theirs[value],
                allowed=IMPLIED[across],
            )
            for start in (_references(ours, across) if same else ours)
            for value in theirs
            if value != start
        ]
    return pairs


def _by_value(records: Iterable[RunRecord], across: Across) -> dict[str, list[RunRecord]]:
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        found.setdefault(str(record.trial.get(across)), []).append(record)
    return found


def _references(values: Iterable[str], across: Across) -> list[str]:
    """What the others of one run are measured by; none for two GPUs, or bf16 beside fp16."""
    known = REFERENCE.get(across)
    return [value for value in values if known in (None, value)][:1]


def _in_one_environment(pair: Pair) -> Pair:
    """The newest attempts that may be compared, each side of one environment."""
    ours, theirs = _by_environment(pair.a), _by_environment(pair.b)
    reasons = []
    for b in theirs:
        for a in ours:
            unlike = _unlike(a[0], b[0], pair.allowed)
            if unlike is None:
                left_out = len(pair.a) + len(pair.b) - len(a) - len(b)
                return replace(pair, a=a, b=b, left_out=left_out)
            reasons.append(unlike)
    return replace(pair, unlike=reasons[0])


def _by_environment(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Attempts parted by what must agree, those with the newest attempt first."""
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        found.setdefault(comparability_key(record.environment), []).append(record)
    return sorted(
        found.values(), key=lambda group: max(one.started_at for one in group), reverse=True
    )


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
        if key not in {*HOW, "weights_sha256"} and a[0].trial.get(key) != b[0].trial.get(key)
    )
    return (
        f"'{names[0]}' and '{names[1]}' have no cell in common; the first of each differ in "
        f"{', '.join(differing)}; to compare across one of them: --across"
    )


def _contrast(pair: Pair, name: str, others: Sequence[RunRecord]) -> Contrast:
    if pair.unlike is not None:
        return Contrast(values=np.empty((0, 2)), reason=pair.unlike)
    for side, records in ((pair.first, pair.a), (pair.second, pair.b)):
        if not len(logs(records, name)):
            reason = f"{side}: {why_not_quoted(records, name)}; run it again: {_again(records)}"
            return Contrast(values=np.empty((0, 2)), reason=reason)
    return contrast_attempts(pair.a, pair.b, name, repeats=others)


def _unlike(one: RunRecord, other: RunRecord, allowed: Sequence[str]) -> str | None:
    """The fields that forbid the comparison, with both values."""
    found = {
        name: values
        for name, values in differing_fields(one.environment, other.environment).items()
        if name.split(".")[0] not in allowed
    }
    shown = "; ".join(
        f"{name} {first!r} against {second!r}" for name, (first, second) in list(found.items())[:3]
    )
    return f"not comparable: {shown}" if found else None


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
    if pair.left_out:
        grounds = f"{grounds}; left out: {pair.left_out} attempts in other environments"
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
    again = _again(pair.a)
    if one.floor is None:
        return f"nothing was run twice, so there is no noise floor; run it again: {again}"
    return (
        f"neither told apart nor shown equal, noise floor {one.floor:.1%} from "
        f"{len(pair.a)} and {len(pair.b)} processes; more of them: {again}"
    )


def _again(records: Sequence[RunRecord]) -> str:
    """The command that measures these cells once more."""
    return f"candlemark profile {records[0].facts.get('model', 'MODEL')} --rerun"


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
    values = [value for record in records if (value := quoted(record, name)) is not None]
    return float(np.median(values)) if values else None
