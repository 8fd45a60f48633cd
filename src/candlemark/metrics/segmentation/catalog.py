"""The table of mask scores: what each is called, its range, direction, and what a failure scores.

    metric = SEGMENTATION_METRICS["hd95"]
    metric.worst_of(Extent(shape=(64, 64, 64), spacing_mm=(3.0, 1.0, 1.0)))     # 212.3, in mm
    metric.unit_of(None)                                                        # "px"

A convention (`candlemark.metrics.segmentation.conventions`) computes a score from the counts and
distances of a case; this table says what is true of the score whatever the convention, and what
a case scores that has no answer at all. Nothing here needs an array.

A case that failed scores the worst there is: 0 of a share, the diagonal of the scan of a distance.
So does a score that is undefined because one of reference and prediction is empty. Where both are
empty the answer is right and scores the best there is.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal

from candlemark.errors import ConfigError
from candlemark.metrics.score import Score

Needs = Literal["counts", "distances", "lesions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How large a scan is.

    shape: voxels along Z, Y, X; Z is 1 for a picture
    spacing_mm: along Z, Y, X; None where the file has none, distances then are in pixels
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None = None

    @property
    def diagonal(self) -> float:
        """From corner to corner, voxels included: no distance in the scan is longer.

        A picture has no depth, so its one slice does not count.
        """
        spacing = self.spacing_mm or (1.0, 1.0, 1.0)
        sides = [n * mm for n, mm in zip(self.shape, spacing, strict=True)]
        return math.hypot(*(sides[1:] if self.shape[0] == 1 else sides))


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationMetric(Score):
    """One score of a mask.

    needs: what it is computed from: counts of voxels, distances between surfaces, or connected
        components
    both_empty: of a case in which neither the reference nor the prediction has the class
    worst: of a case that failed, or where one side alone is empty and the score therefore
        undefined; None: the diagonal of the scan
    meaning: one line for tables of measures
    """

    needs: Needs
    both_empty: float
    worst: float | None
    meaning: str

    @property
    def is_distance(self) -> bool:
        """Whether it is a length, so that its unit goes by the spacing."""
        return self.unit == "mm"

    def worst_of(self, extent: Extent) -> float:
        """What a failed case of this size scores."""
        return extent.diagonal if self.worst is None else self.worst

    def unit_of(self, spacing_mm: object | None) -> str:
        """The unit where the scans have this spacing: lengths are in pixels where it is unknown."""
        return "px" if self.is_distance and spacing_mm is None else self.unit


def _share(
    name: str,
    title: str,
    meaning: str,
    degenerate: str,
    needs: Needs = "counts",
) -> SegmentationMetric:
    return SegmentationMetric(
        name=name,
        title=title,
        needs=needs,
        both_empty=1.0,
        worst=0.0,
        degenerate=degenerate,
        meaning=meaning,
    )


def _distance(name: str, title: str, meaning: str) -> SegmentationMetric:
    return SegmentationMetric(
        name=name,
        title=title,
        unit="mm",
        high=math.inf,
        higher_is_better=False,
        needs="distances",
        both_empty=0.0,
        worst=None,
        degenerate="reference or prediction is empty",
        meaning=meaning,
    )


_TABLE = (
    _share(
        "dice",
        "Dice",
        "twice the shared voxels over the voxels of both masks",
        "reference and prediction are empty",
    ),
    _share(
        "iou",
        "IoU",
        "shared voxels over the voxels that either mask has (Jaccard)",
        "reference and prediction are empty",
    ),
    _share(
        "sensitivity",
        "Sensitivity",
        "share of the reference's voxels that were found",
        "the reference is empty",
    ),
    _share(
        "specificity",
        "Specificity",
        "share of the voxels outside the reference that were left alone",
        "the reference fills the scan",
    ),
    _share(
        "precision",
        "Precision",
        "share of the predicted voxels that the reference has",
        "the prediction is empty",
    ),
    _distance(
        "hd95",
        "HD95",
        "95 % of the way between the surfaces is no longer, the larger of both directions",
    ),
    _distance("hd", "HD", "the longest way from a point of one surface to the other (Hausdorff)"),
    _distance("assd", "ASSD", "mean way between the surfaces, points of both directions pooled"),
    _share(
        "nsd",
        "NSD",
        "share of both surfaces that lies within the tolerance of the other one",
        "reference and prediction are empty",
        needs="distances",
    ),
    SegmentationMetric(
        name="volume_difference",
        title="Volume difference",
        high=2.0,
        higher_is_better=False,
        needs="counts",
        both_empty=0.0,
        worst=2.0,
        degenerate="reference and prediction are empty",
        meaning="difference of both volumes over their mean, without sign; the sign stands apart",
    ),
    _share(
        "lesion_sensitivity",
        "Lesion sensitivity",
        "share of the reference's connected parts that the prediction touches",
        "the reference has no lesion",
        needs="lesions",
    ),
    _share(
        "lesion_precision",
        "Lesion precision",
        "share of the predicted connected parts that the reference touches",
        "the prediction has no lesion",
        needs="lesions",
    ),
    _share(
        "lesion_f1",
        "Lesion F1",
        "harmonic mean of lesion sensitivity and lesion precision",
        "reference and prediction have no lesion",
        needs="lesions",
    ),
)

SEGMENTATION_METRICS: dict[str, SegmentationMetric] = {metric.name: metric for metric in _TABLE}
"""Every score of a mask by name, in the order of tables."""


def find_segmentation(name: str) -> SegmentationMetric:
    """The score called `name`; ConfigError names the nearest one."""
    if name in SEGMENTATION_METRICS:
        return SEGMENTATION_METRICS[name]
    near = difflib.get_close_matches(name, SEGMENTATION_METRICS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(SEGMENTATION_METRICS)}"
    raise ConfigError(f"'{name}' is no score of a mask; {hint}")
