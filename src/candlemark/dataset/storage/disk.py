"""Files that stand under their names only when they are whole, and reach the disk for good."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

from candlemark.dataset.scratch import sync

REBUILD = "delete its folder and build the dataset again"
"""What to do about a damaged store; ends its messages."""

FEW = 100
"""Files forced to disk one by one. More of them are forced by one call, with all else that the
system has not written yet: one by one, a million pictures would take an hour."""


def write_whole(path: Path, data: bytes) -> int:
    """Write a file that stands under its name only once it has all its bytes; their number."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_bytes(data)
    size = temporary.stat().st_size
    if size != len(data):
        raise OSError(f"{size} of {len(data)} bytes of {path.name} reached the disk")
    temporary.replace(path)
    return size


def to_disk(paths: Iterable[Path]) -> None:
    """Force files, and the folders that name them, to disk."""
    each = iter(paths)
    few = list(islice(each, FEW + 1))
    if len(few) > FEW and sys.platform == "linux":
        os.sync()  # it waits; elsewhere it may not
        return
    folders: set[Path] = set()
    for path in chain(few, each):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        folders.add(path.parent)
    for one in sorted(folders):
        sync(one)
