"""Shortcuts: each resolves to one complete `BenchmarkConfig`.

config = demo()
config = bench({"candles": candles, "window": 30}, models=models_of("quick_test"))
"""

from __future__ import annotations

from typing import Any

from candlemark.benchmark.config import BenchmarkConfig, MeasureConfig
from candlemark.candles.source import CandlesConfig
from candlemark.charts.style import ChartStyle
from candlemark.config import parse
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.labels import LabelConfig
from candlemark.errors import ConfigError
from candlemark.models.catalog import MODEL_SETS
from candlemark.training.config import TrainingConfig

DEMO_CANDLES = 2000
DEMO_WINDOW = 16
DEMO_STRENGTH, DEMO_DENSITY = 0.9, 0.8
DEMO_SIDE = 48
"""Pixels: three a candle, enough to see a shadow, few enough for two CPU cores."""


def models_of(model_set: str) -> tuple[str, ...]:
    """Model ids of a named set; ConfigError lists the sets."""
    if model_set not in MODEL_SETS:
        raise ConfigError(f"unknown model set '{model_set}'; known: {', '.join(MODEL_SETS)}")
    return MODEL_SETS[model_set]


def demo(seed: int = 0) -> BenchmarkConfig:
    """The main job on synthetic markets: a signal to find, nothing to find, an answer to see."""
    planted = CandlesConfig(
        kind="planted",
        count=DEMO_CANDLES,
        strength=DEMO_STRENGTH,
        density=DEMO_DENSITY,
        seed=seed,
    )
    walk = CandlesConfig(kind="random_walk", count=DEMO_CANDLES, seed=seed)
    return BenchmarkConfig(
        datasets=(
            _demo_dataset(planted, "next_candle", seed),
            _demo_dataset(walk, "next_candle", seed),
            _demo_dataset(walk, "last_candle", seed),
        ),
        models=MODEL_SETS["demo"],
        weights="random",
        training=TrainingConfig(epochs=3, batch_size=32, learning_rate=3e-3),
        measure=MeasureConfig(latency_budget_s=0.6),
        seeds=(seed,),
        device="cpu",
        isolate=False,
    )


def _demo_dataset(candles: CandlesConfig, label: str, seed: int) -> DatasetConfig:
    return DatasetConfig(
        candles=candles,
        window=DEMO_WINDOW,
        label=LabelConfig(name=label),
        style=ChartStyle(kind="candlestick", height=DEMO_SIDE, width=DEMO_SIDE),
        seed=seed,
    )


def bench(dataset: dict[str, Any], *, models: tuple[str, ...], **options: Any) -> BenchmarkConfig:
    """A benchmark of `models` on one dataset.

    dataset: fields of DatasetConfig; options: further fields of BenchmarkConfig.
    Raises ConfigError naming every field that does not fit.
    """
    return parse(
        BenchmarkConfig,
        {"datasets": (parse(DatasetConfig, dataset),), "models": models, **options},
    )
