"""One tensor or several by name: the same treatment."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from candlemark.training.tensors import (
    as_tensors,
    by_name,
    call,
    each,
    on_device,
    shapes,
    stacked,
)


@dataclass
class Output:
    """An answer with a part that is not there."""

    logits: Tensor
    attentions: Tensor | None = None


def test_a_mapping_is_treated_tensor_by_tensor() -> None:
    values = as_tensors({"a": np.arange(3), "b": [1.0, 2.0, 3.0]})
    assert isinstance(values, dict)
    doubled = each(values, lambda tensor: tensor * 2)
    assert isinstance(doubled, dict)
    assert {name: tensor.tolist() for name, tensor in doubled.items()} == {
        "a": [0, 2, 4],
        "b": [2.0, 4.0, 6.0],
    }
    moved = on_device(values, torch.device("meta"))
    assert isinstance(moved, dict)
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}
    assert shapes(values) == "a (3,), b (3,)"


def test_a_tensor_stays_one() -> None:
    values = as_tensors(np.arange(3))
    assert isinstance(values, Tensor)
    doubled = each(values, lambda tensor: tensor * 2)
    assert isinstance(doubled, Tensor)
    assert doubled.tolist() == [0, 2, 4]
    assert shapes(values) == "(3,)"


def test_samples_are_stacked_by_name() -> None:
    batch = stacked([{"a": torch.ones(2), "b": 1}, {"a": torch.zeros(2), "b": 5}])
    assert isinstance(batch, dict)
    assert batch["a"].tolist() == [[1, 1], [0, 0]]
    assert batch["b"].tolist() == [1, 5]
    alone = stacked([3, 4])
    assert isinstance(alone, Tensor)
    assert alone.tolist() == [3, 4]


def test_the_tensors_of_any_output_have_names() -> None:
    logits = torch.zeros(2)
    for output in (
        Output(logits),
        {"logits": logits, "attentions": None},
        SimpleNamespace(logits=logits, name="x"),
    ):
        assert list(by_name(output)) == ["logits"]
    assert list(by_name(logits)) == [""]


def test_a_mapping_is_passed_as_keywords() -> None:
    def module(left: int, right: int = 1) -> tuple[int, int]:
        return left, right

    assert call(module, {"right": 5, "left": 3}) == (3, 5)
    assert call(module, 4) == (4, 1)
