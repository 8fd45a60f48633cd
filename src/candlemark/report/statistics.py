"""From records to leaderboards: one board for each market, dataset and label.

    for board in build_boards(results.records()):
        board.title, board.rows, board.contests

A board holds what may be compared: rows that answered the same question on the same cases, and
of one task: charts, or fusion, whose rows forecast the next close as well.
Rows of several seeds are one row: scores are means over seeds, and their intervals carry the
spread over seeds as well as that over cases. AUROC intervals come twice: at 95 % each, and
*simultaneous*, at 1 - 5 % / rows, so that all rows of a board hold together with 95 %; on a
random walk with 99 %, because there one interval without 0.5 is an alarm about every board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ConfigError
from candlemark.metrics.catalog import FORECAST_METRICS, METRICS
from candlemark.metrics.forecast import forecast_replicates_of
from candlemark.metrics.score import Score
from candlemark.metrics.summary import Interval, interval, replicates_of, time_order
from candlemark.records import (
    Measurement,
    Predictions,
    RunRecord,
    Status,
    Verdict,
    canonical_json,
)
from candlemark.report.forecasts import forecast_of
from candlemark.report.settings import names_apart, setting_of
from candlemark.results.naming import row_name, task_of

FloatArray = npt.NDArray[np.float64]

PRIMARY = "auroc"
OF_THE_CLOSE = "mase"  # what forecasts of the next close are compared by
SCORES: dict[str, Score] = {**METRICS, **FORECAST_METRICS}
REPLICATES = 1000
_REPLICATES_OF_THE_REST = 300  # of other scores over several seeds; their bounds are only shown
LEVEL = 0.95  # of each interval of several seeds, and of all of a board together
ALARM_LEVEL = 0.99  # of all of a random walk together: at 95 % one honest suite in 20 would alarm
_MARKET_ORDER = {"real": 0, "planted": 1, "random_walk": 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resampled:
    """A score of a row and its block resamples, the same resamples for all rows of a board.

    cases: what must be equal for two rows to be compared resample by resample.
    seed_variance: variance of the mean over training seeds, 0 where there is one seed.
    """

    value: float
    replicates: FloatArray
    cases: bytes
    case_count: int
    block_length: int
    seed_variance: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One line of a board: a model, a baseline or a control, over all its seeds.

    scores: measurements by name, means over the seeds that ended well.
    resampled: of the AUROC; forecast: of the MASE, None where the row forecasts no close.
    adjusted: the simultaneous AUROC interval.
    """

    name: str
    role: str
    weights: str | None
    records: tuple[RunRecord, ...]
    failed: tuple[RunRecord, ...]
    scores: dict[str, Measurement]
    resampled: Resampled | None
    adjusted: Interval
    forecast: Resampled | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts of the row's first record, a failed one where there is no other."""
        return (*self.records, *self.failed)[0].facts

    @property
    def setting(self) -> Mapping[str, Any]:
        """How the model is made and how it learns, by dotted name."""
        return setting_of((*self.records, *self.failed)[0])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that ended well."""
        return tuple(r.facts["seed"] for r in self.records if r.facts.get("seed") is not None)

    @property
    def is_model(self) -> bool:
        """Whether the row is a contestant; baselines and controls are its yardstick."""
        return self.role == "model"

    @property
    def random_weights(self) -> bool:
        """Whether training started from random weights."""
        return self.weights == "random"

    def value(self, name: str) -> float | None:
        """A score by name, None where it is unknown."""
        found = self.scores.get(name)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board:
    """Rows that answered one question on the same cases, best AUROC first, failed ones last.

    family_level: with which probability the simultaneous intervals of all rows hold together.
    """

    dataset: str
    dataset_hash: str
    market: str
    label: str
    label_kind: str
    class_names: tuple[str, ...]
    attainable_auroc: float | None
    leaky_split: bool
    family_level: float
    rows: tuple[Row, ...]
    task: str = "charts"

    @property
    def title(self) -> str:
        """Dataset and label, as a heading."""
        return f"{self.dataset}: {self.label}" + (", text and chart" if self.is_fusion else "")

    @property
    def is_fusion(self) -> bool:
        """Whether rows were shown texts beside pictures, and asked for the next close."""
        return self.task == "fusion"

    @property
    def is_recognition(self) -> bool:
        """Whether the answer is visible in the picture, so that no score is prediction."""
        return self.label_kind == "recognition"

    @property
    def models(self) -> tuple[Row, ...]:
        """Contestants that have an AUROC, best first."""
        return tuple(row for row in self.rows if row.is_model and row.value(PRIMARY) is not None)

    @property
    def yardsticks(self) -> tuple[Row, ...]:
        """Baselines and controls that have an AUROC, best first."""
        return tuple(
            row for row in self.rows if not row.is_model and row.value(PRIMARY) is not None
        )

    @property
    def compared(self) -> tuple[Row, ...]:
        """Rows that have a simultaneous interval."""
        return tuple(row for row in self.rows if row.adjusted.low is not None)

    @property
    def outside_chance(self) -> tuple[Row, ...]:
        """Rows whose simultaneous interval leaves out 0.5."""
        return tuple(
            row
            for row in self.rows
            if row.adjusted.low is not None
            and row.adjusted.high is not None
            and not row.adjusted.low <= 0.5 <= row.adjusted.high
        )


def build_boards(records: Iterable[RunRecord]) -> tuple[Board, ...]:
    """Boards of all records: real markets first, then planted, then random walks."""
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        groups.setdefault(_question(record), []).append(record)
    boards = [_board(group) for group in groups.values()]
    return tuple(
        sorted(
            boards,
            key=lambda b: (
                b.is_recognition,
                _MARKET_ORDER.get(b.market, 3),
                b.dataset,
                b.label,
                b.task,
            ),
        )
    )


def _question(record: RunRecord) -> tuple[str, ...]:
    names = ("dataset", "dataset_hash", "market", "label", "label_kind")
    return *(str(record.facts.get(name, "unknown")) for name in names), task_of(record)


def _board(records: Sequence[RunRecord]) -> Board:
    drafts = [_draft(name, group) for name, group in _lines(records)]
    compared = sum(draft.resampled is not None for draft in drafts)
    facts: dict[str, Any] = dict(records[0].facts)
    dataset, dataset_hash, market, label, label_kind, task = _question(records[0])
    is_alarm = market == "random_walk" and label_kind != "recognition"
    family_level = ALARM_LEVEL if is_alarm else LEVEL
    level = 1 - (1 - family_level) / max(compared, 1)
    rows = [_row(draft, level) for draft in drafts]
    return Board(
        dataset=dataset,
        dataset_hash=dataset_hash,
        market=market,
        label=label,
        label_kind=label_kind,
        class_names=tuple(str(name) for name in facts.get("class_names", ())),
        attainable_auroc=facts.get("attainable_auroc"),
        leaky_split=bool(facts.get("leaky_split", False)),
        family_level=family_level,
        rows=tuple(sorted(rows, key=_rank)),
        task=task,
    )


def _lines(records: Sequence[RunRecord]) -> list[tuple[str, list[RunRecord]]]:
    """The records of each row under its name; only seeds of one setting share a row."""
    named: dict[tuple[str, str], dict[str, list[RunRecord]]] = {}
    for record in records:
        alike = named.setdefault((row_name(record), _role(record)), {})
        alike.setdefault(canonical_json(setting_of(record)), []).append(record)
    return [
        line
        for (name, _), alike in named.items()
        for line in zip(
            names_apart(name, [setting_of(group[0]) for group in alike.values()]),
            alike.values(),
            strict=True,
        )
    ]


def _role(record: RunRecord) -> str:
    return str(record.facts.get("role", "model"))


def _rank(row: Row) -> tuple[bool, float, str]:
    auroc = row.value(PRIMARY)
    return auroc is None, -(auroc or 0.0), row.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Draft:
    """A row before it is known how many rows share the family level."""

    name: str
    records: Sequence[RunRecord]
    ended: tuple[RunRecord, ...]
    resampled: Resampled | None


def _draft(name: str, group: Sequence[RunRecord]) -> _Draft:
    ended = tuple(record for record in group if record.status is Status.OK)
    return _Draft(name=name, records=group, ended=ended, resampled=_resample(ended, PRIMARY))


def _row(draft: _Draft, level: float) -> Row:
    first = draft.records[0]
    return Row(
        name=draft.name,
        role=_role(first),
        weights=first.facts.get("weights"),
        records=draft.ended,
        failed=tuple(record for record in draft.records if record.status is not Status.OK),
        scores=_scores(draft.ended),
        resampled=draft.resampled,
        adjusted=_interval_of(draft.resampled, PRIMARY, level),
        forecast=_resample(draft.ended, OF_THE_CLOSE),
    )


def _interval_of(resampled: Resampled | None, name: str, level: float) -> Interval:
    if resampled is None:
        return Interval(reason="no predictions are stored")
    return interval(
        resampled.value,
        resampled.replicates,
        metric=SCORES[name],
        case_count=resampled.case_count,
        block_length=resampled.block_length,
        level=level,
        extra_variance=resampled.seed_variance,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cases:
    """The cases of one record; `draw` makes so many resamples of a score of them."""

    identity: bytes
    count: int
    draw: Callable[..., tuple[float, FloatArray]]


def _resample(records: Sequence[RunRecord], name: str) -> Resampled | None:
    """The mean over seeds of one metric, resampled; None where it cannot be had."""
    read = _closes if name in FORECAST_METRICS else _classes
    drawn = [cases for record in records if (cases := read(record, name)) is not None]
    if not drawn or len({cases.identity for cases in drawn}) != 1:
        return None
    block_length = int(records[0].facts.get("block_length") or 1)
    replicates = REPLICATES if name in {PRIMARY, OF_THE_CLOSE} else _REPLICATES_OF_THE_REST
    try:
        parts = [cases.draw(block_length=block_length, replicates=replicates) for cases in drawn]
    except ConfigError:
        # Numbers of a model that diverged; its measurements carry the reason.
        return None
    values = np.asarray([value for value, _ in parts])
    if not np.all(np.isfinite(values)):
        return None
    return Resampled(
        value=float(values.mean()),
        replicates=np.mean([replicates for _, replicates in parts], axis=0),
        cases=drawn[0].identity,
        case_count=drawn[0].count,
        block_length=block_length,
        seed_variance=float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0,
    )


def _classes(record: RunRecord, name: str) -> _Cases | None:
    if record.predictions is None:
        return None
    target, probability, identity = _ordered(record.predictions)
    draw = partial(replicates_of, name, target, probability)
    return _Cases(identity=identity, count=len(target), draw=draw)


def _closes(record: RunRecord, name: str) -> _Cases | None:
    found = forecast_of(record)
    if found is None or not len(found.value):
        return None
    draw = partial(forecast_replicates_of, name, found.value, found.forecast)
    return _Cases(identity=found.cases, count=len(found.value), draw=draw)


def _ordered(predictions: Predictions) -> tuple[npt.NDArray[np.int64], FloatArray, bytes]:
    """Targets and probabilities in time order, and the identity of the cases."""
    order = time_order(predictions)
    target = predictions.target[order]
    series = "\n".join(np.asarray(predictions.series, dtype=object)[order]).encode()
    cases = predictions.window_start_ms[order].tobytes() + target.tobytes() + series
    return target, predictions.probability[order], cases


def _scores(records: Sequence[RunRecord]) -> dict[str, Measurement]:
    if not records:
        return {}
    if len(records) == 1:
        return {m.name: m for m in records[0].measurements}
    names = dict.fromkeys(m.name for record in records for m in record.measurements)
    return {name: _mean_over_seeds(records, name) for name in names}


def _mean_over_seeds(records: Sequence[RunRecord], name: str) -> Measurement:
    found = [m for record in records if (m := record.measurement(name)) is not None]
    known = [m for m in found if m.value is not None]
    if not known or len(known) < len(records):
        missing = next((m.reason for m in found if m.value is None), "not measured")
        return Measurement(
            name=name,
            value=None,
            unit=found[0].unit,
            verdict=found[0].verdict,
            reason=f"unknown for {len(records) - len(known)} of {len(records)} seeds: {missing}",
        )
    worst = next((m.verdict for m in known if m.verdict is not Verdict.VALID), Verdict.VALID)
    resampled = _resample(records, name) if name in SCORES else None
    bounds = _interval_of(resampled, name, LEVEL) if resampled else Interval()
    return Measurement(
        name=name,
        value=float(np.mean([m.value for m in known])),
        unit=known[0].unit,
        low=bounds.low,
        high=bounds.high,
        level=None if bounds.low is None else LEVEL,
        sample_count=known[0].sample_count,
        verdict=worst,
        reason=bounds.reason,
    )
