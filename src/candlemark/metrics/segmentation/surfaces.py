"""The surface of a mask, as voxels and as areas.

    rim, skin = outline(box.rows[0], flat=False, spacing=(1.0, 1.0, 1.0))
    rim.bits, rim.places                    # border voxels: one bit each, and where they are
    skin.weight                             # mm2 of surface at each corner of voxels

A border voxel has a neighbour across one of its six faces (four sides in a picture) that is not
in the mask; what lies beyond the scan is not. That is what MONAI, MedPy, Metrics Reloaded and
TorchMetrics measure between.

DeepMind's surface-distance measures between the corners of voxels through which the surface
passes, each weighed by its area, so that a slanted surface is not counted twice. The surface at
a corner follows from which of its eight voxels are in the mask, as in marching cubes. That
table of 256 has 14 patterns in it, which rotation, reflection and exchange of inside and outside
turn into the others: they are written out below and tested against the package's table.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from candlemark.metrics.segmentation.counts import WORD, Words

Spacing = tuple[float, float, float]

_PATTERNS: dict[int, tuple[tuple[int, int, int], ...]] = {
    0b00000000: (),
    0b00000001: ((1, 1, 1),),
    0b00000011: ((2, 2, 0), (2, 2, 0)),
    0b00000110: ((1, 1, 1), (1, 1, 1)),
    0b00000111: ((1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00001111: ((4, 0, 0), (4, 0, 0)),
    0b00010110: ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    0b00010111: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2)),
    0b00011000: ((1, 1, 1), (1, 1, 1)),
    0b00011001: ((0, 2, 2), (0, 2, 2), (1, 1, 1)),
    0b00011011: ((0, 2, 2), (1, 1, 1), (2, 0, 2), (3, 3, 3)),
    0b00011110: ((1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 0, 0)),
    0b00111100: ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)),
    0b01101001: ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}
"""Pieces of surface by the voxels of a corner that are inside: bit 4 z + 2 y + x. Each piece is its
normal in eighths along Z, Y, X, without sign, as long as its area between voxels of size 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """Elements of one surface.

    bits: uint64 (planes, rows, words), a bit for each element; of corners, bit x of row y of
        plane z is the corner behind voxel (z, y, x)
    places: int32 (N, 3): plane, row and bit of each, in that order
    weight: float64 (N,): 1 for a voxel, mm2 (mm of contour in a picture) for a corner
    bounds: int32 (2, 3): first and end of the planes, rows and bits that have one
    """

    bits: Words
    places: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float64]
    bounds: npt.NDArray[np.int32]


def outline(rows: Words, *, flat: bool, spacing: Spacing) -> tuple[Surface, Surface]:
    """Border voxels and corners of one mask of a `Box`."""
    rim, skin = np.zeros_like(rows), np.zeros_like(rows)
    voxels, corners = _outline(rows, flat, rim, skin)
    places, bounds = _places(rim, voxels)
    border = Surface(bits=rim, places=places, weight=np.ones(voxels), bounds=bounds)
    places, bounds = _places(skin, corners)
    areas = np.empty(corners, np.float64)
    _weigh(rows, places, area_table(spacing, flat=flat), areas)
    return border, Surface(bits=skin, places=places, weight=areas, bounds=bounds)


@lru_cache(maxsize=64)
def area_table(spacing: Spacing, *, flat: bool) -> npt.NDArray[np.float64]:
    """float64 (256,): surface at a corner by which of its eight voxels are inside.

    flat: mm of contour instead; the four voxels in front are those behind
    """
    table = np.zeros(256)
    if flat:
        down, across = spacing[1:]
        slant = math.hypot(down, across) / 2
        for inside in range(1, 15):
            crossed = {0b0011: across, 0b1100: across, 0b0101: down, 0b1010: down}
            crossed |= {0b0110: 2 * slant, 0b1001: 2 * slant}
            table[inside * 17] = crossed.get(inside, slant)
        return table
    z, y, x = spacing
    faces = (y * x / 8, z * x / 8, z * y / 8)
    for pattern, pieces in _PATTERNS.items():
        for turn in itertools.permutations(range(3)):
            turned = [[piece[axis] for axis in turn] for piece in pieces]
            area = sum(math.hypot(*map(math.prod, zip(n, faces, strict=True))) for n in turned)
            for mirror in range(8):
                inside = _moved(pattern, turn, mirror)
                table[inside] = table[255 - inside] = area
    return table


def _moved(pattern: int, turn: tuple[int, ...], mirror: int) -> int:
    """The pattern with its axes in the order `turn`, mirrored along those set in `mirror`."""
    moved = 0
    for voxel in range(8):
        if pattern >> voxel & 1:
            at = [voxel >> (2 - axis) & 1 for axis in turn]
            moved |= 1 << ((4 * at[0] + 2 * at[1] + at[2]) ^ mirror)
    return moved


@njit(cache=True, nogil=True, error_model="numpy")
def _before(row: Words, k: int) -> Any:
    """Word k with each voxel's left neighbour in its place."""
    carried = row[k - 1] >> np.uint64(63) if k > 0 else np.uint64(0)
    return (row[k] << np.uint64(1)) | carried


@njit(cache=True, nogil=True, error_model="numpy")
def _after(row: Words, k: int) -> Any:
    """Word k with each voxel's right neighbour in its place."""
    carried = row[k + 1] << np.uint64(63) if k + 1 < row.size else np.uint64(0)
    return (row[k] >> np.uint64(1)) | carried


@njit(cache=True, nogil=True, error_model="numpy")
def _ones(word: Any) -> Any:
    """How many bits are set: LLVM knows the form and makes one instruction of it."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    pairs = np.uint64(0x3333333333333333)
    word = (word & pairs) + ((word >> np.uint64(2)) & pairs)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True, error_model="numpy")
def _outline(rows: Words, flat: bool, rim: Words, skin: Words) -> tuple[int, int]:
    """Set the bits of border voxels and of corners; how many there are."""
    planes, height, words = rows.shape
    voxels = corners = 0
    for z in range(1 if flat else 0, 2 if flat else planes - 1):
        for y in range(height - 1):
            here, below = rows[z, y], rows[z, y + 1]
            behind, last = rows[z + 1, y], rows[z + 1, y + 1]
            for k in range(words):
                after = _after(here, k) | _after(below, k) | _after(behind, k) | _after(last, k)
                some = here[k] | below[k] | behind[k] | last[k] | after
                if some == np.uint64(0):
                    continue
                every = here[k] & below[k] & behind[k] & last[k]
                every &= _after(here, k) & _after(below, k) & _after(behind, k) & _after(last, k)
                skin[z, y, k] = some & ~every
                corners += _ones(skin[z, y, k])
                if here[k] != np.uint64(0):
                    inner = _before(here, k) & _after(here, k) & below[k] & rows[z, y - 1, k]
                    inner &= behind[k] & rows[z - 1, y, k]
                    rim[z, y, k] = here[k] & ~inner
                    voxels += _ones(rim[z, y, k])
    return voxels, corners


@njit(cache=True, nogil=True, error_model="numpy")
def _places(bits: Words, count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Plane, row and bit of each of `count` set bits, and their first and end."""
    places = np.empty((count, 3), np.int32)
    bounds = np.zeros((2, 3), np.int32)
    bounds[0] = 2**31 - 1
    found = 0
    for z in range(bits.shape[0]):
        for y in range(bits.shape[1]):
            for k in range(bits.shape[2]):
                word = bits[z, y, k]
                while word != np.uint64(0):
                    low = word & (~word + np.uint64(1))
                    places[found, 0] = z
                    places[found, 1] = y
                    places[found, 2] = k * WORD + _ones(low - np.uint64(1))
                    for axis in range(3):
                        bounds[0, axis] = min(bounds[0, axis], places[found, axis])
                        bounds[1, axis] = max(bounds[1, axis], places[found, axis] + 1)
                    found += 1
                    word ^= low
    return places, bounds


@njit(cache=True, nogil=True, error_model="numpy")
def _weigh(
    rows: Words,
    places: npt.NDArray[np.int32],
    table: npt.NDArray[np.float64],
    areas: npt.NDArray[np.float64],
) -> None:
    """Surface at each corner, by its eight voxels."""
    for n in range(areas.size):
        z, y, x = places[n]
        inside = np.int64(0)
        for voxel in range(8):
            row = rows[z + (voxel >> 2), y + ((voxel >> 1) & 1)]
            column = x + (voxel & 1)
            bit = (row[column >> 6] >> np.uint64(column & 63)) & np.uint64(1)
            inside |= np.int64(bit) << voxel
        areas[n] = table[inside]
