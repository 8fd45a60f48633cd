"""The layers of a network of timm or transformers, as maps of the picture.

    n pictures, S x S pixels as the network sees them, C channels and h x w places of a map

    TimmMaps(network)(pixels)          # {"map0": (n, C_0, h_0, w_0), ...}, finest first

Networks in stages give the last map of each resolution from a quarter of the picture down;
networks of tokens give up to four layers, evenly spaced and the last among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from candlemark.errors import ModelError

MOST_MAPS = 4
FINEST_STRIDE = 4
"""Maps finer than a quarter of the picture are edges and colours, and most of the memory."""
MOST_PREFIX = 10
"""Tokens that stand before those of the picture: a class, a teacher, up to eight registers."""

Maps = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """A network that gives maps, and how it is fed.

    side: S; mean, std: of pixels in 0..1; facts: JSON types only
    flipped: the network takes blue first
    """

    module: nn.Module
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: Mapping[str, Any]
    flipped: bool = False


class TimmMaps(nn.Module):
    """The stages or layers of a network of timm."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Maps:
        """(n, 3, S, S) -> maps by name, finest first."""
        network: Any = self.network
        layers = network.forward_intermediates(pixels, output_fmt="NCHW", intermediates_only=True)
        return chosen_maps(list(layers), int(pixels.shape[-1]))


class TransformersMaps(nn.Module):
    """The stages or layers of a network of transformers.

    options: keyword arguments of every forward call
    patch: pixels a token stands for, where the config says
    """

    def __init__(self, network: nn.Module, options: Mapping[str, Any], patch: int | None) -> None:
        super().__init__()
        self.network = network
        self.options = dict(options)
        self.patch = patch

    def forward(self, pixels: Tensor) -> Maps:
        """(n, 3, S, S) -> maps by name, finest first."""
        made = self.network(pixels, **self.options)
        side = int(pixels.shape[-1])
        # What looks comes before what decodes: queries of a decoder are no places.
        names = (
            "feature_maps",
            "encoder_hidden_states",
            "reshaped_hidden_states",
            "hidden_states",
        )
        found = (getattr(made, name, None) for name in names)
        stages = next((one for one in found if one is not None), None)
        if stages is None:
            stages = (made.last_hidden_state,)
        if stages[0].ndim == 3 and len(stages) > 1:
            stages = stages[1:]  # the first are the patches themselves
        return chosen_maps([as_map(layer, side, self.patch) for layer in stages], side)


def chosen_maps(layers: Sequence[Tensor], side: int) -> Maps:
    """Of all layers, those a head is given: {"map0": ...}, finest first.

    Of several resolutions the last map of each, those finer than a quarter of the picture left
    out where there are others; of one resolution up to four, evenly spaced.

    Raises ModelError: a layer is no square map.
    """
    for layer in layers:
        if layer.ndim != 4 or layer.shape[2] != layer.shape[3]:
            raise ModelError(f"a layer of shape {tuple(layer.shape)} is no map of a square picture")
    last = {int(layer.shape[2]): layer for layer in layers}
    if len(last) == 1:
        return {f"map{number}": layer for number, layer in enumerate(evenly(layers))}
    kept = [places for places in last if places * FINEST_STRIDE <= side] or list(last)
    order = sorted(kept, reverse=True)[-MOST_MAPS:]
    return {f"map{number}": last[places] for number, places in enumerate(order)}


def evenly(layers: Sequence[Any]) -> list[Any]:
    """Up to four, evenly spaced, the last among them."""
    count = min(MOST_MAPS, len(layers))
    return [layers[math.ceil(len(layers) * (number + 1) / count) - 1] for number in range(count)]


def as_map(layer: Tensor, side: int, patch: int | None) -> Tensor:
    """A layer of a network that saw squares of `side`: (n, C, h, w).

    layer: a map, channels first or last, or tokens (n, T, C), those of the picture last

    Raises ModelError: the tokens fill no square.
    """
    if layer.ndim == 4:
        last = layer.shape[2] != layer.shape[3] and layer.shape[1] == layer.shape[2]
        return layer.permute(0, 3, 1, 2) if last else layer
    if layer.ndim != 3:
        raise ModelError(f"a layer of shape {tuple(layer.shape)} is neither a map nor tokens")
    count = int(layer.shape[1])
    guesses = [] if patch is None else [-(-side // patch)]
    for places in [*guesses, math.isqrt(count)]:
        prefix = count - places * places
        if 0 <= prefix <= MOST_PREFIX:
            square = layer[:, prefix:].transpose(1, 2)
            return square.reshape(len(layer), -1, places, places)
    raise ModelError(f"{count} tokens of a picture of {side} x {side} px fill no square")
