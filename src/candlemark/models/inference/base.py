"""One face for every model whose inference is measured, whatever it reads.

    N items (sequences, images, clips or pairs), T tokens

    raw = model.make_raw(8, 0)               # as a user has them: strings, uint8 images, waves
    inputs = model.preprocess(raw)           # {"input_ids": int64 (N, T), ...} on the CPU
    outputs = model.module(**inputs)         # {"logits": float (N, ...), ...}
    answers = model.postprocess(outputs)     # N long: labels, boxes, texts, vectors

The module takes tensors by name and returns plain tensors by name, so that it can be compiled
and exported as it stands. Each of the four steps is timed apart. This file itself loads no torch,
so that a benchmark can be planned without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from candlemark.models.catalog import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Modality = Literal["text", "vision", "speech", "multimodal"]
Library = Literal["timm", "transformers", "python"]
Tensors: TypeAlias = "dict[str, Tensor]"

MODEL_TASKS: dict[str, Modality] = {
    "text-encoder": "text",
    "text-classification": "text",
    "text-decoder": "text",
    "text-seq2seq": "text",
    "image-classification": "vision",
    "image-features": "vision",
    "object-detection": "vision",
    "image-segmentation": "vision",
    "speech-ctc": "speech",
    "speech-seq2seq": "speech",
    "speech-classification": "speech",
    "image-text-similarity": "multimodal",
    "image-captioning": "multimodal",
    "vision-language": "multimodal",
}
"""What a model does, and what it reads. A task is found in the model's own config."""

ITEMS: dict[Modality, str] = {
    "text": "sequences",
    "vision": "images",
    "speech": "clips",
    "multimodal": "pairs",
}
"""What one item of a batch is, by modality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model by name: what it does and how it is built.

    id: as it was asked for
    library: who builds it; "python" is a function of the user's
    model_task: a key of MODEL_TASKS
    model_class: transformers class, timm model name, or MODULE:FUNCTION
    weights: "pretrained", "random", or a path; what `tiny:` and `python:` can only have is
        said here whatever was asked for: "random" and "as returned"
    config_class: transformers config that the class is built from; "" where only config.json
        tells
    config: what the config class is given, or the content of config.json
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


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """How large one item is; None takes what the model was made for.

    sequence_length: tokens of a text, special tokens included
    image_size: side of a square image, px
    audio_s: seconds of a clip
    new_tokens: tokens that a generating model is asked for
    """

    sequence_length: int | None = None
    image_size: int | None = None
    audio_s: float | None = None
    new_tokens: int = 16


class Generator(Protocol):
    """A model that answers token by token, greedily and without an end token.

    The state is whatever `prefill` returns; each `step` adds one token to each sequence.
    """

    def prefill(self, inputs: Tensors) -> Any:
        """Read the prompt (and encode image or sound); the state holds the first new token."""

    def step(self, state: Any) -> Any:
        """One more token for each sequence, from the cached keys and values."""

    def tokens(self, state: Any) -> Tensor:
        """int64 (N, new tokens so far)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferenceModel:
    """A model that is ready to be measured: on the CPU, in float32, in evaluation mode.

    module: forward(**inputs: Tensor) -> dict[str, Tensor]; the first entry is the main output,
        by which precisions and backends are compared, float (N, ...)
    model_task: a key of MODEL_TASKS
    shape: what the items are, every field that this model uses filled in
    make_raw: (item count, seed) -> items as a user has them; the same for the same seed
    preprocess: those items -> tensors on the CPU, by the names that `module` takes
    postprocess: outputs on the CPU -> one answer an item
    generator: for models that write text; it shares the module's parameters, wherever they move
    facts: JSON types only: "library", "model_class", "weights" ("pretrained" | "random" | path),
        "weights_sha256", "parameters", "inputs" (one sentence: where the items come from, such
        as "the model's own tokenizer on synthetic English" or "random token ids: the model has
        no tokenizer here"), "attention" (implementation asked for), and what else was found out
    """

    module: nn.Module
    model_task: str
    shape: InputShape
    make_raw: Callable[[int, int], Any]
    preprocess: Callable[[Any], Tensors]
    postprocess: Callable[[Tensors], list[Any]]
    generator: Generator | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modality(self) -> Modality:
        """What the model reads."""
        return MODEL_TASKS[self.model_task]
