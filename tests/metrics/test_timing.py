"""Clocks are tested before they are believed, and small samples stay silent."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.metrics.timing import (
    SAMPLES_NEEDED,
    DeviceClock,
    measure_latency,
    measure_throughput,
    quantile_interval,
    summarise_latency,
)
from candlemark.records import Measurement, Verdict

CPU = torch.device("cpu")
MS = 1_000_000


class FakeMachine:
    """A host and a device with a queue, in fake nanoseconds: nothing here takes real time."""

    def __init__(self, call_ns: Callable[[int], int] = lambda _: 2 * MS) -> None:
        self.host = 0
        self.device_free = 0
        self.calls = 0
        self.call_ns = call_ns

    def call(self) -> None:
        """Give the device one job; the host goes on at once."""
        self.host += 1000
        self.device_free = max(self.device_free, self.host) + self.call_ns(self.calls)
        self.calls += 1

    def work(self, scale: int) -> None:
        for _ in range(scale):
            self.call()

    def wait(self, device: torch.device) -> None:
        self.host = max(self.host, self.device_free)

    def clock(self, *, waits: bool = True) -> DeviceClock:
        return DeviceClock(
            CPU, now_ns=lambda: self.host, wait=self.wait if waits else lambda _: None
        )


def by_name(measured: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.name: m for m in measured}


def test_the_real_clock_of_this_machine_follows_real_work() -> None:
    def work(scale: int) -> None:
        time.sleep(0.004 * scale)

    check = DeviceClock(CPU).self_test(work, rounds=3)
    assert check.ok, check.detail


def test_a_clock_that_waits_for_the_device_passes() -> None:
    machine = FakeMachine()
    check = machine.clock().self_test(machine.work)
    assert check.ok
    assert check.ratios[4] == pytest.approx(4, rel=0.01)


def test_a_clock_that_stands_still_is_refused_and_marks_what_it_measures() -> None:
    machine = FakeMachine()
    clock = DeviceClock(CPU, now_ns=lambda: 7, wait=lambda _: None)
    check = clock.self_test(machine.work)
    assert not check.ok
    assert "no measurable time" in check.detail
    throughput = measure_throughput(machine.call, clock, items_per_call=1, budget_s=1e-5)
    (measured,) = throughput.measurements
    assert (measured.value, measured.verdict) == (None, Verdict.UNSTABLE)
    assert "does not follow work" in str(measured.reason)


def test_a_clock_that_does_not_scale_is_refused() -> None:
    """Each reading costs as much as the work: 2x the work looks like 1.1x the time."""
    machine = FakeMachine(lambda _: 100)

    def wait(device: torch.device) -> None:
        machine.wait(device)
        machine.host += 100_000

    check = DeviceClock(CPU, now_ns=lambda: machine.host, wait=wait).self_test(machine.work)
    assert not check.ok


def test_an_untested_clock_makes_values_unstable() -> None:
    machine = FakeMachine()
    latency = measure_latency(machine.call, machine.clock(), budget_s=0.1)
    assert by_name(latency.measurements)["latency_p50_ms"].verdict is Verdict.UNSTABLE


def test_latency_waits_for_each_call_and_throughput_for_the_last() -> None:
    machine = FakeMachine()
    clock = machine.clock()
    clock.self_test(machine.work)
    latency = measure_latency(machine.call, clock)
    p50 = by_name(latency.measurements)["latency_p50_ms"]
    assert p50.value == pytest.approx(2.001, abs=1e-3)
    assert (p50.verdict, latency.stopped) == (Verdict.VALID, "precise")
    throughput = measure_throughput(machine.call, clock, items_per_call=8)
    (rate,) = throughput.measurements
    assert rate.value == pytest.approx(8 / 0.002, rel=0.01)
    assert rate.low is not None


def test_a_known_sleep_is_timed() -> None:
    clock = DeviceClock(CPU)
    clock.self_test(lambda scale: time.sleep(0.004 * scale), rounds=2)
    latency = measure_latency(
        lambda: time.sleep(0.01), clock, budget_s=0.5, warmup_s=0, warmup_calls=1
    )
    p50 = by_name(latency.measurements)["latency_p50_ms"].value
    assert p50 is not None
    assert 10 <= p50 < 14


def test_noise_runs_into_the_budget_and_says_so() -> None:
    random = np.random.default_rng(0)
    machine = FakeMachine(lambda _: int(random.uniform(1, 9) * MS))
    clock = machine.clock()
    clock.self_test(machine.work)
    latency = measure_latency(machine.call, clock, budget_s=0.2)
    assert latency.stopped == "budget"
    p50 = by_name(latency.measurements)["latency_p50_ms"]
    assert p50.verdict is Verdict.UNSTABLE
    assert "the time budget of 0.2 s ended while the 95 % interval" in str(p50.reason)
    assert "2.0% was asked for: raise the time budget (about " in str(p50.reason)


def test_warm_up_calls_are_not_samples() -> None:
    machine = FakeMachine(lambda call: (1000 if call < 3 else 1) * MS)
    clock = machine.clock()
    latency = measure_latency(machine.call, clock, warmup_s=0, warmup_calls=3)
    assert latency.warmup_calls == 3
    assert latency.samples_ms.max() < 2


@pytest.mark.parametrize("name", list(SAMPLES_NEEDED))
def test_percentiles_are_withheld_until_the_sample_bears_them(name: str) -> None:
    needed = SAMPLES_NEEDED[name]
    short = by_name(summarise_latency(np.ones(needed - 1)))[f"latency_{name}_ms"]
    assert (short.value, short.verdict) == (None, Verdict.TOO_FEW)
    assert short.reason == f"{name} needs {needed} samples, 1 more"
    enough = by_name(summarise_latency(np.ones(needed)))[f"latency_{name}_ms"]
    assert (enough.value, enough.verdict) == (1.0, Verdict.VALID)


@pytest.mark.parametrize(
    ("name", "quantile"), [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)]
)
def test_the_needed_samples_are_the_fewest_that_reach_95_percent(
    name: str, quantile: float
) -> None:
    needed = SAMPLES_NEEDED[name]
    assert 1 - quantile**needed >= 0.95 > 1 - quantile ** (needed - 1)


def test_median_interval_against_the_published_table() -> None:
    """Ranks of the 95 % interval of a median: 1..6 of 6, 2..9 of 10, 8..18 of 25."""
    for count, low, high in [(6, 1, 6), (10, 2, 9), (25, 8, 18)]:
        assert quantile_interval(np.arange(1.0, count + 1), 0.5) == (low, high)
    assert quantile_interval(np.arange(5.0), 0.5) is None


def test_median_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        interval = quantile_interval(random.lognormal(0, 1, 30), 0.5)
        assert interval is not None
        covered += interval[0] <= 1.0 <= interval[1]
    assert covered / 600 >= 0.93


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.001, 1e4), min_size=6, max_size=80), st.floats(0.1, 100))
def test_interval_holds_the_median_and_scales(values: list[float], factor: float) -> None:
    samples = np.asarray(values)
    interval = quantile_interval(samples, 0.5)
    scaled = quantile_interval(samples * factor, 0.5)
    assert interval is not None
    assert scaled is not None
    assert interval[0] <= np.median(samples) <= interval[1]
    assert scaled == pytest.approx((interval[0] * factor, interval[1] * factor))
