"""A frozen backbone: its features are computed once and only the head learns.

with feature_folder(checkpoint_dir) as folder:
    features = extract_features(
        module, prepare, data, device=device, batch_size=64, path=folder / "train"
    )
    head = head_of(module)

Features are a tensor or several by name, as the module's `features` gives and its `head` takes
them. They are kept in memory, or in files where they are many: a training step then reads what
it needs, and memory stays bounded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from candlemark import progress
from candlemark.errors import ModelError
from candlemark.training.batches import Batch, Indices, MapDataset, fetch, ordered_batches
from candlemark.training.tensors import Prepare, Tensors, by_name, call, each, on_device

IN_MEMORY_BYTES = 1 << 30
"""Features of one dataset larger than this are kept in files."""


class FeatureStore:
    """Rows of one tensor for `count` samples, written in order and read in any.

    The first rows tell dtype and shape. Later rows may have other lengths, as captions have:
    all are filled up with zeros to the longest.

    path: a file to keep them in; None keeps them in memory
    """

    def __init__(self, count: int, path: Path | None) -> None:
        self.count = count
        self.path = path
        self.written = 0
        self.rows: Any = None

    def append(self, batch: Tensor) -> None:
        """The next rows; ModelError where they do not fit those before."""
        array = batch.numpy()
        shape = array.shape[1:]
        if self.rows is None:
            self.rows = self._empty(shape, array.dtype)
        if len(shape) != self.rows.ndim - 1 or array.dtype != self.rows.dtype:
            raise ModelError(
                f"features of one batch are {array.dtype} {shape} a sample, of another "
                f"{self.rows.dtype} {self.rows.shape[1:]}; all samples must have the same kind"
            )
        longest = tuple(max(pair) for pair in zip(shape, self.rows.shape[1:], strict=True))
        if longest != self.rows.shape[1:]:
            self._grow(longest)
        place = slice(self.written, self.written + len(array))
        self.rows[(place, *(slice(length) for length in shape))] = array
        self.written += len(array)

    def read(self, indices: Indices) -> Tensor:
        """The rows at `indices`, in memory of their own."""
        return torch.from_numpy(np.asarray(self.rows[indices]))

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        if self.path is None:
            return np.zeros((self.count, *shape), dtype)
        return np.lib.format.open_memmap(self.path, "w+", dtype, (self.count, *shape))

    def _grow(self, shape: tuple[int, ...]) -> None:
        old = self.rows
        if self.path is not None:
            # The old file is read while a new one is written.
            self.path = self.path.with_name(f"{self.path.name}+")
        self.rows = self._empty(shape, old.dtype)
        corner = tuple(slice(length) for length in old.shape[1:])
        for start in range(0, self.written, 1024):
            place = slice(start, min(start + 1024, self.written))
            self.rows[(place, *corner)] = old[place]
        if isinstance(old, np.memmap):
            Path(str(old.filename)).unlink()


class FeatureDataset:
    """What the head is given for each sample, with the targets of the data.

    features: a store by name; the name "" stands for a tensor alone
    labels: the targets, a tensor or several by name, in memory
    """

    def __init__(self, features: Mapping[str, FeatureStore], labels: Tensors) -> None:
        self.features = dict(features)
        self.labels = labels

    def __len__(self) -> int:
        return len(next(iter(by_name(self.labels).values())))

    def __getitem__(self, index: int) -> Batch:
        features, targets = self.batch(np.array([index]))
        return each(features, lambda rows: rows[0]), each(targets, lambda rows: rows[0])

    def batch(self, indices: Indices) -> Batch:
        """Features and targets of the samples at `indices`; any thread may ask."""
        rows = torch.from_numpy(indices)
        targets = each(self.labels, lambda tensor: tensor[rows])
        if set(self.features) == {""}:
            return self.features[""].read(indices), targets
        return {name: store.read(indices) for name, store in self.features.items()}, targets


def head_of(module: nn.Module) -> nn.Module:
    """The module's `head`; ModelError if it has none that can be trained alone."""
    head = getattr(module, "head", None)
    if not isinstance(head, nn.Module) or not callable(getattr(module, "features", None)):
        raise ModelError(
            f"{type(module).__name__} cannot be frozen: it needs `features(images)` and `head`; "
            "use mode full"
        )
    return head


@contextmanager
def feature_folder(beside: Path | None, process: int = 0) -> Iterator[Path]:
    """An empty folder for files of features, removed at the end.

    beside: the folder it is made in, so that one run leaves at most one behind when it is
        killed, and the next removes it; None takes the system's place for temporary files
    """
    if beside is None:
        with TemporaryDirectory(prefix="candlemark-features-") as name:
            yield Path(name)
        return
    folder = beside / f"features-{process}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def extract_features(
    module: nn.Module,
    prepare: Prepare,
    data: MapDataset,
    *,
    device: torch.device,
    batch_size: int,
    path: Path | None = None,
) -> FeatureDataset:
    """What the module's head is given for each sample; floating numbers in float32.

    path: begin of the names of files for features of more than `IN_MEMORY_BYTES`; None keeps
        them in memory whatever their size

    Features whose length differs from batch to batch (captions do) are filled up with zeros to
    the longest, so they must come with a mask in which 0 says nothing.

    Raises ModelError: the module cannot be split, or `head(features(x))`, from features as they
    are kept, is not what the whole module says.
    """
    head = head_of(module).to(device).eval()
    module.to(device).eval()
    stores: dict[str, FeatureStore] = {}
    labels: list[Tensors] = []
    shortest: tuple[int, Indices, Any] | None = None
    # no_grad, not inference_mode: the head trains on these tensors.
    with torch.no_grad(), progress.track("computing features", total=len(data)) as bar:
        for indices in ordered_batches(len(data), batch_size):
            inputs, targets = fetch(data, indices)
            ready = prepare(on_device(inputs, device))
            features = call(module.features, ready)  # type: ignore[arg-type]  # head_of checked it
            rows = {name: _kept(tensor) for name, tensor in by_name(features).items()}
            size = sum(tensor[0].numel() for tensor in rows.values())
            if shortest is None or size < shortest[0]:
                output = call(module, ready)
                _check(module, call(head, features), output)
                shortest = (size, indices, output)
            if not stores:
                stores = make_stores(rows, len(data), path)
            for name, store in stores.items():
                store.append(rows[name])
            labels.append(targets)
            bar.advance(len(indices))
        kept = FeatureDataset(stores, _joined(labels))
        if shortest is not None:
            again = on_device(kept.batch(shortest[1])[0], device)
            _check(module, call(head, again), shortest[2])
    return kept


def _kept(tensor: Tensor) -> Tensor:
    """As it is kept: on the CPU, floating numbers in float32."""
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu()


def make_stores(rows: dict[str, Tensor], count: int, path: Path | None) -> dict[str, FeatureStore]:
    """A store for each tensor, in memory if all of them fit there."""
    size = count * sum(tensor[0].numel() * tensor.element_size() for tensor in rows.values())
    if path is None or size <= IN_MEMORY_BYTES:
        return {name: FeatureStore(count, None) for name in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        # A full disk under a memory map ends the process without a word.
        raise ModelError(
            f"the features of {count} samples take {size / 2**30:,.1f} GiB; {path.parent} has "
            f"{free / 2**30:,.1f} GiB free; train fewer samples or use mode full"
        )
    return {
        name: FeatureStore(count, path.with_name(f"{path.name}-{number}.npy"))
        for number, name in enumerate(rows)
    }


def _check(module: nn.Module, found: Any, expected: Any) -> None:
    """Both outputs say the same, in what both of them say."""
    ours, theirs = by_name(found), by_name(expected)
    shared = ours.keys() & theirs.keys()
    if not shared or not all(torch.allclose(ours[n], theirs[n], atol=1e-4) for n in shared):
        raise ModelError(
            f"{type(module).__name__} cannot be frozen: its head does not follow its "
            "features alone; use mode full"
        )


def _joined(parts: list[Tensors]) -> Tensors:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return {
        name: torch.cat([part[name] for part in parts if isinstance(part, dict)]) for name in first
    }
