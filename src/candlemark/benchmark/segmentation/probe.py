"""Train heads on a frozen backbone, each on cases that it does not answer for.

    audit_split(train_cases, test_cases)
    cases = [TrainCase(case, reference), ...]
    segmenter, history = train_probe(
        spec, cases, folds, epochs=30, batch_size=4, checkpoint_dir=folder
    )
    segmenter.of(case.id).segment(case, watch)      # by the head of the case's fold

`spec.protocol` says which head: `linear_probe` or `upernet_frozen`. `draw_probe` gives the same
head as it is drawn: the control that shows what the learning was worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from candlemark import progress
from candlemark.benchmark.segmentation.folds import Fold, some_cases
from candlemark.benchmark.segmentation.seen import Seen, TrainCase, look_at
from candlemark.errors import DatasetError
from candlemark.models.segmentation.backbones import Backbone, load_backbone
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.maps import Maps
from candlemark.models.segmentation.probe import (
    FoldedSegmenter,
    Head,
    ProbeSegmenter,
    build_head,
)
from candlemark.records import content_id
from candlemark.training.config import TrainingConfig
from candlemark.training.dense import DenseFeatures, PixelClasses
from candlemark.training.frozen import feature_folder
from candlemark.training.loop import FitResult, fit
from candlemark.training.position import History, Row
from candlemark.training.tensors import by_name

LEARNING_RATE: dict[str, float] = {"linear_probe": 1e-2, "upernet_frozen": 1e-3}
WEIGHT_DECAY = 1e-4
CHECKPOINT_EVERY_S = 30.0


def train_probe(
    spec: SegmenterSpec,
    cases: Sequence[TrainCase],
    folds: Sequence[Fold],
    *,
    epochs: int,
    batch_size: int,
    checkpoint_dir: Path,
) -> tuple[FoldedSegmenter, History]:
    """A head a fold, each of which has learnt from its `train` and answers for its `test`.

    cases: all that any head learns from
    spec.options: "image_size" (S), "learning_rate"; others are left to whom they concern
    spec.seed: of random weights, of the heads and of the order of slices
    batch_size: slices in the network at once, and of an update
    checkpoint_dir: where a killed training goes on, with the same bits on a CPU; each head has a
        folder of its own there

    The history has a row an epoch of every head, which names its fold, from 1. Every slice is
    learnt from. Features are computed once for all heads, and kept in files beside the
    checkpoints where they are many; what features are standardised by and the odds of each class
    are of a head's own cases.

    Raises DatasetError: no case, one twice, one that a head would learn from and answer for or
    that two heads would answer for, a label that is no class, or no voxel of any class.
    ModelError: as `load_backbone` and `build_head`; a checkpoint belongs to another run.
    """
    _check(cases, folds)
    device = torch.device(spec.device)
    backbone = load_backbone(spec)
    backbone.module.to(device)
    heads: list[ProbeSegmenter] = []
    history: list[Row] = []
    with feature_folder(checkpoint_dir) as place:
        place.mkdir(parents=True, exist_ok=True)
        seen = look_at(spec, backbone, cases, size=batch_size, place=place)
        with progress.track("heads", total=len(folds)) as bar:
            for number, fold in enumerate(folds, 1):
                head = _head(spec, backbone)
                result = _train(
                    *(spec, backbone, head.to(device), seen),
                    fold=fold,
                    number=number,
                    epochs=epochs,
                    size=batch_size,
                    folder=checkpoint_dir / f"fold-{number}",
                )
                history += [{"fold": number, **row} for row in result.history]
                heads.append(
                    _segmenter(
                        *(spec, backbone, head.cpu()),
                        batch_size=batch_size,
                        learnt=fold.train,
                        facts=_fold_facts(spec, fold, seen, number, result),
                    )
                )
                bar.advance()
    facts = {
        **_facts(spec, backbone, heads[0].head, untrained=False),
        "learning_rate": _config(spec, epochs=epochs, batch_size=batch_size).learning_rate,
        "training_time_s": sum(one.facts["training_time_s"] for one in heads),
        "heads": [dict(one.facts) for one in heads],
    }
    fold_of = {case: place for place, fold in enumerate(folds) for case in fold.test}
    return FoldedSegmenter(heads=tuple(heads), fold_of=fold_of, facts=facts), tuple(history)


def draw_probe(spec: SegmenterSpec, *, batch_size: int) -> ProbeSegmenter:
    """The head that `train_probe` would begin with: the control of what the learning was worth.

    Raises ModelError: as `load_backbone` and `build_head`.
    """
    backbone = load_backbone(spec)
    head = _head(spec, backbone)
    backbone.module.to(spec.device)
    head.to(spec.device)
    facts = _facts(spec, backbone, head, untrained=True)
    return _segmenter(spec, backbone, head, batch_size=batch_size, learnt=(), facts=facts)


def _head(spec: SegmenterSpec, backbone: Backbone) -> Head:
    return build_head(spec.protocol, backbone, classes=len(spec.classes) + 1, seed=spec.seed)


def _segmenter(
    spec: SegmenterSpec,
    backbone: Backbone,
    head: Head,
    *,
    batch_size: int,
    learnt: Sequence[str],
    facts: Mapping[str, Any],
) -> ProbeSegmenter:
    return ProbeSegmenter(
        backbone=backbone,
        head=head.eval(),
        table=np.array([0, *sorted(spec.classes)], np.uint8),
        batch_size=batch_size,
        device=torch.device(spec.device),
        learnt=frozenset(learnt),
        facts=facts,
    )


def _train(
    spec: SegmenterSpec,
    backbone: Backbone,
    head: Head,
    seen: Seen,
    *,
    fold: Fold,
    number: int,
    epochs: int,
    size: int,
    folder: Path,
) -> FitResult:
    """Fit the head in place, on the slices of its own cases."""
    data, voxels = seen.part(fold.train), seen.voxels_of(fold.train)
    if not voxels[1:].any():
        raise DatasetError(
            f"no voxel of {', '.join(spec.classes.values())} in any case that the head of fold "
            f"{number} learns from ({len(fold.train)} in all); give more cases that show them, or "
            "choose the cases in dataset.splits"
        )
    head.standardise.learn(_stored(data, size))
    head.start_from(torch.from_numpy(voxels / voxels.sum()))
    return fit(
        head,
        _as_it_is,
        data,
        None,
        _config(spec, epochs=epochs, batch_size=size),
        class_count=len(voxels),
        device=torch.device(spec.device),
        seed=spec.seed,
        objective=PixelClasses(
            len(voxels), data={"labels": data.digest, "backbone": _identity(backbone)}
        ),
        checkpoint_dir=folder,
    )


def _config(spec: SegmenterSpec, *, epochs: int, batch_size: int) -> TrainingConfig:
    rate = float(spec.options.get("learning_rate") or LEARNING_RATE[spec.protocol])
    return TrainingConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        weight_decay=WEIGHT_DECAY,
        patience=None,
        class_weights=False,
        checkpoint_every_s=CHECKPOINT_EVERY_S,
    )


def _check(cases: Sequence[TrainCase], folds: Sequence[Fold]) -> None:
    ids = [one.case.id for one in cases]
    twice = {one for one in ids if ids.count(one) > 1}
    if twice:
        raise DatasetError(f"{some_cases(twice)} is given twice to learn from")
    if not folds or not all(fold.train for fold in folds):
        raise DatasetError("no case to learn from; name some under train in dataset.splits")
    answered = [one for fold in folds for one in fold.test]
    several = {one for one in answered if answered.count(one) > 1}
    if several:
        raise DatasetError(f"{some_cases(several)} is in two folds; one head answers for a case")
    for number, fold in enumerate(folds, 1):
        if both := set(fold.train) & set(fold.test):
            raise DatasetError(
                f"{some_cases(both)} would be learnt from and answered for by the head of fold "
                f"{number}"
            )
        if unknown := set(fold.train) - set(ids):
            raise DatasetError(
                f"fold {number} learns from {some_cases(unknown)}, which is not there"
            )


def _stored(data: DenseFeatures, size: int) -> Iterator[Maps]:
    for start in range(0, len(data), size):
        features, _ = data.batch(np.arange(start, min(start + size, len(data))))
        yield by_name(features)


def _identity(backbone: Backbone) -> str:
    """What a checkpoint knows its features by."""
    told = {**backbone.facts, "mean": list(backbone.mean), "std": list(backbone.std)}
    return content_id({name: value for name, value in told.items() if value is not None})


def _facts(
    spec: SegmenterSpec, backbone: Backbone, head: Head, *, untrained: bool
) -> dict[str, Any]:
    return {
        **backbone.facts,
        "protocol": spec.protocol,
        "head": type(head).__name__,
        "head_parameters": sum(parameter.numel() for parameter in head.parameters()),
        "head_seed": spec.seed,
        "untrained": untrained,
    }


def _fold_facts(
    spec: SegmenterSpec, fold: Fold, seen: Seen, number: int, result: FitResult
) -> dict[str, Any]:
    names = [spec.classes[label] for label in sorted(spec.classes)]
    voxels = seen.voxels_of(fold.train)
    return {
        "fold": number,
        "train_cases": sorted(fold.train),
        "test_cases": sorted(fold.test),
        "train_slices": sum(len(seen.slices[one]) for one in fold.train),
        "train_voxels": {name: int(n) for name, n in zip(names, voxels[1:], strict=True)},
        "epochs": len(result.history),
        "steps": result.steps,
        "resumed_at_step": result.resumed_at_step,
        "training_time_s": result.duration_s,
    }


def _as_it_is(maps: Maps) -> Maps:
    return maps
