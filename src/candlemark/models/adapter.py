"""One face for every classifier: images in, logits out, whoever built the network.

    N samples, H x W pixels as drawn, C classes, F features

    classifier.prepare(uint8 (N, H, W) or (N, H, W, 3))  -> float32 (N, 3, H', W')
    classifier.module(float32 (N, 3, H', W'))            -> float32 (N, C)
    classifier.module.features(...)                      -> float32 (N, F)
    classifier.module.head(float32 (N, F))               -> float32 (N, C)

H' and W' differ from H and W only where a transformer needs whole patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError


class MeanHead(nn.Module):
    """The heads of a network on the same features, averaged.

    One head is the usual case; a distilled model (LeViT) has a second one for its teacher.
    """

    def __init__(self, heads: list[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Tensor) -> Tensor:
        """(N, F) -> (N, C)."""
        logits: Tensor = torch.stack([head(features) for head in self.heads]).mean(0)
        return logits


class ClassifierNet(nn.Module):
    """A network of timm or transformers that returns plain logits.

    network: the library's own module; its state dict is what `--weights PATH` reads
    heads: dotted names of the last layers, which turn features into logits
    options: keyword arguments of every forward call
    """

    def __init__(
        self, network: nn.Module, heads: tuple[str, ...], options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.head_names = heads
        self.options = dict(options or {})

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H', W') normalised -> (N, C) logits."""
        output = self.network(images, **self.options)
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H', W') -> (N, F...), what the head is given."""
        seen: list[Tensor] = []
        first = self.network.get_submodule(self.head_names[0])
        handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self(images)
        finally:
            handle.remove()
        return seen[0]

    @property
    def head(self) -> MeanHead:
        """The last layers, sharing their parameters with the network."""
        return MeanHead([self.network.get_submodule(name) for name in self.head_names])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier:
    """A classifier that is ready to train or to ask.

    module: on the CPU in float32; whoever uses it moves it
    mean, std: of the pixels in 0..1
    image_shape: (H, W) as drawn; input_shape: (H', W') as the network sees it
    facts: what was found out while loading (JSON types only)
    """

    module: ClassifierNet
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_shape: tuple[int, int]
    input_shape: tuple[int, int]
    channels_last: bool
    facts: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W) grey or (N, H, W, 3) -> normalised float32 (N, 3, H', W').

        Stays on the images' device. Grey is repeated over the three channels. Where the
        network needs whole patches, zeros (the mean colour) are put before the first row and
        column, so that the newest candle keeps its place at the right edge.

        Raises ModelError: another type or shape.
        """
        normal = normalise(images, mean=self.mean, std=self.std, image_shape=self.image_shape)
        top = self.input_shape[0] - self.image_shape[0]
        left = self.input_shape[1] - self.image_shape[1]
        if top or left:
            normal = nn.functional.pad(normal, (left, 0, top, 0))
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return normal.contiguous(memory_format=layout)


def normalise(
    images: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    image_shape: tuple[int, int],
) -> Tensor:
    """uint8 (N, H, W) grey or (N, H, W, 3) -> float32 (N, 3, H, W), on the images' device.

    mean, std: of the pixels in 0..1. Grey is repeated over the three channels.

    Raises ModelError: another type or shape.
    """
    if images.dtype != torch.uint8 or images.shape[1:3] != image_shape:
        raise ModelError(
            f"got {images.dtype} images of shape {tuple(images.shape)}; this model was built "
            f"for uint8 (N, {image_shape[0]}, {image_shape[1]}[, 3])"
        )
    if images.ndim == 3:
        pixels = images.unsqueeze(1)
    elif images.ndim == 4 and images.shape[3] == 3:
        pixels = images.permute(0, 3, 1, 2)
    else:
        raise ModelError(f"images have shape {tuple(images.shape)}; channels are 3 or none")
    centre = torch.tensor(mean, device=images.device).view(1, 3, 1, 1)
    spread = torch.tensor(std, device=images.device).view(1, 3, 1, 1)
    return (pixels.float() / 255 - centre) / spread
