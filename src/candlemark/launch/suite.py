"""What every task shares: trials in, each record stored before the next trial starts.

    suite_id = open_suite(store, config, works)
    for record in run_pending(pending, store, suite_id, executor): ...
    leave_copies(store, suite_id, folder, changed=bool(pending))

At heart: `for record in run_trials(works, executor): store.append(record)`. What the store
holds already is not run again, so a suite that was killed goes on where it was, and a suite
that is complete costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import yaml

from candlemark import progress
from candlemark.benchmark.runner import run_trials
from candlemark.benchmark.trial import Work
from candlemark.config import Config
from candlemark.execution.base import Executor
from candlemark.records import RunRecord, content_id
from candlemark.results.files import write_text
from candlemark.results.query import export_name
from candlemark.results.sharing.suites import export
from candlemark.results.store import Results

WorkT = TypeVar("WorkT", bound=Work)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedRun:
    """What a run leaves behind.

    results_dir: folder of the DuckDB file and its exports
    records: every trial of the suite, in the order of the plan, failures included
    ran: how many trials ran in this call; the rest had been finished before
    run: the name under which the store finds what this call measured; None for a task without
    """

    suite_id: str
    results_dir: Path
    records: tuple[RunRecord, ...]
    ran: int
    run: str | None = None


def open_suite(store: Results, config: Config, works: Sequence[Work]) -> str:
    """Note the suite and its plan in the store, before the first trial runs; returns its id."""
    suite_id = content_id(sorted(work.trial.id for work in works))
    store.add_suite(
        suite_id,
        config.model_dump(mode="json"),
        datetime.now(UTC).isoformat(timespec="seconds"),
        trial_ids=[work.trial.id for work in works],
    )
    return suite_id


def run_pending(
    pending: Sequence[WorkT],
    store: Results,
    suite_id: str,
    executor: Executor,
    *,
    run: str | None = None,
) -> Iterator[RunRecord]:
    """The heart: each record is stored before it is handed on and the next trial starts.

    run: the name under which these records can be found again
    """
    with progress.track("trials", total=len(pending), unit="trials") as bar:
        for record in run_trials(pending, executor):
            store.append(record, suite_id, run=run)
            yield record
            bar.advance(1, str(record.facts["row"]))


def leave_copies(store: Results, suite_id: str, folder: Path, *, changed: bool) -> None:
    """Write the suite's exports and its config, unless they are there and still true."""
    (suite,) = (one for one in store.suites() if one.suite_id == suite_id)
    config = folder / f"suite_{suite_id}.yaml"
    if changed or not config.exists() or not (folder / f"{export_name(suite)}.json").exists():
        export(store, folder, suite_id=suite_id)
        write_text(config, yaml.safe_dump(dict(suite.config), sort_keys=False))
