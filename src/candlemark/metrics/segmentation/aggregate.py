"""Scores of many cases as one number with an interval, per class and over classes.

    found = aggregate(results, labels=("1",), metrics=("dice", "hd95"))
    found.overall["dice"]           # Measurement(name="dice", value=0.81, low=0.77, high=0.84, ...)
    found.by_class["1"]["hd95"]

Cases are the unit: a bootstrap draws whole cases with all their classes, so the interval is about
other cases of the same kind, never about voxels. A number over classes is the mean over cases of
the mean over a case's classes, in candlemark's convention and in those of tools that say nothing
else. Below 6 cases no paired test of two sides can reach 5 %, so no interval is given and the
verdict is TOO_FEW.

What simulation says of it (300 samples each of the Dice of models whose mean is known; share whose
95 % interval held that mean):

    cases   alike (0.6 to 0.9)   uneven (0.4 to 1)   15 % missed altogether   distances (lognormal)
    6              93 %                87 %                   74 %                    88 %
    10             93 %                95 %                   82 %                    88 %
    20             95 %                93 %                   97 %                    90 %
    40             95 %                96 %                   94 %                    93 %

A kind of failure that hits one case in seven is often not among six cases, and no interval knows
what its sample never showed. Paired tests at 5 % call a difference that is none in 4 to 6 % of
samples, in fewer where most cases are scored alike. `python -m pytest -m slow
tests/metrics/segmentation` measures it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from candlemark.metrics.segmentation.catalog import SegmentationMetric, find_segmentation
from candlemark.metrics.segmentation.conventions import CONVENTIONS, Convention
from candlemark.metrics.segmentation.scores import (
    OURS,
    CaseResult,
    FloatArray,
    ScoreTable,
    tabulate,
    unit_of,
    why_absent,
)
from candlemark.metrics.summary import LEVEL, Interval, interval, replicate
from candlemark.records import Measurement, Verdict

MINIMUM_CASES = 6
REPLICATES = 2000
_DIGITS = 10
_LEVEL_DISTANCE = "every case has the same score; how far off another may be is unseen"
_PERFECT = "every case has the best score there is; how far off one may be is unseen"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampled:
    """A mean over cases and its bootstrap, the same draws for all rows of the same cases.

    value: NaN or infinite where the convention says so
    replicates: float64[B], empty where there are too few cases
    case_count: cases that have a number; a tool that leaves cases out has fewer than there are
    seed_variance: of the mean over training seeds, 0 where there is one
    unbounded: whether the convention knows no greatest value of the metric
    reason: why the value is unknown
    """

    value: float
    replicates: FloatArray
    case_count: int
    seed_variance: float = 0.0
    unbounded: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregated:
    """Measurements by metric over classes, and by label and metric."""

    overall: Mapping[str, Measurement]
    by_class: Mapping[str, Mapping[str, Measurement]]


def aggregate(
    results: Sequence[CaseResult],
    *,
    labels: Sequence[str],
    metrics: Sequence[str],
    convention: str = OURS,
    tolerance_mm: float = 1.0,
    replicates: int = REPLICATES,
) -> Aggregated:
    """Every metric of a row of one seed."""
    chosen = CONVENTIONS[convention]

    def measured(metric: str, label: str | None) -> Measurement:
        sampled = sample(
            results,
            labels=labels,
            metric=metric,
            label=label,
            convention=chosen,
            tolerance_mm=tolerance_mm,
            replicates=replicates,
        )
        return measurement(metric, sampled, unit=unit_of(metric, results))

    return Aggregated(
        overall={metric: measured(metric, None) for metric in metrics},
        by_class={
            label: {metric: measured(metric, label) for metric in metrics} for label in labels
        },
    )


def sample(
    results: Sequence[CaseResult],
    *,
    labels: Sequence[str],
    metric: str,
    convention: Convention,
    label: str | None = None,
    tolerance_mm: float = 1.0,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Sampled:
    """The mean of one metric over cases (of one class, or over classes) and its bootstrap."""
    count = len(results)
    table = tabulate(
        results, labels=labels, metric=metric, convention=convention, tolerance_mm=tolerance_mm
    )
    why = _why_unknown(table, results, metric, convention)
    if table is None or why is not None:
        return Sampled(value=np.nan, replicates=np.empty(0), case_count=count, reason=why)
    once = np.ones((1, count))
    value = float(_mean(table, label, once)[0])
    if not np.isfinite(value):
        return Sampled(
            value=value, replicates=np.empty(0), case_count=count, reason=_undefined(table, value)
        )
    ((value, drawn),) = replicate(
        [lambda weight: _mean(table, label, weight)],
        case_count=count,
        block_length=1,
        replicates=replicates if count >= MINIMUM_CASES else 1,
        seed=seed,
    )
    known = table.case_count(label)
    kept = drawn if known >= MINIMUM_CASES else np.empty(0)
    # Sums in another order differ in the last bits: taken for spread, they would make a difference
    # that is the same in every case look surer than the cases can make it.
    return Sampled(
        value=round(value, _DIGITS),
        replicates=np.round(kept, _DIGITS),
        case_count=known,
        unbounded=metric in convention.unbounded,
    )


def over_seeds(seeds: Sequence[Sampled]) -> Sampled:
    """The mean over seeds; its interval carries the spread over seeds as well."""
    if len(seeds) == 1:
        return seeds[0]
    unknown = next((one for one in seeds if one.reason is not None), None)
    if unknown is not None:
        return unknown
    values = np.asarray([one.value for one in seeds])
    fewest = min(seeds, key=lambda one: one.case_count)
    return replace(
        fewest,
        value=float(values.mean()),
        replicates=np.mean([one.replicates for one in seeds], axis=0)
        if fewest.replicates.size
        else fewest.replicates,
        seed_variance=float(values.var(ddof=1) / len(values)),
    )


def measurement(metric: str, sampled: Sampled, *, unit: str | None) -> Measurement:
    """A sampled score with its interval, or why it has none.

    unit: None where some scans have a spacing and some have none
    """
    known = find_segmentation(metric)
    few = sampled.case_count < MINIMUM_CASES
    verdict = Verdict.TOO_FEW if few else Verdict.VALID
    if sampled.reason is not None or (unit is None and known.is_distance):
        mixed = "some scans have a spacing and some have none; distances in mm and px have no mean"
        return Measurement(
            name=metric,
            value=None,
            unit=known.unit,
            sample_count=sampled.case_count,
            verdict=verdict,
            reason=sampled.reason or mixed,
        )
    bounds = bounds_of(known, sampled)
    return Measurement(
        name=metric,
        value=sampled.value,
        unit=unit or "",
        low=bounds.low,
        high=bounds.high,
        level=None if bounds.low is None else LEVEL,
        sample_count=sampled.case_count,
        verdict=verdict,
        reason=bounds.reason,
    )


def bounds_of(metric: SegmentationMetric, sampled: Sampled, *, level: float = LEVEL) -> Interval:
    """The interval of a mean, or why there is none."""
    count = sampled.case_count
    if count < MINIMUM_CASES:
        return Interval(reason=too_few(count))
    if sampled.unbounded:
        metric = replace(metric, high=np.inf)
    drawn = sampled.replicates[np.isfinite(sampled.replicates)]
    if sampled.seed_variance == 0 and drawn.size and np.ptp(drawn) == 0:
        return _of_one_score(metric, sampled.value, count, level)
    return interval(
        sampled.value,
        sampled.replicates,
        metric=metric,
        case_count=count,
        block_length=1,
        level=level,
        extra_variance=sampled.seed_variance,
    )


def _of_one_score(metric: SegmentationMetric, value: float, count: int, level: float) -> Interval:
    """Bounds where every case has the same score: as far as cases that were not seen may move it.

    Had a share q of all cases another score, `count` cases would all be free of it with
    (1 - q)^count; it may be as bad or as good as the metric goes (the rule of three).
    """
    if np.isinf(metric.high):
        return Interval(reason=_PERFECT if value == metric.low else _LEVEL_DISTANCE)
    unseen = 1 - (1 - level) ** (1 / count)
    return Interval(
        low=value - unseen * (value - metric.low), high=value + unseen * (metric.high - value)
    )


def too_few(count: int) -> str:
    """Why so few cases bear no interval."""
    cases = "1 case" if count == 1 else f"{count} cases"
    return (
        f"{cases}; an interval needs {MINIMUM_CASES}, {MINIMUM_CASES - count} more, as below that "
        "no paired test can reach p = 0.05"
    )


def _mean(table: ScoreTable, label: str | None, weight: FloatArray) -> FloatArray:
    return table.mean(weight) if label is None else table.mean_of(label, weight)


def _why_unknown(
    table: ScoreTable | None,
    results: Sequence[CaseResult],
    metric: str,
    convention: Convention,
) -> str | None:
    if not results:
        return "there is no test case"
    if table is None:
        return why_absent(metric, convention)
    for row, one in zip(table.scores, results, strict=True):
        if np.isnan(row).any() and (one.failed or convention.name == OURS):
            # Leaving it out would make the denominator smaller for this row alone.
            what = f"failed ({one.outcome}) and" if one.failed else "is ok, but"
            lacking = "the size of its scan" if one.failed else "what this is computed from"
            return f"case {one.case} {what} {lacking} is not stored"
        if table.counts is not None and one.failed and not _known(one, table):
            return (
                f"case {one.case} failed ({one.outcome}) and how many voxels its reference has "
                "is not stored"
            )
    return None


def _known(result: CaseResult, table: ScoreTable) -> bool:
    """Whether what was missed can be added to the voxels of the other cases."""
    found = [result.classes.get(label) for label in table.labels]
    return all(one is not None and one.reference_voxels is not None for one in found)


def _undefined(table: ScoreTable, value: float) -> str:
    said = "infinite" if np.isinf(value) else "undefined"
    bad = ~np.isfinite(table.per_case())
    return (
        f"{said} by the convention of {table.convention.title}, "
        f"which has no number for {int(bad.sum())} of {len(table.cases)} cases"
    )
