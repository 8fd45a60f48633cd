"""How a model of the Hub can be asked for masks, told by its own config before any weight is read.

    choose_protocol("nvidia/segformer-b0-finetuned-ade-512-512")
    # ("native_head", "SegformerForSemanticSegmentation gives a class a pixel")

What a checkpoint was trained to do decides, never how popular it is: a backbone has no head and
is probed, a model that compares pictures and texts is asked with texts, SAM with points. Needs no
torch, so that a benchmark is planned, and refused, at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from candlemark.errors import ModelError
from candlemark.models.files import cached_file, find_file
from candlemark.models.inference.base import Described
from candlemark.models.inference.classes import tables
from candlemark.models.inference.describe import describe
from candlemark.models.inference.known import KNOWN
from candlemark.models.segmentation.base import AskProtocol

OPEN_CLIP_CONFIG = "open_clip_config.json"

TOWERS: dict[str, Mapping[str, Any]] = {
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224": {
        "timm_model_name": "vit_base_patch16_224",
        "image_size": 224,
    }
}
"""Vision towers that open_clip published, for random weights with no network."""

HEADS: tuple[str, ...] = (
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES",
)
"""The library's tables of classes with a head that tells each pixel's class."""

POINTED: frozenset[str] = frozenset({"SamModel", "Sam2Model"})
"""Of those that are asked with points and boxes, the ones that are asked so here."""

VIDEO: frozenset[str] = frozenset({"VideomtForUniversalSegmentation"})
"""Classes in those tables that read films."""

UNLISTED: Mapping[str, str] = {
    "CLIPSegForImageSegmentation": "CLIPSegForImageSegmentation",
    "Sam2VideoModel": "Sam2Model",
}
"""Class to build by the class that a config names, where the library's tables have neither:
CLIPSeg's head draws what a text names; SAM 2 is published as a model of films."""

COMPARED: frozenset[str] = frozenset({"CLIPModel", "SiglipModel", "CLIPSegForImageSegmentation"})
"""Classes whose dense answer to a text is known here."""

_TIMED: Mapping[str, str] = {
    "object-detection": "it gives boxes, no masks",
    "image-captioning": "it gives text, no masks",
    "vision-language": "it gives text, no masks",
    "image-text-similarity": "it compares whole pictures with texts, place by place only for "
    + ", ".join(sorted(COMPARED)),
    "image-segmentation": "its masks are of instances or films, or it is asked in another way",
}
"""Why what sees, and gives no classes of pixels, is timed and not scored; by task."""


class Choice(NamedTuple):
    """protocol: how to ask; reason: one clause that says why, for a table or a message."""

    protocol: AskProtocol
    reason: str


def choose_protocol(model_id: str, *, weights: str = "pretrained") -> Choice:
    """How to ask `model_id`: a Hub id, timm name, local folder or `tiny:NAME`.

    weights: "pretrained", "random", or a path, whose config.json goes before the model's

    Raises ModelError: nobody knows the id, the Hub cannot be reached, or the model does not see.
    """
    try:
        return choose_for(describe_segmenter(model_id, weights=weights))
    except ModelError:
        published = TOWERS.get(model_id) if weights == "random" else None
        vision = published or open_clip_vision(model_id)
        if vision is None:
            raise
        return _for_open_clip(model_id, vision)


def describe_segmenter(model_id: str, *, weights: str = "pretrained") -> Described:
    """As `describe`, and classes that only a segmentation benchmark has a use for.

    Raises ModelError as `describe`.
    """
    found = _unlisted(model_id, weights)
    return found if found is not None else describe(model_id, weights=weights)


def choose_for(described: Described) -> Choice:
    """How to ask a model that is described already.

    Raises ModelError: it reads no pictures.
    """
    name, task = described.model_class, described.model_task
    if described.modality not in {"vision", "multimodal"}:
        raise ModelError(
            f"{described.id} ({name}) is for {task} and sees no pictures; give a model that does"
        )
    if name in COMPARED:
        return Choice("clip_dense", f"{name} compares places of a picture with texts")
    if described.library == "transformers" and name in POINTED:
        return Choice("sam_auto", f"{name} is asked with points; its oracles have to be named")
    if has_head(name):
        return Choice("native_head", f"{name} gives a class a pixel")
    if task in {"image-classification", "image-features"}:
        return Choice("linear_probe", f"{name} has no head for masks; what it sees is probed")
    return Choice("none", f"{name} is timed and not scored: {_TIMED[task]}")


def has_head(class_name: str) -> bool:
    """Whether a class of transformers tells each pixel's class."""
    return class_name not in VIDEO and any(
        class_name in names for table in HEADS for names in tables().get(table, {}).values()
    )


def head_class(model_type: str) -> str | None:
    """The library's class of that kind with a head for masks; None where it has none."""
    for table in HEADS:
        for name in tables().get(table, {}).get(model_type, ()):
            if has_head(name):
                return name
    return None


def with_head(described: Described) -> Described:
    """The same checkpoint as the library's class with a head for masks.

    Whether the weights hold that head is found out by loading them.

    Raises ModelError: the library has no such class of that kind.
    """
    if has_head(described.model_class):
        return described
    name = head_class(_kind(described)) if described.library == "transformers" else None
    if name is None:
        raise ModelError(
            f"{described.id} ({described.model_class}) has no trained head for masks, and "
            f"{described.library} has no class that would read one; "
            f"ask it as {choose_for(described).protocol}"
        )
    return replace(described, model_class=name, model_task="image-segmentation")


def open_clip_vision(model_id: str) -> Mapping[str, Any] | None:
    """`vision_cfg` of a repository that open_clip wrote, such as BiomedCLIP's; None for any other.

    Raises ModelError: the file is there and holds something else.
    """
    if ":" in model_id:
        return None
    try:
        path = find_file(model_id, OPEN_CLIP_CONFIG)
    except ModelError:  # `describe` has said what is wrong with the id
        return None
    if path is None:
        return None
    try:
        vision = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]["vision_cfg"]
        return {str(key): value for key, value in vision.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} is no config of open_clip ({type(error).__name__}: {error}); download it again"
        ) from error


def _for_open_clip(model_id: str, vision: Mapping[str, Any]) -> Choice:
    tower = vision.get("timm_model_name")
    if tower is None:
        raise ModelError(
            f"{model_id} was written by open_clip with a tower of its own ({vision}), which "
            "neither timm nor transformers builds; give the checkpoint that transformers reads"
        )
    return Choice(
        "linear_probe",
        f"its vision tower is timm's {tower}; its text tower is open_clip's, which is not read",
    )


def _unlisted(model_id: str, weights: str) -> Described | None:
    """A model whose class the library's tables leave out; None: any other."""
    if ":" in model_id:
        return None
    named = any(word in model_id.lower() for word in ("clipseg", "sam2"))
    needed = not (weights == "random" and model_id in KNOWN)
    path = (find_file if named and needed else cached_file)(model_id, "config.json")
    if path is None:
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name = UNLISTED.get(config["architectures"][0])
    except (OSError, ValueError, LookupError, TypeError):
        return None  # `describe` says what is wrong, if anything is
    if name is None:
        return None
    return Described(
        id=model_id,
        library="transformers",
        model_task="image-segmentation",
        model_class=name,
        weights=weights,
        config=config,
        folder=path.parent,
        on_hub=not Path(model_id).is_dir(),
    )


def _kind(described: Described) -> str:
    """The library's word for the kind of model: of its config, else of its class."""
    named = described.config.get("model_type")
    if named:
        return str(named)
    return next(
        (
            kind
            for table in tables().values()
            for kind, names in table.items()
            if described.model_class in names
        ),
        "",
    )
