"""Pictures that ITK would read wrongly or not at all, read by Pillow instead.

    pages = pages_of(Path("mask.tif"), indexed=True)    # None where ITK reads it well
    pages.load()                                        # (n, Y, X) or (n, Y, X, 3)

ITK makes eight bits of a tiled TIFF of sixteen, takes the planes of colour apart for rows, turns
TIFFs of one bit around, reads no BMP of one bit, and gives the colours of a palette where a mask
has numbers. Of all but the first two it says nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ScanError

BITS, PLANES, TILE_WIDTH, SAMPLE_KIND = 258, 284, 322, 339
"""Tags of TIFF 6.0: bits of each sample, whether planes lie apart (2), tiles, kind of number."""

KINDS = {1: "u", 2: "i", 3: "f"}
"""What a TIFF calls unsigned, signed and decimal."""


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
    except UnidentifiedImageError:
        if _tiff_misread(tags := _first_tags(path)):
            raise _neither(path, max(tags.get(BITS, (1,)))) from None
        return None  # a kind of TIFF that ITK reads all the same, or no picture at all

    def load() -> npt.NDArray[Any]:
        shape = (count, high, wide) if channels == 1 else (count, high, wide, 3)
        values = np.empty(shape, dtype)
        with _opened(path) as picture:
            for page in range(count):
                picture.seek(page)
                if picture.size != (wide, high):
                    raise ScanError(
                        f"{path} has pages of {wide} x {high} and of {picture.size[0]} x "
                        f"{picture.size[1]} pixels; keep those of one size, each a slice"
                    )
                colours = picture if channels == 1 else picture.convert("RGB")
                try:
                    values[page] = np.asarray(colours).astype(dtype)
                except (OSError, ValueError, Image.DecompressionBombError) as error:
                    raise ScanError(
                        f"cannot read {path}: {error}; is it damaged? Copy it again"
                    ) from None
        return values

    return Pages(shape=(count, high, wide), dtype=dtype, channels=channels, load=load)


def refuse_truncated_picture(path: Path) -> None:
    """Raise ScanError for half a JPEG or BMP, of which ITK fills up the rest and says nothing."""
    data = path.read_bytes()
    if data[:2] == b"BM":
        whole = len(data) >= int.from_bytes(data[2:6], "little")
    elif data[:2] == b"\xff\xd8":
        # Neither mark can stand in packed pixels: the last picture ends behind its last beginning.
        whole = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    else:
        return  # misnamed: ITK has its own words for it
    if not whole:
        raise ScanError(f"{path} ends too early, after {len(data):,} bytes; copy it again")


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
    if picture.format == "BMP":
        return bool(picture.mode == "1")
    return picture.format == "TIFF" and _tiff_misread(picture.tag_v2)


def _tiff_misread(tags: Mapping[int, Any]) -> bool:
    if not tags:
        return False
    bits = tags.get(BITS, (1,))
    apart = tags.get(PLANES) == 2 and len(bits) > 1
    return TILE_WIDTH in tags or apart or not set(bits) <= {8, 16, 32}


def _first_tags(path: Path) -> Mapping[int, Any]:
    """The tags of a TIFF's first page, also where Pillow knows no way to show it; else none."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
            return {}
        big = b"+" in head[2:4]
        tags = ImageFileDirectory_v2(head + file.read(8) if big else head)
        file.seek(tags.next)
        tags.load(file)
    return dict(tags)


def _neither(path: Path, bits: int) -> ScanError:
    return ScanError(
        f"{path} is a TIFF of {bits} bits a value that is not read without loss; save it with 8, "
        "16 or 32 bits in strips, without tiles, and of colour each pixel's values side by side"
    )


def _kind(path: Path, picture: Any, *, indexed: bool) -> tuple[np.dtype[Any], int]:
    """The type of its values as the file has them, and its channels."""
    if picture.mode in {"1", "L"} or (picture.mode == "P" and indexed):
        signed = picture.format == "TIFF" and picture.tag_v2.get(SAMPLE_KIND, (1,))[0] == 2
        return np.dtype(np.int8 if signed else np.uint8), 1
    deepest = max(picture.tag_v2.get(BITS, (8,))) if picture.format == "TIFF" else 8
    if picture.mode in {"P", "RGB", "RGBA", "RGBX", "YCbCr"} and deepest <= 8:
        return np.dtype(np.uint8), 3
    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        kind = KINDS.get(picture.tag_v2.get(SAMPLE_KIND, (1,))[0], "u")
        return np.dtype(f"{kind}{deepest // 8}"), 1
    raise _neither(path, deepest)
