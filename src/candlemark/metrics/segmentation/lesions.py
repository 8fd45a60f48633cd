"""Which connected parts of a mask were found: lesions are counted, however large they are.

    found = count_lesions(reference, prediction, label=1)
    found.sensitivity(), found.precision(), found.f1()       # by touch
    found.f1("iou")                                          # one to one, IoU above 0.5

Parts hang together over faces, edges and corners (26 neighbours, 8 in a picture). By *touch* a
lesion of the reference is detected when the prediction shares one voxel with it, and a predicted
part is right when it shares one voxel with the reference. By *IoU* a pair counts when its IoU is
above 0.5, which at most one pair of each part can be (Kirillov et al. 2019, "Panoptic
segmentation", arXiv 1801.00868).

Touch is kind to one blob over everything, IoU to none: both are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from candlemark.errors import ConfigError

Rule = Literal["touch", "iou"]
Labels = npt.NDArray[np.uint8]

MATCHED_IOU = 0.5
"""Above this no part can have two partners, so that pairs need no assignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesions:
    """Counts of connected parts of one class in one case.

    reference_count, prediction_count: parts of either mask
    detected: parts of the reference that share a voxel with the prediction
    confirmed: parts of the prediction that share a voxel with the reference
    matched: pairs of one part each whose IoU is above 0.5
    largest_missed_voxels: of the parts that no predicted voxel touches; 0 where none was missed
    """

    reference_count: int
    prediction_count: int
    detected: int
    confirmed: int
    matched: int
    largest_missed_voxels: int = 0

    def sensitivity(self, rule: Rule = "touch") -> float | None:
        """Share of the reference's lesions that were found, 0..1; None where it has none."""
        found = self.detected if rule == "touch" else self.matched
        return found / self.reference_count if self.reference_count else None

    def precision(self, rule: Rule = "touch") -> float | None:
        """Share of the predicted parts that are lesions, 0..1; None where there are none."""
        right = self.confirmed if rule == "touch" else self.matched
        return right / self.prediction_count if self.prediction_count else None

    def f1(self, rule: Rule = "touch") -> float | None:
        """Harmonic mean of both, 0..1; None where neither mask has a part."""
        found, right = self.sensitivity(rule), self.precision(rule)
        if found is None and right is None:
            return None
        if not found or not right:
            return 0.0
        return 2 * found * right / (found + right)

    def to_dict(self) -> dict[str, int]:
        """JSON types, all of it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Lesions:
        """What `to_dict` gave."""
        return cls(**{name: int(stored[name]) for name in cls.__dataclass_fields__})


def count_lesions(reference: Labels, prediction: Labels, label: int = 1) -> Lesions:
    """The connected parts of one label in both masks, and which of them meet.

    reference, prediction: (Z, Y, X) of one shape, any integer type

    Raises ConfigError: the shapes differ or have no three axes.
    """
    if reference.shape != prediction.shape or reference.ndim != 3:
        raise ConfigError(
            f"reference is {reference.shape} and prediction {prediction.shape}; "
            "lesions are counted on one grid (Z, Y, X)"
        )
    # Reports read counts and never make them: they need no compiler.
    from candlemark.metrics.segmentation.parts import meetings, parts_of

    ours, theirs = parts_of(reference, label), parts_of(prediction, label)
    one, two, shared = meetings(ours, theirs)
    missed = np.setdiff1d(np.arange(len(ours)), one)
    iou = shared / (ours.size[one] + theirs.size[two] - shared)
    return Lesions(
        reference_count=len(ours),
        prediction_count=len(theirs),
        detected=len(np.unique(one)),
        confirmed=len(np.unique(two)),
        matched=int(np.count_nonzero(iou > MATCHED_IOU)),
        largest_missed_voxels=int(ours.size[missed].max()) if len(missed) else 0,
    )
