"""A repo brought here: verified by hash, resumed where it stopped, whole or not at all.

    pulled = pull("user/name", "dataset", Path("made"))
    pulled.commit, pulled.files, pulled.size_bytes

Every file is compared with the hash that the Hub names for it (the blob's SHA-1 for what git
keeps, SHA-256 for large files) before it counts as here. Until all are, they lie in a hidden
folder beside the place, `.made.pull`, which then takes the place's name. A pull that was cut
goes on from its last byte when it is repeated, at another revision too: files are kept by
what they hold.

Large files come over plain HTTP with ranges, from any Hub; Xet is not needed to read.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Event

from candlemark.dataset.storage.disk import to_disk
from candlemark.errors import HubError
from candlemark.hub.changes import KEPT, LocalFile, RemoteFile, human_bytes, local_files
from candlemark.hub.client import Hub, Kind
from candlemark.progress import Bar, note, track

WORKERS = 4
ATTEMPTS = 8
"""How often a connection may end in one file before the pull does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What is now at `folder`. `fetched_bytes` is what of it was not here yet."""

    folder: Path
    commit: str
    files: int
    size_bytes: int
    fetched_bytes: int


def pull(
    repo_id: str,
    kind: Kind,
    out: Path,
    *,
    revision: str | None = None,
    hub: Hub | None = None,
) -> Pulled:
    """Bring a revision (None: the newest of main) of a repo to the folder `out`.

    A folder that holds just these files already is left as it is; one that holds anything else
    is refused before anything is brought.

    Raises HubError: no such repo or revision, the Hub refuses, bytes differ from their hash
    twice, another pull to the same place is running, the disk is full, `out` holds something.
    """
    hub = hub or Hub()
    place = _resolved(out)
    repo_id = hub.full_id(repo_id)
    commit = hub.head(repo_id, kind, revision)
    if commit is None:
        raise hub.missing(repo_id, kind)
    remote = hub.remote_files(repo_id, kind, commit)
    files = {path: file for path, file in remote.items() if path not in KEPT}
    _check_paths(files)
    size = sum(file.size for file in files.values())
    if _occupied(place):
        _refuse_unless_same(out, files)
        return Pulled(folder=out, commit=commit, files=len(files), size_bytes=size, fetched_bytes=0)
    with _beside(place, out) as parts:
        fetched = _fetch_all(hub, repo_id, kind, commit=commit, files=files, place=parts)
        _move(parts, place)
    return Pulled(
        folder=out, commit=commit, files=len(files), size_bytes=size, fetched_bytes=fetched
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The hidden folder: `files` under their names once verified, `parts` named by hash."""

    root: Path

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def parts(self) -> Path:
        return self.root / "parts"


def _resolved(out: Path) -> Path:
    """Where `out` leads. Raises HubError: into the folder one stands in, which would be renamed."""
    try:
        place = out.resolve()
        if Path.cwd().is_relative_to(place):
            raise HubError(
                f"{out} is the folder that you are in, and a pull makes its own; name one that is "
                "not there yet with --out"
            )
    except (OSError, RuntimeError) as error:  # a loop of links
        raise HubError(f"cannot pull to {out}: {error}; name another folder with --out") from error
    return place


@contextmanager
def _beside(folder: Path, out: Path) -> Iterator[_Place]:
    """The hidden folder beside it, ours alone; it stays where the pull does not end well."""
    from filelock import FileLock, Timeout

    place = _Place(root=folder.parent / f".{folder.name}.pull")
    try:
        for needed in (place.files, place.parts):
            needed.mkdir(parents=True, exist_ok=True)
        with FileLock(place.root / "lock", timeout=0):
            yield place
            shutil.rmtree(place.root, ignore_errors=True)
    except Timeout:
        raise HubError(
            f"another pull to {out} is running; wait for it, or name another folder with --out"
        ) from None
    except OSError as error:
        raise _disk_error(out, error) from error


def _fetch_all(
    hub: Hub,
    repo_id: str,
    kind: Kind,
    *,
    commit: str,
    files: Mapping[str, RemoteFile],
    place: _Place,
) -> int:
    """Bring what is not here yet; the number of bytes that came."""
    _forget_others(place, files)
    wanted = {
        path: file for path, file in files.items() if not _is_here(place.files.joinpath(path), file)
    }
    parts = _by_content(wanted)
    have = sum(_bytes_in(place.parts / name) for name in parts)
    needed = sum(wanted[paths[0]].size for paths in parts.values()) - have
    free = shutil.disk_usage(place.root).free
    if needed > free:
        raise HubError(
            f"{human_bytes(needed)} are to come and {human_bytes(free)} are free at "
            f"{place.root.parent}; free some space, or pull elsewhere with --out"
        )
    if len(wanted) < len(files) or have:
        note(f"going on: {len(files) - len(wanted)} of {len(files)} files are here", task="hub")
    with track("downloading", total=needed, unit="bytes") as bar:
        errand = _Errand(
            hub=hub, repo_id=repo_id, kind=kind, commit=commit, place=place, bar=bar, stop=Event()
        )
        with ThreadPoolExecutor(WORKERS) as threads:
            futures = [
                threads.submit(errand.bring, paths, wanted[paths[0]], place.parts / name)
                for name, paths in parts.items()
            ]
            try:
                for future in futures:
                    future.result()
            finally:
                # The first failure ends the pull, and so does Ctrl-C: what has not begun does not
                # begin, and what has begun does not go on for as long as its file is large.
                errand.stop.set()
                threads.shutdown(cancel_futures=True)
    return needed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    """What is brought, from where to where."""

    hub: Hub
    repo_id: str
    kind: Kind
    commit: str
    place: _Place
    bar: Bar
    stop: Event

    def bring(self, paths: Sequence[str], file: RemoteFile, part: Path) -> None:
        """Bring the bytes that these paths share, verify them, put them in their places."""
        self._bring_part(paths[0], file, part)
        to_disk([part])
        *copies, last = (self.place.files / path for path in paths)
        for target in (*copies, last):
            target.parent.mkdir(parents=True, exist_ok=True)
        for target in copies:
            shutil.copyfile(part, target)
        part.replace(last)

    def _bring_part(self, path: str, file: RemoteFile, part: Path) -> None:
        for _ in range(2):
            self.hub.download(
                self.repo_id,
                self.kind,
                path,
                part,
                size=file.size,
                revision=self.commit,
                bar=self.bar,
                attempts=ATTEMPTS,
                stop=self.stop,
            )
            if LocalFile(path=part).is_same_as(file):
                return
            part.unlink()
            note(f"{path} came damaged", task="hub")
        raise HubError(
            f"{path} of the {self.kind} {self.repo_id} came twice with other bytes than its hash "
            f"{part.name} stands for, and was not kept; run the same command again, "
            "the other files are kept"
        )


def _by_content(files: Mapping[str, RemoteFile]) -> dict[str, list[str]]:
    """Paths by the hash of what they hold."""
    found: dict[str, list[str]] = {}
    for path, file in files.items():
        found.setdefault(file.sha256 or file.oid, []).append(path)
    return found


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_here(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and LocalFile(path=path).is_same_as(file)


def _forget_others(place: _Place, files: Mapping[str, RemoteFile]) -> None:
    """Remove what an earlier pull of another revision left and this one has no use for."""
    for path in sorted(place.files.rglob("*"), reverse=True):
        name = path.relative_to(place.files).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in files or not _is_here(path, files[name]):
            path.unlink()
    wanted = _by_content(files)
    for part in place.parts.iterdir():
        if part.name not in wanted:
            part.unlink()


def _move(place: _Place, folder: Path) -> None:
    """Give the finished folder its name."""
    to_disk(path for path in place.files.rglob("*") if path.is_file())
    if folder.is_dir():
        folder.rmdir()
    place.files.rename(folder)


def _occupied(out: Path) -> bool:
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def _refuse_unless_same(out: Path, files: Mapping[str, RemoteFile]) -> None:
    here = local_files(out) if out.is_dir() else {}
    if set(here) == set(files) and all(here[path].is_same_as(files[path]) for path in files):
        return
    raise HubError(
        f"{out} holds other files than the repo, and nothing is written over; remove it, or name "
        f"a folder that is not there yet with: --out {out}-2"
    )


def _check_paths(files: Mapping[str, RemoteFile]) -> None:
    """A repo must not write outside the folder, on any system."""
    for path in files:
        odd = PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor
        if odd or ".." in PureWindowsPath(path).parts:
            raise HubError(
                f"the repo holds a file named {path!r}, which leads out of its folder, so nothing "
                "was brought; do not trust this repo, and tell its owner"
            )


def _disk_error(out: Path, error: OSError) -> HubError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return HubError(
            f"the disk is full while pulling to {out}; free some space and run the same command "
            "again, what has arrived is kept"
        )
    return HubError(
        f"cannot pull to {out}: {error.strerror or error}; name another folder with --out"
    )
