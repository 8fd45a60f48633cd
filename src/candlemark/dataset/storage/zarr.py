"""Pictures in one Zarr array of format 3, sharded: few files, each read at random.

    images.zarr/
      zarr.json       written by the zarr library, last
      c.0.0.0         shards of images_per_file pictures, each in inner chunks of some 128 KiB

Any Zarr 3 library reads it, here `zarr.open_array("images.zarr")[:10]`; the array is uint8
(N, H, W) or (N, H, W, 3). Packed two-level pictures are an array (N, ceil(H / 8), W) of bits,
and its attributes tell: `packing`, `height`, `paper`, `ink` and, in words, `read_with`.

Inner chunks are compressed by Zstandard and end in their CRC-32C. Zstandard alone won: Blosc
around it, with and without its bit shuffle, wrote bits and colours larger and slower, and won
a third only on two-level pictures that are not packed, which can be packed.

Shards are put together and taken apart by `shards`: the library compresses in threads of its
own alone, gives zeros where a shard is missing, and does not say which chunk is damaged. The
tests hold the shards to those that the library writes, byte by byte, and read them by it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd

from candlemark.charts.packed import checked_out, unpack
from candlemark.dataset.storage.base import Encoded, Images, Levels, StorageConfig
from candlemark.dataset.storage.disk import REBUILD, to_disk, write_whole
from candlemark.dataset.storage.recent import CACHE_BYTES, Recent, groups
from candlemark.dataset.storage.shards import FOLDER, Layout, without_checksum
from candlemark.errors import DatasetError


class ZarrWriter:
    """Writes shards; `zarr.json` comes last, so that no one takes missing shards for zeros."""

    def __init__(self, layout: Layout) -> None:
        self.part_rows = layout.shard_rows
        self.packed = layout.levels is not None
        self.files: tuple[str, ...] = ()
        self._layout = layout
        layout.root.mkdir(parents=True, exist_ok=True)

    def finished_parts(self) -> frozenset[int]:
        """Shards whose index and chunks all match their checksums."""
        return frozenset(filter(self._is_finished, range(self._layout.shards)))

    def _is_finished(self, shard: int) -> bool:
        try:
            data = self._layout.path(shard).read_bytes()
            index = self._layout.index(shard, data[-self._layout.index_bytes :], len(data))
        except (OSError, DatasetError):
            return False
        return all(
            without_checksum(data[offset : offset + length]) is not None
            for offset, length in index.tolist()
        )

    def encode(self, part: int, images: Images) -> Encoded:  # noqa: ARG002 - all are alike
        """The bytes of a shard."""
        return [self._layout.encode(images)]

    def write(self, part: int, encoded: Encoded) -> int:
        """Write a shard; its bytes."""
        return write_whole(self._layout.path(part), encoded[0])

    def finish(self) -> None:
        """Write `zarr.json` and force everything to disk; DatasetError if shards lack."""
        paths = [self._layout.path(shard) for shard in range(self._layout.shards)]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DatasetError(
                f"{self._layout.root} lacks {len(missing)} of {len(paths)} shards, the first "
                f"{missing[0]}; run the same build again, which writes those"
            )
        metadata = self._layout.root / "zarr.json"
        write_whole(metadata, self._layout.metadata())
        to_disk([*paths, metadata])
        self.files = tuple(f"{FOLDER}/{path.name}" for path in (metadata, *paths))

    def close(self) -> None:
        """Nothing is held open; whole shards stay for a build that resumes."""


class ZarrReader:
    """Reads pictures by row; each chunk is compared with its checksum."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._checked = False
        self._chunks = Recent(CACHE_BYTES)
        self._indexes = Recent(CACHE_BYTES // 16)

    def read(self, rows: npt.NDArray[np.int64], out: Images | None = None) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3) in the order of `rows`, repeats allowed."""
        layout = self._layout
        if not self._checked:
            _check_metadata(layout)
            self._checked = True
        stored = (len(rows), *layout.shape)
        plain = layout.levels is None
        found = checked_out(out, stored) if plain else np.empty(stored, dtype=np.uint8)
        # An inner chunk has the same number in its shard as in the array, less whole shards.
        for chunk, places in groups(rows // layout.chunk_rows):
            held = self._chunks.get(chunk, self._decode)
            found[places] = held[rows[places] - chunk * layout.chunk_rows]
        if layout.levels is None:
            return found
        paper, ink = layout.levels
        return unpack(found, layout.picture_shape[0], paper=paper, ink=ink, out=out)

    def _decode(self, chunk: int) -> Images:
        layout = self._layout
        shard, number = divmod(chunk, layout.chunks_in_shard)
        offset, length = self._indexes.get(shard, self._index)[number].tolist()
        try:
            with layout.path(shard).open("rb") as file:
                file.seek(offset)
                content = without_checksum(file.read(length))
        except OSError as error:
            raise _unreadable(layout.path(shard), error) from error
        if content is None:
            raise DatasetError(f"{layout.title(chunk)} does not match its checksum; {REBUILD}")
        try:
            images = np.frombuffer(Zstd().decode(content), dtype=np.uint8)
            return images.reshape(layout.chunk_rows, *layout.shape)
        except (RuntimeError, ValueError) as error:
            raise DatasetError(f"{layout.title(chunk)} is damaged ({error}); {REBUILD}") from error

    def _index(self, shard: int) -> npt.NDArray[np.uint64]:
        path = self._layout.path(shard)
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - self._layout.index_bytes))
                return self._layout.index(shard, file.read(), size)
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path} cannot be read ({error}); {REBUILD}")


def _check_metadata(layout: Layout) -> None:
    """DatasetError where `zarr.json` is missing, damaged, or of another array."""
    path = layout.root / "zarr.json"
    try:
        known = json.loads(path.read_bytes())
        seen = (
            known["shape"],
            known["chunk_grid"]["configuration"]["chunk_shape"],
            known["codecs"][0]["configuration"]["chunk_shape"],
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise _unreadable(path, error) from error
    lengths = layout.count, layout.shard_rows, layout.chunk_rows
    expected = tuple([length, *layout.shape] for length in lengths)
    if seen != expected:
        raise DatasetError(
            f"{path} tells of shape, shards and chunks {seen}, and the dataset of {expected}; "
            f"{REBUILD}"
        )


def open_writer(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> ZarrWriter:
    """A writer of `count` pictures of `shape`."""
    return ZarrWriter(Layout(config, folder, count=count, shape=shape, levels=levels))


def open_reader(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> ZarrReader:
    """A reader of the pictures in `folder`."""
    return ZarrReader(Layout(config, folder, count=count, shape=shape, levels=levels))
