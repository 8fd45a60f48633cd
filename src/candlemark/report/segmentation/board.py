"""From records to one table of segmentation models: what text, files and pages all show.

    board = build_board(records, convention="candlemark", metrics=("dice", "hd95"))
    board.rows, board.oracles, board.timed          # three tables, best first
    board.contest, board.stability                  # who beats whom, and by whose conventions

A board holds rows that were asked about the same cases of the same data. Controls stand in the
main table. Rows whose prompt came from the reference are oracles and stand apart, each jitter of
a prompt in its own row; rows that were only timed have no scores. Several seeds are one row: its
scores are means over seeds and its intervals carry the spread over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from candlemark.errors import ConfigError, ResultsError
from candlemark.metrics.segmentation.catalog import find_segmentation
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.records import RunRecord
from candlemark.report.segmentation.contests import Contest, hold
from candlemark.report.segmentation.ranks import RankStability, rank_stability
from candlemark.report.segmentation.reading import build_rows, case_ids, classes_of, sizes_of
from candlemark.report.segmentation.rows import (
    DEFAULT_METRICS,
    STAGES,
    Bar,
    CaseScore,
    Row,
    Settings,
    StageTime,
)
from candlemark.results.naming import task_of
from candlemark.results.store import Suite

__all__ = [
    "DEFAULT_METRICS",
    "STAGES",
    "Bar",
    "Board",
    "CaseScore",
    "Row",
    "Settings",
    "StageTime",
    "asked_of",
    "build_board",
    "build_boards",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board:
    """Rows that were asked about the same cases.

    cases: ids of the test cases, the denominator of every row
    class_names: by label
    units: by metric; distances are in "px" where the scans have no spacing
    rows: models and controls, best first; oracles: shown the reference; timed: no scores
    contest: paired tests of the main table
    stability: whether the order of models depends on the convention
    """

    dataset: str
    dataset_hash: str
    cases: tuple[str, ...]
    class_names: Mapping[str, str]
    settings: Settings
    units: Mapping[str, str]
    rows: tuple[Row, ...]
    oracles: tuple[Row, ...]
    timed: tuple[Row, ...]
    contest: Contest
    stability: RankStability

    @property
    def title(self) -> str:
        """Data, classes and how many cases, as a heading."""
        classes = ", ".join(self.class_names.values())
        cases = "1 case" if len(self.cases) == 1 else f"{len(self.cases)} cases"
        return f"{self.dataset}: {classes or 'no class'}, {cases}"

    @property
    def everyone(self) -> tuple[Row, ...]:
        """All rows of all tables."""
        return (*self.rows, *self.oracles, *self.timed)

    @property
    def models(self) -> tuple[Row, ...]:
        """Models of the main table that have the primary score, best first; none UNTRAINED."""
        primary = self.settings.primary.name
        return tuple(r for r in self.rows if r.contests and r.value(primary) is not None)

    @property
    def controls(self) -> tuple[Row, ...]:
        """Yardsticks of the main table that have the primary score, best first."""
        primary = self.settings.primary.name
        return tuple(r for r in self.rows if not r.is_model and r.value(primary) is not None)

    def row(self, name: str) -> Row:
        """The row called `name`. Raises ResultsError: there is none."""
        for row in self.everyone:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.everyone)
        raise ResultsError(f"there is no row '{name}'; known: {known}")


def build_board(
    records: Iterable[RunRecord],
    *,
    convention: str = "candlemark",
    metrics: Sequence[str] = DEFAULT_METRICS,
    thresholds: Mapping[str, float] | None = None,
    tolerance_mm: float = 1.0,
) -> Board:
    """The board of records of one set of cases, such as one run's.

    Raises ResultsError: there is no such record, or they are of several sets of cases.
    ConfigError: a metric or the convention is not known.
    """
    boards = build_boards(
        records,
        convention=convention,
        metrics=metrics,
        thresholds=thresholds,
        tolerance_mm=tolerance_mm,
    )
    if not boards:
        raise ResultsError("there is no trial of the task segmentation; run: candlemark segment")
    if len(boards) > 1:
        found = "; ".join(board.title for board in boards)
        raise ResultsError(f"the trials are of {len(boards)} sets of cases ({found}); choose one")
    return boards[0]


def build_boards(
    records: Iterable[RunRecord],
    *,
    convention: str = "candlemark",
    metrics: Sequence[str] = DEFAULT_METRICS,
    thresholds: Mapping[str, float] | None = None,
    tolerance_mm: float = 1.0,
) -> tuple[Board, ...]:
    """One board for each set of cases, in the order in which each first appears.

    Records of other tasks are left alone. Raises ConfigError: a metric or the convention is not
    known, or no metric is given.
    """
    settings = Settings(
        convention=convention,
        metrics=tuple(dict.fromkeys(metrics)),
        thresholds=dict(thresholds or {}),
        tolerance_mm=tolerance_mm,
    )
    _check(settings)
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        if task_of(record) == "segmentation":
            groups.setdefault(_question(record), []).append(record)
    return tuple(_board(group, settings) for group in groups.values())


def asked_of(suites: Iterable[Suite], *, convention: str | None = None) -> dict[str, Any]:
    """How the newest suite of segmentation wants its board made, as `build_boards` takes it.

    convention: stands above that of the suite
    """
    ours = [suite for suite in suites if suite.config.get("task") == "segmentation"]
    found: dict[str, Any] = {}
    if ours:
        config = max(ours, key=lambda suite: suite.started_at).config
        scoring, reporting = config.get("benchmark") or {}, config.get("reporting") or {}
        found = {
            name: scoring[name]
            for name in ("metrics", "thresholds", "tolerance_mm")
            if scoring.get(name)
        }
        if reporting.get("convention"):
            found["convention"] = reporting["convention"]
    return found if convention is None else {**found, "convention": convention}


def _check(settings: Settings) -> None:
    if settings.convention not in CONVENTIONS:
        raise ConfigError(
            f"'{settings.convention}' is no convention; known: {', '.join(CONVENTIONS)}"
        )
    if not settings.metrics:
        raise ConfigError("metrics is empty; name one at least, such as dice")
    for name in (*settings.metrics, *settings.thresholds):
        find_segmentation(name)


def _question(record: RunRecord) -> tuple[str, ...]:
    """What rows must share to stand in one table."""
    facts = record.facts
    classes = [f"{label}={name}" for label, name in classes_of([record]).items()]
    return (
        *(str(facts.get(name, "unknown")) for name in ("dataset", "dataset_hash")),
        *classes,
        "",
        *sorted(str(case) for case in facts.get("cases", ())),
    )


def _board(records: Sequence[RunRecord], settings: Settings) -> Board:
    first = records[0]
    cases, classes = case_ids(records), classes_of(records)
    everyone, units = build_rows(
        records, cases=cases, labels=tuple(classes), settings=settings, sizes=sizes_of(records)
    )
    primary = settings.primary
    sign = -1 if primary.higher_is_better else 1

    def rank(row: Row) -> tuple[bool, float, float, str]:
        value = row.value(primary.name)
        return value is None, sign * (value or 0.0), row.jitter or 0.0, row.name

    scored = sorted((row for row in everyone if not row.timed_only), key=rank)
    main = tuple(row for row in scored if not row.oracle)
    contest = hold(main, settings)
    ties = frozenset(
        frozenset((duel.model, duel.other)) for duel in contest.pairs if not duel.told_apart
    )
    return Board(
        dataset=str(first.facts.get("dataset", "data")),
        dataset_hash=str(first.facts.get("dataset_hash", "unknown")),
        cases=cases,
        class_names=classes,
        settings=settings,
        units=units,
        rows=main,
        oracles=_sweeps([row for row in scored if row.oracle]),
        timed=tuple(row for row in everyone if row.timed_only),
        contest=contest,
        stability=rank_stability(main, labels=tuple(classes), settings=settings, ties=ties),
    )


def _sweeps(oracles: Sequence[Row]) -> tuple[Row, ...]:
    """Oracles, best first, the jitters of one model and protocol beside each other."""
    places: dict[tuple[str, str], int] = {}
    for place, row in enumerate(oracles):
        places.setdefault((row.model, row.protocol), place)
    return tuple(
        sorted(oracles, key=lambda row: (places[row.model, row.protocol], row.jitter or 0.0))
    )
