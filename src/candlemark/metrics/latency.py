"""What may be said of a sample of call times.

    summarise_latency(samples_ms, width=0.02)     # latency_p50_ms, ..., latency_max_ms

A percentile is withheld until the sample can bear it, a median that is not settled and times
that drift are UNSTABLE, and each reason says what would help. Lower is better.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from candlemark.metrics.intervals import (
    Samples,
    correlated_interval,
    drift,
    effective_count,
    mean_interval,
)
from candlemark.records import Measurement, Verdict

StopReason = Literal["precise", "budget", "limit"]

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
SAMPLES_NEEDED = {"p50": 5, "p90": 29, "p95": 59, "p99": 299}
STOOD_STILL = "the clock saw no time pass"
MOST_TIMES = 30
"""A budget that would have to be so many times as long is no advice."""


def summarise_latency(
    samples_ms: Samples,
    *,
    fault: str | None = None,
    stopped: StopReason | None = None,
    width: float | None = None,
    budget_s: float | None = None,
) -> tuple[Measurement, ...]:
    """latency_{p50,p90,p95,p99,mean,std,min,max}_ms, withheld until the sample can bear them.

    samples_ms: float64 (n,), in the order in which they were taken
    fault: why the clock cannot be trusted; it makes every value UNSTABLE
    width: share of the median that its interval may span; a wider one makes p50 UNSTABLE
    budget_s: what was spent, to say how much more would do

    Percentiles carry order-statistic intervals and the mean Student's, for as many samples as
    these are worth with their autocorrelation. Times that drift over the run have no one
    distribution: everything but the extremes is then UNSTABLE.
    """
    trend = drift(samples_ms, tolerance=(0.02 if width is None else width) / 2)
    drifted = None if trend is None else _told_drift(trend)
    measured = [
        measure_quantile(f"latency_{name}_ms", samples_ms, name, fault=fault or drifted)
        for name in PERCENTILES
    ]
    if width is not None and measured[0].verdict is Verdict.VALID:
        wide = _too_wide(samples_ms, width, stopped, budget_s)
        if wide is not None:
            measured[0] = replace(measured[0], verdict=Verdict.UNSTABLE, reason=wide)
    return (*measured, *_moments(samples_ms, fault, fault or drifted))


def measure_quantile(
    name: str, samples: Samples, percentile: str, *, fault: str | None
) -> Measurement:
    """A percentile with its interval, or how many samples are lacking."""
    lacking = SAMPLES_NEEDED[percentile] - len(samples)
    if lacking > 0:
        return Measurement(
            name=name,
            value=None,
            unit="ms",
            sample_count=len(samples),
            verdict=Verdict.TOO_FEW,
            reason=f"{percentile} needs {SAMPLES_NEEDED[percentile]} samples, {lacking} more",
        )
    quantile = PERCENTILES[percentile]
    interval = correlated_interval(samples, quantile)
    return Measurement(
        name=name,
        value=float(np.quantile(samples, quantile)),
        unit="ms",
        low=None if interval is None else interval[0],
        high=None if interval is None else interval[1],
        level=None if interval is None else 0.95,
        sample_count=len(samples),
        verdict=Verdict.VALID if fault is None else Verdict.UNSTABLE,
        reason=fault,
    )


def _moments(
    samples: Samples, fault: str | None, fault_or_drift: str | None
) -> tuple[Measurement, ...]:
    """Mean, standard deviation, minimum and maximum."""
    needed = SAMPLES_NEEDED["p50"]
    enough = len(samples) >= needed
    interval = mean_interval(samples) if enough else None
    values = {
        "mean": float(np.mean(samples)) if enough else None,
        "std": float(np.std(samples, ddof=1)) if enough else None,
        "min": float(np.min(samples)) if len(samples) else None,
        "max": float(np.max(samples)) if len(samples) else None,
    }
    measured = []
    for name, value in values.items():
        extreme = name in {"min", "max"}
        reason = fault if extreme else fault_or_drift
        verdict = Verdict.VALID if reason is None else Verdict.UNSTABLE
        if value is None:
            least = 1 if extreme else needed
            verdict = Verdict.TOO_FEW
            reason = f"{name} needs {least} samples, {least - len(samples)} more"
        bounds = interval if name == "mean" else None
        measured.append(
            Measurement(
                name=f"latency_{name}_ms",
                value=value,
                unit="ms",
                low=None if bounds is None else bounds[0],
                high=None if bounds is None else bounds[1],
                level=None if bounds is None else 0.95,
                sample_count=len(samples),
                verdict=verdict,
                reason=reason,
            )
        )
    return tuple(measured)


def width_reached(samples: Samples) -> float | None:
    """Width of the median's interval as a share of the median; None where there is none."""
    interval = correlated_interval(samples, 0.5)
    median = float(np.median(samples))
    return None if interval is None or median <= 0 else (interval[1] - interval[0]) / median


def _too_wide(
    samples: Samples, width: float, stopped: StopReason | None, budget_s: float | None
) -> str | None:
    """Why the median is not settled, and what to do; None where it is."""
    reached = width_reached(samples)
    if reached is not None and reached <= width:
        return None
    end = {"budget": "the time budget ended", "limit": "the most samples allowed were taken"}.get(
        stopped or "", "sampling ended"
    )
    if budget_s is not None and stopped == "budget":
        end = f"the time budget of {budget_s:g} s ended"
    if reached is None:
        independent = int(effective_count(samples, 0.5))
        return (
            f"{end} with samples worth {independent} independent ones, too few for an interval: "
            "raise the time budget"
        )
    told = (
        f"{end} while the 95 % interval of the median spanned {reached:.1%} of it and {width:.1%} "
        "was asked for"
    )
    advice = "raise the time budget"
    if budget_s is not None and stopped == "budget":
        # An interval narrows with the root of the number of samples.
        times = (reached / width) ** 2
        if times > MOST_TIMES:
            return f"{told}: no longer budget settles that, stop what else runs here"
        advice += f" (about {math.ceil(budget_s * times)} s)"
    elif stopped == "limit":
        advice = "raise the number of samples"
    return f"{told}: {advice} or stop what else runs here"


def _told_drift(trend: float) -> str:
    return (
        f"times drifted: the median of the last third of the run is {trend:+.1%} off that of the "
        "first; warm up longer, or look for a clock or a temperature that changes"
    )


def stood_still(samples: Samples) -> str | None:
    """The fault of a clock that gave nothing but zeros; None for any other."""
    return None if len(samples) == 0 or samples.any() else STOOD_STILL
