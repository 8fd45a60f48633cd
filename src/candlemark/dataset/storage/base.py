"""What every store of pictures offers, and which stores there are.

    with open_writer(StorageConfig(format="hdf5"), folder, count=1000, shape=(64, 60)) as writer:
        writer.append(images)                  # uint8 (n, H, W[, 3]), again and again
    reader = open_reader(StorageConfig(format="hdf5"), folder)
    reader.read(np.array([3, 1, 3]))           # uint8 (3, H, W[, 3]), in the order asked for

A store holds pictures in the order of the index and nothing else; targets, times and splits
stand in the index. Format "none" holds no pictures at all: they are drawn when asked for,
which is the default.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, cast

import numpy as np
import numpy.typing as npt

from candlemark.config import Config
from candlemark.errors import DatasetError

Images = npt.NDArray[np.uint8]


class StorageConfig(Config):
    """Where pictures are kept.

    format: "none" draws them when asked for; "hdf5" keeps them in one compressed file
    """

    format: Literal["none", "hdf5"] = "none"


class ImageReader(Protocol):
    """Gives pictures by row of the index. Must survive pickling into a worker process."""

    def read(self, rows: npt.NDArray[np.int64]) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3), rows in any order and as often as asked for."""


class ImageWriter(Protocol):
    """Takes pictures in the order of the index."""

    files: tuple[str, ...]
    """Names of the files written, within the dataset's folder."""

    def append(self, images: Images) -> None:
        """Write the next pictures."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Store(Protocol):
    """What a storage module defines."""

    def open_writer(self, folder: Path, *, count: int, shape: tuple[int, ...]) -> ImageWriter: ...

    def open_reader(self, folder: Path) -> ImageReader: ...


STORES: dict[str, str] = {
    "hdf5": "candlemark.dataset.storage.hdf5",
}
"""Stores of pictures and the modules that know them; each is imported only when it is used."""


def _store(config: StorageConfig) -> _Store:
    if config.format not in STORES:
        raise DatasetError(
            f"storage '{config.format}' keeps no pictures; stores that do: {', '.join(STORES)}"
        )
    return cast("_Store", import_module(STORES[config.format]))


def open_writer(
    config: StorageConfig, folder: Path, *, count: int, shape: tuple[int, ...]
) -> ImageWriter:
    """A writer of `count` pictures of `shape` into `folder`."""
    return _store(config).open_writer(folder, count=count, shape=shape)


def open_reader(config: StorageConfig, folder: Path) -> ImageReader:
    """A reader of what a writer left in `folder`; DatasetError if it is damaged."""
    return _store(config).open_reader(folder)
