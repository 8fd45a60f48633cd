"""An opened dataset: it holds candles, index and config, and gives pictures on request.

    dataset = open_dataset("datasets/btc")
    rows = dataset.split("train")            # int64[n], in time order
    dataset.images(rows[:64])                # uint8 (64, H, W[, 3]), drawn or read from the store
    dataset.targets(rows[:64])               # int64[64]

    loaded = load_images("datasets/btc", slice(0, 100))
    loaded.images, loaded.sequences, loaded.metadata

Nothing but candles and index is held in memory. Where the dataset keeps no pictures they are
drawn, bit for bit as a store would hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from candlemark.candles.series import COLUMNS, CandleSeries, FloatArray, IntArray
from candlemark.charts.style import levels
from candlemark.dataset import index as index_file
from candlemark.dataset import manifest as manifest_file
from candlemark.dataset.columns import compact, floats, write_columns
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.drawing import Features, Mask, Painter
from candlemark.dataset.index import Index, name_codes, read_index
from candlemark.dataset.labels import Kind, Label, Reach, make_label
from candlemark.dataset.manifest import Manifest, damaged_files, read_manifest
from candlemark.dataset.splits import SPLITS
from candlemark.dataset.storage.base import ImageReader, Images, Levels, open_reader
from candlemark.errors import CandleError, ConfigError, DatasetError

CANDLES_FILE = "candles.parquet"

Rows = Sequence[int] | npt.NDArray[Any]


class Dataset:
    """Windows of candles with labels and splits; pictures and numbers on request.

    Rows are positions in the index, which is sorted by time and then by symbol. It can be
    pickled, so that loader processes can have one each.
    """

    def __init__(
        self, path: Path, manifest: Manifest, index: Index, series: Sequence[CandleSeries]
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.index = index
        self.series = tuple(series)
        self._painter = Painter(manifest.config, series)

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"<Dataset {self.path} {self.label_kind} {len(self)} windows of {self.window}>"

    @property
    def config(self) -> DatasetConfig:
        """The complete, resolved config."""
        return self.manifest.config

    @property
    def label(self) -> Label:
        """The label, ready to compute."""
        return make_label(self.config.label)

    @property
    def label_kind(self) -> Kind:
        """Recognition (the answer is visible) or forecast."""
        return self.manifest.label_kind

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by target."""
        return self.manifest.class_names

    @property
    def window(self) -> int:
        """Slots in a window."""
        return self.config.window

    @property
    def reach(self) -> Reach:
        """First and last slot that the label reads, relative to the window's first."""
        return Reach(first=self.manifest.label_first_slot, last=self.manifest.label_last_slot)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, 3)."""
        return self.manifest.image_shape

    @property
    def content_hash(self) -> str:
        """Hash of candles, index and look: equal for equal pictures, targets and splits."""
        return self.manifest.content_hash

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that hold windows."""
        return tuple(name for name in SPLITS if len(self.split(name)))

    def split(self, name: str) -> IntArray:
        """int64[n], rows of a split in time order; ConfigError for an unknown name."""
        if name not in SPLITS:
            raise ConfigError(f"unknown split '{name}'; known: {', '.join(SPLITS)}")
        return np.flatnonzero(self.index.codes == SPLITS.index(name))

    def images(
        self, rows: Rows, *, out: Images | None = None, threads: int | None = None
    ) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3), in the order of `rows`.

        out: a C-contiguous array of that shape to fill and give back; None makes one
        threads: to draw with; None takes what so many pictures are worth
        """
        wanted = self._rows(rows)
        if self._store is None:
            index = self.index
            return self._painter.draw_windows(
                index.series[wanted], index.start_slot[wanted], out=out, threads=threads
            )
        return self._store.read(wanted, out)

    def targets(self, rows: Rows) -> IntArray:
        """int64[n], class indices."""
        return self.index.target[self._rows(rows)]

    def values(self, rows: Rows) -> FloatArray:
        """float64[n], the number behind each class (a return), NaN where there is none."""
        return self.index.value[self._rows(rows)]

    def window_start_ms(self, rows: Rows) -> IntArray:
        """int64[n], UTC open time of each window's first slot."""
        return self.index.window_start_ms[self._rows(rows)]

    def symbols(self, rows: Rows) -> tuple[str, ...]:
        """The symbol of each row."""
        names = self.manifest.symbols
        return tuple(names[number] for number in self.index.series[self._rows(rows)].tolist())

    def features(self, rows: Rows) -> Features:
        """float32 (n, window, 5): the windows as numbers, scaled as the picture scales them.

        Open, high, low, close run from 0 to 1 between the lowest and the highest visible
        price, volume from 0 to 1 at the largest; NaN where a candle is missing or hidden.
        """
        return self._painter.features(self.index.take(self._rows(rows)))

    def sequences(self, rows: Rows) -> FloatArray:
        """float64 (n, window, 5): raw open, high, low, close, volume; NaN where not visible."""
        return self._painter.sequences(self.index.take(self._rows(rows)))

    def visible(self, rows: Rows) -> Mask:
        """bool[n, window], True where a candle exists and is shown."""
        return self._painter.visible(self.index.take(self._rows(rows)))

    def block_length(self, rows: Rows) -> int:
        """Samples in one bootstrap block: as many as start within window + horizon slots.

        That is the densest stretch of `rows`, so that a block never covers less time than one
        window and its label; windows farther apart than that give 1.
        """
        starts = np.sort(self.window_start_ms(rows))
        if len(starts) == 0:
            return 1
        slots = self.window + max(0, self.reach.last - (self.window - 1))
        until = np.searchsorted(starts, starts + slots * self.series[0].interval_ms)
        return int((until - np.arange(len(starts))).max())

    def metadata(self, rows: Rows) -> dict[str, list[Any]]:
        """Columns of the index for `rows`: symbol, times, split, label, target, value."""
        wanted = self._rows(rows)
        part = self.index.take(wanted)
        return {
            "symbol": list(self.symbols(wanted)),
            "window_start_ms": part.window_start_ms.tolist(),
            "window_end_ms": part.window_end_ms.tolist(),
            "split": [SPLITS[code] for code in part.codes.tolist()],
            "label": [self.class_names[target] for target in part.target.tolist()],
            "target": part.target.tolist(),
            "value": [None if np.isnan(value) else value for value in part.value.tolist()],
            "next_close": [
                None if np.isnan(price) else price for price in part.next_close.tolist()
            ],
        }

    @cached_property
    def _store(self) -> ImageReader | None:
        storage = self.config.storage
        if storage.format == "none":
            return None
        return open_reader(
            storage,
            self.path,
            count=len(self),
            shape=self.image_shape,
            levels=levels_of(self.config),
        )

    def _rows(self, rows: Rows) -> IntArray:
        return checked_rows(rows, len(self))


def checked_rows(rows: Rows, count: int) -> IntArray:
    """`rows` as int64[n]; ConfigError unless all are whole numbers from 0 to count - 1."""
    wanted = np.asarray(rows)
    if wanted.size == 0:
        return np.empty(0, dtype=np.int64)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
        raise ConfigError(
            f"rows are {wanted.dtype} of shape {wanted.shape}; they must be whole numbers, (n,)"
        )
    if wanted.min() < 0 or wanted.max() >= count:
        raise ConfigError(
            f"rows run from {wanted.min()} to {wanted.max()}; "
            f"this dataset has rows 0 to {count - 1}"
        )
    return wanted.astype(np.int64)


def levels_of(config: DatasetConfig) -> Levels | None:
    """(paper, ink) of pictures of two levels, None of those with colours."""
    return None if config.style.kind == "candlestick" else levels(config.style)


def open_dataset(path: str | Path, *, verify: bool = True) -> Dataset:
    """Open a dataset directory.

    verify: compare candles and index with their hashes; the pictures, which may be large,
        are compared by `audit` and by the store's own checksums when they are read

    Raises DatasetError: no dataset there, unfinished, damaged, or of another version.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    for name in (CANDLES_FILE, index_file.FILE):
        if name not in manifest.files:
            raise DatasetError(
                f"{folder / manifest_file.FILE} lists no {name}; delete its folder "
                "and build the dataset again"
            )
    problems = damaged_files(folder, manifest, (CANDLES_FILE, index_file.FILE)) if verify else []
    if problems:
        raise DatasetError(
            f"{folder} is damaged: {'; '.join(problems)}; delete its folder and build the "
            f"dataset again, or look closer with: candlemark dataset audit {folder}"
        )
    series = read_candles(folder / CANDLES_FILE, manifest)
    return Dataset(
        folder, manifest, read_index(folder / index_file.FILE, symbols=manifest.symbols), series
    )


def write_candles(series: Sequence[CandleSeries], path: Path) -> None:
    """Write all series to one Parquet file, symbol by symbol, each in time order."""
    names = pa.array([one.symbol for one in series])
    numbers = np.repeat(np.arange(len(series), dtype=np.int32), [len(one) for one in series])
    stamps = np.concatenate([one.open_time_ms for one in series])
    columns = {
        "symbol": pa.DictionaryArray.from_arrays(numbers, names),
        "open_time_ms": pa.array(stamps),
    }
    for name in COLUMNS:
        columns[name] = compact(np.concatenate([getattr(one, name) for one in series]))
    write_columns(columns, path)


def read_candles(path: Path, manifest: Manifest) -> list[CandleSeries]:
    """The series of a dataset, in the manifest's order."""
    try:
        table = pq.read_table(path)
        numbers = name_codes(table.column("symbol"), manifest.symbols)
        columns = {name: floats(table.column(name)) for name in COLUMNS}
        stamps = table.column("open_time_ms").to_numpy()
        return [
            CandleSeries.from_numpy(
                {name: column[rows] for name, column in columns.items()}
                | {"open_time_ms": stamps[rows]},
                symbol=symbol,
                interval=manifest.interval,
            )
            for number, symbol in enumerate(manifest.symbols)
            for rows in [numbers == number]
        ]
    except (OSError, KeyError, ValueError, pa.ArrowException, CandleError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{path} is damaged ({reason}); delete its folder and build the dataset again"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadedImages:
    """Pictures of some windows with what they were drawn from.

    images: uint8 (n, H, W) or (n, H, W, 3)
    sequences: float64 (n, window, 5), raw open, high, low, close, volume; NaN where not visible
    metadata: columns of the index by name, n long each
    """

    images: Images
    sequences: FloatArray
    metadata: dict[str, list[Any]]


def load_images(path: str | Path, indices: slice | Rows | None = None) -> LoadedImages:
    """Pictures, sequences and metadata of a dataset, whatever its storage.

    indices: rows as a slice or as numbers; None: all of them, which must fit in memory
    """
    dataset = open_dataset(path)
    everything = np.arange(len(dataset))
    if indices is None:
        rows = everything
    else:
        rows = everything[indices] if isinstance(indices, slice) else np.asarray(indices)
    return LoadedImages(
        images=dataset.images(rows),
        sequences=dataset.sequences(rows),
        metadata=dataset.metadata(rows),
    )
