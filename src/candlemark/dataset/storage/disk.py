"""Files that stand under their names only when they are whole, and reach the disk for good."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

REBUILD = "delete its folder and build the dataset again"
"""What to do about a damaged store; ends its messages."""


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
    """Force files to disk, with the folders that name them where the system can."""
    if sys.platform == "linux":
        os.sync()  # waits, and takes seconds where one fsync a picture would take an hour
        return
    for path in paths:
        with path.open("r+b") as file:
            os.fsync(file.fileno())
