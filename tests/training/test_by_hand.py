"""The loop against itself written out by hand: a classifier of pictures learns these bits.

Whatever else the loop comes to do, a tensor of images with a tensor of classes is trained by
exactly this arithmetic, in exactly this order. Nothing here is taken from the package but the
config and `fit`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from candlemark.training.config import TrainingConfig
from candlemark.training.loop import fit

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=4, batch_size=12, learning_rate=5e-3, patience=None)


class Pictures:
    """Noise of three classes, one of them rare."""

    def __init__(self, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.targets = random.choice(3, count, p=[0.45, 0.45, 0.1])
        images = random.integers(0, 256, (count, 6, 6), dtype=np.uint8)
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.targets[index])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices], torch.from_numpy(self.targets[indices])


class Net(nn.Module):
    """Batch norm remembers, dropout rolls dice: both show a step out of its order."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2)
        )
        self.head = nn.Linear(3 * 36, 3)

    def features(self, images: Tensor) -> Tensor:
        out: Tensor = self.body(images).flatten(1)
        return out

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(images))
        return out


def prepare(images: Tensor) -> Tensor:
    return images.unsqueeze(1).float() / 255


def net() -> Net:
    torch.manual_seed(3)
    return Net()


def batches(count: int, size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    order = np.random.default_rng((seed, epoch)).permutation(count)
    parts = [order[start : start + size] for start in range(0, count, size)]
    if len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


Story = list[tuple[float, float, float, float]]


def by_hand(
    module: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    train: Pictures,
    validation: Pictures,
    *,
    config: TrainingConfig,
    seed: int,
) -> Story:
    """(train loss, validation loss, validation accuracy, rate) of each epoch.

    The module is left with the weights of the best validation loss.
    """
    counts = np.bincount(train.targets, minlength=3)
    share = len(train) / (3 * counts) if config.class_weights else np.ones(3)
    weight = torch.tensor(share, dtype=torch.float32)
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    total = config.epochs * len(batches(len(train), config.batch_size, seed, 0))
    warmup = max(1, round(config.warmup_share * total))
    lower = config.precision == "bf16"
    step, rate, best, kept = 0, 0.0, math.inf, {}
    story: Story = []
    for epoch in range(config.epochs):
        losses: list[float] = []
        sizes: list[int] = []
        module.train()
        for chosen in batches(len(train), config.batch_size, seed, epoch):
            factor = (step + 1) / warmup
            if step >= warmup:
                done = (step - warmup + 1) / max(1, total - warmup + 1)
                factor = 0.5 * (1 + math.cos(math.pi * done))
            rate = config.learning_rate * factor
            for group in optimizer.param_groups:
                group["lr"] = rate
            state = np.random.SeedSequence((seed, step, 0)).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0] >> 1))
            targets = torch.from_numpy(train.targets[chosen])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
                logits = module(prepare(train.images[chosen]))
            each = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
            mean = (each * weight[targets]).sum() / len(chosen)
            optimizer.zero_grad()
            torch.autograd.backward(mean)
            if config.gradient_clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), config.gradient_clip)
            optimizer.step()
            losses.append(mean.item())
            sizes.append(len(chosen))
            step += 1
        module.eval()
        loss_sum = weight_sum = correct = 0.0
        size = 2 * config.batch_size
        with torch.no_grad():
            for start in range(0, len(validation), size):
                targets = torch.from_numpy(validation.targets[start : start + size])
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
                    logits = module(prepare(validation.images[start : start + size]))
                logits = logits.float()
                each = nn.functional.cross_entropy(logits, targets, reduction="none")
                loss_sum += float((each * weight[targets]).sum())
                weight_sum += float(weight[targets].sum())
                correct += int((logits.argmax(dim=1) == targets).sum())
        train_loss = float(np.average(losses, weights=np.array(sizes, float)))
        loss = loss_sum / weight_sum
        story.append((train_loss, loss, correct / len(validation), rate))
        if loss < best:
            best = loss
            kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(kept)
    return story


def features_by_hand(module: Net, pictures: Pictures, size: int) -> Pictures:
    """The same samples as the head of `module` sees them."""
    module.eval()
    seen = copy.copy(pictures)
    with torch.no_grad():
        parts = [module.features(prepare(part)) for part in torch.split(pictures.images, size)]
    seen.images = torch.cat(parts)
    return seen


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"precision": "bf16"},
        {"gradient_clip": None, "class_weights": False, "warmup_share": 0.5},
        {"mode": "frozen"},
    ],
    ids=["plain", "bf16", "unclipped", "frozen"],
)
def test_pictures_are_learnt_bit_for_bit_as_written_out(change: dict[str, object]) -> None:
    """49 samples leave a last batch of one, which joins the one before."""
    config = TrainingConfig.model_validate({**CONFIG.model_dump(), **change})
    train, validation = Pictures(49, seed=0), Pictures(40, seed=1)
    expected, module = net(), net()
    result = fit(module, prepare, train, validation, config, class_count=3, device=CPU, seed=5)
    if config.mode == "frozen":
        seen = [features_by_hand(expected, data, config.batch_size) for data in (train, validation)]
        story = by_hand(
            expected.head, lambda features: features, seen[0], seen[1], config=config, seed=5
        )
    else:
        story = by_hand(expected, prepare, train, validation, config=config, seed=5)
    names = ("train_loss", "validation_loss", "validation_accuracy", "learning_rate")
    assert [tuple(row[name] for name in names) for row in result.history] == story
    for name, tensor in expected.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor), name
