"""Whose numbers: how each tool turns counts and distances into scores, and scores into a mean.

    ours = CONVENTIONS["candlemark"]
    ours.score("hd95", found, extent)                  # never NaN
    CONVENTIONS["monai"].score("hd95", found, extent)  # inf where one side is empty, as MONAI
    CONVENTIONS["nnunet"].absent["nsd"]                # why there is none

Tools agree on the Dice of two full masks and on little else: empty masks, percentiles, the
elements of a surface and what a mean does with NaN differ. Measures are kept free of all of
that, so that each tool's number can be had from the same run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from candlemark.metrics.segmentation.catalog import Extent
from candlemark.metrics.segmentation.measure import ClassMeasure
from candlemark.metrics.segmentation.rules import (
    Reduce,
    Rule,
    distance,
    in_single_precision,
    larger_area_percentile,
    larger_percentile,
    mean_of_means,
    pool,
    pooled_mean,
    pooled_percentile,
    relative_volume,
    rounded,
    share,
    surface_share,
)

Order = Literal["classes", "cases", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How one tool scores.

    source: the tool, and where its numbers are defined
    rules: by metric; every metric of masks is either here or in `absent`
    absent: by metric, why the tool has no such number
    pooled: metrics that the tool computes from the voxels of all cases added up
    pools_classes: whether it adds up the classes too
    unbounded: metrics that have no greatest value by its rule, though they have one by ours
    nan: what its mean does with NaN: leaves it out, or becomes NaN
    first: what its mean goes over first: the classes of a case, the cases of a class, or both
        at once; `first_of` by metric, where one differs
    """

    name: str
    title: str
    source: str
    rules: Mapping[str, Rule]
    absent: Mapping[str, str]
    pooled: frozenset[str] = frozenset()
    pools_classes: bool = False
    unbounded: frozenset[str] = frozenset()
    nan: Literal["skip", "spread"] = "skip"
    first: Order = "classes"
    first_of: Mapping[str, Order] = field(default_factory=dict)

    def score(
        self, metric: str, measure: ClassMeasure, extent: Extent, *, tolerance_mm: float = 1.0
    ) -> float | None:
        """One class of one case; None where the tool has no such metric, NaN where it says so."""
        rule = self.rules.get(metric)
        return None if rule is None else rule(measure, extent, tolerance_mm)

    def aggregate(
        self,
        metric: str,
        table: Sequence[Sequence[ClassMeasure]],
        extents: Sequence[Extent],
        *,
        tolerance_mm: float = 1.0,
    ) -> float | None:
        """The tool's number for table[case][class]; None where it has none.

        extents: of each case's scan
        """
        rule = self.rules.get(metric)
        if rule is None:
            return None
        if metric not in self.pooled:
            rows = zip(table, extents, strict=True)
            return self.mean(metric, [[rule(m, size, tolerance_mm) for m in r] for r, size in rows])
        columns = [list(column) for column in zip(*table, strict=True)]
        if self.pools_classes:
            columns = [[measure for column in columns for measure in column]]
        return self.mean_of([rule(pool(column), extents[0], tolerance_mm) for column in columns])

    def mean(self, metric: str, scores: Sequence[Sequence[float]]) -> float:
        """The tool's mean of scores[case][class]; NaN where it has nothing to average."""
        order = self.first_of.get(metric, self.first)
        if order == "both":
            return self.mean_of([score for row in scores for score in row])
        rows = scores if order == "classes" else list(zip(*scores, strict=True))
        return self.mean_of([self.mean_of(row) for row in rows])

    def mean_of(self, scores: Sequence[float]) -> float:
        """The tool's mean of some scores."""
        kept = [x for x in scores if not math.isnan(x)] if self.nan == "skip" else list(scores)
        if any(math.isinf(x) for x in kept):
            return math.inf
        return math.fsum(kept) / len(kept) if kept else math.nan


_NO_PARTS = "it counts no connected parts, or by another neighbourhood than is stored"
_LESIONS = dict.fromkeys(("lesion_sensitivity", "lesion_precision", "lesion_f1"), _NO_PARTS)
_COUNTED = "connected parts are counted, not measured: their scores are made of their counts"

_OURS = Convention(
    name="candlemark",
    title="candlemark",
    source=(
        "this program: nothing is left out of a mean. Both sides empty is right and scores the"
        " best, one side empty the worst; HD95 is the larger of both directions' percentiles over"
        " border voxels, ASSD pools them, surface Dice weighs by area"
    ),
    rules={
        "dice": share("dice", both_empty=1.0),
        "iou": share("iou", both_empty=1.0),
        "sensitivity": share("sensitivity", both_empty=1.0, undefined=0.0),
        "specificity": share("specificity", undefined=1.0),
        "precision": share("precision", both_empty=1.0, undefined=0.0),
        "hd95": distance(larger_percentile(95), both_empty=0.0, one_empty=None),
        "hd": distance(larger_percentile(100), both_empty=0.0, one_empty=None),
        "assd": distance(pooled_mean, both_empty=0.0, one_empty=None),
        "nsd": surface_share("areas", both_empty=1.0, within=rounded),
        "volume_difference": relative_volume("mean", both_empty=0.0, no_reference=2.0),
    },
    absent=dict.fromkeys(_LESIONS, _COUNTED),
    nan="spread",
)

_MONAI = Convention(
    name="monai",
    title="MONAI",
    source=(
        "monai.metrics 1.6 with its defaults (DiceMetric, MeanIoU, ConfusionMatrixMetric,"
        " HausdorffDistanceMetric, SurfaceDistanceMetric with symmetric=True, SurfaceDiceMetric),"
        " background left out: a case without the class is left out of the mean, a miss is"
        " infinitely far and has no percentile. Where every case is left out MONAI's mean is 0,"
        " which for a distance would be the best; here it is unknown"
    ),
    rules={
        "dice": share("dice", no_reference=math.nan),
        "iou": share("iou", no_reference=math.nan),
        "sensitivity": share("sensitivity"),
        "specificity": share("specificity"),
        "precision": share("precision"),
        "hd95": distance(larger_percentile(95), one_empty=math.nan),
        "hd": distance(larger_percentile(100)),
        "assd": distance(pooled_mean),
        "nsd": surface_share("voxels", within=in_single_precision),
    },
    absent={
        "volume_difference": "its difference of volumes is in voxels, of no scan the share",
        **_LESIONS,
    },
    pooled=frozenset({"sensitivity", "specificity", "precision"}),
    pools_classes=True,
)

_RELOADED = Convention(
    name="metrics-reloaded",
    title="Metrics Reloaded",
    source=(
        "BinaryPairwiseMeasures of the MetricsReloaded package. With one side empty its distances"
        " are those to a mask that is not there: NaN here"
    ),
    rules={
        "dice": share("dice", both_empty=1.0),
        "iou": share("iou"),
        "sensitivity": share("sensitivity"),
        "specificity": share("specificity"),
        "precision": share("precision", both_empty=math.nan, undefined=0.0),
        "hd95": distance(larger_percentile(95), both_empty=0.0, one_empty=math.nan),
        "hd": distance(larger_percentile(100), both_empty=0.0, one_empty=math.nan),
        "assd": distance(pooled_mean, both_empty=0.0, one_empty=math.nan),
        "nsd": surface_share("voxels", one_empty=math.nan),
        "volume_difference": relative_volume("reference", no_reference=math.inf),
    },
    absent=dict.fromkeys(_LESIONS, "it takes voxels that share a face alone for one part"),
    unbounded=frozenset({"volume_difference"}),
    first="cases",
)


def _medpy(reduce: Reduce) -> Rule:
    return distance(reduce, one_empty=math.nan, full=math.nan)


_NNUNET = Convention(
    name="nnunet",
    title="nnU-Net",
    source=(
        "nnU-Net: Dice and IoU of version 2's evaluation, the others of version 1's, which takes"
        " distances from MedPy 0.4: both directions in one percentile, ASSD the mean of two means."
        " A class that no case defines is left out of the mean over classes; nnU-Net's is NaN then"
    ),
    rules={
        "dice": share("dice"),
        "iou": share("iou"),
        "sensitivity": share("sensitivity"),
        "specificity": share("specificity"),
        "precision": share("precision"),
        "hd95": _medpy(pooled_percentile(95)),
        "hd": _medpy(larger_percentile(100)),
        "assd": _medpy(mean_of_means),
    },
    absent={
        "nsd": "it has no surface Dice",
        "volume_difference": "it has no difference of volumes",
        **_LESIONS,
    },
    first="cases",
)

_TORCHMETRICS = Convention(
    name="torchmetrics",
    title="TorchMetrics",
    source=(
        "torchmetrics 1.9: DiceScore (macro), MeanIoU and HausdorffDistance of its segmentation"
        " part, recall, specificity and precision of its classification part over all voxels of a"
        " class. Its Hausdorff distance takes square pictures alone (it mixes up the rows of oblong"
        " ones); here the same rule holds for all"
    ),
    rules={
        "dice": share("dice"),
        "iou": share("iou"),
        "sensitivity": share("sensitivity", undefined=0.0),
        "specificity": share("specificity", undefined=0.0),
        "precision": share("precision", undefined=0.0),
        "hd": distance(larger_percentile(100)),
    },
    absent={
        "hd95": "its Hausdorff distance takes no percentile",
        "assd": "it has no mean surface distance",
        "nsd": "it has no surface Dice",
        "volume_difference": "it has no difference of volumes",
        **_LESIONS,
    },
    pooled=frozenset({"sensitivity", "specificity", "precision"}),
    first_of={"iou": "both", "hd": "both"},
)

_NO_SHARE = "it has no such share of voxels"

_SURFACE = Convention(
    name="surface-distance",
    title="surface-distance",
    source=(
        "DeepMind's surface-distance 0.1: elements are weighed by their area, a percentile is the"
        " first distance that reaches it. It scores single pairs; numpy's mean is taken of them"
    ),
    rules={
        "dice": share("dice"),
        "hd95": distance(larger_area_percentile(95), "areas", both_empty=math.inf),
        "hd": distance(larger_area_percentile(100), "areas", both_empty=math.inf),
        "nsd": surface_share("areas"),
    },
    absent={
        "iou": _NO_SHARE,
        "sensitivity": _NO_SHARE,
        "specificity": _NO_SHARE,
        "precision": _NO_SHARE,
        "assd": "it gives one mean for each direction and none for both",
        "volume_difference": "it has no difference of volumes",
        **_LESIONS,
    },
    nan="spread",
    first="both",
)

CONVENTIONS: dict[str, Convention] = {
    "candlemark": _OURS,
    "monai": _MONAI,
    "metrics-reloaded": _RELOADED,
    "nnunet": _NNUNET,
    "torchmetrics": _TORCHMETRICS,
    "surface-distance": _SURFACE,
}
"""Every convention by name, the default first."""
