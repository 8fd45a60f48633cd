"""B against A: an exact test, an estimate, an interval that holds, and a verdict for each truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from candlemark.errors import ConfigError
from candlemark.metrics.contrast import (
    MOST_ROUNDS,
    Change,
    Contrast,
    bounds,
    contrast,
    direction,
    estimate,
    judge,
    more_rounds,
    noise_floor,
    p_above,
    p_below,
    round_value,
)
from candlemark.metrics.simulated import Noise, simulate_round, simulate_sweep

QUIET = Noise()


def rounds_of(
    slowdown: float = 1.0, *, count: int = 8, seed: int = 0, spread: float = 0.01
) -> np.ndarray:
    """Rounds x (B, A, A): whole processes, without bursts."""
    random = np.random.default_rng(seed)
    values = random.normal(0, spread, (count, 3)) + random.normal(0, 0.05, (count, 1))
    values[:, 0] += math.log(slowdown)
    return values


class TestRoundValue:
    def test_a_steady_drift_falls_out(self):
        there = np.exp(np.arange(6).reshape(2, 3) * 0.01)
        there[1] = there[1][::-1]  # the way back, by process
        np.testing.assert_allclose(np.ptp(round_value(there[None])), 0, atol=1e-12)

    def test_one_disturbed_pass_of_three_is_dropped(self):
        bursts = np.full((3, 2, 3), 20.0)
        bursts[:, :, 0] = 22.0
        bursts[1, 0, 2] = 90.0
        value = round_value(bursts)
        assert value[0] - value[2] == pytest.approx(math.log(1.1))
        np.testing.assert_allclose(np.exp(value[1]), 20.0, rtol=0.05)


class TestExactTest:
    def test_it_is_the_share_of_all_assignments(self):
        values = rounds_of(1.01, count=4, seed=3)
        aligned = values - np.median(values, axis=1, keepdims=True)
        ranks = stats.rankdata(aligned, axis=None).reshape(aligned.shape)
        sums = [sum(picked) for picked in itertools.product(*ranks)]
        share = np.mean(np.asarray(sums) >= ranks[:, 0].sum() - 1e-9)
        assert p_above(values, 0.0) == pytest.approx(share)

    @pytest.mark.parametrize("rounds", [3, 5, 8])
    def test_where_b_is_always_last_it_is_three_to_the_minus_rounds(self, rounds: int):
        values = rounds_of(2.0, count=rounds)
        assert p_above(values, 0.0) == pytest.approx(3.0**-rounds)
        assert p_below(values, 0.0) == pytest.approx(1.0)

    def test_two_columns_agree_with_signed_ranks_where_all_signs_agree(self):
        values = rounds_of(1.5, count=7)[:, :2]
        differences = values[:, 0] - values[:, 1]
        expected = stats.wilcoxon(differences, alternative="greater").pvalue
        assert p_above(values, 0.0) == pytest.approx(expected)

    @given(st.integers(0, 10_000), st.floats(-0.2, 0.2))
    @settings(max_examples=15, deadline=None)
    def test_a_shift_of_the_data_is_a_shift_of_the_question(self, seed: int, shift: float):
        values = rounds_of(count=5, seed=seed)
        moved = values.copy()
        moved[:, 0] += shift
        assert p_above(moved, shift) == pytest.approx(p_above(values, 0.0))

    @given(st.integers(0, 10_000))
    @settings(max_examples=15, deadline=None)
    def test_up_and_down_are_mirror_images(self, seed: int):
        values = rounds_of(count=5, seed=seed)
        assert p_below(values, 0.0) == pytest.approx(p_above(-values, 0.0))

    def test_equal_values_tell_nothing(self):
        assert p_above(np.zeros((6, 3)), 0.0) == 1.0

    def test_its_level_holds_with_few_rounds_and_skewed_noise(self):
        random = np.random.default_rng(5)
        for rounds in (4, 6):
            rejected = [
                p_above(random.exponential(1.0, (rounds, 3)), 0.0) < 0.05 for _ in range(300)
            ]
            assert stats.binomtest(sum(rejected), 300, 0.05, "greater").pvalue > 0.001


class TestInterval:
    def test_it_holds_the_truth_as_often_as_it_says(self):
        held = 0
        for seed in range(60):
            low, high = bounds(rounds_of(1.03, count=8, seed=seed), 0.025)
            assert low is not None
            assert high is not None
            held += low <= math.log(1.03) <= high
        assert stats.binomtest(held, 60, 0.95, "less").pvalue > 0.001

    def test_it_ends_where_the_test_begins_to_reject(self):
        values = rounds_of(1.02, seed=1)
        low, high = bounds(values, 0.05)
        assert low is not None
        assert high is not None
        assert p_above(values, low - 1e-4) <= 0.05 < p_above(values, low + 1e-4)
        assert p_below(values, high + 1e-4) <= 0.05 < p_below(values, high - 1e-4)
        assert low < estimate(values) < high

    def test_too_few_rounds_have_no_bounds_and_say_so(self):
        found = contrast(rounds_of(2.0, count=2))
        assert found.ratio == pytest.approx(2.0, rel=0.1)
        assert (found.low, found.high) == (None, None)

    def test_a_counted_measure_has_an_interval_of_no_width(self):
        found = contrast(np.log(np.tile([110.0, 100.0, 100.0], (5, 1))))
        assert found.floor == 0
        assert (found.low, found.ratio, found.high) == pytest.approx((1.1, 1.1, 1.1))

    def test_incomplete_rounds_are_left_out(self):
        values = rounds_of(count=8)
        values[3, 1] = np.nan
        assert contrast(values).rounds == 7
        nothing = contrast(np.full((8, 3), np.nan))
        assert nothing.ratio is None
        assert nothing.reason == "0 complete rounds; at least 2 are needed"

    def test_values_of_another_shape_are_refused(self):
        with pytest.raises(ConfigError, match=r"values have shape \(8,\); needed: rounds x"):
            contrast(np.zeros(8))


class TestFloor:
    def test_it_covers_what_a_rerun_differs_by(self):
        within = [
            abs(math.expm1(values[:, 2].mean() - values[:, 1].mean())) <= (noise_floor(values) or 0)
            for values in (rounds_of(seed=seed) for seed in range(50))
        ]
        assert all(within)

    def test_without_a_second_process_of_a_there_is_none(self):
        values = rounds_of(1.5)[:, :2]
        assert noise_floor(values) is None
        (judged,) = judge([contrast(values)])
        assert judged.change is Change.UNSURE
        assert "noise floor is not known" in judged.grounds


class TestVerdicts:
    def test_each_truth_gets_its_word(self):
        found = [contrast(rounds_of(slowdown, seed=2)) for slowdown in (1.1, 0.9, 1.0)]
        slower, faster, same = judge(found, margin=0.02)
        assert slower.change is Change.SLOWER
        assert "beyond the noise floor of" in slower.grounds
        assert faster.change is Change.FASTER
        assert same.change is Change.SAME

    def test_rates_and_amounts_have_their_own_words(self):
        words = [
            direction(True, True),
            direction(True, False),
            direction(True, None),
            direction(False, None),
        ]
        assert words == [Change.SLOWER, Change.FASTER, Change.MORE, Change.LESS]

    def test_unsure_says_how_many_more_rounds(self):
        (judged,) = judge([contrast(rounds_of(1.02, count=4, spread=0.02, seed=1))])
        assert judged.change is Change.UNSURE
        assert judged.more_rounds
        assert f"about {judged.more_rounds} more rounds would settle it" in judged.grounds

    def test_so_many_more_rounds_do_settle_it(self):
        few = rounds_of(1.03, count=5, spread=0.02, seed=4)
        more = more_rounds(few, math.log(1.03))
        assert more is not None
        settled = [
            p_above(rounds_of(1.03, count=5 + more, spread=0.02, seed=seed), 0.0) < 0.025
            for seed in range(40)
        ]
        assert np.mean(settled) > 0.6

    def test_what_no_number_of_rounds_settles_is_said(self):
        (judged,) = judge([contrast(rounds_of(1.0, spread=0.5, seed=1))], margin=0.0001)
        assert judged.more_rounds is None or judged.more_rounds < MOST_ROUNDS
        assert more_rounds(rounds_of(spread=0.5), 0.001) is None

    def test_a_loud_machine_calls_nothing_the_same(self):
        (judged,) = judge([contrast(rounds_of(1.0, spread=0.6, seed=1))])
        assert judged.change is Change.UNSURE

    def test_correction_over_a_sweep_silences_a_lucky_cell(self):
        lucky = contrast(rounds_of(1.02, count=5, seed=11))
        assert lucky.p_value is not None
        assert lucky.p_value < 0.05
        alone, *_ = judge([lucky])
        beside, *_ = judge([lucky, *(contrast(rounds_of(seed=s, count=5)) for s in range(12))])
        assert alone.p_value is not None
        assert beside.p_value is not None
        assert beside.p_value > 0.05 > alone.p_value
        assert beside.change is not Change.SLOWER

    def test_what_could_not_be_measured_is_unsure_with_its_reason(self):
        (judged,) = judge([Contrast(values=np.empty((0, 3)), reason="B crashed")])
        assert (judged.change, judged.grounds, judged.p_value) == (Change.UNSURE, "B crashed", None)


class TestSimulation:
    def test_bursts_have_the_faults_asked_for(self):
        random = np.random.default_rng(0)
        bursts = simulate_round(random, QUIET, slowdown=1.5, passes=4, calls=50)
        assert bursts.shape == (4, 2, 3)
        value = round_value(bursts)
        assert value[0] - value[1:].mean() == pytest.approx(math.log(1.5), abs=0.08)

    def test_cells_of_a_sweep_differ_as_asked(self):
        random = np.random.default_rng(0)
        slow, same = simulate_sweep(random, QUIET, slowdowns=(1.2, 1.0), rounds=6)
        assert slow.shape == same.shape == (6, 3)
        assert estimate(slow) == pytest.approx(math.log(1.2), abs=0.03)
        assert estimate(same) == pytest.approx(0, abs=0.03)
