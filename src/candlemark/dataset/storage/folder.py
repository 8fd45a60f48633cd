"""Folders of many picture files, each proved by its line in one list of checksums.

    images/
      SHA256SUMS                  <SHA-256>  000/000000.png, a line for each file
      000/000000.png ... 000999.png
      001/001000.png ...          at most 1,000 files to a folder

What the files hold is the business of a `Codec`; this module names them, writes them whole
and proves them. The list is an ordinary one (`cd images; sha256sum -c
--quiet SHA256SUMS`) with lines of one length, so that the proof of any picture is one look at
its place. The manifest of the dataset holds the hash of the list alone: a million pictures are
one entry there, and every one of them is compared with its line whenever it is read.

A file gets its name only after all its bytes are written, and its line only after that. While
a build lasts, the list is called `SHA256SUMS.partial`; a build that was killed finds in it
which files it can keep. Files are forced to disk at the end, before the list gets its name.
"""

from __future__ import annotations

import hashlib
import mmap
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from candlemark.charts.packed import checked_out, unpack
from candlemark.dataset.scratch import sync
from candlemark.dataset.storage.base import Encoded, Images, Levels
from candlemark.dataset.storage.disk import REBUILD, to_disk, write_whole
from candlemark.dataset.storage.recent import CACHE_BYTES, Recent, groups
from candlemark.errors import DatasetError

FOLDER = "images"
LIST = "SHA256SUMS"
FILES_IN_FOLDER = 1000
PART_BYTES = 8 << 20
"""Pictures handed over at once where each has its own file."""


class Codec(Protocol):
    """What one file holds. Must survive pickling into a worker process."""

    @property
    def suffix(self) -> str:
        """Of the file's name, with its dot."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture."""

    @property
    def levels(self) -> Levels | None:
        """Paper and ink of the pictures where `encode` takes them packed."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one picture as `decode` gives it, which may be packed."""

    def encode(self, images: Images, first: int) -> bytes:
        """A file of some pictures (or packed pictures), the first of which is row `first`."""

    def decode(self, data: bytes, first: int, count: int) -> Images:
        """What `encode` was given. Raises anything of `FAULTS` where the bytes are no such file."""


FAULTS = (OSError, ValueError, KeyError, EOFError, SyntaxError)
"""What decoders raise when the bytes are not theirs."""


class Files:
    """Names of the files, and the lines that prove them, by number."""

    def __init__(self, folder: Path, *, count: int, rows_per_file: int, suffix: str) -> None:
        self.root = folder / FOLDER
        self.count = count
        self.rows_per_file = rows_per_file
        self.suffix = suffix
        self._digits = max(6, len(str(len(self) - 1)))
        self.line_length = len(self.line(0, "0" * 64))

    def __len__(self) -> int:
        return (self.count + self.rows_per_file - 1) // self.rows_per_file

    def name(self, number: int) -> str:
        """Such as `001/001234.png`."""
        digits = self._digits
        return f"{number // FILES_IN_FOLDER:0{digits - 3}d}/{number:0{digits}d}{self.suffix}"

    def line(self, number: int, digest: str) -> bytes:
        """The file's line in the list, in the form that `sha256sum` knows."""
        return f"{digest}  {self.name(number)}\n".encode()

    def rows(self, number: int) -> tuple[int, int]:
        """First row of a file and how many rows it has."""
        first = number * self.rows_per_file
        return first, min(self.rows_per_file, self.count - first)

    def title(self, number: int) -> str:
        """The file and its rows, for a message."""
        first, count = self.rows(number)
        rows = f"picture {first}" if count == 1 else f"pictures {first} to {first + count - 1}"
        return f"{self.root / self.name(number)} ({rows})"


class FolderWriter:
    """Writes a folder of files; see `ImageWriter` for the order of calls."""

    files = (f"{FOLDER}/{LIST}",)

    def __init__(self, files: Files, codec: Codec, *, part_rows: int) -> None:
        self.part_rows = part_rows
        self.packed = codec.levels is not None
        self._files = files
        self._codec = codec
        self._list_path = files.root / LIST
        self._partial = files.root / f"{LIST}.partial"
        files.root.mkdir(parents=True, exist_ok=True)
        if self._list_path.is_file():  # killed after finish() and before the manifest
            self._list_path.replace(self._partial)
        size = len(files) * files.line_length
        known = self._partial.is_file() and self._partial.stat().st_size == size
        self._list = self._partial.open("r+b" if known else "w+b")
        self._list.truncate(size)
        self._made: set[Path] = set()

    def finished_parts(self) -> frozenset[int]:
        """Parts whose every file is there and hashes to its line: reads them all."""
        parts = -(-self._files.count // self.part_rows)
        return frozenset(part for part in range(parts) if self._is_finished(part))

    def _is_finished(self, part: int) -> bool:
        numbers = self._numbers(part)
        for number, line in zip(numbers, self._lines(numbers), strict=True):
            if not line.strip(b"\0"):
                return False
            try:
                data = (self._files.root / self._files.name(number)).read_bytes()
            except OSError:
                return False
            if line != self._files.line(number, hashlib.sha256(data).hexdigest()):
                return False
        return True

    def _numbers(self, part: int) -> range:
        per_part = self.part_rows // self._files.rows_per_file
        return range(part * per_part, min((part + 1) * per_part, len(self._files)))

    def _lines(self, numbers: range) -> list[bytes]:
        length = self._files.line_length
        self._list.seek(numbers.start * length)
        held = self._list.read(len(numbers) * length)
        return [held[start : start + length] for start in range(0, len(held), length)]

    def encode(self, part: int, images: Images) -> Encoded:
        """The files of a part, and last their lines."""
        encoded, lines = [], []
        begin = part * self.part_rows
        for number in self._numbers(part):
            first, count = self._files.rows(number)
            data = self._codec.encode(images[first - begin : first - begin + count], first)
            encoded.append(data)
            lines.append(self._files.line(number, hashlib.sha256(data).hexdigest()))
        return [*encoded, b"".join(lines)]

    def write(self, part: int, encoded: Encoded) -> int:
        """Write the files of a part, then their lines; the bytes written."""
        *contents, lines = encoded
        written = len(lines)
        numbers = self._numbers(part)
        for number, data in zip(numbers, contents, strict=True):
            path = self._files.root / self._files.name(number)
            if path.parent not in self._made:
                path.parent.mkdir(exist_ok=True)
                self._made.add(path.parent)
            written += write_whole(path, data)
        self._list.seek(numbers.start * self._files.line_length)
        self._list.write(lines)
        self._list.flush()
        return written

    def finish(self) -> None:
        """Force everything to disk and give the list its name; DatasetError if files lack."""
        missing = sum(
            not line.strip(b"\0")
            for start in range(0, len(self._files), FILES_IN_FOLDER)
            for line in self._lines(range(start, min(start + FILES_IN_FOLDER, len(self._files))))
        )
        if missing:
            raise DatasetError(
                f"{self._files.root} lacks {missing} of {len(self._files)} files; run the same "
                "build again, which writes those"
            )
        self._list.close()
        names = map(self._files.name, range(len(self._files)))
        to_disk(self._files.root / name for name in chain([self._partial.name], names))
        self._partial.replace(self._list_path)
        sync(self._files.root)

    def close(self) -> None:
        """Let go of the list; what was written stays for a build that resumes."""
        self._list.close()


class FolderReader:
    """Reads pictures by row, each file compared with its line before it is decoded."""

    def __init__(self, files: Files, codec: Codec) -> None:
        self._files = files
        self._codec = codec
        self._sums: mmap.mmap | None = None
        # A file of one picture is decoded whole whenever it is asked for.
        self._recent = Recent(CACHE_BYTES if files.rows_per_file > 1 else 0)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sums": None}

    def read(self, rows: npt.NDArray[np.int64], out: Images | None = None) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3) in the order of `rows`, repeats allowed."""
        shape = (len(rows), *self._codec.stored_shape)
        levels = self._codec.levels
        found = checked_out(out, shape) if levels is None else np.empty(shape, dtype=np.uint8)
        for number, places in groups(rows // self._files.rows_per_file):
            held = self._recent.get(number, self._decode)
            found[places] = held[rows[places] - number * self._files.rows_per_file]
        if levels is None:
            return found
        paper, ink = levels
        return unpack(found, self._codec.shape[0], paper=paper, ink=ink, out=out)

    def _decode(self, number: int) -> Images:
        files = self._files
        path = files.root / files.name(number)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{files.title(number)} cannot be read ({error}); {REBUILD}"
            ) from error
        if files.line(number, hashlib.sha256(data).hexdigest()) != self._line(number):
            raise DatasetError(
                f"{files.title(number)} is not as it was written: its SHA-256 differs from its "
                f"line in {LIST}; {REBUILD}"
            )
        try:
            return self._codec.decode(data, *files.rows(number))
        except FAULTS as error:
            raise DatasetError(f"{files.title(number)} is damaged ({error}); {REBUILD}") from error

    def _line(self, number: int) -> bytes:
        if self._sums is None:
            self._sums = self._open_list()
        start = number * self._files.line_length
        return self._sums[start : start + self._files.line_length]

    def _open_list(self) -> mmap.mmap:
        path, size = self._files.root / LIST, len(self._files) * self._files.line_length
        try:
            with path.open("rb") as file:
                sums = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise DatasetError(f"{path} cannot be read ({error}); {REBUILD}") from error
        if len(sums) != size:
            raise DatasetError(
                f"{path} has {len(sums)} bytes, not the {size} of {len(self._files)} lines; "
                f"{REBUILD}"
            )
        return sums


def rows_of_a_part(rows_per_file: int, shape: tuple[int, ...]) -> int:
    """Pictures of a part: whole files, together about `PART_BYTES` or one file."""
    files = min(FILES_IN_FOLDER, PART_BYTES // prod(shape)) // rows_per_file
    return rows_per_file * max(1, files)
