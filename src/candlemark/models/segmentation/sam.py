"""SAM and SAM 2, which are asked with places: a grid of points, or what an oracle shows.

    n slices, P prompts of a slice, M masks of a prompt (1 or 3), h x w places of a mask

    build_sam(spec, batch_size=4)            # by spec.protocol
        sam_auto            a grid of points; a declared rule says which masks are foreground
        sam_oracle_box      a box around each part of the reference
        sam_oracle_point    the point deepest inside each part

An oracle's score says what the model could do if somebody drew the box: its rows stand in a
table of their own. With `jitter` the prompt is moved, seeded, by up to that share of its box.
Volumes are read slice by slice; slices without a prompt are background and are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.choose import POINTED, describe_segmenter
from candlemark.models.segmentation.frames import Eye, crop, open_eye
from candlemark.models.segmentation.pixels import batches, labels_of, rgb
from candlemark.models.segmentation.prompts import (
    Part,
    grid_points,
    moved_box,
    moved_point,
    parts_of,
    random_of,
)

POINTS_PER_SIDE = 16
"""SAM's authors take 32: four times the prompts, for parts of a 32nd of a slice."""

PREDICTED_IOU = 0.88
STABILITY = 0.95
STABILITY_OFFSET = 1.0
"""As in the authors' mask generator: overlap of the mask at scores of +1 and -1."""

LARGEST_SHARE = 0.5
FRAME = "filled up to a square with the mean colour that it was trained with"
PROMPTS_AT_ONCE = 32

AUTO_RULE = (
    f"union of the masks of a grid of {POINTS_PER_SIDE} points along the longer side that have a "
    f"predicted IoU of {PREDICTED_IOU} or more and a stability of {STABILITY} or more, and cover "
    "at most half of the slice"
)
ORACLE_RULES: Mapping[str, str] = {
    "sam_oracle_box": "one box around each 8-connected part of each class on each slice, one mask",
    "sam_oracle_point": (
        "the pixel deepest inside each 8-connected part of each class on each slice, the mask of "
        "three that the model thinks best"
    ),
}


class _Asked:
    """Embeds slices once and decodes any number of prompts on each."""

    def __init__(self, eye: Eye, batch_size: int) -> None:
        self.eye = eye
        self.batch_size = batch_size

    def read(self, pictures: npt.NDArray[np.uint8]) -> Tensor:
        """uint8 (n, Y, X, 3) -> (n, 3, S, S) on the device, filled up with 0 as in training."""
        high, wide = pictures.shape[1:3]
        longer = max(high, wide)
        # Filled up with its own border while it is resized, which black would make darker.
        missing = ((0, 0), (0, longer - high), (0, longer - wide), (0, 0))
        pixels = self.eye.read(np.pad(pictures, missing, mode="edge"))
        pixels[:, :, round(self.eye.side * high / longer) :] = 0.0
        pixels[:, :, :, round(self.eye.side * wide / longer) :] = 0.0
        return pixels.to(self.eye.device)

    def embed(self, pixels: Tensor) -> Any:
        """(n, 3, S, S) -> what the decoder sees: a tensor, or several of SAM 2."""
        return self.eye.module.get_image_embeddings(pixels)

    def decode(
        self, embedded: Any, item: int, prompts: Sequence[Sequence[float]], scale: float
    ) -> tuple[Tensor, Tensor]:
        """Scores of masks (P, M, h, w) and the model's own rating (P, M) of one slice.

        prompts: points (x, y), each three masks, or boxes (x0, y0, x1, y1), each one
        scale: px as the model sees them by px of the slice
        """
        alone = (
            embedded[item : item + 1]
            if isinstance(embedded, Tensor)
            else [level[item : item + 1] for level in embedded]
        )
        places = as_the_model_sees(prompts, scale).to(self.eye.device)
        as_boxes = places.shape[1] == 4
        asked = (
            {"input_boxes": places[None]} if as_boxes else {"input_points": places[None, :, None]}
        )
        made = self.eye.module(image_embeddings=alone, multimask_output=not as_boxes, **asked)
        return made.pred_masks[0].float(), made.iou_scores[0].float()


class SamAuto:
    """Everything that stands out, by a grid of points and a rule that was stated before."""

    def __init__(self, eye: Eye, label: int, *, batch_size: int, facts: dict[str, Any]) -> None:
        self._asked = _Asked(eye, batch_size)
        self._label = label
        self.facts = facts

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X)."""
        asked, size = self._asked, case.shape[1:]
        side = max(size)
        scale = asked.eye.side / side
        labels = np.empty(case.shape, np.uint8)
        points = grid_points(size, POINTS_PER_SIDE)
        with watch("load"):
            window = case.window()
        for start, stop in batches(case, asked.batch_size):
            with watch("load"):
                slices = case.read(start, stop)
            with watch("preprocess"):
                pixels = asked.read(rgb(slices, window))
            with watch("forward"), torch.inference_mode():
                embedded = asked.embed(pixels)
            for item in range(stop - start):
                taken: list[Tensor] = []
                for first in range(0, len(points), PROMPTS_AT_ONCE):
                    some = points[first : first + PROMPTS_AT_ONCE]
                    with watch("forward"), torch.inference_mode():
                        masks, rated = asked.decode(embedded, item, some, scale)
                    with watch("postprocess"), torch.inference_mode():
                        taken.append(masks_taken(masks, rated, (size[0] / side, size[1] / side)))
                with watch("postprocess"):
                    masks = torch.cat(taken)
                    whole = _drawn(masks, [self._label] * len(masks), side)
                    labels[start + item] = crop(whole, size)[0]
        return labels


class SamOracle:
    """One mask for each part of the reference, which its prompt is taken from."""

    def __init__(self, eye: Eye, spec: SegmenterSpec, *, batch_size: int, jitter: float) -> None:
        self._asked = _Asked(eye, batch_size)
        self._spec = spec
        self._labels = tuple(spec.classes)
        self._jitter = jitter
        self.facts: dict[str, Any] = {
            **eye.facts(spec.protocol, frame=FRAME),
            "oracle": True,
            "prompt": ORACLE_RULES[spec.protocol],
            "jitter": jitter,
            "jitter_seed": spec.seed,
        }

    def segment_with(self, case: Case, reference: Labels, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X); 0 where the reference gives no prompt.

        Raises ModelError: a reference of another shape.
        """
        if reference.shape != case.shape:
            raise ModelError(
                f"the reference of {case.id} has shape {reference.shape}, and the scan "
                f"{case.shape}; an oracle needs both on one grid"
            )
        labels = np.zeros(case.shape, np.uint8)
        with watch("load"):
            window = case.window()
        for start, stop in batches(case, self._asked.batch_size):
            with watch("preprocess"):
                parts = {z: parts_of(reference[z], self._labels) for z in range(start, stop)}
            shown = [z for z, found in parts.items() if found]
            if shown:
                self._segment_some(case, window, {z: parts[z] for z in shown}, labels, watch)
        return labels

    def _segment_some(
        self,
        case: Case,
        window: tuple[float, float],
        parts: Mapping[int, list[Part]],
        labels: Labels,
        watch: Stopwatch,
    ) -> None:
        """Fill in slices that lie close together, each with at least one part."""
        asked, size = self._asked, case.shape[1:]
        side = max(size)
        places = list(parts)
        with watch("load"):
            slices = case.read(places[0], places[-1] + 1)[[z - places[0] for z in places]]
        with watch("preprocess"):
            pixels = asked.read(rgb(slices, window))
            prompts = {z: self._prompts(case.id, z, parts[z], size) for z in places}
        with watch("forward"), torch.inference_mode():
            embedded = asked.embed(pixels)
        for item, z in enumerate(places):
            best: list[Tensor] = []
            for first in range(0, len(parts[z]), PROMPTS_AT_ONCE):
                some = slice(first, first + PROMPTS_AT_ONCE)
                with watch("forward"), torch.inference_mode():
                    masks, rated = asked.decode(
                        embedded, item, prompts[z][some], asked.eye.side / side
                    )
                with watch("postprocess"), torch.inference_mode():
                    best.append(masks[torch.arange(len(masks)), rated.argmax(dim=1).cpu()])
            with watch("postprocess"):
                whole = _drawn(torch.cat(best), [part.label for part in parts[z]], side)
                labels[z] = crop(whole, size)[0]

    def _prompts(
        self, case_id: str, z: int, parts: Sequence[Part], size: tuple[int, int]
    ) -> list[tuple[float, ...]]:
        move = moved_box if self._spec.protocol == "sam_oracle_box" else moved_point
        return [
            move(part, self._jitter, random_of(self._spec.seed, case_id, z, order), size)
            for order, part in enumerate(parts)
        ]


def build_sam(spec: SegmenterSpec, *, batch_size: int) -> SamAuto | SamOracle:
    """SAM or SAM 2 under the protocol of `spec`.

    spec.options["jitter"]: of oracles, the share of its box by which a prompt is moved, 0 to 1

    Raises ModelError: another kind of model; more than one class where no oracle tells them
    apart; no such jitter; weights that cannot be had or lack tensors.
    """
    described = describe_segmenter(spec.source, weights=spec.weights)
    if described.model_class not in POINTED:
        raise ModelError(
            f"{spec.source} is a {described.model_class}, which is not asked with points or "
            f"boxes; {spec.protocol} takes {', '.join(sorted(POINTED))}"
        )
    auto = spec.protocol == "sam_auto"
    if auto and len(spec.classes) != 1:
        raise ModelError(
            f"sam_auto tells things from their background, not {len(spec.classes)} classes "
            f"({', '.join(spec.classes.values())}) from each other; take them as one with --binary"
        )
    jitter = 0.0 if auto else _jitter(spec)
    eye = open_eye(spec, described)
    if not auto:
        return SamOracle(eye, spec, batch_size=batch_size, jitter=jitter)
    facts = {**eye.facts("sam_auto", frame=FRAME), "oracle": False, "prompt": AUTO_RULE}
    return SamAuto(eye, next(iter(spec.classes)), batch_size=batch_size, facts=facts)


def as_the_model_sees(prompts: Sequence[Sequence[float]], scale: float) -> Tensor:
    """Places on a slice as places among the model's pixels: float32 (P, 2) or (P, 4).

    prompts: points (x, y), each a pixel's middle, or boxes (x0, y0, x1, y1), their first and last
        pixel; pixels are counted from 0
    scale: px as the model sees them by px of the slice

    A pixel of a slice of 64 px is 16 of SAM's: a point goes to the middle of them, a box from the
    first to the last. Multiplied by the scale alone, as the library does, both would lie half a
    pixel up and left, and a box would leave out its last row and column.
    """
    places = torch.tensor(prompts, dtype=torch.float32)
    if places.shape[1] == 2:
        return (places + 0.5) * scale - 0.5
    first, last = places[:, :2] * scale, (places[:, 2:] + 1) * scale - 1
    return torch.cat([first, torch.maximum(first, last)], dim=1)  # a large slice's may be less


def masks_taken(masks: Tensor, rated: Tensor, inside: tuple[float, float]) -> Tensor:
    """The masks that the rule takes, as scores (K, h, w).

    masks: scores (P, M, h, w); rated: the model's predicted IoU (P, M)
    inside: shares of the rows and columns that are slice; the rest was filled up
    """
    scores, sure = masks.flatten(0, 1), rated.flatten()
    high, wide = scores.shape[-2:]
    rows, columns = max(1, round(high * inside[0])), max(1, round(wide * inside[1]))
    slice_only = scores[:, :rows, :columns]
    stable = stability(slice_only)
    share = (slice_only > 0).float().mean(dim=(1, 2))
    taken = (sure >= PREDICTED_IOU) & (stable >= STABILITY) & (share <= LARGEST_SHARE)
    return scores[taken]


def stability(scores: Tensor) -> Tensor:
    """(K, h, w) -> (K,): area above +1 by area above -1; 0 where there is none."""
    tight = (scores > STABILITY_OFFSET).sum(dim=(1, 2)).float()
    loose = (scores > -STABILITY_OFFSET).sum(dim=(1, 2)).float()
    return tight / loose.clamp(min=1)


def _drawn(masks: Tensor, labels: Sequence[int], side: int) -> Labels:
    """Scores of masks (K, h, w) as labels (1, side, side): of those above 0 the highest wins.

    Each mask is enlarged by itself, as the library does: of two that were joined before, the
    border between them would move.
    """
    scores = torch.cat([masks.new_zeros(1, *masks.shape[1:]), masks])[None]
    return labels_of(scores, (side, side), table=np.array([0, *labels], np.uint8))


def _jitter(spec: SegmenterSpec) -> float:
    value = spec.options.get("jitter", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ModelError(
            f"jitter = {value!r} of {spec.name}; allowed: one share of the box's size, 0 to 1"
        )
    return float(value)
