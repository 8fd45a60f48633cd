"""Pictures that ITK would read wrongly or not at all, read by Pillow instead.

    pages = pages_of(Path("mask.tif"), indexed=True)    # None where ITK reads it well
    pages.load()                                        # (n, Y, X) or (n, Y, X, 3)

ITK makes eight bits of a tiled TIFF of sixteen, takes the planes of colour apart for rows, turns
TIFFs of one bit around, reads no BMP of one bit and no grey with alpha, takes half decimals for
whole numbers, and gives the colours of a palette where a mask has numbers. Of most of this it says
nothing at all.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError

BITS, PLANES, TILE_WIDTH, SAMPLE_KIND = 258, 284, 322, 339
MEANING, DESCRIPTION, WRITER, DEPTH = 262, 270, 305, 32997
EXTENTS = ((273, 279), (324, 325))
"""Tags of TIFF 6.0: bits of each sample, whether planes lie apart (2), tiles, kind of number;
whether 0 is white (0), words, the program that wrote it, slices in one page; begin and length of
strips and of tiles."""

KINDS = {1: "u", 2: "i", 3: "f"}
"""What a TIFF calls unsigned, signed and decimal."""

BROKEN = (OSError, SyntaxError, TypeError, ValueError, LookupError, EOFError, struct.error)
"""What Pillow may raise of a damaged file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pages:
    """The pages of a file, all of one size; load: (n, Y, X) or (n, Y, X, 3)."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    channels: int
    load: Callable[[], npt.NDArray[Any]]


def pages_of(path: Path, *, indexed: bool) -> Pages | None:
    """The pages of a PNG, TIFF or BMP that ITK is not to read; None of any other.

    indexed: of a palette take the numbers, which are a mask's labels, and not the colours
    Raises ScanError for what neither reads without loss; `load` for pages of different sizes.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _opened(path) as picture:
            if not (_misread(picture) or (indexed and picture.mode == "P")):
                return None
            dtype, channels = _kind(path, picture, indexed=indexed)
            count = getattr(picture, "n_frames", 1)
            wide, high = picture.size
            turned = _turned(picture)
    except UnidentifiedImageError:
        if _tiff_misread(tags := next(_directories(path), {})):
            raise _neither(path, max(tags.get(BITS, (1,)))) from None
        return None  # a kind of TIFF that ITK reads all the same, or no picture at all
    except BROKEN as error:
        raise ScanError(f"cannot read {path}: {error}; is it damaged? Copy it again") from None

    def load() -> npt.NDArray[Any]:
        shape = (count, high, wide) if channels == 1 else (count, high, wide, 3)
        try:
            values = np.empty(shape, dtype)
        except (MemoryError, ValueError):
            raise ScanError(
                f"{path} says it has {' x '.join(map(str, shape))} values, which no memory here "
                "holds; is it damaged?"
            ) from None
        with _opened(path) as picture:
            for page in range(count):
                try:
                    picture.seek(page)
                    if picture.size == (wide, high):
                        values[page] = _values(picture, channels).astype(dtype)
                except (*BROKEN, Image.DecompressionBombError) as error:
                    raise ScanError(
                        f"cannot read {path}: {error}; is it damaged? Copy it again"
                    ) from None
                if picture.size != (wide, high):
                    raise ScanError(
                        f"{path} has pages of {wide} x {high} and of {picture.size[0]} x "
                        f"{picture.size[1]} pixels; keep those of one size, each a slice"
                    )
        return 1 - values if turned else values

    return Pages(shape=(count, high, wide), dtype=dtype, channels=channels, load=load)


def _values(picture: Any, channels: int) -> npt.NDArray[Any]:
    if channels == 3:
        return np.asarray(picture.convert("RGB"))
    return np.asarray(picture.getchannel("L") if picture.mode == "LA" else picture)


def _turned(picture: Any) -> bool:
    """Whether 1 is black and yet was meant as 1: tifffile writes arrays of truth values so."""
    return (
        picture.format == "TIFF"
        and picture.mode == "1"
        and picture.tag_v2.get(MEANING) == 0
        and str(picture.tag_v2.get(WRITER, "")).startswith("tifffile")
    )


def refuse_truncated_picture(path: Path) -> None:
    """Raise ScanError for half a JPEG, BMP or TIFF: ITK fills up or leaves out what is not there.

    And for a TIFF that keeps several slices where only the first one would be read.
    """
    if path.suffix.lower() in {".tif", ".tiff"}:
        _refuse_half_tiff(path)
        return
    data = path.read_bytes()
    if data[:2] == b"BM":
        whole = len(data) >= int.from_bytes(data[2:6], "little")
    elif data[:2] == b"\xff\xd8":
        # Neither mark can stand in packed pixels: the last picture ends behind its last beginning.
        whole = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    else:
        return  # misnamed: ITK has its own words for it
    if not whole:
        raise _too_short(path, len(data))


def _refuse_half_tiff(path: Path) -> None:
    size = path.stat().st_size
    pages, told = 0, ""
    for tags in _directories(path):
        pages, told = pages + 1, told or str(tags.get(DESCRIPTION, ""))
        try:
            ends = [
                begin + length
                for at, long in EXTENTS
                for begin, length in zip(tags.get(at, ()), tags.get(long, ()), strict=False)
            ]
            slices = int(tags.get(DEPTH, 1))
        except BROKEN:
            raise ScanError(
                f"{path} has tags that mean nothing; is it damaged? Copy it again"
            ) from None
        if max(ends, default=0) > size:
            raise _too_short(path, size)
        if slices > 1:
            raise ScanError(
                f"{path} keeps {slices} slices in one page, which is not read; save each "
                "slice as a page"
            )
    images = re.search(r"^images=(\d+)", told, re.MULTILINE)
    if told.startswith("ImageJ=") and images is not None and int(images[1]) > pages:
        raise ScanError(
            f"{path} is of {images[1]} images, of which it tells where {pages} lie, as ImageJ "
            "saves stacks above 4 GB; save it as NRRD or NIfTI there, or as a sequence"
        )


def _too_short(path: Path, size: int) -> ScanError:
    return ScanError(f"{path} ends too early, after {size:,} bytes; copy it again")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture of any size: those of microscopes are larger than Pillow trusts the web with."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _misread(picture: Any) -> bool:
    if picture.format == "TIFF":
        return picture.mode == "P" or _tiff_misread(picture.tag_v2)
    return (picture.format, picture.mode) in {("BMP", "1"), ("PNG", "LA")}


def _tiff_misread(tags: Mapping[int, Any]) -> bool:
    if not tags:
        return False
    bits = tags.get(BITS, (1,))
    apart = tags.get(PLANES) == 2 and len(bits) > 1
    half = 3 in tags.get(SAMPLE_KIND, (1,)) and 16 in bits
    return TILE_WIDTH in tags or apart or half or not set(bits) <= {8, 16, 32}


def _directories(path: Path) -> Iterator[Mapping[int, Any]]:
    """The tags of each page of a TIFF, also where Pillow knows no way to show it; else none.

    Raises ScanError for one that points behind its own end.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
            return
        big = b"+" in head[2:4]
        try:
            tags = ImageFileDirectory_v2(head + file.read(8) if big else head)
            seen = {0}
            while tags.next not in seen:
                seen.add(tags.next)
                file.seek(tags.next)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # what is cut off is only warned of
                    tags.load(file)
                    warnings.simplefilter("ignore")
                    found = dict(tags)
                yield found
        except (*BROKEN, UserWarning):
            raise _too_short(path, size) from None


def _neither(path: Path, bits: int) -> ScanError:
    return ScanError(
        f"{path} is a TIFF of {bits} bits a value that is not read without loss; save it with 8, "
        "16 or 32 bits (decimals: 32) in strips, without tiles, and of colour each pixel's values "
        "side by side"
    )


def _kind(path: Path, picture: Any, *, indexed: bool) -> tuple[np.dtype[Any], int]:
    """The type of its values as the file has them, and its channels."""
    if picture.mode in {"1", "L", "LA"} or (picture.mode == "P" and indexed):
        signed = picture.format == "TIFF" and picture.tag_v2.get(SAMPLE_KIND, (1,))[0] == 2
        return np.dtype(np.int8 if signed else np.uint8), 1
    deepest = max(picture.tag_v2.get(BITS, (8,))) if picture.format == "TIFF" else 8
    if picture.mode in {"P", "RGB", "RGBA", "RGBX", "YCbCr"} and deepest <= 8:
        return np.dtype(np.uint8), 3
    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        kind = KINDS.get(picture.tag_v2.get(SAMPLE_KIND, (1,))[0], "u")
        return np.dtype(f"{kind}{deepest // 8}"), 1
    raise _neither(path, deepest)
