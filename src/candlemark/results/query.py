"""Questions that are asked of a store again and again.

summaries(results)                    # one line a suite: when, how many trials, how ended
matching(results, "demo*")            # suites whose id or export name fits a glob
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from candlemark.errors import ResultsError
from candlemark.results.store import Results, Suite


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSummary:
    """How far a suite is. `planned` is None for a suite stored without a plan."""

    suite_id: str
    started_at: str
    planned: int | None
    finished: int
    failed: int


def export_name(suite: Suite) -> str:
    """The stem of a suite's export files: `benchmark_suite_20250131T120000Z`."""
    digits = "".join(c for c in suite.started_at.split("+")[0] if c.isdigit())
    stamp = f"{digits[:8]}T{digits[8:14]}Z" if len(digits) >= 14 else suite.suite_id
    return f"benchmark_suite_{stamp}"


def matching(results: Results, pattern: str) -> list[Suite]:
    """Suites whose id, export name or export file fits the glob, the oldest first.

    Raises ResultsError: none fits.
    """
    suites = results.suites()
    found = [
        suite
        for suite in suites
        if any(
            fnmatch.fnmatchcase(name, pattern)
            for name in (suite.suite_id, export_name(suite), f"{export_name(suite)}.json")
        )
    ]
    if not found:
        known = ", ".join(suite.suite_id for suite in suites[-5:]) or "none yet"
        raise ResultsError(f"no suite fits '{pattern}' in {results.path}; newest: {known}")
    return found


def summaries(results: Results) -> list[SuiteSummary]:
    """One summary a suite, the oldest first."""
    rows = results.sql(
        """
        SELECT s.suite_id, count(*) FILTER (t.status = 'ok') AS finished,
               count(*) FILTER (t.status <> 'ok') AS failed
        FROM suites s
        LEFT JOIN current_trials t ON t.suite_id = s.suite_id OR EXISTS (
            SELECT 1 FROM plans p WHERE p.suite_id = s.suite_id AND p.trial_id = t.trial_id)
        GROUP BY s.suite_id
        """
    ).to_pylist()
    counts = {row["suite_id"]: row for row in rows}
    return [
        SuiteSummary(
            suite_id=suite.suite_id,
            started_at=suite.started_at,
            planned=len(suite.trial_ids) or None,
            finished=counts[suite.suite_id]["finished"],
            failed=counts[suite.suite_id]["failed"],
        )
        for suite in results.suites()
    ]
