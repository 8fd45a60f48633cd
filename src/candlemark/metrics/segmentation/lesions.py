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

    Raises ConfigError: the shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ConfigError(
            f"reference is {reference.shape} and prediction {prediction.shape}; "
            "lesions are counted on one grid"
        )
    wanted, answered = reference == label, prediction == label
    box = _box(wanted | answered)
    if box is None:
        return Lesions(reference_count=0, prediction_count=0, detected=0, confirmed=0, matched=0)
    ours, our_count = _parts(wanted[box])
    theirs, their_count = _parts(answered[box])
    sizes = np.bincount(ours.ravel(), minlength=our_count + 1)
    answered_sizes = np.bincount(theirs.ravel(), minlength=their_count + 1)
    one, two, shared = _meetings(ours, theirs, their_count)
    missed = np.setdiff1d(np.arange(1, our_count + 1), one)
    iou = shared / (sizes[one] + answered_sizes[two] - shared)
    return Lesions(
        reference_count=our_count,
        prediction_count=their_count,
        detected=len(np.unique(one)),
        confirmed=len(np.unique(two)),
        matched=int(np.count_nonzero(iou > MATCHED_IOU)),
        largest_missed_voxels=int(sizes[missed].max()) if len(missed) else 0,
    )


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around a mask: parts are sought in it alone. None: the mask is empty."""
    found = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        if not len(places):
            return None
        found.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(found)


def _parts(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
    """The number of its part for each voxel, 0 outside, and how many there are."""
    from scipy import ndimage

    parts = np.empty(mask.shape, dtype=np.int32)
    count = int(ndimage.label(mask, structure=np.ones((3,) * mask.ndim, dtype=int), output=parts))
    return parts, count


def _meetings(
    ours: npt.NDArray[np.int32], theirs: npt.NDArray[np.int32], their_count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Every pair of parts that share voxels: the number of each, and how many they share."""
    both = (ours > 0) & (theirs > 0)
    keys = ours[both].astype(np.int64) * (their_count + 1) + theirs[both]
    pairs, shared = np.unique(keys, return_counts=True)
    return pairs // (their_count + 1), pairs % (their_count + 1), shared.astype(np.int64)
