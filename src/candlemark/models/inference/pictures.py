"""Pictures for models that see: synthetic ones, and how they become a model's input.

    N pictures, S x S pixels as the model sees them, R x R as a user has them

    pictures = make_pictures(8, 336, seed=0)                     # uint8 (8, 336, 336, 3)
    reader = find_reader(request, config, side=224)
    reader.read(pictures)                                        # float32 (8, 3, 224, 224)

A synthetic picture is a sum of random waves whose strength falls with their frequency, as it
does in photographs (Field 1987): smooth, coloured, and no two alike. Its side is half as long
again as the model's, so that resizing has something to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.building import first_line
from candlemark.models.catalog import IMAGENET_MEAN, IMAGENET_STD, Triple
from candlemark.models.inference.request import LoadRequest

WAVES = 24
HIGHEST_CYCLES = 12
"""The finest wave of a synthetic picture, in cycles from edge to edge."""

Images = NDArray[np.uint8]


def raw_side(side: int) -> int:
    """Pixels of a synthetic picture's side for a model that sees `side`."""
    return side + side // 2


def make_pictures(count: int, side: int, seed: int) -> Images:
    """uint8 (count, side, side, 3); picture k depends on the seed and k alone."""
    pictures = np.empty((count, side, side, 3), np.uint8)
    place = np.linspace(0, 2 * np.pi, side, endpoint=False)
    for index in range(count):
        random = np.random.default_rng([seed, index])
        down, across = random.integers(0, HIGHEST_CYCLES + 1, (2, WAVES))
        strength = 1 / np.maximum(np.hypot(down, across), 1)
        colour = random.normal(size=(3, WAVES)) * strength
        phase = random.uniform(0, 2 * np.pi, WAVES)
        rows = np.exp(1j * (np.outer(place, down) + phase))
        columns = np.exp(1j * np.outer(place, across))
        waves = np.einsum("hw,cw,xw->hxc", rows, colour, columns, optimize=True).real
        waves /= waves.std() + 1e-9
        pictures[index] = np.clip(127.5 + 55 * waves, 0, 255).astype(np.uint8)
    return pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Turns pictures into a model's input.

    read: uint8 (N, H, W, 3) -> float32 (N, 3, S, S) on the CPU, square pictures only
    side: S
    source: who resizes and normalises, in words
    """

    read: Callable[[Images], Tensor]
    side: int
    source: str


def published_side(request: LoadRequest) -> int | None:
    """Side of the squares that the checkpoint's own image processor makes; None without one."""
    processor = _own_processor(request)
    return _side_of(processor) if processor is not None else None


def usual_side(config: Any) -> int | None:
    """Side of the squares that the library's processor for this kind of model makes."""
    processor = _processor_of_kind(config)
    return _side_of(processor) if processor is not None else None


def find_reader(
    request: LoadRequest,
    config: Any,
    *,
    side: int,
    mean: Triple | None = None,
    std: Triple | None = None,
) -> Reader:
    """The checkpoint's own image processor, else the library's for this kind of model.

    config: the model's transformers config; it tells the kind
    mean, std: of a checkpoint whose processor is not here; they go before the library's

    Where the library has none for this kind: bilinear resize, divide by 255, normalise.
    Pictures of a batch have one size, so the masks that some processors add are left out.
    Raises ModelError: the processor does not make squares of this side.
    """
    processor = _own_processor(request)
    if processor is not None:
        options = _size_options(processor, side)
        source = "the checkpoint's own image processor"
        return _checked(_ByProcessor(processor, options), side, source)
    processor = _processor_of_kind(config)
    if processor is None:
        return plain_reader(side, mean or IMAGENET_MEAN, std or IMAGENET_STD)
    options = _size_options(processor, side)
    source = f"transformers' {type(processor).__name__} with its default settings"
    if mean and std:
        options |= {"image_mean": list(mean), "image_std": list(std)}
        source = f"transformers' {type(processor).__name__} with the published mean and deviation"
    return _checked(_ByProcessor(processor, options), side, source)


def _checked(read: _ByProcessor, side: int, source: str) -> Reader:
    """Refuse a side that the processor does not give: some round to whole patches."""
    if read.options or getattr(read.processor, "size_divisor", None):
        length = raw_side(side)
        made = read(np.zeros((1, length, length, 3), np.uint8)).shape[-2:]
        if tuple(made) != (side, side):
            raise ModelError(
                f"image_size = {side}; {type(read.processor).__name__} makes pictures of "
                f"{made[0]} x {made[1]} px of it: ask for {made[0]}"
            )
    return Reader(read=read, side=side, source=source)


def plain_reader(side: int, mean: Triple, std: Triple) -> Reader:
    """Bilinear resize to a square, divide by 255, normalise."""
    return Reader(
        read=_Plain(side, mean, std),
        side=side,
        source=f"bilinear resize, mean {list(mean)}, deviation {list(std)}",
    )


def timm_reader(network: Any, published: Mapping[str, Any], *, side: int) -> Reader:
    """The evaluation transform of timm, one picture after the other as it works.

    published: the checkpoint's `pretrained_cfg`
    """
    from timm.data import create_transform, resolve_data_config

    settings = resolve_data_config(
        {"input_size": (3, side, side)}, pretrained_cfg=dict(published), model=network
    )
    return Reader(
        read=_ByTransform(create_transform(**settings)),
        side=side,
        source="timm's evaluation transform of the checkpoint",
    )


@dataclass(frozen=True, slots=True)
class _ByProcessor:
    """An image processor of transformers."""

    processor: Any
    options: Mapping[str, Any]

    def __call__(self, pictures: Images) -> Tensor:
        made = self.processor(
            images=list(pictures),
            return_tensors="pt",
            input_data_format="channels_last",  # three rows would be taken for channels
            **self.options,
        )
        pixels: Tensor = made["pixel_values"]
        return pixels


@dataclass(frozen=True, slots=True)
class _ByTransform:
    """A transform of timm, which takes Pillow's images."""

    transform: Callable[[Any], Tensor]

    def __call__(self, pictures: Images) -> Tensor:
        from PIL import Image

        return torch.stack([self.transform(Image.fromarray(picture)) for picture in pictures])


@dataclass(frozen=True, slots=True)
class _Plain:
    """What every image processor does, without the library."""

    side: int
    mean: Triple
    std: Triple

    def __call__(self, pictures: Images) -> Tensor:
        from torchvision.transforms.v2 import functional

        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        resized = functional.resize(pixels, [self.side, self.side], antialias=True)
        scaled = functional.to_dtype(resized, torch.float32, scale=True)
        normal: Tensor = functional.normalize(scaled, list(self.mean), list(self.std))
        return normal


def _own_processor(request: LoadRequest) -> Any:
    """The image processor that lies beside the model; None where there is none."""
    from transformers import AutoImageProcessor

    for name in ("preprocessor_config.json", "processor_config.json"):
        path = request.beside(name)
        if path is None or not _is_for_images(path):
            continue
        try:
            return AutoImageProcessor.from_pretrained(
                str(path.parent), local_files_only=True, trust_remote_code=False
            )
        except (ValueError, OSError, TypeError, KeyError, ImportError) as error:
            raise ModelError(
                f"the image processor of {request.described.id} cannot be built: "
                f"{first_line(error)}; see {path}"
            ) from error
    return None


def _is_for_images(path: Path) -> bool:
    """Whether the file tells how pictures are read, not only sound or text."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no readable JSON: {error}") from error
    settings = saved.get("image_processor", saved) if isinstance(saved, dict) else saved
    if not isinstance(settings, dict):
        raise ModelError(f"{path} does not hold settings by name; put the model's own file there")
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    return bool(named) or "image_mean" in settings


def _processor_of_kind(config: Any) -> Any:
    """The library's image processor for this kind of model, as its authors left it."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    if config is None or type(config) not in IMAGE_PROCESSOR_MAPPING:
        return None
    chosen = IMAGE_PROCESSOR_MAPPING[type(config)].get("torchvision")
    return chosen() if chosen is not None else None


def _side_of(processor: Any) -> int | None:
    """Side of what the processor makes of a square; None where it follows the picture."""
    size = _sizes(processor, "size")
    if getattr(processor, "do_center_crop", None):
        size = _sizes(processor, "crop_size") or size
    for name in ("height", "shortest_edge", "longest_edge", "max_height"):
        if name in size:
            return size[name]
    return None


def _sizes(processor: Any, name: str) -> dict[str, int]:
    size = getattr(processor, name, None) or {}
    return {key: int(value) for key, value in dict(size).items() if value}


def _size_options(processor: Any, side: int) -> dict[str, Any]:
    """What makes the processor give squares of `side`: all its sizes, scaled alike.

    One that makes rectangles, as for photographs of streets, is told to make squares as high.
    """
    native = _side_of(processor)
    sizes = {name: _sizes(processor, name) for name in ("size", "crop_size", "pad_size")}
    square = all(one.get("height") == one.get("width") for one in sizes.values())
    if native is None or (native == side and square):
        return {}
    return {
        name: {key: round(one.get("height", value) * side / native) for key, value in one.items()}
        for name, one in sizes.items()
        if one
    }


def choose_side(request: LoadRequest, config: Any) -> int:
    """Side of the squares that the model sees, px: as asked, else as it was made for.

    That is what the checkpoint's image processor makes, else the config's `image_size`, else
    the catalog's, else what the library's processor for this kind makes, else 224.
    """
    spec = request.described.spec
    return (
        request.shape.image_size
        or published_side(request)
        or config_side(config)
        or (spec.image_size if spec is not None else None)
        or usual_side(config)
        or 224
    )


def config_side(config: Any) -> int | None:
    """The side that a config says its images have; None where it says none or no square."""
    size = getattr(getattr(config, "vision_config", None) or config, "image_size", None)
    if size is None:  # SAM 2 says it of its prompts alone
        size = getattr(getattr(config, "prompt_encoder_config", None), "image_size", None)
    if isinstance(size, list | tuple):
        size = size[0] if len(set(size)) == 1 else None
    return int(size) if size else None


def set_config_side(config: Any, side: int) -> None:
    """Have a network with new weights built for squares of `side`."""
    holder = getattr(config, "vision_config", None) or config
    size = getattr(holder, "image_size", None)
    if size is not None:
        holder.image_size = [side, side] if isinstance(size, list | tuple) else side
