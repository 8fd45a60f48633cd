"""Pictures that somebody else drew, with labels and splits: what an import without candles gives.

    pictures = open_pictures("datasets/theirs")
    rows = pictures.split("train")               # int64[n], in order
    pictures.images(rows[:64])                   # uint8 (64, H, W[, 3])
    ChartDataset(pictures, rows)                 # a torch dataset, for training

The folder holds `pictures.json` (written last, so its presence means complete), the index as
Parquet, and the pictures in one compressed file with checksums. Nothing is known of the candles
behind such pictures: there is no label kind, no features, no controls and nothing to audit, so
no benchmark takes them. They are for training and for scoring with one's own code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from candlemark.candles.series import IntArray
from candlemark.config import Config, parse
from candlemark.dataset.lazy import Rows, checked_rows
from candlemark.dataset.manifest import PICTURES_FILE, FileEntry, hash_file
from candlemark.dataset.splits import SPLITS
from candlemark.dataset.storage.base import (
    ImageReader,
    Images,
    StorageConfig,
    open_reader,
    open_writer,
    part_count,
)
from candlemark.errors import ConfigError, DatasetError
from candlemark.progress import track

FILE = PICTURES_FILE
INDEX = "index.parquet"
FORMAT: Literal["candlemark pictures"] = "candlemark pictures"
FORMAT_VERSION = 1
STORAGE = StorageConfig(format="hdf5")


class PicturesManifest(Config):
    """Everything about imported pictures but their data.

    source: the folder they came from
    split_by: "column" (the index said), "time" or "order" (of the index)
    purge: pictures left out at each boundary; None where the index said what is in which split
    counts: pictures by split and class
    """

    format: Literal["candlemark pictures"] = FORMAT
    format_version: int = FORMAT_VERSION
    source: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    split_by: Literal["column", "time", "order"]
    purge: int | None
    counts: dict[str, dict[str, int]]
    storage: StorageConfig
    index: FileEntry

    @property
    def sample_count(self) -> int:
        """Pictures in all splits."""
        return sum(sum(by_class.values()) for by_class in self.counts.values())


class PictureDataset:
    """Pictures, targets, class names and splits; reads as a `Dataset` does where it can.

    Rows are positions in the index, which is in the order of time where that is known.
    """

    def __init__(self, path: Path, manifest: PicturesManifest, index: pa.Table) -> None:
        self.path = path
        self.manifest = manifest
        self._index = index
        self._codes = index.column("split_code").to_numpy()
        self._targets = index.column("target").to_numpy()

    def __len__(self) -> int:
        return len(self._targets)

    def __repr__(self) -> str:
        return f"<PictureDataset {self.path} {len(self)} pictures>"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by target."""
        return self.manifest.class_names

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, 3)."""
        return self.manifest.image_shape

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that hold pictures."""
        return tuple(name for name in SPLITS if len(self.split(name)))

    def split(self, name: str) -> IntArray:
        """int64[n], rows of a split in order; ConfigError for an unknown name."""
        if name not in SPLITS:
            raise ConfigError(f"unknown split '{name}'; known: {', '.join(SPLITS)}")
        return np.flatnonzero(self._codes == SPLITS.index(name))

    def images(
        self,
        rows: Rows,
        *,
        out: Images | None = None,
        threads: int | None = None,  # noqa: ARG002 - the store chooses
    ) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3), in the order of `rows`.

        out: a C-contiguous array of that shape to fill and give back; None makes one
        threads: taken so that torch datasets and loaders can ask; the store reads as it likes
        """
        return self._store.read(self._rows(rows), out)

    def targets(self, rows: Rows) -> IntArray:
        """int64[n], class indices."""
        targets: IntArray = self._targets[self._rows(rows)]
        return targets

    def metadata(self, rows: Rows) -> dict[str, list[Any]]:
        """Columns of the index: image_path, label, split, and text, next_close, ... if known."""
        taken: dict[str, list[Any]] = (
            self._index.drop_columns(["split_code"]).take(self._rows(rows)).to_pydict()
        )
        return taken

    @cached_property
    def _store(self) -> ImageReader:
        return open_reader(
            self.manifest.storage, self.path, count=len(self), shape=self.image_shape, levels=None
        )

    def _rows(self, rows: Rows) -> IntArray:
        return checked_rows(rows, len(self))


def open_pictures(path: str | Path) -> PictureDataset:
    """Open what an import of pictures left.

    Raises DatasetError: none there, damaged, or of another version.
    """
    folder = Path(path)
    file = folder / FILE
    if not file.is_file():
        raise DatasetError(
            f"{folder} holds no {FILE}, so it holds no imported pictures; import some with: "
            f"candlemark dataset import FOLDER --out {folder}"
        )
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, str(error).splitlines()[0]) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _damaged(file, f"it does not say that it holds {FORMAT}")
    if value.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{file} has format {value.get('format_version')!r}; this candlemark reads format "
            f"{FORMAT_VERSION}: python -m pip install --upgrade candlemark, or import again"
        )
    try:
        manifest = parse(PicturesManifest, value, where=FILE)
    except ConfigError as error:
        raise _damaged(file, str(error)) from error
    index = folder / INDEX
    if not index.is_file() or hash_file(index) != manifest.index.sha256:
        raise _damaged(index, "it is not as it was written")
    return PictureDataset(folder, manifest, pq.read_table(index))


def _damaged(path: Path, reason: str) -> DatasetError:
    return DatasetError(f"{path} is damaged ({reason}); delete its folder and import it again")


def write_pictures(
    folder: Path, manifest: PicturesManifest, read: Callable[[int, int], Images]
) -> None:
    """Write the pictures and, last, the manifest; the index is there already.

    read: gives the pictures of rows first .. last - 1
    """
    count = manifest.sample_count
    writer = open_writer(
        manifest.storage, folder, count=count, shape=manifest.image_shape, levels=None
    )
    try:
        with track("importing", total=count, unit="images") as bar:
            for part in range(part_count(writer, count)):
                first = part * writer.part_rows
                last = min(first + writer.part_rows, count)
                writer.write(part, writer.encode(part, read(first, last)))
                bar.advance(last - first)
        writer.finish()
    finally:
        writer.close()
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
