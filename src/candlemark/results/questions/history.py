"""How numbers developed over the attempts at a trial, and where they changed.

    told = read_history(results, model="gpt2*", measure="latency_p50_ms")
    for series in told.series:
        series.label, series.values, series.changes

A series is one measure of one trial in one environment: attempts whose comparability keys
differ are never in one series, so that a new driver or another machine is no change of the
model. Where the key changed between two attempts, the fields that differ are named instead.
What may not be quoted is no point of a series; it is counted, with its reasons.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from candlemark.errors import ResultsError
from candlemark.hardware.comparability import comparability_key, differing_fields
from candlemark.records import Measurement, RunRecord, Status, Verdict
from candlemark.results.naming import fact, row_name
from candlemark.results.questions.change_points import (
    MINIMUM,
    Change,
    find_changes,
    values_needed,
)
from candlemark.results.questions.machine import machine_name
from candlemark.results.store import Attempt, Results
from candlemark.results.units import Quantity, find_quantity

MEASURE = "latency_p50_ms"
_NAMED_BY = ("device", "precision", "backend", "batch_size", "sequence_length", "dataset", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One point of a series: which attempt, when, in which run, and what it measured."""

    attempt: int
    run: str | None
    started_at: str
    measurement: Measurement

    @property
    def value(self) -> float:
        """The number; a series holds none without."""
        return float(self.measurement.value or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """One measure of one trial in one environment, the oldest first.

    moments: what may be quoted
    withheld: reasons why other attempts are no points, with how many there are
    changes: changes of level; `index` counts `moments`
    untested: why no change was looked for, None where it was
    """

    trial_id: str
    model: str
    label: str
    quantity: Quantity
    environment_key: str
    machine: str
    moments: tuple[Moment, ...]
    withheld: Mapping[str, int]
    changes: tuple[Change, ...]
    untested: str | None

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers, in order."""
        return tuple(moment.value for moment in self.moments)

    def is_worse(self, change: Change) -> bool | None:
        """Whether a change is for the worse; None for a measure that only describes."""
        if self.quantity.higher_is_better is None:
            return None
        return (change.after < change.before) is self.quantity.higher_is_better


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEnvironment:
    """An attempt in another environment than the one before it.

    differing: the fields, each with the value before and the value from here on
    """

    trial_id: str
    label: str
    attempt: int
    started_at: str
    differing: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Series, new environments, and what `alpha` each series was tested at."""

    series: tuple[Series, ...]
    new_environments: tuple[NewEnvironment, ...]
    alpha: float
    alpha_each: float


def read_history(
    results: Results,
    *,
    model: str = "*",
    measure: str = MEASURE,
    alpha: float = 0.05,
    minimum: int = MINIMUM,
) -> History:
    """The series of one measure, of all trials whose model or row fits a glob.

    alpha: probability of any false alarm over all series together, which share it evenly
    minimum: attempts that a level must have

    Raises ConfigError: the measure is unknown. ResultsError: no trial fits.
    """
    quantity = find_quantity(measure)
    by_trial: dict[str, list[Attempt]] = {}
    for attempt in results.attempts(bulk=False):
        if _fits(attempt.record, model):
            by_trial.setdefault(attempt.record.trial_id, []).append(attempt)
    if not by_trial:
        raise ResultsError(f"no trial of a model that fits '{model}' in {results.path}")
    drafts: list[tuple[str, list[Attempt]]] = []
    new: list[NewEnvironment] = []
    for attempts in by_trial.values():
        ordered = sorted(attempts, key=lambda one: _instant(one.record.started_at))
        measured = [one for one in ordered if one.record.measurement(measure) is not None]
        new += _new_environments(measured)
        by_key: dict[str, list[Attempt]] = {}
        for one in measured:
            by_key.setdefault(_key(one.record), []).append(one)
        drafts += by_key.items()
    if not drafts:
        raise ResultsError(f"no trial of a model that fits '{model}' measured {measure}")
    # Only series long enough for an alarm at all have a share in the probability of one.
    shortest = values_needed(alpha, minimum)
    tested = sum(len(_moments(attempts, measure)) >= shortest for _, attempts in drafts)
    each = alpha / max(tested, 1)
    series = tuple(
        _series(key, attempts, quantity, alpha=each, minimum=minimum) for key, attempts in drafts
    )
    return History(series=series, new_environments=tuple(new), alpha=alpha, alpha_each=each)


def _fits(record: RunRecord, pattern: str) -> bool:
    names = {row_name(record), str(fact(record, "model") or "")}
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _key(record: RunRecord) -> str:
    """The comparability key by today's fields; the stored one may be of fewer."""
    return comparability_key(record.environment)


def _instant(when: str) -> tuple[float, str]:
    """Sorts times with different offsets; what is no time comes first, as text."""
    try:
        parsed = datetime.fromisoformat(when)
    except ValueError:
        return 0.0, when
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp(), when


def _new_environments(attempts: Sequence[Attempt]) -> list[NewEnvironment]:
    found = []
    for before, after in pairwise(attempts):
        if _key(before.record) != _key(after.record):
            found.append(
                NewEnvironment(
                    trial_id=after.record.trial_id,
                    label=_label(after.record),
                    attempt=after.number,
                    started_at=after.record.started_at,
                    differing=differing_fields(before.record.environment, after.record.environment),
                )
            )
    return found


def _series(
    key: str, attempts: Sequence[Attempt], quantity: Quantity, *, alpha: float, minimum: int
) -> Series:
    moments = _moments(attempts, quantity.name)
    withheld: dict[str, int] = {}
    for one in attempts:
        m = one.record.measurement(quantity.name)
        if m is not None and (m.value is None or m.verdict is not Verdict.VALID):
            word = "unknown" if m.verdict is Verdict.VALID else str(m.verdict)
            why = f"{word}: {m.reason}" if m.reason else word
            withheld[why] = withheld.get(why, 0) + 1
    needed = values_needed(alpha, minimum)
    untested = None
    if len(moments) < needed:
        untested = f"a change needs {needed} attempts, {needed - len(moments)} more"
    record = attempts[0].record
    return Series(
        trial_id=record.trial_id,
        model=str(fact(record, "model") or row_name(record)),
        label=_label(record),
        quantity=quantity,
        environment_key=key,
        machine=machine_name(record.environment),
        moments=moments,
        withheld=withheld,
        changes=()
        if untested
        else find_changes([m.value for m in moments], alpha=alpha, minimum=minimum),
        untested=untested,
    )


def _moments(attempts: Sequence[Attempt], measure: str) -> tuple[Moment, ...]:
    found = []
    for one in attempts:
        m = one.record.measurement(measure)
        good = one.record.status is Status.OK and m is not None and m.verdict is Verdict.VALID
        if good and m is not None and m.value is not None:
            found.append(
                Moment(
                    attempt=one.number,
                    run=one.run,
                    started_at=one.record.started_at,
                    measurement=m,
                )
            )
    return tuple(found)


def _label(record: RunRecord) -> str:
    """What a trial is, in words: `gpt2 cpu fp32 eager batch 1 length 128`."""
    words = {"batch_size": "batch ", "sequence_length": "length "}
    values = [(name, fact(record, name)) for name in _NAMED_BY]
    return " ".join(
        [row_name(record), *(f"{words.get(n, '')}{v}" for n, v in values if v is not None)]
    )
