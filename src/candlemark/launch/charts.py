"""The task `charts` from end to end: config in, records in the store, exports beside it.

finished = run_charts(config, output_dir="benchmarks")
for record in finished.records: ...
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from candlemark import progress
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.benchmark.plan import Work
from candlemark.benchmark.prepare import audited, prepare
from candlemark.execution.base import Executor
from candlemark.execution.local import LocalExecutor
from candlemark.hardware.device import resolve_device
from candlemark.launch.suite import FinishedRun, leave_copies, open_suite, run_pending
from candlemark.records import RunRecord, Status
from candlemark.results.store import Results, open_results


def run_charts(
    config: BenchmarkConfig,
    *,
    output_dir: str | Path = "benchmarks",
    resume: bool = True,
    executor: Executor | None = None,
) -> FinishedRun:
    """Run a benchmark to its end, or finish one that was interrupted.

    output_dir: gets `datasets/`, `results/`, while trials run `checkpoints/`, and `models/` where
        the config says `keep_models`
    resume: False runs finished trials again
    executor: where trials run; by default each in its own process on this machine

    Raises ConfigError, ModelError for a model or weights that cannot be had, before anything
    is fetched, and whatever makes the data impossible to get or unsafe to use. A trial
    that fails raises nothing: it is a record with its reason.
    """
    folder = Path(output_dir)
    with open_results(folder / "results") as store:
        device = str(resolve_device(config.device))
        prepared = prepare(config, folder / "datasets")
        works = prepared.works(
            device=device, checkpoints=folder / "checkpoints", models=folder / "models"
        )
        suite_id = open_suite(store, prepared.config, works)
        pending = _pending(works, store, resume=resume)
        if pending:
            needed = {work.trial.config["dataset"] for work in pending}
            datasets = (*prepared.datasets, *prepared.walks)
            pending = audited(pending, [d for d in datasets if d.content_hash in needed])
            checkpoints = {work.trial.id: work.checkpoint_dir for work in pending}
            for record in run_pending(pending, store, suite_id, executor or _local(config)):
                if record.status is Status.OK:  # one that timed out goes on from its checkpoint
                    shutil.rmtree(checkpoints[record.trial_id], ignore_errors=True)
        leave_copies(store, suite_id, folder / "results", changed=bool(pending))
        records = tuple(store.records(suite_id))
        _say_what_is_not_kept(works, records)
    return FinishedRun(
        suite_id=suite_id,
        results_dir=folder / "results",
        records=records,
        ran=len(pending),
    )


def _local(config: BenchmarkConfig) -> Executor:
    """Models get a process each; baselines are cheap, need no device and share one."""
    return LocalExecutor(timeout_s=config.timeout_s, share=_may_share)


def _may_share(work: Work) -> bool:
    return work.trial.role == "baseline" or not work.trial.config["isolate"]


def _pending(works: list[Work], store: Results, *, resume: bool) -> list[Work]:
    finished = store.finished_ids() if resume else frozenset()
    if not resume:
        for work in works:
            shutil.rmtree(work.checkpoint_dir, ignore_errors=True)
    return [work for work in works if work.trial.id not in finished]


def _say_what_is_not_kept(works: Sequence[Work], records: Sequence[RunRecord]) -> None:
    """A trial that had been finished when nobody asked for its model is not trained again."""
    asked = {
        work.trial.id
        for work in works
        if work.models is not None and work.trial.config["kind"] == "images"
    }
    kept = [
        "saved_model" in record.facts
        for record in records
        if record.trial_id in asked and record.status is Status.OK
    ]
    if not all(kept):
        progress.warning(
            f"{kept.count(False)} of {len(kept)} models were trained before, when nobody asked to "
            "keep them; to train them again and keep them: --no-resume"
        )
