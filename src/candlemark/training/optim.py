"""AdamW and its learning rate: linear warm-up, then a half cosine down to zero.

The rate is a pure function of the step, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def adamw(module: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; norms, biases and scalars are not decayed.

    Decay pulls weights to zero; for a norm's scale or a bias that is a wrong prior
    (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", and common practice).
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=learning_rate,
    )


def learning_rate_factor(step: int, *, total_steps: int, warmup_share: float) -> float:
    """Factor in (0, 1] of the peak rate at `step` (0-based) of `total_steps`.

    Warm-up takes `warmup_share` of the steps, at least one; the first step already moves.
    """
    warmup = max(1, round(warmup_share * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    remaining = (step - warmup + 1) / max(1, total_steps - warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * remaining))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
