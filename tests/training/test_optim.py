"""Which parameters decay, and the shape of the learning rate."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from candlemark.training.objectives import ClassAndReturn, Classification
from candlemark.training.optim import adamw, learning_rate_factor, set_learning_rate


def test_norms_and_biases_do_not_decay_and_frozen_ones_are_left_out() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    module[2].weight.requires_grad = False
    decayed, plain = adamw(module, learning_rate=0.1, weight_decay=0.3).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert len(plain["params"]) == 4


def test_warm_up_then_a_half_cosine() -> None:
    factors = [learning_rate_factor(s, total_steps=100, warmup_share=0.1) for s in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == 1.0
    assert factors[54] == pytest.approx(0.5, abs=0.02)
    assert 0 < factors[-1] < 0.001


def test_warm_up_then_a_line() -> None:
    factors = [
        learning_rate_factor(s, total_steps=100, warmup_share=0.1, schedule="linear")
        for s in range(101)
    ]
    assert factors[9] == 1.0
    falls = [before - after for before, after in pairwise(factors[9:])]
    assert falls == pytest.approx([1 / 91] * 91)
    assert factors[100] == pytest.approx(0)


def test_an_objective_learns_at_a_rate_of_its_own_and_does_not_decay() -> None:
    module, weight = nn.Linear(2, 2), torch.ones(2)
    optimizer = adamw(module, ClassAndReturn(weight), learning_rate=0.1, weight_decay=0.3)
    own = optimizer.param_groups[2]
    assert (len(own["params"]), own["weight_decay"]) == (2, 0.0)
    set_learning_rate(optimizer, 0.1, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05, 0.005]
    without = adamw(module, Classification(weight), learning_rate=0.1, weight_decay=0.3)
    assert len(without.param_groups) == 2


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from(["cosine", "linear"]))
def test_the_rate_rises_then_falls_and_never_stops_learning(
    total: int, share: float, schedule: Literal["cosine", "linear"]
) -> None:
    factors = [
        learning_rate_factor(s, total_steps=total, warmup_share=share, schedule=schedule)
        for s in range(total)
    ]
    peak = factors.index(max(factors))
    assert all(0 < f <= 1 for f in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
