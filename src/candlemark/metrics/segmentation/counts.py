"""Label arrays as bits, one a voxel, so that 64 are compared, counted and shifted at once.

    packed = pack(reference, prediction, label=1)
    packed.both, packed.reference, packed.prediction       # voxels, counted on the way
    box = crop(packed)                                     # the part where either mask is

One pass over the labels at the speed of memory: 64 of them are compared with the label in a few
instructions. Counts are counts of bits in 64-bit integers, so nothing overflows, whatever the
value of the label is. Below `pack`, all work is on an eighth of the bytes, cropped to what the
two masks take up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from candlemark.metrics.segmentation.threads import Threads

Words = npt.NDArray[np.uint64]

WORD = 64
"""Voxels of a word; voxel 0 is the lowest bit."""

WORDS_A_PART = 16384
"""Words of one thread's part: a million voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Two masks of one scan, one bit a voxel in the order of the array, and their counts.

    masks: uint64 (2, words), the reference's and the prediction's
    shape: (Z, Y, X) of the scan
    both, reference, prediction: voxels of both masks and of each
    """

    masks: Words
    shape: tuple[int, int, int]
    both: int
    reference: int
    prediction: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The part of both masks where either is, each row in words of its own.

    rows: uint64 (2, planes, rows, words): reference and prediction, with one empty voxel around;
        a picture has three planes, all the same, so that neither its planes' borders count
    flat: whether it is a picture
    """

    rows: Words
    flat: bool


def pack(
    reference: npt.NDArray[Any], prediction: npt.NDArray[Any], label: int, threads: Threads
) -> Packed:
    """Where both (Z, Y, X) arrays have the label."""
    sides, wanted = zip(*(_bytes(side, label) for side in (reference, prediction)), strict=True)
    words = -(-reference.size // WORD)
    masks = np.empty((2, words), np.uint64)
    counts = threads.each(
        lambda part: _pack(*sides, *wanted, masks, part.start, part.stop),
        threads.parts(words, WORDS_A_PART),
    )
    both, first, second = (sum(part) for part in zip(*counts, strict=True))
    z, y, x = reference.shape
    return Packed(masks=masks, shape=(z, y, x), both=both, reference=first, prediction=second)


def crop(packed: Packed) -> Box:
    """The part where either mask is; one of them must have a voxel."""
    planes, height, width = packed.shape
    box = _bounds(packed.masks, planes, height, width)
    flat = planes == 1
    depth, tall, wide = (int(box[2 * k + 1] - box[2 * k]) for k in range(3))
    rows = np.zeros((2, depth + 2, tall + 2, -(-(wide + 2) // WORD)), np.uint64)
    _rows(packed.masks, height, width, box, rows)
    if flat:
        rows[:, 0] = rows[:, 2] = rows[:, 1]
    return Box(rows=rows, flat=flat)


def _bytes(side: npt.NDArray[Any], label: int) -> tuple[npt.NDArray[np.uint8], np.uint8]:
    """The array as flat bytes, and the byte that is the label."""
    if side.dtype == np.uint8 and 0 <= label < 256:
        return np.ascontiguousarray(side).reshape(-1), np.uint8(label)
    return np.ascontiguousarray(side == label).reshape(-1).view(np.uint8), np.uint8(1)


@intrinsic
def _match(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Bit k is set where array[at + k] is `value`, for 64 bytes; nothing is checked."""
    del typing, at, value

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), WORD)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())
        undefined = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(undefined, args[2], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WORD), [0] * WORD)
        wanted = builder.shuffle_vector(first, undefined, zeros)
        same = builder.icmp_unsigned("==", builder.load(place, align=1), wanted)
        return builder.bitcast(same, ir.IntType(WORD))

    return types.uint64(array, types.int64, types.uint8), emit


@intrinsic
def _ones(typing: Any, word: Any) -> Any:
    """How many bits are set."""
    del typing, word

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        del context, signature
        return builder.ctpop(args[0])

    return types.int64(types.uint64), emit


@njit(cache=True, nogil=True, error_model="numpy")
def _pack(  # noqa: PLR0917 -- kernels take positions only
    first: npt.NDArray[np.uint8],
    second: npt.NDArray[np.uint8],
    first_label: np.uint8,
    second_label: np.uint8,
    masks: Words,
    begin: int,
    end: int,
) -> tuple[int, int, int]:
    """Words `begin` to `end` of both masks, and the counts of bits in both and in each."""
    both = ones = others = 0
    for word in range(begin, end):
        at = word * WORD
        if at + WORD <= first.size:
            a = _match(first, at, first_label)
            b = _match(second, at, second_label)
        else:
            a = b = np.uint64(0)
            for k in range(first.size - at):
                a |= np.uint64(first[at + k] == first_label) << np.uint64(k)
                b |= np.uint64(second[at + k] == second_label) << np.uint64(k)
        masks[0, word] = a
        masks[1, word] = b
        both += _ones(a & b)
        ones += _ones(a)
        others += _ones(b)
    return both, ones, others


@njit(cache=True, nogil=True, error_model="numpy")
def _take(masks: Words, side: int, at: int, count: int) -> Any:
    """`count` bits, at most 64, from bit `at` of a mask."""
    word, shift = at >> 6, np.uint64(at & 63)
    taken = masks[side, word] >> shift
    if shift > np.uint64(0) and word + 1 < masks.shape[1]:
        taken |= masks[side, word + 1] << (np.uint64(64) - shift)
    if count < WORD:
        taken &= (np.uint64(1) << np.uint64(count)) - np.uint64(1)
    return taken


@njit(cache=True, nogil=True, error_model="numpy")
def _bounds(masks: Words, planes: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """First and end of the planes, rows and columns where a voxel of either mask is."""
    columns = np.zeros(-(-width // WORD), np.uint64)
    bounds = np.array([planes, 0, height, 0, width, 0])
    for z in range(planes):
        for y in range(height):
            at = (z * height + y) * width
            found = np.uint64(0)
            for k in range(columns.size):
                left = min(WORD, width - k * WORD)
                here = _take(masks, 0, at + k * WORD, left) | _take(masks, 1, at + k * WORD, left)
                columns[k] |= here
                found |= here
            if found != np.uint64(0):
                bounds[0] = min(bounds[0], z)
                bounds[1] = z + 1
                bounds[2] = min(bounds[2], y)
                bounds[3] = max(bounds[3], y + 1)
    for x in range(width):
        if (columns[x >> 6] >> np.uint64(x & 63)) & np.uint64(1):
            bounds[4] = min(bounds[4], x)
            bounds[5] = x + 1
    return bounds


@njit(cache=True, nogil=True, error_model="numpy")
def _rows(masks: Words, height: int, width: int, box: npt.NDArray[np.int64], rows: Words) -> None:
    """Copy the box into `rows`, from plane, row and bit 1 on."""
    wide = box[5] - box[4]
    for side in range(2):
        for z in range(box[0], box[1]):
            for y in range(box[2], box[3]):
                at = (z * height + y) * width + box[4]
                row = rows[side, z - box[0] + 1, y - box[2] + 1]
                for k in range(row.size):
                    first = k * WORD - 1
                    if first < 0:
                        row[k] = _take(masks, side, at, min(WORD - 1, wide)) << np.uint64(1)
                    elif first < wide:
                        row[k] = _take(masks, side, at + first, min(WORD, wide - first))
