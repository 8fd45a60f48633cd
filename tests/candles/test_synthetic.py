"""The planted market holds exactly the signal that it claims, the random walk none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from candlemark.candles.synthetic import attainable_auroc, planted_market, random_walk
from candlemark.errors import ConfigError


def rises(candles):
    return (candles.close > candles.open).astype(int)


@pytest.mark.parametrize(
    ("strength", "density", "expected"),
    [(0.5, 0.7, 0.5), (0.9, 0.0, 0.5), (0.8, 1.0, 0.8), (1.0, 1.0, 1.0)],
)
def test_attainable_auroc_known_cases(strength, density, expected):
    assert attainable_auroc(strength, density) == pytest.approx(expected)


@pytest.mark.parametrize(("strength", "density"), [(0.8, 0.6), (0.65, 0.3), (0.95, 0.9)])
def test_ranking_by_the_pattern_reaches_the_attainable_auroc(strength, density):
    market = planted_market(200_000, strength=strength, density=density, seed=3)
    measured = roc_auc_score(rises(market.candles)[1:], market.pattern[:-1])
    assert measured == pytest.approx(market.attainable_auroc, abs=0.005)


def test_without_the_pattern_the_planted_market_says_nothing():
    """Given the pattern, size, shadows and colour of a candle do not move the next one."""
    market = planted_market(200_000, seed=5)
    candles = market.candles
    following = rises(candles)[1:]
    for state in (-1, 0, 1):
        rows = np.flatnonzero(market.pattern[:-1] == state)
        expected = 0.5 + (market.strength - 0.5) * state
        for feature in (candles.volume, candles.high - candles.low, rises(candles)):
            above = rows[feature[rows] > np.median(feature[rows])]
            if len(above):
                assert following[above].mean() == pytest.approx(expected, abs=0.012)


def test_the_pattern_is_visible_as_a_long_shadow():
    market = planted_market(5_000, seed=2)
    candles = market.candles
    below = np.minimum(candles.open, candles.close) - candles.low
    above = candles.high - np.maximum(candles.open, candles.close)
    shape = np.log1p(below / candles.close) - np.log1p(above / candles.close)
    assert shape[market.pattern > 0].min() > shape[market.pattern == 0].max()
    assert shape[market.pattern < 0].max() < shape[market.pattern == 0].min()


def test_random_walk_directions_are_independent_fair_coins():
    up = rises(random_walk(200_000, seed=1)) - 0.5
    standard_error = 0.5 / np.sqrt(len(up))
    assert abs(up.mean()) < 4 * standard_error
    for lag in (1, 2, 5, 24):
        assert abs((up[lag:] * up[:-lag]).mean()) < 4 * 0.25 / np.sqrt(len(up))


@given(seed=st.integers(0, 2**31), count=st.integers(1, 200))
def test_same_seed_same_market_and_every_market_is_valid(seed, count):
    first, second = planted_market(count, seed=seed), planted_market(count, seed=seed)
    assert np.array_equal(first.candles.close, second.candles.close)
    assert len(random_walk(count, seed=seed)) == count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.4}, "strength = 0.4"),
        ({"density": 1.5}, "density = 1.5"),
        ({"count": 0}, "count = 0"),
    ],
)
def test_impossible_markets_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        planted_market(**{"count": 10, **options})
