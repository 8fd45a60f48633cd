"""What is learnt: from a module's output and a batch's targets to losses.

    fit(..., objective=None)                                   # classes: cross-entropy
    fit(..., objective=ClassAndReturn(class_weight(targets, 3, balanced=True)))

    N samples, C classes

An objective says three things: the loss of each sample, which is minimised; what is measured on
the validation data, where nothing learnt may move the goal posts; and which of that decides
about early stopping. It may have parameters of its own, which are trained and checkpointed
along with the module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.training.tensors import Tensors

Sums = dict[str, tuple[float, float]]
"""By column of the history: a sum over samples and the weight it is to be divided by."""

Balance = Literal["uncertainty", "equal"]


class Objective(nn.Module, ABC):
    """What `fit` minimises and watches.

    A module, so that parameters of its own, if any, move to the device, are trained and are
    part of a checkpoint. It is never called; `losses` is.

    learning_rate: peak rate of these parameters, in the same schedule as the module's. Their
        scale has nothing to do with a network's: the 2e-5 that a pretrained encoder bears would
        leave a log-variance where it started. They are neither decayed nor clipped.
    """

    learning_rate: float = 1e-2
    columns: tuple[str, ...]
    """What `measure` gives, and the history gains."""

    @abstractmethod
    def losses(self, output: Any, targets: Tensors) -> Tensor:
        """float32 (N,): what each sample adds to the training loss, already weighted."""

    @abstractmethod
    def measure(self, output: Any, targets: Tensors) -> Sums:
        """The `columns` of one validation batch; sums and weights of all batches are added up.

        A weight of 0 in total makes the column None.
        """

    @abstractmethod
    def watched(self, columns: Mapping[str, float | None]) -> float | None:
        """What early stopping and the best epoch go by, of the averaged columns; lower is better.

        It becomes the column `validation_loss`. None: there is nothing to go by.
        """

    def state_columns(self) -> dict[str, float]:
        """Columns that tell where the parameters of its own stand; none by default."""
        return {}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with this objective; JSON types only."""


class Classification(Objective):
    """Cross-entropy of logits (N, C), or of an output's `.logits`; targets int64 (N,).

    weight: float32 (C,), of each class; see `batches.class_weight`
    """

    columns = ("validation_loss", "validation_accuracy")
    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)

    def losses(self, output: Any, targets: Tensors) -> Tensor:
        """Weighted cross-entropy in nats."""
        classes = class_targets(targets)
        each = nn.functional.cross_entropy(class_logits(output), classes, reduction="none")
        return each * self.weight[classes]

    def measure(self, output: Any, targets: Tensors) -> Sums:
        """Weighted cross-entropy, and the share of samples whose largest logit is the truth."""
        classes, logits = class_targets(targets), class_logits(output)
        each = nn.functional.cross_entropy(logits, classes, reduction="none")
        weights = self.weight[classes]
        return {
            "validation_loss": (float((each * weights).sum()), float(weights.sum())),
            "validation_accuracy": _hits(logits, classes),
        }

    def watched(self, columns: Mapping[str, float | None]) -> float | None:
        """The weighted cross-entropy; None if training saw none of the validation's classes."""
        return columns["validation_loss"]

    def identity(self) -> dict[str, Any]:
        """The class weights."""
        return {"weight": self.weight.cpu().tolist()}


class ClassAndReturn(Objective):
    """A class and a value of each sample: cross-entropy and Huber loss, balanced.

    output: `.logits` (N, C) and `.forecast` (N,), in standard deviations of the training values
    targets: {"target": int64 (N,), "value": float32 (N,), standardised, NaN where unknown}

    Where a value is unknown, the sample adds only its class: no gradient comes from it.

    The Huber loss (delta 1) is half the squared error up to one standard deviation and linear
    beyond. Returns have heavy tails: with the square alone, a handful of crashes makes most of
    the gradient. One standard deviation keeps the square, whose best answer is the mean, for
    two thirds of normal returns; the rest pull with the same force whatever their size.

    balance "uncertainty" (Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to
    Weigh Losses", CVPR 2018, equations 7 and 10): two learned log-variances s give

        exp(-s_class) * cross_entropy + s_class / 2  +  exp(-s_value) * huber + s_value / 2

    which is smallest at exp(s) = 2 * loss: for the value that is its mean squared error, as long
    as errors are below 1. So each loss is divided by twice itself, and neither drowns the other
    by its unit. The training loss may be negative. balance "equal": the sum of both.

    Validation measures both losses without these weights, and watches their plain sum: a learned
    weight could lower its own loss without the module getting better.
    """

    columns = ("validation_class_loss", "validation_value_loss", "validation_accuracy")
    weight: Tensor

    def __init__(self, weight: Tensor, balance: Balance = "uncertainty") -> None:
        super().__init__()
        if balance not in {"uncertainty", "equal"}:
            raise ModelError(f"balance = {balance!r}; allowed: 'uncertainty', 'equal'")
        self.balance = balance
        self.register_buffer("weight", weight, persistent=False)
        if balance == "uncertainty":
            self.class_log_variance = nn.Parameter(torch.zeros(()))
            self.value_log_variance = nn.Parameter(torch.zeros(()))

    def losses(self, output: Any, targets: Tensors) -> Tensor:
        """Both losses of each sample under the balance."""
        classes = class_targets(targets)
        class_loss = nn.functional.cross_entropy(class_logits(output), classes, reduction="none")
        class_loss = class_loss * self.weight[classes]
        value_loss, known = _huber(output, targets)
        if self.balance == "equal":
            return class_loss + value_loss
        by_class, by_value = self.class_log_variance, self.value_log_variance
        return (
            torch.exp(-by_class) * class_loss
            + by_class / 2
            + torch.exp(-by_value) * value_loss
            + by_value / 2 * known
        )

    def measure(self, output: Any, targets: Tensors) -> Sums:
        """Weighted cross-entropy, Huber loss of the known values, and accuracy."""
        classes, logits = class_targets(targets), class_logits(output)
        each = nn.functional.cross_entropy(logits, classes, reduction="none")
        weights = self.weight[classes]
        value_loss, known = _huber(output, targets)
        return {
            "validation_class_loss": (float((each * weights).sum()), float(weights.sum())),
            "validation_value_loss": (float(value_loss.sum()), float(known.sum())),
            "validation_accuracy": _hits(logits, classes),
        }

    def watched(self, columns: Mapping[str, float | None]) -> float | None:
        """Class loss plus value loss, of those that are known; None if neither is."""
        names = ("validation_class_loss", "validation_value_loss")
        known = [loss for name in names if (loss := columns[name]) is not None]
        return sum(known) if known else None

    def state_columns(self) -> dict[str, float]:
        """What the two losses are multiplied by."""
        if self.balance == "equal":
            return {"class_loss_weight": 1.0, "value_loss_weight": 1.0}
        return {
            "class_loss_weight": float(torch.exp(-self.class_log_variance.detach())),
            "value_loss_weight": float(torch.exp(-self.value_log_variance.detach())),
        }

    def identity(self) -> dict[str, Any]:
        """Name, class weights and balance."""
        return {
            "objective": "class_and_return",
            "weight": self.weight.cpu().tolist(),
            "balance": self.balance,
        }


def class_logits(output: Any) -> Tensor:
    """float32 (N, C): the output itself, or its `logits`."""
    logits = output if isinstance(output, Tensor) else _part(output, "logits")
    return logits.float()


def class_targets(targets: Tensors) -> Tensor:
    """int64 (N,): the targets themselves, or those named "target"."""
    return targets if isinstance(targets, Tensor) else targets["target"]


def _huber(output: Any, targets: Tensors) -> tuple[Tensor, Tensor]:
    """float32 (N,) Huber loss, 0 where the value is unknown; and 1 where it is known."""
    if isinstance(targets, Tensor) or "value" not in targets:
        raise ModelError('a class and a return are learnt from targets {"target", "value"}')
    forecast, value = _part(output, "forecast").float(), targets["value"].float()
    if forecast.shape != value.shape:
        raise ModelError(
            f"the module forecasts {tuple(forecast.shape)} for values {tuple(value.shape)}; "
            "it must give one number a sample"
        )
    known = ~value.isnan()
    # The unknown are left out before the loss: 0 * NaN would be NaN, in the gradient as well.
    error = torch.where(known, forecast - value, 0.0)
    loss = nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=1.0)
    return loss, known.float()


def _part(output: Any, name: str) -> Tensor:
    found = getattr(output, name, None)
    if not isinstance(found, Tensor):
        raise ModelError(f"{type(output).__name__}, the module's output, has no tensor `{name}`")
    return found


def _hits(logits: Tensor, classes: Tensor) -> tuple[float, float]:
    return float((logits.argmax(dim=1) == classes).sum()), float(len(classes))
