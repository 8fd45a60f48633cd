"""Limits on change: how they are read, what they decide, and how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from candlemark.errors import ConfigError
from candlemark.metrics.contrast import Contrast, contrast
from candlemark.metrics.limits import Decision, decide, parse_limit, parse_limits
from candlemark.metrics.simulated import Noise, simulate_sweep

CELLS = 4


def decisions(slowdown: float, text: str, *, rounds: int = 8, seed: int) -> list[Decision]:
    """A simulated sweep of CELLS cells, of which B is slower in the first."""
    random = np.random.default_rng(seed)
    slowdowns = (slowdown, *(1.0,) * (CELLS - 1))
    sweep = simulate_sweep(random, Noise(), slowdowns=slowdowns, rounds=rounds)
    limit = parse_limit(text)
    return [one.decision for one in decide([(limit, contrast(values)) for values in sweep])]


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "shown", "share"),
        [
            ("latency_p50_ms>+5%", "latency_p50_ms>+5%", 0.05),
            (" latency_p50_ms > 2.5 % ", "latency_p50_ms>+2.5%", 0.025),
            ("throughput_items_per_s<-5%", "throughput_items_per_s<-5%", -0.05),
            ("throughput_items_per_s<5%", "throughput_items_per_s<-5%", -0.05),
            ("peak_memory_bytes>+10%", "peak_memory_bytes>+10%", 0.1),
            ("latency_p95_ms>0%", "latency_p95_ms>+0%", 0.0),
        ],
    )
    def test_what_is_understood(self, text: str, shown: str, share: float):
        limit = parse_limit(text)
        assert limit.text == shown
        assert limit.share == pytest.approx(share)
        assert limit.above is (">" in text)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("latency_p50_ms", "cannot read the limit 'latency_p50_ms'; write a measure, > or <"),
            ("latency_p50_ms>+5", "cannot read the limit"),
            ("latency_p50_ms>=5%", "cannot read the limit"),
            ("latency_p50>+5%", "unknown measure 'latency_p50'; did you mean 'latency_p50_ms'?"),
            ("latency>+5%", "unknown measure 'latency'; did you mean 'latency_p50_ms'?"),
            (
                "latency_p50_ms>-5%",
                "would fail where nothing changed; did you mean 'latency_p50_ms>+5%'?",
            ),
            (
                "latency_p50_ms<-5%",
                "for an improvement: lower latency p50 is better; did you mean 'latency_p50_ms>",
            ),
            ("throughput_items_per_s>+5%", "did you mean 'throughput_items_per_s<-5%'?"),
            ("throughput_items_per_s<-100%", "a fall of 100 % or more"),
        ],
    )
    def test_what_is_not(self, text: str, message: str):
        with pytest.raises(ConfigError) as caught:
            parse_limit(text)
        assert message in str(caught.value)

    def test_several_are_parted_by_commas_or_repeated(self):
        limits = parse_limits(["latency_p50_ms>+5%, peak_memory_bytes>+10%", "load_s>+50%"])
        assert [limit.measure.name for limit in limits] == [
            "latency_p50_ms",
            "peak_memory_bytes",
            "load_s",
        ]

    def test_none_and_two_for_one_measure_are_refused(self):
        with pytest.raises(ConfigError, match="no limit is given; write one, such as"):
            parse_limits([" "])
        with pytest.raises(ConfigError, match="'load_s' has two limits"):
            parse_limits(["load_s>+5%", "load_s>+6%"])


class TestDecisions:
    def test_counted_changes_are_decided_at_once(self):
        grown = contrast(np.log(np.tile([112.0, 100.0, 100.0], (4, 1))))
        fell = contrast(np.log(np.tile([88.0, 100.0, 100.0], (4, 1))))
        memory, rate = (
            parse_limit("peak_memory_bytes>+10%"),
            parse_limit("throughput_items_per_s<-10%"),
        )
        found = decide([(memory, grown), (memory, fell), (rate, fell), (rate, grown)])
        words = [one.decision for one in found]
        assert words == [Decision.FAIL, Decision.PASS, Decision.FAIL, Decision.PASS]
        assert found[0].grounds.startswith("+12.0% is beyond the limit, p = ")

    def test_too_few_rounds_decide_nothing_and_say_how_many_would(self):
        grown = contrast(np.log(np.tile([112.0, 100.0, 100.0], (2, 1))))
        (found,) = decide([(parse_limit("peak_memory_bytes>+10%"), grown)])
        assert found.decision is Decision.UNDECIDED
        assert found.more_rounds == 1
        assert "about 1 more round would settle it" in found.grounds

    def test_a_change_at_the_limit_itself_stays_undecided(self):
        seen = [decisions(1.05, "latency_p50_ms>+5%", seed=seed)[0] for seed in range(6)]
        assert seen.count(Decision.UNDECIDED) >= 4

    def test_a_limit_beyond_which_noise_reaches_is_not_failed(self):
        values = np.random.default_rng(3).normal(0, 0.2, (8, 3))
        values[:, 0] += 0.25
        loud = contrast(values)
        (found,) = decide([(parse_limit("latency_p50_ms>+0%"), loud)])
        if found.p_value is not None and found.p_value < 0.05:
            assert loud.floor is not None
            assert (found.decision is Decision.FAIL) == (
                abs(math.log(loud.ratio or 1)) > math.log1p(loud.floor)
            )

    def test_what_could_not_be_measured_is_undecided(self):
        nothing = Contrast(values=np.empty((0, 3)), reason="29 calls a process bear it")
        (found,) = decide([(parse_limit("latency_p90_ms>+5%"), nothing)])
        assert (found.decision, found.grounds) == (Decision.UNDECIDED, nothing.reason)

    def test_without_a_floor_nothing_is_decided(self):
        two = contrast(np.log(np.tile([112.0, 100.0], (8, 1))))
        (found,) = decide([(parse_limit("latency_p50_ms>+5%"), two)])
        assert found.decision is Decision.UNDECIDED
        assert "nothing was run twice" in found.grounds


class TestPower:
    """A quick form of `python perf/gate_power.py`, which states the figures."""

    def test_five_per_cent_are_found_and_reruns_stay_silent(self):
        found = [decisions(1.05, "latency_p50_ms>+2%", seed=seed) for seed in range(12)]
        assert sum(one[0] is Decision.FAIL for one in found) >= 11
        assert sum(Decision.FAIL in one[1:] for one in found) <= 1
        reruns = [decisions(1.0, "latency_p50_ms>+2%", seed=100 + seed) for seed in range(12)]
        assert sum(Decision.FAIL in one for one in reruns) <= 1

    @pytest.mark.slow
    def test_both_over_two_hundred_sweeps(self):
        sweeps = 200
        found = [decisions(1.05, "latency_p50_ms>+2%", seed=seed) for seed in range(sweeps)]
        power = sum(one[0] is Decision.FAIL for one in found)
        assert stats.binomtest(power, sweeps, 0.95, "less").pvalue > 0.01
        for text in ("latency_p50_ms>+2%", "latency_p50_ms>+5%"):
            reruns = [decisions(1.0, text, seed=1000 + seed) for seed in range(sweeps)]
            alarms = sum(Decision.FAIL in one for one in reruns)
            assert stats.binomtest(alarms, sweeps, 0.05, "greater").pvalue > 0.01
