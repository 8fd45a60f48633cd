"""An append-only file of encoded parts: what a build has done so far, proved whole.

    log = PartLog(folder / "images.parts", layout="hdf5 1000 x 63 x 400 ...")
    log.finished                         # frozenset({0, 1}) after an earlier build was killed
    log.append(2, record_of(2, [b"frame", b"frame"]))    # made in any thread
    log.read(2)                          # [b"frame", b"frame"]

A build may be killed at any byte, so each record carries its lengths and a CRC-32 over all of
itself. On opening, records are read from the start until one does not hold; it and everything
after it are cut off and made again. A log with another layout is emptied.

    record = magic "CMPT", part u32, frames u32, bytes u64, sizes u32[frames], frames, crc u32
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAGIC = b"CMPT"
_HEAD = struct.Struct("<4sIIQ")
_CRC = struct.Struct("<I")


class PartLog:
    """Encoded parts by number, in a file that only grows."""

    def __init__(self, path: Path, *, layout: str) -> None:
        self._path = path
        self._offsets: dict[int, int] = {}
        self._header = f"candlemark parts 1 {layout}\n".encode()
        self._end = self._recover()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        os.ftruncate(self._handle, self._end)
        if self._end == 0:
            self._put(self._header)

    @property
    def finished(self) -> frozenset[int]:
        """Parts that are in the log."""
        return frozenset(self._offsets)

    @property
    def size_bytes(self) -> int:
        """Bytes of the log."""
        return self._end

    def append(self, part: int, record: bytes) -> int:
        """Add the record of a part; the bytes written. OSError leaves the log as it was."""
        begin = self._end
        self._put(record)
        self._offsets[part] = begin
        return len(record)

    def read(self, part: int) -> list[bytes]:
        """The frames of a part; KeyError if it is not there.

        Its CRC was checked when the log was opened, or made by this process.
        """
        with self._path.open("rb") as file:
            file.seek(self._offsets[part])
            record = _read_record(file, check=False)
        if record is None:
            raise OSError(f"{self._path}: part {part} was changed after it was written")
        return record[1]

    def close(self) -> None:
        """Close the file; it stays."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def remove(self) -> None:
        """Close the file and delete it."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        """Write at the end, whole or not at all."""
        os.lseek(self._handle, self._end, os.SEEK_SET)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            os.ftruncate(self._handle, self._end)
            raise
        self._end += len(data)

    def _recover(self) -> int:
        """Find the parts that are whole; where the first broken byte is."""
        if not self._path.is_file():
            return 0
        with self._path.open("rb") as file:
            if file.read(len(self._header)) != self._header:
                return 0
            end = len(self._header)
            for part, length in _records(file):
                self._offsets[part] = end
                end += length
        return end


def record_of(part: int, frames: list[bytes]) -> bytes:
    """A part as the log keeps it."""
    sizes = np.array([len(frame) for frame in frames], dtype="<u4").tobytes()
    body = b"".join((_HEAD.pack(MAGIC, part, len(frames), sum(map(len, frames))), sizes, *frames))
    return body + _CRC.pack(zlib.crc32(body))


def _records(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Number and length of each record from here on, up to the first that does not hold."""
    while True:
        begin = file.tell()
        record = _read_record(file, check=True)
        if record is None:
            return
        yield record[0], file.tell() - begin


def _read_record(file: BinaryIO, *, check: bool) -> tuple[int, list[bytes]] | None:
    """Part and frames of the record that begins here, None if it does not hold."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, part, count, size = _HEAD.unpack(head)
    left = os.fstat(file.fileno()).st_size - file.tell()
    # Lengths are believed only as far as the file goes: a torn one could ask for terabytes.
    if magic != MAGIC or 4 * count + size + _CRC.size > left:
        return None
    sizes, data = file.read(4 * count), file.read(size)
    (crc,) = _CRC.unpack(file.read(_CRC.size))
    if check and zlib.crc32(data, zlib.crc32(sizes, zlib.crc32(head))) != crc:
        return None
    edges = np.concatenate([[0], np.cumsum(np.frombuffer(sizes, "<u4"), dtype=np.int64)])
    if edges[-1] != size:
        return None
    return part, [data[first:last] for first, last in pairwise(edges.tolist())]
