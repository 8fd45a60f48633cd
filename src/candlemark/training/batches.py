"""Batches of any torch dataset, in an order that depends on nothing but seed and epoch.

batches = epoch_batches(len(data), batch_size=64, seed=0, epoch=3)
for inputs, targets in fetched(data, batches, device):
    ...

Inputs and targets are each a tensor, or several tensors by name. Of targets by name, "target" is
the class.
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
from candlemark.training.tensors import (
    Tensors,
    as_tensors,
    by_name,
    each,
    on_device,
    shapes,
    stacked,
)

Batch = tuple[Tensors, Tensors]
Indices = npt.NDArray[np.int64]


class MapDataset(Protocol):
    """A torch map-style dataset of pairs: (image, class), or mappings in place of either.

    A dataset may add `__getitems__(indices)`, which gives the whole batch at once, as a list
    of pairs or as the tuple (inputs, targets); `targets`, all classes without the inputs; and
    `values`, all values that targets by name hold beside the class, NaN where unknown.

    It may also add `batch(indices)`, which gives (inputs, targets) and declares two things: the
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
    return parts_of(order, batch_size)


def parts_of(indices: Indices, size: int) -> list[Indices]:
    """`indices` in parts of `size`; a last part of one joins the one before, unless size is 1."""
    cuts = list(range(size, len(indices), size))
    if size > 1 and cuts and len(indices) - cuts[-1] == 1:
        cuts.pop()
    return np.split(indices, cuts)


def ordered_batches(count: int, batch_size: int) -> Iterator[Indices]:
    """All samples in their own order."""
    for start in range(0, count, batch_size):
        yield np.arange(start, min(start + batch_size, count), dtype=np.int64)


def fetch(data: MapDataset, indices: Indices) -> Batch:
    """(inputs, targets) of the samples at `indices`, by one call where the data allows.

    Classes are int64 (N,), other targets float32 (N, ...).

    Raises DatasetError: what came back is no batch of pairs, one of each for every index.
    """
    batch, whole = getattr(data, "batch", None), getattr(data, "__getitems__", None)
    if callable(batch):
        items = batch(indices)
    else:
        wanted = [int(index) for index in indices]
        items = whole(wanted) if whole is not None else [data[index] for index in wanted]
    if isinstance(items, tuple) and len(items) == 2:
        inputs, targets = as_tensors(items[0]), as_tensors(items[1])
    else:
        inputs = stacked([sample for sample, _ in items])
        targets = stacked([target for _, target in items])
    count = len(indices)
    if isinstance(targets, dict) and "target" not in targets:
        raise DatasetError(
            f"targets by name are {sorted(targets)}; one must be 'target', the class"
        )
    if not _holds(inputs, count) or not _holds(targets, count) or _classes(targets).ndim != 1:
        kind = "inputs" if isinstance(inputs, dict) else "images"
        raise DatasetError(
            f"asked for {count} samples, got {kind} {shapes(inputs)} and targets {shapes(targets)}"
        )
    if isinstance(targets, Tensor):
        return inputs, targets.long()
    return inputs, {
        name: tensor.long() if name == "target" else tensor.float()
        for name, tensor in targets.items()
    }


def _holds(values: Tensors, count: int) -> bool:
    """Whether every tensor has `count` samples; a mapping of none does not."""
    tensors = by_name(values).values()
    return bool(tensors) and all(t.ndim > 0 and len(t) == count for t in tensors)


def _classes(targets: Tensors) -> Tensor:
    return targets if isinstance(targets, Tensor) else targets["target"]


def fetched(
    data: MapDataset, batches: Iterable[Indices], device: torch.device
) -> Generator[Batch, None, None]:
    """`fetch` of one batch after the other, on `device`.

    Where the data has a `batch`, a thread fetches one batch ahead, into pinned memory where
    the device is CUDA. Other data are asked here and when needed: they may roll dice of which
    the order matters. Close the iterator (`contextlib.closing`) if it is not run to its end.
    """
    if not callable(getattr(data, "batch", None)):
        for indices in batches:
            inputs, targets = fetch(data, indices)
            yield on_device(inputs, device), on_device(targets, device)
        return
    pin = device.type == "cuda"

    def work(indices: Indices) -> Batch:
        inputs, targets = fetch(data, indices)
        return (each(inputs, _pinned), each(targets, _pinned)) if pin else (inputs, targets)

    def deliver(waiting: Future[Batch]) -> Batch:
        inputs, targets = waiting.result()
        return (
            on_device(inputs, device, non_blocking=pin),
            on_device(targets, device, non_blocking=pin),
        )

    with ThreadPoolExecutor(1, thread_name_prefix="candlemark-fetch") as thread:
        ahead: Future[Batch] | None = None
        for indices in batches:
            current, ahead = ahead, thread.submit(work, indices)
            if current is not None:
                yield deliver(current)
        if ahead is not None:
            yield deliver(ahead)


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory()


def all_targets(data: MapDataset, *, batch_size: int = 256) -> Indices:
    """int64[N], every class; from `data.targets` where there is one, else by reading all."""
    known = getattr(data, "targets", None)
    if known is not None and not callable(known):
        return np.asarray(known, dtype=np.int64)
    batches = ordered_batches(len(data), batch_size)
    parts = [_classes(fetch(data, indices)[1]).numpy() for indices in batches]
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
