"""Whole volumes through a network that reads patches: overlapped, blended, slab by slab.

    Z, Y, X  voxels of the case; z, y, x  of a patch; c  channels in, C  out; n  patches at once

    labels = sweep(case, watch, layout, network, finish)

Patches of a row along Z cover a slab of z slices. Once the next row starts higher, the slices
between the two starts are finished: they become labels and leave memory. So one slab of the
image (z, Y, X) and one of scores (C, z, Y, X) are held, however long the volume is, and every
slice is read once. Where patches overlap, their scores are averaged by weight: flat, or a
Gaussian of one eighth of the patch's side that trusts a patch's middle more than its rim, as in
nnU-Net (Isensee et al., Nature Methods 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Case, Labels, Stopwatch

Blending = Literal["gaussian", "flat"]
BLENDINGS: tuple[Blending, ...] = get_args(Blending)

SIGMA_SHARE = 0.125
"""Of a patch's side, the width of its Gaussian."""

LOWEST_WEIGHT = 1e-3
"""Of the Gaussian's peak, at least this much at a patch's corner, where it may be alone."""

Ask: TypeAlias = "Callable[[Tensor], Tensor]"
"""(n, c, z, y, x) float32 on the device -> scores (n, C, z, y, x)."""

Prepare: TypeAlias = "Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]"
"""Slices as the file has them, (n, Y, X[, 3]) -> float32 (c, n, Y, X)."""

Finish: TypeAlias = "Callable[[Tensor, int, int], None]"
"""(scores (C, n, Y, X), start, stop) of slices that are finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a volume is cut.

    patch: voxels (z, y, x)
    overlap: share of a patch that its neighbour covers too, from 0 to below 1
    """

    patch: tuple[int, int, int]
    overlap: float = 0.5
    blending: Blending = "gaussian"
    batch_size: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if len(tuple(self.patch)) != 3 or min(self.patch) < 1:
            raise ModelError(f"patch is {self.patch}; allowed: three lengths (Z, Y, X) from 1")
        if not 0 <= self.overlap < 1:
            raise ModelError(f"overlap is {self.overlap}; allowed: from 0 to below 1")
        if self.blending not in BLENDINGS:
            raise ModelError(f"blending is '{self.blending}'; allowed: {', '.join(BLENDINGS)}")


def patch_starts(length: int, patch: int, overlap: float) -> list[int]:
    """Where patches start along an axis, so that every voxel is in one of them.

    The step is `patch` less its overlap, at least 1; starts are spread evenly, the last patch ends
    with the axis. An axis shorter than a patch has one, which reaches past its end.
    """
    if length <= patch:
        return [0]
    step = max(1, int(patch * (1 - overlap) + 1e-9))
    rows = -(-(length - patch) // step) + 1
    room = length - patch
    return [round(room * row / (rows - 1)) for row in range(rows)]


def blend_weights(patch: tuple[int, int, int], blending: Blending) -> npt.NDArray[np.float32]:
    """How much each voxel of a patch is trusted: float32 (z, y, x), above 0 and up to 1.

    As MONAI's `compute_importance_map` has them.
    """
    weights = np.ones(patch, np.float64)
    if blending == "gaussian":
        for axis, length in enumerate(patch):
            middle = (length - 1) / 2
            distance = (np.arange(length) - middle) / (length * SIGMA_SHARE)
            line = np.exp(-0.5 * distance**2)
            shape = [1, 1, 1]
            shape[axis] = length
            weights *= line.reshape(shape)
        weights = np.maximum(weights, LOWEST_WEIGHT)
    return weights.astype(np.float32)


def sweep(
    case: Case,
    watch: Stopwatch,
    layout: Layout,
    *,
    prepare: Prepare,
    ask: Ask,
    finish: Finish,
) -> None:
    """Ask about every patch and hand on finished slices in order, each once.

    A volume smaller than a patch is filled up with zeros behind its end, which `finish` never
    sees. Scores are summed in float32 on the layout's device.

    Raises ModelError: the network's answer is not (n, C) and the patch's size.
    """
    depth = case.shape[0]
    starts = patch_starts(depth, layout.patch[0], layout.overlap)
    slabs = _Slabs(layout, case.shape[1:])
    image = _slab_of_image(case, watch, layout, starts, prepare)
    for row, (start, slab) in enumerate(zip(starts, image, strict=True)):
        last = row + 1 == len(starts)
        stop = depth if last else starts[row + 1]
        slabs.add(slab, ask, watch)
        with watch("postprocess"):
            scores = slabs.take(stop - start)
            finish(scores, start, stop)


def _slab_of_image(
    case: Case, watch: Stopwatch, layout: Layout, starts: list[int], prepare: Prepare
) -> Iterator[npt.NDArray[np.float32]]:
    """The slab (c, z, Y', X') of each start, Y' and X' at least the patch's; no slice twice."""
    depth, high, wide = case.shape
    tall = layout.patch[0]
    held: npt.NDArray[np.float32] | None = None
    read_to = 0
    for index, start in enumerate(starts):
        stop = min(start + tall, depth)
        with watch("load"):
            raw = case.read(read_to, stop)
        with watch("preprocess"):
            fresh = prepare(raw)
            if held is None:
                held = fresh
            else:
                held = np.concatenate([held[:, start - starts[index - 1] :], fresh], axis=1)
            behind = [
                (0, 0),
                (0, max(0, tall - held.shape[1])),
                (0, max(0, layout.patch[1] - high)),
                (0, max(0, layout.patch[2] - wide)),
            ]
            filled = np.pad(held, behind) if any(after for _, after in behind) else held
        read_to = stop
        yield filled


class _Slabs:
    """Sums of scores and of weights of the slices that patches still touch."""

    def __init__(self, layout: Layout, size: tuple[int, int]) -> None:
        self._layout = layout
        self._size = size
        self._weights = torch.from_numpy(blend_weights(layout.patch, layout.blending)).to(
            layout.device
        )
        self._scores: Tensor | None = None
        self._sums: Tensor | None = None

    def add(self, slab: npt.NDArray[np.float32], ask: Ask, watch: Stopwatch) -> None:
        """Ask about every patch of a slab (c, z, Y', X') and add what is answered."""
        layout = self._layout
        _, high, wide = layout.patch
        corners = list(
            product(
                patch_starts(slab.shape[2], high, layout.overlap),
                patch_starts(slab.shape[3], wide, layout.overlap),
            )
        )
        for first in range(0, len(corners), layout.batch_size):
            few = corners[first : first + layout.batch_size]
            with watch("preprocess"):
                patches = torch.from_numpy(
                    np.stack([slab[:, :, y : y + high, x : x + wide] for y, x in few])
                ).to(layout.device)
            with watch("forward"):
                answers = ask(patches)
            with watch("postprocess"):
                self._check(answers, len(few))
                for (y, x), answer in zip(few, answers, strict=True):
                    self._add_one(answer.float(), y, x, slab.shape[2:])

    def _check(self, answers: Tensor, count: int) -> None:
        wanted = (count, *self._layout.patch)
        seen = tuple(answers.shape)
        if answers.ndim != 5 or (seen[0], *seen[2:]) != wanted or not answers.is_floating_point():
            raise ModelError(
                f"the network answers patches {self._layout.patch} with {answers.dtype} of shape "
                f"{seen}; patches are blended by their scores: floats of shape "
                f"({count}, classes, {', '.join(map(str, self._layout.patch))})"
            )

    def _add_one(self, answer: Tensor, y: int, x: int, room: tuple[int, ...]) -> None:
        tall, high, wide = self._layout.patch
        if self._scores is None or self._sums is None:
            self._scores = answer.new_zeros((len(answer), tall, *room))
            self._sums = answer.new_zeros((tall, *room))
        place = (slice(None), slice(y, y + high), slice(x, x + wide))
        self._scores[(slice(None), *place)] += answer * self._weights
        self._sums[place] += self._weights

    def take(self, count: int) -> Tensor:
        """The finished scores (C, count, Y, X) of the lowest slices, which are then let go."""
        scores, sums = self._scores, self._sums
        if scores is None or sums is None:  # pragma: no cover - a slab has at least one patch
            raise ModelError("a slab had no patches")
        high, wide = self._size
        done = scores[:, :count, :high, :wide] / sums[:count, :high, :wide]
        kept = scores.shape[1] - count
        for held in (scores.movedim(1, 0), sums):
            held[:kept] = held[count:].clone()
            held[kept:] = 0
        return done


def collect(
    case: Case,
    watch: Stopwatch,
    layout: Layout,
    *,
    prepare: Prepare,
    ask: Ask,
    decide: Callable[[Tensor], npt.NDArray[np.uint8]],
) -> Labels:
    """`sweep` with each finished part made labels at once: uint8 (Z, Y, X).

    decide: scores (C, n, Y, X) -> uint8 (n, Y, X)
    """
    labels = np.empty(case.shape, np.uint8)

    def finish(scores: Tensor, start: int, stop: int) -> None:
        labels[start:stop] = decide(scores)

    sweep(case, watch, layout, prepare=prepare, ask=ask, finish=finish)
    return labels
