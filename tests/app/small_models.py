"""A small fusion model of random weights in a folder, with a look and a scale of returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from candlemark.config import parse
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.moment import look_of
from candlemark.models.fusion.building import build_fusion
from candlemark.models.fusion.saving import save_fusion
from candlemark.models.fusion.spec import FusionSpec

CLASSES = ("bearish", "neutral", "bullish")
STYLE = {
    "kind": "candlestick",
    "height": 32,
    "width": 40,
    "volume": True,
    "moving_averages": [3],
}
TEXTS = (
    "10 candles. Price goes strongly up, from 8 % to 99 % of its range. 7 up, 3 down.",
    "9 of 10 candles. Price goes sideways. The high comes early, the low midway.",
    "Bodies are small, 51 % of a candle; shadows are even. Volume shrinks; the last is 0.6 times.",
    "Average of 3 rises and ends below the close. Price goes slightly down.",
)
RETURNS = {
    "mean": 0.0,
    "std": 0.01,
    "level": 0.9,
    "residual_low": -0.012,
    "residual_high": 0.011,
    "reason": None,
}


def look(**changes: Any) -> DatasetConfig:
    """How the windows of the model look, with keys of the dataset replaced."""
    return parse(DatasetConfig, {"window": 10, "style": STYLE, "max_missing": 0.2, **changes})


def make_model(
    folder: Path,
    *,
    inputs: str = "both",
    config: DatasetConfig | None = None,
    returns: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    texts: tuple[str, ...] = TEXTS,
) -> Path:
    """Save a model that was trained on nothing."""
    torch.set_num_threads(1)
    config = config or look()
    fusion = build_fusion(
        FusionSpec.model_validate(
            {
                "inputs": inputs,
                "text_encoder": "tiny:bert",
                "image_encoder": "tiny:vit",
                "weights": "random",
                "max_tokens": 128,
            }
        ),
        class_names=CLASSES,
        image_shape=config.image_shape,
        window=config.window,
        texts=texts,
        seed=0,
    )
    fusion.config.chart = {**fusion.config.chart, **look_of(config)}
    fusion.config.returns = dict(RETURNS if returns is None else returns)
    fusion.config.origin = {
        **fusion.config.origin,
        "label": "direction",
        "label_kind": "forecast",
        "interval": "1h",
        "symbols": ["TEST"],
        **(origin or {}),
    }
    return save_fusion(fusion, folder, training={})
