"""Distances from each element of one surface to the nearest of another, exact.

    there, = nearest([(rim, other)], spacing=(1.0, 1.0, 1.0), threads=threads)   # float64 (N,)

Three ways, all exact, each for what it is best at:

- near: rows of the other surface are looked at in the order of their distance, and in a row the
  nearest set bit is found in a few instructions. It ends at the first row that is farther than
  what was found: a handful of rows where masks agree, which is what predictions mostly do.
- rows: the same with no limit, for the few elements that are far from everything (an island).
- planes: where many are far (all of the scan against a lesion), a distance transform of one
  plane of the other surface at a time, asked only at the elements: as long as it takes for any
  distance, and never more than a plane in memory.

Distances are computed in whole steps where the spacing allows, so that equal ones are equal. A
k-d tree and the transforms of scipy and edt were slower by a factor of 5 and more; edt's are in
single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from candlemark.metrics.segmentation.counts import WORD, Words
from candlemark.metrics.segmentation.surfaces import Spacing, Surface
from candlemark.metrics.segmentation.threads import Threads

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]

NEAR_STEPS = 12
"""How far, in the smallest spacing, the near search looks before another way takes over."""

PART = 16384
"""Elements of one thread's part; fewer in all are not worth a thread."""

ROW_NS, PLANE_NS, ASK_NS = 1.0, 4.0, 2.0
"""What a row, a voxel of a transform and a question to it take, for the choice of the way."""


def nearest(
    pairs: Sequence[tuple[Surface, Surface]], spacing: Spacing, threads: Threads
) -> list[Floats]:
    """For each pair float64 (N,): from each element of the first to the nearest of the second.

    The second surface of a pair has an element.
    """
    unit, steps = _whole(spacing)
    reach = float(steps.min()) * NEAR_STEPS
    rows, apart = _offsets(float(steps[0]), float(steps[1]), reach)
    found = [np.empty(len(surface.places)) for surface, _ in pairs]

    def near(piece: tuple[int, slice]) -> None:
        number, part = piece
        surface, other = pairs[number]
        places, squared = surface.places[part], found[number][part]
        _near(places, other.bits, other.bounds, rows, apart, reach, steps, squared)

    pieces = [(k, part) for k, each in enumerate(found) for part in threads.parts(each.size, PART)]
    threads.each(near, pieces, alone=sum(each.size for each in found) < PART)
    for (surface, other), squared in zip(pairs, found, strict=True):
        far = np.flatnonzero(np.isinf(squared))
        if far.size:
            squared[far] = _far(surface.places[far], other, steps, threads)
    return [unit * np.sqrt(squared) for squared in found]


def histogram(distances: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Each distance once, ascending, and the weight that lies at it."""
    slots = 1 << 10
    while True:
        keys, sums = np.full(slots, -1.0), np.zeros(slots)
        if _gather(distances, weight, keys, sums):
            break
        slots <<= 2
    used = np.flatnonzero(keys >= 0)
    used = used[np.argsort(keys[used])]
    return keys[used], sums[used]


def _whole(spacing: Spacing) -> tuple[float, Floats]:
    """A unit and the steps in it; 1 where they are not whole multiples of one of them."""
    unit = min(spacing)
    steps = np.array(spacing) / unit
    if np.array_equal(steps, np.round(steps)) and np.array_equal(steps * unit, spacing):
        return unit, steps
    return 1.0, np.array(spacing)


@lru_cache(maxsize=64)
def _offsets(deep: float, down: float, reach: float) -> tuple[Places, Floats]:
    """Rows (planes and rows away) by their squared distance, and that, up to `reach`."""
    far = int(reach / deep), int(reach / down)
    z, y = np.mgrid[-far[0] : far[0] + 1, -far[1] : far[1] + 1].reshape(2, -1)
    squared = (z * deep) ** 2 + (y * down) ** 2
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= reach**2]
    return np.stack([z, y], axis=1)[order].astype(np.int32), squared[order]


def _far(places: Places, other: Surface, steps: Floats, threads: Threads) -> Floats:
    """Squared distances of elements that have nothing near, by the cheaper way."""
    box = other.bounds
    depth, height, _ = (int(n) for n in box[1] - box[0])
    low, high = places.min(axis=0), places.max(axis=0) + 1
    _, tall, wide = (int(n) for n in high - low)
    by_rows = len(places) * depth * height * ROW_NS
    by_planes = depth * ((height + tall) * wide * PLANE_NS + len(places) * ASK_NS)
    squared = np.full(len(places), np.inf)
    if by_rows < by_planes:
        threads.each(
            lambda part: _by_rows(places[part], other.bits, steps, *box, squared[part]),
            threads.parts(len(places), 64),
        )
        return squared
    found = threads.each(
        lambda part: _by_planes(
            places, other.bits, steps, box[0][0] + part.start, box[0][0] + part.stop, low, high
        ),
        threads.parts(depth, 4),
    )
    return np.asarray(np.min(found, axis=0), np.float64)


@intrinsic
def _zeros_below(typing: Any, word: Any) -> Any:
    """Clear bits below the lowest set one; 64 of none."""
    del typing, word

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        return builder.cttz(args[0], context.get_constant(types.boolean, 0))

    return types.int64(types.uint64), emit


@intrinsic
def _zeros_above(typing: Any, word: Any) -> Any:
    """Clear bits above the highest set one; 64 of none."""
    del typing, word

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del signature
        return builder.ctlz(args[0], context.get_constant(types.boolean, 0))

    return types.int64(types.uint64), emit


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _gap(row: Words, x: int, none: int) -> Any:
    """Columns from x to the nearest set bit of the row; `none` where there is none."""
    own, place = x >> 6, np.uint64(x & 63)
    gap = none
    after = row[own] >> place
    if after != np.uint64(0):
        gap = _zeros_below(after)
    else:
        for k in range(own + 1, row.size):
            if row[k] != np.uint64(0):
                gap = k * WORD + _zeros_below(row[k]) - x
                break
    before = row[own] << (np.uint64(63) - place)
    if before != np.uint64(0):
        return min(gap, _zeros_above(before))
    for k in range(own - 1, -1, -1):
        if row[k] != np.uint64(0):
            return min(gap, x - k * WORD - 63 + _zeros_above(row[k]))
    return gap


@njit(cache=True, nogil=True, error_model="numpy")
def _near(  # noqa: PLR0917 -- kernels take positions only
    places: Places,
    bits: Words,
    bounds: Places,
    rows: Places,
    apart: Floats,
    reach: float,
    steps: Floats,
    squared: Floats,
) -> None:
    """Squared distances up to the reach of `rows`; infinite beyond, and for some close to it.

    An element close to one that has nothing near is taken for one more, up to half the reach
    away: where all is far, this looks only here and there. `blank` keeps the last such element
    of each cell of four voxels a side.
    """
    planes, height, words = bits.shape
    none = words * WORD
    deep, down, across = steps * steps
    blank = np.full((planes // 4 + 1, height // 4 + 1, none // 4 + 1), -1, np.int32)
    for n in range(squared.size):
        z, y, x = places[n]
        away = deep * max(bounds[0, 0] - z, z - bounds[1, 0] + 1, 0) ** 2
        away += down * max(bounds[0, 1] - y, y - bounds[1, 1] + 1, 0) ** 2
        away += across * max(bounds[0, 2] - x, x - bounds[1, 2] + 1, 0) ** 2
        if away > reach * reach:
            squared[n] = np.inf
            continue
        seen = blank[z >> 2, y >> 2, x >> 2]
        if seen >= 0:
            moved = deep * (z - places[seen, 0]) ** 2 + down * (y - places[seen, 1]) ** 2
            if 4 * (moved + across * (x - places[seen, 2]) ** 2) < reach * reach:
                squared[n] = np.inf
                continue
        best = np.inf
        for k in range(apart.size):
            if apart[k] >= best:
                break
            at, row = z + rows[k, 0], y + rows[k, 1]
            if at < 0 or at >= planes or row < 0 or row >= height:
                continue
            gap = _gap(bits[at, row], x, none)
            if gap < none:
                best = min(best, apart[k] + across * gap * gap)
        if best > reach * reach:
            best = np.inf
            blank[z >> 2, y >> 2, x >> 2] = n
        squared[n] = best


@njit(cache=True, nogil=True, error_model="numpy")
def _by_rows(  # noqa: PLR0917 -- kernels take positions only
    places: Places,
    bits: Words,
    steps: Floats,
    low: Places,
    high: Places,
    squared: Floats,
) -> None:
    """Squared distances by all rows from `low` to `high`, the nearest planes and rows first."""
    none = bits.shape[2] * WORD
    deep, down, across = steps * steps
    hint = places[0].astype(np.int64)
    for n in range(squared.size):
        z, y, x = places[n]
        best = np.inf
        if n > 0:
            best = deep * (hint[0] - z) ** 2 + down * (hint[1] - y) ** 2
            best += across * (hint[2] - x) ** 2
        start = min(max(z, low[0]), high[0] - 1)
        for step in range(2 * (high[0] - low[0])):
            at = start + (step + 1) // 2 * (1 if step % 2 else -1)
            if at < low[0] or at >= high[0]:
                continue
            plane = deep * (at - z) ** 2
            if plane >= best:
                continue
            middle = min(max(y, low[1]), high[1] - 1)
            for turn in range(2 * (high[1] - low[1])):
                row = middle + (turn + 1) // 2 * (1 if turn % 2 else -1)
                if row < low[1] or row >= high[1]:
                    continue
                apart = plane + down * (row - y) ** 2
                if apart >= best:
                    continue
                gap = _gap(bits[at, row], x, none)
                if gap < none and apart + across * gap * gap < best:
                    best = apart + across * gap * gap
                    left = x - gap
                    here = left >= 0 and (
                        bits[at, row, left >> 6] >> np.uint64(left & 63)
                    ) & np.uint64(1)
                    hint[0], hint[1], hint[2] = at, row, left if here else x + gap
        squared[n] = best


@njit(cache=True, nogil=True, error_model="numpy")
def _by_planes(  # noqa: PLR0917 -- kernels take positions only
    places: Places,
    bits: Words,
    steps: Floats,
    begin: int,
    end: int,
    low: Places,
    high: Places,
) -> Floats:
    """Squared distances to planes `begin` to `end`; all elements lie from `low` to `high`."""
    squared = np.full(places.shape[0], np.inf)
    height, words = bits.shape[1:]
    tall, wide = high[1] - low[1], high[2] - low[2]
    filled = np.empty(height, np.int64)
    gaps = np.empty((wide, height), np.float64)
    field = np.empty((tall, wide), np.float64)
    hull, until = np.empty(height, np.int64), np.empty(height + 1, np.float64)
    deep, down, across = steps * steps
    start = min(max((low[0] + high[0]) // 2, begin), end - 1)
    for step in range(2 * (end - begin)):
        at = start + (step + 1) // 2 * (1 if step % 2 else -1)
        if at < begin or at >= end:
            continue
        away = max(low[0] - at, at - high[0] + 1, 0)
        if deep * away * away >= squared.max():
            continue
        count = 0
        for row in range(height):
            for k in range(words):
                if bits[at, row, k] != np.uint64(0):
                    for x in range(wide):
                        gap = _gap(bits[at, row], x + low[2], words * WORD)
                        gaps[x, count] = across * gap * gap
                    filled[count] = row
                    count += 1
                    break
        if count == 0:
            continue
        for x in range(wide):
            _lower(gaps[x], filled, count, down, hull, until, low[1], field, x)
        for n in range(places.shape[0]):
            plane = deep * (at - places[n, 0]) ** 2
            if plane < squared[n]:
                found = plane + field[places[n, 1] - low[1], places[n, 2] - low[2]]
                squared[n] = min(squared[n], found)
    return squared


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _lower(  # noqa: PLR0917 -- kernels take positions only
    gaps: Floats,
    filled: npt.NDArray[np.int64],
    count: int,
    down: float,
    hull: npt.NDArray[np.int64],
    until: Floats,
    first: int,
    field: Floats,
    x: int,
) -> None:
    """Least of the parabolas gaps[k] + down (y - filled[k])^2 at each y, to a column of `field`.

    Felzenszwalb and Huttenlocher's lower envelope, in one go from above to below.
    """
    top = 0
    hull[0] = 0
    for k in range(1, count):
        while True:
            last = hull[top]
            a, b = filled[last], filled[k]
            cross = (gaps[k] - gaps[last]) / (2 * down * (b - a)) + (a + b) / 2
            if top > 0 and cross <= until[top - 1]:
                top -= 1
                continue
            break
        until[top] = cross
        top += 1
        hull[top] = k
    part = 0
    for y in range(field.shape[0]):
        while part < top and until[part] < y + first:
            part += 1
        k = hull[part]
        field[y, x] = gaps[k] + down * (y + first - filled[k]) ** 2


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(distances: Floats, weight: Floats, keys: Floats, sums: Floats) -> bool:
    """Add each weight to the slot of its distance; False where more than half would be taken."""
    taken = 0
    last = np.uint64(keys.size - 1)
    bits = distances.view(np.uint64)
    for n in range(distances.size):
        mixed = bits[n] * np.uint64(0x9E3779B97F4A7C15)
        slot = (mixed ^ (mixed >> np.uint64(32))) & last
        while keys[slot] != distances[n]:
            if keys[slot] < 0:
                taken += 1
                if 2 * taken > keys.size:
                    return False
                keys[slot] = distances[n]
                break
            slot = (slot + np.uint64(1)) & last
        sums[slot] += weight[n]
    return True
