"""What every store of pictures offers, and which stores there are.

    writer = open_writer(config, folder, count=1000, shape=(64, 60), levels=(0, 255))
    for part in range(part_count(writer, 1000)):
        if part not in writer.finished_parts():
            writer.write(part, writer.encode(part, images))    # encode in any thread
    writer.finish()
    reader = open_reader(config, folder, count=1000, shape=(64, 60), levels=(0, 255))
    reader.read(np.array([3, 1, 3]))           # uint8 (3, H, W[, 3]), in the order asked for

A store holds pictures in the order of the index and nothing else; targets, times and splits
stand in the index. Format "none" holds no pictures at all: they are drawn when asked for,
which is the default.

Two-level pictures (`levels` gives the values of paper and ink) can be stored as bits, eight
rows to a byte, see `charts.packed`. Readers give full pictures whatever the packing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from candlemark.config import Config
from candlemark.errors import ConfigError, DatasetError

Images = npt.NDArray[np.uint8]

Levels = tuple[int, int]
"""Values of paper and ink of two-level pictures."""

Encoded = list[bytes]
"""What `encode` makes of a part, as the store likes it: chunks, or the bytes of its files."""

Mode = Literal["single", "batch"]

DEFAULT_QUALITY = 95


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What a format can do.

    modes: the allowed ones, the default first
    batches: `images_per_file` may be given
    bits: two-level pictures may be packed; `packed` says whether they are unless told
    """

    modes: tuple[Mode, ...] = ()
    batches: bool = False
    bits: bool = False
    packed: bool = False
    quality: bool = False


RULES: dict[str, _Rules] = {
    "none": _Rules(),
    "hdf5": _Rules(modes=("batch",), bits=True, packed=True),
    "npz": _Rules(modes=("batch", "single"), batches=True, bits=True),
    "zarr": _Rules(modes=("batch",), batches=True, bits=True),
    "png": _Rules(modes=("single",)),
    "jpeg": _Rules(modes=("single",), quality=True),
}
"""Formats and what makes sense with them."""


class StorageConfig(Config):
    """Where pictures are kept.

    format: "none" draws them when asked for; "hdf5" keeps them in one compressed file, "npz"
        in NumPy archives, "zarr" in one sharded array, "png" and "jpeg" in one file a picture
    mode: "single" is one picture a file, "batch" many; None: what the format does by default,
        which is single for png and jpeg and batch for the others
    images_per_file: pictures of an npz file or a zarr shard; None: what the format likes
    packing: two-level pictures as bits; "auto" does so for hdf5, "bits" also for npz and zarr
    quality: of jpeg, 1 to 100; None: 95

    A combination that makes no sense is refused.
    """

    format: Literal["none", "hdf5", "npz", "zarr", "png", "jpeg"] = "none"
    mode: Mode | None = None
    images_per_file: int | None = Field(default=None, ge=1)
    packing: Literal["auto", "bits", "none"] = "auto"
    quality: int | None = Field(default=None, ge=1, le=100)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        rules = RULES[self.format]
        if self.format == "none":
            for name in ("mode", "images_per_file", "quality"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"storage 'none' keeps no pictures, so {name} {getattr(self, name)} means "
                        f"nothing; leave {name} out, or take a format of: {', '.join(STORES)}"
                    )
        elif self.mode is not None and self.mode not in rules.modes:
            allowed = [name for name, other in RULES.items() if self.mode in other.modes]
            raise ValueError(
                f"mode '{self.mode}' does not go with format '{self.format}', which is always "
                f"'{rules.modes[0]}'; formats with mode '{self.mode}': {', '.join(allowed)}"
            )
        if self.images_per_file is not None and not rules.batches:
            raise ValueError(
                f"images_per_file {self.images_per_file} does not go with format '{self.format}', "
                f"which keeps {'all pictures in one file' if rules.packed else 'one a file'}; "
                f"leave it out; formats that have it: {_formats_with('batches')}"
            )
        if self.chosen_mode == "single" and (self.images_per_file or 1) > 1:
            raise ValueError(
                f"mode 'single' is one picture a file, and images_per_file is "
                f"{self.images_per_file}; leave one of them out"
            )
        if self.packing == "bits" and not rules.bits:
            raise ValueError(
                f"packing 'bits' does not go with format '{self.format}'; take packing auto or "
                f"none, or a format of: {_formats_with('bits')}"
            )
        if self.quality is not None and not rules.quality:
            raise ValueError(
                f"quality {self.quality} does not go with format '{self.format}'; leave it out; "
                f"formats that have it: {_formats_with('quality')}"
            )
        return self

    @property
    def chosen_mode(self) -> Mode | None:
        """The mode, the format's own where none is given; None keeps no pictures."""
        modes = RULES[self.format].modes
        return self.mode or (modes[0] if modes else None)

    @property
    def chosen_quality(self) -> int:
        """Quality of jpeg pictures."""
        return DEFAULT_QUALITY if self.quality is None else self.quality

    def packs(self, levels: Levels | None) -> bool:
        """Whether pictures of these `levels` are stored as bits.

        Raises ConfigError: bits are asked for of pictures with more than two levels.
        """
        if self.packing == "bits" and levels is None:
            raise ConfigError(
                "packing 'bits' is for pictures of two levels (style ohlc4 or jkx), and these "
                "have colours; take packing auto or none, or another --style"
            )
        wanted = RULES[self.format].packed if self.packing == "auto" else self.packing == "bits"
        return wanted and levels is not None

    def identity(self) -> dict[str, Any]:
        """What sets this storage apart, the same for settings that mean the same."""
        rules = RULES[self.format]
        differing: dict[str, Any] = {"format": self.format}
        if rules.modes and self.chosen_mode != rules.modes[0]:
            differing["mode"] = self.chosen_mode
        elif self.images_per_file is not None:
            differing["images_per_file"] = self.images_per_file
        if self.packing != "auto" and (self.packing == "bits") != rules.packed:
            differing["packing"] = self.packing
        if self.chosen_quality != DEFAULT_QUALITY:
            differing["quality"] = self.chosen_quality
        return differing


class ImageReader(Protocol):
    """Gives pictures by row of the index. Must survive pickling into a worker process."""

    def read(self, rows: npt.NDArray[np.int64], out: Images | None = None) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3), rows in any order and as often as asked for.

        out: a C-contiguous, writable uint8 array of that shape, filled and returned; fresh
            memory for many pictures costs more than reading them

        Raises DatasetError naming the chunk or file that is damaged or missing.
        """


class ImageWriter(Protocol):
    """Takes pictures part by part: part k holds the rows from k * part_rows on."""

    @property
    def part_rows(self) -> int:
        """Pictures of a part: some chunks, a file, a shard; the last part may be shorter."""

    @property
    def packed(self) -> bool:
        """`encode` takes packed pictures (n, G, W) instead of (n, H, W[, 3])."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files within the dataset's folder; known after `finish`."""

    def finished_parts(self) -> frozenset[int]:
        """Parts that an earlier build left and that are proved whole; they are not sent again."""

    def encode(self, part: int, images: Images) -> Encoded:
        """Compress a part. Called from any thread, several at once; `images` is reused after."""

    def write(self, part: int, encoded: Encoded) -> int:
        """Write a part, always from the same thread; the bytes written."""

    def finish(self) -> None:
        """Make the store whole and durable, when every part is written."""

    def close(self) -> None:
        """Let go of everything, also after an error; what is on disk can be resumed."""


class _Store(Protocol):
    """What a storage module defines."""

    def open_writer(
        self,
        config: StorageConfig,
        folder: Path,
        *,
        count: int,
        shape: tuple[int, ...],
        levels: Levels | None,
    ) -> ImageWriter: ...

    def open_reader(
        self,
        config: StorageConfig,
        folder: Path,
        *,
        count: int,
        shape: tuple[int, ...],
        levels: Levels | None,
    ) -> ImageReader: ...


STORES: dict[str, str] = {
    "hdf5": "candlemark.dataset.storage.hdf5",
    "npz": "candlemark.dataset.storage.npz",
    "zarr": "candlemark.dataset.storage.zarr",
    "png": "candlemark.dataset.storage.files",
    "jpeg": "candlemark.dataset.storage.files",
}
"""Stores of pictures and the modules that know them; each is imported only when it is used."""


def _formats_with(rule: str) -> str:
    return ", ".join(name for name, rules in RULES.items() if getattr(rules, rule))


def _store(config: StorageConfig) -> _Store:
    if config.format not in STORES:
        raise DatasetError(
            f"storage '{config.format}' keeps no pictures; stores that do: {', '.join(STORES)}"
        )
    return cast("_Store", import_module(STORES[config.format]))


def open_writer(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> ImageWriter:
    """A writer of `count` pictures of `shape` into `folder`, going on from what is there.

    levels: (paper, ink) of two-level pictures, None for others
    """
    return _store(config).open_writer(config, folder, count=count, shape=shape, levels=levels)


def open_reader(
    config: StorageConfig,
    folder: Path,
    *,
    count: int,
    shape: tuple[int, ...],
    levels: Levels | None,
) -> ImageReader:
    """A reader of what a writer left in `folder`; DatasetError if it is damaged."""
    return _store(config).open_reader(config, folder, count=count, shape=shape, levels=levels)


def part_count(writer: ImageWriter, count: int) -> int:
    """Parts of `count` pictures."""
    return -(-count // writer.part_rows)
