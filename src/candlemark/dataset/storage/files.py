"""One picture a file, for programs that want pictures: PNG and JPEG.

    images/000/000123.png       row 123 of the index, 1,000 files to a folder

PNG is exact. Pictures of black and white alone are stored with one bit a pixel, others as
8-bit grey or RGB; any reader of PNG gives the pixels back (of one-bit files as 0 and 1 or as
0 and 255, as it likes; Pillow's `convert("L")` gives 0 and 255). The files are written and
read here by zlib and nothing else, five to ten times as fast as by Pillow.

JPEG is not exact, and a store of it says so: it is for eyes and for programs that take nothing
else, and on charts it is five to ten times as large as PNG. Colour is not subsampled (4:4:4).
The declared loss at the default quality of 95, over chart pictures, in grey levels a channel:
at most 1.5 on average, and nowhere more than 16 in two-level pictures or 40 in coloured ones
(at quality 75 up to 4 on average, and over 100 at single pixels). Two-level pictures come back
with grey levels beside the ink.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from candlemark.dataset.storage.base import Images, Levels, StorageConfig
from candlemark.dataset.storage.folder import (
    Codec,
    Files,
    FolderReader,
    FolderWriter,
    rows_of_a_part,
)

PNG_LEVEL = 3
"""Of deflate: near the smallest, and three times as fast as 6. Most files take one disk block
either way. Filters were tried: on charts they win little and cost a pass over the pixels."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
"""Colour types of PNG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PngCodec:
    """PNG as the specification has it: a header, one block of deflated lines, an end."""

    shape: tuple[int, ...]
    suffix: str = ".png"
    levels: Levels | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one picture."""
        return self.shape

    def encode(self, images: Images, first: int) -> bytes:  # noqa: ARG002 - it has its name
        """A file of one picture (1, H, W[, 3])."""
        height, width = self.shape[:2]
        lines = images[0].reshape(height, -1)
        depth, colour = 8, GREY if len(self.shape) == 2 else RGB
        # A byte is 0 or 255 exactly where one more is at most 1.
        if colour == GREY and (lines + np.uint8(1) <= 1).all():
            depth, lines = 1, np.packbits(lines, axis=1)
        filtered = np.zeros((height, 1 + lines.shape[1]), dtype=np.uint8)  # 0 is: no filter
        filtered[:, 1:] = lines
        return png_file(filtered, width, depth=depth, colour=colour, level=PNG_LEVEL)

    def decode(self, data: bytes, first: int, count: int) -> Images:  # noqa: ARG002
        """The picture (1, H, W[, 3]); ValueError where the file is none that `encode` made."""
        height, width = self.shape[:2]
        colour = GREY if len(self.shape) == 2 else RGB
        channels = 1 if colour == GREY else 3
        try:
            header = struct.unpack_from(">IIBBBBB", data, 16)
            length = int.from_bytes(data[33:37], "big")
            pixels = zlib.decompress(data[41 : 41 + length])
        except (struct.error, zlib.error) as error:
            raise ValueError(str(error)) from error
        depth = header[2]
        if depth not in (1, 8) or header != (width, height, depth, colour, 0, 0, 0):
            raise ValueError(f"its header is {header}, not that of a picture of {self.shape}")
        across = -(-width * channels * depth // 8)
        lines = np.frombuffer(pixels, dtype=np.uint8).reshape(height, 1 + across)[:, 1:]
        if depth == 1:
            lines = np.negative(np.unpackbits(lines, axis=1, count=width))  # 1 becomes 255
        picture: Images = lines.reshape(1, *self.shape)
        return picture


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegCodec:
    """JPEG by Pillow, 4:4:4."""

    shape: tuple[int, ...]
    quality: int
    suffix: str = ".jpg"
    levels: Levels | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one picture."""
        return self.shape

    def encode(self, images: Images, first: int) -> bytes:  # noqa: ARG002 - it has its name
        """A file of one picture (1, H, W[, 3])."""
        from PIL import Image

        buffer = BytesIO()
        Image.fromarray(images[0]).save(buffer, "JPEG", quality=self.quality, subsampling=0)
        return buffer.getvalue()

    def decode(self, data: bytes, first: int, count: int) -> Images:  # noqa: ARG002
        """The picture (1, H, W[, 3]); ValueError where the file is no such picture."""
        from PIL import Image

        with Image.open(BytesIO(data), formats=["JPEG"]) as file:
            picture = np.asarray(file)
        if picture.shape != self.shape:
            raise ValueError(f"it is a picture of {picture.shape}, not of {self.shape}")
        return picture[np.newaxis]


def png_file(filtered: Images, width: int, *, depth: int, colour: int, level: int) -> bytes:
    """A whole PNG: a header, one block of deflated lines, an end.

    filtered: uint8 (H, 1 + bytes of a line), each line after the number of its filter
    depth: bits of a channel; colour: GREY or RGB; level: of deflate
    Source: the PNG specification, third edition, W3C 2025.
    """
    header = struct.pack(">IIBBBBB", width, len(filtered), depth, colour, 0, 0, 0)
    pixels = zlib.compress(filtered.data, level)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b""))
    return SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)))


def _codec(config: StorageConfig, shape: tuple[int, ...]) -> Codec:
    if config.format == "png":
        return PngCodec(shape=shape)
    return JpegCodec(shape=shape, quality=config.chosen_quality)


def open_writer(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,  # noqa: ARG001 - the pictures themselves tell
) -> FolderWriter:
    """A writer of `count` pictures of `shape`."""
    codec = _codec(config, shape)
    files = Files(folder, count=count, rows_per_file=1, suffix=codec.suffix)
    return FolderWriter(files, codec, part_rows=rows_of_a_part(1, shape))


def open_reader(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,  # noqa: ARG001 - the pictures themselves tell
) -> FolderReader:
    """A reader of the pictures in `folder`."""
    codec = _codec(config, shape)
    files = Files(folder, count=count, rows_per_file=1, suffix=codec.suffix)
    return FolderReader(files, codec)
