"""Limits on change, such as "latency_p50_ms>+5%", and what is decided about them.

    limit = parse_limit("throughput_items_per_s<-5%")
    decisions = decide([(limit, contrast), ...])      # PASS, FAIL or UNDECIDED, each with grounds

FAIL: it is established that the change is beyond the limit: the one-sided test of "at most the
limit" is rejected at 5 % after Holm's correction over all limits of the sweep, and the estimate
lies outside the noise floor. PASS: it is established that the change is not beyond the limit,
at 5 %; all limits together pass only where each does, which needs no correction. UNDECIDED:
neither. A limit of +5 % is hence no alarm at a true +5 %: it is what may happen unpunished, and
a slow-down to be caught must lie beyond the limit by some widths of the noise. To catch 5 %,
ask for +2 %.

With eight rounds, four cells and processes that differ by 1 %, 200 simulated sweeps a line
(`python perf/gate_power.py --sweeps 200`; 95 % intervals):

    limit   one cell slower by   found                   another accused   all pass
    +2 %    5 %                  98.5 % [95.7, 99.7]     0 % [0, 1.8]
    +2 %    nothing              failed 0 % [0, 1.8]     0 % [0, 1.8]      83.5 % [77.6, 88.4]
    +5 %    nothing              failed 0 % [0, 1.8]     0 % [0, 1.8]      100 % [98.2, 100]
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from candlemark.errors import ConfigError
from candlemark.metrics.contrast import ALPHA, Contrast, advice, more_rounds
from candlemark.metrics.measures import Measure, find_measure
from candlemark.metrics.summary import holm

_FORM = re.compile(
    r"\s*(?P<name>\w+)\s*(?P<side>[<>])\s*(?P<sign>[+-]?)\s*(?P<number>\d+(?:\.\d*)?|\.\d+)\s*%\s*"
)
_EXAMPLE = 'such as "latency_p50_ms>+5%" or "throughput_items_per_s<-5%"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How far a measure may change from A to B.

    above: whether more than the limit is too much; else less than it is
    share: 0.05 for +5 %, -0.05 for -5 %
    """

    measure: Measure
    above: bool
    share: float

    @property
    def text(self) -> str:
        """As it is written: `latency_p50_ms>+5%`."""
        return f"{self.measure.name}{'>' if self.above else '<'}{100 * self.share:+g}%"


class Decision(StrEnum):
    """Whether a limit holds."""

    PASS = "PASS"  # noqa: S105 - the word, no secret
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision on one limit for one cell, with its grounds.

    p_value: of "the change is not beyond the limit", one-sided, corrected over the sweep
    more_rounds: of an UNDECIDED, how many more would settle it; None where no number would
    """

    limit: Limit
    decision: Decision
    p_value: float | None
    grounds: str
    more_rounds: int | None = None


def parse_limit(text: str) -> Limit:
    """A limit from its text.

    Raises ConfigError: it has another form, names no measure, points to the better side, or
    has the sign of the other side.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"cannot read the limit '{text}'; write a measure, > or <, and a change "
            f"in per cent, {_EXAMPLE}"
        )
    measure = find_measure(found["name"])
    above = found["side"] == ">"
    number = float(found["number"])
    sign = found["sign"] or ("+" if above else "-")
    share = math.copysign(number / 100, 1 if sign == "+" else -1)
    if number and (sign == "+") is not above:
        right = f"{measure.name}{found['side']}{'+' if above else '-'}{found['number']}%"
        raise ConfigError(
            f"the limit '{text}' would fail where nothing changed; did you mean '{right}'?"
        )
    if measure.higher_is_better is above:
        better = "higher" if above else "lower"
        right = f"{measure.name}{'<-' if above else '>+'}{found['number']}%"
        raise ConfigError(
            f"the limit '{text}' would fail for an improvement: {better} {measure.title} is "
            f"better; did you mean '{right}'?"
        )
    if share <= -1:
        raise ConfigError(f"the limit '{text}' asks for a fall of 100 % or more; write less")
    return Limit(measure=measure, above=above, share=share)


def parse_limits(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Limits from texts, each of one or several parted by commas.

    Raises ConfigError: as `parse_limit`; there is none; a measure has two.
    """
    parts = [part for text in texts for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError(f"no limit is given; write one, {_EXAMPLE}")
    limits = tuple(parse_limit(part) for part in parts)
    names = [limit.measure.name for limit in limits]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"'{twice}' has two limits; write one for each measure")
    return limits


def decide(pairs: Sequence[tuple[Limit, Contrast]], *, alpha: float = ALPHA) -> tuple[Decided, ...]:
    """A decision for each limit and what was measured for it, over a whole sweep."""
    beyond = [_p_beyond(limit, one) for limit, one in pairs]
    known = [p for p in beyond if p is not None]
    corrected = iter(holm(known))
    return tuple(
        _decide(limit, one, None if p is None else next(corrected), alpha, tests=len(known))
        for (limit, one), p in zip(pairs, beyond, strict=True)
    )


def _decide(
    limit: Limit, one: Contrast, p_value: float | None, alpha: float, *, tests: int
) -> Decided:
    if one.ratio is None or p_value is None:
        return undecided(limit, None, one.reason or "not measured")
    if one.floor is None:
        return undecided(limit, p_value, "the noise floor is not known: nothing was run twice")
    return _weigh(limit, one, p_value, ratio=one.ratio, floor=one.floor, alpha=alpha, tests=tests)


def _weigh(
    limit: Limit,
    one: Contrast,
    p_value: float,
    *,
    ratio: float,
    floor: float,
    alpha: float,
    tests: int,
) -> Decided:
    change = f"{ratio - 1:+.1%}"
    if p_value < alpha:
        if abs(math.log(ratio)) > math.log1p(floor):
            grounds = f"{change} is beyond the limit, p = {p_value:.2g} over the sweep"
            return Decided(limit=limit, decision=Decision.FAIL, p_value=p_value, grounds=grounds)
        return undecided(
            limit, p_value, f"{change} is beyond the limit, but the noise floor is {floor:.1%}"
        )
    if _p_within(limit, one) < alpha:
        grounds = f"{change} is within the limit"
        return Decided(limit=limit, decision=Decision.PASS, p_value=p_value, grounds=grounds)
    if not one.rounds:
        return undecided(
            limit, p_value, f"{change} is not told apart from the limit; more repeats narrow it"
        )
    away = abs(math.log(ratio) - math.log1p(limit.share))
    more = more_rounds(one.values, away, tests=tests, alpha=2 * alpha)
    return Decided(
        limit=limit,
        decision=Decision.UNDECIDED,
        p_value=p_value,
        grounds=f"{change} is not told apart from the limit; {advice(more)}",
        more_rounds=more,
    )


def undecided(limit: Limit, p_value: float | None, grounds: str) -> Decided:
    """A limit that could not be decided, with the reason."""
    return Decided(limit=limit, decision=Decision.UNDECIDED, p_value=p_value, grounds=grounds)


def _p_beyond(limit: Limit, one: Contrast) -> float | None:
    if one.ratio is None:
        return None
    edge = math.log1p(limit.share)
    return one.p_above(edge) if limit.above else one.p_below(edge)


def _p_within(limit: Limit, one: Contrast) -> float:
    edge = math.log1p(limit.share)
    return one.p_below(edge) if limit.above else one.p_above(edge)
