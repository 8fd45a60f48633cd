"""Datasets of the `datasets` library: the one file that imports it.

    splits = to_dataset_dict(dataset)                # datasets.DatasetDict, ready to train on
    write(dataset, folder, ExportOptions())          # Parquet that load_dataset(folder) opens

Fields, as the field's image-and-text datasets have them:

    image       datasets.Image, PNG
    text        string, the caption
    label       ClassLabel with the names of the classes
    next_close  float64, null where unknown
    image_path  string

The folder is laid out as the Hub wants it: `data/train-00000-of-00002.parquet` beside a
`README.md` whose front matter names the splits. Nothing here talks to the Hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from candlemark.dataset.captions import check_style
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing.card import describe, write_description
from candlemark.dataset.sharing.options import ExportOptions
from candlemark.dataset.sharing.samples import Samples, samples
from candlemark.errors import CandlemarkError, MissingExtraError
from candlemark.progress import Bar, track
from candlemark.records import content_id

if TYPE_CHECKING:
    import datasets

GROUP_ROWS = 1000
GROUP_BYTES = 32 << 20
"""A row group, what a reader must load to show one sample of it, holds at most as many samples
and not many more bytes of pictures."""


def to_dataset_dict(
    dataset: Dataset, *, caption: str = "window", cache_dir: str | Path | None = None
) -> datasets.DatasetDict:
    """The splits of a dataset that hold windows, by name, as a `datasets.DatasetDict`.

    caption: a style of `captions`
    cache_dir: where the library keeps its Arrow files; None: its own cache

    Pictures are written to the cache as PNG once, batch by batch in bounded memory; the same
    dataset with the same captions is found there again.

    Raises MissingExtraError: `datasets` is not installed. ConfigError: no such caption style.
    """
    library = _library()
    check_style(caption)
    found = {}
    with (
        _quiet(library),
        _own_errors(library),
        track("writing", total=len(dataset), unit="samples") as bar,
    ):
        for split in dataset.split_names:
            key = _fingerprint(dataset, caption, split)
            found[split] = library.Dataset.from_generator(
                _examples,
                features=_features(library, dataset.class_names),
                cache_dir=None if cache_dir is None else str(cache_dir),
                gen_kwargs={"dataset": dataset, "split": split, "caption": caption, "bar": bar},
                split=library.NamedSplit(split),
                fingerprint=key,
            )
    return library.DatasetDict(found)


def write(dataset: Dataset, folder: Path, options: ExportOptions) -> None:
    """Write Parquet shards of at most about `options.shard_bytes`, and the card.

    Raises MissingExtraError: `datasets` is not installed. OSError: the disk is full.
    """
    schema = _features(_library(), dataset.class_names).arrow_schema
    data = folder / "data"
    data.mkdir()
    with track("exporting", total=len(dataset), unit="samples") as bar:
        for split in dataset.split_names:
            with _Shards(data, split, schema, options.shard_bytes) as shards:
                for batch in samples(dataset, split, caption=options.caption, bar=bar):
                    shards.write(batch)
    description = describe(dataset, caption=options.caption, form="datasets")
    write_description(description, folder, front_matter=_front_matter(dataset))


class _Shards:
    """Parquet files of one split, numbered when their number is known."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, limit: int) -> None:
        self._folder = folder
        self._split = split
        self._schema = schema
        self._limit = limit
        self._count = 0
        self._shard_bytes = 0
        self._group: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._group_bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._end_group()
        self._end_shard()
        if kind is None:
            for number in range(self._count):
                name = f"{self._split}-{number:05d}-of-{self._count:05d}.parquet"
                self._part(number).rename(self._folder / name)

    def write(self, batch: Samples) -> None:
        """Write some samples, beginning a new shard when the current one is full."""
        columns = _columns(batch)
        for number, png in enumerate(batch.png):
            if self._shard_bytes and self._shard_bytes + len(png) > self._limit:
                self._end_group()
                self._end_shard()
            for name, values in self._group.items():
                values.append(columns[name][number])
            self._shard_bytes += len(png)
            self._group_bytes += len(png)
            full = len(self._group["image"]) >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES
            if full:
                self._end_group()

    def _end_group(self) -> None:
        if not self._group["image"]:
            return
        if self._writer is None:
            path = self._part(self._count)
            self._writer = pq.ParquetWriter(
                path, self._schema, compression="zstd", write_page_index=True
            )
            self._count += 1
        self._writer.write_table(pa.Table.from_pydict(self._group, schema=self._schema))
        self._group = {name: [] for name in self._group}
        self._group_bytes = 0

    def _end_shard(self) -> None:
        self._shard_bytes = 0
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def _part(self, number: int) -> Path:
        return self._folder / f".{self._split}-{number}.partial"


def _fingerprint(dataset: Dataset, caption: str, split: str) -> str:
    """Hash of all that decides the samples.

    A later candlemark may describe a picture in other words, and a lossy store gives other
    pixels than an exact one.
    """
    storage = dataset.config.storage.model_dump(mode="json")
    return content_id([version("candlemark"), dataset.content_hash, storage, caption, split])


def _columns(batch: Samples) -> dict[str, Any]:
    pictures = [
        {"bytes": png, "path": path.rpartition("/")[2]}
        for png, path in zip(batch.png, batch.image_path, strict=True)
    ]
    return {
        "image": pictures,
        "text": batch.text,
        "label": batch.target,
        "next_close": batch.next_close,
        "image_path": batch.image_path,
    }


def _features(library: ModuleType, class_names: tuple[str, ...]) -> Any:
    return library.Features(
        {
            "image": library.Image(),
            "text": library.Value("string"),
            "label": library.ClassLabel(names=list(class_names)),
            "next_close": library.Value("float64"),
            "image_path": library.Value("string"),
        }
    )


def _examples(*, dataset: Dataset, split: str, caption: str, bar: Bar) -> Iterator[dict[str, Any]]:
    for batch in samples(dataset, split, caption=caption, bar=bar):
        columns = _columns(batch)
        for row in zip(*columns.values(), strict=True):
            yield dict(zip(columns, row, strict=True))


def _front_matter(dataset: Dataset) -> str:
    lines = ["configs:", "- config_name: default", "  data_files:"]
    for split in dataset.split_names:
        lines += [f"  - split: {split}", f"    path: data/{split}-*"]
    return "\n".join([*lines, "task_categories:", "- image-classification"]) + "\n"


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "share") from error
    library: ModuleType = datasets
    return library


@contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """The library's own bars off: progress is reported by candlemark's."""
    if library.are_progress_bars_disabled():
        yield
        return
    library.disable_progress_bars()
    try:
        yield
    finally:
        library.enable_progress_bars()


@contextmanager
def _own_errors(library: ModuleType) -> Iterator[None]:
    """What went wrong while a sample was made, without the library's wrapping."""
    try:
        yield
    except library.exceptions.DatasetGenerationError as error:
        cause = error.__cause__
        if isinstance(cause, CandlemarkError | OSError):
            raise cause from None
        raise
