"""Run trials: one call in, one record out, whatever happens.

    for record in run_trials(works, executor):
        store.append(record)

`run_one` is what a worker process executes; `run_trials` turns every ending of it, a crash
or a time-out too, into a record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from candlemark.benchmark.tasks.base import TaskResult
from candlemark.benchmark.trial import Work
from candlemark.execution.base import Executor, Failure
from candlemark.records import RunRecord, Status


def _charts(work: Any) -> TaskResult:
    from candlemark.benchmark.tasks import charts

    return charts.run(work)


def _fusion(work: Any) -> TaskResult:
    from candlemark.benchmark.fusion import task

    return task.run(work)


def _inference(work: Any) -> TaskResult:
    from candlemark.benchmark.inference import task

    return task.run(work)


def _segmentation(work: Any) -> TaskResult:
    from candlemark.benchmark.segmentation import task

    return task.run(work)


TASKS: dict[str, Callable[[Any], TaskResult]] = {
    "charts": _charts,
    "fusion": _fusion,
    "inference": _inference,
    "segmentation": _segmentation,
}
"""Task by name: a function from work to its result, which loads only what that task needs."""


@dataclass(frozen=True, slots=True)
class _Stopwatch:
    started_at: str
    start: float

    @classmethod
    def begin(cls) -> _Stopwatch:
        return cls(datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic())

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


def run_one(work: Work) -> RunRecord:
    """Run one trial to its record; raises what the trial raises."""
    watch = _Stopwatch.begin()
    result: TaskResult = TASKS[work.trial.config["task"]](work)
    return RunRecord(
        trial_id=work.trial.id,
        trial=work.trial.config,
        status=Status.OK,
        started_at=watch.started_at,
        duration_s=watch.seconds,
        measurements=result.measurements,
        predictions=result.predictions,
        history=result.history,
        samples=result.samples,
        cases=result.cases,
        facts={**work.trial.facts, **result.facts},
        environment=result.environment,
    )


def run_trials(works: Iterable[Work], executor: Executor) -> Iterator[RunRecord]:
    """One record per work, in the order in which they end."""
    for outcome in executor.map(run_one, works):
        if outcome.failure is None:
            yield outcome.value
        else:
            yield failed_record(
                outcome.item,
                outcome.failure,
                started_at=outcome.started_at,
                duration_s=outcome.duration_s,
            )


def failed_record(work: Work, failure: Failure, *, started_at: str, duration_s: float) -> RunRecord:
    """A failure as a row: the trial, why it failed and after how long."""
    facts: dict[str, Any] = dict(work.trial.facts)
    if failure.details:
        facts["details"] = failure.details
    return RunRecord(
        trial_id=work.trial.id,
        trial=work.trial.config,
        status=Status(failure.kind.value),
        reason=failure.reason,
        started_at=started_at,
        duration_s=duration_s,
        facts=facts,
    )
