"""A frozen backbone: its features are computed once and only the head learns.

features = extract_features(module, prepare, data, device=device, batch_size=64)
head = head_of(module)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from candlemark import progress
from candlemark.errors import ModelError
from candlemark.training.batches import MapDataset, fetch, ordered_batches


class FeatureDataset:
    """Features (N, F...) float32 and targets (N,) int64, held in memory."""

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        self.features = features
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.features[index], self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.features[indices], self.targets[indices]


def head_of(module: nn.Module) -> nn.Module:
    """The module's `head`; ModelError if it has none that can be trained alone."""
    head = getattr(module, "head", None)
    if not isinstance(head, nn.Module) or not callable(getattr(module, "features", None)):
        raise ModelError(
            f"{type(module).__name__} cannot be frozen: it needs `features(images)` and `head`; "
            "use mode full"
        )
    return head


def extract_features(
    module: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    data: MapDataset,
    *,
    device: torch.device,
    batch_size: int,
) -> FeatureDataset:
    """What the module's head is given for each sample, in float32 on the CPU.

    Raises ModelError: the module cannot be split, or `head(features(x))` is not what the
    whole module says.
    """
    head = head_of(module).to(device).eval()
    module.to(device).eval()
    features: list[Tensor] = []
    targets: list[Tensor] = []
    # no_grad, not inference_mode: the head trains on these tensors.
    with torch.no_grad(), progress.track("computing features", total=len(data)) as bar:
        for indices in ordered_batches(len(data), batch_size):
            images, target = fetch(data, indices)
            ready = prepare(images.to(device))
            batch = module.features(ready)  # type: ignore[operator]  # head_of checked it
            if not features and not torch.allclose(head(batch), module(ready), atol=1e-4):
                raise ModelError(
                    f"{type(module).__name__} cannot be frozen: its head does not follow its "
                    "features alone; use mode full"
                )
            features.append(batch.float().cpu())
            targets.append(target)
            bar.advance(len(indices))
    return FeatureDataset(torch.cat(features), torch.cat(targets))
