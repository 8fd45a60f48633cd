"""Two-level pictures in an eighth of their bytes: a bit a pixel, eight rows to a byte.

    packed = pack(pictures, ink=0)                          # uint8 (N, ceil(H / 8), W)
    pictures = unpack(packed, height, paper=255, ink=0)     # uint8 (N, H, W)

Bit r (lowest first) of byte [n, g, x] is the pixel of row 8 g + r, column x: 1 is ink, 0 is
paper. Bits below the last row are 0. In NumPy's words

    np.unpackbits(packed, axis=1, count=height, bitorder="little")

Rows share a byte, not columns: a bar is a few bytes then, and what compresses them finds the
same byte again and again. `render_packed` in `render` draws in this form directly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from candlemark.charts.threads import in_threads
from candlemark.charts.vectors import (
    LANES,
    LINE_BYTES,
    PAGE_BYTES,
    STREAM_FROM_BYTES,
    copy_line,
    fence,
    spread_bits,
    stream_line,
)
from candlemark.errors import ChartError

UInt8Array = npt.NDArray[np.uint8]


def packed_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(ceil(H / 8), W) for pictures of (H, W); ChartError for pictures of more levels."""
    if len(shape) != 2:
        raise ChartError(
            f"pictures of shape {shape} have more than two levels; only ohlc4 and jkx can be packed"
        )
    return (shape[0] + 7) // 8, shape[1]


def pack(images: UInt8Array, ink: int) -> UInt8Array:
    """uint8 (N, ceil(H / 8), W) from uint8 (N, H, W), whose every pixel but `ink` is paper."""
    packed_shape(images.shape[1:])
    packed: UInt8Array = np.packbits(images == ink, axis=1, bitorder="little")
    return packed


def unpack(
    packed: UInt8Array,
    height: int,
    *,
    paper: int,
    ink: int,
    out: UInt8Array | None = None,
    threads: int | None = None,
) -> UInt8Array:
    """uint8 (N, H, W) of levels `paper` and `ink` from uint8 (N, ceil(H / 8), W).

    out: a C-contiguous, writable uint8 array of that shape, filled and returned
    threads: None takes one for each 8 MiB of pictures, at most one a core

    Raises ChartError where the shapes do not fit each other.
    """
    if packed.ndim != 3 or packed.dtype != np.uint8 or packed.shape[1] != (height + 7) // 8:
        raise ChartError(
            f"packed pictures are {packed.dtype} of shape {packed.shape}; {height} rows need "
            f"uint8 (N, {(height + 7) // 8}, W)"
        )
    count, groups, width = packed.shape
    pictures = checked_out(out, (count, height, width))
    bits = np.empty(packed.size + LANES, np.uint8)
    bits[: packed.size] = packed.reshape(-1)
    flat = pictures.reshape(count, height * width)
    streamed = flat.nbytes >= STREAM_FROM_BYTES

    def work(part: slice) -> None:
        first, last = (row * groups * width for row in (part.start, part.stop))
        own = bits[first : last + LANES]
        spread(own, width, height, np.uint8(paper), np.uint8(ink), streamed, flat[part])

    in_threads(work, count, flat.nbytes, threads)
    return pictures


@njit(cache=True, nogil=True, error_model="numpy")
def spread(  # noqa: PLR0917 -- kernels take positions only
    bits: UInt8Array,
    pitch: int,
    height: int,
    paper: np.uint8,
    ink: np.uint8,
    streamed: bool,
    out: UInt8Array,
) -> None:
    """Unpack N pictures to uint8[N, height * width].

    bits: uint8[N * groups * pitch], and LANES bytes more that are read and mean nothing
    pitch: bytes from one row of `bits` to the next, at least the width
    streamed: past the cache

    Eight rows at a time are spread in a block and leave it in whole lines of memory; what
    does not fill a line waits in front of the block for the rows that follow, as a line that
    is streamed in two parts is written twice. There is no call in the loop: an array handed
    to a function has its references counted, atomically, which waits for all streamed stores
    and halved the speed. The block lies in one page where it fits (500 columns): a store
    across the end of a page waits in the same way.
    """
    width = out.shape[1] // height
    wide = (width + LANES - 1) // LANES * LANES
    room = np.zeros(8 * width + LINE_BYTES + wide + LANES + PAGE_BYTES, np.uint8)
    block = room[-room.ctypes.data % PAGE_BYTES :]
    flat = out.reshape(-1)
    place, held = 0, 0
    first = 0
    for _ in range(out.shape[0]):
        for group in range((height + 7) // 8):
            x = wide - LANES
            while x >= 0:
                spread_bits(block, held + x, width, bits, first + x, paper, ink)
                x -= LANES
            first += pitch
            held += min(8, height - 8 * group) * width
            ahead = -(flat.ctypes.data + place) % LINE_BYTES
            if ahead > 0:  # only until the first whole line of `out`
                ahead = min(ahead, held)
                for i in range(ahead):
                    flat[place + i] = block[i]
                for i in range(ahead, held):
                    block[i - ahead] = block[i]
                place += ahead
                held -= ahead
            whole = held // LINE_BYTES * LINE_BYTES
            if streamed:
                for i in range(0, whole, LINE_BYTES):
                    stream_line(flat, place + i, block, i)
            else:
                for i in range(0, whole, LINE_BYTES):
                    copy_line(flat, place + i, block, i)
            copy_line(block, 0, block, whole)
            place += whole
            held -= whole
    for i in range(held):
        flat[place + i] = block[i]
    fence()


def checked_out(out: object, shape: tuple[int, ...]) -> UInt8Array:
    """`out`, or a new array where it is None; ChartError unless it can be drawn into."""
    if out is None:
        return np.empty(shape, dtype=np.uint8)
    wanted = f"it must be a uint8 array of shape {shape}"
    if not isinstance(out, np.ndarray):
        raise ChartError(f"out is a {type(out).__name__}; {wanted}")
    if out.dtype != np.uint8 or out.shape != shape:
        raise ChartError(f"out is {out.dtype} of shape {out.shape}; {wanted}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        what = "read-only" if out.flags.c_contiguous else "not C-contiguous"
        raise ChartError(
            f"out is {what}; draw into a writable C-contiguous array, "
            f"for example np.empty({shape}, np.uint8)"
        )
    return out
