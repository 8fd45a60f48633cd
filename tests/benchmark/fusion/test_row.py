"""Scales and intervals of forecasts: known answers, coverage, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest

from candlemark.benchmark.fusion.row import ReturnScale, conformal


def test_the_scale_is_that_of_the_known_returns():
    scale = ReturnScale.of(np.array([0.01, np.nan, 0.03]))
    assert (scale.mean, scale.std) == (pytest.approx(0.02), pytest.approx(0.01))
    standard = scale.standardise(np.array([0.01, np.nan, 0.03]))
    assert standard[[0, 2]] == pytest.approx([-1, 1])
    assert np.isnan(standard[1])
    assert scale.turn_back(standard)[[0, 2]] == pytest.approx([0.01, 0.03])


@pytest.mark.parametrize("returns", [[], [np.nan, np.nan], [0.5, 0.5]])
def test_a_scale_that_returns_do_not_tell(returns):
    scale = ReturnScale.of(np.array(returns))
    assert scale.std == 1
    assert scale.mean == (0.5 if len(returns) and returns[0] == 0.5 else 0)


def test_the_interval_is_made_of_order_statistics():
    missed = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    found = conformal(missed, np.zeros(19), level=0.9)
    assert (found.residual_low, found.residual_high) == (1, 19)
    wider = conformal(np.arange(1.0, 100.0), np.zeros(99), level=0.9)
    assert (wider.residual_low, wider.residual_high, wider.residual_count) == (5, 95, 99)


def test_too_few_cases_have_no_interval_and_say_so():
    returns = np.append(np.arange(18.0), np.nan)
    found = conformal(returns, np.zeros(19), level=0.9)
    assert (found.residual_low, found.residual_high) == (None, None)
    assert found.reason == (
        "18 validation cases have a known next close; an interval at 90% needs 19"
    )
    assert found.coverage(returns, np.zeros(19)) is None
    assert conformal(np.empty(0), np.empty(0)).residual_count == 0


def test_the_interval_holds_what_it_says():
    random = np.random.default_rng(1)
    held = []
    for _ in range(300):
        validation, test = random.standard_t(3, 60), random.standard_t(3, 200)
        held.append(conformal(validation, np.zeros(60)).coverage(test, np.zeros(200)))
    # 1 - 2 * 3 / 61 = 0.902 by exchangeability; skewed tails on both sides.
    assert np.mean(held) == pytest.approx(55 / 61, abs=0.01)
