"""One update of the weights: from one batch or several, in one process or several.

    learner.update(batches, parts, step=17)

The samples of an update are given in parts, one for each forward pass; each process takes its
share of every part. The losses of all samples are divided by their number, over parts and
processes: then the sum of the gradients of several parts, and the mean that several processes
take of theirs, are the gradient of one process with one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from candlemark.training.batches import Batch, Indices
from candlemark.training.config import TrainingConfig
from candlemark.training.devices import autocast
from candlemark.training.objectives import Objective
from candlemark.training.optim import learning_rate_factor, set_learning_rate
from candlemark.training.tensors import Prepare, call


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """Moves the weights of `module`.

    module, optimizer: as `accelerator` prepared them
    total_steps: updates of the whole training, for the learning rate
    """

    module: nn.Module
    prepare: Prepare
    objective: Objective
    optimizer: Any
    accelerator: Any
    config: TrainingConfig
    device: torch.device
    seed: int
    total_steps: int

    def share(self, indices: Indices) -> Indices:
        """What this process learns of a part, or one sample where nothing is left for it."""
        share = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        return share if len(share) else indices[:1]

    def update(self, batches: Iterator[Batch], parts: Sequence[Indices], *, step: int) -> Tensor:
        """Learn from the next batches; returns the loss of this process's share, on the device.

        batches: this process's share of each of the parts, in their order
        parts: the samples of this update, over all processes; at least one part
        step: of the whole training, 0-based
        """
        accelerator, config = self.accelerator, self.config
        several = accelerator.num_processes > 1
        factor = learning_rate_factor(
            step,
            total_steps=self.total_steps,
            warmup_share=config.warmup_share,
            schedule=config.schedule,
        )
        set_learning_rate(self.optimizer, config.learning_rate, factor)
        whole = sum(map(len, parts))
        self.optimizer.zero_grad()
        losses: list[Tensor] = []
        for number, part in enumerate(parts):
            # Dropout and the like: a pure function of (seed, step, process, part).
            process = accelerator.process_index
            torch.manual_seed(_part_seed(self.seed, step, process, number))
            # A process left without a sample still takes part, with one that weighs nothing.
            present = 1.0 if process < len(part) else 0.0
            last = number == len(parts) - 1
            # Processes exchange gradients once an update, with its last part.
            with nullcontext() if last or not several else accelerator.no_sync(self.module):
                loss = present * self._losses(*next(batches)).sum() / whole
                accelerator.backward(loss * accelerator.num_processes)
            losses.append(loss.detach())
        if several:
            # The objective is no part of what accelerate prepared.
            for parameter in self.objective.parameters():
                parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
        if config.gradient_clip is not None:
            accelerator.clip_grad_norm_(self.module.parameters(), config.gradient_clip)
        self.optimizer.step()
        return torch.stack(losses).sum()

    def _losses(self, inputs: Any, targets: Any) -> Tensor:
        """What each sample of a batch adds to the loss."""
        with autocast(self.device, self.config.precision):
            output = call(self.module, self.prepare(inputs))
        return self.objective.losses(output, targets)


def _part_seed(seed: int, step: int, process: int, part: int) -> int:
    """Of the first part it is that of a step with one part only."""
    place = (seed, step, process, part) if part else (seed, step, process)
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
