"""Who beats whom: paired tests on the same cases, ties, trade-offs and unlike machines.

    contest = hold(board)
    contest.beats_controls["timm/edgenext_xx_small.in1k"]    # p-value over all controls

A model beats the controls when it beats every one of them (the largest p-value counts, an
intersection-union test, so that choosing the strongest control needs no correction), after
Holm's correction over the models. Models that cannot be told from the best at 5 %, corrected
likewise, are tied with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from candlemark.hardware import comparability
from candlemark.metrics.summary import Difference, difference, holm
from candlemark.report.statistics import PRIMARY, SCORES, Board, Row
from candlemark.results.naming import task_of

ALPHA = 0.05
SHOWN = ("input_shape", "sequence_length")
"""Fields of the environment that say what a model is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """A model against one other row.

    p_value: corrected by Holm over the models of the board; None where it cannot be had.
    """

    model: str
    other: str
    difference: Difference
    p_value: float | None

    @property
    def won(self) -> bool:
        """Whether the model is better beyond chance."""
        value = self.difference.value
        return value is not None and value > 0 and self.p_value is not None and self.p_value < ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Duels of a board by model name.

    beats_controls: the model against the control it is hardest to tell from.
    against_best: every model but the best against the best.
    tied_for_best: the best model and all that cannot be told from it; empty without models.
    """

    beats_controls: Mapping[str, Duel]
    against_best: Mapping[str, Duel]
    tied_for_best: tuple[str, ...]

    @property
    def winners(self) -> tuple[str, ...]:
        """Models that beat every control."""
        return tuple(name for name, duel in self.beats_controls.items() if duel.won)


def hold(board: Board) -> Contest:
    """All duels of a board."""
    models = board.models
    toughest = {
        model.name: found
        for model in models
        if (found := hardest(model, board.yardsticks)) is not None
    }
    best = models[0] if models else None
    to_best = {
        model.name: (best, compare(best, model)) for model in models if best is not model and best
    }
    against_best = _corrected(to_best, {name: d.p_value for name, (_, d) in to_best.items()})
    told_apart = {
        name
        for name, duel in against_best.items()
        if duel.p_value is not None and duel.p_value < ALPHA
    }
    return Contest(
        beats_controls=_corrected(
            {name: (other, found) for name, (other, found, _) in toughest.items()},
            {name: p_value for name, (_, _, p_value) in toughest.items()},
        ),
        against_best=against_best,
        tied_for_best=tuple(model.name for model in models if model.name not in told_apart),
    )


def compare(first: Row, second: Row, metric: str = PRIMARY) -> Difference:
    """A score of `first` minus that of `second`, on the same resamples of the same cases.

    metric: the AUROC, or the MASE of the next close
    """
    one, two = (row.resampled if metric == PRIMARY else row.forecast for row in (first, second))
    if one is None or two is None:
        reason = why_none(first if one is None else second, metric)
        return Difference(metric=metric, value=None, reason=reason)
    if one.cases != two.cases:
        return Difference(metric=metric, value=None, reason="the test cases differ")
    return difference(
        (one.value, one.replicates),
        (two.value, two.replicates),
        metric=SCORES[metric],
        case_count=one.case_count,
        block_length=max(one.block_length, two.block_length),
        extra_variance=one.seed_variance + two.seed_variance,
    )


def why_none(row: Row, metric: str = PRIMARY) -> str:
    """Why a row has no resamples of a score: what its measurement says, or none can be made."""
    m = row.scores.get(metric)
    if m is not None and m.value is None and m.reason:
        return m.reason
    kept = "predictions are" if metric == PRIMARY else "forecasts of the next close are"
    return f"no {kept} stored"


def hardest(
    model: Row, others: Sequence[Row], metric: str = PRIMARY
) -> tuple[Row, Difference, float | None] | None:
    """The row a model is hardest to tell from, and the p-value of beating all of them.

    None where there is no other row; p is None where one of them cannot be compared.
    """
    found = [(other, compare(model, other, metric)) for other in others]
    unknown = next((pair for pair in found if pair[1].p_value is None), None)
    if not found or unknown:
        return None if not found or unknown is None else (*unknown, None)
    sign = 1 if SCORES[metric].higher_is_better else -1

    def one_way(result: Difference) -> float:
        return result.p_value or 0.0 if sign * (result.value or 0.0) > 0 else 1.0

    other, result = max(found, key=lambda pair: (one_way(pair[1]), -sign * (pair[1].value or 0.0)))
    return other, result, one_way(result)


def _corrected(
    duels: Mapping[str, tuple[Row, Difference]], p_values: Mapping[str, float | None]
) -> dict[str, Duel]:
    known = {name: p for name, p in p_values.items() if p is not None}
    corrected = dict(zip(known, holm(list(known.values())), strict=True))
    return {
        name: Duel(model=name, other=other.name, difference=found, p_value=corrected.get(name))
        for name, (other, found) in duels.items()
    }


def pareto_front(rows: Sequence[Row], cost: str, gain: str = PRIMARY) -> tuple[str, ...]:
    """Rows that no other row beats in both: less `cost` (a measurement) and more `gain`.

    Rows without either number are left out.
    """
    points = [
        (row.name, spent, won)
        for row in rows
        if (spent := row.value(cost)) is not None and (won := row.value(gain)) is not None
    ]
    return tuple(
        name
        for name, spent, won in points
        if not any(
            other_spent <= spent and other_won >= won and (other_spent, other_won) != (spent, won)
            for _, other_spent, other_won in points
        )
    )


def differing_fields(rows: Sequence[Row]) -> tuple[str, ...]:
    """Fields of the comparability key that keep timings of these rows from being compared.

    Empty where all keys agree. Other fields of the environment, a host name say, move no number
    and are not named, nor are the shapes of what rows of fusion are shown: those are the rows. A
    row without a key differs in "comparability_key".
    """
    environments = [record.environment for row in rows for record in row.records]
    keys = {environment.get("comparability_key") for environment in environments}
    if len(keys) <= 1 and None not in keys:
        return ()
    differing = dict.fromkeys(
        name
        for environment in environments[1:]
        for name in comparability.differing_fields(environments[0], environment)
    )
    shown = {task_of(record) for row in rows for record in row.records} == {"fusion"}
    kept = tuple(name for name in differing if not shown or name not in SHOWN)
    return kept if differing else ("comparability_key",)
