"""A small fusion model of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from candlemark.models.fusion.building import Fusion, build_fusion
from candlemark.models.fusion.spec import FusionSpec

CLASSES = ("bearish", "neutral", "bullish")
SHAPE = (32, 48)
WINDOW = 12
TEXTS = (
    "12 candles. Price goes up, from 3 % to 97 % of its range.",
    "Volume grows; the last is 1.3 times the average.",
    "Price goes sideways.",
    "No price differs.",
)

MakeFusion = Callable[..., Fusion]
MakeInputs = Callable[..., dict[str, Tensor]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_fusion() -> MakeFusion:
    """Build a model from a few pixels and words; keywords are those of the spec."""

    def make(*, shape: tuple[int, ...] = SHAPE, seed: int = 0, **spec: Any) -> Fusion:
        wanted = {"text_encoder": "tiny:bert", "image_encoder": "tiny:vit", "max_tokens": 64}
        wanted |= {"weights": "random", **spec}
        return build_fusion(
            FusionSpec.model_validate(wanted),
            class_names=CLASSES,
            image_shape=shape,
            window=WINDOW,
            texts=TEXTS,
            seed=seed,
        )

    return make


@pytest.fixture
def make_inputs() -> MakeInputs:
    """Raw inputs of `count` samples for a model; texts differ in length."""

    def make(fusion: Fusion, count: int = 4, seed: int = 0) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(seed)
        shape = (count, *fusion.config.chart["image_shape"])
        found = {
            "images": torch.randint(0, 256, shape, generator=random, dtype=torch.uint8),
            "numbers": torch.rand(count, WINDOW, 5, generator=random),
        }
        found["numbers"][:, 3] = torch.nan
        if fusion.tokenizer is not None:
            texts = [TEXTS[item % len(TEXTS)] for item in range(count)]
            read = fusion.tokenizer(texts, padding=True, return_tensors="pt")
            found |= {name: read[name] for name in ("input_ids", "attention_mask")}
        return found

    return make
