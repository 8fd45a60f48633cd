"""The voxels of a NIfTI-1 file as they are, and whether they are all there.

    refuse_truncated_nifti(path)
    voxels_of(path, 10, 14, shape=(155, 240, 240), dtype=np.dtype("int16"))

ITK fills a file that ends too early up with zeros, makes 0 of NaN and of infinities, and takes a
packed file that fails its checksum for whole; of none of this it says a word. Its grid it reads
well, so only the voxels are read here.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError

TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
"""The header's code of each type of one real number; the others are colours and complex."""

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What its voxels are.

    offset, end: bytes where they begin, and where they must end
    stored: their type; None of colour, vectors and complex numbers
    """

    offset: int
    end: int
    stored: np.dtype[Any] | None
    slope: float
    intercept: float


def refuse_truncated_nifti(path: Path) -> None:
    """Raise ScanError where the file is shorter than its header says.

    Of a compressed one the length stands in its last four bytes; only where that disagrees
    (some writers compress in blocks) is it decompressed to be counted.
    """
    header = _header(path)
    if header is None:
        return  # a pair of header and image, or no NIfTI at all: ITK has its own words for it
    if _packed(path):
        with path.open("rb") as file:
            file.seek(-4, 2)
            held = int.from_bytes(file.read(4), "little")
        whole = held == header.end % 2**32 or _unpacked_bytes(path, header.end) >= header.end
    else:
        whole = path.stat().st_size >= header.end
    if not whole:
        raise ScanError(
            f"{path} ends too early: its header promises {header.end:,} bytes; copy it again"
        )


def stored_type(path: Path) -> np.dtype[Any] | None:
    """The type of the numbers in the file, before its slope; None where `voxels_of` has none."""
    header = _header(path)
    return None if header is None else header.stored


def voxels_of(
    path: Path, start: int, stop: int, *, shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Slices start..stop (n, Y, X) as `dtype`, the header's slope and intercept applied.

    Raises ScanError: the file is damaged. A packed one that is read to its last slice is held
    against its checksum.
    """
    header = _header(path)
    if header is None or header.stored is None:
        raise ScanError(f"{path} has no real numbers; is it damaged?")
    slope, intercept = header.slope, header.intercept
    scaled = np.isfinite([slope, intercept]).all() and slope != 0 and (slope, intercept) != (1, 0)
    size = shape[1] * shape[2] * header.stored.itemsize
    values = np.empty((stop - start, *shape[1:]), dtype)
    try:
        with _opened(path) as file:
            file.seek(header.offset + start * size)
            for one in values:
                found = np.frombuffer(file.read(size), header.stored).reshape(shape[1:])
                one[...] = found.astype(np.float64) * slope + intercept if scaled else found
            while stop == shape[0] and _packed(path) and file.read(BLOCK):
                pass  # the checksum stands at the very end
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ScanError(f"cannot read {path}: {error}; is it damaged? Copy it again") from None
    return values


def _packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if _packed(path) else path.open("rb")


def _header(path: Path) -> _Header | None:
    """Of a NIfTI-1 file; None of what is none, or keeps its voxels apart."""
    try:
        with _opened(path) as file:
            head = file.read(348)
    except (OSError, EOFError, zlib.error) as error:
        raise ScanError(f"cannot read {path}: {error}; is it damaged, or misnamed?") from None
    order: Literal["<", ">"]
    for order in ("<", ">"):
        size = struct.unpack(order + "i", head[:4])[0] if len(head) >= 348 else 0
        if size == 540:
            raise ScanError(
                f"{path} is NIfTI-2, which is not read; write it as NIfTI-1, NRRD or MetaImage"
            )
        if size == 348:
            break
    else:
        return None
    sizes = struct.unpack(order + "8h", head[40:56])
    kind, bits = struct.unpack(order + "2h", head[70:74])
    offset, slope, intercept = struct.unpack(order + "3f", head[108:120])
    if head[344:347] != b"n+1" or not 1 <= sizes[0] <= 7:
        return None
    if not np.isfinite(offset):  # ITK would guess, and read from the wrong place
        raise ScanError(
            f"cannot read {path}: its voxels begin at byte {offset}; is it damaged? Copy it again"
        )
    voxels = int(np.prod([max(1, int(size)) for size in sizes[1 : 1 + sizes[0]]], dtype=object))
    one_number = kind in TYPES and not (sizes[0] >= 5 and sizes[5] > 1)
    return _Header(
        offset=int(offset),
        end=int(offset) + voxels * int(bits) // 8,
        stored=np.dtype(TYPES[kind]).newbyteorder(order) if one_number else None,
        slope=slope,
        intercept=intercept,
    )


def _unpacked_bytes(path: Path, enough: int) -> int:
    count = 0
    try:
        with gzip.open(path, "rb") as file:
            while count < enough and (part := file.read(BLOCK)):
                count += len(part)
    except (OSError, EOFError, zlib.error):
        return -1
    return count
