"""A folder with candles drawn again, and what it says compared with that.

rebuilt = rebuild(folder, out, index, Plan(config=config, files={"BTCUSDT": csv_path}))
rebuilt.agreeing, rebuilt.found
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from candlemark.candles.series import CandleSeries, IntArray
from candlemark.candles.source import CandlesConfig, load
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing.folder_index import FolderIndex
from candlemark.dataset.sharing.picture_files import FAULTS, decode, look_at
from candlemark.dataset.storage.base import Images
from candlemark.progress import track, warning

BATCH_BYTES = 8 << 20
NAMED_PROBLEMS = 3
AUTO = "auto"
"""An interval that is told from the stamps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the pictures of a folder are drawn.

    files: CSV of candles by symbol, in the order of the dataset's symbols
    """

    config: DatasetConfig
    files: Mapping[str, Path]
    interval: str = AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What the candles say about the folder.

    found: pictures whose window the dataset has; agreeing: of those, the same to the last
    pixel; same_labels: of those, with the same label
    """

    content_hash: str
    found: int
    agreeing: int
    same_labels: int


def rebuild(folder: Path, out: Path, index: FolderIndex, plan: Plan) -> Rebuilt:
    """Build the dataset of the folder's candles at `out`, and compare the folder with it.

    Raises DatasetError: a picture cannot be read, no window is left. CandleError: the candles
    break a rule.
    """
    look = look_at(folder, index)
    series = [_read(path, symbol, plan.interval) for symbol, path in plan.files.items()]
    dataset = build_dataset(plan.config, out, candles=series)
    try:
        compared = _compare(folder, index, dataset)
    except BaseException:  # also Ctrl-C: nobody was told whether it is what the folder says
        shutil.rmtree(out, ignore_errors=True)
        raise
    if compared.agreeing < compared.found and look.shape != dataset.image_shape:
        warning(
            f"the folder's pictures are of shape {look.shape}, those drawn from its candles of "
            f"{dataset.image_shape}"
        )
    return compared


def _read(path: Path, symbol: str, interval: str) -> CandleSeries:
    config = CandlesConfig(kind="file", path=str(path), symbols=(symbol,), interval=interval)
    return load(config)[0]


def _compare(folder: Path, index: FolderIndex, dataset: Dataset) -> Rebuilt:
    """Pictures and labels of the index against those of the dataset, window by window."""
    rows = _rows_of(index, dataset)
    numbers = np.flatnonzero(rows >= 0)
    if len(numbers) < len(index):
        first = int(np.flatnonzero(rows < 0)[0])
        warning(
            f"{len(index) - len(numbers)} of {len(index)} pictures belong to no window of the "
            f"rebuilt dataset; the first is {index.image_path[first]}, {index.line(first)}"
        )
    targets = dataset.targets(rows[numbers])
    labels = [dataset.class_names[target] for target in targets.tolist()]
    other = [n for n, label in zip(numbers, labels, strict=True) if index.label[n] != label]
    differing: list[int] = []
    step = max(1, BATCH_BYTES // prod(dataset.image_shape))
    with (
        ThreadPoolExecutor(thread_name_prefix="candlemark-read") as pool,
        track("comparing", total=len(numbers), unit="images") as bar,
    ):
        for first in range(0, len(numbers), step):
            part = numbers[first : first + step]
            drawn = dataset.images(rows[part])
            paths = [folder / index.image_path[number] for number in part]
            same = pool.map(_agrees, paths, drawn)
            differing += [int(n) for n, equal in zip(part, same, strict=True) if not equal]
            bar.advance(len(part))
    _name_first(index, differing, "pictures differ from those drawn from the candles")
    _name_first(index, [int(n) for n in other], "labels differ from those of the candles")
    return Rebuilt(
        content_hash=dataset.content_hash,
        found=len(numbers),
        agreeing=len(numbers) - len(differing),
        same_labels=len(numbers) - len(other),
    )


def _rows_of(index: FolderIndex, dataset: Dataset) -> IntArray:
    """int64[N], the dataset's row of each picture, -1 for a window that it does not have."""
    rows = np.arange(len(dataset))
    places = zip(dataset.symbols(rows), dataset.window_start_ms(rows).tolist(), strict=True)
    known = {place: row for row, place in enumerate(places)}
    starts = [] if index.window_start_ms is None else index.window_start_ms.tolist()
    symbols = index.symbol or [dataset.manifest.symbols[0]] * len(index)
    found = [known.get(place, -1) for place in zip(symbols, starts, strict=True)]
    return np.array(found, dtype=np.int64)


def _agrees(path: Path, drawn: Images) -> bool:
    try:
        found = decode(path, colour=drawn.ndim == 3)
    except FAULTS:
        return False
    return found.shape == drawn.shape and bool((found == drawn).all())


def _name_first(index: FolderIndex, numbers: Sequence[int], what: str) -> None:
    if numbers:
        named = ", ".join(
            f"{index.image_path[number]} ({index.line(number)})"
            for number in numbers[:NAMED_PROBLEMS]
        )
        more = f" and {len(numbers) - NAMED_PROBLEMS} more" if len(numbers) > NAMED_PROBLEMS else ""
        warning(f"{len(numbers)} {what}: {named}{more}")
