"""One checkpoint file: written whole or not at all, and read without running code.

    save(path, state)
    state = load(path)      # None if there is none

A checkpoint is tensors and plain Python values. It is written beside its place, flushed to
the disk and renamed, so a kill at any moment leaves the old one or the new one.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from candlemark.errors import ModelError

VERSION = 1
FILE_NAME = "checkpoint.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path` in place of what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        torch.save({"version": VERSION, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":
        # The rename itself lives in the folder, which has to reach the disk too.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, tensors on the CPU; None if there is no file.

    Raises ModelError: the file is damaged, or of another version.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, ValueError) as error:
        raise ModelError(
            f"checkpoint {path} is damaged; delete it to train from the start"
        ) from error
    version = state.pop("version", None) if isinstance(state, dict) else None
    if version != VERSION:
        age = "a newer" if isinstance(version, int) and version > VERSION else "another"
        raise ModelError(
            f"checkpoint {path} is of {age} version ({version}; this one reads {VERSION}); "
            "delete it to train from the start"
        )
    loaded: dict[str, Any] = state
    return loaded
