"""Latency and throughput from a clock that has been tested first.

    clock = DeviceClock(device)
    check = clock.self_test()                       # 1x, 2x and 4x the work: does time follow?
    latency = measure_latency(lambda: module(images), clock, items_per_call=1)
    latency.measurements                            # p50 with an interval, p90, p95, p99
    throughput = measure_throughput(lambda: module(images), clock, items_per_call=64)

Latency waits for the device after every call; throughput queues calls and waits once. They
are two metrics with two names. Lower latency and higher throughput are better.

A percentile is withheld until the sample can bear it. The largest of n samples lies above
the p-quantile with probability 1 - p^n, and that reaches 95 % at n = 5, 29, 59 and 299 for
p50, p90, p95 and p99 (order statistics; David and Nagaraja, "Order Statistics", 7.1).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from candlemark.hardware.device import synchronise
from candlemark.records import Measurement, Verdict

if TYPE_CHECKING:
    import torch

Samples = npt.NDArray[np.float64]
StopReason = Literal["precise", "budget", "limit"]

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
SAMPLES_NEEDED = {"p50": 5, "p90": 29, "p95": 59, "p99": 299}
TIMES_TOLERATED = {2: (1.5, 2.7), 4: (2.8, 5.6)}
"""How far 2x and 4x the work may lie from 2x and 4x the time: other programs share the
machine, and the fastest of several tries is still a little late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCheck:
    """Did the clock follow known work?

    ratios: time of 2x and 4x the work over the time of 1x; None for a clock that stood still
    """

    ok: bool
    ratios: dict[int, float | None]
    detail: str


@dataclass(slots=True)
class DeviceClock:
    """Nanoseconds on the host, read after the device has finished.

    `now_ns` and `wait` can be replaced, to test what a bad clock does. A clock that has not
    passed `self_test`, or was not asked, marks what it measures UNSTABLE.
    """

    device: torch.device
    now_ns: Callable[[], int] = time.perf_counter_ns
    wait: Callable[[torch.device], None] = synchronise
    check: ClockCheck | None = None

    def stamp(self) -> int:
        """The time when everything given to the device so far is done."""
        self.wait(self.device)
        return self.now_ns()

    def self_test(
        self, work: Callable[[int], None] | None = None, *, rounds: int = 5, tries: int = 3
    ) -> ClockCheck:
        """Time `work(1)`, `work(2)` and `work(4)` and see whether time follows.

        work: does that many units; by default matrix products of some milliseconds. The
        fastest of `rounds` counts, and a busy machine gets `tries` chances.
        """
        job = work or _matrix_work(self.device)
        job(1)
        for _ in range(tries):
            fastest = {
                scale: min(self._once(job, scale) for _ in range(rounds)) for scale in (1, 2, 4)
            }
            ratios = {
                scale: fastest[scale] / fastest[1] if fastest[1] > 0 else None for scale in (2, 4)
            }
            ok = all(
                ratio is not None and low <= ratio <= high
                for (low, high), ratio in zip(
                    TIMES_TOLERATED.values(), ratios.values(), strict=True
                )
            )
            if ok:
                break
        shown = ", ".join(
            f"{scale}x the work took "
            + ("no measurable time" if ratio is None else f"{ratio:.2f}x the time")
            for scale, ratio in ratios.items()
        )
        self.check = ClockCheck(ok=ok, ratios=ratios, detail=shown)
        return self.check

    def _once(self, job: Callable[[int], None], scale: int) -> int:
        started = self.stamp()
        job(scale)
        return self.stamp() - started

    def fault(self) -> str | None:
        """Why nothing this clock says may be quoted; None for a tested clock."""
        if self.check is None:
            return "the clock was not tested"
        return None if self.check.ok else f"the clock does not follow work: {self.check.detail}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timing:
    """Samples as taken, and what may be said of them.

    samples_ms: float64[n], milliseconds a call (of a queued round, for throughput)
    stopped: "precise" (the interval became narrow enough), "budget" or "limit"
    """

    samples_ms: Samples
    stopped: StopReason
    warmup_calls: int
    measurements: tuple[Measurement, ...] = field(default=())


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

    Stops when the 95 % interval of the median spans at most `width` of it and there are
    `minimum_samples`, or when `budget_s` (warm-up apart) or `maximum_samples` is reached.
    Ask for 299 samples to be told p99. Warm-up makes at least `warmup_calls` calls and lasts
    at least `warmup_s`, but a slow call is not repeated for its sake past the first three.
    """
    warmed = _warm_up(call, clock, seconds=warmup_s, calls=warmup_calls)
    samples: list[float] = []
    started = clock.stamp()
    deadline = started + budget_s * 1e9
    stopped: StopReason = "limit"
    while len(samples) < maximum_samples:
        before = clock.stamp()
        call()
        after = clock.stamp()
        samples.append((after - before) / 1e6)
        # Sorting after every call would itself take time between the calls.
        if len(samples) >= minimum_samples and _worth_a_look(len(samples)):
            interval = quantile_interval(np.asarray(samples), 0.5)
            median = float(np.median(samples))
            if interval is not None and interval[1] - interval[0] <= width * median:
                stopped = "precise"
                break
        if after >= deadline:
            stopped = "budget"
            break
    array = np.asarray(samples)
    return Timing(
        samples_ms=array,
        stopped=stopped,
        warmup_calls=warmed,
        measurements=summarise_latency(array, fault=clock.fault(), stopped=stopped),
    )


def measure_throughput(
    call: Callable[[], object],
    clock: DeviceClock,
    *,
    items_per_call: int,
    budget_s: float = 3.0,
    warmup_s: float = 0.3,
    rounds: int = 8,
) -> Timing:
    """Items a second when calls are queued and the device is waited for once a round.

    `rounds` rounds share the budget, each of as many calls as fit; the value is the median
    round and the interval its order statistics (None below 6 rounds).
    """
    warmed = _warm_up(call, clock, seconds=warmup_s, calls=2)
    before = clock.stamp()
    call()
    one_call_s = max((clock.stamp() - before) / 1e9, 1e-7)
    calls = max(1, int(budget_s / rounds / one_call_s))
    deadline = clock.stamp() + budget_s * 1e9
    samples: list[float] = []
    stopped: StopReason = "limit"
    for _ in range(rounds):
        before = clock.stamp()
        for _ in range(calls):
            call()
        after = clock.stamp()
        samples.append((after - before) / 1e6)
        if after >= deadline:
            stopped = "budget"
            break
    array = np.asarray(samples)
    fault = clock.fault()
    if not (array > 0).all():
        measured = Measurement(
            name="throughput_items_per_s",
            value=None,
            unit="items/s",
            verdict=Verdict.UNSTABLE,
            reason=fault or "the clock saw no time pass",
        )
    else:
        rate = calls * items_per_call * 1000 / array
        interval = quantile_interval(rate, 0.5)
        measured = Measurement(
            name="throughput_items_per_s",
            value=float(np.median(rate)),
            unit="items/s",
            low=None if interval is None else interval[0],
            high=None if interval is None else interval[1],
            level=None if interval is None else 0.95,
            sample_count=len(array),
            verdict=Verdict.VALID if fault is None else Verdict.UNSTABLE,
            reason=fault,
        )
    return Timing(samples_ms=array, stopped=stopped, warmup_calls=warmed, measurements=(measured,))


def summarise_latency(
    samples_ms: Samples, *, fault: str | None = None, stopped: StopReason | None = None
) -> tuple[Measurement, ...]:
    """latency_p50_ms, p90, p95 and p99, each withheld until the sample can bear it.

    fault: why the clock cannot be trusted; it makes every value UNSTABLE.
    """
    count = len(samples_ms)
    measured: list[Measurement] = []
    for name, quantile in PERCENTILES.items():
        lacking = SAMPLES_NEEDED[name] - count
        if lacking > 0:
            measured.append(
                Measurement(
                    name=f"latency_{name}_ms",
                    value=None,
                    unit="ms",
                    sample_count=count,
                    verdict=Verdict.TOO_FEW,
                    reason=f"{name} needs {SAMPLES_NEEDED[name]} samples, {lacking} more",
                )
            )
            continue
        interval = quantile_interval(samples_ms, quantile)
        end = "the time budget ended" if stopped == "budget" and name == "p50" else None
        measured.append(
            Measurement(
                name=f"latency_{name}_ms",
                value=float(np.quantile(samples_ms, quantile)),
                unit="ms",
                low=None if interval is None else interval[0],
                high=None if interval is None else interval[1],
                level=None if interval is None else 0.95,
                sample_count=count,
                verdict=Verdict.VALID if fault is None else Verdict.UNSTABLE,
                reason=fault or end,
            )
        )
    return tuple(measured)


def quantile_interval(
    samples: Samples, quantile: float, *, level: float = 0.95
) -> tuple[float, float] | None:
    """Distribution-free interval of a quantile from order statistics; None if none exists.

    The number of samples below the quantile is binomial, so the ranks that leave
    (1 - level) / 2 outside on each side bound it whatever the distribution (David and
    Nagaraja, 7.1). Needs 6 samples for the median at 95 %.
    """
    from scipy.stats import binom

    count, tail = len(samples), (1 - level) / 2
    lower = int(binom.ppf(tail, count, quantile))
    upper = int(binom.ppf(1 - tail, count, quantile))
    # Ranks are 1-based; x[lower] is the largest statistic that is below often enough.
    if lower < 1 or upper + 1 > count:
        return None
    ordered = np.sort(samples)
    return float(ordered[lower - 1]), float(ordered[upper])


def _warm_up(call: Callable[[], object], clock: DeviceClock, *, seconds: float, calls: int) -> int:
    """Call until both `calls` and `seconds` are reached; returns the number of calls."""
    started = clock.stamp()
    done = 0
    # The bound keeps a clock that stands still from warming up for ever.
    while done < calls or (clock.stamp() - started < seconds * 1e9 and done < 1000):
        call()
        done += 1
    return done


def _worth_a_look(count: int) -> bool:
    return count < 50 or count % 25 == 0


def _matrix_work(device: torch.device) -> Callable[[int], None]:
    """Matrix products, sized so that one unit takes long enough to be seen."""
    import torch

    side, repeats = (256, 8) if device.type == "cpu" else (2048, 8)
    matrix = torch.rand(side, side, device=device)

    def work(scale: int) -> None:
        for _ in range(repeats * scale):
            torch.mm(matrix, matrix)

    return work
