"""Made-up timings with the faults of real ones: what the gate is held against.

    noise = Noise()                                            # a quiet desktop, roughly
    cells = simulate_sweep(random, noise, slowdowns=(1.05, 1.0, 1.0), rounds=8)
    values = cells[0]                                          # float64 (R, 3), B first

    R rounds, P passes, S processes, C calls a burst

A process is faster or slower for its whole life by a lognormal factor; calls in a burst depend
on their neighbours; some calls take several times as long; the machine warms and cools over a
round and from round to round; now and then another program slows a whole burst.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from candlemark.metrics.contrast import round_value

FloatArray = npt.NDArray[np.float64]

SIDES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How large each fault is.

    process: standard deviation of a process's factor, logarithmic
    call, memory: standard deviation of a call's, and correlation with the call before it
    spikes, spike: share of calls that are hit, and the mean factor by which
    drift: over a round, per cent of time from its first burst to its last, standard deviation
    wander: from round to round, standard deviation
    disturbed, disturbance: share of bursts that are slowed, and the mean factor by which
    """

    process: float = 0.01
    call: float = 0.02
    memory: float = 0.7
    spikes: float = 0.02
    spike: float = 3.0
    drift: float = 0.02
    wander: float = 0.03
    disturbed: float = 0.03
    disturbance: float = 0.1


def simulate_round(
    random: np.random.Generator, noise: Noise, *, slowdown: float, passes: int, calls: int
) -> FloatArray:
    """Medians of the bursts of one round, float64 (P, 2, S), B first, milliseconds."""
    factors = random.normal(0, noise.process, SIDES)
    factors[0] += np.log(slowdown)
    order = np.stack([random.permutation(SIDES) for _ in range(passes)])
    turns = np.concatenate([order, order[:, ::-1]], axis=1)  # there and back
    place = np.arange(turns.size).reshape(turns.shape) / turns.size
    drift = random.normal(0, noise.drift) * place
    hit = random.random(turns.shape) < noise.disturbed
    drift = drift + np.where(hit, random.exponential(noise.disturbance, turns.shape), 0.0)
    logs = factors[turns] + drift
    calls_log = _autocorrelated(random, (*turns.shape, calls), noise)
    struck = random.random(calls_log.shape) < noise.spikes
    calls_log += np.where(struck, np.log1p(random.exponential(noise.spike, struck.shape)), 0.0)
    times = np.exp(np.log(20.0) + random.normal(0, noise.wander) + logs[..., None] + calls_log)
    medians = np.median(times, axis=2)
    bursts = np.empty((passes, 2, SIDES))
    for number, sides in enumerate(order):
        bursts[number, 0, sides] = medians[number, :SIDES]
        bursts[number, 1, sides[::-1]] = medians[number, SIDES:]
    return bursts


def simulate_sweep(
    random: np.random.Generator,
    noise: Noise,
    *,
    slowdowns: tuple[float, ...],
    rounds: int,
    passes: int = 3,
    calls: int = 20,
) -> list[FloatArray]:
    """For each cell, whose B is `slowdowns[cell]` times as slow, what its rounds gave."""
    return [
        np.stack(
            [
                round_value(
                    simulate_round(random, noise, slowdown=slowdown, passes=passes, calls=calls)
                )
                for _ in range(rounds)
            ]
        )
        for slowdown in slowdowns
    ]


def _autocorrelated(
    random: np.random.Generator, shape: tuple[int, ...], noise: Noise
) -> FloatArray:
    """Normal noise in which each value leans on the one before it, along the last axis."""
    fresh = random.normal(0, noise.call, shape)
    made = np.empty(shape)
    made[..., 0] = fresh[..., 0]
    keep = np.sqrt(1 - noise.memory**2)
    for place in range(1, shape[-1]):
        made[..., place] = noise.memory * made[..., place - 1] + keep * fresh[..., place]
    return made
