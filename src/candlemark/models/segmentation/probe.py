"""Heads that learn to segment from the maps of a frozen backbone, and the segmenter they make.

    n pictures, K classes with the background, C_i channels and h_i x w_i places of map i

    head = build_head("linear_probe", backbone, classes=2, seed=0)
    head(**backbone.module(pixels))                # logits (n, K, h_0, w_0)

`linear_probe` asks what a linear map of the features knows; `upernet_frozen` puts the decoder of
UPerNet (Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018) on them.
Both see each channel standardised by the training slices, so that no learning rate has to fit
the scale that a network happens to give its features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from candlemark.errors import ModelError
from candlemark.models.segmentation.backbones import Backbone
from candlemark.models.segmentation.base import Case, Labels, Stopwatch
from candlemark.models.segmentation.maps import Maps
from candlemark.models.segmentation.pixels import batches, labels_of, rgb

WIDTH = 64
"""Channels of the decoder; the published one has 512, for photographs by the ten thousand."""
POOLED = (1, 2, 3, 6)
"""Places across of each pooled copy of the last map, as in PSPNet and UPerNet."""
GROUPS = 8
RAREST = 1e-4
"""The smallest share of voxels that a class starts from."""
NARROW = 0.01
"""Deviation of a linear head's first weights; of standardised features wider ones shout."""
PYRAMID = (4.0, 2.0, 1.0, 0.5)
"""How the layers of a network of one resolution are enlarged to make a pyramid, as BEiT's."""


class Standardise(nn.Module):
    """Shifts and scales every channel of every map; the identity until it is told by what."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.names = [f"map{number}" for number in range(len(channels))]
        for name, count in zip(self.names, channels, strict=True):
            self.register_buffer(f"mean_{name}", torch.zeros(count, 1, 1))
            self.register_buffer(f"scale_{name}", torch.ones(count, 1, 1))

    def learn(self, batches_of_maps: Iterable[Maps]) -> None:
        """Take mean and deviation of each channel from all maps; a constant one is only shifted."""
        sums: dict[str, Tensor] = {}
        for maps in batches_of_maps:
            for name in self.names:
                found = _moments(maps[name])
                sums[name] = sums[name] + found if name in sums else found
        for name, (count, total, squares) in sums.items():
            mean = total / count
            deviation = (squares / count - mean**2).clamp(min=0).sqrt()
            # What varies by less than rounding is constant, and would be blown up to noise.
            constant = deviation <= 1e-6 * mean.abs().clamp(min=1e-6)
            scale = torch.where(constant, 1.0, 1 / deviation.clamp(min=1e-30))
            getattr(self, f"mean_{name}").copy_(mean.float().view(-1, 1, 1))
            getattr(self, f"scale_{name}").copy_(scale.float().view(-1, 1, 1))

    def forward(self, maps: Maps) -> list[Tensor]:
        """The maps in their order, each channel with mean 0 and deviation 1."""
        return [
            (maps[name] - getattr(self, f"mean_{name}")) * getattr(self, f"scale_{name}")
            for name in self.names
        ]


def _moments(one: Tensor) -> Tensor:
    """float64 (3, C) on the CPU: count, sum and sum of squares of each channel."""
    values = one.detach().cpu().double().transpose(0, 1).flatten(1)
    count = torch.full((len(values),), float(values.shape[1]), dtype=torch.float64)
    return torch.stack([count, values.sum(1), (values**2).sum(1)])


class Head(nn.Module, ABC):
    """Maps to logits; `answer` is the last layer.

    Two things come before the first step of learning: what the features are standardised by,
    and the odds of each class, without which it spends its first hundred steps on finding out
    that most voxels are background.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.standardise = Standardise(channels)

    @property
    @abstractmethod
    def answer(self) -> nn.Conv2d:
        """The layer whose bias is the odds of each class."""

    def start_from(self, shares: Tensor) -> None:
        """Give each class the odds that it has: float (K,), shares of all voxels.

        (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4.1)
        """
        bias = self.answer.bias
        if bias is None:
            raise ModelError(f"{type(self).__name__} has no bias to start from")
        with torch.no_grad():
            bias.copy_(shares.clamp(min=RAREST).log())


class LinearHead(Head):
    """Logits that are linear in the features of all maps.

    Each map is weighed in its own resolution and the results are enlarged and added: the same
    as enlarging all maps, joining them and weighing once, because both are linear.
    """

    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        super().__init__(channels)
        layers = [
            nn.Conv2d(count, classes, 1, bias=place == 0) for place, count in enumerate(channels)
        ]
        for layer in layers:
            nn.init.normal_(layer.weight, std=NARROW)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.finest = layers[0]
        self.coarser = nn.ModuleList(layers[1:])

    @property
    def answer(self) -> nn.Conv2d:
        """Of the finest map; the others have no bias of their own."""
        return self.finest

    def forward(self, **maps: Tensor) -> Tensor:
        """Maps (n, C_i, h_i, w_i) -> logits (n, K, h_0, w_0)."""
        finest, *coarser = self.standardise(maps)
        logits: Tensor = self.finest(finest)
        for weigh, one in zip(self.coarser, coarser, strict=True):
            logits = logits + _enlarged(weigh(one), logits)
        return logits


class UperHead(Head):
    """The decoder of UPerNet, narrow: pooled context, a pyramid from coarse to fine, one answer.

    Layers of one resolution are first made a pyramid by enlarging. Norms go by groups, because
    batches of a few slices are too small for batch norm.
    """

    def __init__(self, channels: tuple[int, ...], classes: int, *, single: bool) -> None:
        super().__init__(channels)
        self.single = single
        self.pooled = nn.ModuleList(_block(channels[-1], WIDTH, 1) for _ in POOLED)
        self.context = _block(channels[-1] + len(POOLED) * WIDTH, WIDTH, 3)
        self.lateral = nn.ModuleList(_block(count, WIDTH, 1) for count in channels[:-1])
        self.smooth = nn.ModuleList(_block(WIDTH, WIDTH, 3) for _ in channels[:-1])
        self.fuse = _block(len(channels) * WIDTH, WIDTH, 3)
        self.last = nn.Conv2d(WIDTH, classes, 1)

    @property
    def answer(self) -> nn.Conv2d:
        """The last of its layers."""
        return self.last

    def forward(self, **maps: Tensor) -> Tensor:
        """Maps (n, C_i, h_i, w_i) -> logits (n, K, h, w), of the finest map of the pyramid."""
        levels = self.standardise(maps)
        if self.single and len(levels) > 1:
            levels = made_a_pyramid(levels)
        coarsest = levels[-1]
        seen = [coarsest]
        for places, block in zip(POOLED, self.pooled, strict=True):
            pooled = nn.functional.adaptive_avg_pool2d(coarsest, places)
            seen.append(_enlarged(block(pooled), coarsest))
        pyramid = [self.context(torch.cat(seen, 1))]
        for lateral, level in zip(reversed(self.lateral), reversed(levels[:-1]), strict=True):
            above = lateral(level)
            pyramid.insert(0, above + _enlarged(pyramid[0], above))
        smooth = [block(level) for block, level in zip(self.smooth, pyramid[:-1], strict=True)]
        joined = [_enlarged(level, pyramid[0]) for level in [*smooth, pyramid[-1]]]
        logits: Tensor = self.last(self.fuse(torch.cat(joined, 1)))
        return logits


def made_a_pyramid(levels: list[Tensor]) -> list[Tensor]:
    """Up to four maps (n, C_i, h, h) of one resolution, as 4 h, 2 h, h and h / 2, at least 1.

    Resized to places and not by the factor: 7 places times a half are 3, and by the factor the
    last row would lie outside of all of them.
    """
    made = []
    for one, factor in zip(levels, PYRAMID, strict=False):
        places = max(1, int(one.shape[-1] * factor))
        made.append(interpolate(one, size=(places, places), mode="bilinear", align_corners=False))
    return made


def _block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(GROUPS, outputs),
        nn.ReLU(),
    )


def _enlarged(one: Tensor, like: Tensor) -> Tensor:
    if one.shape[-2:] == like.shape[-2:]:
        return one
    return interpolate(one, size=like.shape[-2:], mode="bilinear", align_corners=False)


HEADS: dict[str, Callable[[Backbone, int], Head]] = {
    "linear_probe": lambda backbone, classes: LinearHead(backbone.channels, classes),
    "upernet_frozen": lambda backbone, classes: UperHead(
        backbone.channels, classes, single=len(set(backbone.strides)) == 1
    ),
}
"""The head of each protocol that learns, from the backbone and the number of classes."""


def build_head(protocol: str, backbone: Backbone, *, classes: int, seed: int) -> Head:
    """A new head, its weights drawn by `seed`; the caller's random state is left alone.

    classes: K, the background among them

    Raises ModelError: the protocol has no head.
    """
    if protocol not in HEADS:
        raise ModelError(f"protocol {protocol} has no head; allowed: {', '.join(HEADS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HEADS[protocol](backbone, classes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProbeSegmenter:
    """A backbone with a head, asked slice by slice.

    table: uint8 (K,), the label of each class of the head
    learnt: ids of the cases that the head was trained on; it does not answer for them
    """

    backbone: Backbone
    head: Head
    table: np.ndarray[Any, np.dtype[np.uint8]]
    batch_size: int
    device: torch.device
    learnt: frozenset[str] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X): the label of each voxel.

        Raises ModelError: the head was trained on this very case.
        """
        if case.id in self.learnt:
            raise ModelError(
                f"case {case.id} is one that this head was trained on; a score on it would say "
                "what it remembers: test it on other cases"
            )
        labels = np.empty(case.shape, np.uint8)
        with watch("load"):
            window = case.window()
        with torch.inference_mode():
            for start, stop in batches(case, self.batch_size):
                with watch("load"):
                    slices = case.read(start, stop)
                with watch("preprocess"):
                    pixels = self.backbone.prepare(rgb(slices, window), self.device)
                with watch("forward"):
                    scores = self.head(**self.backbone.module(pixels))
                with watch("postprocess"):
                    labels[start:stop] = labels_of(scores, case.shape[1:], table=self.table)
        return labels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldedSegmenter:
    """A head a fold on one backbone; each case is answered by the head that never saw it.

    heads: of every fold; one at a time is on the device, so that they need the memory of one
    fold_of: the place of its head, by the id of a case
    """

    heads: tuple[ProbeSegmenter, ...]
    fold_of: Mapping[str, int]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, case_id: str) -> ProbeSegmenter:
        """The case's own head, on the device; all others are taken off it.

        Raises ModelError: no fold has the case.
        """
        if case_id not in self.fold_of:
            raise ModelError(
                f"case {case_id} is in no fold of this probe; it answers for: "
                f"{', '.join(self.fold_of)}"
            )
        chosen = self.heads[self.fold_of[case_id]]
        for one in self.heads:
            one.head.to(one.device if one is chosen else "cpu")
        return chosen

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """As `ProbeSegmenter.segment`, by the head of the case's fold."""
        return self.of(case.id).segment(case, watch)
