"""Small models by name: `tiny:NAME` is built from config alone, with no download.

TINY["bert"].model_task        # "text-encoder"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A transformers model from nothing but a config.

    parameters: published count, where there is one
    """

    model_task: str
    model_class: str
    config_class: str
    config: Mapping[str, Any]
    parameters: int | None = None


TINY: dict[str, Recipe] = {
    "bert": Recipe(
        model_task="text-encoder",
        model_class="BertModel",
        config_class="BertConfig",
        config={
            "vocab_size": 1024,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 512,
        },
    ),
}
"""By the name after `tiny:`. Large enough to have every part of its kind, small enough to run
anywhere: under two million parameters each."""
