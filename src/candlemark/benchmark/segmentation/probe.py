"""Train a head on a frozen backbone, on cases that are not tested.

    audit_split(train_cases, test_cases)
    segmenter, history = train_probe(
        spec, [TrainCase(case, reference), ...], epochs=30, batch_size=4, checkpoint_dir=folder
    )
    segmenter.segment(case, watch)

`spec.protocol` says which head: `linear_probe` or `upernet_frozen`. With `untrained=True` the
same head answers as it was drawn: the control that shows what the learning was worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from candlemark import progress
from candlemark.errors import DatasetError
from candlemark.models.segmentation.backbones import Backbone, load_backbone
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec
from candlemark.models.segmentation.maps import Maps
from candlemark.models.segmentation.pixels import batches, rgb
from candlemark.models.segmentation.probe import Head, ProbeSegmenter, build_head
from candlemark.records import content_id
from candlemark.training.config import TrainingConfig
from candlemark.training.dense import DenseFeatures, PixelClasses, keep_features
from candlemark.training.frozen import feature_folder
from candlemark.training.loop import FitResult, fit
from candlemark.training.position import History

LEARNING_RATE: dict[str, float] = {"linear_probe": 1e-2, "upernet_frozen": 1e-3}
WEIGHT_DECAY = 1e-4
CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class TrainCase:
    """A case to learn from: its image, and its reference by slices.

    reference: (start, stop) -> uint8 (stop - start, Y, X), labels of the spec's classes and 0
    release: called when the case has been looked at, to let go of what is kept of its files
    """

    case: Case
    reference: Callable[[int, int], Labels]
    release: Callable[[], None] = lambda: None


def train_probe(
    spec: SegmenterSpec,
    train: Sequence[TrainCase],
    *,
    epochs: int,
    batch_size: int,
    checkpoint_dir: Path,
    untrained: bool = False,
) -> tuple[ProbeSegmenter, History]:
    """A segmenter that has learnt from `train`, and what training was like, one row an epoch.

    spec.options: "image_size" (S), "learning_rate"; others are left to whom they concern
    spec.seed: of random weights, of the head and of the order of slices
    batch_size: slices in the network at once, and of an update
    checkpoint_dir: where a killed training goes on, with the same bits on a CPU

    Every slice of every case is learnt from; features are computed once, and kept in files
    beside the checkpoint where they are many.

    Raises DatasetError: no case, one twice, a label that is no class, or no voxel of any class.
    ModelError: as `load_backbone` and `build_head`; the checkpoint belongs to another run.
    """
    device = torch.device(spec.device)
    backbone = load_backbone(spec)
    labels = sorted(spec.classes)
    head = build_head(spec.protocol, backbone, classes=len(labels) + 1, seed=spec.seed)
    backbone.module.to(device)
    head.to(device)
    table = np.array([0, *labels], np.uint8)
    learnt: dict[str, Any] = {"untrained": untrained, "head_parameters": _count(head)}
    history: History = ()
    if not untrained:
        result, data, found = _train(
            spec, backbone, head, train, epochs=epochs, size=batch_size, folder=checkpoint_dir
        )
        history = result.history
        learnt |= _facts(spec, train, data, found, result)
    segmenter = ProbeSegmenter(
        backbone=backbone,
        head=head.eval(),
        table=table,
        batch_size=batch_size,
        device=device,
        learnt=frozenset() if untrained else frozenset(one.case.id for one in train),
        facts={**backbone.facts, "protocol": spec.protocol, "head": type(head).__name__, **learnt},
    )
    return segmenter, history


def audit_split(
    train: Sequence[Case], test: Sequence[Case], *, contents: Mapping[str, str] | None = None
) -> None:
    """Refuse a split in which a case is on both sides: by id, by file, or by content.

    contents: hash of each case's content by its id, where it is known

    Raises DatasetError: names the cases; or a side is empty.
    """
    if not train or not test:
        raise DatasetError(
            f"{len(train)} cases to learn from and {len(test)} to test; each needs 1 or more"
        )
    ids = {case.id for case in train} & {case.id for case in test}
    if ids:
        raise DatasetError(
            f"{_some(ids)} would be learnt from and tested: a score on it would say what the head "
            "remembers; each case goes to one split of dataset.splits"
        )
    places = {case.path.resolve(): case.id for case in train}
    both = {f"{places[p]} = {case.id}" for case in test if (p := case.path.resolve()) in places}
    if both:
        raise DatasetError(
            f"{_some(both)}: one file under two ids would be learnt from and tested; "
            "name it once in the pairs"
        )
    held = {contents[case.id]: case.id for case in train if case.id in contents} if contents else {}
    same = {
        f"{held[found]} = {case.id}"
        for case in test
        if contents and (found := contents.get(case.id)) in held
    }
    if same:
        raise DatasetError(
            f"{_some(same)}: copies of one scan would be learnt from and tested; keep one of them"
        )


def _train(
    spec: SegmenterSpec,
    backbone: Backbone,
    head: Head,
    train: Sequence[TrainCase],
    *,
    epochs: int,
    size: int,
    folder: Path,
) -> tuple[FitResult, DenseFeatures, np.ndarray[Any, np.dtype[np.int64]]]:
    """Fit the head in place; also the features, and how many voxels of each class were seen."""
    _check(train)
    device = torch.device(spec.device)
    classes = sorted(spec.classes)
    count = sum(one.case.shape[0] for one in train)
    voxels = np.zeros(len(classes) + 1, np.int64)
    with feature_folder(folder) as place:
        place.mkdir(parents=True, exist_ok=True)
        with progress.track("computing features", total=count, unit="slices") as bar:
            parts = _parts(backbone, train, classes, voxels, size=size, device=device, bar=bar)
            data = keep_features(parts, count=count, path=place / "train")
        if not voxels[1:].any():
            raise DatasetError(
                f"no voxel of {', '.join(spec.classes.values())} in the {len(train)} cases to "
                "learn from; put cases that show them into the training split"
            )
        head.standardise.learn(_stored(data, size))
        head.start_from(torch.from_numpy(voxels / voxels.sum()))
        result = fit(
            head,
            _as_it_is,
            data,
            None,
            _config(spec, epochs=epochs, batch_size=size),
            class_count=len(classes) + 1,
            device=device,
            seed=spec.seed,
            objective=PixelClasses(
                len(classes) + 1, data={"labels": data.digest, "backbone": _identity(backbone)}
            ),
            checkpoint_dir=folder,
        )
    return result, data, voxels


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


def _check(train: Sequence[TrainCase]) -> None:
    if not train:
        raise DatasetError("no case to learn from; give dataset.splits or a larger train_share")
    ids = [one.case.id for one in train]
    twice = {one for one in ids if ids.count(one) > 1}
    if twice:
        raise DatasetError(f"{_some(twice)} is given twice to learn from")


def _parts(
    backbone: Backbone,
    train: Sequence[TrainCase],
    classes: Sequence[int],
    voxels: np.ndarray[Any, np.dtype[np.int64]],
    *,
    size: int,
    device: torch.device,
    bar: progress.Bar,
) -> Iterator[tuple[Maps, Tensor]]:
    """Maps and labels of all slices, in batches; adds to `voxels` how many each class has."""
    table = np.full(256, len(classes) + 1, np.uint8)
    table[[0, *classes]] = np.arange(len(classes) + 1)
    for one in train:
        case = one.case
        window = case.window()
        for start, stop in batches(case, size):
            numbers = _numbers(one, start, stop, table, len(classes))
            voxels += np.bincount(numbers.ravel(), minlength=len(voxels))
            pixels = backbone.prepare(rgb(case.read(start, stop), window), device)
            with torch.no_grad():
                maps = backbone.module(pixels)
            yield maps, _resized(numbers, backbone.side)
            bar.advance(stop - start)
        one.release()


def _numbers(one: TrainCase, start: int, stop: int, table: Labels, classes: int) -> Labels:
    """The head's class of each pixel of those slices of the reference."""
    case, found = one.case, one.reference(start, stop)
    expected = (stop - start, *case.shape[1:])
    if found.shape != expected:
        raise DatasetError(
            f"the reference of case {case.id} gives slices {start} to {stop} as {found.shape}; "
            f"the image has {expected}"
        )
    numbers: Labels = table[found]
    if numbers.max(initial=0) > classes:
        wrong = sorted({int(value) for value in np.unique(found[numbers > classes])})
        raise DatasetError(
            f"the reference of case {case.id} holds label {wrong[0]}, which is no class of this "
            "benchmark; name it under dataset.classes"
        )
    return numbers


def _resized(numbers: Labels, side: int) -> Tensor:
    """uint8 (n, S, S): the class at the middle of each pixel that the network sees."""
    rows, columns = numbers.shape[1:]
    down = ((np.arange(side) + 0.5) * rows / side).astype(np.intp)
    across = ((np.arange(side) + 0.5) * columns / side).astype(np.intp)
    return torch.from_numpy(np.ascontiguousarray(numbers[:, down[:, None], across]))


def _stored(data: DenseFeatures, size: int) -> Iterator[Maps]:
    for start in range(0, len(data), size):
        indices = np.arange(start, min(start + size, len(data)))
        yield {name: store.read(indices) for name, store in data.features.items()}


def _identity(backbone: Backbone) -> str:
    """What a checkpoint knows its features by."""
    told = {**backbone.facts, "mean": list(backbone.mean), "std": list(backbone.std)}
    return content_id({name: value for name, value in told.items() if value is not None})


def _facts(
    spec: SegmenterSpec,
    train: Sequence[TrainCase],
    data: DenseFeatures,
    voxels: np.ndarray[Any, np.dtype[np.int64]],
    result: FitResult,
) -> Mapping[str, Any]:
    names = [spec.classes[label] for label in sorted(spec.classes)]
    return {
        "train_cases": sorted(one.case.id for one in train),
        "train_slices": len(data),
        "train_voxels": {name: int(n) for name, n in zip(names, voxels[1:], strict=True)},
        "epochs": len(result.history),
        "steps": result.steps,
        "learning_rate": _config(spec, epochs=1, batch_size=1).learning_rate,
        "resumed_at_step": result.resumed_at_step,
        "training_time_s": result.duration_s,
        "head_seed": spec.seed,
    }


def _count(head: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in head.parameters())


def _as_it_is(maps: Maps) -> Maps:
    return maps


def _some(names: set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"case {', '.join(shown[:3])}{more}"
