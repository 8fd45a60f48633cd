"""Does the order of models depend on whose conventions are followed?

    stability = rank_stability(board.rows, labels=("1",), settings=board.settings)
    stability.sentences()[0]      # "Rank stability: 4 models stand in the same order under ..."

Each tool's number of each model is computed from the same stored counts and distances, so a change
of places is the convention's work alone. Kendall's tau (1: the same order, -1: the reverse; ties
as in tau-b) compares each order with that of the board's own convention.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from candlemark.metrics.segmentation.aggregate import sample
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS, Convention
from candlemark.metrics.segmentation.scores import why_absent
from candlemark.report.format import listed, short
from candlemark.report.segmentation.rows import Row, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The order of the models in one metric by one convention.

    values: by row; None where the convention has no finite number for it
    order: rows that have a number, best first
    tau: Kendall's tau-b with the board's convention over rows that both have; None where fewer
        than two have, or one of both orders is one tie
    swaps: pairs that stand the other way round, the one that the board's convention has ahead
        first
    absent: why the convention has no such metric at all
    """

    metric: str
    convention: str
    values: Mapping[str, float | None]
    order: tuple[str, ...]
    tau: float | None
    swaps: tuple[tuple[str, str], ...]
    absent: str | None = None

    @property
    def unranked(self) -> tuple[str, ...]:
        """Rows for which the convention has no finite number."""
        if self.absent is not None:
            return ()
        return tuple(name for name, value in self.values.items() if value is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStability:
    """The orders of the models by metric and convention.

    convention: the board's own; models: how many are ordered
    rankings: of every metric that is shown and every convention
    ties: pairs of models that the paired test of the primary metric cannot tell apart
    """

    convention: str
    models: int
    rankings: tuple[Ranking, ...]
    ties: frozenset[frozenset[str]] = frozenset()

    def of(self, metric: str) -> tuple[Ranking, ...]:
        """All conventions of one metric."""
        return tuple(one for one in self.rankings if one.metric == metric)

    @property
    def depends(self) -> bool:
        """Whether two models change places anywhere."""
        return any(one.swaps for one in self.rankings)

    def sentences(self) -> tuple[str, ...]:
        """What depends on the convention and what does not, then who changes places where."""
        if self.models < 2:
            told = "no trained model has" if self.models == 0 else "only one trained model has"
            return (f"Rank stability: {told} scores, so there is no order.",)
        metrics = tuple(dict.fromkeys(one.metric for one in self.rankings))
        details = (_sentence(self.of(metric), self) for metric in metrics)
        return (_summary(self, metrics), *filter(None, details))


def rank_stability(
    rows: Sequence[Row],
    *,
    labels: Sequence[str],
    settings: Settings,
    ties: frozenset[frozenset[str]] = frozenset(),
) -> RankStability:
    """The orders of the models among `rows` by every metric that is shown.

    ties: as `RankStability` has them
    """
    models = [row for row in rows if row.contests]
    rankings = []
    for metric in settings.metrics if len(models) > 1 else ():
        values = {
            name: _values(models, labels, metric, convention, settings.tolerance_mm)
            for name, convention in CONVENTIONS.items()
        }
        ours = values[settings.convention]
        rankings += [
            _ranking(metric, convention, values[name], ours)
            for name, convention in CONVENTIONS.items()
        ]
    return RankStability(
        convention=settings.convention, models=len(models), rankings=tuple(rankings), ties=ties
    )


def _values(
    models: Sequence[Row],
    labels: Sequence[str],
    metric: str,
    convention: Convention,
    tolerance_mm: float,
) -> dict[str, float | None]:
    """The number of each model, the mean over its seeds."""
    found: dict[str, float | None] = {}
    for row in models:
        seeds = [
            sample(
                seed,
                labels=labels,
                metric=metric,
                convention=convention,
                tolerance_mm=tolerance_mm,
                replicates=1,
            ).value
            for seed in row.results
        ]
        mean = math.fsum(seeds) / len(seeds) if all(map(math.isfinite, seeds)) else math.nan
        found[row.name] = mean if math.isfinite(mean) else None
    return found


def _ranking(
    metric: str,
    convention: Convention,
    values: Mapping[str, float | None],
    ours: Mapping[str, float | None],
) -> Ranking:
    sign = -1 if SEGMENTATION_METRICS[metric].higher_is_better else 1
    theirs = {name: sign * value for name, value in values.items() if value is not None}
    mine = {name: sign * value for name, value in ours.items() if value is not None}
    both = [name for name in mine if name in theirs]
    return Ranking(
        metric=metric,
        convention=convention.name,
        values=dict(values),
        order=tuple(sorted(theirs, key=lambda name: (theirs[name], name))),
        tau=kendall([mine[name] for name in both], [theirs[name] for name in both]),
        swaps=tuple(
            (first, second) if mine[first] < mine[second] else (second, first)
            for first, second in combinations(both, 2)
            if _sign(mine[first] - mine[second]) * _sign(theirs[first] - theirs[second]) < 0
        ),
        absent=why_absent(metric, convention),
    )


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b, -1..1 (Kendall 1945, "The treatment of ties in ranking problems").

    None below two items, and where all items of one side are tied.
    """
    pairs = [
        (_sign(first[i] - first[j]), _sign(second[i] - second[j]))
        for i, j in combinations(range(len(first)), 2)
    ]
    ordered = [sum(1 for pair in pairs if pair[side]) for side in (0, 1)]
    if not all(ordered):
        return None
    return sum(a * b for a, b in pairs) / math.sqrt(ordered[0] * ordered[1])


def _sign(number: float) -> int:
    # Sums of the same scores in another order differ in the last bits.
    return 0 if abs(number) < 1e-12 else 1 if number > 0 else -1


def _standing(rankings: Sequence[Ranking], convention: str) -> str:
    """What the orders by one metric say: "depends", "same", "level", "alone" or "theirs".

    alone: no other convention has numbers of two models; theirs: the board's own has not
    """
    asked = [one for one in rankings if one.absent is None]
    orders = {one.convention: one for one in asked if len(one.order) > 1}
    own = orders.pop(convention, None)
    if own is None:
        return "theirs" if orders else "level"
    if not orders:
        return "alone"
    if all(one.tau is None for one in asked):
        return "level"
    return "depends" if any(one.swaps for one in orders.values()) else "same"


def _summary(stability: RankStability, metrics: Sequence[str]) -> str:
    """The one line that says by what the order depends on the convention."""
    by: dict[str, list[str]] = {}
    for metric in metrics:
        standing = _standing(stability.of(metric), stability.convention)
        by.setdefault(standing, []).append(SEGMENTATION_METRICS[metric].title)
    models = f"{stability.models} models"
    if "depends" in by:
        text = f"the order of {models} depends on the convention by {listed(by['depends'])}"
        text += f", not by {listed(by['same'])}" if "same" in by else ""
    elif "same" in by:
        text = f"{models} stand in the same order under every convention by {listed(by['same'])}"
    elif "level" in by:
        text = f"{models} have no order"
    elif "theirs" in by:
        text = f"the order of {models} cannot be compared"
    else:
        text = f"{models} are ordered by {stability.convention}'s convention alone"
    if "level" in by:
        text += f"; by {listed(by['level'])} all are level, or no two have a number"
    if "theirs" in by:
        text += f"; by {listed(by['theirs'])} {stability.convention} has no order, others do"
    if "alone" in by and len(by) > 1:
        text += f"; no other convention orders them by {listed(by['alone'])}"
    return f"Rank stability: {text}."


def _sentence(rankings: Sequence[Ranking], stability: RankStability) -> str:
    """Who changes places by one metric, and of whom a tool has no number; "" where there is none.

    Conventions under which the same models change places are named together.
    """
    others = [one for one in rankings if one.convention != stability.convention]
    alike: dict[tuple[tuple[str, str], ...], list[Ranking]] = {}
    for one in others:
        if one.swaps:
            alike.setdefault(one.swaps, []).append(one)
    told = [
        f"under {listed([one.convention for one in group])} {_who(swaps, stability, group[0])}"
        for swaps, group in alike.items()
    ]
    lacking: dict[tuple[str, ...], list[str]] = {}
    for one in others:
        if one.unranked:
            lacking.setdefault(one.unranked, []).append(one.convention)
    told += [
        f"{listed(names)} {'has' if len(names) == 1 else 'have'} no number for {listed(rows)}"
        for rows, names in lacking.items()
    ]
    title = SEGMENTATION_METRICS[rankings[0].metric].title
    return f"{title}: {'; '.join(told)}." if told else ""


def _who(swaps: Sequence[tuple[str, str]], stability: RankStability, ranking: Ranking) -> str:
    told = [f"{short(second)} comes before {short(first)}" for first, second in swaps[:3]]
    text = " and ".join(told)
    if len(swaps) > 3:
        more = len(swaps) - 3
        text += f" and {'1 more pair changes' if more == 1 else f'{more} more pairs change'} places"
    primary = ranking.metric == stability.rankings[0].metric
    tied = primary and all(frozenset(pair) in stability.ties for pair in swaps)
    tau = "" if ranking.tau is None else f" (tau {ranking.tau:.2f})"
    return f"{text}{tau}{', which the paired test cannot tell apart here' if tied else ''}"
