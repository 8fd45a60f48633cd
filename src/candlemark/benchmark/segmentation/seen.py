"""What a frozen backbone makes of cases: features and labels of every slice, once for all heads.

    seen = look_at(spec, backbone, cases, size=4, place=folder)
    seen.part(["case_1", "case_3"])         # the slices of those cases, to learn from

References are put to the size that the network sees by the pixel in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from candlemark import progress
from candlemark.benchmark.segmentation.stated import check_learnable
from candlemark.errors import DatasetError
from candlemark.models.segmentation.backbones import Backbone
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec
from candlemark.models.segmentation.maps import Maps
from candlemark.models.segmentation.pixels import batches, rgb
from candlemark.training.batches import Indices
from candlemark.training.dense import DenseFeatures, keep_features

Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainCase:
    """A case to learn from: its image, and its reference by slices.

    reference: (start, stop) -> uint8 (stop - start, Y, X), labels of the spec's classes and 0
    release: called when the case has been looked at, to let go of what is kept of its files
    """

    case: Case
    reference: Callable[[int, int], Labels]
    release: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the backbone made of all cases, once for every head.

    slices: where those of a case stand in `data`; voxels: int64 (K,) of each class, by case
    """

    data: DenseFeatures
    slices: Mapping[str, Indices]
    voxels: Mapping[str, Counts]

    def part(self, cases: Collection[str]) -> DenseFeatures:
        """The slices of those cases, in the order in which all were seen."""
        rows = [rows for one, rows in self.slices.items() if one in cases]
        return self.data.part(np.concatenate(rows))

    def voxels_of(self, cases: Collection[str]) -> Counts:
        """int64 (K,): how many voxels of each class those cases have."""
        found: Counts = np.sum([self.voxels[one] for one in cases], axis=0)
        return found


def look_at(
    spec: SegmenterSpec, backbone: Backbone, cases: Sequence[TrainCase], *, size: int, place: Path
) -> Seen:
    """Features, labels and voxels of all cases.

    size: slices in the network at once; place: of files, where the features are many

    Raises DatasetError: a reference of another shape, or a label that is no class. ModelError:
    more classes than a head can learn.
    """
    check_learnable(spec)
    classes = sorted(spec.classes)
    counts = [one.case.shape[0] for one in cases]
    voxels = {one.case.id: np.zeros(len(classes) + 1, np.int64) for one in cases}
    with progress.track("computing features", total=sum(counts), unit="slices") as bar:
        parts = _parts(
            backbone, cases, classes, voxels, size=size, device=torch.device(spec.device), bar=bar
        )
        data = keep_features(parts, count=sum(counts), path=place / "train")
    stops = np.cumsum(counts)
    slices = {
        one.case.id: np.arange(stop - count, stop)
        for one, count, stop in zip(cases, counts, stops, strict=True)
    }
    return Seen(data, slices, voxels)


def _parts(
    backbone: Backbone,
    cases: Sequence[TrainCase],
    classes: Sequence[int],
    voxels: Mapping[str, Counts],
    *,
    size: int,
    device: torch.device,
    bar: progress.Bar,
) -> Iterator[tuple[Maps, Tensor]]:
    """Maps and labels of all slices, in batches; adds up the voxels of each class, by case."""
    table = np.full(256, len(classes) + 1, np.uint8)
    table[[0, *classes]] = np.arange(len(classes) + 1)
    for one in cases:
        case = one.case
        counts = voxels[case.id]
        window = case.window()
        for start, stop in batches(case, size):
            numbers = _numbers(one, start, stop, table, len(classes))
            counts += np.bincount(numbers.ravel(), minlength=len(counts))
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
