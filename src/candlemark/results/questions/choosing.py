"""Which models are fast and small enough, and which are worth a look at all.

    found = find_models(results, parse_conditions(["latency_p95_ms < 20"]), here=this_machine())
    found.matching, found.failing, found.unknown

    for front in pareto(results, ["latency_p50_ms", "auroc"]):
        front.best, front.dominated, front.unknown

Only numbers that may be quoted take part. A cell that lacks one, or whose verdict is not
VALID, is never dropped: it stands apart, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from candlemark.errors import ConfigError, ResultsError
from candlemark.records import Measurement
from candlemark.results.naming import row_name
from candlemark.results.questions.candidates import Asked, Candidate, find_candidates
from candlemark.results.questions.conditions import Condition
from candlemark.results.questions.machine import Machine
from candlemark.results.store import Results
from candlemark.results.units import Quantity, find_quantity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Apart:
    """A cell of which nothing can be said, and why."""

    label: str
    trial_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """The answer to a search.

    matching: cells that fulfil every condition, in the order of the first one's values
    failing: cells that break one, with the first condition broken
    unknown: cells that break none and of which a number is lacking or may not be quoted, and
        records that are no candidates at all
    """

    conditions: tuple[Condition, ...]
    matching: tuple[Candidate, ...]
    failing: tuple[tuple[Candidate, Condition], ...]
    unknown: tuple[Apart, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The models that match, each once."""
        return tuple(dict.fromkeys(one.model for one in self.matching))


def find_models(
    results: Results,
    conditions: Sequence[Condition],
    *,
    here: Machine | None = None,
    task: str | None = None,
) -> Found:
    """Sort every cell into those that fulfil the conditions, break one, or cannot be judged.

    here: only what was measured on this machine; None: whatever was measured anywhere
    """
    with_scores = any(condition.quantity.is_score for condition in conditions)
    asked = find_candidates(results, task=task, here=here, with_scores=with_scores)
    matching: list[tuple[float, Candidate]] = []
    failing: list[tuple[Candidate, Condition]] = []
    unknown: list[Apart] = []
    for one in asked.candidates:
        values = [one.known(condition.quantity.name) for condition in conditions]
        broken = [
            condition
            for condition, (m, _) in zip(conditions, values, strict=True)
            if m is not None and m.value is not None and not condition.holds(m.value)
        ]
        reasons = [why for _, why in values if why is not None]
        if broken:
            failing.append((one, broken[0]))
        elif reasons:
            unknown.append(_apart(one, "; ".join(dict.fromkeys(reasons))))
        else:
            matching.append((_value(values[0][0]), one))
    downwards = conditions[0].quantity.higher_is_better is True
    matching.sort(key=lambda pair: -pair[0] if downwards else pair[0])
    return Found(
        conditions=tuple(conditions),
        matching=tuple(one for _, one in matching),
        failing=tuple(failing),
        unknown=(*unknown, *_left_out(asked)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """One cell among its rivals.

    values: one measurement an objective
    tied_with: labels of cells with equal values in every objective
    dominated_by: label of a cell that is no worse in any objective and better in one; None for
        a cell on the front
    within_intervals: every advantage of that cell lies inside the intervals of both, so that
        another measurement could turn it round
    """

    candidate: Candidate
    values: tuple[Measurement, ...]
    tied_with: tuple[str, ...] = ()
    dominated_by: str | None = None
    within_intervals: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Front:
    """The rivals of one workload: the front, best first objective first, and the rest."""

    workload: tuple[tuple[str, Any], ...]
    best: tuple[Point, ...]
    dominated: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pareto:
    """A front for each workload, and the cells that cannot take part, with the reason."""

    objectives: tuple[Quantity, ...]
    fronts: tuple[Front, ...]
    unknown: tuple[Apart, ...]


def pareto(
    results: Results,
    objectives: Sequence[str],
    *,
    here: Machine | None = None,
    task: str | None = None,
) -> Pareto:
    """The cells that no rival beats in every objective, for each workload.

    A workload is what is given: machine, modality, device, batch size, input length, and the
    data that scores are of. Model, precision and backend are what is chosen. Two cells with
    equal values stand beside each other.

    Raises ConfigError: an objective is unknown, named twice, or has no better direction.
    ResultsError: there is nothing to choose from.
    """
    asked_for = _objectives(objectives)
    asked = find_candidates(
        results, task=task, here=here, with_scores=any(one.is_score for one in asked_for)
    )
    if not asked.candidates and not asked.left_out:
        raise ResultsError(
            f"{results.path} holds no model{f' of task {task}' if task else ''}; "
            "measure some with: candlemark profile"
        )
    groups: dict[tuple[tuple[str, Any], ...], list[Point]] = {}
    unknown: list[Apart] = []
    for one in asked.candidates:
        values = [one.known(objective.name) for objective in asked_for]
        reasons = [why for _, why in values if why is not None]
        if reasons:
            unknown.append(_apart(one, "; ".join(dict.fromkeys(reasons))))
            continue
        measured = tuple(m for m, _ in values if m is not None)
        groups.setdefault(one.workload, []).append(Point(candidate=one, values=measured))
    fronts = tuple(_front(workload, points, asked_for) for workload, points in groups.items())
    return Pareto(objectives=asked_for, fronts=fronts, unknown=(*unknown, *_left_out(asked)))


def _objectives(names: Sequence[str]) -> tuple[Quantity, ...]:
    found = tuple(find_quantity(name) for name in names)
    for place, one in enumerate(found):
        if one in found[:place]:
            raise ConfigError(f"objective '{one.name}' is named twice")
        if one.higher_is_better is None:
            raise ConfigError(
                f"'{one.name}' is no objective: it only describes, more of it is neither better "
                "nor worse"
            )
    if not found:
        raise ConfigError("no objective; name some with: --objectives latency_p50_ms,parameters")
    return found


def _front(
    workload: tuple[tuple[str, Any], ...],
    points: Sequence[Point],
    objectives: Sequence[Quantity],
) -> Front:
    # Costs: what is better when higher is turned round, so that less is always better.
    signs = [-1.0 if one.higher_is_better else 1.0 for one in objectives]
    costs = [
        tuple(sign * _value(m) for sign, m in zip(signs, point.values, strict=True))
        for point in points
    ]
    best: list[tuple[tuple[float, ...], Point]] = []
    dominated: list[Point] = []
    for mine, point in zip(costs, points, strict=True):
        rivals = [
            (theirs, rival)
            for theirs, rival in zip(costs, points, strict=True)
            if theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))
        ]
        if rivals:
            # The best of all is itself beaten by none, so the reason given stands on the front.
            theirs, rival = min(rivals, key=lambda pair: pair[0])
            dominated.append(
                Point(
                    candidate=point.candidate,
                    values=point.values,
                    dominated_by=rival.candidate.label,
                    within_intervals=_within_intervals(mine, theirs, point, rival),
                )
            )
        else:
            tied = tuple(
                rival.candidate.label
                for theirs, rival in zip(costs, points, strict=True)
                if theirs == mine and rival is not point
            )
            best.append(
                (mine, Point(candidate=point.candidate, values=point.values, tied_with=tied))
            )
    best.sort(key=lambda pair: pair[0])
    return Front(
        workload=workload, best=tuple(point for _, point in best), dominated=tuple(dominated)
    )


def _within_intervals(
    mine: Sequence[float], theirs: Sequence[float], point: Point, rival: Point
) -> bool:
    """Whether the intervals overlap wherever the rival is better."""
    return all(
        a == b or _overlap(one, other)
        for a, b, one, other in zip(mine, theirs, point.values, rival.values, strict=True)
    )


def _overlap(one: Measurement, other: Measurement) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _value(m: Measurement | None) -> float:
    if m is None or m.value is None:
        raise ResultsError("a measurement without a value was compared")
    return m.value


def _apart(one: Candidate, reason: str) -> Apart:
    return Apart(label=one.label, trial_id=one.record.trial_id, reason=reason)


def _left_out(asked: Asked) -> tuple[Apart, ...]:
    return tuple(
        Apart(label=row_name(record), trial_id=record.trial_id, reason=why)
        for record, why in asked.left_out
    )
