"""Whose numbers: how each tool turns counts and distances into scores, and scores into a mean.

    ours = CONVENTIONS["candlemark"]
    ours.score("hd95", found, extent)                  # never NaN
    CONVENTIONS["monai"].score("hd95", found, extent)  # inf where one side is empty, as MONAI
    CONVENTIONS["nnunet"].absent["hd95"]               # why there is none

Tools agree on a Dice of two full masks and on little else: empty masks, percentiles, the
elements of a surface and what a mean does with NaN differ. Measures are kept free of all of
that, so that each tool's number can be had from the same run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from candlemark.metrics.segmentation.catalog import Extent
from candlemark.metrics.segmentation.measure import ClassMeasure

Rule = Callable[[ClassMeasure, Extent, float], float]
"""(measure, extent of the scan, tolerance in mm) -> the score; NaN where the tool says NaN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How one tool scores.

    source: the tool and version whose numbers these are
    rules: by metric; a metric is either here or in `absent`
    absent: by metric, why the tool has no such number
    pooled: metrics that the tool computes from the voxels of all cases added up
    nan: what its mean does with NaN: leaves the case out, or becomes NaN
    first: what its mean goes over first, the classes of a case or the cases of a class
    """

    name: str
    title: str
    source: str
    rules: Mapping[str, Rule]
    absent: Mapping[str, str]
    pooled: frozenset[str] = frozenset()
    nan: Literal["skip", "spread"] = "skip"
    first: Literal["classes", "cases"] = "classes"

    def score(
        self, metric: str, measure: ClassMeasure, extent: Extent, *, tolerance_mm: float = 1.0
    ) -> float | None:
        """One class of one case; None where the tool has no such metric, NaN where it says so."""
        rule = self.rules.get(metric)
        return None if rule is None else rule(measure, extent, tolerance_mm)

    def mean(self, table: Sequence[Sequence[float]]) -> float:
        """The tool's mean of scores[case][class]; NaN where it has nothing to average."""
        rows = table if self.first == "classes" else list(zip(*table, strict=True))
        return self.mean_of([self.mean_of(row) for row in rows])

    def mean_of(self, scores: Sequence[float]) -> float:
        """The tool's mean of some scores."""
        kept = [x for x in scores if not math.isnan(x)] if self.nan == "skip" else list(scores)
        return math.fsum(kept) / len(kept) if kept else math.nan


CONVENTIONS: dict[str, Convention] = {
    name: Convention(name=name, title=name, source=name, rules={}, absent={})
    for name in (
        "candlemark",
        "monai",
        "metrics-reloaded",
        "nnunet",
        "torchmetrics",
        "surface-distance",
    )
}
