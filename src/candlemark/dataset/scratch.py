"""Building beside a dataset's place: whole or not at all, resumed after a kill, one at a time.

    with alone(folder):
        with appearing_whole(folder, key, keep=True) as scratch:
            ...                         # write everything into `scratch`, the manifest last

A dataset is built in a hidden folder beside its place, named after all that decides its
content, and renamed when everything is on disk. What a build leaves that was killed or
stopped by Ctrl-C is taken up by the next build of the same dataset, and removed by the next
build of another one in that place.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from candlemark.errors import DatasetError
from candlemark.progress import note, warning


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the only build of `folder`; wait where another process is building it.

    Raises DatasetError if its parent cannot be written.
    """
    import filelock

    folder = folder.absolute()
    path = folder.parent / f".{folder.name}.lock"
    lock = filelock.FileLock(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, folder)
    except OSError as error:
        raise disk_error(folder, error) from error
    try:
        yield
    finally:
        # Removed while it is held: whoever waits sees that its file is gone and makes another.
        if os.name == "posix":
            path.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: Any, path: Path, folder: Path) -> None:
    import filelock

    told = False
    while True:
        try:
            lock.acquire(timeout=-1 if told else 0)
        except filelock.Timeout:
            if not path.exists():
                path.touch()  # a place that takes no file looks like a lock that somebody holds
                continue
            note(f"{folder} is being built by another process; waiting for it")
            told = True
            continue
        if path.exists():
            return
        lock.release()


@contextmanager
def appearing_whole(
    folder: Path, key: str, *, keep: bool, is_built: Callable[[], bool]
) -> Iterator[Path]:
    """A hidden folder beside `folder` that takes its place when the block ends well.

    key: of everything that decides the content
    keep: there is something to go on from after Ctrl-C
    is_built: whether somebody put the same dataset there meanwhile, which is kept then

    Raises DatasetError for a place that holds something else, and for a disk that is full or
    cannot be written.
    """
    folder = folder.absolute()
    _refuse_occupied(folder)
    scratch = folder.parent / f".{folder.name}.building-{key}"
    try:
        _remove_leftovers(folder, scratch)
        scratch.mkdir(exist_ok=True)
        yield scratch
        if not is_built():
            if folder.is_dir():
                folder.rmdir()
            sync(scratch)
            scratch.rename(folder)
            sync(folder.parent)
    except KeyboardInterrupt:
        if keep:
            warning(f"stopped; the same command goes on from what is kept in {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise disk_error(folder, error) from error
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DatasetError(
            f"{folder} exists and is no finished dataset; remove it, or build somewhere else "
            f"with: candlemark dataset build --out {folder}-2"
        )


def _remove_leftovers(folder: Path, mine: Path) -> None:
    """Remove what stopped builds of other datasets left for this place."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.building-*"):
        if leftover != mine:
            note(f"removing {leftover.name}, left by a build of another dataset in this place")
            shutil.rmtree(leftover, ignore_errors=True)


def disk_error(folder: Path, error: OSError) -> DatasetError:
    """What went wrong on the disk, in one line."""
    # HDF5 wraps the system's error in its own text and may lose the number on the way.
    reason = " ".join(str(error).split())
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in reason
    if not full:
        return DatasetError(f"cannot write {folder}: {reason}")
    home = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(home).free / 1e6
    return DatasetError(
        f"the disk is full while writing {folder} ({free:,.0f} MB free at {home}); nothing was "
        "left behind; free some space, build elsewhere with --out, or keep no pictures with "
        "--storage none"
    )


def sync(path: Path) -> None:
    """Force a file, or a folder's list of files, to disk where the system can."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
