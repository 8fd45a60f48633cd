"""The compiled searches behind `distances`: near, by rows, by planes.

Every kernel takes the elements that ask as places (plane, row, bit), in the order of planes, and
the other surface as bits, and gives squared distances in the unit of `steps`. All of them stand
in this one file, as numba's cache on disk looks for changes only where a kernel is defined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from candlemark.metrics.segmentation.counts import WORD, Words

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]


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
def near(  # noqa: PLR0917 -- kernels take positions only
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
def by_rows(  # noqa: PLR0917 -- kernels take positions only
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
def by_planes(  # noqa: PLR0917 -- kernels take positions only
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
    field = np.empty(tall * wide, np.float64)
    spot, first = _by_plane(places, low, high)
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
            _lower(gaps[x], filled, count, down, hull, until, low[1], field, x, wide)
        for z in range(low[0], high[0]):
            plane = deep * (at - z) ** 2
            for n in range(first[z - low[0]], first[z - low[0] + 1]):
                squared[n] = min(squared[n], plane + field[spot[n]])
    return squared


@njit(cache=True, nogil=True, error_model="numpy")
def _by_plane(
    places: Places, low: Places, high: Places
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Where each element is in a plane of `field`, and the first element of each plane."""
    spot = np.empty(places.shape[0], np.int32)
    first = np.zeros(high[0] - low[0] + 1, np.int64)
    for n in range(places.shape[0]):
        spot[n] = (places[n, 1] - low[1]) * (high[2] - low[2]) + places[n, 2] - low[2]
        first[places[n, 0] - low[0] + 1] += 1
    return spot, np.cumsum(first)


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
    wide: int,
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
    for y in range(field.size // wide):
        while part < top and until[part] < y + first:
            part += 1
        k = hull[part]
        field[y * wide + x] = gaps[k] + down * (y + first - filled[k]) ** 2


@njit(cache=True, nogil=True, error_model="numpy")
def gather(distances: Floats, weight: Floats, keys: Floats, sums: Floats) -> bool:
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
