"""What an export is of: suites, or the part of them that one run measured.

for selection in select(results, run="main"):
    selection.name, selection.records
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from candlemark.errors import ResultsError
from candlemark.records import RunRecord
from candlemark.results.files import file_stem
from candlemark.results.query import export_name
from candlemark.results.store import Attempt, Results, Suite


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """The attempts of one suite that are to be exported.

    name: the stem of its files
    run: the run that they are of, None where the suite was asked for
    """

    suite: Suite
    name: str
    run: str | None
    attempts: tuple[Attempt, ...]

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """The record of each attempt."""
        return tuple(attempt.record for attempt in self.attempts)


def select(
    results: Results, *, suite_id: str | None = None, run: str | None = None
) -> list[Selection]:
    """One selection a suite: of all, of the one named, or of those that the run is part of.

    A suite's attempts are those that count (`Results.current`), a run's are its own.

    Raises ResultsError: there is no such suite or run, or nothing at all.
    """
    known = {suite.suite_id: suite for suite in results.suites()}
    if run is not None:
        return _of_run(results, known, run, suite_id)
    names = _names(known.values())
    chosen = [suite for suite in known.values() if suite_id in (None, suite.suite_id)]
    if not known:
        raise ResultsError(f"{results.path} holds no suite yet; run: candlemark bench")
    if not chosen:
        raise ResultsError(f"no suite '{suite_id}' in {results.path}; see: candlemark results list")
    return [
        Selection(
            suite=suite,
            name=names[suite.suite_id],
            run=None,
            attempts=tuple(results.current(suite.suite_id)),
        )
        for suite in chosen
    ]


def _of_run(
    results: Results, known: dict[str, Suite], run: str, suite_id: str | None
) -> list[Selection]:
    by_suite: dict[str, list[Attempt]] = {}
    for attempt in results.run_attempts(run):
        if suite_id in (None, attempt.suite_id):
            by_suite.setdefault(attempt.suite_id, []).append(attempt)
    if not by_suite:
        raise ResultsError(f"run '{run}' has no trial of suite '{suite_id}' in {results.path}")
    names = _names(known.values())
    selections = []
    for name, attempts in by_suite.items():
        first = min(attempt.record.started_at for attempt in attempts)
        suite = known.get(name) or Suite(suite_id=name, started_at=first, config={})
        selections.append(
            Selection(
                suite=suite,
                name=f"{names.get(name, export_name(suite))}_{file_stem(run)}",
                run=run,
                attempts=tuple(attempts),
            )
        )
    return selections


def _names(suites: Iterable[Suite]) -> dict[str, str]:
    """Stems by suite: its start, and where two began in one second, also the later one's id."""
    found: dict[str, str] = {}
    for suite in suites:
        stem = export_name(suite)
        taken = stem in found.values()
        found[suite.suite_id] = f"{stem}_{file_stem(suite.suite_id)}" if taken else stem
    return found
