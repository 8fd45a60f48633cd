"""The vision tower of a model that was saved by open_clip, built by timm.

    found = load_tower(spec)      # BiomedCLIP; None where the source is no such model

Such a repository holds open_clip_config.json and one file with both towers in it. Only towers
that open_clip itself takes from timm are read; of text nothing is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.files import cached_file, find_file
from candlemark.models.inference.weights import weights_sha256
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.choose import TOWERS
from candlemark.models.segmentation.maps import Sight, TimmMaps

CONFIG_NAME = "open_clip_config.json"
SAFE_NAME = "open_clip_model.safetensors"
PICKLE_NAME = "open_clip_pytorch_model.bin"
PREFIX = "visual.trunk."
"""Of the tower's tensors in the file; what projects it to the text's space is not loaded."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's CLIP, which open_clip takes where its config says nothing."""


def load_tower(spec: SegmenterSpec) -> Sight | None:
    """The vision tower; None: the source is no such model.

    Raises ModelError: the tower is not one of timm's, or its weights cannot be had or lack
    tensors.
    """
    config = _config(spec)
    if config is None:
        return None
    vision, reading = config
    name = vision.get("timm_model_name")
    if not isinstance(name, str):
        raise ModelError(
            f"the vision network of {spec.source} is open_clip's own; only those that it takes "
            "from timm (timm_model_name in open_clip_config.json) are built here"
        )
    native = int(vision.get("image_size") or 224)
    side = int(spec.options.get("image_size") or native)
    file = _weights(spec)
    module = _built(spec, name, native, file)
    if side != native:
        _resize(module.network, name, native, side)
    facts = {
        "library": "timm",
        "model_class": name,
        "weights": spec.weights,
        "weights_file": file.name if file else None,
        "weights_sha256": weights_sha256(file) if file else None,
        "weights_seed": None if file else spec.seed,
        "inputs": "slices of scans",
        "tower": "vision tower of open_clip",
    }
    mean, std = reading.get("mean") or MEAN, reading.get("std") or STD
    return Sight(
        module=module,
        side=side,
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        facts=facts,
    )


def _built(spec: SegmenterSpec, name: str, side: int, file: Path | None) -> TimmMaps:
    import timm

    if not timm.is_model(name):
        raise ModelError(f"{spec.source} is built on '{name}', which timm {timm.__version__} lacks")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        network = timm.create_model(name, num_classes=0, img_size=side)
    if not hasattr(network, "forward_intermediates"):
        raise ModelError(f"timm gives no maps of {name}")
    if file is not None:
        _fill(network, file)
    return TimmMaps(network)


def _resize(network: Any, name: str, native: int, side: int) -> None:
    """Have the tower look at pictures of another side; positions are interpolated."""
    if not hasattr(network, "set_input_size"):
        raise ModelError(f"{name} sees pictures of {native} x {native} px; leave image_size out")
    network.set_input_size(img_size=(side, side))


def _config(spec: SegmenterSpec) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """(vision_cfg, preprocess_cfg); None where there is no such file."""
    folder = Path(spec.source)
    if spec.weights == "random" and not folder.is_dir() and spec.source in TOWERS:
        return TOWERS[spec.source], {}
    try:
        path = cached_file(spec.source, CONFIG_NAME) or find_file(spec.source, CONFIG_NAME)
    except ModelError:
        return None  # whoever asks tells why the source is nothing else either
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["model_cfg"]["vision_cfg"]), dict(content.get("preprocess_cfg") or {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is no config of open_clip ({type(error).__name__}: {error})"
        ) from error


def _weights(spec: SegmenterSpec) -> Path | None:
    if spec.weights == "random":
        return None
    if spec.weights != "pretrained":
        place = Path(spec.weights)
        source = str(place if place.is_dir() else place.parent)
    else:
        source = spec.source
    path = find_file(source, SAFE_NAME)
    if path is None and spec.allow_pickle:
        path = find_file(source, PICKLE_NAME)
    if path is None:
        raise ModelError(
            f"{spec.source} has no {SAFE_NAME}; its weights may be a pickle ({PICKLE_NAME}), "
            "which can run code when loaded: allow_pickle: true if you trust it, or weights: random"
        )
    return path


def _fill(network: nn.Module, file: Path) -> None:
    from timm.models import load_state_dict

    saved: dict[str, Tensor] = load_state_dict(str(file))
    trunk = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in saved.items()
        if name.startswith(PREFIX)
    }
    try:
        missing = network.load_state_dict(trunk, strict=False).missing_keys
    except RuntimeError as error:
        raise ModelError(
            f"{file} holds another tower: {str(error).splitlines()[-1].strip()}"
        ) from error
    if missing:
        raise ModelError(
            f"{file} lacks {len(missing)} tensors of the vision tower ({', '.join(missing[:3])}, "
            "...); these are weights of another model"
        )
