"""The task `charts` from end to end: config in, records in the store, exports beside it.

finished = run_charts(config, output_dir="benchmarks")
for record in finished.records: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from candlemark import progress
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.benchmark.plan import Work
from candlemark.benchmark.prepare import prepare
from candlemark.execution.base import Executor
from candlemark.hardware.device import resolve_device
from candlemark.launch.suite import FinishedRun
from candlemark.launch.trained import local_executor, run_trained
from candlemark.records import RunRecord, Status
from candlemark.results.store import open_results


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
        finished = run_trained(
            prepared.config,
            works,
            store,
            (*prepared.datasets, *prepared.walks),
            folder=folder / "results",
            resume=resume,
            executor=executor or local_executor(config.timeout_s),
        )
    _say_what_is_not_kept(works, finished.records)
    return finished


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
