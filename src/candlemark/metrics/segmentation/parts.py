"""Connected parts of masks as runs of voxels, and where the parts of two masks meet.

    ours, theirs = parts_of(reference, 1), parts_of(prediction, 1)
    one, two, shared = meetings(ours, theirs)       # pairs of parts, and how many voxels both have

A row of voxels becomes its runs, and runs of neighbouring rows that touch, corners included, are
joined (He, Chao and Suzuki 2008, "A run-based two-scan labeling algorithm"). Where two masks meet
is found from their runs too, so no volume of labels is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Ints = npt.NDArray[np.int64]

BEFORE = np.array([[0, -1], [-1, -1], [-1, 0], [-1, 1]])
"""Rows, by slice and line, that come before a row and touch it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """The runs of a mask by row, and the part of each.

    start, stop: int64[R], columns of each run, stop exclusive
    first: int64[rows + 1], the first run of each row
    part: int64[R], 0-based number of its part
    size: int64[P], voxels of each part
    """

    start: Ints
    stop: Ints
    first: Ints
    part: Ints
    size: Ints

    def __len__(self) -> int:
        """How many parts there are."""
        return len(self.size)


def parts_of(labels: npt.NDArray[Any], label: int) -> Parts:
    """The connected parts of the voxels of one label; labels: any integers (Z, Y, X)."""
    # Compiled code reads numbers in this machine's order of bytes alone.
    labels = labels.astype(labels.dtype.newbyteorder("="), copy=False)
    rows = labels.reshape(-1, labels.shape[2])
    first = _count_runs(rows, label)
    start, stop = np.empty(first[-1], np.int64), np.empty(first[-1], np.int64)
    _fill_runs(rows, label, first, start, stop)
    part, count = _join(start, stop, first, labels.shape[1], BEFORE)
    size = np.bincount(part, weights=stop - start, minlength=count).astype(np.int64)
    return Parts(start=start, stop=stop, first=first, part=part, size=size)


def meetings(ours: Parts, theirs: Parts) -> tuple[Ints, Ints, Ints]:
    """Every pair of parts that share voxels: the number of each, and how many they share.

    Both are of masks of one shape.
    """
    one, two = ((p.start, p.stop, p.first, p.part) for p in (ours, theirs))
    keys, shared = _meet(one, two, len(theirs))
    pairs, place = np.unique(keys, return_inverse=True)
    voxels = np.bincount(place, weights=shared, minlength=len(pairs)).astype(np.int64)
    width = max(len(theirs), 1)
    return pairs // width, pairs % width, voxels


@njit(cache=True, nogil=True)
def _count_runs(rows: Any, label: int) -> Any:
    first = np.zeros(rows.shape[0] + 1, np.int64)
    for row in range(rows.shape[0]):
        count = 0
        inside = False
        for x in range(rows.shape[1]):
            here = rows[row, x] == label
            if here and not inside:
                count += 1
            inside = here
        first[row + 1] = first[row] + count
    return first


@njit(cache=True, nogil=True)
def _fill_runs(rows: Any, label: int, first: Any, start: Any, stop: Any) -> None:
    for row in range(rows.shape[0]):
        if first[row] == first[row + 1]:
            continue
        run = first[row] - 1
        inside = False
        for x in range(rows.shape[1]):
            here = rows[row, x] == label
            if here and not inside:
                run += 1
                start[run] = x
            elif inside and not here:
                stop[run] = x
            inside = here
        if inside:
            stop[run] = rows.shape[1]


@njit(cache=True, nogil=True)
def _root(parent: Any, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(cache=True, nogil=True)
def _numbered(parent: Any) -> Any:
    part = np.empty(len(parent), np.int64)
    count = 0
    for run in range(len(parent)):
        # The root of a part is its first run, which has its number by now.
        root = _root(parent, run)
        if root == run:
            part[run] = count
            count += 1
        else:
            part[run] = part[root]
    return part, count


@njit(cache=True, nogil=True)
def _join(start: Any, stop: Any, first: Any, lines: int, before: Any) -> Any:
    """The part of each run, and how many parts there are; lines: rows in a slice."""
    parent = np.arange(len(start))
    for row in range(len(first) - 1):
        if first[row] == first[row + 1]:
            continue
        z, y = row // lines, row % lines
        for step in range(len(before)):
            beside = y + before[step, 1]
            if z + before[step, 0] < 0 or beside < 0 or beside >= lines:
                continue
            other = (z + before[step, 0]) * lines + beside
            a, b = first[row], first[other]
            while a < first[row + 1] and b < first[other + 1]:
                # Runs touch where their ends are neighbours, over a corner too.
                if start[a] <= stop[b] and start[b] <= stop[a]:
                    one, two = _root(parent, a), _root(parent, b)
                    if one < two:
                        parent[two] = one
                    elif two < one:
                        parent[one] = two
                if stop[a] < stop[b]:
                    a += 1
                else:
                    b += 1
    return _numbered(parent)


@njit(cache=True, nogil=True)
def _meet(ours: Any, theirs: Any, count: int) -> Any:
    """A key for each two runs that share voxels, and how many they share."""
    start, stop, first, part = ours
    other_start, other_stop, other_first, other_part = theirs
    keys = np.empty(len(start) + len(other_start), np.int64)
    shared = np.empty(len(keys), np.int64)
    found = 0
    for row in range(len(first) - 1):
        a, b = first[row], other_first[row]
        while a < first[row + 1] and b < other_first[row + 1]:
            voxels = min(stop[a], other_stop[b]) - max(start[a], other_start[b])
            if voxels > 0:
                keys[found] = part[a] * count + other_part[b]
                shared[found] = voxels
                found += 1
            if stop[a] < other_stop[b]:
                a += 1
            else:
                b += 1
    return keys[:found], shared[:found]
