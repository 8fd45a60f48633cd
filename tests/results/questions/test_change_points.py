"""Planted changes are found, at the place; without any there is no alarm beyond the stated rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, mannwhitneyu

from candlemark.errors import ConfigError
from candlemark.results.questions.change_points import (
    _midranks,
    _standardised,
    find_changes,
    values_needed,
)


def series(seed: int, *levels: tuple[int, float], spread: float = 0.02) -> np.ndarray:
    """Latencies with the given levels: (how many, median)."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.lognormal(np.log(at), spread, count) for count, at in levels])


class TestFinding:
    def test_one_clean_change(self) -> None:
        (change,) = find_changes(series(0, (10, 10.0), (10, 12.0)))
        assert change.index == 10
        assert change.before == pytest.approx(10.0, rel=0.02)
        assert change.after == pytest.approx(12.0, rel=0.02)
        assert change.ratio == pytest.approx(1.2, rel=0.03)
        assert change.p_value < 0.01

    def test_up_and_down_again(self) -> None:
        changes = find_changes(series(1, (12, 10.0), (12, 14.0), (12, 9.0)))
        assert [change.index for change in changes] == [12, 24]
        assert changes[0].after == changes[1].before

    def test_an_outlier_is_no_change(self) -> None:
        values = series(2, (20, 10.0))
        values[7] = 400.0
        assert find_changes(values) == ()

    def test_power_for_ten_per_cent_at_two_per_cent_noise(self) -> None:
        found = [find_changes(series(seed, (8, 10.0), (8, 11.0)), seed=seed) for seed in range(60)]
        hits = [bool(changes) and abs(changes[0].index - 8) <= 1 for changes in found]
        assert np.mean(hits) >= 0.9

    def test_the_same_series_and_seed_give_the_same_answer(self) -> None:
        values = series(3, (10, 10.0), (10, 10.4))
        assert find_changes(values, seed=5) == find_changes(values, seed=5)

    @settings(max_examples=20, deadline=None)
    @given(st.floats(0.001, 1000), st.integers(0, 50))
    def test_units_change_nothing(self, factor: float, seed: int) -> None:
        values = series(seed, (8, 10.0), (8, 11.0))
        one, other = find_changes(values), find_changes(values * factor)
        assert [c.index for c in one] == [c.index for c in other]
        assert [c.p_value for c in one] == [c.p_value for c in other]


class TestSilence:
    def test_no_more_alarms_than_stated(self) -> None:
        alarms = sum(
            bool(find_changes(series(seed, (count, 10.0)), seed=seed))
            for count in (8, 15)
            for seed in range(100)
        )
        # 99.9 % of experiments with a true rate of 5 % stay below.
        assert alarms <= binom.ppf(0.999, 200, 0.05)

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [8, 12, 20, 40])
    @pytest.mark.parametrize("rounded", [False, True])
    def test_no_more_alarms_than_stated_in_many_series(self, count: int, rounded: bool) -> None:
        drawn = [series(seed, (count, 10.0)) for seed in range(1000)]
        alarms = sum(
            bool(find_changes(np.round(values, 1) if rounded else values, seed=seed))
            for seed, values in enumerate(drawn)
        )
        assert alarms <= binom.ppf(0.999, 1000, 0.05)

    @pytest.mark.slow
    def test_a_true_change_brings_few_false_ones(self) -> None:
        found = [
            find_changes(series(seed, (20, 10.0), (20, 11.0)), seed=seed) for seed in range(500)
        ]
        assert np.mean([len(changes) == 0 for changes in found]) == 0
        assert sum(len(changes) > 1 for changes in found) <= binom.ppf(0.999, 500, 0.05)

    @pytest.mark.parametrize("values", [[], [1.0], [5.0] * 7, [5.0] * 30])
    def test_too_short_or_constant(self, values: list[float]) -> None:
        assert find_changes(values) == ()


class TestStatistic:
    def test_it_is_mann_whitney_with_ties_at_every_place(self) -> None:
        random = np.random.default_rng(0)
        values = random.integers(0, 6, 15).astype(float)
        got = _standardised(_midranks(values)[np.newaxis], 4)[0]
        for place, cut in enumerate(range(4, 12)):
            u, p = mannwhitneyu(
                values[:cut], values[cut:], method="asymptotic", use_continuity=False
            )
            from scipy.stats import norm

            assert 2 * norm.sf(got[place]) == pytest.approx(p, rel=1e-9), u

    @pytest.mark.parametrize(("alpha", "needed"), [(0.05, 8), (0.01, 10), (0.001, 14)])
    def test_the_shortest_series_that_can_alarm(self, alpha: float, needed: int) -> None:
        assert values_needed(alpha) == needed
        clean = np.arange(needed) >= needed // 2
        assert find_changes(clean + np.arange(needed) / 100, alpha=alpha)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0.0; it must be between 0 and 1"),
        ({"minimum": 1}, "minimum is 1; a level needs at least 2 values"),
        ({"values": [1.0, float("nan")]}, "not finite has no levels"),
    ],
)
def test_messages(words: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_changes(**{"values": [1.0] * 8, **words})
