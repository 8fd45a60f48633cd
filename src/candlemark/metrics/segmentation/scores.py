"""From what is stored of a case to its scores, and from cases to a mean, failures included.

    results = complete(record.cases, case_ids)              # one a case, whatever became of it
    results[0].score("dice", "1", CONVENTIONS["candlemark"])
    table = tabulate(results, labels=("1", "2"), metric="hd95", convention=CONVENTIONS["nnunet"])
    table.mean(np.ones((1, len(results))))                  # the tool's mean, float64[1]

A case that is not there, that crashed or whose answer had the wrong shape scores the worst of
every metric and stays in the mean: the denominator is the number of test cases, the same for
every row. Where a tool adds up the voxels of all cases, it counts as an answer as large as the
reference that misses all of it.

NaN stands for what a foreign convention leaves undefined; in candlemark's own there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.metrics.segmentation.catalog import Extent, SegmentationMetric, find_segmentation
from candlemark.metrics.segmentation.conventions import CONVENTIONS, Convention
from candlemark.metrics.segmentation.lesions import Lesions
from candlemark.metrics.segmentation.measure import ClassMeasure

FloatArray = npt.NDArray[np.float64]

OURS = CONVENTIONS["candlemark"].name
OK = "ok"
MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassResult:
    """One class of one case; `measure` and `lesions` are None where the case failed."""

    name: str
    measure: ClassMeasure | None = None
    lesions: Lesions | None = None
    reference_voxels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseResult:
    """What became of one case.

    outcome: "ok", or how it failed
    extent: None where the scan could not even be opened and no other row knows it
    classes: by label
    times_ms: by stage
    """

    case: str
    outcome: str
    reason: str | None = None
    extent: Extent | None = None
    classes: Mapping[str, ClassResult]
    times_ms: Mapping[str, float] | None = None

    @property
    def failed(self) -> bool:
        """Whether it scores the worst there is."""
        return self.outcome != OK

    def score(
        self, metric: str, label: str, convention: Convention, *, tolerance_mm: float = 1.0
    ) -> float | None:
        """One score of one class.

        None where the convention has no such metric; NaN where it leaves this case undefined,
        or the case failed and no row knows how large its scan is.
        """
        known = find_segmentation(metric)
        if why_absent(metric, convention) is not None:
            return None
        found = self.classes.get(label)
        if self.failed or found is None or found.measure is None:
            return self._worst(known)
        if known.needs == "lesions":
            return math.nan if found.lesions is None else _of_lesions(known, found.lesions)
        extent = self.extent or Extent(shape=(1, 1, 1))
        return convention.score(metric, found.measure, extent, tolerance_mm=tolerance_mm)

    def volume_bias(self, label: str) -> float | None:
        """Predicted minus reference volume over their mean, -2..2; None of a failed case.

        0 where both are empty. What `volume_difference` has without its sign.
        """
        found = self.classes.get(label)
        if self.failed or found is None or found.measure is None:
            return None
        both = found.measure.prediction + found.measure.reference
        return 2 * (found.measure.prediction - found.measure.reference) / both if both else 0.0

    def _worst(self, metric: SegmentationMetric) -> float:
        if metric.worst is not None:
            return metric.worst
        return math.nan if self.extent is None else metric.worst_of(self.extent)


def why_absent(metric: str, convention: Convention) -> str | None:
    """Why a convention has no such score; None where it has."""
    counted = find_segmentation(metric).needs == "lesions" and convention.name == OURS
    if counted or metric in convention.rules:
        return None
    return f"{convention.title}: {convention.absent.get(metric) or f'it has no {metric}'}"


def read_case(stored: Mapping[str, Any]) -> CaseResult:
    """A case as a record holds it."""
    shape, spacing = stored.get("shape"), stored.get("spacing_mm")
    return CaseResult(
        case=str(stored["case"]),
        outcome=str(stored["outcome"]),
        reason=stored.get("reason"),
        extent=None
        if shape is None
        else Extent(
            shape=(int(shape[0]), int(shape[1]), int(shape[2])),
            spacing_mm=None
            if spacing is None
            else (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        ),
        classes={
            str(label): _read_class(kept) for label, kept in stored.get("classes", {}).items()
        },
        times_ms=stored.get("times_ms"),
    )


def complete(
    stored: Iterable[Mapping[str, Any]],
    case_ids: Sequence[str],
    *,
    outcome: str = MISSING,
    reason: str | None = None,
    extents: Mapping[str, Extent] | None = None,
    references: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[CaseResult, ...]:
    """One result for each of `case_ids`, in that order; cases that are not there have failed.

    outcome, reason: of cases that are not there, such as those of a trial that died
    extents: of scans, and references: voxels by case and label, that other rows know; a failed
        case needs the first for its distances, the second where a tool adds up voxels
    """
    there = {str(case["case"]): read_case(case) for case in stored}
    sizes = extents or {}
    found = []
    for case in case_ids:
        result = there.get(case)
        if result is None:
            why = reason or "no result of this case is stored"
            result = CaseResult(case=case, outcome=outcome, reason=why, classes={})
        if result.extent is None and case in sizes:
            result = replace(result, extent=sizes[case])
        if result.failed and references is not None:
            result = _with_references(result, references.get(case, {}))
        found.append(result)
    return tuple(found)


def _with_references(result: CaseResult, voxels: Mapping[str, int]) -> CaseResult:
    """A failed case with what others know of its reference."""
    known = {
        label: ClassResult(name="", reference_voxels=count)
        for label, count in voxels.items()
        if label not in result.classes or result.classes[label].reference_voxels is None
    }
    return replace(result, classes={**result.classes, **known})


def case_scores(
    case: Mapping[str, Any] | CaseResult,
    *,
    metrics: Sequence[str],
    labels: Sequence[str] | None = None,
    convention: str = OURS,
    tolerance_mm: float = 1.0,
) -> dict[str, dict[str, float | None]]:
    """Every score of a case, by label and metric; None where the convention has none."""
    result = case if isinstance(case, CaseResult) else read_case(case)
    chosen = CONVENTIONS[convention]
    return {
        label: {
            metric: result.score(metric, label, chosen, tolerance_mm=tolerance_mm)
            for metric in metrics
        }
        for label in (labels or tuple(result.classes))
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTable:
    """One metric of all cases and classes under one convention.

    scores: float64[N, K], cases by classes, NaN where undefined
    counts: float64[N, K, 4] of a metric that is pooled over cases, else None: true positives,
        false positives, false negatives, true negatives
    """

    metric: str
    convention: Convention
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    scores: FloatArray
    counts: FloatArray | None = None
    tolerance_mm: float = 1.0

    def mean(self, weight: FloatArray) -> FloatArray:
        """The convention's mean over classes and cases, float64[B].

        weight: float64[B, N], how often each case is drawn
        """
        classes = range(len(self.labels))
        if self.counts is not None and self.convention.pools_classes:
            return self._pooled(weight, self.counts.sum(axis=1))
        if self.counts is not None:
            return self._over([self._pooled(weight, self.counts[:, k]) for k in classes])
        order = self.convention.first_of.get(self.metric, self.convention.first)
        if order == "both":
            flat = np.concatenate([self.scores[:, k] for k in classes])
            return self._weighted(flat, np.tile(weight, len(self.labels)))
        if order == "cases":
            return self._over([self._weighted(self.scores[:, k], weight) for k in classes])
        return self._weighted(self._over(list(self.scores.T)), weight)

    def mean_of(self, label: str, weight: FloatArray) -> FloatArray:
        """The convention's mean of one class over cases, float64[B]."""
        place = self.labels.index(label)
        if self.counts is not None:
            return self._pooled(weight, self.counts[:, place])
        return self._weighted(self.scores[:, place], weight)

    def case_count(self, label: str | None = None) -> int:
        """How many cases have a number, of one class or of any."""
        if self.counts is not None:
            return len(self.cases)
        chosen = self.scores if label is None else self.scores[:, [self.labels.index(label)]]
        return int((~np.isnan(chosen)).any(axis=1).sum())

    def per_case(self) -> FloatArray:
        """Mean over the classes of each case, float64[N]."""
        return self._over(list(self.scores.T))

    def _over(self, columns: Sequence[FloatArray]) -> FloatArray:
        """Mean over classes, of each row."""
        found: FloatArray = self._weighted(np.stack(columns), np.ones((1, len(columns))))[0]
        return found

    def _weighted(self, scores: FloatArray, weight: FloatArray) -> FloatArray:
        """Mean of scores float64[N] or [N, M] along N, each as often as it is drawn."""
        undefined, endless = np.isnan(scores), np.isinf(scores)
        known = weight @ (~undefined).astype(float)
        # What is endless or undefined is counted apart, as nothing times it is undefined.
        total = weight @ np.where(undefined | endless, 0.0, scores)
        mean = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
        if self.convention.nan == "spread":
            mean = np.where(weight @ undefined.astype(float) > 0, np.nan, mean)
        return np.where(weight @ endless.astype(float) > 0, np.inf, mean)

    def _pooled(self, weight: FloatArray, counts: FloatArray) -> FloatArray:
        """The score of all voxels of the drawn cases together; counts: float64[N, 4]."""
        rule = self.convention.rules[self.metric]
        nowhere = Extent(shape=(1, 1, 1))
        return np.asarray(
            [
                rule(_measure_of(drawn), nowhere, self.tolerance_mm)
                for drawn in np.rint(weight @ counts).astype(np.int64)
            ],
            dtype=np.float64,
        )


def tabulate(
    results: Sequence[CaseResult],
    *,
    labels: Sequence[str],
    metric: str,
    convention: Convention,
    tolerance_mm: float = 1.0,
) -> ScoreTable | None:
    """The table of one metric; None where the convention has no such metric."""
    if why_absent(metric, convention) is not None:
        return None
    scores = np.asarray(
        [
            [one.score(metric, label, convention, tolerance_mm=tolerance_mm) for label in labels]
            for one in results
        ],
        dtype=np.float64,
    ).reshape(len(results), len(labels))
    pooled = metric in convention.pooled
    return ScoreTable(
        metric=metric,
        convention=convention,
        cases=tuple(one.case for one in results),
        labels=tuple(labels),
        scores=scores,
        counts=_counts(results, labels) if pooled else None,
        tolerance_mm=tolerance_mm,
    )


def unit_of(metric: str, results: Iterable[CaseResult]) -> str | None:
    """The unit of a score of these cases: "mm", "px", "", or None where scans disagree.

    Millimetres of one scan and pixels of another have no mean.
    """
    known = find_segmentation(metric)
    spacings = {one.extent.spacing_mm is None for one in results if one.extent is not None}
    if known.is_distance and len(spacings) > 1:
        return None
    return known.unit_of(None if spacings == {True} else ())


def _read_class(kept: Mapping[str, Any]) -> ClassResult:
    if "true_positive" not in kept:
        voxels = kept.get("reference_voxels")
        return ClassResult(name=str(kept.get("name", "")), reference_voxels=voxels)
    measure = ClassMeasure.from_dict(kept)
    lesions = kept.get("lesions")
    return ClassResult(
        name=str(kept.get("name", "")),
        measure=measure,
        lesions=None if lesions is None else Lesions.from_dict(lesions),
        reference_voxels=measure.reference,
    )


def _of_lesions(metric: SegmentationMetric, lesions: Lesions) -> float:
    """Nothing to find and nothing found is right; a score that is else undefined is the worst."""
    if not lesions.reference_count and not lesions.prediction_count:
        return metric.both_empty
    found = {
        "lesion_sensitivity": lesions.sensitivity,
        "lesion_precision": lesions.precision,
        "lesion_f1": lesions.f1,
    }[metric.name]()
    return 0.0 if found is None else found


def _counts(results: Sequence[CaseResult], labels: Sequence[str]) -> FloatArray:
    """Voxels to be added up, float64[N, K, 4].

    A failed case is an answer as large as the reference that misses all of it, so that no share
    of voxels gains by failing.
    """
    counts = np.zeros((len(results), len(labels), 4))
    for row, one in enumerate(results):
        for column, label in enumerate(labels):
            found = one.classes.get(label)
            if found is not None and found.measure is not None and not one.failed:
                m = found.measure
                counts[row, column] = (
                    *(m.true_positive, m.false_positive),
                    *(m.false_negative, m.true_negative),
                )
            elif found is not None and found.reference_voxels:
                whole = math.prod(one.extent.shape) if one.extent else found.reference_voxels
                missed = found.reference_voxels
                counts[row, column] = (0, missed, missed, max(whole - 2 * missed, 0))
    return counts


def _measure_of(counts: npt.NDArray[np.int64]) -> ClassMeasure:
    return ClassMeasure(
        true_positive=int(counts[0]),
        false_positive=int(counts[1]),
        false_negative=int(counts[2]),
        true_negative=int(counts[3]),
        to_reference=None,
        to_prediction=None,
    )
