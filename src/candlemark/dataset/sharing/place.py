"""A folder that appears whole or not at all.

    with appearing_whole(Path("shared/btc"), what="export") as scratch:
        ...                                  # write into scratch

What is written goes to a hidden folder beside the place and takes its name when the block
ends well. An error, an interrupt or a full disk leaves nothing behind; a killed process leaves
the hidden folder, which the next one with the same place removes. A place that holds anything
is refused before any work is done.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from candlemark.dataset.scratch import sync
from candlemark.dataset.storage.disk import to_disk
from candlemark.errors import DatasetError
from candlemark.progress import note


@contextmanager
def appearing_whole(out: Path, *, what: str) -> Iterator[Path]:
    """A hidden folder beside `out` that takes its place when the block ends well.

    what: the kind of work, for messages and for the name of the hidden folder

    Raises DatasetError: `out` holds something, the disk is full, the folder cannot be written.
    """
    folder = out.absolute()
    refuse_occupied(out)
    scratch = folder.parent / f".{folder.name}.{what}-{os.getpid()}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder, what)
        scratch.mkdir()
        yield scratch
        to_disk(path for path in scratch.rglob("*") if path.is_file())
        if folder.is_dir():
            folder.rmdir()
        scratch.rename(folder)
        sync(folder.parent)
    except OSError as error:
        raise _disk_error(out, what, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def refuse_occupied(out: Path) -> None:
    """DatasetError unless nothing, or an empty folder, is at `out`."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        held = "holds something already" if out.is_dir() else "is a file"
        raise DatasetError(
            f"{out} {held}, and nothing is written over; remove it, or name a folder that is not "
            f"there yet with: --out {out}-2"
        )


def _remove_leftovers(folder: Path, what: str) -> None:
    """Remove what was left by processes that are gone."""
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.{what}-*"):
        process = leftover.name.rpartition("-")[2]
        if process.isdigit() and (
            int(process) == os.getpid() or not psutil.pid_exists(int(process))
        ):
            note(f"removing {leftover.name}, left by an {what} that did not finish")
            shutil.rmtree(leftover, ignore_errors=True)


def _disk_error(out: Path, what: str, error: OSError) -> DatasetError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or out
        return DatasetError(f"cannot write the {what} to {out}: {error.strerror or error}: {place}")
    home = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(home).free / 1e6
    return DatasetError(
        f"the disk is full while writing {out} ({free:,.0f} MB free at {home}); nothing was left "
        "behind; free some space or write elsewhere with --out"
    )
