"""Models that were trained to tell each pixel's class: SegFormer, Mask2Former, UperNet and kin.

    n slices, C classes of the model, h x w places of its scores

    segmenter = build_native_head(spec, batch_size=4)
    segmenter.facts["class_map"]             # {"2": 1}: the model's class 2 is label 1
    segmenter.segment(case, watch)           # uint8 (Z, Y, X)

A head that the weights do not hold is drawn at random by the library, which then answers as if
nothing had happened: here it is refused, with the names of what is missing. The likeliest of the
model's classes wins first, and then becomes a label by the map, as its users would do it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from candlemark.errors import ModelError
from candlemark.models.inference.tokens import load_tokenizer
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.choose import describe_segmenter, with_head
from candlemark.models.segmentation.class_map import read_class_map, unmapped
from candlemark.models.segmentation.frames import Eye, crop, open_eye
from candlemark.models.segmentation.pixels import batches, class_table, labels_of, rgb

SPARE: tuple[str, ...] = ("auxiliary_head.", "criterion.", "neck.auxiliary")
"""Beginnings of names that only training uses."""

TASK = "the task is semantic"
"""What OneFormer was trained to be told where it gives each pixel a class."""

ENLARGED: Mapping[str, int | None] = {"mask2former": 384, "eomt": None, "eomt_dinov3": None}
"""Side of the masks of queries when they become chances, by kind of model; None: of what it sees.

Their image processors in the library enlarge the masks first, those of other kinds do not.
"""


class NativeHead:
    """A network that scores each pixel, slice by slice.

    table: uint8 (C,), the label of each of its classes
    options: keyword arguments of every forward call
    """

    def __init__(self, eye: Eye, table: Labels, *, batch_size: int, facts: dict[str, Any]) -> None:
        self._eye = eye
        self._classes = len(table)
        # A single score is that of the one class against nothing: its own sign decides.
        self._table = table if len(table) > 1 else np.concatenate([np.zeros(1, np.uint8), table])
        self._batch_size = batch_size
        self._options = dict(eye.sight.options)
        self._task = task_tokens(eye)
        kind = eye.sight.config.model_type
        self._enlarged = (ENLARGED[kind] or eye.side) if kind in ENLARGED else None
        self.facts = facts

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X). Raises ModelError: the network gives no classes of pixels."""
        labels = np.empty(case.shape, np.uint8)
        size = case.shape[1:]
        side = max(size)
        with watch("load"):
            window = case.window()
        for start, stop in batches(case, self._batch_size):
            with watch("load"):
                slices = case.read(start, stop)
            with watch("preprocess"):
                pixels = self._eye.read(rgb(slices, window)).to(self._eye.device)
            with watch("forward"), torch.inference_mode():
                task = {name: ids.expand(len(pixels), -1) for name, ids in self._task.items()}
                made = self._eye.module(pixels, **task, **self._options)
            with watch("postprocess"), torch.inference_mode():
                place = start
                for scores in class_scores(made, self._enlarged):
                    whole = labels_of(self._checked(scores), (side, side), table=self._table)
                    labels[place : place + len(whole)] = crop(whole, size)
                    place += len(whole)
        return labels

    def _checked(self, scores: Tensor) -> Tensor:
        if scores.shape[1] != self._classes:
            raise ModelError(
                f"{self._eye.request.described.id} gives {scores.shape[1]} scores a pixel, and "
                f"its config names {self._classes} classes; its files do not belong together"
            )
        return scores if scores.shape[1] > 1 else torch.cat([torch.zeros_like(scores), scores], 1)


def build_native_head(spec: SegmenterSpec, *, batch_size: int) -> NativeHead:
    """The model with its own trained head.

    spec.options["class_map"]: label or name of the reference's class, by the model's own
    spec.weights: "random" is allowed, and called untrained

    Raises ModelError: no class map, or one that does not fit; weights without the head; a class
    of the library without one.
    """
    described = with_head(describe_segmenter(spec.source, weights=spec.weights))
    eye = open_eye(spec, described, lacking=("",))
    _check_head(eye)
    names = class_names(eye.sight.config)
    found = read_class_map(
        spec.options.get("class_map"), names=names, classes=spec.classes, model=spec.source
    )
    return NativeHead(
        eye,
        class_table(found, len(names)),
        batch_size=batch_size,
        facts={
            **eye.facts("native_head"),
            "class_map": {str(own): label for own, label in found.items()},
            "class_map_names": {names[own]: spec.classes[label] for own, label in found.items()},
            "classes_without_answer": unmapped(found, spec.classes),
            "model_classes": len(names),
        },
    )


def class_names(config: Any) -> dict[int, str]:
    """The model's classes by number, as its config names them."""
    return {int(number): str(name) for number, name in dict(config.id2label).items()}


def class_scores(made: Any, side: int | None = None) -> Iterator[Tensor]:
    """Scores (m, C, h, w) of all slices in order, from what a class of the library gives.

    The higher wins. Models that answer by query give each query a class and a mask; a pixel's
    score is the sum over queries of both chances, as in the library's
    `post_process_semantic_segmentation` and the papers of MaskFormer and Mask2Former. Such
    scores come one slice at a time, because enlarged masks are large.

    side: to which masks of queries are enlarged first; None: they are left as they are

    Raises ModelError: an output of another kind.
    """
    if "masks_queries_logits" in made:
        yield from _by_query(made.class_queries_logits, made.masks_queries_logits, side)
        return
    if "pred_masks" in made and "logits" in made:
        yield from _by_query(made.logits, made.pred_masks, side)
        return
    scores = made.logits if "logits" in made else None
    if scores is None or scores.ndim != 4:
        raise ModelError(
            f"{type(made).__name__} holds no scores of pixels ({', '.join(made)}); "
            "ask the model by another protocol"
        )
    yield scores


def task_tokens(eye: Eye) -> dict[str, Tensor]:
    """What OneFormer is told to do, int64 (1, T), by the name that it takes; {} for others.

    Raises ModelError: trained weights without the tokenizer that reads it.
    """
    if "task_inputs" not in inspect.signature(eye.module.forward).parameters:
        return {}
    request, config = eye.request, eye.sight.config
    length = int(getattr(config, "task_seq_len", None) or 77)
    tokenizer = load_tokenizer(request)
    if tokenizer is not None:
        read = tokenizer([TASK], padding="max_length", max_length=length, truncation=True)
        # As its processor does: padding is 0, whatever the tokenizer pads with.
        ids = torch.tensor(read["input_ids"]) * torch.tensor(read["attention_mask"])
    elif request.file is None:
        ids = torch.ones(1, length, dtype=torch.int64)
    else:
        raise ModelError(
            f"{request.described.id} is told its task in words ({TASK!r}), and has no tokenizer "
            "beside its weights; put its tokenizer.json there"
        )
    return {"task_inputs": ids.to(eye.device)}


def _by_query(classes: Tensor, masks: Tensor, side: int | None) -> Iterator[Tensor]:
    """(n, Q, C + 1) and (n, Q, h, w) -> n times (1, C, h, w); the last class is "none"."""
    for chances, answered in zip(classes.float().softmax(-1), masks.float(), strict=True):
        shown = answered[None]
        if side is not None:
            shown = interpolate(shown, size=(side, side), mode="bilinear", align_corners=False)
        yield torch.einsum("qc,nqhw->nchw", chances[:, :-1], shown.sigmoid())


def _check_head(eye: Eye) -> None:
    """Refuse weights that lack what makes the answer."""
    lost = [name for name in eye.sight.network.new if not name.startswith(SPARE)]
    if lost and eye.request.file is not None:
        described = eye.request.described
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise ModelError(
            f"{described.id} has no trained head: its weights ({eye.request.file.name}) lack "
            f"{', '.join(lost[:3])}{more} of {described.model_class}, which would be drawn at "
            "random; probe what it sees with protocol linear_probe or upernet_frozen"
        )
