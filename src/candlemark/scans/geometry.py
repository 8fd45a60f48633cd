"""Where the voxels of a scan lie in space, and whether two scans lie on one grid.

    found = compare_geometry(image.geometry, mask.geometry)
    require_same_grid(image.geometry, mask.geometry, case="case_7")    # ScanError names each
    labels = resample_labels(mask.labels, mask.geometry, image.geometry)

Two grids are the same where no corner voxel of one lies more than a tenth of a voxel from its
partner in the other: that lets through what a NIfTI header loses by its 32 bit floats, and
nothing that moves a score.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError

TOLERANCE_VOXELS = 0.1
"""How far a corner may lie from its partner, in voxels of the finer grid's smallest edge."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

_ENDS = (("R", "L"), ("A", "P"), ("I", "S"))
"""The sides of the patient that x, y and z of space come from and go to: right and left, front
(anterior) and back, feet (inferior) and head."""

Field = Literal["shape", "spacing", "origin", "direction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A grid in space.

    shape: voxels along (Z, Y, X); Z is 1 for a picture
    spacing_mm: between voxels along (z, y, x); None where the file has none (PNG, JPEG, NPY)
    origin: (x, y, z) of the first voxel in mm, as files have it
    direction: 3 x 3 by rows, the unit vector of x, y and z in its columns
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY

    @property
    def placed(self) -> bool:
        """Whether the file says where its voxels lie."""
        return self.spacing_mm is not None

    def corners(self) -> npt.NDArray[np.float64]:
        """(8, 3) x, y, z in mm of the corner voxels; needs a spacing."""
        if self.spacing_mm is None:
            raise ScanError("a grid without spacing has no place in space")
        steps = np.diag(self.spacing_mm[::-1])
        ends = [(0, size - 1) for size in self.shape[::-1]]
        places = np.array(list(product(*ends)), dtype=np.float64)
        turned = np.array(self.direction, dtype=np.float64).reshape(3, 3) @ steps @ places.T
        corners: npt.NDArray[np.float64] = turned.T + np.array(self.origin)
        return corners


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing in which two grids differ.

    moved_mm: how far this alone moves the farthest corner; None for a shape
    """

    field: Field
    image: tuple[float, ...]
    reference: tuple[float, ...]
    moved_mm: float | None = None

    def __str__(self) -> str:
        text = f"{self.field} {_numbers(self.image)} and {_numbers(self.reference)}"
        return text if self.moved_mm is None else f"{text} (up to {self.moved_mm:.3g} mm apart)"


def upright(geometry: Geometry) -> tuple[tuple[slice, ...], tuple[str, str]] | None:
    """What turns (Z, Y, X) the way radiologists look at slices, and what then lies where.

    Returns the slices to index with, and the sides of the patient at the left and at the top: of
    right and left the right one is at the left, and front or head are first. Rows and columns are
    mirrored, never swapped, and slices keep their order. None where nobody knows: a single slice
    may be no slice of a patient, and a file without spacing has no place.
    """
    if not geometry.placed or geometry.shape[0] == 1:
        return None
    turned, sides = [slice(None)], []
    for axis in np.array(geometry.direction).reshape(3, 3).T[1::-1]:  # of rows, of columns
        main = int(np.argmax(np.abs(axis)))
        first, last = _ENDS[main] if axis[main] > 0 else _ENDS[main][::-1]
        mirrored = first not in {"R", "A", "S"}
        turned.append(slice(None, None, -1) if mirrored else slice(None))
        sides.append(last if mirrored else first)
    return tuple(turned), (sides[1], sides[0])


def compare_geometry(image: Geometry, reference: Geometry) -> list[Difference]:
    """In what the two grids differ; empty where they are one.

    Where one of them has no spacing only the shapes can be compared: a mask without a place is
    taken to lie on its image.
    """
    found = []
    if image.shape != reference.shape:
        found.append(Difference(field="shape", image=image.shape, reference=reference.shape))
    if image.spacing_mm is None or reference.spacing_mm is None:
        return found
    allowed = TOLERANCE_VOXELS * min(*image.spacing_mm, *reference.spacing_mm)
    if _moved(image, replace(reference, shape=image.shape)) <= allowed:
        return found
    parts = [
        Difference(field=field, image=here, reference=there, moved_mm=_moved(image, moved))
        for field, here, there, moved in _parts(image, reference)
    ]
    # What is NaN in a header is a difference; several small ones are one that is not small.
    far = [one for one in parts if one.moved_mm is None or not one.moved_mm <= allowed]
    return found + (far or [one for one in parts if one.moved_mm])


def _moved(image: Geometry, other: Geometry) -> float:
    """Millimetres between the corners that lie farthest from their partners, of one shape."""
    return float(np.linalg.norm(other.corners() - image.corners(), axis=1).max())


def _parts(
    image: Geometry, reference: Geometry
) -> list[tuple[Field, tuple[float, ...], tuple[float, ...], Geometry]]:
    """The image's grid with one field of the reference in it, for each field."""
    spacing, other = image.spacing_mm or (), reference.spacing_mm or ()
    return [
        ("spacing", spacing, other, replace(image, spacing_mm=reference.spacing_mm)),
        ("origin", image.origin, reference.origin, replace(image, origin=reference.origin)),
        (
            "direction",
            image.direction,
            reference.direction,
            replace(image, direction=reference.direction),
        ),
    ]


def require_same_grid(image: Geometry, reference: Geometry, *, case: str) -> None:
    """Raise ScanError that names each difference of the two grids and what to do about it."""
    found = compare_geometry(image, reference)
    if not found:
        return
    if image.placed and reference.placed:
        cure = (
            "put the reference on the image's grid by nearest neighbour with: --geometry resample"
        )
    else:
        cure = (
            f"{'the reference' if image.placed else 'the image'} has no spacing, so --geometry "
            "resample cannot help; give files that know it (NIfTI, NRRD, MetaImage)"
        )
    raise ScanError(
        f"case {case}: image and reference lie on different grids: "
        f"{'; '.join(map(str, found))}; {cure}"
    )


def require_overlap(own: Geometry, onto: Geometry, *, case: str) -> None:
    """Raise ScanError where a mask on the grid `own` would leave nothing on an image's grid.

    That is where no voxel of the image lies within the mask's; both grids have a spacing.
    """
    steps = np.diag((own.spacing_mm or (1.0, 1.0, 1.0))[::-1])
    turned = np.array(own.direction).reshape(3, 3) @ steps
    places = np.linalg.solve(turned, (onto.corners() - np.array(own.origin)).T).T
    beyond = np.array(own.shape[::-1]) - 0.5
    if (places.max(axis=0) < -0.5).any() or (places.min(axis=0) > beyond).any():
        raise ScanError(
            f"case {case}: the mask lies beside its image, and nothing of it would be left: it "
            f"reaches from {_reach(own)}, the image from {_reach(onto)} mm in x, y, z; is it of "
            "another scan, or is its origin wrong?"
        )


def _reach(geometry: Geometry) -> str:
    corners = geometry.corners()
    return f"{_numbers(corners.min(axis=0))} to {_numbers(corners.max(axis=0))}"


def resample_labels(
    labels: npt.NDArray[np.uint8], own: Geometry, onto: Geometry
) -> npt.NDArray[np.uint8]:
    """Labels on another grid by nearest neighbour; background where they do not reach.

    labels: uint8 (Z, Y, X) on the grid `own`. Returns uint8 of `onto.shape`.
    """
    if not own.placed or not onto.placed:
        raise ScanError(
            f"cannot resample shape {_numbers(own.shape)} onto {_numbers(onto.shape)}: "
            f"{'the reference' if onto.placed else 'the image'} has no spacing, so nobody knows "
            "where its voxels lie; give files that know it (NIfTI, NRRD, MetaImage)"
        )
    import SimpleITK

    moved = SimpleITK.Resample(
        to_itk(labels, own),
        to_itk_grid(onto),
        SimpleITK.Transform(),
        SimpleITK.sitkNearestNeighbor,
        0,
        SimpleITK.sitkUInt8,
    )
    return np.array(SimpleITK.GetArrayViewFromImage(moved), dtype=np.uint8)


def to_itk(values: npt.NDArray[Any], geometry: Geometry) -> Any:
    """An image of SimpleITK with these voxels (Z, Y, X) on this grid."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values))
    _place(image, geometry)
    return image


def to_itk_grid(geometry: Geometry) -> Any:
    """An image of zeros on this grid, for what needs only the grid."""
    import SimpleITK

    image = SimpleITK.Image([int(size) for size in geometry.shape[::-1]], SimpleITK.sitkUInt8)
    _place(image, geometry)
    return image


def _place(image: Any, geometry: Geometry) -> None:
    image.SetSpacing([float(step) for step in (geometry.spacing_mm or (1.0, 1.0, 1.0))[::-1]])
    image.SetOrigin([float(place) for place in geometry.origin])
    image.SetDirection([float(part) for part in geometry.direction])


def _numbers(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"
