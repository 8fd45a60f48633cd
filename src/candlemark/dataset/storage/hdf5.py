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

Measured on ohlc4 of 500 x 400 pixels in steps of one candle, level 1: chunks of 8, 10, 15, 20
and 32 pictures take 375, 361, 317, 298 and 275 bytes a picture, and a picture asked for alone
costs the unpacking of its chunk, so they are 384 KiB, which is 15. Small pictures gain nothing
beyond 128 (jkx 64 x 60: 64, 61, 59, 59 bytes in chunks of 32, 64, 128, 256). Level -1 is no
faster and a tenth larger, level 5 a tenth smaller and four times slower. Candlesticks of
224 x 224 take 2,400 bytes, 1.6 % of raw; Blosc around the same codec makes them 3,130, slower.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import zstandard

from candlemark.charts.packed import checked_out, packed_shape, unpack
from candlemark.charts.threads import core_count, in_threads
from candlemark.charts.vectors import STREAM_FROM_BYTES
from candlemark.dataset.scratch import sync
from candlemark.dataset.storage.base import Encoded, Images, Levels, StorageConfig
from candlemark.dataset.storage.disk import REBUILD, to_disk
from candlemark.dataset.storage.parts import PartLog, record_of
from candlemark.dataset.storage.recent import Recent
from candlemark.dataset.storage.runs import Run, runs
from candlemark.errors import DatasetError

FILE = "images.h5"
LOG_FILE = "images.parts"
FORMAT = "candlemark images 2"
LEVEL = 1

CHUNK_BYTES = 3 << 17
"""Stored bytes of a chunk before compression, at most."""

CHUNK_ROWS = 128
"""Pictures of a chunk, at most."""

PART_BYTES = 1 << 22
"""Stored bytes of a part before compression: enough work for a thread to be worth starting."""

RESERVE_BYTES = 4 << 20
"""Disk space kept free beside the pictures being written, for HDF5's own tables."""

CACHE_BYTES = 4 << 20
"""Unpacked chunks that a reader keeps, so that neighbours asked for one by one cost one chunk."""

BYTES_A_THREAD = 4 << 20
"""Pictures and unpacked chunks worth a further thread; decompressing is dearer than drawing."""

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
        return max(1, min(self.count, CHUNK_ROWS, CHUNK_BYTES // prod(self.stored)))

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
        self._whole = self._is_whole()
        self._log = PartLog(folder / LOG_FILE, layout=str(layout))

    def _is_whole(self) -> bool:
        """True if an earlier build was killed after its last picture: the name is given last."""
        path = self._folder / FILE
        if not path.is_file():
            return False
        try:
            Hdf5Reader(self._folder, self._layout).opened()[0].file.close()
        except DatasetError:
            path.unlink()
            return False
        return True

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
        return [record_of(part, frames)]

    def write(self, part: int, encoded: Encoded) -> int:
        """Add a part to the log; the bytes written."""
        return self._log.append(part, *encoded)

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
            origin, chunk = (0,) * len(layout.stored), layout.chunk
            first = 0
            for part in range(layout.parts):
                for frame in self._log.read(part):
                    images.id.write_direct_chunk((first, *origin), frame)
                    first += chunk
        except BaseException:
            _abandon(file)
            raise
        _close(file)
        to_disk([scratch])
        scratch.replace(self._folder / FILE)
        sync(self._folder)
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


class Hdf5Reader:
    """Reads pictures by row; opened anew in each process, as HDF5 handles do not travel."""

    def __init__(self, folder: Path, layout: _Layout) -> None:
        self._path = folder / FILE
        self._layout = layout
        self._recent = Recent(CACHE_BYTES)
        self._owner: int | None = None
        self._opened: tuple[Any, tuple[int, ...]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_layout": self._layout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_path"].parent, state["_layout"])  # type: ignore[misc]

    def read(self, rows: npt.NDArray[np.int64], out: Images | None = None) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3) in the order of `rows`, repeats allowed."""
        images, chunks = self.opened()
        found = checked_out(out, (len(rows), *self._layout.shape))
        wanted = list(runs(rows, chunks[0]))

        def fill(part: slice) -> None:
            decompressor = zstandard.ZstdDecompressor()

            def unpacked(number: int) -> Images:
                return self._chunk(images, chunks, number, decompressor)

            for run in wanted[part]:
                block = self._recent.get(run.chunk, unpacked)
                self._place(block[run.first : run.first + run.count], found, run)

        touched = len({run.chunk for run in wanted}) * prod(chunks)
        threads = min(core_count(), (found.nbytes + touched) // BYTES_A_THREAD)
        in_threads(fill, len(wanted), found.nbytes, max(1, threads))
        return found

    def _place(self, block: Images, found: Images, run: Run) -> None:
        """Put stored pictures to where they were asked for."""
        into = found[run.position : run.position + run.count]
        if self._layout.packed and self._layout.levels is not None:
            paper, ink = self._layout.levels
            height, large = self._layout.shape[0], found.nbytes >= STREAM_FROM_BYTES
            unpack(block, height, paper=paper, ink=ink, out=into, threads=1, streamed=large)
        else:
            into[:] = block

    def _chunk(self, images: Any, shape: tuple[int, ...], number: int, decompressor: Any) -> Images:
        """uint8 (chunk, ...) of one chunk, as stored."""
        first = number * shape[0]
        try:
            _, frame = images.id.read_direct_chunk((first, *(0,) * (len(shape) - 1)))
            data = decompressor.decompress(frame, max_output_size=prod(shape))
            block = np.frombuffer(data, dtype=np.uint8).reshape(shape)
        except (OSError, RuntimeError, ValueError, zstandard.ZstdError) as error:
            last = min(first + shape[0], self._layout.count) - 1
            raise DatasetError(
                f"{self._path}: chunk {number} (pictures {first} to {last}) does not match its "
                f"checksum ({error}); {REBUILD}"
            ) from error
        return block

    def opened(self) -> tuple[Any, tuple[int, ...]]:
        """The HDF5 dataset and the shape of its chunks; DatasetError if it is another."""
        # Two threads may both open it, which harms nobody; a lock would not survive a fork.
        opened = self._opened
        if opened is None or self._owner != os.getpid():
            opened = self._open()
            self._opened, self._owner = opened, os.getpid()
        return opened

    def _open(self) -> tuple[Any, tuple[int, ...]]:
        layout = self._layout
        try:
            images = h5py.File(self._path, "r").get(layout.name)
            seen = None if images is None else images.attrs.get("format")
            shape = None if images is None else images.shape
            chunks = None if images is None else images.chunks
        except (OSError, RuntimeError, KeyError) as error:
            raise DatasetError(f"{self._path} cannot be read ({error}); {REBUILD}") from error
        if seen != FORMAT:
            found = f"format '{seen}'" if seen else f"no '{layout.name}' of format '{FORMAT}'"
            raise DatasetError(
                f"{self._path} has {found}; this candlemark reads '{FORMAT}': {REBUILD}"
            )
        if shape != (layout.count, *layout.stored) or not chunks or chunks[1:] != layout.stored:
            raise DatasetError(
                f"{self._path} holds {shape} in chunks of {chunks}, and the dataset has "
                f"{(layout.count, *layout.stored)}; {REBUILD}"
            )
        return images, chunks


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
