"""Averages over validation data, and what is said where there is nothing to average."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.training.objectives import ClassAndReturn
from candlemark.training.validation import Columns, agreed, validate

CPU = torch.device("cpu")


class Samples:
    """Five samples of class 1, with the values given."""

    def __init__(self, values: list[float]) -> None:
        self.known = torch.tensor(values)

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(2), {"target": torch.tensor(1), "value": self.known[index]}


class Zero(nn.Module):
    """Knows nothing."""

    def forward(self, inputs: Tensor) -> SimpleNamespace:
        assert not self.training
        return SimpleNamespace(logits=inputs, forecast=inputs[:, 0])


def columns(values: list[float], weight: list[float], size: int = 2) -> Columns:
    return validate(
        Zero(),
        lambda inputs: inputs,
        Samples(values),
        ClassAndReturn(torch.tensor(weight)),
        device=CPU,
        batch_size=size,
        precision="fp32",
        epoch=3,
    )


@pytest.mark.parametrize("size", [1, 2, 5])
def test_columns_are_averages_over_all_samples_that_are_known(size: int) -> None:
    found = columns([0.4, math.nan, 1.0, math.nan, math.nan], [1.0, 2.0], size)
    assert found == pytest.approx(
        {
            "validation_class_loss": math.log(2),
            "validation_value_loss": (0.08 + 0.5) / 2,
            "validation_accuracy": 0.0,
        }
    )


def test_nothing_to_average_is_none() -> None:
    found = columns([math.nan] * 5, [1.0, 0.0])
    assert found["validation_class_loss"] is None
    assert found["validation_value_loss"] is None


def test_a_column_that_is_no_number_is_named_with_its_epoch() -> None:
    with pytest.raises(ModelError, match="the validation value loss became inf after epoch 3; try"):
        columns([0.0, math.inf], [1.0, 1.0])


def test_what_is_agreed_upon_keeps_what_is_unknown() -> None:
    """Alone in its group, a process hears itself."""
    found: Columns = {"one": 0.5, "two": None}
    for count in (1, 2):
        assert agreed(found, SimpleNamespace(num_processes=count), CPU) == found
