"""What one prediction says of one class of one scan, free of any convention.

    found = measure(reference, prediction, label=1, spacing_mm=(3.0, 1.0, 1.0))
    found.true_positive, found.false_negative       # voxels
    found.to_reference.voxels.value                 # distances of the prediction's border, mm
    ClassMeasure.from_dict(found.to_dict()) == found

The counts of voxels and the distances in both directions are all that any tool's Dice, HD95 or
surface Dice is made of; what the tools do with them (percentiles, means, empty masks) stands in
`conventions`. Nothing is rounded and nothing overflows, whatever the labels are.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError
from candlemark.metrics.segmentation.threads import Threads

if TYPE_CHECKING:
    from candlemark.metrics.segmentation.counts import Box

Labels = npt.NDArray[Any]
Spacing = tuple[float, float, float]

WORTH_THREADS = 2_000_000
"""Voxels. Below, a thread that must be waited for on a busy machine costs more than it saves."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Distances of surface elements, and how much of the surface lies at each.

    value: float64 (K,), ascending, each once; mm, or pixels where the scan has no spacing
    weight: float64 (K,), above 0: how many voxels, or what area (mm2; mm of contour in 2D)
    """

    value: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return np.array_equal(self.value, other.value) and np.array_equal(self.weight, other.weight)

    def __hash__(self) -> int:
        return hash((self.value.tobytes(), self.weight.tobytes()))

    def to_dict(self) -> dict[str, str]:
        """Both arrays as text; nothing is lost."""
        return {"value": _pack(self.value), "weight": _pack(self.weight)}

    @classmethod
    def from_dict(cls, kept: Mapping[str, str]) -> Histogram:
        """The histogram that `to_dict` wrote."""
        return cls(_unpack(kept["value"]), _unpack(kept["weight"]))


@dataclass(frozen=True, slots=True)
class Directed:
    """Distances from every element of one surface to the nearest element of the other.

    voxels: elements are border voxels (a neighbour across a face is outside), one each
    areas: elements are the corners of voxels through which the surface passes, each with the
        area of surface there, as DeepMind's surface-distance has it
    """

    voxels: Histogram
    areas: Histogram

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {"voxels": self.voxels.to_dict(), "areas": self.areas.to_dict()}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Directed:
        """What `to_dict` wrote."""
        return cls(Histogram.from_dict(kept["voxels"]), Histogram.from_dict(kept["areas"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMeasure:
    """Counts of voxels and distances between surfaces of one class.

    to_reference: from the prediction's surface to the reference's; None where either is empty
    to_prediction: from the reference's surface to the prediction's; None where either is empty
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    to_reference: Directed | None
    to_prediction: Directed | None

    @property
    def reference(self) -> int:
        """Voxels of the reference."""
        return self.true_positive + self.false_negative

    @property
    def prediction(self) -> int:
        """Voxels of the prediction."""
        return self.true_positive + self.false_positive

    @property
    def voxels(self) -> int:
        """Voxels of the scan."""
        return self.reference + self.false_positive + self.true_negative

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; nothing is lost."""
        return {
            "true_positive": self.true_positive,
            "false_positive": self.false_positive,
            "false_negative": self.false_negative,
            "true_negative": self.true_negative,
            "to_reference": self.to_reference and self.to_reference.to_dict(),
            "to_prediction": self.to_prediction and self.to_prediction.to_dict(),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> ClassMeasure:
        """What `to_dict` wrote; further keys are left alone."""
        there, back = kept["to_reference"], kept["to_prediction"]
        return cls(
            true_positive=kept["true_positive"],
            false_positive=kept["false_positive"],
            false_negative=kept["false_negative"],
            true_negative=kept["true_negative"],
            to_reference=None if there is None else Directed.from_dict(there),
            to_prediction=None if back is None else Directed.from_dict(back),
        )


def measure(
    reference: Labels, prediction: Labels, label: int = 1, spacing_mm: Spacing | None = None
) -> ClassMeasure:
    """Compare one class of two label arrays of one shape (Z, Y, X).

    spacing_mm: along Z, Y, X; None measures in pixels. Where Z is 1 both are pictures: borders
    and contours are those of the plane. ScanError for shapes that differ and spacing that is
    not above 0.
    """
    return measure_all(reference, prediction, (label,), spacing_mm)[label]


def measure_all(
    reference: Labels,
    prediction: Labels,
    labels: Sequence[int],
    spacing_mm: Spacing | None = None,
    *,
    threads: int | None = None,
) -> dict[int, ClassMeasure]:
    """`measure` for each of `labels`.

    threads: None takes the cores of this process, and one where the masks are small
    """
    if reference.shape != prediction.shape or reference.ndim != 3 or not reference.size:
        raise ScanError(
            f"reference {reference.shape} and prediction {prediction.shape} must have one shape"
            " (Z, Y, X) with a voxel in it"
        )
    spacing = tuple(float(step) for step in spacing_mm or (1.0, 1.0, 1.0))
    if len(spacing) != 3 or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ScanError(f"spacing_mm is {spacing_mm}; it must be three steps above 0 (Z, Y, X)")
    few = threads is None and reference.size < WORTH_THREADS
    with Threads(1 if few else threads) as pool:
        return {label: _one(reference, prediction, label, spacing, pool) for label in labels}


def _one(
    reference: Labels, prediction: Labels, label: int, spacing: Spacing, threads: Threads
) -> ClassMeasure:
    # Tables read measures without numba.
    from candlemark.metrics.segmentation.counts import crop, pack

    packed = pack(reference, prediction, label, threads)
    there = back = None
    if packed.reference and packed.prediction:
        there, back = _distances(crop(packed), spacing, threads)
    return ClassMeasure(
        true_positive=packed.both,
        false_positive=packed.prediction - packed.both,
        false_negative=packed.reference - packed.both,
        true_negative=reference.size - packed.reference - packed.prediction + packed.both,
        to_reference=there,
        to_prediction=back,
    )


def _distances(box: Box, spacing: Spacing, threads: Threads) -> tuple[Directed, Directed]:
    """From the prediction's surface to the reference's, and from the reference's."""
    from candlemark.metrics.segmentation.counts import WORDS_A_PART
    from candlemark.metrics.segmentation.distances import histogram, nearest
    from candlemark.metrics.segmentation.surfaces import outline

    reference, prediction = threads.each(
        lambda rows: outline(rows, flat=box.flat, spacing=spacing),
        list(box.rows),
        alone=box.rows.size < WORDS_A_PART,
    )
    pairs = list(zip(prediction, reference, strict=True))
    pairs += list(zip(reference, prediction, strict=True))
    found = [
        Histogram(*histogram(distances, surface.weight))
        for (surface, _), distances in zip(pairs, nearest(pairs, spacing, threads), strict=True)
    ]
    return Directed(found[0], found[1]), Directed(found[2], found[3])


def _pack(array: npt.NDArray[np.float64]) -> str:
    planes = np.ascontiguousarray(array, dtype="<f8").view(np.uint8).reshape(-1, 8).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode("ascii")


def _unpack(text: str) -> npt.NDArray[np.float64]:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).view("<f8").reshape(-1).astype(np.float64)
