"""Scores from counts and distances, in the forms that tools differ in.

A rule is a function (measure, extent of the scan, tolerance in mm) -> score. Those made here take
what they say of empty masks as arguments, so that the table of conventions shows it:

    share("dice", both_empty=1.0)          # ours, where there is nothing to find and none found
    share("dice", no_reference=math.nan)   # MONAI
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from candlemark.metrics.segmentation.catalog import Extent
from candlemark.metrics.segmentation.measure import ClassMeasure, Directed, Histogram

Rule = Callable[[ClassMeasure, Extent, float], float]
"""(measure, extent of the scan, tolerance in mm) -> the score; NaN where the tool says NaN."""

Elements = Literal["voxels", "areas"]

ROUNDING = 1e-6
"""Share of a length that the formats lose which keep spacing in single precision (NIfTI)."""

_SHARES: dict[str, Callable[[ClassMeasure], tuple[int, int]]] = {
    "dice": lambda m: (2 * m.true_positive, m.reference + m.prediction),
    "iou": lambda m: (m.true_positive, m.reference + m.false_positive),
    "sensitivity": lambda m: (m.true_positive, m.reference),
    "specificity": lambda m: (m.true_negative, m.true_negative + m.false_positive),
    "precision": lambda m: (m.true_positive, m.prediction),
}


def share(
    name: str,
    *,
    undefined: float = math.nan,
    both_empty: float | None = None,
    no_reference: float | None = None,
) -> Rule:
    """A share of voxels, by the name it has in the table of metrics.

    undefined: where nothing is divided by nothing
    both_empty: where neither side has the class, if that is told apart
    no_reference: where the reference lacks the class, if that is told apart
    """
    parts = _SHARES[name]

    def rule(measure: ClassMeasure, extent: Extent, tolerance_mm: float) -> float:
        del extent, tolerance_mm
        if both_empty is not None and not measure.reference + measure.prediction:
            return both_empty
        if no_reference is not None and not measure.reference:
            return no_reference
        hits, of = parts(measure)
        return hits / of if of else undefined

    return rule


def relative_volume(
    of: Literal["reference", "mean"], *, both_empty: float = math.nan, no_reference: float = 2.0
) -> Rule:
    """Difference of the volumes without sign, over the reference's or the mean of both."""

    def rule(measure: ClassMeasure, extent: Extent, tolerance_mm: float) -> float:
        del extent, tolerance_mm
        if not measure.reference:
            return no_reference if measure.prediction else both_empty
        difference = abs(measure.prediction - measure.reference)
        if of == "reference":
            return difference / measure.reference
        return 2 * difference / (measure.prediction + measure.reference)

    return rule


Reduce = Callable[[Histogram, Histogram], float]
"""(distances to the reference, distances to the prediction) -> mm"""


def distance(
    reduce: Reduce,
    elements: Elements = "voxels",
    *,
    both_empty: float = math.nan,
    one_empty: float | None = math.inf,
    full: float | None = None,
) -> Rule:
    """A length made of the distances in both directions.

    one_empty: where one side alone has the class; None: the diagonal of the scan
    full: where either side fills the scan, if that is told apart
    """

    def rule(measure: ClassMeasure, extent: Extent, tolerance_mm: float) -> float:
        del tolerance_mm
        there, back = measure.to_reference, measure.to_prediction
        if there is None or back is None:
            if not measure.reference + measure.prediction:
                return both_empty
            return extent.diagonal if one_empty is None else one_empty
        if full is not None and measure.voxels in {measure.reference, measure.prediction}:
            return full
        return reduce(_of(there, elements), _of(back, elements))

    return rule


Within = Callable[[npt.NDArray[np.float64], float], npt.NDArray[np.bool_]]
"""(distances, tolerance) -> which are within it: a question where a distance is the tolerance."""


def exactly(value: npt.NDArray[np.float64], tolerance_mm: float) -> npt.NDArray[np.bool_]:
    """Compared as they are."""
    return value <= tolerance_mm


def rounded(value: npt.NDArray[np.float64], tolerance_mm: float) -> npt.NDArray[np.bool_]:
    """One voxel of 0.8 mm is 0.8 mm, though a NIfTI says 0.800000012."""
    return value <= tolerance_mm * (1 + ROUNDING)


def in_single_precision(
    value: npt.NDArray[np.float64], tolerance_mm: float
) -> npt.NDArray[np.bool_]:
    """Compared as MONAI's tensors are."""
    near: npt.NDArray[np.bool_] = value.astype(np.float32) <= np.float32(tolerance_mm)
    return near


def surface_share(
    elements: Elements = "areas",
    *,
    both_empty: float = math.nan,
    one_empty: float = 0.0,
    within: Within = exactly,
) -> Rule:
    """Share of both surfaces that lies within the tolerance of the other (normalised Dice)."""

    def rule(measure: ClassMeasure, extent: Extent, tolerance_mm: float) -> float:
        del extent
        there, back = measure.to_reference, measure.to_prediction
        if there is None or back is None:
            return one_empty if measure.reference + measure.prediction else both_empty
        both = (_of(there, elements), _of(back, elements))
        near = sum(float(h.weight[within(h.value, tolerance_mm)].sum()) for h in both)
        return near / sum(float(h.weight.sum()) for h in both)

    return rule


def larger_percentile(percent: float) -> Reduce:
    """The larger of both directions' percentiles, each over the elements of one surface."""
    return lambda there, back: max(percentile(there, percent), percentile(back, percent))


def pooled_percentile(percent: float) -> Reduce:
    """The percentile of all elements of both surfaces together."""
    return lambda there, back: percentile(_pooled(there, back), percent)


def larger_area_percentile(percent: float) -> Reduce:
    """The larger of both: where so much of a surface's area lies no farther away."""
    return lambda there, back: max(area_percentile(there, percent), area_percentile(back, percent))


def pooled_mean(there: Histogram, back: Histogram) -> float:
    """Mean over all elements of both surfaces."""
    return _mean(_pooled(there, back))


def mean_of_means(there: Histogram, back: Histogram) -> float:
    """Mean of both directions' means, so that the smaller surface counts as much."""
    return (_mean(there) + _mean(back)) / 2


def percentile(distances: Histogram, percent: float) -> float:
    """The percentile of single elements, linear between two (numpy's, torch's default)."""
    reached = np.cumsum(distances.weight)
    rank = percent / 100 * (float(reached[-1]) - 1)
    below, above = np.searchsorted(reached, (math.floor(rank), math.ceil(rank)), side="right")
    low, high = float(distances.value[below]), float(distances.value[above])
    return low + (high - low) * (rank - math.floor(rank))


def area_percentile(distances: Histogram, percent: float) -> float:
    """The first distance at which so much of the area is reached; nothing is interpolated."""
    reached = np.cumsum(distances.weight) / np.sum(distances.weight)
    place = int(np.searchsorted(reached, percent / 100))
    return float(distances.value[min(place, distances.value.size - 1)])


def pool(measures: Sequence[ClassMeasure]) -> ClassMeasure:
    """The counts of some measures added up, as if they were one scan; no distances."""
    return replace(
        measures[0],
        true_positive=sum(m.true_positive for m in measures),
        false_positive=sum(m.false_positive for m in measures),
        false_negative=sum(m.false_negative for m in measures),
        true_negative=sum(m.true_negative for m in measures),
        to_reference=None,
        to_prediction=None,
    )


def _of(directed: Directed, elements: Elements) -> Histogram:
    return directed.voxels if elements == "voxels" else directed.areas


def _mean(distances: Histogram) -> float:
    return float(np.dot(distances.value, distances.weight) / distances.weight.sum())


def _pooled(there: Histogram, back: Histogram) -> Histogram:
    value = np.concatenate([there.value, back.value])
    order = np.argsort(value, kind="stable")
    return Histogram(value[order], np.concatenate([there.weight, back.weight])[order])
