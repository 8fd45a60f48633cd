"""`manifest.json`: what a dataset directory holds, with hashes, written last.

    manifest = read_manifest(Path("datasets/btc"))
    manifest.label_kind                    # "recognition" or "forecast"
    damaged_files(folder, manifest)        # [] where every byte is as it was written

Its presence means that the dataset is complete: a build that was stopped has none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from candlemark.candles.series import CandleSeries
from candlemark.config import Config, parse
from candlemark.dataset.config import DatasetConfig
from candlemark.errors import ConfigError, DatasetError
from candlemark.records import content_id

FILE = "manifest.json"
PICTURES_FILE = "pictures.json"
FORMAT: Literal["candlemark dataset"] = "candlemark dataset"
FORMAT_VERSION = 1
GAPS_LISTED = 20


class FileEntry(Config):
    """One file of the dataset."""

    size_bytes: int
    sha256: str


class GapEntry(Config):
    """A run of missing candles."""

    start_ms: int
    slot_count: int


class SeriesEntry(Config):
    """One symbol: how many candles, from when to when, and what is missing.

    largest_gaps: the longest runs of missing candles, at most 20, longest first
    """

    symbol: str
    candle_count: int
    first_open_ms: int
    last_open_ms: int
    gap_count: int
    missing_candles: int
    largest_gaps: tuple[GapEntry, ...]

    @classmethod
    def of(cls, series: CandleSeries) -> SeriesEntry:
        """What is worth knowing about a series without reading it."""
        longest = sorted(series.gaps, key=lambda gap: (-gap.slot_count, gap.start_ms))
        return cls(
            symbol=series.symbol,
            candle_count=len(series),
            first_open_ms=int(series.open_time_ms[0]),
            last_open_ms=int(series.open_time_ms[-1]),
            gap_count=len(series.gaps),
            missing_candles=sum(gap.slot_count for gap in series.gaps),
            largest_gaps=tuple(
                GapEntry(start_ms=gap.start_ms, slot_count=gap.slot_count)
                for gap in longest[:GAPS_LISTED]
            ),
        )


class Manifest(Config):
    """Everything about a dataset but its data.

    config: complete and resolved, so that the same dataset can be built again
    config_hash: of the config and, for candles handed in, of the candles
    candles_given: the candles were handed in, and are not those that the config names
    content_hash: of candles, index and look; the same whatever the storage
    label_first_slot, label_last_slot: the label's reach, relative to the window's first slot
    counts: windows by split and class
    boundaries_ms: first open time and end of each split; empty for random
    dropped: windows left out, by reason
    files: every file of the dataset but this one
    """

    format: Literal["candlemark dataset"] = FORMAT
    format_version: int = FORMAT_VERSION
    candlemark_version: str
    created_at: str
    config: DatasetConfig
    config_hash: str
    candles_given: bool
    content_hash: str
    interval: str
    label_kind: Literal["recognition", "forecast"]
    label_first_slot: int
    label_last_slot: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    counts: dict[str, dict[str, int]]
    boundaries_ms: dict[str, tuple[int, int]]
    dropped: dict[str, int]
    series: tuple[SeriesEntry, ...]
    files: dict[str, FileEntry]

    @property
    def sample_count(self) -> int:
        """Windows in all splits."""
        return sum(sum(by_class.values()) for by_class in self.counts.values())

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols, in the order that the index counts them."""
        return tuple(entry.symbol for entry in self.series)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write and sync the manifest; call it when everything else is on disk."""
    path = folder / FILE
    with path.open("w", encoding="utf-8") as file:
        json.dump(manifest.model_dump(mode="json"), file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the dataset in `folder`.

    Raises DatasetError, each with its own sentence: no folder, no manifest (unfinished),
    damaged, older, newer.
    """
    path = folder / FILE
    if not folder.is_dir():
        raise DatasetError(
            f"no dataset at {folder}; build one with: candlemark dataset build --out {folder}"
        )
    if not path.is_file() and (folder / PICTURES_FILE).is_file():
        raise DatasetError(
            f"{folder} holds pictures that were imported without candles, so nothing about them "
            "can be audited or drawn; open them in Python with open_pictures of "
            "candlemark.dataset.sharing.pictures"
        )
    if not path.is_file():
        raise DatasetError(
            f"{folder} holds no {FILE}, so it is no dataset or its build never finished; "
            f"build it again with: candlemark dataset build --out {folder}"
        )
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _damaged(path, f"it does not say that it is a {FORMAT}")
    _check_version(path, value.get("format_version"))
    try:
        return parse(Manifest, value, where=str(path))
    except ConfigError as error:
        raise _damaged(path, str(error)) from error


def _check_version(path: Path, version: Any) -> None:
    if not isinstance(version, int):
        raise _damaged(path, f"format_version is {version!r}, not a whole number")
    if version > FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format {version}, written by a newer candlemark; this one reads format "
            f"{FORMAT_VERSION}: python -m pip install --upgrade candlemark"
        )
    if version < FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format {version}, written by an older candlemark; this one reads format "
            f"{FORMAT_VERSION}: build the dataset again from the config that the file holds"
        )


def _damaged(path: Path, reason: str) -> DatasetError:
    return DatasetError(
        f"{path} is damaged ({reason}); delete its folder and build the dataset again"
    )


def describe_files(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Size and SHA-256 of each file."""
    return {
        name: FileEntry(size_bytes=(folder / name).stat().st_size, sha256=hash_file(folder / name))
        for name in names
    }


def damaged_files(
    folder: Path, manifest: Manifest, names: Iterable[str] | None = None
) -> list[str]:
    """One sentence for each file that is missing or differs from the manifest."""
    found = []
    for name in manifest.files if names is None else names:
        entry, path = manifest.files[name], folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != entry.size_bytes:
            found.append(
                f"{name} has {path.stat().st_size} bytes, the manifest says {entry.size_bytes}"
            )
        elif (seen := hash_file(path)) != entry.sha256:
            found.append(
                f"{name} has SHA-256 {seen[:12]}..., the manifest says {entry.sha256[:12]}..."
            )
    return found


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_arrays(arrays: Sequence[npt.NDArray[Any]]) -> str:
    """SHA-256 over type, shape and bytes of some arrays, in hex."""
    digest = hashlib.sha256()
    for array in arrays:
        whole = np.ascontiguousarray(array)
        digest.update(f"{whole.dtype.str}{whole.shape}".encode())
        digest.update(whole.data)
    return digest.hexdigest()


def hash_candles(series: Sequence[CandleSeries]) -> str:
    """SHA-256 over symbols, intervals and columns of some series, in hex."""
    return content_id(
        [[one.symbol, one.interval, hash_arrays(list(one.to_numpy().values()))] for one in series]
    )
