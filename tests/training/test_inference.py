"""Answers of a module in the data's order, and answers that are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.training.inference import infer, predict

CPU = torch.device("cpu")


class Numbers:
    """The numbers from 0, by name."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], int]:
        return {"number": torch.tensor([float(index)])}, 0


class Twice(nn.Module):
    """Answers by name, and says what it was asked in."""

    def forward(self, number: Tensor) -> dict[str, Tensor]:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        return {"double": number.squeeze(1) * 2, "pair": number.repeat(1, 2).half()}


def same(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return values


def ask(data: Numbers, read: Any = same, **options: Any) -> dict[str, npt.NDArray[Any]]:
    return infer(Twice(), same, data, device=CPU, read=read, **options)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_every_answer_comes_once_in_the_datas_order(size: int) -> None:
    found = ask(Numbers(7), batch_size=size)
    assert found["double"].tolist() == [2.0 * n for n in range(7)]
    assert found["pair"].tolist() == [[float(n), float(n)] for n in range(7)]


def test_types_are_kept_but_half_precision_is_widened() -> None:
    found = ask(
        Numbers(2),
        lambda out: {**out, "index": out["double"].long(), "wide": out["double"].double()},
    )
    assert {name: array.dtype for name, array in found.items()} == {
        "double": np.float32,
        "pair": np.float32,
        "index": np.int64,
        "wide": np.float64,
    }


def test_no_samples_give_no_answers() -> None:
    assert ask(Numbers(0)) == {}
    assert predict(Twice(), same, Numbers(0), device=CPU, class_count=4).shape == (0, 4)


def test_an_answer_that_is_none_is_named() -> None:
    with pytest.raises(ModelError, match=r"the model's double has shape \(1,\) for 3 samples"):
        ask(Numbers(3), lambda out: {"double": out["double"][:1]})
    with pytest.raises(ModelError, match=r"the model's sum has shape \(\) for 3 samples"):
        ask(Numbers(3), lambda out: {"sum": out["double"].sum()})
    with pytest.raises(ModelError, match="the model's double holds values that are not numbers"):
        ask(Numbers(3), lambda out: {"double": out["double"] / 0})
    with pytest.raises(ModelError, match="the model's double holds values that are not numbers"):
        ask(Numbers(3), lambda out: {"double": out["double"] * math.nan})


def test_another_number_of_classes_is_an_error() -> None:
    class Three(nn.Module):
        def forward(self, number: Tensor) -> Tensor:
            return number.repeat(1, 3)

    with pytest.raises(ModelError, match=r"logits of shape \(2, 3\) for 2 classes"):
        predict(Three(), same, Numbers(2), device=CPU, class_count=2)
