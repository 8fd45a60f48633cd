"""Downloads kept by content: verified on the way in, and again each time they are read.

    cache = Cache()
    sha256 = cache.remembered(url)
    data = cache.read(sha256)         # None: not here, or no longer what it was

    objects/ab/abcd....zip   the bytes whose SHA-256 is abcd...
    index/....json           which bytes an address gave
    seen/....json            which bytes a file in a mirror folder held, at which size and time
    parsed/ab/abcd....       the candles of those bytes (`candlemark.candles.parsed`)
    partial/abcd....part     what has arrived so far of a download

Every file appears by rename, so a reader never sees half of one, and several processes may
share a cache: a lock on the content makes the second one wait and then find it there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from candlemark.errors import FetchError
from candlemark.progress import warning

ENVIRONMENT = "CANDLEMARK_CACHE"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SETTLED_NS = 2_000_000_000
"""File systems keep times in steps of up to two seconds (FAT)."""


_chosen: ContextVar[Path | None] = ContextVar("candle_cache", default=None)


@contextlib.contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Within the block candles are kept in `folder`; None changes nothing."""
    if folder is None:
        yield
        return
    token = _chosen.set(folder)
    try:
        yield
    finally:
        _chosen.reset(token)


def default_folder() -> Path:
    """The folder of an enclosing `kept_in`, `CANDLEMARK_CACHE`, or `~/.cache/candlemark`."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    named = os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "candlemark"


def sha256_of(data: bytes) -> str:
    """The SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


class Cache:
    """A folder of downloads; made when the first file comes in."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def object_path(self, sha256: str) -> Path:
        """Where the bytes with this SHA-256 are kept."""
        return self.folder / "objects" / sha256[:2] / f"{sha256}.zip"

    def partial_path(self, sha256: str) -> Path:
        """Where a download that will have this SHA-256 grows."""
        return self.folder / "partial" / f"{sha256}.part"

    def read(self, sha256: str) -> bytes | None:
        """The bytes, hashed again now; None if they are not here.

        A file that is no longer what its name says is warned of and removed.
        """
        path = self.object_path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FetchError(_explain(error, path)) from error
        if sha256_of(data) == sha256:
            return data
        warning(f"{path} was damaged on disk; it is fetched again")
        path.unlink(missing_ok=True)
        return None

    def remembered(self, url: str) -> str | None:
        """SHA-256 of what this address gave before; None if it never did."""
        try:
            entry = json.loads(self._index_path(url).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # The index only saves a question to the server: a lost or torn entry asks again.
            return None
        sha256 = entry.get("sha256") if isinstance(entry, dict) else None
        known = isinstance(sha256, str) and _SHA256.fullmatch(sha256) and entry.get("url") == url
        return sha256 if known else None

    def remember(self, url: str, sha256: str) -> None:
        """Note what this address gave."""
        text = json.dumps({"url": url, "sha256": sha256}) + "\n"
        path = self._index_path(url)
        with self.explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_by_rename(path, text.encode())

    def seen(self, path: Path, stat: os.stat_result) -> str | None:
        """SHA-256 of a file that was hashed before and has the same size and time since."""
        try:
            entry = json.loads(self._seen_path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(entry, dict) or entry.get("path") != str(path):
            return None
        sha256 = entry.get("sha256")
        same = entry.get("size") == stat.st_size and entry.get("mtime_ns") == stat.st_mtime_ns
        return sha256 if same and isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None

    def note_seen(self, path: Path, stat: os.stat_result, sha256: str) -> None:
        """Note what a file held; `stat` was taken before it was read.

        A file that changed just now is not noted: it could change again within the same tick
        of the file system's clock. Where the cache cannot be written the file is hashed again
        the next time.
        """
        if stat.st_mtime_ns > time.time_ns() - _SETTLED_NS:
            return
        entry = {
            "path": str(path),
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "sha256": sha256,
        }
        place = self._seen_path(path)
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_by_rename(place, json.dumps(entry).encode())

    def _seen_path(self, path: Path) -> Path:
        return self.folder / "seen" / f"{sha256_of(str(path).encode())[:32]}.json"

    def _index_path(self, url: str) -> Path:
        return self.folder / "index" / f"{sha256_of(url.encode())[:32]}.json"

    @contextlib.contextmanager
    def growing(self, sha256: str) -> Iterator[Path]:
        """Lock this content and give the path its download grows at."""
        import filelock

        partial = self.partial_path(sha256)
        with self.explained(partial):
            partial.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(partial.with_suffix(".lock")):
                try:
                    yield partial
                except OSError:
                    # A full disk: the part is dropped, so that nothing truncated stays.
                    partial.unlink(missing_ok=True)
                    raise

    def keep(self, partial: Path, sha256: str) -> bytes | None:
        """Move a finished download into place if its bytes are right, else drop it.

        Returns the bytes, or None where their SHA-256 differs.
        """
        data = partial.read_bytes()
        if sha256_of(data) != sha256:
            partial.unlink()
            return None
        path = self.object_path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        # No fsync: after a power cut a torn file fails its hash and is fetched again.
        partial.replace(path)
        return data

    @contextlib.contextmanager
    def explained(self, path: Path) -> Iterator[None]:
        """Turn an OSError about the cache into one clear FetchError."""
        try:
            yield
        except OSError as error:
            raise FetchError(_explain(error, path)) from error


def write_by_rename(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file of these parts that appears whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            for part in parts:
                stream.write(part)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _explain(error: OSError, path: Path) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path.parent).free
            return (
                f"the disk is full: {free:,} bytes are free at {path.parent}; nothing truncated "
                f"was kept; free some space or set {ENVIRONMENT} to a folder on another disk"
            )
        return f"the disk is full at {path.parent}; free some space or set {ENVIRONMENT}"
    return (
        f"cannot use the cache at {path}: {error.strerror or error}; "
        f"set {ENVIRONMENT} to a folder that can be written"
    )
