"""AdamW and its learning rate: linear warm-up, then a half cosine or a line down to zero.

The rate is a pure function of the step, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn

from candlemark.training.objectives import Objective


def adamw(
    module: nn.Module,
    objective: Objective | None = None,
    *,
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; norms, biases and scalars are not decayed.

    Decay pulls weights to zero; for a norm's scale or a bias that is a wrong prior
    (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", and common practice).

    objective: its parameters, if any, are a third group, not decayed, with the peak rate
        `objective.learning_rate`
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    own = list(objective.parameters()) if objective is not None else []
    if objective is not None and own:
        groups.append({"params": own, "weight_decay": 0.0, "peak": objective.learning_rate})
    return torch.optim.AdamW(groups, lr=learning_rate)


def learning_rate_factor(
    step: int,
    *,
    total_steps: int,
    warmup_share: float,
    schedule: Literal["cosine", "linear"] = "cosine",
) -> float:
    """Factor in (0, 1] of the peak rate at `step` (0-based) of `total_steps`.

    Warm-up takes `warmup_share` of the steps, at least one; the first step already moves. The
    last step still moves too: the schedule would reach 0 at the step after it.
    """
    warmup = max(1, round(warmup_share * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup + 1) / max(1, total_steps - warmup + 1)
    if schedule == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: torch.optim.Optimizer, peak: float, factor: float) -> None:
    """Give every parameter group `factor` of `peak`, or of the peak of its own."""
    for group in optimizer.param_groups:
        group["lr"] = group.get("peak", peak) * factor
