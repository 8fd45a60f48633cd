"""What a push would change: exact, by the hashes that a Hub itself keeps.

    changes = plan_changes(local_files(folder), hub.remote_files("user/name", "dataset"))
    changes.added                  # ('data/train-00000-of-00001.parquet',)
    print(changes.text())          # what `--dry-run` shows

A Hub names a file that git keeps by its blob's SHA-1, and a large one by the SHA-256 of its
bytes. A local file is hashed in the way its counterpart is named, so "same" means the same
bytes, whatever the file's date, and a second push of an unchanged folder changes nothing.
Nothing here touches the network.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from candlemark.errors import HubError

KEPT = frozenset({".gitattributes"})
"""What a Hub writes into a repo itself; no push removes it."""

_NEVER = frozenset({".git", ".cache", "__pycache__", ".DS_Store"})
_CHUNK_BYTES = 1 << 20
_SHA256_SIGNS = 64
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file in a repo. `sha256` is None for one that git keeps; `oid` is its blob's SHA-1.

    A Hub that lists no LFS facts names a large file by its SHA-256 in `oid`.
    """

    size: int
    oid: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file to push: on disk, or as bytes."""

    path: Path | None = None
    content: bytes | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.content is None):
            raise HubError("a file to push has either a path or its content")

    @property
    def size(self) -> int:
        """Bytes. Raises HubError: the file cannot be read any more; so do all that read it."""
        if self.content is not None:
            return len(self.content)
        with _readable(self.path_of()):
            return self.path_of().stat().st_size

    def path_of(self) -> Path:
        """The path of a file on disk. Raises HubError: it is held in memory."""
        if self.path is None:
            raise HubError("this file is held in memory and has no path")
        return self.path

    def read(self) -> bytes:
        """All of it."""
        if self.content is not None:
            return self.content
        with _readable(self.path_of()):
            return self.path_of().read_bytes()

    def sha256(self) -> str:
        """As a Hub names large files."""
        return self._hashed(hashlib.sha256())

    def git_oid(self) -> str:
        """As git names a blob."""
        head = f"blob {self.size}\0".encode()
        return self._hashed(hashlib.sha1(head, usedforsecurity=False))

    def is_same_as(self, remote: RemoteFile) -> bool:
        """Whether the bytes are the same; a file of another size is not read."""
        if self.size != remote.size:
            return False
        name = remote.sha256 or remote.oid
        return name == (self.sha256() if len(name) == _SHA256_SIGNS else self.git_oid())

    def _hashed(self, digest: hashlib._Hash) -> str:
        if self.content is not None:
            digest.update(self.content)
            return digest.hexdigest()
        with _readable(self.path_of()), self.path_of().open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Paths in the repo, sorted, each in one of four lists.

    upload_bytes: how much there is to send, before what the Hub may have already
    diffs: unified diffs of the small text files that were compared, by path
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    upload_bytes: int = 0
    diffs: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether a push would change anything."""
        return bool(self.added or self.changed or self.removed)

    def to_dict(self) -> dict[str, object]:
        """Plain values for `--json`."""
        return {
            "added": list(self.added),
            "changed": list(self.changed),
            "removed": list(self.removed),
            "same": len(self.same),
            "upload_bytes": self.upload_bytes,
            "diffs": dict(self.diffs),
        }

    def summary(self) -> str:
        """One line: how many files would change, and how many bytes go up."""
        if not self:
            return f"nothing to change: all {len(self.same)} files are there as they are"
        return (
            f"{len(self.added)} added, {len(self.changed)} changed, {len(self.removed)} removed, "
            f"{len(self.same)} unchanged; {human_bytes(self.upload_bytes)} to send"
        )

    def text(self) -> str:
        """What a dry run shows: every file with a sign (+ ~ -), the diffs, and the summary."""
        signs = (("+", self.added), ("~", self.changed), ("-", self.removed))
        lines = [f"{sign} {path}" for sign, paths in signs for path in paths]
        lines += [diff.rstrip("\n") for _, diff in sorted(self.diffs.items())]
        return "\n".join([*lines, self.summary()])


def local_files(folder: Path, *, under: str = "") -> dict[str, LocalFile]:
    """Every file below a folder by its path in the repo, below `under` there.

    Version control, caches and hidden parts of a download are left out. A link is followed where
    it leads to a file.

    Raises HubError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise HubError(f"there is no folder {folder} to push; name the folder that holds the files")
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not _NEVER.intersection(parts):
            found[str(PurePosixPath(under, *parts))] = LocalFile(path=path)
    if not found:
        raise HubError(f"{folder} holds no file to push")
    return found


def plan_changes(
    local: Mapping[str, LocalFile],
    remote: Mapping[str, RemoteFile],
    *,
    remove: Iterable[str] = (),
    texts: Mapping[str, str] | None = None,
) -> Changes:
    """Compare what is here with what is there.

    remove: folders or files in the repo (`data/`, `old.json`) in which whatever is not pushed is
    removed; elsewhere nothing is ever removed. An empty text means the whole repo
    texts: what the Hub holds now of text files whose difference is to be shown, by path
    """
    added: list[str] = []
    changed: list[str] = []
    same: list[str] = []
    upload_bytes = 0
    for path, file in sorted(local.items()):
        there = remote.get(path)
        if there is not None and file.is_same_as(there):
            same.append(path)
            continue
        (added if there is None else changed).append(path)
        upload_bytes += file.size
    removed = sorted(
        path
        for path in remote
        if path not in local and path not in KEPT and _is_under(path, remove)
    )
    diffs = {}
    for path, before in (texts or {}).items():
        if path in changed or path in added:
            diffs[path] = text_diff(path, before, local[path].read().decode(errors="replace"))
    return Changes(
        added=tuple(added),
        changed=tuple(changed),
        removed=tuple(removed),
        same=tuple(same),
        upload_bytes=upload_bytes,
        diffs=diffs,
    )


def text_diff(path: str, before: str, after: str) -> str:
    """A unified diff with the path as its name; empty where nothing differs."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"a/{path}", f"b/{path}", lineterm=""
    )
    return "\n".join(lines)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HubError(
            f"cannot read {path}: {error.strerror or error}; put it there and run the same "
            "command again"
        ) from error


def human_bytes(count: int) -> str:
    """A size for people: `1.5 MiB`."""
    for size, unit in _SIZES:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _is_under(path: str, places: Iterable[str]) -> bool:
    return any(
        not place or path == place.rstrip("/") or path.startswith(place.rstrip("/") + "/")
        for place in places
    )
