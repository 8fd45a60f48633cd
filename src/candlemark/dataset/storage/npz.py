"""Pictures in NumPy's own files: `numpy.load` and nothing else reads them.

    images/000/000000.npz
      images   uint8 (n, H, W) or (n, H, W, 3)        n pictures, or 1 in mode single
      rows     int64 (n,)                             their rows of the index

Packed two-level pictures stand in a file as `bits` instead of `images`, beside what turns them
back:

      bits     uint8 (n, ceil(H / 8), W)              8 rows of a picture to a byte
      height   H; paper, ink: the grey level of a 0 and of a 1

    with numpy.load("images/000/000000.npz") as file:
        height = int(file["height"])
        ink = numpy.unpackbits(file["bits"], axis=1, count=height, bitorder="little")
        images = numpy.where(ink == 1, file["ink"], file["paper"])

The arrays are named alike in both modes, so that one line reads either. A file is decoded
whole, however few of its pictures are asked for: rows in a random order want few pictures a
file, or another format.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.charts.packed import packed_shape
from candlemark.dataset.storage.base import Images, Levels, StorageConfig
from candlemark.dataset.storage.folder import Files, FolderReader, FolderWriter, rows_of_a_part

SUFFIX = ".npz"
IMAGES_PER_FILE = 1000
"""Of mode batch, unless the config says otherwise."""

LEVEL = 3
"""Of deflate. On chart pictures 1 is no faster and half as large again; 6, which
numpy.savez_compressed takes, saves another third and takes two to four times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NpzCodec:
    """Pictures to a file and back; `levels` are paper and ink of packed pictures, else None."""

    shape: tuple[int, ...]
    levels: Levels | None
    suffix: str = SUFFIX

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one picture as it stands in a file."""
        return self.shape if self.levels is None else packed_shape(self.shape)

    def encode(self, images: Images, first: int) -> bytes:
        """A file of some pictures, the first of which is row `first`."""
        rows = np.arange(first, first + len(images), dtype=np.int64)
        arrays: dict[str, npt.NDArray[Any]] = {"images": images, "rows": rows}
        if self.levels is not None:
            paper, ink = self.levels
            arrays = {
                "bits": images,
                "rows": rows,
                "height": np.array(self.shape[0], dtype=np.int64),
                "paper": np.array(paper, dtype=np.uint8),
                "ink": np.array(ink, dtype=np.uint8),
            }
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
            for name, array in arrays.items():
                # Opened by name, a member carries no time: equal pictures are equal files.
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        return buffer.getvalue()

    def decode(self, data: bytes, first: int, count: int) -> Images:
        """The pictures or packed pictures of a file; ValueError where they are not those."""
        try:
            with np.load(BytesIO(data), allow_pickle=False) as file:
                images: Images = file["images" if self.levels is None else "bits"]
                rows = file["rows"]
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(str(error)) from error
        shape = (count, *self.stored_shape)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(
                f"it holds {images.dtype} of shape {images.shape}, not uint8 of {shape}"
            )
        if not np.array_equal(rows, np.arange(first, first + count)):
            raise ValueError(f"it holds other rows than {first} to {first + count - 1}")
        return images


def _parts(
    config: StorageConfig,
    folder: Path,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> tuple[Files, NpzCodec]:
    one = config.chosen_mode == "single"
    rows_per_file = 1 if one else config.images_per_file or IMAGES_PER_FILE
    files = Files(folder, count=count, rows_per_file=rows_per_file, suffix=SUFFIX)
    return files, NpzCodec(shape=shape, levels=levels if config.packs(levels) else None)


def open_writer(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> FolderWriter:
    """A writer of `count` pictures of `shape`."""
    files, codec = _parts(config, folder, count, shape, levels)
    return FolderWriter(files, codec, part_rows=rows_of_a_part(files.rows_per_file, shape))


def open_reader(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> FolderReader:
    """A reader of the pictures in `folder`."""
    files, codec = _parts(config, folder, count, shape, levels)
    return FolderReader(files, codec)
