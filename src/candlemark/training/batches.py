"""Batches of any torch dataset, in an order that depends on nothing but seed and epoch.

for indices in epoch_batches(len(data), batch_size=64, seed=0, epoch=3):
    images, targets = fetch(data, indices)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from candlemark.errors import DatasetError

Indices = npt.NDArray[np.int64]


class MapDataset(Protocol):
    """A torch map-style dataset of (image, class) pairs.

    A dataset may add `__getitems__(indices)`, which gives the whole batch at once, as a list
    of pairs or as the tuple (images, targets); and `targets`, all classes without the images.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def epoch_batches(count: int, *, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """The shuffled batches of one epoch: a pure function of its arguments.

    A last batch of one sample joins the one before: batch norm cannot learn from one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count).astype(np.int64)
    cuts = list(range(batch_size, count, batch_size))
    if cuts and count - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)


def ordered_batches(count: int, batch_size: int) -> Iterator[Indices]:
    """All samples in their own order."""
    for start in range(0, count, batch_size):
        yield np.arange(start, min(start + batch_size, count), dtype=np.int64)


def fetch(data: MapDataset, indices: Indices) -> tuple[Tensor, Tensor]:
    """(images, int64 targets) of the samples at `indices`, by one call where the data allows.

    Raises DatasetError: what came back is no batch of pairs.
    """
    wanted = [int(index) for index in indices]
    whole = getattr(data, "__getitems__", None)
    items = whole(wanted) if whole is not None else [data[index] for index in wanted]
    if isinstance(items, tuple) and len(items) == 2:
        images, targets = torch.as_tensor(items[0]), torch.as_tensor(items[1])
    else:
        images = torch.stack([torch.as_tensor(image) for image, _ in items])
        targets = torch.stack([torch.as_tensor(target) for _, target in items])
    if len(images) != len(wanted) or targets.shape != (len(wanted),):
        raise DatasetError(
            f"asked for {len(wanted)} samples, got images {tuple(images.shape)} "
            f"and targets {tuple(targets.shape)}"
        )
    return images, targets.long()


def all_targets(data: MapDataset, *, batch_size: int = 256) -> Indices:
    """int64[N], every target; from `data.targets` where there is one, else by reading all."""
    known = getattr(data, "targets", None)
    if known is not None and not callable(known):
        return np.asarray(known, dtype=np.int64)
    parts = [fetch(data, indices)[1].numpy() for indices in ordered_batches(len(data), batch_size)]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def check_targets(data: MapDataset, class_count: int) -> Indices:
    """Every target; DatasetError for too few samples or a target outside 0..class_count - 1."""
    if len(data) < 2:
        raise DatasetError(f"{len(data)} training samples; 2 or more are needed")
    targets = all_targets(data)
    wrong = targets[(targets < 0) | (targets >= class_count)]
    if len(wrong):
        raise DatasetError(f"a training target is {wrong[0]}; allowed: 0..{class_count - 1}")
    return targets


def class_weight(targets: Indices, class_count: int, *, balanced: bool) -> Tensor:
    """float32[C] with mean 1 over the samples; 0 for a class that no sample has."""
    counts = np.bincount(targets, minlength=class_count)
    if not balanced:
        return torch.ones(class_count)
    share = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.tensor(np.where(counts > 0, share, 0.0), dtype=torch.float32)
