"""Is B faster than A? Decided from rounds of fresh processes that take turns.

    R rounds, S processes a round: one of B in column 0, the others of A

    bursts = ...                              # float64 (passes, 2, S): medians, there and back
    values[r] = round_value(bursts)           # float64 (S,), one row a round
    found = contrast(values)                  # ratio B / A, its interval, p-value, noise floor
    verdicts = judge([found, ...], margin=0.01)

Samples of one process agree with each other better than with those of a second process of the
same program: memory layout, hash seeds and page placement stay for a process's life and are
worth a per cent or so. The unit of inference is therefore the round: one fresh process of B and
two of A, whose short bursts take turns there and back (B A A' A' A B), so that a drift which is
steady over a pass falls out of it. However many samples a burst takes, n is the number of rounds.

The test permutes within rounds. Where B is no different, and the order of start and of turns is
drawn at random each round, B's process could have been any of the S. Values are aligned by their
round's median and ranked together; the statistic is the sum of B's ranks and its distribution
over the S^R equally likely assignments is computed exactly (Hodges and Lehmann 1962, "Rank
methods for combination of independent experiments"). With S = 2 it is a signed-rank test whose
ranks count from one half. Wilcoxon's needs differences that are symmetric, which B minus the
mean of two A's is not where times have a tail to the right; Mann-Whitney's needs rounds that do
not differ, and loses the pairing where they do. This one keeps its level with any distribution
and any number of rounds, and three columns give it p-values down to 3^-R, so that four rounds
can reject at 5 % where signed ranks need six.

The estimate is Hodges and Lehmann's: the median of the pairwise means of the rounds' log ratios;
the interval holds the ratios that the test does not reject. The noise floor is how far from 1
the ratio of A's second process to its first may lie, by the 95 % interval of its mean over the
rounds (Student's t, which is known from two rounds on): what lies within it is not told apart
from a rerun of the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import stats

from candlemark.errors import ConfigError
from candlemark.metrics.summary import holm

FloatArray = npt.NDArray[np.float64]

ALPHA = 0.05
MARGIN = 0.01
"""A difference within this share is the same for every purpose, unless another is given."""
LOUDEST = 0.10
"""A floor above this is no measurement: nothing is called the same by it."""
MOST_ROUNDS = 200
"""Beyond this, more rounds are no advice."""
_POWER = 0.8
_STEPS = 12  # halvings of the search for a bound: to a 4000th of where it starts


class Change(StrEnum):
    """What became of a measure from A to B."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    LESS = "LESS"
    """Lower, of what is no speed: memory, energy."""
    MORE = "MORE"
    SAME = "SAME"
    UNSURE = "UNSURE"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """B against A in one measure of one cell.

    ratio: B / A; low, high: its interval at 95 %, None where there are too few rounds
    inner_low, inner_high: the bounds of the one-sided tests at 5 % each, for equivalence
    p_value: two-sided, not corrected
    floor: share of A by which a rerun of A may differ; None where it is not known
    values: float64 (R, S), logarithms, B first; (0, S) where it comes from no rounds
    reason: why nothing can be said; None where something can
    error, freedom: standard error of log(ratio) and its degrees of freedom (None: known well),
        where it comes from no rounds but from repeats that were stored
    """

    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    inner_low: float | None = None
    inner_high: float | None = None
    p_value: float | None = None
    floor: float | None = None
    values: FloatArray
    reason: str | None = None
    error: float | None = None
    freedom: int | None = None

    def p_above(self, shift: float) -> float:
        """Chance of what was seen, or more, if log(B / A) were `shift`."""
        if self.error is None:
            return p_above(self.values, shift)
        return self._tail(shift - self._log)

    def p_below(self, shift: float) -> float:
        """Chance of what was seen, or less, if log(B / A) were `shift`."""
        if self.error is None:
            return p_below(self.values, shift)
        return self._tail(self._log - shift)

    @property
    def _log(self) -> float:
        if self.ratio is None:
            raise ConfigError(f"nothing can be tested: {self.reason}")
        return math.log(self.ratio)

    def _tail(self, distance: float) -> float:
        if not self.error:
            return float(distance >= 0)
        steps = distance / self.error
        known = stats.norm if self.freedom is None else stats.t(self.freedom)
        return float(known.cdf(steps))

    @property
    def rounds(self) -> int:
        """How many rounds there are."""
        return len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its grounds.

    p_value: two-sided, corrected over the sweep
    more_rounds: of an UNSURE, how many more would settle it four times in five; None where no
        sensible number would
    """

    change: Change
    p_value: float | None
    grounds: str
    more_rounds: int | None = None


def round_value(bursts: FloatArray) -> FloatArray:
    """One number a process, comparable within its round: float64 (S,), logarithms.

    bursts: float64 (passes, 2, S), the median of each burst, there and back; above 0. The two
    bursts of a pass are averaged, which cancels a steady drift; passes are compared by their
    median, which drops one that another program disturbed.
    """
    logs: FloatArray = np.log(bursts).mean(axis=1)
    level = logs.mean(axis=1, keepdims=True)
    centred: FloatArray = np.median(logs - level, axis=0) + np.median(level)
    return centred


def contrast(values: FloatArray) -> Contrast:
    """B against A from logarithms of one measure, float64 (R, S), S >= 2, B first.

    A row with a value that is not finite is left out.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ConfigError(f"values have shape {values.shape}; needed: rounds x (B, A, ...)")
    kept: FloatArray = values[np.isfinite(values).all(axis=1)]
    if len(kept) < 2:
        return Contrast(values=kept, reason=f"{len(kept)} complete rounds; at least 2 are needed")
    low, high = bounds(kept, 0.025)
    inner_low, inner_high = bounds(kept, 0.05)
    p_value = min(1.0, 2 * min(p_above(kept, 0.0), p_below(kept, 0.0)))
    return Contrast(
        ratio=math.exp(estimate(kept)),
        low=_ratio(low),
        high=_ratio(high),
        inner_low=_ratio(inner_low),
        inner_high=_ratio(inner_high),
        p_value=p_value,
        floor=noise_floor(kept),
        values=kept,
    )


def p_above(values: FloatArray, shift: float) -> float:
    """Chance of a rank sum as high as B's if log(B / A) were `shift`; exact."""
    aligned = values.copy()
    aligned[:, 0] -= shift
    aligned -= np.median(aligned, axis=1, keepdims=True)
    # Rounded, so that equal differences tie although they were subtracted from unlike numbers.
    _, place, ties = np.unique(np.round(aligned, 10), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(ties) - ties + 1)[place].reshape(aligned.shape)  # twice the midrank
    chance = np.ones(1)
    for row in doubled:
        chance = np.convolve(chance, np.bincount(row) / len(row))
    return float(min(1.0, chance[int(doubled[:, 0].sum()) :].sum()))


def p_below(values: FloatArray, shift: float) -> float:
    """Chance of a rank sum as low as B's if log(B / A) were `shift`; exact."""
    return p_above(-values, -shift)


def estimate(values: FloatArray) -> float:
    """log(B / A): the median of pairwise means of the rounds' differences."""
    differences = values[:, 0] - values[:, 1:].mean(axis=1)
    first, second = np.triu_indices(len(differences))
    return float(np.median((differences[first] + differences[second]) / 2))


def bounds(values: FloatArray, alpha: float) -> tuple[float | None, float | None]:
    """Bounds of log(B / A), each at one-sided `alpha`; None where the rounds cannot bear one."""
    high = _upper(-values, alpha)
    return (None if high is None else -high), _upper(values, alpha)


def _upper(values: FloatArray, alpha: float) -> float | None:
    """Where the test that B is below a shift begins to reject."""
    differences = values[:, :1] - values[:, 1:]
    reach = float(np.ptp(differences)) + 1e-6
    inside, outside = estimate(values), float(differences.max()) + 2 * reach
    if p_below(values, outside) > alpha:
        return None
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if p_below(values, middle) > alpha:
            inside = middle
        else:
            outside = middle
    return outside


def noise_floor(values: FloatArray) -> float | None:
    """How far a rerun of A may lie from A, as a share of A; None without a second A."""
    if values.shape[1] < 3 or len(values) < 2:
        return None
    differences = values[:, 2] - values[:, 1]
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    width = float(stats.t.ppf(1 - ALPHA / 2, len(differences) - 1)) * error
    return math.expm1(abs(float(differences.mean())) + width)


def judge(
    contrasts: Sequence[Contrast],
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    speed: Sequence[bool | None] = (),
) -> tuple[Judgement, ...]:
    """A verdict for each contrast of a sweep, the tests corrected over all of it (Holm).

    margin: share within which a difference is of no account
    speed: for each contrast whether lower is faster (True, times), higher is faster (False,
        rates) or neither (None, amounts); times by default

    SAME: the interval lies within +-max(noise floor, margin), the floor being no higher than
    LOUDEST. FASTER and SLOWER: the corrected
    test rejects, and the estimate lies outside the noise floor. UNSURE: neither, or there is no
    floor to go by.
    """
    kinds = tuple(speed) or (True,) * len(contrasts)
    known = [one.p_value for one in contrasts if one.p_value is not None]
    corrected = iter(holm(known))
    return tuple(
        _judge(
            one,
            None if one.p_value is None else next(corrected),
            margin=margin,
            alpha=alpha,
            lower_is_faster=kind,
            tests=len(known),
        )
        for one, kind in zip(contrasts, kinds, strict=True)
    )


def _judge(
    one: Contrast,
    p_value: float | None,
    *,
    margin: float,
    alpha: float,
    lower_is_faster: bool | None,
    tests: int,
) -> Judgement:
    if one.ratio is None or p_value is None:
        return Judgement(change=Change.UNSURE, p_value=None, grounds=one.reason or "not measured")
    if one.floor is None:
        grounds = "the noise floor is not known: nothing was run twice"
        return Judgement(change=Change.UNSURE, p_value=p_value, grounds=grounds)
    band = max(one.floor, margin)
    if band <= max(LOUDEST, margin) and _within(one, band):
        grounds = f"the interval lies within ±{band:.1%}"
        return Judgement(change=Change.SAME, p_value=p_value, grounds=grounds)
    if p_value < alpha and abs(math.log(one.ratio)) > math.log1p(one.floor):
        grounds = f"p = {p_value:.2g} over the sweep, beyond the noise floor of {one.floor:.1%}"
        change = direction(one.ratio > 1, lower_is_faster)
        return Judgement(change=change, p_value=p_value, grounds=grounds)
    distance = max(abs(math.log(one.ratio)), math.log1p(margin) - abs(math.log(one.ratio)))
    more = more_rounds(one.values, distance, tests=tests, alpha=alpha)
    return Judgement(
        change=Change.UNSURE,
        p_value=p_value,
        grounds=f"neither told apart nor shown equal within ±{band:.1%}; {advice(more)}",
        more_rounds=more,
    )


def direction(higher: bool, lower_is_faster: bool | None) -> Change:
    """The word for a change up or down of a time, a rate or an amount."""
    if lower_is_faster is None:
        return Change.MORE if higher else Change.LESS
    return Change.SLOWER if higher is lower_is_faster else Change.FASTER


def _within(one: Contrast, band: float) -> bool:
    if one.inner_low is None or one.inner_high is None:
        return False
    edge = math.log1p(band)
    return math.log(one.inner_low) >= -edge and math.log(one.inner_high) <= edge


def more_rounds(
    values: FloatArray, distance: float, *, tests: int = 1, alpha: float = ALPHA
) -> int | None:
    """Rounds beyond those at hand that show a log ratio to be `distance` away, 4 times in 5.

    From the scatter of the rounds so far; None above MOST_ROUNDS.
    """
    if len(values) < 2:
        return None
    differences = values[:, 0] - values[:, 1:].mean(axis=1)
    spread = float(differences.std(ddof=1))
    one_sided = alpha / 2 / tests
    steps = float(stats.norm.ppf(1 - one_sided) + stats.norm.ppf(_POWER))
    smallest = math.ceil(-math.log(one_sided) / math.log(values.shape[1]))
    if distance <= 0 or spread * steps > distance * math.sqrt(MOST_ROUNDS):
        return None
    return max(math.ceil((steps * spread / distance) ** 2), smallest, len(values) + 1) - len(values)


def advice(more: int | None) -> str:
    """What `more_rounds` found, in words."""
    if more is None:
        return f"no number of rounds up to {MOST_ROUNDS} would settle it"
    return f"about {more} more round{'s' if more > 1 else ''} would settle it"


def _ratio(logarithm: float | None) -> float | None:
    return None if logarithm is None else math.exp(logarithm)
