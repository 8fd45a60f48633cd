"""Ready suites: each name stands for a complete config, which flags may still change.

    suite("tiny")["models"]          # two or three small models of each modality

A suite's `-tiny` variant builds small models of the same kind from config, with no download.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from candlemark.errors import ConfigError
from candlemark.models.catalog import MODEL_SETS

_QUICK: Mapping[str, Any] = {
    "weights": "random",
    "isolation": "none",
    "sequence_lengths": (32,),
    "new_tokens": 8,
    "timing": {"warmup_s": 0.3, "budget_s": 2.0, "width": 0.05},
}
"""One process for all: starting one costs more than measuring a small model. What memory the
process takes is then CONTENDED; nothing else is. A call of a millisecond feels each of the
scheduler's, so its median is asked for within 5 %; 2 % often takes a minute for each model."""

_TEXT = ("tiny:bert", "tiny:gpt2", "tiny:t5")
_VISION = ("tiny:vit", "tiny:resnet")
_SPEECH = ("tiny:wav2vec2", "tiny:whisper")
_MULTIMODAL = ("tiny:clip", "tiny:blip")

SUITES: dict[str, Mapping[str, Any]] = {
    "text": {"models": ("bert-base-uncased", "distilbert-base-uncased", "gpt2", "t5-small")},
    "vision": {
        "models": (
            "microsoft/resnet-50",
            "google/vit-base-patch16-224",
            "facebook/dinov2-small",
            "hustvl/yolos-tiny",
            "nvidia/mit-b0",
        )
    },
    "speech": {"models": ("facebook/wav2vec2-base-960h", "openai/whisper-tiny")},
    "multimodal": {
        "models": ("openai/clip-vit-base-patch32", "Salesforce/blip-image-captioning-base")
    },
    "charts": {"models": MODEL_SETS["full_benchmark"]},
    "tiny": {"models": (*_TEXT, *_VISION, *_SPEECH, *_MULTIMODAL), **_QUICK},
    "text-tiny": {"models": _TEXT, **_QUICK},
    "vision-tiny": {"models": _VISION, **_QUICK},
    "speech-tiny": {"models": _SPEECH, **_QUICK},
    "multimodal-tiny": {"models": _MULTIMODAL, **_QUICK},
    "charts-tiny": {"models": MODEL_SETS["demo"], **_QUICK},
}
"""Keys of InferenceConfig by the suite's name."""


def suite(name: str) -> dict[str, Any]:
    """The keys of a suite, to be completed and parsed; ConfigError names the nearest suite."""
    if name not in SUITES:
        near = difflib.get_close_matches(name, SUITES, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(SUITES)}"
        raise ConfigError(f"unknown suite '{name}'; {hint}")
    return dict(SUITES[name])
