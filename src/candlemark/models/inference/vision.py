"""Models that see: classification, features, detection and segmentation, of timm or transformers.

    N pictures, S x S pixels as the model sees them, C classes, Q boxes, F features

    model = build_image_classification(request)
    pictures = model.make_raw(8, 0)                # uint8 (8, R, R, 3), R = 3/2 S
    inputs = model.preprocess(pictures)            # {"pixel_values": float32 (8, 3, S, S)}
    model.module(**inputs)                         # {"logits": float32 (8, C)}

Convolutional networks get their pictures in channels-last memory, as the chart benchmark gives
them. Random weights of a model that has a fixed size are made for the size that is asked for;
trained ones are interpolated where the library can, and refused where it cannot.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.building import first_line
from candlemark.models.catalog import HALF, ModelSpec, family_of
from candlemark.models.inference.answers import (
    best_labels,
    boxes,
    object_masks,
    pixel_classes,
    vectors,
)
from candlemark.models.inference.base import InferenceModel, InputShape, Tensors
from candlemark.models.inference.networks import (
    Network,
    build_config,
    build_network,
    network_facts,
)
from candlemark.models.inference.pictures import (
    Images,
    Reader,
    choose_side,
    config_side,
    find_reader,
    make_pictures,
    plain_reader,
    raw_side,
    set_config_side,
    timm_reader,
)
from candlemark.models.inference.request import LoadRequest

IMAGENET_CLASSES = 1000
"""Classes of the catalog's models as they were published."""

LIBRARY_ERRORS = (ValueError, TypeError, RuntimeError, AssertionError, KeyError, OSError)
"""What the libraries raise where a model and its input or weights do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """A network that sees, and how it is fed.

    config: of transformers; None for timm
    options: keyword arguments of every forward call
    """

    network: Network
    config: Any
    reader: Reader
    options: Mapping[str, Any]
    channels_last: bool

    @property
    def side(self) -> int:
        """S."""
        return self.reader.side


class PictureNet(nn.Module):
    """A library's network as pictures in, plain tensors by name out.

    outputs: attributes of the library's output; the first is the main one
    """

    def __init__(
        self, network: nn.Module, outputs: tuple[str, ...], options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs
        self.options = dict(options)

    def forward(self, pixel_values: Tensor) -> Tensors:
        """(N, 3, S, S) -> tensors by name."""
        made = self.network(pixel_values, **self.options)
        if isinstance(made, Tensor):
            return {self.outputs[0]: made}
        return {name: getattr(made, name) for name in self.outputs}


class FeatureNet(nn.Module):
    """A network without its head: one vector a picture.

    pooled: the library pools the places itself; else the class token is taken
    """

    def __init__(self, network: nn.Module, options: Mapping[str, Any], *, pooled: bool) -> None:
        super().__init__()
        self.network = network
        self.options = dict(options)
        self.pooled = pooled

    def forward(self, pixel_values: Tensor) -> Tensors:
        """(N, 3, S, S) -> {"features": (N, F)}."""
        made = self.network(pixel_values, **self.options)
        if isinstance(made, Tensor):
            return {"features": made}
        vectors = made.pooler_output if self.pooled else made.last_hidden_state[:, 0]
        return {"features": vectors.flatten(1)}


class SegmentNet(PictureNet):
    """A segmenter whose library gives classes by pixel, or masks and classes by query."""

    def __init__(self, network: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__(network, ("logits",), options)

    def forward(self, pixel_values: Tensor) -> Tensors:
        """(N, 3, S, S) -> logits (N, C, h, w), or of masks (N, Q, h, w) and classes (N, Q, C+1)."""
        made = self.network(pixel_values, **self.options)
        if "masks_queries_logits" in made:
            return {
                "masks_queries_logits": made.masks_queries_logits,
                "class_queries_logits": made.class_queries_logits,
            }
        return {"logits": made.logits}


class PointNet(nn.Module):
    """A segmenter that is asked with a point on the object (SAM and its kin)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor, input_points: Tensor) -> Tensors:
        """(N, 3, S, S) and points (N, 1, 1, 2) as x, y in px of S -> masks and their scores."""
        made = self.network(pixel_values=pixel_values, input_points=input_points)
        return {"pred_masks": made.pred_masks, "iou_scores": made.iou_scores}


def build_image_classification(request: LoadRequest) -> InferenceModel:
    """One label a picture; the answer is the five best with their probabilities."""
    sight = build_sight(request)
    names = getattr(sight.config, "id2label", None)
    return _model(
        request,
        sight,
        PictureNet(sight.network.module, ("logits",), sight.options),
        partial(best_labels, names=dict(names) if names else {}),
    )


def build_image_features(request: LoadRequest) -> InferenceModel:
    """One vector a picture: what the library pools, or the class token where nothing is."""
    sight = build_sight(request, head=False)
    module: Any = sight.network.module
    # A pooler that the weights do not hold is noise; its input is the feature.
    unpooled = any(name.startswith("pooler.") for name in sight.network.new)
    if unpooled:
        module.pooler = None
    pooled = not unpooled and getattr(module, "pooler", True) is not None
    return _model(request, sight, FeatureNet(module, sight.options, pooled=pooled), vectors)


def build_object_detection(request: LoadRequest) -> InferenceModel:
    """Boxes in pixels of the raw picture, with label and score, above a score of one half."""
    sight = build_sight(request)
    return _model(
        request,
        sight,
        PictureNet(sight.network.module, ("logits", "pred_boxes"), sight.options),
        partial(boxes, config=sight.config, side=raw_side(sight.side)),
    )


def build_image_segmentation(request: LoadRequest) -> InferenceModel:
    """One class a pixel of the raw picture; for SAM the mask of the object in the middle."""
    sight = build_sight(request)
    network, side = sight.network.module, raw_side(sight.side)
    if hasattr(network, "prompt_encoder"):
        return _model(
            request,
            sight,
            PointNet(network),
            partial(object_masks, side=side),
            point=True,
        )
    module = SegmentNet(network, sight.options)
    return _model(request, sight, module, partial(pixel_classes, side=side))


def build_sight(
    request: LoadRequest,
    *,
    head: bool = True,
    optional: tuple[str, ...] = ("pooler.",),
    tile: bool = False,
) -> Sight:
    """The network of timm or transformers, fit for the side that was asked for.

    head: with the last layer; timm leaves it out where False
    optional: beginnings of parameter names that weights may lack
    tile: pictures are one tile of those that the library's processor would cut them into

    Raises ModelError: the network does not take pictures of that side.
    """
    try:
        if request.described.library == "timm":
            return _timm_sight(request, head=head)
        return _transformers_sight(request, optional, tile=tile)
    except LIBRARY_ERRORS as error:
        raise cannot_build(request, error) from error


def _transformers_sight(request: LoadRequest, optional: tuple[str, ...], *, tile: bool) -> Sight:
    config = _config(request)
    native, spec = config_side(config), request.described.spec
    side = choose_side(request, config)
    if tile and native is not None:
        side = request.shape.image_size or native
    options: dict[str, Any] = {}
    if request.file is None:
        _set_all_sides(config, side)
    network = build_network(request, config=config, optional=optional)
    known = inspect.signature(network.module.forward).parameters
    if request.file is not None and native is not None and native != side:
        if "interpolate_pos_encoding" in known:
            options = {"interpolate_pos_encoding": True}
        elif "input_ids" in known:
            raise ModelError(f"{request.described.id} sees pictures of {native} x {native} px only")
    if tile:
        reader = plain_reader(side, HALF, HALF)
    else:
        mean, std = (spec.mean, spec.std) if spec else (None, None)
        reader = find_reader(request, config, side=side, mean=mean, std=std)
    sight = Sight(
        network=network,
        config=config,
        reader=reader,
        options=options,
        channels_last=_is_convolutional(network.module, spec),
    )
    made_for = native or (spec.image_size if spec else None)
    asked = request.shape.image_size
    if "input_ids" not in known and (asked not in (None, made_for) or side != (made_for or side)):
        _try_one(sight)
    return _finished(request, sight)


def _config(request: LoadRequest) -> Any:
    """The config beside the weights; a catalog model's own, with the classes of ImageNet."""
    spec, file = request.described.spec, request.file
    if spec is not None and file is not None and (file.parent / "config.json").is_file():
        import transformers

        return transformers.AutoConfig.from_pretrained(
            str(file.parent), trust_remote_code=False, local_files_only=True
        )
    config = build_config(request)
    if spec is not None:
        config.num_labels = IMAGENET_CLASSES
    return config


def _set_all_sides(config: Any, side: int) -> None:
    """SAM writes the side down twice, and once more in patches."""
    set_config_side(config, side)
    prompts = getattr(config, "prompt_encoder_config", None)
    if prompts is not None:
        prompts.image_size = side
        prompts.image_embedding_size = side // prompts.patch_size


def _timm_sight(request: LoadRequest, *, head: bool) -> Sight:
    import timm

    spec = request.described.spec
    if spec is None:
        raise ModelError(f"{request.described.id} has no timm architecture")
    published = _timm_published(spec)
    native = int(published["input_size"][-1])
    side = request.shape.image_size or native
    classes = int(published["num_classes"]) if head else 0
    options: dict[str, Any] = {"num_classes": classes}
    if spec.fixed_size and side != native:
        options["img_size"] = side
    if request.file is not None:
        # With the checkpoint's own class count timm loads strictly: nothing may be missing.
        state = timm.models.load_state_dict(str(request.file))
        options |= {
            "pretrained": True,
            "pretrained_cfg_overlay": {**published, "state_dict": state},
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        network = timm.create_model(spec.architecture, **options)
    sight = Sight(
        network=Network(module=network.eval()),
        config=None,
        reader=timm_reader(network, published, side=side),
        options={},
        channels_last=spec.family == "cnn",
    )
    if side != native:
        _try_one(sight)
    return _finished(request, sight)


def _timm_published(spec: ModelSpec) -> dict[str, Any]:
    """What timm knows of the checkpoint; a folder's config.json goes before it."""
    import timm

    if not timm.is_model(spec.architecture):
        raise ModelError(
            f"{spec.id} is built from '{spec.architecture}', which this timm ({timm.__version__}) "
            "does not have"
        )
    published: dict[str, Any] = timm.get_pretrained_cfg(
        spec.architecture, allow_unregistered=True
    ).to_dict()
    if spec.folder:
        config = json.loads((spec.folder / "config.json").read_text(encoding="utf-8"))
        published.update(config.get("pretrained_cfg", {}))
    return published


def _finished(request: LoadRequest, sight: Sight) -> Sight:
    """Random batch norms settled, and the network in the memory layout that suits it."""
    if request.file is None:
        _settle_batch_norms(sight, request.seed)
    if sight.channels_last:
        sight.network.module.to(memory_format=torch.channels_last)
    return sight


def _settle_batch_norms(sight: Sight, seed: int) -> None:
    """Give batch norms the statistics of four synthetic pictures, layer after layer.

    A new one takes its input for centred and of width 1. Where it is not, as with random
    weights before it, 49 of them let a picture shrink by 26 orders of magnitude; then no
    precision can be compared with another, and processors slow down on what is nearly zero.
    """
    norms = [
        module
        for module in sight.network.module.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 - 1d to 3d
    ]
    if not norms:
        return
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches, of which there is one
        norm.train()
    pixels = sight.reader.read(make_pictures(4, raw_side(sight.side), seed))
    with torch.no_grad():
        sight.network.module(pixels)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def _is_convolutional(network: nn.Module, spec: ModelSpec | None) -> bool:
    """The catalog's family; of others, whether most parameters are kernels of convolutions."""
    if spec is not None:
        return spec.family == "cnn"
    config: Any = network.config
    if family_of(config.model_type) == "transformer":
        return False
    sizes = [(weight.ndim == 4, weight.numel()) for weight in network.parameters()]
    return 2 * sum(size for is_kernel, size in sizes if is_kernel) > sum(size for _, size in sizes)


def _try_one(sight: Sight) -> None:
    """Prove that the network takes this side; libraries only find out when run."""
    module = sight.network.module
    options = dict(sight.options)
    if hasattr(module, "prompt_encoder"):
        options["input_points"] = torch.full((1, 1, 1, 2), sight.side / 2)
    with torch.no_grad():
        module(torch.zeros(1, 3, sight.side, sight.side), **options)


def cannot_build(request: LoadRequest, error: Exception) -> ModelError:
    """Which images a library could not build a network for, what it said, and what would help."""
    described, side = request.described, request.shape.image_size
    asked = f"images of {side} x {side} px" if side else "the images it was made for"
    leave_out = "leave out the image size (--image-size, or image_size in a config)"
    advice = f"{leave_out} to take what it was made for" if side else "check its files"
    if side and request.file is not None:
        advice += ", or build it for that size with --weights random"
    return ModelError(
        f"{described.id} cannot be built for {asked} from {request.file or 'random weights'}: "
        f"{first_line(error)}; {advice}"
    )


def _model(
    request: LoadRequest,
    sight: Sight,
    module: nn.Module,
    postprocess: Callable[[Tensors], list[Any]],
    *,
    point: bool = False,
) -> InferenceModel:
    facts = network_facts(request, sight.network, inputs=_origin(sight))
    if sight.config is None and facts["attention"] is None:
        fused = (getattr(part, "fused_attn", False) for part in sight.network.module.modules())
        facts["attention"] = "sdpa" if any(fused) else None
    return InferenceModel(
        module=module.eval(),
        model_task=request.described.model_task,
        shape=InputShape(image_size=sight.side),
        make_raw=partial(_make_raw, raw_side(sight.side)),
        preprocess=partial(
            read_pictures, reader=sight.reader, channels_last=sight.channels_last, point=point
        ),
        postprocess=postprocess,
        facts={
            **facts,
            "image_size": sight.side,
            "channels_last": sight.channels_last,
            "positions_interpolated": bool(sight.options),
        },
    )


def _origin(sight: Sight) -> str:
    side = raw_side(sight.side)
    return f"synthetic pictures of {side} x {side} px, read by {sight.reader.source}"


def _make_raw(side: int, count: int, seed: int) -> Images:
    return make_pictures(count, side, seed)


def read_pictures(
    pictures: Images, *, reader: Reader, channels_last: bool = False, point: bool = False
) -> Tensors:
    """uint8 (N, H, W, 3) -> {"pixel_values": float32 (N, 3, S, S)}, with a point if asked.

    Raises ModelError: no such pictures, or ones that do not give squares.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ModelError(
            f"got {pictures.dtype} pictures of shape {pictures.shape}; allowed: uint8 (N, H, W, 3)"
        )
    pixels = reader.read(pictures)
    side = reader.side
    if pixels.shape[1:] != (3, side, side):
        raise ModelError(
            f"pictures of {pictures.shape[1]} x {pictures.shape[2]} px become "
            f"{' x '.join(str(length) for length in pixels.shape[2:])} px; this model was built "
            f"for {side} x {side}: give square pictures"
        )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    tensors = {"pixel_values": pixels.contiguous(memory_format=layout)}
    if point:
        tensors["input_points"] = torch.full((len(pixels), 1, 1, 2), side / 2)
    return tensors
