"""Intervals hold where neighbours are alike, and what cannot be settled is not called settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from candlemark.metrics.clock import ClockCheck, DeviceClock
from candlemark.metrics.intervals import (
    Samples,
    correlated_interval,
    drift,
    effective_count,
    mean_interval,
    quantile_interval,
)
from candlemark.metrics.timing import measure_latency
from candlemark.records import Verdict

Noise = Callable[[np.random.Generator, int], Samples]
CALL_MS = 20.0


def autocorrelated(correlation: float, spread: float) -> Noise:
    """Log-normal times whose logarithm is a first-order process; the median is CALL_MS."""

    def make(random: np.random.Generator, count: int) -> Samples:
        shocks = random.normal(size=count + 200)
        gain = np.sqrt(1 - correlation**2)
        return CALL_MS * np.exp(spread * lfilter([gain], [1, -correlation], shocks)[200:])

    return make


def bursts(start: float, mean_length: float, slower: float, spread: float) -> Noise:
    """Quiet times, now and then a burst of slower calls."""

    def make(random: np.random.Generator, count: int) -> Samples:
        busy, index = np.zeros(count, dtype=bool), 0
        while (index := index + random.geometric(start)) < count:
            length = random.geometric(1 / mean_length)
            busy[index : index + length] = True
            index += length
        quiet = CALL_MS * np.exp(spread * random.normal(size=count))
        return quiet * np.where(busy, 1 + slower * random.random(count), 1)

    return make


def two_states(dwell: float, slower: float, share: float, spread: float = 0.01) -> Noise:
    """Two clock frequencies; `share` of the time is spent in the slower one."""

    def make(random: np.random.Generator, count: int) -> Samples:
        slow, index, state = np.zeros(count, dtype=bool), 0, bool(random.random() < share)
        while index < count:
            length = random.geometric(1 / (2 * dwell * (share if state else 1 - share)))
            slow[index : index + length] = state
            index, state = index + length, not state
        return CALL_MS * np.exp(spread * random.normal(size=count)) * np.where(slow, 1 + slower, 1)

    return make


def median_of(noise: Noise) -> float:
    return float(np.median(noise(np.random.default_rng(99), 1_000_000)))


@dataclass(frozen=True)
class Simulated:
    """Shares of runs: settled, and of those (of all with an interval) the true median inside."""

    settled: float
    covered_when_settled: float
    covered: float
    samples: float
    reasons: Counter[str]


def simulate(noise: Noise, *, runs: int, budget_s: float = 10.0, seed: int = 0) -> Simulated:
    """`measure_latency` itself, on a fake clock that jumps by the simulated times."""
    random, truth = np.random.default_rng(seed), median_of(noise)
    settled, inside_settled, inside, counts = 0, [], [], []
    reasons: Counter[str] = Counter()
    for _ in range(runs):
        times = iter((noise(random, int(budget_s * 1000 / CALL_MS * 2)) * 1e6).astype(int).tolist())
        host = [0]

        def call(host: list[int] = host, times: object = times) -> None:
            host[0] += next(times)  # type: ignore[call-overload]

        clock = DeviceClock(
            torch.device("cpu"),
            now_ns=lambda host=host: host[0],  # type: ignore[misc]
            wait=lambda _: None,
            check=ClockCheck(ok=True, ratios={}, detail=""),
        )
        timing = measure_latency(
            call, clock, warmup_s=0, warmup_calls=0, minimum_samples=59, budget_s=budget_s
        )
        p50 = timing.measurements[0]
        counts.append(len(timing.samples_ms))
        reasons[str(p50.reason).split(" ")[0]] += 1
        if p50.low is not None and p50.high is not None:
            inside.append(p50.low <= truth <= p50.high)
        if p50.verdict is Verdict.VALID:
            settled += 1
            inside_settled.append(inside[-1])
    return Simulated(
        settled=settled / runs,
        covered_when_settled=float(np.mean(inside_settled)) if inside_settled else float("nan"),
        covered=float(np.mean(inside)) if inside else float("nan"),
        samples=float(np.mean(counts)),
        reasons=reasons,
    )


HELD: dict[str, tuple[Noise, float]] = {
    "independent 3 %": (autocorrelated(0.0, 0.03), 0.93),
    "independent 8 %": (autocorrelated(0.0, 0.08), 0.93),
    "correlation 0.3": (autocorrelated(0.3, 0.05), 0.93),
    "correlation 0.6": (autocorrelated(0.6, 0.05), 0.91),
    "correlation 0.8": (autocorrelated(0.8, 0.03), 0.85),
    "short bursts": (bursts(0.02, 5, 0.5, 0.02), 0.91),
    "short states": (two_states(5, 0.1, 0.3), 0.91),
}
"""Noise and the least share of settled runs that must hold the truth. The last lines lie below
95 %: what a run did not meet it cannot know."""


@pytest.mark.slow
@pytest.mark.parametrize("name", list(HELD))
def test_a_settled_median_is_the_true_one_as_often_as_it_says(name: str) -> None:
    noise, least = HELD[name]
    seen = simulate(noise, runs=400)
    assert seen.covered_when_settled >= least or seen.settled < 0.05
    assert seen.covered >= 0.93


@pytest.mark.slow
def test_slow_noise_is_seldom_called_settled() -> None:
    """Correlation of 0.95: forty calls are worth one, and ten seconds do not settle 2 %."""
    seen = simulate(autocorrelated(0.95, 0.05), runs=300)
    assert seen.settled < 0.03
    assert seen.covered > 0.9


def test_settled_medians_of_correlated_times_hold_the_truth() -> None:
    seen = simulate(autocorrelated(0.5, 0.02), runs=40)
    assert seen.settled > 0.9
    assert seen.covered_when_settled >= 0.9


def test_intervals_that_take_neighbours_for_independent_are_too_narrow() -> None:
    random, noise = np.random.default_rng(0), autocorrelated(0.7, 0.05)
    naive, honest = [], []
    for _ in range(150):
        samples = noise(random, 200)
        low, high = quantile_interval(samples, 0.5) or (0.0, 0.0)
        naive.append(low <= CALL_MS <= high)
        bounds = correlated_interval(samples, 0.5)
        assert bounds is not None
        honest.append(bounds[0] <= CALL_MS <= bounds[1])
    assert np.mean(naive) < 0.8
    assert np.mean(honest) >= 0.93


def test_the_effective_count_follows_the_correlation() -> None:
    random = np.random.default_rng(3)
    free, alike = (
        np.mean([effective_count(autocorrelated(r, 0.05)(random, 500), 0.5) for _ in range(30)])
        for r in (0.0, 0.8)
    )
    assert 350 < free <= 500
    # The sign of a first-order process of 0.8 has an integrated time of about 6.3.
    assert 30 < alike < 500 / 6


def test_the_interval_reaches_into_the_other_state_while_the_shares_are_unsure() -> None:
    """Visits of 20 calls to a slower state do not tell in which state the machine mostly is."""
    samples = two_states(20, 0.1, 0.3, 0.005)(np.random.default_rng(2), 300)
    naive, reaching = quantile_interval(samples, 0.5), correlated_interval(samples, 0.5)
    assert naive is not None
    assert reaching is not None
    assert naive[1] < 21
    assert reaching[1] > 21.5
    singly = correlated_interval(np.random.default_rng(0).permutation(samples), 0.5)
    assert singly is not None
    assert singly[1] < 21


def test_slow_samples_that_come_singly_do_not_widen_the_interval() -> None:
    samples = np.random.default_rng(1).normal(20, 0.1, 200)
    samples[::7] = 40.0
    bounds = correlated_interval(samples, 0.5)
    assert bounds is not None
    assert bounds[1] < 20.1


def test_equal_times_count_as_independent_and_bound_themselves() -> None:
    assert effective_count(np.full(40, 20.0), None) == pytest.approx(40 / (1 + (6 / 40) ** 0.5))
    assert quantile_interval(np.full(40, 20.0), 0.5, effective=40.0) == (20.0, 20.0)


def test_too_few_independent_samples_bear_no_interval() -> None:
    assert quantile_interval(np.arange(100.0), 0.5, effective=5.9) is None
    assert correlated_interval(np.arange(100.0), 0.5) is None
    random = np.random.default_rng(0)
    assert correlated_interval(random.normal(size=7), 0.5) is None
    assert mean_interval(np.arange(100.0)) is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.01, 1e4), min_size=2, max_size=120),
    st.floats(0.01, 100),
    st.sampled_from([None, 0.5, 0.9]),
)
def test_the_effective_count_is_bounded_and_blind_to_units(
    values: list[float], factor: float, quantile: float | None
) -> None:
    samples = np.asarray(values)
    count = effective_count(samples, quantile)
    assert 1 <= count <= len(samples)
    if quantile is None:
        assert effective_count(samples * factor, None) == pytest.approx(count, rel=0.05, abs=1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 1e4), min_size=24, max_size=80), st.floats(0.25, 0.5))
def test_less_worth_means_a_wider_interval(values: list[float], share: float) -> None:
    samples = np.asarray(values)
    full = quantile_interval(samples, 0.5)
    wider = quantile_interval(samples, 0.5, effective=share * len(samples))
    assert full is not None
    assert wider is not None
    assert wider[0] <= full[0] <= np.median(samples) <= full[1] <= wider[1]


def test_the_mean_of_known_noise_is_held() -> None:
    random, inside = np.random.default_rng(5), []
    for _ in range(200):
        bounds = mean_interval(random.normal(20, 1, 60))
        assert bounds is not None
        inside.append(bounds[0] <= 20 <= bounds[1])
    assert np.mean(inside) >= 0.93


def test_drift_is_found_and_told_as_a_share() -> None:
    random = np.random.default_rng(1)
    rising = np.linspace(20, 21.5, 120) * np.exp(0.01 * random.normal(size=120))
    assert drift(rising, tolerance=0.01) == pytest.approx(0.048, abs=0.01)
    assert drift(rising[::-1], tolerance=0.01) == pytest.approx(-0.048, abs=0.01)
    assert drift(rising, tolerance=0.1) is None
    assert drift(rising[:29], tolerance=0.001) is None


def test_a_step_to_another_clock_frequency_is_drift() -> None:
    random = np.random.default_rng(2)
    stepped = np.repeat([20.0, 22.0], 50) * np.exp(0.01 * random.normal(size=100))
    assert drift(stepped, tolerance=0.01) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_steady_noise_is_not_called_drift(correlation: float) -> None:
    random, noise = np.random.default_rng(7), autocorrelated(correlation, 0.05)
    alarms = sum(drift(noise(random, 90), tolerance=0.001) is not None for _ in range(300))
    assert alarms <= 4
