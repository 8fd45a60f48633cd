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

from candlemark.charts.ohlc import NO_BARS, spread
from candlemark.charts.threads import in_threads
from candlemark.charts.vectors import LANES, STREAM_FROM_BYTES
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
    streamed: bool | None = None,
) -> UInt8Array:
    """uint8 (N, H, W) of levels `paper` and `ink` from uint8 (N, ceil(H / 8), W).

    out: a C-contiguous, writable uint8 array of that shape, filled and returned
    threads: None takes one for each 8 MiB of pictures, at most one a core
    streamed: past the cache; None where they take 8 MiB or more, and would leave it anyway

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
    past = flat.nbytes >= STREAM_FROM_BYTES if streamed is None else streamed

    def work(part: slice) -> None:
        first, last = (row * groups * width for row in (part.start, part.stop))
        own = bits[first : last + LANES]
        spread(own, width, height, np.uint8(paper), np.uint8(ink), *NO_BARS, past, flat[part])

    in_threads(work, count, flat.nbytes, threads)
    return pictures


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
