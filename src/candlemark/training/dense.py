"""Learning a class for every pixel, from features that a frozen network gave.

    data = keep_features(parts, count=len(slices), path=folder / "train")
    fit(head, as_they_are, data, None, config, class_count=2, objective=PixelClasses(2), ...)

    N samples, K classes, H x W pixels of the labels

Features and labels are kept in memory, or in files where they are many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, one_hot

from candlemark.errors import DatasetError, ModelError
from candlemark.training.batches import Batch, Indices
from candlemark.training.frozen import FeatureStore, make_stores
from candlemark.training.objectives import Objective, Sums, class_logits
from candlemark.training.tensors import Tensors

IGNORED = 255
"""The label of pixels about which nothing is said."""
LABELS = "labels"


class DenseFeatures:
    """Features and labels of N slices, as `fit` takes a dataset.

    features: a store by name; labels: uint8 (N, H, W)
    targets: int64[N], the highest class in each slice
    digest: of all labels, in their order
    rows: int64[N], where each slice stands in the stores; None: as they lie there
    """

    def __init__(
        self,
        features: Mapping[str, FeatureStore],
        labels: FeatureStore,
        targets: Indices,
        digest: str,
        rows: Indices | None = None,
    ) -> None:
        self.features = dict(features)
        self.labels = labels
        self.targets = targets
        self.digest = digest
        self.rows = np.arange(len(targets)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        features, targets = self.batch(np.array([index]))
        return (
            {name: rows[0] for name, rows in _mapping(features).items()},
            {name: rows[0] for name, rows in _mapping(targets).items()},
        )

    def batch(self, indices: Indices) -> Batch:
        """Features and labels of the slices at `indices`; any thread may ask."""
        rows = self.rows[indices]
        features = {name: store.read(rows) for name, store in self.features.items()}
        labels = self.labels.read(rows)
        return features, {"target": torch.from_numpy(self.targets[indices]), LABELS: labels}

    def part(self, indices: Indices) -> DenseFeatures:
        """Those slices alone, read from the same stores."""
        digest = hashlib.sha256(self.digest.encode())
        digest.update(indices.astype(np.int64).tobytes())
        return DenseFeatures(
            self.features,
            self.labels,
            self.targets[indices],
            digest.hexdigest(),
            self.rows[indices],
        )


def keep_features(
    parts: Iterable[tuple[Mapping[str, Tensor], Tensor]], *, count: int, path: Path
) -> DenseFeatures:
    """Features of `count` slices with their labels, from batches of both.

    parts: float maps by name (n, C, h, w), on any device, and labels uint8 (n, H, W) on the CPU
    path: begin of the names of files, where they are too many for memory

    Raises DatasetError: there are other than `count` slices. ModelError: no place for them.
    """
    stores: dict[str, FeatureStore] = {}
    targets: list[Tensor] = []
    digest = hashlib.sha256()
    for maps, labels in parts:
        rows = {name: one.detach().float().cpu() for name, one in maps.items()}
        rows[LABELS] = labels
        if not stores:
            stores = make_stores(rows, count, path)
        for name, store in stores.items():
            store.append(rows[name])
        targets.append(torch.where(labels == IGNORED, 0, labels).flatten(1).amax(1).long())
        digest.update(labels.numpy().tobytes())
    found = sum(map(len, targets))
    if found != count:
        raise DatasetError(f"{found} slices with labels, and {count} were announced")
    labelled = stores.pop(LABELS)
    return DenseFeatures(stores, labelled, torch.cat(targets).numpy(), digest.hexdigest())


class PixelClasses(Objective):
    """Cross-entropy of every pixel, with soft Dice where `dice` is above 0.

    output: logits (N, K, h, w), enlarged bilinearly to the labels
    targets: {"target", "labels": (N, H, W), 255 where nothing is said}
    weight: float32 (K,) of each class in the cross-entropy; None: all count alike
    dice: weight of the soft Dice loss (Milletari, Navab and Ahmadi, "V-Net", 3DV 2016) beside
        the cross-entropy; counted over the batch, because a slice without the class has none
    data: what a checkpoint must also have in common, such as a digest of the labels

    Both together is what won. On every second slice of a brain of which one voxel in 400 is the
    class, with a trained EfficientNet-Lite0 and 20 epochs, a linear head found it between those
    slices with a Dice of 0.67 in each of three seeds, and without the soft Dice of 0.58 to 0.62;
    the pyramid, of one seed, with 0.64 and 0.51. Weighing the class by its rarity (200 to 0.5)
    gave 0.41 without the soft Dice and changed nothing with it.
    """

    columns = ("validation_loss", "validation_dice")
    weight: Tensor

    def __init__(
        self,
        class_count: int,
        *,
        weight: Tensor | None = None,
        dice: float = 1.0,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.dice = dice
        self.data = dict(data or {})
        chosen = torch.ones(class_count) if weight is None else weight
        self.register_buffer("weight", chosen, persistent=False)

    def losses(self, output: Any, targets: Tensors) -> Tensor:
        """Mean cross-entropy of each slice's pixels, plus the batch's soft Dice loss."""
        logits, labels = self._read(output, targets)
        known = (labels != IGNORED).sum((1, 2)).clamp(min=1)
        loss = self._entropy(logits, labels).sum((1, 2)) / known
        return loss + self.dice * self._dice_loss(logits, labels) if self.dice else loss

    def measure(self, output: Any, targets: Tensors) -> Sums:
        """Mean cross-entropy of pixels, and Dice of all pixels that are not background."""
        logits, labels = self._read(output, targets)
        known = labels != IGNORED
        answer = logits.argmax(1)
        both = (answer == labels) & (labels > 0) & known
        either = ((answer > 0) & known).sum() + ((labels > 0) & known).sum()
        return {
            "validation_loss": (float(self._entropy(logits, labels).sum()), float(known.sum())),
            "validation_dice": (float(2 * both.sum()), float(either)),
        }

    def watched(self, columns: Mapping[str, float | None]) -> float | None:
        """The cross-entropy of pixels."""
        return columns["validation_loss"]

    def identity(self) -> dict[str, Any]:
        """Class weights, share of Dice, and the data."""
        return {
            "objective": "pixel_classes",
            "weight": self.weight.cpu().tolist(),
            "dice": self.dice,
            **self.data,
        }

    def _read(self, output: Any, targets: Tensors) -> tuple[Tensor, Tensor]:
        if isinstance(targets, Tensor) or LABELS not in targets:
            raise ModelError('pixels are learnt from targets {"target", "labels"}')
        labels, logits = targets[LABELS].long(), class_logits(output)
        if logits.ndim != 4 or logits.shape[1] != len(self.weight):
            raise ModelError(
                f"the head gave logits {tuple(logits.shape)}; allowed: "
                f"(n, {len(self.weight)}, h, w)"
            )
        if logits.shape[-2:] != labels.shape[-2:]:
            logits = interpolate(
                logits, size=labels.shape[-2:], mode="bilinear", align_corners=False
            )
        return logits, labels

    def _entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """float32 (N, H, W), 0 where nothing is said."""
        return cross_entropy(
            logits, labels, weight=self.weight, ignore_index=IGNORED, reduction="none"
        )

    def _dice_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One minus the soft Dice of each class but the background, averaged over those there."""
        known = (labels != IGNORED).unsqueeze(1)
        share = logits.softmax(1) * known
        truth = one_hot(torch.where(labels == IGNORED, 0, labels), len(self.weight))
        truth = truth.permute(0, 3, 1, 2) * known
        both = (share * truth).sum((0, 2, 3))[1:]
        size = share.sum((0, 2, 3))[1:] + truth.sum((0, 2, 3))[1:]
        there = truth.sum((0, 2, 3))[1:] > 0
        loss = 1 - (2 * both + 1) / (size + 1)
        return (loss * there).sum() / there.sum().clamp(min=1)


def _mapping(values: Tensors) -> dict[str, Tensor]:
    return {"": values} if isinstance(values, Tensor) else values
