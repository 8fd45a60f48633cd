"""Bytes on their way to and from a Hub: batches, streams that wait closed, ranges.

for paths in batches(files, changes.added): ...
fetch(address, Path("part"), size=123, headers={}, bar=bar)    # goes on after what is there
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from candlemark.hub.changes import LocalFile
from candlemark.hub.faults import Stopped
from candlemark.progress import Bar

BATCH_FILES = 64
BATCH_BYTES = 256 << 20
"""Large files go up in batches of about this much, so that progress is seen."""

TIMEOUT_S = 60.0
"""Longest silence of a connection that reads."""


def fetch(
    address: str,
    target: Path,
    *,
    size: int,
    headers: Mapping[str, str],
    bar: Bar,
    stop: Event | None = None,
) -> None:
    """Bring what `target` lacks of the `size` bytes at an address.

    Whatever arrives before a failure stays in `target`, so that the next call goes on from
    there. The bytes are not checked here.

    Raises HfHubHTTPError and the errors of its HTTP library. OSError: the disk. Stopped: `stop`
    was set.
    """
    from huggingface_hub import get_session, hf_raise_for_status

    have = target.stat().st_size if target.exists() else 0
    if have > size:
        target.unlink()
        have = 0
    if have == size:
        target.touch()
        return
    asked = {**headers, "Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    with get_session().stream("GET", address, headers=asked, timeout=TIMEOUT_S) as response:
        hf_raise_for_status(response)
        place = response.headers.get("content-range", "")
        if not (response.status_code == 206 and place.startswith(f"bytes {have}-")):
            have = 0
        with target.open("r+b" if have else "wb") as stream:
            stream.seek(have)
            for chunk in response.iter_bytes():
                if stop is not None and stop.is_set():
                    raise Stopped
                stream.write(chunk)
                bar.advance(len(chunk))
                have += len(chunk)
                if have > size:  # not what was listed; its hash will tell
                    return


def batches(files: Mapping[str, LocalFile], paths: Sequence[str]) -> Iterator[list[str]]:
    """Paths in groups that are not too many and not too heavy, copies of a file after it.

    What one group holds twice the library reads from one stream in two threads, and mixes it up;
    in a later group the Hub has the bytes already, so that they are not read at all.
    """
    firsts, copies = _copies(files, paths)
    for group in (firsts, copies):
        batch: list[str] = []
        batch_bytes = 0
        for path in group:
            if len(batch) == BATCH_FILES or batch_bytes >= BATCH_BYTES:
                yield batch
                batch, batch_bytes = [], 0
            batch.append(path)
            batch_bytes += files[path].size
        if batch:
            yield batch


def _copies(files: Mapping[str, LocalFile], paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first path of every content, and the others; only files of one size are hashed."""
    by_size: dict[int, list[str]] = {}
    for path in paths:
        by_size.setdefault(files[path].size, []).append(path)
    seen: set[str] = set()
    copies: set[str] = set()
    for alike in by_size.values():
        for path in alike if len(alike) > 1 else ():
            content = files[path].sha256()
            if content in seen:
                copies.add(path)
            seen.add(content)
    return [path for path in paths if path not in copies], [p for p in paths if p in copies]


def source(file: LocalFile, by_reader: bool) -> Any:
    """A file in the form that leads the library to the right storage."""
    if file.content is not None:
        return io.BytesIO(file.content) if by_reader else file.content
    return Reader(file.path_of()) if by_reader else str(file.path_of())


class Reader(io.BufferedIOBase):
    """A file that is open only while it is read, so that thousands can wait for a commit.

    bar: told of bytes that are read for the first time since it was set; `told` counts them
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.bar: Bar | None = None
        self.told = 0
        self._path = path
        self._position = 0
        self._stream: io.BufferedReader | None = None

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move there; the file is opened again at the next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        if base is None:
            base = self._path.stat().st_size
        self._position = base + offset
        self._release()
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file does."""
        if self._stream is None:
            self._stream = self._path.open("rb")
            self._stream.seek(self._position)
        found = self._stream.read(-1 if size is None else size)
        self._position += len(found)
        if self.bar is not None and self._position > self.told:
            self.bar.advance(self._position - self.told)
            self.told = self._position
        if not found or size is None or size < 0:
            self._release()
        return found

    def close(self) -> None:
        """Nothing is read after this."""
        self._release()
        super().close()

    def _release(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
