"""A network of the user's own as a segmenter, whatever file it came from.

    n  slices or patches at once; c  channels in, C  out; Z, Y, X  voxels of a case

    segmenter = NetworkSegmenter(spec, network, batch_size=4)

A network of pictures is asked slice by slice, one of volumes by patches, or about the whole
volume where no patch was given. It gets float32 intensities as shares of the scan's window, from
0 to 1 (`intensity: raw`: as the file has them). It answers with scores (n, C, ...), of which the
highest wins, with one channel, which a threshold decides, or, slice by slice, with labels.

One channel is a probability or its logit, and a network does not say which. Only logits leave
0 to 1, so the whole case is looked at before one is chosen; `activation` says it outright.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from candlemark.errors import ModelError
from candlemark.models.building import first_line, in_words
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.failures import CaseError, not_a_number
from candlemark.models.segmentation.own_labels import (
    channel_table,
    one_class,
    own_map,
    refuse_unread,
    whole_labels,
)
from candlemark.models.segmentation.patches import Layout, sweep
from candlemark.models.segmentation.pixels import batches, grey, labels_of, scaled

Intensity = Literal["window", "raw"]
Activation = Literal["auto", "none", "sigmoid"]

MISFIT = re.compile(r"[Ss]izes? of tensors? .*must match|[Nn]on.?concat axis dim", re.DOTALL)
"""What torch and ONNX Runtime say where two paths of a network end in unlike sides."""

WHOLE = 32
"""Sides that are multiples of this can be halved five times, as often as usual networks do."""

NEARLY = 1e-3
"""How far from 0 to 1 a probability may lie after rounding and blending."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnNetwork:
    """A network that is ready: its weights loaded, on its device, in evaluation mode.

    ask: (n, c, Y, X) or (n, c, Z, Y, X) float32 on the device -> its first output
    dimensions: 2 or 3
    channels: c, 1 or 3
    fixed: the only (Y, X) or (Z, Y, X) that it takes; None: any
    one_at_a_time: it takes only one item
    facts: of it, JSON types only
    """

    ask: Callable[[Tensor], Tensor]
    dimensions: int
    channels: int
    facts: Mapping[str, Any]
    fixed: tuple[int, ...] | None = None
    one_at_a_time: bool = False


class NetworkSegmenter:
    """Slices or patches in, labels out."""

    def __init__(self, spec: SegmenterSpec, network: OwnNetwork, *, batch_size: int) -> None:
        options = spec.options
        self._network = network
        self._classes = spec.classes
        self._device = spec.device
        self._batch_size = 1 if network.one_at_a_time else batch_size
        self._mapping = own_map(options.get("class_map"), spec.classes)
        self._threshold = float(options.get("threshold", 0.5))
        self._intensity = _one_of("intensity", options.get("intensity", "window"), Intensity)
        self._activation = _one_of("activation", options.get("activation", "auto"), Activation)
        self._overlap = float(options.get("overlap", 0.5))
        self._blending = options.get("blending", "gaussian")
        self._patch = _patch(options.get("patch"), network)
        if self._patch is None and "overlap" in options:
            raise ModelError(
                f"{spec.name}: overlap is of patches, and it reads none; add patch: [Z, Y, X], or "
                "take overlap out"
            )
        if self._patch:
            self._layout(self._patch)  # refuses an overlap or a blending before the first case

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON types only."""
        reads = "slices" if self._network.dimensions == 2 else "whole volumes"
        if self._patch:
            cut = "x".join(map(str, self._patch))
            reads = f"patches of {cut} voxels, overlap {self._overlap:g}, {self._blending}"
        return {
            "protocol": "own",
            "untrained": False,
            "reads": reads,
            "intensity": self._intensity,
            "threshold": self._threshold,
            "class_map": {str(own): label for own, label in self._mapping.items()},
            **self._network.facts,
        }

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X).

        Raises ModelError: the network's answer has another form than those above, or is of one
        class where the references have several and no class map says which.
        """
        if self._intensity == "window":
            with watch("load"):
                case.window()  # the scan is read through for it, once
        with torch.inference_mode():
            if self._patch is None and self._network.dimensions == 2:
                return self._by_slices(case, watch)
            return self._by_patches(case, watch, self._patch or case.shape)

    def _by_slices(self, case: Case, watch: Stopwatch) -> Labels:
        answer = self._answer(case)
        for start, stop in batches(case, self._batch_size):
            with watch("load"):
                raw = case.read(start, stop)
            with watch("preprocess"):
                pixels = self._prepare(raw, case).swapaxes(0, 1)
                tensor = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)
                if self._network.fixed and tuple(tensor.shape[2:]) != self._network.fixed:
                    tensor = interpolate(
                        tensor, size=self._network.fixed, mode="bilinear", antialias=True
                    )
            with watch("forward"):
                made = self._ask(tensor)
            with watch("postprocess"):
                answer.add(made, start, stop)
        with watch("postprocess"):
            return answer.labels()

    def _by_patches(self, case: Case, watch: Stopwatch, patch: tuple[int, ...]) -> Labels:
        answer = self._answer(case)

        def finish(scores: Tensor, start: int, stop: int) -> None:
            answer.add(scores.movedim(1, 0), start, stop)

        sweep(
            case,
            watch,
            self._layout(patch),
            prepare=lambda raw: self._prepare(raw, case),
            ask=self._ask_flat if self._network.dimensions == 2 else self._ask,
            finish=finish,
        )
        with watch("postprocess"):
            return answer.labels()

    def _ask_flat(self, patches: Tensor) -> Tensor:
        """A network of pictures, asked about patches of one slice."""
        return self._ask(patches.squeeze(2)).unsqueeze(2)

    def _ask(self, tensor: Tensor) -> Tensor:
        """The network's scores, one channel of them where it leaves the axis out; or labels.

        Raises CaseError: it halves and doubles sides, and these cannot be halved so often.
        """
        try:
            made = self._network.ask(tensor)
        except Exception as error:  # torch and ONNX Runtime have no kind of error for it
            said = first_line(error)
            if not MISFIT.search(str(error)):
                raise
            sides = tuple(tensor.shape[2:])
            patch = [-(-side // WHOLE) * WHOLE for side in sides]
            raise CaseError(
                "crashed",
                f"the network does not fit sides of {sides} ({said}); let it read patches whose "
                f"sides it can halve, such as patch: {patch if len(patch) == 3 else [1, *patch]}",
            ) from error
        if made.dtype == torch.bool:
            made = made.float()
        alone = made.is_floating_point() and made.ndim == tensor.ndim - 1
        return made.unsqueeze(1) if alone else made

    def _layout(self, patch: tuple[int, ...]) -> Layout:
        deep, high, wide = patch
        return Layout(
            patch=(deep, high, wide),
            overlap=self._overlap,
            blending=self._blending,
            batch_size=self._batch_size,
            device=self._device,
        )

    def _prepare(self, raw: npt.NDArray[Any], case: Case) -> npt.NDArray[np.float32]:
        """(n, Y, X[, 3]) as the file has them -> float32 (c, n, Y, X)."""
        one = self._network.channels == 1
        slices = grey(raw) if one else raw
        if self._intensity == "window":
            slices = scaled(slices, case.window())
        floats = np.asarray(slices, dtype=np.float32)
        if floats.ndim == 4:
            return np.moveaxis(floats, -1, 0)
        return floats[None] if one else np.repeat(floats[None], self._network.channels, axis=0)

    def _answer(self, case: Case) -> _Answer:
        return _Answer(case.shape, self._classes, self._mapping, self._threshold, self._activation)


class _Answer:
    """The labels of a case while its scores arrive.

    Of one channel, both readings of the threshold are kept (bit 0: as a probability, bit 1: as
    a logit) until all of the case has been seen.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: Mapping[int, str],
        mapping: Mapping[int, int],
        threshold: float,
        activation: str,
    ) -> None:
        self._labels = np.zeros(shape, np.uint8)
        self._classes = classes
        self._mapping = mapping
        self._threshold = threshold
        self._activation = activation
        self._one_channel = False
        self._logits = activation == "sigmoid"

    def add(self, scores: Tensor, start: int, stop: int) -> None:
        """scores: (n, C, h, w) of slices `start` to `stop`, or labels (n, Y, X) of theirs."""
        shape = (stop - start, *self._labels.shape[1:])
        labels = not scores.is_floating_point()
        if labels or (scores.ndim == 4 and scores.shape[1] > 1):
            given = "labels" if labels else f"{scores.shape[1]} channels"
            refuse_unread(given, threshold=self._threshold, activation=self._activation)
        if labels:
            whole = scores.cpu().numpy()
            if whole.ndim == 4 and whole.shape[1] == 1:
                whole = whole[:, 0]
            if whole.shape != shape:
                raise CaseError(
                    "wrong_shape", f"the network gives labels of shape {whole.shape}, not {shape}"
                )
            self._labels[start:stop] = whole_labels(whole, self._mapping)
            return
        if scores.ndim != 4 or len(scores) != shape[0]:
            raise CaseError(
                "wrong_shape",
                f"the network gives scores of shape {tuple(scores.shape)}; allowed: "
                f"({shape[0]}, classes, rows, columns)",
            )
        channels = scores.shape[1]
        if channels > 1:
            table = channel_table(channels, self._classes, self._mapping)
            self._labels[start:stop] = labels_of(scores, (shape[1], shape[2]), table=table)
            return
        self._one_channel = True
        self._labels[start:stop] = self._readings(scores, (shape[1], shape[2]))

    def _readings(self, scores: Tensor, size: tuple[int, int]) -> Labels:
        values = scores.float()
        if tuple(values.shape[-2:]) != size:
            values = interpolate(values, size=size, mode="bilinear", align_corners=False)
        low, high = float(values.min()), float(values.max())
        if math.isnan(low):
            raise not_a_number()
        if self._activation == "auto" and not self._logits:
            self._logits = low < -NEARLY or high > 1 + NEARLY
        logit = math.log(self._threshold / (1 - self._threshold))
        both = (values > self._threshold).byte() | ((values > logit).byte() << 1)
        return np.asarray(both[:, 0].cpu().numpy())

    def labels(self) -> Labels:
        """uint8 (Z, Y, X), when all has arrived."""
        if self._one_channel:
            label = one_class(self._classes, self._mapping)
            reading = 2 if self._logits else 1
            return np.where(self._labels & reading, label, 0).astype(np.uint8)
        return self._labels


def first_output(made: Any) -> Tensor:
    """The scores among what a network returns: a tensor, or the first of a mapping or sequence.

    Raises ModelError: there is no tensor first.
    """
    found = made
    if isinstance(found, Mapping):
        found = found.get("out", next(iter(found.values()), None))
    elif isinstance(found, list | tuple):
        found = found[0] if found else None
    if not isinstance(found, Tensor):
        first = "" if found is made else f" whose first part is {in_words(found)}"
        raise ModelError(
            f"the network returned {in_words(made)}{first}; allowed: a tensor of scores, or a "
            "mapping or sequence that has one first"
        )
    return found


def _patch(asked: Any, network: OwnNetwork) -> tuple[int, ...] | None:
    """The patch to read by; None: whole slices, or whole volumes."""
    patch = tuple(int(length) for length in asked) if asked else None
    if patch and len(patch) != 3:
        raise ModelError(f"patch is {list(patch)}; allowed: three lengths [Z, Y, X]")
    if patch and network.dimensions == 2 and patch[0] != 1:
        raise ModelError(
            f"the network reads pictures, and the patch {list(patch)} has {patch[0]} slices; use "
            f"[1, {patch[1]}, {patch[2]}], or no patch for whole slices"
        )
    if network.fixed is None:
        return patch
    fixed = network.fixed if network.dimensions == 3 else (1, *network.fixed)
    if patch and patch != fixed:
        raise ModelError(
            f"the network takes {list(network.fixed)} only, and the patch is {list(patch)}; "
            f"use {list(fixed)}"
        )
    return fixed if network.dimensions == 3 else patch


def _one_of(name: str, value: Any, allowed: Any) -> str:
    words = get_args(allowed)
    if value not in words:
        raise ModelError(f"{name} is {value!r}; allowed: {', '.join(words)}")
    return str(value)
