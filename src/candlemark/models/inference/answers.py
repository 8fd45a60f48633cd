"""What outputs mean: labels, vectors, boxes, masks and tokens, one answer an item.

    N items, C classes, Q queries, R x R pixels as a user has them

    best_labels({"logits": (N, C)}, names={0: "up", 1: "down"})
    # [[{"label": "up", "score": 0.7}, {"label": "down", "score": 0.3}], ...]

Each does what the library's own post-processing does, on outputs that are on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.models.inference.base import Tensors

TOP = 5
"""Classes in the answer of a classifier."""

SCORE = 0.5
"""Boxes that a detector is less sure of are left out of its answer."""


def best_labels(outputs: Tensors, *, names: Mapping[int, str]) -> list[Any]:
    """The five likeliest classes with their probabilities, the best first."""
    chances = outputs["logits"].float().softmax(-1)
    scores, classes = chances.topk(min(TOP, chances.shape[-1]))
    return [
        [
            {"label": names.get(index, str(index)), "score": score}
            for index, score in zip(some_classes, some_scores, strict=True)
        ]
        for some_classes, some_scores in zip(classes.tolist(), scores.tolist(), strict=True)
    ]


def vectors(outputs: Tensors) -> list[Any]:
    """One float32 vector (F,) a picture."""
    return list(outputs["features"].float().numpy())


def boxes(outputs: Tensors, *, config: Any, side: int) -> list[Any]:
    """Label, score and box (left, top, right, bottom) in px of what scores above one half.

    Detectors have either a class for "nothing" and a softmax, or a sigmoid for each class; the
    number of classes tells which.
    """
    logits, centred = outputs["logits"].float(), outputs["pred_boxes"].float()
    if logits.shape[-1] == config.num_labels + 1:
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        queries = torch.arange(logits.shape[1]).expand_as(labels)
    else:
        classes = logits.shape[-1]
        count = min(100, logits.shape[1] * classes)
        scores, places = logits.sigmoid().flatten(1).topk(count)
        labels, queries = places % classes, places // classes
    half = centred[..., 2:] / 2
    corners = torch.cat([centred[..., :2] - half, centred[..., :2] + half], dim=-1) * side
    names = config.id2label
    return [
        [
            {
                "label": names.get(int(labels[item, place]), str(int(labels[item, place]))),
                "score": float(scores[item, place]),
                "box": corners[item, queries[item, place]].tolist(),
            }
            for place in (scores[item] > SCORE).nonzero()[:, 0].tolist()
        ]
        for item in range(len(logits))
    ]


def pixel_classes(outputs: Tensors, *, side: int) -> list[Any]:
    """Classes, int64 (R, R) a picture. One at a time: all at once may not fit in memory."""
    if "masks_queries_logits" in outputs:
        return _query_classes(outputs, side=side)
    return [
        _resized(logits[None].float(), side)[0].argmax(0).numpy() for logits in outputs["logits"]
    ]


def _query_classes(outputs: Tensors, *, side: int) -> list[Any]:
    """Classes, int64 (R, R) a picture: each query votes for its class where its mask is."""
    answers = []
    pairs = zip(outputs["class_queries_logits"], outputs["masks_queries_logits"], strict=True)
    for classes, masks in pairs:
        chances = classes.float().softmax(-1)[:, :-1]
        votes = torch.einsum("qc,qhw->chw", chances, masks.float().sigmoid())
        answers.append(_resized(votes[None], side)[0].argmax(0).numpy())
    return answers


def object_masks(outputs: Tensors, *, side: int) -> list[Any]:
    """Bool (R, R) a picture: of the three masks the one that the model thinks best."""
    best = outputs["iou_scores"][:, 0].float().argmax(-1)
    chosen = outputs["pred_masks"][torch.arange(len(best)), 0, best].float()
    return list((_resized(chosen[:, None], side)[:, 0] > 0).numpy())


def _resized(maps: Tensor, side: int) -> Tensor:
    return nn.functional.interpolate(maps, (side, side), mode="bilinear", align_corners=False)


def next_tokens(outputs: Tensors, *, tokenizer: Any) -> list[Any]:
    """The likeliest token after the last one: its text, or [its id] without a tokenizer."""
    ids = outputs["logits"][:, -1:].argmax(-1)
    if tokenizer is None:
        return [row.tolist() for row in ids]
    return list(tokenizer.batch_decode(ids, skip_special_tokens=True))


def ctc_ids(outputs: Tensors, *, blank: int) -> list[list[int]]:
    """The likeliest token of each step, repeats and then blanks left out."""
    best = outputs["logits"].argmax(-1)
    merged = [row.unique_consecutive() for row in best]
    return [row[row != blank].tolist() for row in merged]
