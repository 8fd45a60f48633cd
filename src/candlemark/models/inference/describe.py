"""What a model is, found from its own config before anything heavy is loaded.

    described = describe("openai/whisper-tiny", weights="random")
    described.model_task        # "speech-seq2seq"
    described.model_class       # "WhisperForConditionalGeneration"

Needs no torch, so a benchmark can be planned, and refused, at once. Only a timm name outside
the catalog has to be asked of timm, which loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from candlemark.errors import ModelError
from candlemark.models.catalog import ModelSpec
from candlemark.models.inference.base import MODEL_TASKS, Modality

Library = Literal["timm", "transformers", "python"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model by name: what it does and how it is built.

    id: as it was asked for
    library: who builds it; "python" is a function of the user's
    model_task: a key of MODEL_TASKS
    model_class: transformers class, timm model name, or MODULE:FUNCTION
    weights: "pretrained", "random", or a path; what `tiny:` and `python:` can only have is
        said here whatever was asked for: "random" and "as returned"
    config_class, config: transformers config that the class is built from; "" where only
        the config.json in `folder` tells, whose content `config` is then
    folder: where config.json lies (a local folder or one of the Hub cache)
    on_hub: the id is one of the Hub, so that further files may be asked of it
    spec: of image classifiers, as the chart benchmark knows them
    """

    id: str
    library: Library
    model_task: str
    model_class: str
    weights: str
    config_class: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    on_hub: bool = False
    spec: ModelSpec | None = None

    @property
    def modality(self) -> Modality:
        """What the model reads."""
        return MODEL_TASKS[self.model_task]


def describe(model_id: str, *, weights: str = "pretrained") -> Described:
    """What `model_id` is: a Hub id, timm name, folder, `tiny:NAME` or `python:MODULE:FUNCTION`.

    Raises ModelError: nobody knows the id, or what it does is nothing that can be measured.
    """
    from candlemark.models.inference.tiny import TINY

    kind, _, name = model_id.partition(":")
    if kind == "tiny" and name in TINY:
        tiny = TINY[name]
        return Described(
            id=model_id,
            library="transformers",
            model_task=tiny.model_task,
            model_class=tiny.model_class,
            config_class=tiny.config_class,
            config=tiny.config,
            weights="random" if weights == "pretrained" else weights,
        )
    raise ModelError(f"unknown model {model_id}")
