"""Pictures in one HDF5 file: chunked, compressed with a fast codec, read at random.

    images.h5
      /images_bits   uint8 (N, G, W), two-level pictures as bits, eight rows to a byte
      /images        uint8 (N, H, W) or (N, H, W, 3), all others
                     attributes: format, packing, height, levels, filter, filter_id, read_with

Every chunk is one Zstandard frame (HDF5 filter 32015) with its own content checksum. Plain
h5py reads the file after `import hdf5plugin`, which makes the filter known; the attribute
`read_with` is a line that does.

Compression runs in the caller's threads, outside HDF5, whose filters all run under one lock:
frames go into `images.parts`, an append-only file that survives a kill at any byte, and become
an HDF5 file in one go at the end. HDF5 itself has no such file: one killed while it is open
may not open again, and one on a full disk may take the process with it.

Level 1 and chunks of half a mebibyte were chosen by measuring ohlc4 of 500 x 400 pixels in
steps of one candle: chunks of 8, 16, 32 and 64 pictures take 375, 305, 275 and 260 bytes a
picture, and one picture asked for alone costs the unpacking of its chunk. Level -1 is no
faster and a tenth larger, level 5 a tenth smaller and four times slower.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import zstandard

from candlemark.dataset.storage.base import Encoded, Images, Levels, StorageConfig
from candlemark.dataset.storage.bits import packed_shape, unpack
from candlemark.dataset.storage.parts import PartLog
from candlemark.errors import DatasetError

FILE = "images.h5"
LOG_FILE = "images.parts"
FORMAT = "candlemark images 2"
LEVEL = 1

CHUNK_BYTES = 1 << 19
"""Stored bytes of a chunk before compression."""

PART_BYTES = 1 << 22
"""Stored bytes of a part before compression: enough work for a thread to be worth starting."""

RESERVE_BYTES = 4 << 20
"""Disk space kept free beside the pictures being written, for HDF5's own tables."""

BYTES_A_THREAD = 8 << 20
"""Below this many bytes of pictures a further reading thread costs more than it saves."""

READ_WITH = {
    False: "import hdf5plugin, h5py; images = h5py.File('images.h5')['images'][:100]",
    True: (
        "import hdf5plugin, h5py, numpy as np; d = h5py.File('images.h5')['images_bits']; "
        "images = d.attrs['levels'][np.unpackbits(d[:100], axis=1, count=d.attrs['height'], "
        "bitorder='little')]"
    ),
}
"""How to read the first pictures without candlemark, by whether they are packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How pictures lie in the file.

    shape: of a picture as the caller sees it; stored: as it is kept
    """

    count: int
    shape: tuple[int, ...]
    stored: tuple[int, ...]
    levels: Levels | None
    packed: bool

    @classmethod
    def of(
        cls, config: StorageConfig, count: int, shape: tuple[int, ...], levels: Levels | None
    ) -> _Layout:
        packed = config.packs(levels)
        stored = packed_shape(shape) if packed else shape
        return cls(count=count, shape=shape, stored=stored, levels=levels, packed=packed)

    @property
    def name(self) -> str:
        """Of the HDF5 dataset."""
        return "images_bits" if self.packed else "images"

    @property
    def chunk(self) -> int:
        """Pictures in a chunk."""
        return max(1, min(self.count, CHUNK_BYTES // prod(self.stored)))

    @property
    def chunk_bytes(self) -> int:
        return self.chunk * prod(self.stored)

    @property
    def part(self) -> int:
        """Pictures in a part: whole chunks."""
        return self.chunk * max(1, PART_BYTES // self.chunk_bytes)

    @property
    def parts(self) -> int:
        return -(-self.count // self.part)

    def __str__(self) -> str:
        return f"{FORMAT} {self.name} {self.count} {self.stored} {self.chunk} {self.part} {LEVEL}"


class Hdf5Writer:
    """Compresses parts in any thread and writes them; the file appears whole on `finish`."""

    files = (FILE,)

    def __init__(self, folder: Path, layout: _Layout) -> None:
        self._folder = folder
        self._layout = layout
        self.part_rows = layout.part
        self.packed = layout.packed
        # The name is given last, so whoever bears it is whole.
        self._whole = (folder / FILE).is_file()
        self._log = PartLog(folder / LOG_FILE, layout=str(layout))

    def finished_parts(self) -> frozenset[int]:
        """Parts that an earlier build left behind."""
        return frozenset(range(self._layout.parts)) if self._whole else self._log.finished

    def encode(self, part: int, images: Images) -> Encoded:
        """One Zstandard frame a chunk; the last chunk is filled up with zeros, as HDF5 has it."""
        layout = self._layout
        expected = min(layout.part, layout.count - part * layout.part)
        if images.shape != (expected, *layout.stored):
            raise DatasetError(
                f"part {part} has pictures of shape {images.shape}; "
                f"it must be {(expected, *layout.stored)}"
            )
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        frames = []
        for first in range(0, expected, layout.chunk):
            block = images[first : first + layout.chunk]
            if len(block) < layout.chunk:
                whole = np.zeros((layout.chunk, *layout.stored), dtype=np.uint8)
                whole[: len(block)] = block
                block = whole
            frames.append(compressor.compress(np.ascontiguousarray(block).data))
        return frames

    def write(self, part: int, encoded: Encoded) -> int:
        """Add a part to the log; the bytes written."""
        return self._log.append(part, encoded)

    def finish(self) -> None:
        """Make the HDF5 file of all parts, give it its name, and drop the log."""
        if not self._whole:
            missing = self._layout.parts - len(self._log.finished)
            if missing:
                raise DatasetError(f"{FILE}: {missing} of {self._layout.parts} parts are missing")
            self._assemble(self._folder / f"{FILE}.unfinished")
        self._log.remove()

    def close(self) -> None:
        """Close the log; it stays for the next build."""
        self._log.close()

    def _assemble(self, scratch: Path) -> None:
        # What HDF5 does on a full disk depends on where it meets it, so it must never see one.
        needed = self._log.size_bytes + RESERVE_BYTES
        if shutil.disk_usage(self._folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder / FILE))
        layout = self._layout
        file = h5py.File(scratch, "w", libver=("v110", "v110"))
        try:
            images = _create(file, layout)
            origin = (0,) * len(layout.stored)
            for part in range(layout.parts):
                for number, frame in enumerate(self._log.read(part)):
                    first = part * layout.part + number * layout.chunk
                    images.id.write_direct_chunk((first, *origin), frame)
        except BaseException:
            _abandon(file)
            raise
        _close(file)
        _sync(scratch)
        scratch.replace(self._folder / FILE)
        self._whole = True


def _create(file: Any, layout: _Layout) -> Any:
    images = file.create_dataset(
        layout.name,
        shape=(layout.count, *layout.stored),
        dtype=np.uint8,
        chunks=(layout.chunk, *layout.stored),
        **hdf5plugin.Zstd(clevel=LEVEL),
    )
    images.attrs["format"] = FORMAT
    images.attrs["packing"] = (
        "bits: bit r of byte [n, g, x], lowest first, is row 8 g + r of column x; 1 is ink"
        if layout.packed
        else "none"
    )
    images.attrs["height"] = layout.shape[0]
    if layout.levels is not None:
        images.attrs["levels"] = np.array(layout.levels, dtype=np.uint8)
    images.attrs["filter"] = f"zstd, level {LEVEL}, with content checksum"
    images.attrs["filter_id"] = hdf5plugin.Zstd.filter_id
    images.attrs["read_with"] = READ_WITH[layout.packed]
    return images


def _close(file: Any) -> None:
    """Close, with what HDF5 reports on closing as an OSError."""
    try:
        file.close()
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _abandon(file: Any) -> None:
    """Close a file that nobody will read; on a full disk even closing fails."""
    try:
        file.close()
    except (OSError, RuntimeError):
        return


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


class Hdf5Reader:
    """Reads pictures by row; opened anew in each process, as HDF5 handles do not travel."""

    def __init__(self, folder: Path, layout: _Layout) -> None:
        self._path = folder / FILE
        self._layout = layout
        self._owner: int | None = None
        self._file: Any = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_layout": self._layout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path, self._layout = state["_path"], state["_layout"]
        self._owner = self._file = None
        self._lock = threading.Lock()

    def read(self, rows: npt.NDArray[np.int64]) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3) in the order of `rows`, repeats allowed."""
        dataset = self._opened()
        found = np.empty((len(rows), *self._layout.shape), dtype=np.uint8)
        runs = list(_runs(rows, self._layout.chunk))

        def fill(part: list[_Run]) -> None:
            decompressor = zstandard.ZstdDecompressor()
            number, block = -1, np.empty(0, dtype=np.uint8)
            for run in part:
                if run.chunk != number:
                    number, block = run.chunk, self._chunk(dataset, run.chunk, decompressor)
                self._place(block[run.first : run.first + run.count], found, run)

        workers = min(_cores(), max(1, found.nbytes // BYTES_A_THREAD), len(runs) or 1)
        if workers == 1:
            fill(runs)
            return found
        with ThreadPoolExecutor(workers, thread_name_prefix="candlemark-read") as pool:
            edges = [len(runs) * part // workers for part in range(workers + 1)]
            list(pool.map(lambda n: fill(runs[edges[n] : edges[n + 1]]), range(workers)))
        return found

    def _place(self, block: Images, found: Images, run: _Run) -> None:
        """Put stored pictures to where they were asked for."""
        into = found[run.position : run.position + run.count]
        if self._layout.packed and self._layout.levels is not None:
            paper, ink = self._layout.levels
            unpack(block, self._layout.shape[0], paper=paper, ink=ink, out=into, threads=1)
        else:
            into[:] = block

    def _chunk(self, dataset: Any, number: int, decompressor: Any) -> Images:
        """uint8 (chunk, ...) of one chunk, as stored."""
        layout = self._layout
        first = number * layout.chunk
        try:
            _, frame = dataset.id.read_direct_chunk((first, *(0,) * len(layout.stored)))
            data = decompressor.decompress(frame, max_output_size=layout.chunk_bytes)
            block = np.frombuffer(data, dtype=np.uint8).reshape(layout.chunk, *layout.stored)
        except (OSError, RuntimeError, ValueError, zstandard.ZstdError) as error:
            last = min(first + layout.chunk, layout.count) - 1
            raise DatasetError(
                f"{self._path}: chunk {number} (pictures {first} to {last}) does not match its "
                f"checksum ({error}); delete its folder and build the dataset again"
            ) from error
        return block

    def _opened(self) -> Any:
        with self._lock:
            if self._owner != os.getpid():
                self._file, self._owner = self._open(), os.getpid()
            return self._file[self._layout.name]

    def _open(self) -> Any:
        layout = self._layout
        try:
            file = h5py.File(self._path, "r")
            images = file.get(layout.name)
            seen = "" if images is None else str(images.attrs.get("format", ""))
            shape = None if images is None else images.shape
            chunks = None if images is None else images.chunks
        except (OSError, RuntimeError, KeyError) as error:
            raise DatasetError(
                f"{self._path} cannot be read ({error}); delete its folder "
                "and build the dataset again"
            ) from error
        if seen != FORMAT:
            written = f"format '{seen}'" if seen else f"no '{layout.name}' of format '{FORMAT}'"
            raise DatasetError(
                f"{self._path} has {written}; this candlemark reads '{FORMAT}': delete its folder "
                "and build the dataset again"
            )
        if shape != (layout.count, *layout.stored) or chunks != (layout.chunk, *layout.stored):
            raise DatasetError(
                f"{self._path} holds {shape} in chunks of {chunks}, and the dataset has "
                f"{(layout.count, *layout.stored)}; delete its folder and build the dataset again"
            )
        return file


@dataclass(frozen=True, slots=True)
class _Run:
    """Pictures that follow one another both in a chunk and in what was asked for.

    first: of the pictures, within the chunk; position: where they go
    """

    chunk: int
    first: int
    position: int
    count: int


def _runs(rows: npt.NDArray[np.int64], chunk: int) -> Iterator[_Run]:
    """Runs that cover `rows`, those of one chunk together, so that it is unpacked once."""
    if not len(rows):
        return
    order = np.argsort(rows, kind="stable")
    wanted, numbers = rows[order], rows[order] // chunk
    breaks = (np.diff(wanted) != 1) | (np.diff(order) != 1) | (np.diff(numbers) != 0)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.append(starts, len(rows)))
    table = (numbers[starts], wanted[starts] % chunk, order[starts], counts)
    for number, first, position, count in zip(*(column.tolist() for column in table), strict=True):
        yield _Run(number, first, position, count)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_writer(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> Hdf5Writer:
    """A writer of `count` pictures of `shape`."""
    return Hdf5Writer(folder, _Layout.of(config, count, shape, levels))


def open_reader(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> Hdf5Reader:
    """A reader of the pictures in `folder`."""
    return Hdf5Reader(folder, _Layout.of(config, count, shape, levels))
