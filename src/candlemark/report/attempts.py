"""What stored attempts at two cells say about the ratio of a measure.

    found = contrast_attempts(records_of_a, records_of_b, "latency_p50_ms")

An attempt is one process. Where a cell was attempted more than once, the spread between its
attempts gives the interval and the noise floor; the samples of one process alone, resampled in
blocks because neighbours are alike, tell how well that process is known and no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from candlemark.metrics.contrast import Contrast
from candlemark.metrics.intervals import effective_count
from candlemark.metrics.resampling import resample_counts
from candlemark.records import RunRecord, Verdict

FloatArray = npt.NDArray[np.float64]

SAMPLES = {"latency_p50_ms": "latency_ms", "throughput_items_per_s": "throughput_round_ms"}
"""Samples whose median a measure is."""

EXACT = frozenset({"parameters", "model_bytes", "flops", "macs", "largest_batch"})
"""Counted, not measured: a rerun gives the same."""

REPLICATES = 400


def contrast_attempts(
    a: Sequence[RunRecord],
    b: Sequence[RunRecord],
    name: str,
    *,
    repeats: Sequence[RunRecord] = (),
) -> Contrast:
    """The ratio B / A of a measure, its interval, p-value and noise floor.

    a, b: attempts that have a value above 0
    repeats: further attempts; those at the same trials on the same machine tell how much a
        rerun differs

    Without any repeat the floor is None and the interval that of the samples alone.
    """
    sides = (logs(a, name), logs(b, name))
    change = float(sides[1].mean() - sides[0].mean())
    if name in EXACT:
        return _contrast(change, 0.0, 0.0, p_value=float(change == 0), floor=0.0, error=0.0)
    within = math.hypot(_within(a, name), _within(b, name))
    between, freedom = _between(a, b, name, repeats)
    if between is None:
        if not within:
            return Contrast(values=_NONE, ratio=math.exp(change), p_value=1.0, error=math.inf)
        p = float(2 * stats.norm.sf(abs(change) / within))
        return _contrast(change, 1.96 * within, 1.64 * within, p_value=p, floor=None, error=within)
    counts = 1 / len(sides[0]) + 1 / len(sides[1])
    error = max(between * math.sqrt(counts), within)
    t = stats.t(freedom)
    half = float(t.ppf(0.975)) * error
    p = float(2 * t.sf(abs(change) / error)) if error else float(change == 0)
    inner = float(t.ppf(0.95)) * error
    return _contrast(
        change, half, inner, p_value=p, floor=_share(half), error=error, freedom=freedom
    )


_NONE: FloatArray = np.empty((0, 2))
_LARGEST = 300.0  # exp() of more is no float


def _contrast(
    change: float,
    half: float,
    inner: float,
    *,
    p_value: float,
    floor: float | None,
    error: float,
    freedom: int | None = None,
) -> Contrast:
    half, inner = min(half, _LARGEST), min(inner, _LARGEST)
    return Contrast(
        values=_NONE,
        ratio=math.exp(change),
        low=math.exp(change - half),
        high=math.exp(change + half),
        inner_low=math.exp(change - inner),
        inner_high=math.exp(change + inner),
        p_value=p_value,
        floor=floor,
        error=error,
        freedom=freedom,
    )


def _share(logarithm: float) -> float:
    return math.expm1(min(logarithm, _LARGEST))


def value_of(record: RunRecord, name: str) -> float | None:
    """The measurement's value; None where it is unknown or was not made."""
    found = record.measurement(name)
    return None if found is None else found.value


def quoted(record: RunRecord, name: str) -> float | None:
    """The value, where its verdict allows it to be quoted."""
    found = record.measurement(name)
    return None if found is None or found.verdict is not Verdict.VALID else found.value


def why_not_quoted(records: Sequence[RunRecord], name: str) -> str:
    """Why `logs` found nothing, from the newest attempt."""
    found = max(records, key=lambda record: record.started_at).measurement(name)
    if found is None:
        return f"{name} was not measured"
    if found.verdict is not Verdict.VALID:
        return f"{name} is {found.verdict}" + (f": {found.reason}" if found.reason else "")
    return f"{name} is unknown: {found.reason}" if found.value is None else f"{name} is not above 0"


def logs(records: Sequence[RunRecord], name: str) -> FloatArray:
    """Logarithms of the values above 0 that may be quoted, float64 (n,)."""
    values = [quoted(record, name) for record in records]
    return np.log([value for value in values if value is not None and value > 0])


def _between(
    a: Sequence[RunRecord], b: Sequence[RunRecord], name: str, repeats: Sequence[RunRecord]
) -> tuple[float | None, int]:
    """Standard deviation between attempts at the same cell, and its degrees of freedom.

    Each side is a group of its own, so that what differs between them is no noise; attempts
    that are on neither side are one more for each trial.
    """
    known = {(record.trial_id, record.started_at) for record in (*a, *b)}
    keys = {side[0].trial_id: side[0].environment.get("comparability_key") for side in (a, b)}
    groups: dict[str, list[RunRecord]] = {"a": list(a), "b": list(b)}
    for record in repeats:
        key = keys.get(record.trial_id, "")
        fits = key is not None and record.environment.get("comparability_key") == key
        if fits and (record.trial_id, record.started_at) not in known:
            groups.setdefault(record.trial_id, []).append(record)
    total, freedom = 0.0, 0
    for group in groups.values():
        found = logs(group, name)
        if len(found) > 1:
            total += float(np.sum((found - found.mean()) ** 2))
            freedom += len(found) - 1
    return (math.sqrt(total / freedom), freedom) if freedom else (None, 0)


def _within(records: Sequence[RunRecord], name: str) -> float:
    """Standard error of the log median over the attempts, from their samples; 0 where unknown."""
    errors = []
    for record in records:
        if quoted(record, name) is None:
            continue
        samples = record.samples.get(SAMPLES.get(name, ""))
        if samples is None or len(samples) < 5 or not np.all(samples > 0):
            return 0.0
        errors.append(_median_error(np.asarray(samples, dtype=np.float64)))
    return math.sqrt(sum(error**2 for error in errors)) / max(len(errors), 1)


def _median_error(samples: FloatArray) -> float:
    """Standard deviation of the log median over block resamples."""
    count = len(samples)
    # Blocks twice as long as neighbours remember, so that most of what they share is kept.
    block = min(max(1, math.ceil(2 * count / effective_count(samples, 0.5))), max(1, count // 5))
    order = np.argsort(samples, kind="stable")
    logs = np.log(samples[order])
    medians: list[FloatArray] = []
    for counts in resample_counts(
        case_count=count, block_length=block, replicates=REPLICATES, seed=0
    ):
        passed = np.cumsum(counts[:, order], axis=1) >= count / 2
        medians.append(logs[np.argmax(passed, axis=1)])
    return float(np.concatenate(medians).std(ddof=1))
