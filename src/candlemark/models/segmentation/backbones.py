"""A frozen network as maps of features: whatever timm or transformers calls a vision model.

    n pictures, S x S pixels as the network sees them, C_i channels and h_i x w_i places of map i

    backbone = load_backbone(spec)
    pixels = backbone.prepare(pictures)            # uint8 (n, Y, X, 3) -> float32 (n, 3, S, S)
    maps = backbone.module(pixels)                 # {"map0": (n, C_0, h_0, w_0), ...}, finest first

Which maps those are stands in `maps`. Weights are loaded whole or refused; code from the Hub is
never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from candlemark.errors import CandlemarkError, ModelError
from candlemark.models.building import first_line, quiet
from candlemark.models.inference.base import Described, InputShape
from candlemark.models.inference.classes import tables
from candlemark.models.inference.networks import (
    Network,
    build_config,
    build_network,
    network_facts,
)
from candlemark.models.inference.pictures import Reader, choose_side, config_side, find_reader
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.vision import build_sight
from candlemark.models.inference.weights import weights_path
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.choose import describe_segmenter
from candlemark.models.segmentation.maps import Sight, TimmMaps, TransformersMaps, evenly
from candlemark.models.segmentation.open_clip import load_tower

FRAME = "stretched to a square"

SEEING = frozenset(
    {
        "image-classification",
        "image-features",
        "image-segmentation",
        "image-text-similarity",
        "object-detection",
    }
)
"""Tasks of models that have a network which looks at pictures."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backbone:
    """A network that turns pictures into maps, and how it is fed.

    module: float32 (n, 3, S, S) -> {"map0": (n, C_0, h_0, w_0), ...}; frozen, in evaluation
        mode, on the CPU: whoever uses it moves it
    side: S; pictures are resized to it whatever their own sides are
    mean, std: of pixels in 0..1; flipped: the network takes blue first
    channels: C_i; strides: pixels of S that a place stands for
    facts: JSON types only
    """

    module: nn.Module
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: tuple[int, ...]
    strides: tuple[float, ...]
    flipped: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, pictures: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
        """uint8 (n, Y, X, 3) -> float32 (n, 3, S, S) on `device`, resized and normalised.

        Resized bilinearly, with antialiasing where it gets smaller, as image processors do.
        """
        # A file that is mapped into memory gives slices that nobody may write to.
        pictures = np.require(pictures, requirements=["C", "W"])
        pixels = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
        if self.flipped:
            pixels = pixels.flip(1)
        size = (self.side, self.side)
        if tuple(pixels.shape[-2:]) != size:
            pixels = interpolate(
                pixels, size=size, mode="bilinear", align_corners=False, antialias=True
            )
        mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=device).view(1, -1, 1, 1)
        return (pixels - mean) / std


def load_backbone(spec: SegmenterSpec) -> Backbone:
    """The vision network of `spec.source`, frozen, with the weights that `spec.weights` says.

    spec.options["image_size"]: S; by default what the network was made for
    spec.seed: of random weights

    Raises ModelError: nobody knows the source, it does not look at pictures, its weights cannot
    be had or lack tensors, or its layers are no maps of the picture.
    """
    side = spec.options.get("image_size")
    try:
        described = describe_segmenter(spec.source, weights=spec.weights)
    except ModelError:
        tower = load_tower(spec)
        if tower is None:
            raise
        return _finished(tower, spec)
    if described.model_task not in SEEING:
        raise ModelError(
            f"{spec.source} is a model for {described.model_task}: it has no vision network that "
            f"a head could be put on; protocol {spec.protocol} takes one of {sorted(SEEING)}"
        )
    request = LoadRequest(
        described=described,
        file=weights_path(described, allow_pickle=spec.allow_pickle),
        shape=InputShape(image_size=side),
        seed=spec.seed,
        allow_pickle=spec.allow_pickle,
    )
    build = _from_timm if described.library == "timm" else _from_transformers
    with torch.random.fork_rng(devices=[]), quiet():
        try:
            return _finished(build(request), spec)
        except (CandlemarkError, MemoryError):
            raise
        except Exception as error:  # each library refuses configs and weights in its own way
            raise ModelError(
                f"cannot build the vision network of {spec.source} from "
                f"{request.file or 'random weights'}: {type(error).__name__}: {first_line(error)}"
            ) from error


def _from_timm(request: LoadRequest) -> Sight:
    # With its head, because timm loads a checkpoint strictly only with its own class count.
    built = build_sight(request)
    network: Any = built.network.module
    facts = network_facts(request, built.network, inputs="slices of scans")
    if not hasattr(network, "forward_intermediates"):
        raise ModelError(f"timm gives no maps of {request.described.model_class}")
    if hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
    return _sight(TimmMaps(network), built.reader, facts)


def _from_transformers(request: LoadRequest) -> Sight:
    whole = build_config(request)
    decoded = _is_decoder(whole)
    config = whole.backbone_config if decoded else getattr(whole, "vision_config", None) or whole
    asked, (name, request) = request, _map_class(request, config)
    patch = getattr(config, "patch_size", None)
    patch = patch if isinstance(patch, int) else 1
    side, native = _whole_patches(request, choose_side(request, whole), patch), config_side(whole)
    if request.file is None and native is not None:
        config.image_size = side
    staged = name.endswith("Backbone")
    if decoded:
        network = _below(build_network(asked, config=whole, optional=_DECODERS))
    else:
        if staged:
            config.out_features = evenly(list(config.stage_names)[1:])
        network = build_network(request, model_class=name, config=config, optional=_OPTIONAL)
    options: dict[str, Any] = {} if staged else {"output_hidden_states": True}
    if request.file is not None and native not in (None, side):
        options |= _interpolation(network.module, native, side)
    module = TransformersMaps(network.module, options, patch if patch > 1 else None)
    facts = network_facts(request, network, inputs="slices of scans")
    return _sight(module, find_reader(request, whole, side=side), facts)


def _whole_patches(request: LoadRequest, side: int, patch: int) -> int:
    """The side that patches fill: SigLIP's 27 of 14 px are 378 of its 384.

    With a rest that no patch sees, every place of a map would lie a little off.

    Raises ModelError: a side was asked for that they do not fill.
    """
    rest = side % patch
    if rest and request.shape.image_size is not None:
        fitting = " or ".join(str(one) for one in (side - rest, side - rest + patch) if one)
        raise ModelError(
            f"image_size = {side}; {request.described.id} sees patches of {patch} px, which do not "
            f"fill it: ask for {fitting}"
        )
    return side - rest


_OPTIONAL = ("pooler.", "vision_model.head.", "hidden_states_norms.", "layernorm.", "mask_token")
"""Tensors that no map depends on, or norms that only centre what a head is given."""


_DECODERS = ("decode_head.", "auxiliary_head.")
"""Tensors of what stands on a backbone that was saved with it."""


def _is_decoder(config: Any) -> bool:
    """Whether it is a decoder on a backbone (UperNet), which the library has only as a whole."""
    known = tables().get("MODEL_MAPPING_NAMES", {})
    return getattr(config, "backbone_config", None) is not None and config.model_type not in known


def _below(whole: Network) -> Network:
    """The backbone of a decoder; all of its own weights were there."""
    decoder: Any = whole.module
    return replace(whole, module=decoder.backbone, new=())


def _map_class(request: LoadRequest, config: Any) -> tuple[str, LoadRequest]:
    """The library's class that gives maps, by the kind of network; backbones before models.

    A network in windows (Swin) gives its maps before they are halved only as a backbone.
    """
    kind = str(config.model_type)
    staged = tables().get("MODEL_FOR_BACKBONE_MAPPING_NAMES", {}).get(kind)
    plain = tables().get("MODEL_MAPPING_NAMES", {}).get(kind)
    names = staged or plain
    if not names:
        raise ModelError(f"{request.described.id} is of type {kind}, which has no vision network")
    described: Described = replace(request.described, model_class=names[0])
    return names[0], replace(request, described=described)


def _interpolation(network: nn.Module, native: int | None, side: int) -> dict[str, Any]:
    import inspect

    if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
        return {"interpolate_pos_encoding": True}
    if any("position_embeddings" in name for name, _ in network.named_parameters()):
        raise ModelError(
            f"{type(network).__name__} sees pictures of {native} x {native} px only, and "
            f"image_size = {side}; leave image_size out"
        )
    return {}


def _sight(module: nn.Module, reader: Reader, facts: Mapping[str, Any]) -> Sight:
    """Mean and deviation that a reader takes pixels by, asked of it with black, white and red.

    Every processor scales and shifts, and one takes blue first; their settings have a dozen
    names. Where a processor cuts or pads, the middle is what it leaves.
    """
    middle = reader.side // 2

    def asked(*colour: int) -> Tensor:
        picture = np.full((1, reader.side, reader.side, 3), colour, np.uint8)
        return reader.read(picture)[0, :, middle, middle]

    low, high, red = asked(0, 0, 0), asked(255, 255, 255), asked(255, 0, 0)
    std = 1 / (high - low)
    flipped = bool(((red - low) * std)[0] < 0.5)
    return Sight(
        module=module,
        side=reader.side,
        mean=tuple((-low * std).tolist()),
        std=tuple(std.tolist()),
        facts=facts,
        flipped=flipped,
    )


def _finished(sight: Sight, spec: SegmenterSpec) -> Backbone:
    """Look at one picture, so that what is no map is found out now."""
    module = sight.module.eval().requires_grad_(requires_grad=False)
    side = sight.side
    with torch.no_grad():
        maps = module(torch.zeros(1, len(sight.mean), side, side))
    strides = tuple(side / one.shape[-1] for one in maps.values())
    channels = tuple(int(one.shape[1]) for one in maps.values())
    return Backbone(
        module=module,
        side=side,
        mean=sight.mean,
        std=sight.std,
        channels=channels,
        strides=strides,
        flipped=sight.flipped,
        facts={
            **sight.facts,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "source": Path(spec.source).name if Path(spec.source).is_dir() else spec.source,
            "image_size": side,
            "frame": FRAME,
            "map_channels": list(channels),
            "map_strides": list(strides),
        },
    )
