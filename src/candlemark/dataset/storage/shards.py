"""How pictures lie in the shards of a Zarr array, and the bytes of a shard.

A shard is its inner chunks one after the other, each compressed by Zstandard and followed by
its CRC-32C, then offset and length of every chunk as uint64, and the CRC-32C of those. That
is the specification's `sharding_indexed` codec with codecs bytes, zstd, crc32c within and
index codecs bytes, crc32c. Numbers are little-endian.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd

from candlemark.charts.packed import packed_shape
from candlemark.dataset.storage.base import Images, Levels, StorageConfig
from candlemark.dataset.storage.disk import REBUILD
from candlemark.errors import DatasetError

FOLDER = "images.zarr"
CHUNK_BYTES = 128 << 10
"""Of an inner chunk before compression. Twice as much saves 1 to 20 % and costs a picture
that is asked for alone twice the time."""

SHARD_BYTES = 32 << 20
"""Of a shard before compression, unless the config gives its pictures."""

LEVEL = 1
"""Of Zstandard. 3 takes the same space within 2 % on bits and is slower there."""

ABSENT = (1 << 64) - 1
"""Offset and length of an inner chunk that a shard does not hold, past the last picture."""

READ_WITH = "import zarr; images = zarr.open_array('images.zarr')[:]"
READ_BITS_WITH = (
    "import numpy, zarr; array = zarr.open_array('images.zarr'); told = array.attrs; "
    "ink = numpy.unpackbits(array[:], axis=1, count=told['height'], bitorder='little'); "
    "images = numpy.where(ink == 1, told['ink'], told['paper']).astype('uint8')"
)


class Layout:
    """How pictures lie in shards and inner chunks; follows from the config, so it can resume."""

    def __init__(
        self,
        config: StorageConfig,
        folder: Path,
        *,
        count: int,
        shape: tuple[int, ...],
        levels: Levels | None,
    ) -> None:
        self.root = folder / FOLDER
        self.count = count
        self.picture_shape = shape
        self.levels = levels if config.packs(levels) else None
        self.shape = shape if self.levels is None else packed_shape(shape)
        fitting = max(1, CHUNK_BYTES // prod(self.shape))
        asked = config.images_per_file
        if asked is None:
            self.chunk_rows = min(fitting, count)
            chunks = max(1, SHARD_BYTES // (self.chunk_rows * prod(self.shape)))
            self.shard_rows = self.chunk_rows * min(chunks, -(-count // self.chunk_rows))
        else:
            # Inner chunks must divide a shard evenly.
            self.shard_rows = min(asked, count)
            sizes = range(1, min(fitting, self.shard_rows) + 1)
            self.chunk_rows = max(size for size in sizes if self.shard_rows % size == 0)

    @property
    def shards(self) -> int:
        """Shards in the array."""
        return -(-self.count // self.shard_rows)

    @property
    def chunks_in_shard(self) -> int:
        """Inner chunks that a full shard holds."""
        return self.shard_rows // self.chunk_rows

    def chunks_of(self, shard: int) -> int:
        """Inner chunks of a shard that hold pictures; the last shard may have fewer."""
        rows = min(self.shard_rows, self.count - shard * self.shard_rows)
        return -(-rows // self.chunk_rows)

    def path(self, shard: int) -> Path:
        """File of a shard."""
        return self.root / ".".join(["c", str(shard), *"0" * len(self.shape)])

    def title(self, chunk: int) -> str:
        """An inner chunk, counted through the array, for a message."""
        first = chunk * self.chunk_rows
        last = min(first + self.chunk_rows, self.count) - 1
        path = self.path(first // self.shard_rows)
        return f"{path}: chunk {chunk % self.chunks_in_shard} (pictures {first} to {last})"

    def metadata(self) -> bytes:
        """`zarr.json` as the library writes it."""
        import zarr
        from zarr.codecs import Crc32cCodec, ZstdCodec
        from zarr.storage import MemoryStore

        attributes: dict[str, Any] = {"read_with": READ_WITH}
        if self.levels is not None:
            attributes = {
                "packing": "bits: 8 rows of a picture to a byte, the first one lowest",
                "height": self.picture_shape[0],
                "paper": self.levels[0],
                "ink": self.levels[1],
                "read_with": READ_BITS_WITH,
            }
        held: dict[str, Any] = {}
        zarr.create_array(
            store=MemoryStore(held),
            shape=(self.count, *self.shape),
            dtype="uint8",
            shards=(self.shard_rows, *self.shape),
            chunks=(self.chunk_rows, *self.shape),
            filters=None,
            compressors=(ZstdCodec(level=LEVEL), Crc32cCodec()),
            fill_value=0,
            chunk_key_encoding={"name": "default", "separator": "."},
            attributes=attributes,
            dimension_names=("picture", *("y", "x", "channel")[: len(self.shape)]),
        )
        text: bytes = held["zarr.json"].to_bytes()
        return text

    def encode(self, images: Images) -> bytes:
        """A shard: compressed chunks one after the other, then where each of them lies."""
        codec = Zstd(level=LEVEL)
        chunks = []
        index = np.full((self.chunks_in_shard, 2), ABSENT, dtype="<u8")
        offset = 0
        for number, first in enumerate(range(0, len(images), self.chunk_rows)):
            chunk = np.ascontiguousarray(images[first : first + self.chunk_rows])
            if len(chunk) < self.chunk_rows:  # a chunk is stored whole, filled with zeros
                short = self.chunk_rows - len(chunk)
                chunk = np.concatenate([chunk, np.zeros((short, *self.shape), dtype=np.uint8)])
            chunks.append(with_checksum(codec.encode(chunk)))
            index[number] = offset, len(chunks[-1])
            offset += len(chunks[-1])
        return b"".join((*chunks, with_checksum(index.tobytes())))

    def index(self, shard: int, tail: bytes, size: int) -> npt.NDArray[np.uint64]:
        """uint64 (chunks, 2), offset and length of the chunks of a shard of `size` bytes.

        tail: the last bytes of the shard. DatasetError where they are no whole index.
        """
        path, chunks = self.path(shard), self.chunks_of(shard)
        content = without_checksum(tail) if len(tail) == self.index_bytes else None
        if content is None:
            raise DatasetError(
                f"{path} is damaged (the list of its {chunks} chunks does not match its "
                f"checksum); {REBUILD}"
            )
        index = np.frombuffer(content, dtype="<u8").reshape(-1, 2)[:chunks]
        ends = np.cumsum(index[:, 1])
        if (index[:, 0] != ends - index[:, 1]).any() or int(ends[-1]) + self.index_bytes != size:
            raise DatasetError(
                f"{path} is damaged (it has {size} bytes, and its chunks do not fill them); "
                f"{REBUILD}"
            )
        return index

    @property
    def index_bytes(self) -> int:
        """Length of what a shard ends with."""
        return 16 * self.chunks_in_shard + 4


def with_checksum(content: bytes) -> bytes:
    """The content and its CRC-32C."""
    return content + struct.pack("<I", google_crc32c.value(content))


def without_checksum(stored: bytes) -> bytes | None:
    """The content, or None where its CRC-32C differs."""
    content, checksum = stored[:-4], stored[-4:]
    return content if checksum == struct.pack("<I", google_crc32c.value(content)) else None
