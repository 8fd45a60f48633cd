"""Which parameters decay, and the shape of the learning rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from candlemark.training.optim import adamw, learning_rate_factor


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


@given(st.integers(1, 500), st.floats(0, 1))
def test_the_rate_rises_then_falls_and_never_stops_learning(total: int, share: float) -> None:
    factors = [learning_rate_factor(s, total_steps=total, warmup_share=share) for s in range(total)]
    peak = factors.index(max(factors))
    assert all(0 < f <= 1 for f in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
