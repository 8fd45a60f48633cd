"""What an oracle shows a model of the answer: a box or a point of each part of the reference.

    Y, X  rows and columns of a slice; a part: voxels of one class that touch, corners included

    for part in parts_of(reference_slice, labels=(1, 2)):
        part.box                                 # (x0, y0, x1, y1): its first and last pixel
        part.point                               # (x, y): its pixel deepest inside
        moved_box(part, 0.1, random, size)       # each side by up to a tenth of the box

No user has such a prompt before the answer is known. How soon a score falls when the prompt is
moved a little tells how much of it was the prompt's.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from candlemark.models.segmentation.base import Labels

Box = tuple[float, float, float, float]
Point = tuple[float, float]

_CORNERS_TOUCH = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of one class on one slice.

    label: of the class
    box: (x0, y0, x1, y1), columns and rows of its first and last pixel
    point: (x, y) of the pixel that is farthest from whatever is not the part; the first of
        several in reading order
    """

    label: int
    box: Box
    point: Point

    @property
    def width(self) -> float:
        """Pixels across, from 1."""
        return self.box[2] - self.box[0] + 1

    @property
    def height(self) -> float:
        """Pixels down, from 1."""
        return self.box[3] - self.box[1] + 1


def parts_of(reference: Labels, labels: Sequence[int]) -> list[Part]:
    """The parts of a slice, uint8 (Y, X), class by class, then in reading order."""
    return [part for label in labels for part in _parts_of_class(reference == label, label)]


def _parts_of_class(mask: npt.NDArray[np.bool_], label: int) -> list[Part]:
    if not mask.any():
        return []
    numbered, _ = ndimage.label(mask, structure=_CORNERS_TOUCH)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), 1):
        inside = numbered[rows, columns] == number
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        down, across = np.unravel_index(int(depth.argmax()), depth.shape)
        found.append(
            Part(
                label=label,
                box=(columns.start, rows.start, columns.stop - 1.0, rows.stop - 1.0),
                point=(float(columns.start + across), float(rows.start + down)),
            )
        )
    return found


def moved_box(part: Part, share: float, random: np.random.Generator, size: tuple[int, int]) -> Box:
    """The part's box, each of its sides moved by up to `share` of the box's own size.

    share: 0 leaves it as it is
    size: (Y, X), which it does not leave; a box turned inside out is turned back
    """
    by = random.uniform(-1, 1, 4) * share
    high, wide = size
    across = part.box[0] + by[0] * part.width, part.box[2] + by[2] * part.width
    down = part.box[1] + by[1] * part.height, part.box[3] + by[3] * part.height
    x0, x1 = np.clip(sorted(across), 0, wide - 1)
    y0, y1 = np.clip(sorted(down), 0, high - 1)
    return float(x0), float(y0), float(x1), float(y1)


def moved_point(
    part: Part, share: float, random: np.random.Generator, size: tuple[int, int]
) -> Point:
    """The part's point, moved by up to `share` of the box's width and height; it may get outside.

    size: (Y, X), which it does not leave
    """
    by = random.uniform(-1, 1, 2) * share
    high, wide = size
    x = np.clip(part.point[0] + by[0] * part.width, 0, wide - 1)
    y = np.clip(part.point[1] + by[1] * part.height, 0, high - 1)
    return float(x), float(y)


def random_of(seed: int, case_id: str, place: int, order: int) -> np.random.Generator:
    """Random numbers of one part: the same for every share, so that a sweep moves it further.

    place: its slice; order: its place in the slice's list
    """
    return np.random.default_rng([seed, zlib.crc32(case_id.encode()), place, order])


def grid_points(size: tuple[int, int], per_side: int) -> list[Point]:
    """(x, y) of a regular grid over a slice (Y, X), `per_side` along the longer side."""
    step = max(size) / per_side
    down, across = (max(1, round(length / step)) for length in size)
    return [
        ((column + 0.5) * size[1] / across - 0.5, (row + 0.5) * size[0] / down - 0.5)
        for row in range(down)
        for column in range(across)
    ]
