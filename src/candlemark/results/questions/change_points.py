"""Where a series of measurements changed its level, found by ranks.

    for change in find_changes(values, alpha=0.05):
        change.index, change.before, change.after, change.p_value

Binary segmentation. At each place that leaves at least `minimum` values on both sides, the
Mann-Whitney statistic compares what came before with what comes after, standardised by its
variance under no change (ties counted), and the largest over all places is the statistic of
the series, as in Pettitt's test ("A non-parametric approach to the change-point problem",
Applied Statistics 28, 1979). Its p-value comes from permutations of the series, so it holds
exactly for short series, for ties and for any distribution. A series that has changed is cut
at that place and each part is tested in the same way, the parts after d cuts at alpha / 2^d
each, so that on a series without any change an alarm is raised with probability alpha at most.

Ranks forgive outliers: one slow night among twenty moves nothing. The price is the length: no
series shorter than `2 * minimum` is tested, and with few values only a clean jump is found. The
test takes the values as exchangeable where nothing changed; a slow drift is found as a jump.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb

import numpy as np
import numpy.typing as npt

from candlemark.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

MINIMUM = 4
_CHUNK = 1000
_ENOUGH = 30  # permutations at least as extreme: p is then known well, and large


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of level.

    index: place of the first value of the new level
    before, after: medians of the segments on both sides, up to the next change or the end
    p_value: of the cut, from permutations
    """

    index: int
    before: float
    after: float
    p_value: float

    @property
    def ratio(self) -> float | None:
        """The new level over the old one, None where that is not positive."""
        return self.after / self.before if self.before > 0 else None


def find_changes(
    values: Sequence[float] | FloatArray,
    *,
    alpha: float = 0.05,
    minimum: int = MINIMUM,
    seed: int = 0,
) -> tuple[Change, ...]:
    """Changes of level, in the order of the series; none for one too short to be tested.

    alpha: probability of any change being found where there is none
    minimum: values that a level must have

    Raises ConfigError: alpha or minimum makes no sense, or a value is not finite.
    """
    series = np.asarray(values, np.float64)
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha is {alpha}; it must be between 0 and 1")
    if minimum < 2:
        raise ConfigError(f"minimum is {minimum}; a level needs at least 2 values")
    if not np.isfinite(series).all():
        raise ConfigError("a series with a value that is not finite has no levels")
    random = np.random.default_rng(seed)
    cuts = dict(sorted(_cuts(series, 0, alpha, minimum, random)))
    edges = [0, *cuts, len(series)]
    levels = [float(np.median(series[a:b])) for a, b in pairwise(edges) if b > a]
    return tuple(
        Change(index=index, before=levels[place], after=levels[place + 1], p_value=p)
        for place, (index, p) in enumerate(cuts.items())
    )


def values_needed(alpha: float, minimum: int = MINIMUM) -> int:
    """The shortest series in which a change can be found at all.

    The most extreme of all orders is one of two among the ways to halve the series, so no
    p-value is below 2 / (n choose n // 2): 0.029 for 8 values, 0.0022 for 12.
    """
    count = 2 * minimum
    while 2 / comb(count, count // 2) > alpha:
        count += 1
    return count


def _cuts(
    series: FloatArray, offset: int, alpha: float, minimum: int, random: np.random.Generator
) -> Iterator[tuple[int, float]]:
    """Places of changes with their p-values; `offset` is the place of the segment's start."""
    if len(series) < 2 * minimum:
        return
    ranks = _midranks(series)
    statistic = _standardised(ranks[np.newaxis], minimum)[0]
    place = int(np.argmax(statistic))
    p = _p_value(ranks, float(statistic[place]), alpha, minimum, random)
    if p > alpha:
        return
    cut = minimum + place
    yield offset + cut, p
    yield from _cuts(series[:cut], offset, alpha / 2, minimum, random)
    yield from _cuts(series[cut:], offset + cut, alpha / 2, minimum, random)


def _midranks(series: FloatArray) -> FloatArray:
    """float64[n]: ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(series, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def _standardised(ranks: FloatArray, minimum: int) -> FloatArray:
    """float64[r, places]: |z| of the rank sum before each place, for each row of float64[r, n].

    Under no change the sum of the first t of n ranks has mean t (n + 1) / 2 and variance
    t (n - t) / (n (n - 1)) times the sum of squares of the ranks about their mean; that covers
    ties. A series of equal values has no variance and scores 0.
    """
    count = ranks.shape[1]
    before = np.arange(minimum, count - minimum + 1)
    sums = np.cumsum(ranks - (count + 1) / 2, axis=1)[:, before - 1]
    squares = float(np.square(ranks[0] - (count + 1) / 2).sum())
    if squares == 0:
        return np.zeros_like(sums)
    variance = before * (count - before) / (count * (count - 1)) * squares
    return np.asarray(np.abs(sums) / np.sqrt(variance), np.float64)


def _p_value(
    ranks: FloatArray, statistic: float, alpha: float, minimum: int, random: np.random.Generator
) -> float:
    """Share of permutations at least as extreme, the series itself counted as one.

    Enough permutations to tell a p below alpha by a tenth; fewer where it is clearly above.
    """
    wanted = int(np.ceil(100 / alpha))
    done = extreme = 0
    while done < max(wanted, _CHUNK):
        rows = np.broadcast_to(ranks, (_CHUNK, len(ranks)))
        shuffled = random.permuted(rows, axis=1)
        # Sums of the same ranks in another order differ in the last digit.
        largest = _standardised(shuffled, minimum).max(axis=1)
        extreme += int((largest >= statistic * (1 - 1e-9)).sum())
        done += _CHUNK
        if extreme >= _ENOUGH and extreme / done > 2 * alpha:
            break
    return (extreme + 1) / (done + 1)
