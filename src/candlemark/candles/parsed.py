"""Parsed zips kept beside the downloads: a second load reads columns, not text.

    entry = parsed.find(sha256, market="spot")         # None: not here, or damaged
    parsed.keep(sha256, raw, market="spot")
    raw = join_parts([entry, raw_of_february])

    parsed/ab/abcd...-volume-1.candles     what the zip with SHA-256 abcd... holds

An entry is named after the content that was parsed, the column that its volume came from and
the version of the parser, so it cannot go stale: a zip that changed has another name, and so
does what another parser makes of it. It holds a header of 48 bytes and then, little-endian,
open_time_ms int64[N] and open, high, low, close, volume float64[N]:

    8 bytes "candles1" | uint32 CRC-32 of the 36 bytes that follow |
    uint32 CRC-32 of the columns | int64 N, earliest, latest open time, 0

Entries appear by rename, so a reader never sees half of one and writers may race. Every byte is
checked when it is read: a wrong length or CRC-32 is warned of, and the zip is parsed again. The
CRC stands against damage, as the one inside every zip does; the SHA-256 of the source was
checked when it was parsed.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from candlemark.candles.cache import ENVIRONMENT, Cache, write_by_rename
from candlemark.candles.klines import VOLUME_COLUMN
from candlemark.candles.raw import RawCandles
from candlemark.candles.series import COLUMNS
from candlemark.progress import warning

PARSER_VERSION = 1
"""To be raised with every change of what a zip's text is read as."""

_MAGIC = b"candles1"
_HEADER = struct.Struct("<8sIIqqqq")
_ROW_BYTES = 8 * (1 + len(COLUMNS))
_NAMES = ("open_time_ms", *COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A parsed zip on disk, its length and header proved and its columns not yet.

    earliest_ms, latest_ms: the smallest and largest open time
    crc: CRC-32 of the columns
    """

    path: Path
    rows: int
    earliest_ms: int
    latest_ms: int
    crc: int

    def __len__(self) -> int:
        return self.rows

    def read_into(self, columns: Sequence[np.ndarray]) -> bool:
        """Fill six arrays of `rows` values; False, with the entry removed, if it is damaged."""
        try:
            with self.path.open("rb") as stream:
                # Mapped and copied: half the time of reading, which copies page by page.
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return False  # another process found it damaged first
        except (OSError, ValueError):
            return self._refuse()
        if len(data) != _HEADER.size + self.rows * _ROW_BYTES:
            return self._refuse()
        crc = 0
        for number, column in enumerate(columns):
            start = _HEADER.size + number * column.nbytes
            kind = column.dtype.newbyteorder("<")
            source = np.frombuffer(data, dtype=kind, count=self.rows, offset=start)
            crc = zlib.crc32(source.data, crc)
            column[:] = source
        return crc == self.crc or self._refuse()

    def _refuse(self) -> bool:
        _remove_damaged(self.path)
        return False


class ParsedCache:
    """The parsed zips in a cache folder."""

    def __init__(self, cache: Cache) -> None:
        self._folder = cache.folder / "parsed"
        self._told = False

    def path(self, sha256: str, *, market: str) -> Path:
        """Where the candles of the zip with this SHA-256 are kept."""
        name = f"{sha256}-{VOLUME_COLUMN[market]}-{PARSER_VERSION}.candles"
        return self._folder / sha256[:2] / name

    def find(self, sha256: str, *, market: str) -> Entry | None:
        """The entry of a zip, or None; one of the wrong length is warned of and removed."""
        path = self.path(sha256, market=market)
        try:
            with path.open("rb", buffering=0) as stream:
                header = stream.read(_HEADER.size)
                size = os.fstat(stream.fileno()).st_size
        except OSError:
            # Not there, or not to be read: whatever is wrong with the cache, parsing helps.
            return None
        if len(header) == _HEADER.size and header[:8] == _MAGIC:
            _, proof, crc, rows, earliest, latest, _ = _HEADER.unpack(header)
            if proof == zlib.crc32(header[12:]) and size == _HEADER.size + rows * _ROW_BYTES:
                return Entry(path=path, rows=rows, earliest_ms=earliest, latest_ms=latest, crc=crc)
        _remove_damaged(path)
        return None

    def keep(self, sha256: str, raw: RawCandles, *, market: str) -> None:
        """Write the entry of a zip; a cache that cannot be written is warned of once."""
        if len(raw) == 0:
            return
        path = self.path(sha256, market=market)
        times = raw.open_time_ms
        columns = [
            np.ascontiguousarray(getattr(raw, name)).astype(kind, copy=False)
            for name, kind in zip(_NAMES, ("<i8", *["<f8"] * len(COLUMNS)), strict=True)
        ]
        crc = 0
        for column in columns:
            crc = zlib.crc32(column.data, crc)
        proved = struct.pack("<Iqqqq", crc, len(raw), int(times.min()), int(times.max()), 0)
        head = _MAGIC + struct.pack("<I", zlib.crc32(proved)) + proved
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_by_rename(path, head, *(column.data for column in columns))
        except OSError as error:
            if not self._told:
                self._told = True
                warning(
                    f"cannot keep parsed candles at {path.parent}: {error.strerror or error}; "
                    "they are parsed again the next time, unless "
                    f"{ENVIRONMENT} names a folder that can be written"
                )


def join_parts(
    parts: Sequence[RawCandles | Entry],
    each: Callable[[Callable[[int], bool], Sequence[int]], Iterable[bool]],
) -> tuple[RawCandles, list[int]]:
    """All rows of `parts`, in order, and the positions of entries that were damaged.

    each: maps a function over positions, on several threads or not; entries are read straight
        into their place, and reading and checking them releases the interpreter's lock

    The columns are read-only. They hold nothing of use where an entry was damaged.
    """
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64).tolist()
    count = ends[-1] if ends else 0
    whole = [np.empty(count, np.int64), *(np.empty(count) for _ in COLUMNS)]

    def fill(position: int) -> bool:
        part = parts[position]
        place = slice(ends[position] - len(part), ends[position])
        if isinstance(part, Entry):
            return part.read_into([column[place] for column in whole])
        for column, name in zip(whole, _NAMES, strict=True):
            column[place] = getattr(part, name)
        return True

    good = each(fill, range(len(parts)))
    damaged = [position for position, ok in enumerate(good) if not ok]
    for column in whole:
        column.flags.writeable = False
    return RawCandles(**dict(zip(_NAMES, whole, strict=True))), damaged


def _remove_damaged(path: Path) -> None:
    warning(f"{path} was damaged on disk; its zip is parsed again")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        warning(f"{path} cannot be removed: {error.strerror or error}")
