"""Picture files of any origin, as arrays: checked by their headers, decoded in threads.

    look = look_at(folder, index)                # every picture readable, all of one size
    decode_rows(folder, index, [3, 4], look)     # uint8 (2, H, W[, 3])

Grey files become (H, W), and if any is coloured all become (H, W, 3). What is transparent is
put on white paper, as a browser shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from candlemark.dataset.sharing.folder_index import FolderIndex
from candlemark.dataset.storage.base import Images
from candlemark.errors import DatasetError

GREY_MODES = ("1", "L")
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")
SEE_THROUGH_MODES = ("RGBA", "LA", "PA")

FAULTS = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture, or a damaged one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What all pictures have in common: (H, W) where every one is grey, else (H, W, 3)."""

    shape: tuple[int, ...]


def look_at(folder: Path, index: FolderIndex) -> Look:
    """Look at every header.

    Raises DatasetError naming the first line whose picture cannot be read, has another size
    than the first, or more than 8 bits a channel.
    """
    size: tuple[int, int] | None = None
    colour = False
    with ThreadPoolExecutor(thread_name_prefix="candlemark-read") as pool:
        heads = pool.map(lambda name: _head(folder / name), index.image_path)
        for number, head in enumerate(heads):
            if isinstance(head, Exception):
                raise _unreadable(folder, index, number, head)
            if head.mode in DEEP_MODES:
                raise DatasetError(
                    f"{index.line(number)}: {folder / index.image_path[number]} has more than 8 "
                    "bits a channel; save it with 8"
                )
            if size is None:
                size = head.size
            if head.size != size:
                raise DatasetError(
                    f"{index.line(number)}: {index.image_path[number]} is {head.size[0]} x "
                    f"{head.size[1]} pixels, but {index.image_path[0]} ({index.line(0)}) is "
                    f"{size[0]} x {size[1]}; all pictures of a dataset have one size"
                )
            colour |= head.mode not in GREY_MODES
    if size is None:
        raise DatasetError(f"{folder} holds no pictures")
    return Look(shape=(size[1], size[0], 3) if colour else (size[1], size[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    size: tuple[int, int]
    mode: str


def _head(path: Path) -> _Head | Exception:
    try:
        with Image.open(path) as image:
            return _Head(size=image.size, mode=image.mode)
    except FAULTS as error:
        return error


def decode_rows(folder: Path, index: FolderIndex, numbers: Sequence[int], look: Look) -> Images:
    """uint8 (n, H, W) or (n, H, W, 3), in the order of `numbers`.

    Raises DatasetError naming the line of a picture that is damaged.
    """
    images = np.empty((len(numbers), *look.shape), dtype=np.uint8)
    colour = len(look.shape) == 3

    def read(place: int) -> None:
        number = numbers[place]
        try:
            images[place] = decode(folder / index.image_path[number], colour=colour)
        except FAULTS as error:
            raise _unreadable(folder, index, number, error) from error

    with ThreadPoolExecutor(thread_name_prefix="candlemark-read") as pool:
        list(pool.map(read, range(len(numbers))))
    return images


def decode(path: Path, *, colour: bool) -> Images:
    """uint8 (H, W) or (H, W, 3). Raises one of `FAULTS`: the file is no picture, or damaged."""
    with Image.open(path) as image:
        if image.mode in SEE_THROUGH_MODES or "transparency" in image.info:
            whole = image.convert("RGBA")
            paper = Image.new("RGBA", whole.size, "white")
            opaque = Image.alpha_composite(paper, whole)
            return np.asarray(opaque.convert("RGB" if colour else "L"))
        return np.asarray(image.convert("RGB" if colour else "L"))


def _unreadable(folder: Path, index: FolderIndex, number: int, error: Exception) -> DatasetError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DatasetError(
        f"{index.line(number)}: {folder / index.image_path[number]} cannot be read as a picture "
        f"({reason}); draw it again or remove its line"
    )
