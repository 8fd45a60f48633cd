"""Scans of known shapes: what a test or a first run needs, with answers that are known before.

    found = make_phantoms(Path("phantoms"), count=12, seed=0)   # a Pairing of NIfTI files
    for known in KNOWN_PAIRS: known().scores                    # {"dice": 0.75, ...} exactly

Shapes are drawn in millimetres on grids whose slices are thicker than their pixels are wide. A
scan has three tissues (air, body, lesion) and noise, so that a threshold, a probe or a network
has something to do and none is perfect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError
from candlemark.progress import track
from candlemark.scans.geometry import Geometry, to_itk
from candlemark.scans.masks import mask_to_file
from candlemark.scans.pairs import Pairing, pair
from candlemark.scans.writing import write_image

Shape = tuple[int, int, int]
Millimetres = tuple[float, float, float]
Labels = npt.NDArray[np.uint8]

KINDS: tuple[Literal["ball", "box", "shell", "islands"], ...] = ("ball", "box", "shell", "islands")

AIR, BODY, LESION, NOISE = 40.0, 300.0, 520.0, 45.0
"""Mean intensities of the tissues and the standard deviation of the noise."""


def ball(shape: Shape, spacing_mm: Millimetres, centre_mm: Millimetres, radius_mm: float) -> Labels:
    """1 where the middle of a voxel is no farther than the radius from the centre; (Z, Y, X)."""
    return np.asarray(_distance(shape, spacing_mm, centre_mm) <= radius_mm, dtype=np.uint8)


def shell(
    shape: Shape,
    spacing_mm: Millimetres,
    centre_mm: Millimetres,
    radius_mm: float,
    thickness_mm: float,
) -> Labels:
    """A ball less the ball that is thinner by the thickness."""
    far = _distance(shape, spacing_mm, centre_mm)
    inside = (far <= radius_mm) & (far > radius_mm - thickness_mm)
    return np.asarray(inside, dtype=np.uint8)


def box(shape: Shape, start: Shape, size: Shape) -> Labels:
    """1 in the box of `size` voxels from voxel `start`; it must lie inside."""
    if any(s < 0 or n < 1 or s + n > whole for s, n, whole in zip(start, size, shape, strict=True)):
        raise ScanError(f"a box of {size} from {start} does not lie inside {shape}")
    labels = np.zeros(shape, dtype=np.uint8)
    labels[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))] = 1
    return labels


def islands(
    shape: Shape, spacing_mm: Millimetres, count: int, radius_mm: float, seed: int
) -> Labels:
    """Balls that do not touch; fewer than `count` where there is no room for more."""
    random = np.random.default_rng(seed)
    whole = np.array(shape) * spacing_mm
    centres: list[npt.NDArray[np.float64]] = []
    labels = np.zeros(shape, dtype=np.uint8)
    for _ in range(50 * count):
        centre = radius_mm + random.random(3) * (whole - 2 * radius_mm)
        if all(np.linalg.norm(centre - other) > 3 * radius_mm for other in centres):
            centres.append(centre)
            labels |= ball(shape, spacing_mm, (centre[0], centre[1], centre[2]), radius_mm)
        if len(centres) == count:
            break
    return labels


def _distance(
    shape: Shape, spacing_mm: Millimetres, centre_mm: Millimetres
) -> npt.NDArray[np.float64]:
    axes = [
        np.arange(size) * step - middle
        for size, step, middle in zip(shape, spacing_mm, centre_mm, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    far: npt.NDArray[np.float64] = np.sqrt(z**2 + y**2 + x**2)
    return far


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phantom:
    """A scan that was made up.

    image: int16 (Z, Y, X); labels: uint8 (Z, Y, X), 1 is the lesion
    """

    case: str
    image: npt.NDArray[np.int16]
    labels: Labels
    geometry: Geometry


def draw_phantom(place: int, *, seed: int) -> Phantom:
    """The place-th scan of a series: its kind goes round `KINDS`, its size and noise are drawn."""
    random = np.random.default_rng([seed, place])
    spacing = (float(random.choice([2.0, 3.0, 5.0])), 1.0, 1.0)
    shape = (int(random.integers(12, 20)), 64, 64)
    whole = np.array(shape) * spacing
    middle = whole / 2
    body = _distance(shape, spacing, tuple(middle)) <= 0.47 * whole[1]
    labels = _lesion(KINDS[place % len(KINDS)], shape, spacing, random) * body.astype(np.uint8)
    means = np.where(labels > 0, LESION, np.where(body, BODY, AIR))
    # A slow change of brightness, as coils leave it, so that one threshold is never enough.
    slope = np.linspace(0.85, 1.15, shape[2]) if random.random() < 0.5 else np.ones(shape[2])
    image = np.rint(means * slope + random.normal(0, NOISE, shape))
    return Phantom(
        case=f"phantom_{place:03d}",
        image=np.clip(image, 0, 32767).astype(np.int16),
        labels=labels,
        geometry=Geometry(
            shape=shape, spacing_mm=spacing, origin=(-32.0, -32.0, -float(middle[0]))
        ),
    )


def _lesion(kind: str, shape: Shape, spacing: Millimetres, random: np.random.Generator) -> Labels:
    whole = np.array(shape) * spacing
    centre = whole / 2 + random.uniform(-0.1, 0.1, 3) * whole
    at = (float(centre[0]), float(centre[1]), float(centre[2]))
    radius = float(random.uniform(8.0, 12.0))
    if kind == "ball":
        return ball(shape, spacing, at, radius)
    if kind == "shell":
        return shell(shape, spacing, at, radius, 5.0)
    if kind == "islands":
        return islands(shape, spacing, int(random.integers(4, 8)), 5.0, int(random.integers(2**31)))
    size = [max(2, round(1.4 * radius / step)) for step in spacing]
    size = [min(n, extent - 2) for n, extent in zip(size, shape, strict=True)]
    start = [
        min(max(1, round(middle / step - n / 2)), extent - n - 1)
        for middle, step, n, extent in zip(at, spacing, size, shape, strict=True)
    ]
    return box(shape, (start[0], start[1], start[2]), (size[0], size[1], size[2]))


def make_phantoms(folder: Path, count: int, seed: int = 0) -> Pairing:
    """Write `count` scans to folder/images and folder/references as NIfTI, and pair them.

    The same seed writes the same bytes. Scans that already lie there under other names stay, and
    are not part of what is given back.
    """
    if count < 1:
        raise ScanError(f"{count} phantoms; at least 1 is needed")

    images, references = folder / "images", folder / "references"
    with track("drawing phantoms", total=count, unit="scans") as bar:
        for place in range(count):
            phantom = draw_phantom(place, seed=seed)
            path = images / f"{phantom.case}.nii.gz"
            write_image(to_itk(phantom.image, phantom.geometry), path)
            mask_to_file(phantom.labels, phantom.geometry, references / path.name)
            bar.advance()
    made = {f"phantom_{place:03d}" for place in range(count)}
    found = pair(images, references)
    return Pairing(
        matches=tuple(match for match in found.matches if match.case in made),
        missing_reference={},
        missing_image={},
        doubts=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownPair:
    """A reference, a prediction, and the scores they have by arithmetic alone.

    scores: value by metric; distances in mm between voxel middles of the surfaces
    """

    name: str
    reference: Labels
    prediction: Labels
    spacing_mm: Millimetres
    scores: Mapping[str, float]


def shifted_box(shift: int = 2, spacing_mm: Millimetres = (3.0, 1.0, 0.5)) -> KnownPair:
    """A box of 8 voxels a side and itself moved along z: overlap and distance are known."""
    if not 0 <= shift <= 8:
        raise ScanError(f"a shift of {shift} is not within 0 to 8")
    shape = (20, 16, 16)
    kept = 8 - shift
    return KnownPair(
        name="shifted box",
        reference=box(shape, (2, 4, 4), (8, 8, 8)),
        prediction=box(shape, (2 + shift, 4, 4), (8, 8, 8)),
        spacing_mm=spacing_mm,
        scores={
            "dice": kept / 8,
            "iou": kept / (8 + shift),
            "sensitivity": kept / 8,
            "precision": kept / 8,
            "hd": shift * spacing_mm[0],
        },
    )


def touching_halves(spacing_mm: Millimetres = (2.0, 1.0, 1.0)) -> KnownPair:
    """Two boxes side by side that share no voxel: overlap 0, faces one voxel apart."""
    shape = (10, 12, 20)
    return KnownPair(
        name="touching halves",
        reference=box(shape, (2, 2, 2), (4, 8, 8)),
        prediction=box(shape, (2, 2, 10), (4, 8, 8)),
        spacing_mm=spacing_mm,
        scores={"dice": 0.0, "iou": 0.0, "sensitivity": 0.0, "precision": 0.0, "hd": 8.0},
    )


def box_in_box(spacing_mm: Millimetres = (2.0, 1.0, 1.0)) -> KnownPair:
    """A box of 4 voxels a side in the middle of one of 8: an eighth is found."""
    shape = (12, 12, 12)
    corner = 2 * math.sqrt(sum(step**2 for step in spacing_mm))
    return KnownPair(
        name="box in box",
        reference=box(shape, (2, 2, 2), (8, 8, 8)),
        prediction=box(shape, (4, 4, 4), (4, 4, 4)),
        spacing_mm=spacing_mm,
        scores={
            "dice": 2 * 64 / (512 + 64),
            "iou": 64 / 512,
            "sensitivity": 1 / 8,
            "precision": 1.0,
            "hd": corner,
        },
    )


def same_shell(spacing_mm: Millimetres = (3.0, 1.0, 1.0)) -> KnownPair:
    """A shell and itself: everything is perfect, and its hollow is no part of it."""
    both = shell((15, 40, 40), spacing_mm, (22.0, 20.0, 20.0), 14.0, 4.0)
    return KnownPair(
        name="same shell",
        reference=both,
        prediction=both.copy(),
        spacing_mm=spacing_mm,
        scores={"dice": 1.0, "iou": 1.0, "sensitivity": 1.0, "precision": 1.0, "hd": 0.0},
    )


def half_of_islands(spacing_mm: Millimetres = (2.0, 1.0, 1.0)) -> KnownPair:
    """Four equal boxes apart from each other, of which two are found exactly."""
    shape = (8, 24, 24)
    corners = ((2, 2, 2), (2, 2, 16), (2, 16, 2), (2, 16, 16))
    boxes = [box(shape, corner, (4, 6, 6)) for corner in corners]
    return KnownPair(
        name="half of the islands",
        reference=np.asarray(sum(boxes), dtype=np.uint8),
        prediction=boxes[0] | boxes[3],
        spacing_mm=spacing_mm,
        scores={
            "dice": 2 / 3,
            "iou": 0.5,
            "sensitivity": 0.5,
            "precision": 1.0,
            "hd": 14.0,
            "lesion_sensitivity": 0.5,
            "lesion_precision": 1.0,
        },
    )


KNOWN_PAIRS: tuple[Callable[[], KnownPair], ...] = (
    shifted_box,
    touching_halves,
    box_in_box,
    same_shell,
    half_of_islands,
)
