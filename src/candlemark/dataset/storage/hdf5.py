"""Pictures in one HDF5 file: chunked, compressed with a fast codec, read at random.

    images.h5
      /images   uint8 (N, H, W) or (N, H, W, 3), Blosc with Zstandard, Fletcher-32
                attributes: filter, filter_id, read_with

Two-level pictures have their bits shuffled first, which more than halves them; RGB pictures
have not, as whole pixels repeat there and shuffling doubles them. LZ4 was tried: about twice
as fast to write, and two to three times as large.

Plain h5py reads it after `import hdf5plugin`, which makes the filter known; the attributes
say so. A chunk holds about a mebibyte of pictures, so that a picture asked for alone costs
little. Each chunk carries a checksum, and one that does not hold is named when it is read.
"""

from __future__ import annotations

import errno
import os
import shutil
from itertools import pairwise
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

from candlemark.dataset.storage.base import Images
from candlemark.errors import DatasetError

FILE = "images.h5"
CHUNK_BYTES = 1 << 20
RESERVE_BYTES = 4 << 20
"""Disk space kept free beside the pictures being written, for chunks that HDF5 still holds."""

READ_WITH = "import hdf5plugin, h5py; h5py.File('images.h5')['images'][:]"


class Hdf5Writer:
    """Writes pictures in order; the file is whole once the context ends."""

    files = (FILE,)

    def __init__(self, folder: Path, *, count: int, shape: tuple[int, ...]) -> None:
        self._folder = folder
        chunk = max(1, min(count, CHUNK_BYTES // prod(shape)))
        two_level = len(shape) == 2
        shuffle = hdf5plugin.Blosc.BITSHUFFLE if two_level else hdf5plugin.Blosc.NOSHUFFLE
        self._file = h5py.File(folder / FILE, "w", libver="latest")
        self._images = self._file.create_dataset(
            "images",
            shape=(count, *shape),
            dtype=np.uint8,
            chunks=(chunk, *shape),
            fletcher32=True,
            **hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=shuffle),
        )
        with_shuffle = "bit shuffle" if two_level else "no shuffle"
        self._images.attrs["filter"] = f"blosc: zstd, level 1, {with_shuffle}"
        self._images.attrs["filter_id"] = hdf5plugin.Blosc.filter_id
        self._images.attrs["read_with"] = READ_WITH
        self._written = 0

    def append(self, images: Images) -> None:
        """Write the next pictures; OSError (no space) before the disk is full."""
        # HDF5 kills the process when a disk fills under it: a chunk that cannot be flushed
        # is freed twice on closing. So it is stopped while there is room for the worst case.
        if shutil.disk_usage(self._folder).free < images.nbytes + RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder / FILE))
        self._images[self._written : self._written + len(images)] = images
        self._written += len(images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        expected = len(self._images)
        self._file.close()
        if kind is None and self._written != expected:
            raise DatasetError(f"{FILE}: {self._written} pictures written of {expected} announced")


class Hdf5Reader:
    """Reads pictures by row; opened anew in each process, as HDF5 handles do not travel."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._owner: int | None = None
        self._file: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_owner": None, "_file": None}

    def _images(self) -> Any:
        if self._owner != os.getpid():
            try:
                self._file = h5py.File(self._path, "r")
                self._file["images"]
            except (OSError, KeyError) as error:
                raise DatasetError(
                    f"{self._path} cannot be read ({error}); delete its folder "
                    "and build the dataset again"
                ) from error
            self._owner = os.getpid()
        return self._file["images"]

    def read(self, rows: npt.NDArray[np.int64]) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3) in the order of `rows`, repeats allowed."""
        images = self._images()
        wanted, position = np.unique(rows, return_inverse=True)
        found = np.empty((len(wanted), *images.shape[1:]), dtype=np.uint8)
        chunk = images.chunks[0]
        # One read a chunk: HDF5's own selection of single rows decodes a chunk once a row.
        edges = np.flatnonzero(np.diff(wanted // chunk, prepend=-1))
        for first, last in pairwise([*edges.tolist(), len(wanted)]):
            low, high = int(wanted[first]), int(wanted[last - 1]) + 1
            try:
                block = images[low:high]
            except OSError as error:
                raise DatasetError(
                    f"{self._path}: chunk {low // chunk} (pictures {low // chunk * chunk} to "
                    f"{min((low // chunk + 1) * chunk, len(images)) - 1}) does not match its "
                    f"checksum ({error}); delete its folder "
                    "and build the dataset again"
                ) from error
            found[first:last] = block[wanted[first:last] - low]
        ordered: Images = found if len(wanted) == len(rows) and _rises(rows) else found[position]
        return ordered


def _rises(rows: npt.NDArray[np.int64]) -> bool:
    return bool((np.diff(rows) > 0).all())


def open_writer(folder: Path, *, count: int, shape: tuple[int, ...]) -> Hdf5Writer:
    """A writer of `count` pictures of `shape`."""
    return Hdf5Writer(folder, count=count, shape=shape)


def open_reader(folder: Path) -> Hdf5Reader:
    """A reader of the pictures in `folder`."""
    return Hdf5Reader(folder)
