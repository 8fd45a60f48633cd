"""Latency and throughput from a clock that has been tested first.

    clock = DeviceClock(device)
    check = clock.self_test()                       # 1x, 2x and 4x the work: does time follow?
    latency = measure_latency(lambda: module(images), clock)
    latency.measurements                            # p50 with an interval, p90, ..., max
    throughput = measure_throughput(lambda: module(images), clock, items_per_call=64)
    measure_stage("preprocess_ms", lambda: processor(raw), clock)

Latency waits for the device after every call; throughput queues calls and waits once. They
are two metrics with two names. Lower latency and higher throughput are better.

A percentile is withheld until the sample can bear it. The largest of n samples lies above
the p-quantile with probability 1 - p^n, and that reaches 95 % at n = 5, 29, 59 and 299 for
p50, p90, p95 and p99 (order statistics; David and Nagaraja, "Order Statistics", 7.1).
Neighbouring samples are alike; `metrics.intervals` says what they are worth.
"""

from __future__ import annotations

import gc
import statistics
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.intervals import Samples, drift, effective_count, quantile_interval
from candlemark.metrics.latency import (
    SAMPLES_NEEDED,
    STOOD_STILL,
    StopReason,
    measure_quantile,
    stood_still,
    summarise_latency,
    width_reached,
)
from candlemark.records import Measurement, Verdict

LOOK_SHARE = 10
"""A look at the interval follows each tenth more samples: few looks, and few samples too many."""
COLLECT_EVERY_NS = 100_000_000
UNCOUNTED_BELOW_NS = 10_000_000
"""Calls longer than this do not feel what a look did to the caches."""
MOST_QUEUED = 256
CALIBRATE_NS = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timing:
    """Samples as taken, and what may be said of them.

    samples_ms: float64[n], milliseconds a call (of a queued round, for throughput)
    stopped: "precise" (the interval became narrow enough), "budget" or "limit" (of samples)
    calls_per_sample: 1, but for the rounds of throughput
    """

    samples_ms: Samples
    stopped: StopReason
    warmup_calls: int
    measurements: tuple[Measurement, ...] = field(default=())
    calls_per_sample: int = 1


def measure_latency(
    call: Callable[[], object],
    clock: DeviceClock,
    *,
    budget_s: float = 5.0,
    warmup_s: float = 0.5,
    warmup_calls: int = 3,
    width: float = 0.02,
    minimum_samples: int = 5,
    maximum_samples: int = 10_000,
) -> Timing:
    """Time single calls, the device finished after each.

    Stops when the 95 % interval of the median spans at most `width` of it, the times do not
    drift and there are `minimum_samples`; or when `budget_s` (warm-up apart) or
    `maximum_samples` is reached. A median that is not settled by then is UNSTABLE and says
    what would settle it. Ask for 299 samples to be told p99. The five calls without which there
    is no median are made whatever the budget.

    Warm-up makes `warmup_calls` calls and lasts `warmup_s`; calls that still get faster are
    repeated for up to three times as long. It never lasts longer than the budget, so that a
    slow call is not repeated for its sake, and never takes more than 1000 calls.

    Python's cyclic garbage collector is off while calls are timed and put back afterwards:
    what it would have taken at a time of its own choosing is done between samples, off the
    clock. So are the looks at the interval; a short call after each look is not counted, since
    it meets caches that the look has filled. The loop itself adds two readings of the clock,
    some tenths of a microsecond.
    """
    timed = _LatencyRun(call, clock, width=width, maximum=maximum_samples)
    with _no_collector():
        warmed = _warm_up(
            call, clock, seconds=warmup_s, calls=warmup_calls, longest_s=max(budget_s, warmup_s)
        )
        stopped = timed.run(budget_s=budget_s, minimum=minimum_samples)
    samples = timed.samples_ms()
    return Timing(
        samples_ms=samples,
        stopped=stopped,
        warmup_calls=warmed,
        measurements=summarise_latency(
            samples,
            fault=clock.fault() or stood_still(samples),
            stopped=stopped,
            width=width,
            budget_s=budget_s,
        ),
    )


class _LatencyRun:
    """The timed loop and its preallocated memory."""

    def __init__(
        self, call: Callable[[], object], clock: DeviceClock, *, width: float, maximum: int
    ) -> None:
        self.call, self.wait, self.now = call, clock.bound_wait(), clock.now_ns
        self.width, self.maximum = width, maximum
        self.times = array("q", bytes(8 * maximum))
        self.count = 0

    def run(self, *, budget_s: float, minimum: int) -> StopReason:
        """Sample until the median is settled or something ends."""
        self.wait()
        end = self.now()
        deadline = end + int(budget_s * 1e9)
        target = min(minimum, self.maximum)
        fewest = min(target, SAMPLES_NEEDED["p50"])
        while True:
            end = self._sample(target, min(deadline, end + COLLECT_EVERY_NS))
            enough = self.count >= minimum
            if end >= deadline and self.count >= fewest:
                return "precise" if enough and self._settled() else "budget"
            if self.count == target:
                if enough and self._settled():
                    return "precise"
                if self.count == self.maximum or not any(self.times[: self.count]):
                    return "limit"
                target = min(self.maximum, self.count + max(1, self.count // LOOK_SHARE))
                if self.times[self.count - 1] < UNCOUNTED_BELOW_NS:
                    self.call()
            # Cycles that hold large outputs must not pile up until the run ends.
            gc.collect(0)
            self.wait()

    def _sample(self, target: int, until: int) -> int:
        """Time calls up to `target` samples or the time `until`; returns the last reading."""
        call, wait, now, times = self.call, self.wait, self.now, self.times
        end = 0
        for index in range(self.count, target):
            begin = now()
            call()
            wait()
            end = now()
            times[index] = end - begin
            if end >= until:
                self.count = index + 1
                return end
        self.count = target
        return end

    def samples_ms(self) -> Samples:
        return np.asarray(self.times[: self.count], dtype=np.float64) / 1e6

    def _settled(self) -> bool:
        samples = self.samples_ms()
        # The cheap interval lies within the honest one: most looks end here.
        least = quantile_interval(samples, 0.5, effective=effective_count(samples, 0.5))
        if least is None or least[1] - least[0] > self.width * float(np.median(samples)):
            return False
        reached = width_reached(samples)
        narrow = reached is not None and reached <= self.width
        return narrow and drift(samples, tolerance=self.width / 2) is None


def measure_stage(
    name: str,
    call: Callable[[], object],
    clock: DeviceClock,
    *,
    budget_s: float = 0.5,
    prepare: Callable[[], object] | None = None,
    units_per_call: int = 1,
    minimum_samples: int = 1,
    maximum_samples: int = 100,
) -> Timing:
    """The median of a step beside the forward pass, from few samples.

    name: of the measurement, in milliseconds ("preprocess_ms", "decode_ms_per_token")
    prepare: runs before each call, off the clock
    units_per_call: what one call does so many of (tokens); samples are milliseconds a unit

    One call warms up. 5 samples bear the median and 11 its interval. Stops at `maximum_samples`,
    or when there are `minimum_samples` and the budget, what `prepare` takes included, has ended.
    """
    wait, now = clock.bound_wait(), clock.now_ns
    times: list[int] = []
    with _no_collector():
        for attempt in range(maximum_samples + 1):
            if prepare is not None:
                prepare()
            wait()
            begin = now()
            call()
            wait()
            end = now()
            if attempt == 0:
                deadline = end + int(budget_s * 1e9)
                continue
            times.append(end - begin)
            if end >= deadline and len(times) >= minimum_samples:
                break
            gc.collect(0)
    samples = np.asarray(times, dtype=np.float64) / 1e6 / units_per_call
    return Timing(
        samples_ms=samples,
        stopped="limit" if len(times) == maximum_samples else "budget",
        warmup_calls=1,
        measurements=(
            measure_quantile(name, samples, "p50", fault=clock.fault() or stood_still(samples)),
        ),
    )


def measure_throughput(
    call: Callable[[], object],
    clock: DeviceClock,
    *,
    items_per_call: int,
    budget_s: float = 3.0,
    warmup_s: float = 0.3,
    rounds: int = 16,
) -> Timing:
    """Items a second when calls are queued and the device is waited for once a round.

    Outputs are dropped at once. `rounds` rounds share the budget, each of as many calls as fit,
    but on an accelerator of at most 256, so that the queue stays bounded; there are then more
    rounds. The value is the median round and the interval its order statistics (None below 6
    rounds). `calls_per_sample` says how many calls a round has. The cyclic garbage collector is
    off during a round, as in `measure_latency`.
    """
    wait, now = clock.bound_wait(), clock.now_ns
    times: list[int] = []
    stopped: StopReason = "limit"
    with _no_collector():
        warmed = _warm_up(call, clock, seconds=warmup_s, calls=2, longest_s=max(budget_s, warmup_s))
        calls = _calls_that_take(budget_s / rounds, call, wait, now)
        if calls > MOST_QUEUED and clock.device.type != "cpu":
            rounds, calls = -(-rounds * calls // MOST_QUEUED), MOST_QUEUED
        wait()
        deadline = now() + int(budget_s * 1e9)
        for _ in range(rounds):
            begin = now()
            for _ in range(calls):
                call()
            wait()
            end = now()
            times.append(end - begin)
            if end >= deadline:
                stopped = "budget"
                break
            gc.collect(0)
    samples = np.asarray(times, dtype=np.float64) / 1e6
    return Timing(
        samples_ms=samples,
        stopped=stopped,
        warmup_calls=warmed,
        measurements=(_rate(samples, calls * items_per_call, clock.fault()),),
        calls_per_sample=calls,
    )


def _rate(samples_ms: Samples, items: int, fault: str | None) -> Measurement:
    """Items a second of the median round."""
    if not (samples_ms > 0).all():
        return Measurement(
            name="throughput_items_per_s",
            value=None,
            unit="items/s",
            verdict=Verdict.UNSTABLE,
            reason=fault or STOOD_STILL,
        )
    rate = items * 1000 / samples_ms
    interval = quantile_interval(rate, 0.5)
    few = f"{len(rate)} rounds bear no interval; 6 do: raise the time budget"
    return Measurement(
        name="throughput_items_per_s",
        value=float(np.median(rate)),
        unit="items/s",
        low=None if interval is None else interval[0],
        high=None if interval is None else interval[1],
        level=None if interval is None else 0.95,
        sample_count=len(rate),
        verdict=Verdict.VALID if fault is None else Verdict.UNSTABLE,
        reason=fault or (few if interval is None else None),
    )


def _calls_that_take(
    seconds: float, call: Callable[[], object], wait: Callable[[], object], now: Callable[[], int]
) -> int:
    """How many queued calls fill that time: at least 1. Asks 1, 2, 4 calls until it can tell."""
    calls, wanted = 1, seconds * 1e9
    while True:
        wait()
        begin = now()
        for _ in range(calls):
            call()
        wait()
        taken = now() - begin
        if taken >= min(wanted / 4, CALIBRATE_NS) or calls >= MOST_QUEUED:
            return max(1, int(wanted * calls / taken)) if taken > 0 else 1
        calls *= 2


@contextmanager
def _no_collector() -> Iterator[None]:
    """Python's cyclic garbage collector off, and on again if it was."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _warm_up(
    call: Callable[[], object],
    clock: DeviceClock,
    *,
    seconds: float,
    calls: int,
    longest_s: float,
) -> int:
    """Call until `calls` and `seconds` are reached and times no longer fall; returns the calls.

    Ends after `longest_s` in any case.
    """
    wait, now = clock.bound_wait(), clock.now_ns
    wait()
    end = started = now()
    times: list[int] = []
    wanted, longest = int(seconds * 1e9), int(longest_s * 1e9)
    limit = calls
    # The bound of 1000 calls keeps a clock that stands still from warming up for ever.
    while len(times) < limit or (end - started < wanted and len(times) < 1000):
        begin = now()
        call()
        wait()
        end = now()
        times.append(end - begin)
        if end - started >= longest:
            break
        if len(times) >= limit and wanted <= end - started < 3 * seconds * 1e9 and _falls(times):
            limit = min(1000, len(times) + len(times) // 4)
    return len(times)


def _falls(times: Sequence[int]) -> bool:
    """Whether the newest quarter is faster than the one before it, by 1 % of its median."""
    quarter = len(times) // 4
    if quarter < 2:
        return False
    newest, before = (
        statistics.median(times[-quarter:]),
        statistics.median(times[-2 * quarter : -quarter]),
    )
    return newest < 0.99 * before
