"""Slices of any shape as the squares that vision models see, and whole: no edge is cut off.

    n slices, Y x X px, padded to Q x Q (Q the longer side), seen as S x S

    eye = open_eye(spec, described)
    pixels = eye.read(pictures)              # uint8 (n, Y, X, 3) -> float32 (n, 3, S, S), CPU
    crop(labels_of(scores, (Q, Q)), (Y, X))  # uint8 (n, Y, X)

Slices are filled up with black below and on the right: stretched to a square, an organ would be
of another shape in each scan. Image processors that cut out the middle are told to show all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.building import quiet
from candlemark.models.inference.base import Described, InputShape
from candlemark.models.inference.networks import network_facts
from candlemark.models.inference.pictures import Images, Reader
from candlemark.models.inference.request import LoadRequest
from candlemark.models.inference.vision import Sight, build_sight, read_pictures
from candlemark.models.inference.weights import weights_path
from candlemark.models.segmentation.base import Labels, SegmenterSpec

FRAME = "padded with black to a square"

_SIZES: frozenset[str] = frozenset({"size", "crop_size", "pad_size"})
"""Settings of image processors that the whole square makes void."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Eye:
    """A network on its device and how slices reach it.

    request: what it was built from
    sight: the network, its config, and a reader that shows whole squares
    device: where the network is
    """

    request: LoadRequest
    sight: Sight
    device: torch.device

    @property
    def module(self) -> Any:
        """The library's own module."""
        return self.sight.network.module

    @property
    def side(self) -> int:
        """S."""
        return self.sight.side

    def read(self, pictures: Images) -> Tensor:
        """uint8 (n, Y, X, 3) -> float32 (n, 3, S, S) on the CPU."""
        sight = self.sight
        read = read_pictures(
            square(pictures), reader=sight.reader, channels_last=sight.channels_last
        )
        return read["pixel_values"]

    def facts(self, protocol: str, *, frame: str = FRAME) -> dict[str, Any]:
        """What a reader of the table must know of any network of the Hub; JSON types only.

        frame: what becomes of slices that are no squares
        """
        sight = self.sight
        inputs = f"slices {frame}, read by {sight.reader.source}"
        return {
            **network_facts(self.request, sight.network, inputs=inputs),
            "image_size": self.side,
            "frame": frame,
            "protocol": protocol,
            "untrained": self.request.file is None,
        }


def request_of(spec: SegmenterSpec, described: Described) -> LoadRequest:
    """What builders of `models.inference` take.

    spec.options["image_size"]: S, where it is not what the model was made for

    Raises ModelError: the weights cannot be had, or S is no side.
    """
    side = spec.options.get("image_size")
    if side is not None and (isinstance(side, bool) or not isinstance(side, int) or side < 1):
        raise ModelError(f"image_size = {side!r} of {spec.name}; allowed: a side in px, from 1")
    return LoadRequest(
        described=described,
        file=weights_path(described, allow_pickle=spec.allow_pickle),
        shape=InputShape(image_size=side),
        seed=spec.seed,
        allow_pickle=spec.allow_pickle,
    )


def open_eye(spec: SegmenterSpec, described: Described, *, lacking: tuple[str, ...] = ()) -> Eye:
    """The described network with its weights, on `spec.device`, in evaluation mode.

    lacking: beginnings of parameter names that weights may lack; "" allows all, for callers
        who look at `sight.network.new` themselves

    Raises ModelError: the weights cannot be had, lack tensors, or are another model's.
    """
    request = request_of(spec, described)
    with torch.random.fork_rng(devices=[]), quiet():
        sight = build_sight(request, optional=lacking)
    device = torch.device(spec.device)
    sight.network.module.to(device).eval()
    return Eye(request=request, sight=replace(sight, reader=whole(sight.reader)), device=device)


def square(pictures: Images) -> Images:
    """uint8 (n, Y, X, 3) -> (n, Q, Q, 3): black below and on the right where it is not square."""
    count, high, wide, channels = pictures.shape
    side = max(high, wide)
    if high == wide:
        return pictures
    padded = np.zeros((count, side, side, channels), np.uint8)
    padded[:, :high, :wide] = pictures
    return padded


def crop(labels: Labels, size: tuple[int, int]) -> Labels:
    """Undo `square`: (n, Q, Q) -> (n, Y, X)."""
    return labels[:, : size[0], : size[1]]


def whole(reader: Reader) -> Reader:
    """The same reader without cutting out the middle; the same one where it cuts out nothing."""
    processor = getattr(reader.read, "processor", None)
    if not getattr(processor, "do_center_crop", None):
        return reader
    kept = {
        name: value
        for name, value in dict(getattr(reader.read, "options", {})).items()
        if name not in _SIZES
    }
    return replace(
        reader,
        read=_Uncut(processor, reader.side, kept),
        source=f"{reader.source}, its cut of the middle left out",
    )


@dataclass(frozen=True, slots=True)
class _Uncut:
    """An image processor of transformers that resizes a whole square to what it would cut out.

    options: its other settings, such as a mean that goes before its own
    """

    processor: Any
    side: int
    options: Mapping[str, Any]

    def __call__(self, pictures: Images) -> Tensor:
        names = [name for name, value in dict(self.processor.size or {}).items() if value]
        made = self.processor(
            images=list(pictures),
            return_tensors="pt",
            input_data_format="channels_last",  # three rows would be taken for channels
            do_center_crop=False,
            do_resize=True,
            size=dict.fromkeys(names or ["height", "width"], self.side),
            **self.options,
        )
        pixels: Tensor = made["pixel_values"]
        return pixels
