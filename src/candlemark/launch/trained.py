"""What the tasks that train share: audits first, checkpoints until a trial has ended well.

finished = run_trained(config, works, store, datasets, folder=results, resume=True,
                       executor=local_executor(timeout_s=None))
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from candlemark.benchmark.prepare import audited
from candlemark.benchmark.trial import TrainedWork
from candlemark.config import Config
from candlemark.dataset.lazy import Dataset
from candlemark.execution.base import Executor
from candlemark.execution.local import LocalExecutor
from candlemark.launch.suite import FinishedRun, leave_copies, open_suite, run_pending
from candlemark.records import Status
from candlemark.results.store import Results

WorkT = TypeVar("WorkT", bound=TrainedWork)


def run_trained(
    config: Config,
    works: Sequence[WorkT],
    store: Results,
    datasets: Sequence[Dataset],
    *,
    folder: Path,
    resume: bool,
    executor: Executor,
    again: Callable[[WorkT], bool] = lambda _: False,
) -> FinishedRun:
    """Run what is not finished, each record stored before the next trial starts.

    config: without open ends; it is saved beside the results
    folder: of the results and their copies
    resume: False runs finished trials again, from the start
    again: finished trials that must run all the same, because what they made is gone

    Raises DatasetError: a dataset that a pending trial needs fails its audit.
    """
    suite_id = open_suite(store, config, works)
    pending = _pending(works, store, resume=resume, again=again)
    if pending:
        needed = {work.trial.config["dataset"] for work in pending}
        pending = audited(pending, [d for d in datasets if d.content_hash in needed])
        checkpoints = {work.trial.id: work.checkpoint_dir for work in pending}
        for record in run_pending(pending, store, suite_id, executor):
            if record.status is Status.OK:  # one that timed out goes on from its checkpoint
                shutil.rmtree(checkpoints[record.trial_id], ignore_errors=True)
    leave_copies(store, suite_id, folder, changed=bool(pending))
    return FinishedRun(
        suite_id=suite_id,
        results_dir=folder,
        records=tuple(store.records(suite_id)),
        ran=len(pending),
    )


def local_executor(timeout_s: float | None) -> LocalExecutor:
    """Models get a process each; baselines are cheap, need no device and share one."""
    return LocalExecutor(timeout_s=timeout_s, share=_may_share)


def _may_share(work: TrainedWork) -> bool:
    return work.trial.role == "baseline" or not work.trial.config["isolate"]


def _pending(
    works: Sequence[WorkT], store: Results, *, resume: bool, again: Callable[[WorkT], bool]
) -> list[WorkT]:
    if not resume:
        for work in works:
            shutil.rmtree(work.checkpoint_dir, ignore_errors=True)
        return list(works)
    finished = store.finished_ids()
    return [work for work in works if work.trial.id not in finished or again(work)]
