"""How a model is asked, from the words that people write, and what kind of thing a source is.

    protocol_of_type("segformer")               # "native_head"
    kind_of_source("nets/unet.onnx")            # "onnx"

A config's `type` is a word of its author. Each that is understood stands in one table; any other
is refused by name with the nearest known one.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Literal

from candlemark.errors import ConfigError
from candlemark.models.segmentation.base import PROTOCOLS, AskProtocol

OwnKind = Literal["python", "onnx", "torchscript", "predictions", "command"]

_HEADS = (
    *("segformer", "mask2former", "maskformer", "oneformer", "upernet", "mobilevit", "data2vec"),
    *("semantic_segmentation", "image_segmentation", "segmentation", "universal_segmentation"),
    *("semantic", "trained_head", "eomt"),
)
_BACKBONES = (
    *("backbone", "encoder", "feature_extractor", "features", "image_feature_extraction"),
    *("swin", "swinv2", "mit", "vit", "dinov2", "convnext", "resnet"),
    *("biomedclip", "vision_tower", "probe"),
)
_TEXT = ("clip", "siglip", "vision_language", "zero_shot", "text_prompt")
_PROMPTED = ("sam", "sam2", "medsam", "mask_generation", "promptable")
_TIMED = ("classification", "image_classification", "detection", "object_detection", "time_only")

_VAGUE = (
    *("foundation", "foundation_model", "pretrained", "medical", "biomedical", "medical_imaging"),
    *("transformer", "vision_transformer", "hierarchical_transformer", "cnn", "vision", "image"),
    *("multimodal", "vision_model", "vision_foundation_model", "medical_foundation_model"),
)
"""What people call models of every kind: of how to ask one of them it says nothing."""

TYPES: dict[str, AskProtocol | Literal["auto"]] = {
    **dict.fromkeys(_VAGUE, "auto"),
    **{name: name for name in PROTOCOLS if name != "own"},
    **dict.fromkeys(_HEADS, "native_head"),
    **dict.fromkeys(_BACKBONES, "linear_probe"),
    "upernet_probe": "upernet_frozen",
    **dict.fromkeys(_TEXT, "clip_dense"),
    **dict.fromkeys(_PROMPTED, "sam_auto"),
    "sam_box": "sam_oracle_box",
    "sam_point": "sam_oracle_point",
    **dict.fromkeys(_TIMED, "none"),
}
"""Protocol by what people call a model, "auto" where its own config has to tell; letters and
hyphens are read as `type_word` says."""

LEARNING: frozenset[str] = frozenset({"linear_probe", "upernet_frozen"})
"""Protocols that train a head on the training cases first."""

PROMPTED_BY_REFERENCE: frozenset[str] = frozenset({"sam_oracle_box", "sam_oracle_point"})
"""Protocols of the Hub whose prompt is taken from the reference: one row for each jitter."""

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_EXPORTED: dict[str, OwnKind] = {
    ".onnx": "onnx",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".torchscript": "torchscript",
}


def type_word(name: str) -> str:
    """`Semantic-Segmentation` as semantic_segmentation: how TYPES writes its words."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def protocol_of_type(name: str) -> AskProtocol | Literal["auto"]:
    """The protocol that a config's `type` stands for; "auto": any, so the model's config tells.

    Raises ConfigError: nobody knows the word.
    """
    found = TYPES.get(type_word(name))
    if found is not None:
        return found
    near = difflib.get_close_matches(type_word(name), TYPES, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(TYPES))}"
    raise ConfigError(f"type '{name}' is no kind of model; {hint}")


def kind_of_source(source: str) -> OwnKind:
    """What a model of the user's own is: by `{input}`, by its ending, by being a folder.

    Raises ConfigError: it is none of the five, or the file is not there.
    """
    if "{input}" in source or "{output}" in source:
        missing = [word for word in ("{input}", "{output}") if word not in source]
        if missing:
            raise ConfigError(
                f"the command '{source}' names no {missing[0]}; write where the image and the "
                "mask go, in quotes: 'mytool {input} {output}'"
            )
        return "command"
    name = source.removeprefix("python:")
    path = Path(source)
    if path.is_dir():
        return "predictions"
    if path.suffix.lower() in _EXPORTED:
        if not path.is_file():
            raise ConfigError(f"there is no model file {source}")
        return _EXPORTED[path.suffix.lower()]
    if _FUNCTION.fullmatch(name):
        return "python"
    raise ConfigError(
        f"--model '{source}' is not understood: it is no folder of predictions that exists, no "
        "package.module:function, no .onnx, .pt or .ts file, and no command in quotes with "
        "{input} and {output}"
    )
