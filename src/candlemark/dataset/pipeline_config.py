"""Dataset configs in the shape that chart pipelines have used for years.

    data:
      symbol: BTCUSDT
      interval: 1m
      start_date: 2020-01-01
      end_date: 2023-12-31
    image:
      seq_len: 100
      resolution: {height: 500}
      storage: {format: hdf5, mode: batch, images_per_file: 1000}
    paths:
      raw_data: data/raw
      processed_data: data/processed
      models: models
      logs: logs

The pictures are `ohlc4`: `seq_len` bars of four pixels each, so the width follows. Everything
this shape does not name (label, split, stride, ...) has the defaults of `DatasetConfig`.

    pipeline = read_pipeline(values, where="old.yaml")      # None: the other shape
    values = pipeline.dataset_values()                      # of a DatasetConfig
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from candlemark.candles.dates import parse_date
from candlemark.candles.series import INTERVAL_MS
from candlemark.candles.source import SYNTHETIC
from candlemark.charts.style import ChartStyle, image_shape
from candlemark.config import Config, parse
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.storage.base import Mode, StorageConfig
from candlemark.errors import CandlemarkError, ConfigError

STYLE: Literal["ohlc4"] = "ohlc4"

FORMAT_NAMES = {"h5": "hdf5", "hdf": "hdf5", "jpg": "jpeg", "null": "none"}
"""Other names by which formats are known."""


class DataSection(Config):
    """Which candles.

    symbol: one, or a list; also "random_walk", "planted" or "planted_pair"
    start_date, end_date: dates, both of them part of the range
    """

    symbol: tuple[str, ...] = Field(min_length=1)
    interval: str = "1h"
    start_date: str | None = None
    end_date: str | None = None

    @property
    def is_synthetic(self) -> bool:
        """Whether the candles are made up."""
        return len(self.symbol) == 1 and self.symbol[0] in SYNTHETIC

    @field_validator("interval")
    @classmethod
    def _known_interval(cls, value: str) -> str:
        if value not in INTERVAL_MS:
            raise ValueError(f"unknown interval; known: {', '.join(INTERVAL_MS)}")
        return value

    @field_validator("symbol", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("start_date", "end_date", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """YAML reads 2020-01-01 as a date and 2020 as a number."""
        if isinstance(value, dt.datetime):
            return value.isoformat(sep=" ")
        if isinstance(value, dt.date):
            return value.isoformat()
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("start_date", "end_date")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            _as_value_error(lambda: parse_date(value))
        return value


class Resolution(Config):
    """Size in pixels; None is the style's own: 500, and four a bar."""

    height: int | None = None
    width: int | None = None


class StorageSection(Config):
    """Where pictures are kept, see `StorageConfig`; without a format they are drawn when read."""

    format: str = "none"
    mode: Mode | None = None
    images_per_file: int | None = Field(default=None, ge=1)

    @field_validator("format", mode="before")
    @classmethod
    def _known_name(cls, value: Any) -> Any:
        name = "none" if value is None else str(value).strip().lower().removeprefix(".")
        return FORMAT_NAMES.get(name, name)

    @field_validator("mode", mode="before")
    @classmethod
    def _in_small_letters(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        _as_value_error(lambda: parse(StorageConfig, self.values(), where="storage"))
        return self

    def values(self) -> dict[str, Any]:
        """Of a StorageConfig, without what means nothing for the format."""
        idle = {name for name, _ in self.idle()}
        return {
            name: value
            for name in ("format", "mode", "images_per_file")
            if (value := getattr(self, name)) is not None and name not in idle
        }

    def idle(self) -> list[tuple[str, str]]:
        """(key, why it says nothing) of what was given for no purpose.

        Pipelines carry `images_per_file` along whatever the mode is, and name a mode for HDF5,
        which is one file here in any mode.
        """
        names: tuple[str, ...] = ("mode", "images_per_file")
        if self.format == "none":
            why = "pictures are drawn when read, none are kept"
        elif self.format == "hdf5":
            why = "hdf5 keeps all pictures in one file"
        elif self.mode == "single" or (self.mode is None and self.format in {"png", "jpeg"}):
            names, why = ("images_per_file",), "mode single is one picture a file"
        else:
            return []
        usual = {"mode": "batch" if self.format == "hdf5" else None}
        return [(name, why) for name in names if getattr(self, name) not in {None, usual.get(name)}]


class ImageSection(Config):
    """The pictures: `seq_len` bars each, and how large and where they are kept."""

    seq_len: int = Field(default=30, ge=2, le=4096)
    resolution: Resolution = Field(default_factory=Resolution)
    storage: StorageSection = Field(default_factory=StorageSection)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        size = self.resolution
        shape = {"height": size.height, "width": size.width}
        _as_value_error(lambda: image_shape(ChartStyle(kind=STYLE), self.seq_len, **shape))
        return self


class PathsSection(Config):
    """Folders, relative to the current one.

    raw_data: downloads and what was parsed of them; None: the cache of every other command
    processed_data: gets one folder a dataset
    models: where models trained on it are kept; building a dataset writes nothing there
    logs: gets one file a build
    """

    raw_data: Path | None = None
    processed_data: Path = Path("datasets")
    models: Path = Path("models")
    logs: Path = Path("logs")

    @field_validator("raw_data", "processed_data", "models", "logs")
    @classmethod
    def _at_home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value is not None else None


class PipelineConfig(Config):
    """A whole file of this shape."""

    data: DataSection
    image: ImageSection = Field(default_factory=ImageSection)
    paths: PathsSection = Field(default_factory=PathsSection)

    def dataset_values(self) -> dict[str, Any]:
        """The values of a DatasetConfig that mean the same."""
        data, size = self.data, self.image.resolution
        if data.is_synthetic:
            candles: dict[str, Any] = {"kind": data.symbol[0], "interval": data.interval}
        else:
            candles = {
                "symbols": tuple(name.upper() for name in data.symbol),
                "interval": data.interval,
                "start": data.start_date,
                "end": data.end_date,
            }
        return {
            "candles": candles,
            "window": self.image.seq_len,
            "style": {"kind": STYLE, "height": size.height, "width": size.width},
            "storage": self.image.storage.values(),
        }

    def idle_storage(self) -> list[str]:
        """Lines on what `image.storage` says for no purpose."""
        storage = self.image.storage
        return [
            f"image.storage.{name}: {getattr(storage, name)} is not used: {why}"
            for name, why in storage.idle()
        ]

    def idle_dates(self) -> list[str]:
        """Lines on dates of candles that are made up, and begin where they begin."""
        data = self.data
        dates = {"start_date": data.start_date, "end_date": data.end_date}
        return [
            f"data.{name}: {date} is not used: {data.symbol[0]} is made up, with dates of its own"
            for name, date in dates.items()
            if data.is_synthetic and date is not None
        ]


def read_pipeline(values: Mapping[str, Any], *, where: str) -> PipelineConfig | None:
    """The config if `values` have this shape, None if they have that of `DatasetConfig`.

    Raises ConfigError: keys of both shapes stand side by side, a key is unknown, a value is
    not allowed.
    """
    ours = [key for key in values if key in PipelineConfig.model_fields]
    if not ours:
        return None
    others = [key for key in values if key in DatasetConfig.model_fields]
    if others:
        raise ConfigError(
            f"{where} mixes two shapes: {_listed(ours)} of one and {_listed(others)} of the other; "
            f"write all of it as {_listed(PipelineConfig.model_fields)}, or all of it as "
            f"{_listed(DatasetConfig.model_fields)}; flags go with both"
        )
    return parse(PipelineConfig, dict(values), where=where)


def _as_value_error(check: Callable[[], object]) -> None:
    """Pydantic collects ValueErrors, so that all problems of a file are told at once."""
    try:
        check()
    except CandlemarkError as error:
        raise ValueError(str(error)) from error


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys)
