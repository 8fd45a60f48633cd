"""Batches of any torch dataset, in an order that depends on nothing but seed and epoch.

batches = epoch_batches(len(data), batch_size=64, seed=0, epoch=3)
for images, targets in fetched(data, batches, device):
    ...
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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

    It may also add `batch(indices)`, which gives (images, targets) and declares two things: the
    answer depends on nothing but int64 `indices`, and another thread may ask for it. Such a
    dataset is asked for the next batch while the model works on this one.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def epoch_batches(count: int, *, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """The shuffled batches of one epoch: a pure function of its arguments.

    A last batch of one sample joins the one before: batch norm cannot learn from one. Where one
    is what was asked for, every batch has one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count).astype(np.int64)
    cuts = list(range(batch_size, count, batch_size))
    if batch_size > 1 and cuts and count - cuts[-1] == 1:
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
    batch, whole = getattr(data, "batch", None), getattr(data, "__getitems__", None)
    if callable(batch):
        items = batch(indices)
    else:
        wanted = [int(index) for index in indices]
        items = whole(wanted) if whole is not None else [data[index] for index in wanted]
    if isinstance(items, tuple) and len(items) == 2:
        images, targets = torch.as_tensor(items[0]), torch.as_tensor(items[1])
    else:
        images = torch.stack([torch.as_tensor(image) for image, _ in items])
        targets = torch.stack([torch.as_tensor(target) for _, target in items])
    if len(images) != len(indices) or targets.shape != (len(indices),):
        raise DatasetError(
            f"asked for {len(indices)} samples, got images {tuple(images.shape)} "
            f"and targets {tuple(targets.shape)}"
        )
    return images, targets.long()


def fetched(
    data: MapDataset, batches: Iterable[Indices], device: torch.device
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """`fetch` of one batch after the other, on `device`.

    Where the data has a `batch`, a thread fetches one batch ahead, into pinned memory where
    the device is CUDA. Other data are asked here and when needed: they may roll dice of which
    the order matters. Close the iterator (`contextlib.closing`) if it is not run to its end.
    """
    if not callable(getattr(data, "batch", None)):
        for indices in batches:
            images, targets = fetch(data, indices)
            yield images.to(device), targets.to(device)
        return
    pin = device.type == "cuda"

    def work(indices: Indices) -> tuple[Tensor, Tensor]:
        images, targets = fetch(data, indices)
        return (images.pin_memory(), targets.pin_memory()) if pin else (images, targets)

    def deliver(waiting: Future[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        images, targets = waiting.result()
        return images.to(device, non_blocking=pin), targets.to(device, non_blocking=pin)

    with ThreadPoolExecutor(1, thread_name_prefix="candlemark-fetch") as thread:
        ahead: Future[tuple[Tensor, Tensor]] | None = None
        for indices in batches:
            current, ahead = ahead, thread.submit(work, indices)
            if current is not None:
                yield deliver(current)
        if ahead is not None:
            yield deliver(ahead)


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
