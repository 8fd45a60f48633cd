"""Who segments better than whom: paired tests on the same cases, Holm's correction, ties.

    contest = hold(board.rows, board.settings)
    contest.beats_controls["nvidia/mit-b0"].won
    contest.tied_for_best                           # the best and all that cannot be told from it

A difference is that of the primary metric, resampled case by case for both rows together. A model
beats the controls when it beats each of them (the largest p-value counts, so that choosing the
strongest control needs no correction), after Holm's correction over the models. Models that
cannot be told from the best at 5 %, corrected likewise, are tied with it. What was never trained
takes part in no test: it can be no answer, and each further test would weaken the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from candlemark.metrics.segmentation.aggregate import MINIMUM_CASES, too_few
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.summary import Difference, difference, holm
from candlemark.report.segmentation.rows import Row, Settings

ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """A model against one other row, in the primary metric.

    difference: the model's score minus the other's
    p_value: corrected by Holm; None where it cannot be had
    """

    model: str
    other: str
    difference: Difference
    p_value: float | None

    @property
    def told_apart(self) -> bool:
        """Whether the two differ beyond chance."""
        return self.p_value is not None and self.p_value < ALPHA

    @property
    def gain(self) -> float | None:
        """How much better the model is, whatever the metric's direction."""
        value = self.difference.value
        if value is None:
            return None
        return value if SEGMENTATION_METRICS[self.difference.metric].higher_is_better else -value

    @property
    def won(self) -> bool:
        """Whether the model is better beyond chance."""
        return self.told_apart and (self.gain or 0.0) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Duels of a board by model name.

    beats_controls: the model against the control it is hardest to tell from
    against_best: every model but the best against the best
    pairs: every two models, the better one first, corrected over all of them
    tied_for_best: the best model and all that cannot be told from it; empty without models
    """

    metric: str
    beats_controls: Mapping[str, Duel]
    against_best: Mapping[str, Duel]
    pairs: tuple[Duel, ...]
    tied_for_best: tuple[str, ...]


def hold(rows: Sequence[Row], settings: Settings) -> Contest:
    """All duels of rows, which come best first; failed models take part with their worst."""
    metric = settings.primary.name
    scored = [row for row in rows if row.value(metric) is not None]
    models = [row for row in scored if row.contests]
    controls = [row for row in scored if not row.is_model]
    toughest = {model.name: _hardest(model, controls, metric) for model in models if controls}
    best = models[0] if models else None
    to_best = {
        model.name: (best, compare(model, best, metric)) for model in models[1:] if best is not None
    }
    against_best = _corrected(to_best, {name: d.p_value for name, (_, d) in to_best.items()})
    apart = {name for name, duel in against_best.items() if duel.told_apart}
    return Contest(
        metric=metric,
        beats_controls=_corrected(
            {name: (other, found) for name, (other, found, _) in toughest.items()},
            {name: p_value for name, (_, _, p_value) in toughest.items()},
        ),
        against_best=against_best,
        pairs=_pairs(models, metric),
        tied_for_best=tuple(model.name for model in models if model.name not in apart),
    )


def compare(first: Row, second: Row, metric: str) -> Difference:
    """The score of `first` minus that of `second`, on the same draws of the same cases."""
    one, two = first.sampled[metric], second.sampled[metric]
    reason = one.reason or two.reason
    if reason is not None:
        return Difference(metric=metric, value=None, reason=reason)
    count = min(one.case_count, two.case_count)
    if count < MINIMUM_CASES:
        return Difference(
            metric=metric, value=one.value - two.value, case_count=count, reason=too_few(count)
        )
    return difference(
        (one.value, one.replicates),
        (two.value, two.replicates),
        metric=SEGMENTATION_METRICS[metric],
        case_count=count,
        block_length=1,
        extra_variance=one.seed_variance + two.seed_variance,
    )


def _hardest(
    model: Row, controls: Sequence[Row], metric: str
) -> tuple[Row, Difference, float | None]:
    """The control a model is hardest to tell from, and the p-value of beating all of them."""
    found = [(other, compare(model, other, metric)) for other in controls]
    unknown = next((pair for pair in found if pair[1].p_value is None), None)
    if unknown is not None:
        return (*unknown, None)
    sign = 1 if SEGMENTATION_METRICS[metric].higher_is_better else -1

    def one_way(result: Difference) -> float:
        return result.p_value or 0.0 if sign * (result.value or 0.0) > 0 else 1.0

    other, result = max(found, key=lambda pair: (one_way(pair[1]), -sign * (pair[1].value or 0.0)))
    return other, result, one_way(result)


def _pairs(models: Sequence[Row], metric: str) -> tuple[Duel, ...]:
    found = [
        (better, worse, compare(better, worse, metric))
        for place, better in enumerate(models)
        for worse in models[place + 1 :]
    ]
    known = [result.p_value for _, _, result in found if result.p_value is not None]
    corrected = iter(holm(known))
    return tuple(
        Duel(
            model=better.name,
            other=worse.name,
            difference=result,
            p_value=None if result.p_value is None else next(corrected),
        )
        for better, worse, result in found
    )


def _corrected(
    duels: Mapping[str, tuple[Row, Difference]], p_values: Mapping[str, float | None]
) -> dict[str, Duel]:
    known = {name: p for name, p in p_values.items() if p is not None}
    corrected = dict(zip(known, holm(list(known.values())), strict=True))
    return {
        name: Duel(model=name, other=other.name, difference=found, p_value=corrected.get(name))
        for name, (other, found) in duels.items()
    }
