"""Small datasets of random walks, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from candlemark.candles.series import CandleSeries
from candlemark.config import parse
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset

SMALL: dict[str, Any] = {
    "candles": {"kind": "random_walk", "count": 400, "seed": 1},
    "window": 10,
    "label": {"name": "next_candle"},
    "style": {"kind": "jkx", "moving_averages": [], "height": 32},
}


@pytest.fixture
def make_config() -> Callable[..., DatasetConfig]:
    """A small config, with top-level keys replaced."""

    def make(**changes: Any) -> DatasetConfig:
        return parse(DatasetConfig, {**SMALL, **changes})

    return make


@pytest.fixture
def make_dataset(
    tmp_path: Path, make_config: Callable[..., DatasetConfig]
) -> Callable[..., Dataset]:
    """Build a small dataset in `tmp_path / name`."""

    def make(
        name: str = "data", *, series: list[CandleSeries] | None = None, **changes: Any
    ) -> Dataset:
        return build_dataset(make_config(**changes), tmp_path / name, candles=series)

    return make
