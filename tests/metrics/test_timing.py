"""Clocks are tested before they are believed, and small samples stay silent."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.intervals import quantile_interval
from candlemark.metrics.latency import SAMPLES_NEEDED, summarise_latency
from candlemark.metrics.timing import measure_latency, measure_stage, measure_throughput
from candlemark.records import Measurement, Verdict

CPU = torch.device("cpu")
MS = 1_000_000


class FakeMachine:
    """A host and a device with a queue, in fake nanoseconds: nothing here takes real time."""

    def __init__(self, call_ns: Callable[[int], int] = lambda _: 2 * MS) -> None:
        self.host = 0
        self.device_free = 0
        self.calls = 0
        self.queued = 0
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


def test_the_work_known_by_default_runs_on_one_thread_which_waits_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    product = torch.mm
    monkeypatch.setattr(
        torch, "mm", lambda *both: (threads.append(torch.get_num_threads()), product(*both))[1]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        DeviceClock(CPU).self_test(rounds=1, tries=1)
        assert set(threads) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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
    """A busy machine sleeps longer than asked; the call keeps its own account of how long."""
    slept: list[float] = []

    def call() -> None:
        begin = time.perf_counter()
        time.sleep(0.01)
        slept.append((time.perf_counter() - begin) * 1e3)

    latency = measure_latency(
        call, DeviceClock(CPU), budget_s=0.5, warmup_s=0, warmup_calls=1, maximum_samples=30
    )
    p50 = by_name(latency.measurements)["latency_p50_ms"].value
    assert p50 is not None
    assert p50 >= 10
    assert p50 == pytest.approx(np.median(slept[1:]), rel=0.1)


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
    assert "2.0% was asked for: no longer budget settles that" in str(p50.reason)


def test_a_budget_that_would_settle_it_is_named() -> None:
    random = np.random.default_rng(0)
    machine = FakeMachine(lambda _: int(random.uniform(1, 9) * MS))
    clock = machine.clock()
    clock.self_test(machine.work)
    latency = measure_latency(machine.call, clock, budget_s=2, width=0.08)
    p50 = by_name(latency.measurements)["latency_p50_ms"]
    assert p50.verdict is Verdict.UNSTABLE
    assert "raise the time budget (about " in str(p50.reason)


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


def checked_clock(machine: FakeMachine) -> DeviceClock:
    clock = machine.clock()
    clock.self_test(machine.work)
    return clock


def test_samples_stay_in_the_order_in_which_they_were_taken() -> None:
    machine = FakeMachine(lambda call: (call + 1) * MS)
    latency = measure_latency(
        machine.call, machine.clock(), warmup_s=0, warmup_calls=0, maximum_samples=20, width=0.001
    )
    assert latency.stopped == "limit"
    # The call after each look is made and not counted.
    assert (np.diff(latency.samples_ms) > 0.9).all()


def test_all_measures_of_latency_are_told() -> None:
    samples = np.random.default_rng(0).normal(20, 1, 400)
    measured = by_name(summarise_latency(samples))
    assert list(measured) == [
        f"latency_{name}_ms" for name in ("p50", "p90", "p95", "p99", "mean", "std", "min", "max")
    ]
    assert measured["latency_mean_ms"].value == pytest.approx(samples.mean())
    assert measured["latency_std_ms"].value == pytest.approx(samples.std(ddof=1))
    assert measured["latency_min_ms"].value == samples.min()
    assert measured["latency_max_ms"].value == samples.max()
    mean = measured["latency_mean_ms"]
    assert mean.low is not None
    assert mean.high is not None
    assert mean.low < 20 < mean.high
    assert all(m.unit == "ms" and m.sample_count == 400 for m in measured.values())


def test_nothing_is_told_of_no_samples() -> None:
    measured = by_name(summarise_latency(np.array([])))
    assert all(m.value is None and m.verdict is Verdict.TOO_FEW for m in measured.values())
    assert measured["latency_max_ms"].reason == "max needs 1 samples, 1 more"
    assert measured["latency_mean_ms"].reason == "mean needs 5 samples, 5 more"


def test_a_narrow_median_is_valid_although_the_budget_ended_before_enough_samples() -> None:
    machine = FakeMachine(lambda _: 20 * MS)
    latency = measure_latency(
        machine.call, checked_clock(machine), budget_s=1.0, minimum_samples=299, warmup_s=0
    )
    measured = by_name(latency.measurements)
    assert latency.stopped == "budget"
    assert measured["latency_p50_ms"].verdict is Verdict.VALID
    assert measured["latency_p99_ms"].verdict is Verdict.TOO_FEW


def test_a_budget_too_short_for_an_interval_says_so() -> None:
    machine = FakeMachine(lambda call: (20 + call % 3) * MS)
    latency = measure_latency(machine.call, checked_clock(machine), budget_s=0.15, warmup_s=0)
    p50 = by_name(latency.measurements)["latency_p50_ms"]
    assert p50.verdict is Verdict.UNSTABLE
    assert "too few for an interval: raise the time budget" in str(p50.reason)


def test_the_most_samples_are_told_when_they_end_it() -> None:
    random = np.random.default_rng(0)
    machine = FakeMachine(lambda _: int(random.uniform(1, 9) * MS))
    latency = measure_latency(
        machine.call, checked_clock(machine), budget_s=60, maximum_samples=80, warmup_s=0
    )
    assert (latency.stopped, len(latency.samples_ms)) == ("limit", 80)
    p50 = by_name(latency.measurements)["latency_p50_ms"]
    assert "the most samples allowed were taken" in str(p50.reason)
    assert "raise the number of samples" in str(p50.reason)


def test_times_that_drift_are_unstable_but_for_their_extremes() -> None:
    random = np.random.default_rng(0)
    machine = FakeMachine(lambda call: int((20 + 0.02 * call) * random.normal(1, 0.005) * MS))
    latency = measure_latency(
        machine.call, checked_clock(machine), minimum_samples=59, budget_s=4.0, warmup_s=0
    )
    measured = by_name(latency.measurements)
    assert latency.stopped == "budget"
    for name in ("p50", "p90", "p95", "mean", "std"):
        assert measured[f"latency_{name}_ms"].verdict is Verdict.UNSTABLE
        assert "times drifted: the median of the last third" in str(
            measured[f"latency_{name}_ms"].reason
        )
    assert measured["latency_max_ms"].verdict is Verdict.VALID


def test_a_twenty_ms_call_is_answered_in_less_than_three_seconds() -> None:
    """By the call's own clock, warm-up included, with 3 % of noise."""
    random = np.random.default_rng(4)
    machine = FakeMachine(lambda _: int(random.normal(20, 0.6) * MS))
    clock = checked_clock(machine)
    started = machine.host
    latency = measure_latency(machine.call, clock, minimum_samples=59)
    assert latency.stopped == "precise"
    assert (machine.host - started) / 1e9 < 3.0
    p50 = by_name(latency.measurements)["latency_p50_ms"]
    assert p50.low is not None
    assert p50.high is not None
    assert p50.high - p50.low <= 0.02 * 20.2


def test_warm_up_goes_on_while_calls_get_faster() -> None:
    machine = FakeMachine(lambda call: int((2 + 15 * 0.97**call) * MS))
    short = FakeMachine(lambda _: 2 * MS)
    falling = measure_latency(machine.call, machine.clock(), warmup_s=0.5, budget_s=5.0)
    steady = measure_latency(short.call, short.clock(), warmup_s=0.5, budget_s=5.0)
    assert 240 <= steady.warmup_calls <= 260
    assert falling.samples_ms.max() < 2.1


def test_a_slow_call_is_not_repeated_for_the_sake_of_warm_up() -> None:
    machine = FakeMachine(lambda _: 10_000 * MS)
    latency = measure_latency(machine.call, machine.clock(), budget_s=5.0, warmup_calls=3)
    assert latency.warmup_calls == 1


def test_a_call_slower_than_the_budget_still_has_a_median() -> None:
    machine = FakeMachine(lambda _: 10_000 * MS)
    latency = measure_latency(machine.call, checked_clock(machine), budget_s=5.0)
    assert len(latency.samples_ms) == 5
    p50 = by_name(latency.measurements)["latency_p50_ms"]
    assert p50.value == pytest.approx(10_000, rel=1e-3)
    assert p50.verdict is Verdict.UNSTABLE
    assert "too few for an interval: raise the time budget" in str(p50.reason)


def test_a_clock_that_stands_still_ends_at_the_first_look() -> None:
    machine = FakeMachine()
    clock = DeviceClock(CPU, now_ns=lambda: 7, wait=lambda _: None)
    latency = measure_latency(machine.call, clock, minimum_samples=59)
    assert len(latency.samples_ms) == 59
    assert by_name(latency.measurements)["latency_p50_ms"].verdict is Verdict.UNSTABLE
    stage = measure_stage("preprocess_ms", machine.call, clock)
    assert stage.measurements[0].verdict is Verdict.UNSTABLE


@pytest.mark.parametrize(("asked", "taken"), [({}, 1), ({"minimum_samples": 5}, 5)])
def test_a_slow_stage_ends_with_its_budget_once_it_has_the_samples_asked_for(
    asked: dict[str, int], taken: int
) -> None:
    machine = FakeMachine(lambda _: 900 * MS)
    stage = measure_stage("preprocess_ms", machine.call, machine.clock(), budget_s=0.5, **asked)
    assert len(stage.samples_ms) == taken


def test_a_clock_at_half_speed_follows_work_and_is_off_by_two() -> None:
    """No check of ratios can see it: this is what a second clock is compared with."""
    machine = FakeMachine()
    clock = DeviceClock(CPU, now_ns=lambda: machine.host // 2, wait=machine.wait)
    assert clock.self_test(machine.work).ok
    latency = measure_latency(machine.call, clock, warmup_s=0)
    assert np.median(latency.samples_ms) == pytest.approx(1.0, rel=0.01)


def test_a_clock_that_forgets_to_wait_sees_only_the_giving_of_work() -> None:
    """Once the check has seen the device wait, work that is only queued cannot pass for done."""
    machine = FakeMachine(lambda _: 20 * MS)
    honest = measure_latency(machine.call, machine.clock(), warmup_s=0)
    forgetful = measure_latency(machine.call, machine.clock(waits=False), warmup_s=0)
    assert np.median(honest.samples_ms) == pytest.approx(20, rel=0.01)
    assert np.median(forgetful.samples_ms) < 0.01


def test_the_collector_of_cycles_is_off_while_calls_are_timed_and_on_afterwards() -> None:
    machine, seen = FakeMachine(), []

    def call() -> None:
        seen.append(gc.isenabled())
        machine.call()

    assert gc.isenabled()
    measure_latency(call, machine.clock(), warmup_s=0)
    measure_throughput(call, machine.clock(), items_per_call=1, budget_s=0.1, warmup_s=0)
    measure_stage("preprocess_ms", call, machine.clock())
    assert not any(seen)
    assert gc.isenabled()


def test_the_collector_comes_back_after_a_call_that_fails() -> None:
    def call() -> None:
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        measure_latency(call, DeviceClock(CPU))
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    machine = FakeMachine()
    gc.disable()
    try:
        measure_latency(machine.call, machine.clock(), warmup_s=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_cycles_do_not_pile_up_while_the_collector_is_off() -> None:
    """Each call leaves a cycle behind; between samples they are taken away."""
    machine, alive = FakeMachine(lambda _: 20 * MS), weakref.WeakSet()
    most = 0

    class Output:
        def __init__(self) -> None:
            self.me = self

    def call() -> None:
        nonlocal most
        alive.add(Output())
        most = max(most, len(alive))
        machine.call()

    measure_latency(call, machine.clock(), warmup_s=0, minimum_samples=100)
    assert most < 20


def test_the_queue_of_an_accelerator_is_bounded() -> None:
    machine = FakeMachine(lambda _: 10_000)
    deepest = 0

    def wait(device: torch.device) -> None:
        nonlocal deepest
        deepest = max(deepest, machine.queued)
        machine.queued = 0
        machine.wait(device)

    def call() -> None:
        machine.queued += 1
        machine.call()

    clock = DeviceClock(torch.device("cuda"), now_ns=lambda: machine.host, wait=wait)
    timing = measure_throughput(call, clock, items_per_call=2, budget_s=0.2, warmup_s=0)
    assert deepest <= 256
    assert timing.calls_per_sample == 256
    assert len(timing.samples_ms) > 16
    (rate,) = timing.measurements
    assert rate.value == pytest.approx(2 / 10e-6, rel=0.05)


def test_a_call_that_fills_the_budget_gives_throughput_without_an_interval() -> None:
    machine = FakeMachine(lambda _: 1000 * MS)
    timing = measure_throughput(
        machine.call, checked_clock(machine), items_per_call=4, budget_s=3.0, warmup_s=0
    )
    (rate,) = timing.measurements
    assert rate.value == pytest.approx(4, rel=0.01)
    assert (rate.low, rate.level) == (None, None)
    assert rate.reason == "3 rounds bear no interval; 6 do: raise the time budget"


def test_a_stage_is_timed_apart_from_what_prepares_it() -> None:
    machine = FakeMachine(lambda _: 3 * MS)

    def prepare() -> None:
        machine.host += 50 * MS

    stage = measure_stage(
        "decode_ms_per_token",
        machine.call,
        checked_clock(machine),
        prepare=prepare,
        units_per_call=3,
        budget_s=2.0,
    )
    (decode,) = stage.measurements
    assert (decode.name, decode.unit, decode.verdict) == (
        "decode_ms_per_token",
        "ms",
        Verdict.VALID,
    )
    assert decode.value == pytest.approx(1.0, rel=0.01)
    assert decode.low is not None
    assert (stage.stopped, stage.warmup_calls) == ("budget", 1)
    assert 30 < len(stage.samples_ms) < 45


def test_a_stage_ends_at_the_most_samples_and_a_slow_one_at_the_budget() -> None:
    machine, slow = FakeMachine(), FakeMachine(lambda _: 900 * MS)
    quick = measure_stage("preprocess_ms", machine.call, checked_clock(machine))
    assert (quick.stopped, len(quick.samples_ms)) == ("limit", 100)
    once = measure_stage("preprocess_ms", slow.call, slow.clock())
    assert (once.stopped, len(once.samples_ms)) == ("budget", 1)
    assert once.measurements[0].reason == "p50 needs 5 samples, 4 more"


def test_waiting_for_a_cpu_costs_no_device_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DeviceClock(CPU)
    assert clock.bound_wait()() is None
    asked: list[torch.device] = []
    clock.wait = asked.append
    clock.bound_wait()()
    assert asked == [CPU]
    cuda = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    DeviceClock(cuda).bound_wait()()
    assert asked == [CPU, cuda]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(5, 80), st.integers(80, 300))
def test_the_run_ends_within_its_bounds(call_ms: int, minimum: int, maximum: int) -> None:
    machine = FakeMachine(lambda call: (call_ms + call % 2) * MS)
    latency = measure_latency(
        machine.call,
        machine.clock(),
        warmup_s=0,
        warmup_calls=0,
        budget_s=1.0,
        minimum_samples=minimum,
        maximum_samples=maximum,
    )
    count = len(latency.samples_ms)
    assert 1 <= count <= maximum
    assert (latency.stopped != "precise") or count >= minimum
    # The last call may begin just before the budget ends.
    assert latency.samples_ms.sum() <= 1000 + 2 * (call_ms + 1)
