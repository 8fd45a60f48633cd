"""The whole job: config in, records in the store, exports beside it.

    finished = candlemark.run("bench.yaml")
    for record in finished.records: ...

At heart: `for record in run_trials(works, executor): store.append(record)`. What the store
holds already is not run again, so a suite that was killed goes on where it was, and a suite
that is complete costs nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from candlemark import progress
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.benchmark.plan import Work
from candlemark.benchmark.prepare import audited, prepare
from candlemark.benchmark.runner import run_trials
from candlemark.config import load, parse
from candlemark.execution.base import Executor
from candlemark.execution.local import LocalExecutor
from candlemark.hardware.device import resolve_device
from candlemark.records import RunRecord, Status, content_id
from candlemark.results.export import export, write_text
from candlemark.results.query import export_name
from candlemark.results.store import Results, open_results


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedRun:
    """What `run` leaves behind.

    results_dir: folder of the DuckDB file and its exports
    records: every trial of the suite, in the order of the plan, failures included
    trained: how many trials ran in this call; the rest had been finished before
    """

    suite_id: str
    results_dir: Path
    records: tuple[RunRecord, ...]
    trained: int


def run(
    config: BenchmarkConfig | dict[str, Any] | str | Path,
    *,
    output_dir: str | Path = "benchmarks",
    resume: bool = True,
    executor: Executor | None = None,
) -> FinishedRun:
    """Run a benchmark to its end, or finish one that was interrupted.

    config: a BenchmarkConfig, a mapping, or the path of a YAML or JSON file
    output_dir: gets `datasets/`, `results/`, while trials run `checkpoints/`, and `models/` where
        the config says `keep_models`
    resume: False runs finished trials again
    executor: where trials run; by default each in its own process on this machine

    Raises ConfigError, ModelError for a model or weights that cannot be had, before anything
    is fetched, and whatever makes the data impossible to get or unsafe to use. A trial
    that fails raises nothing: it is a record with its reason.
    """
    config = _as_config(config)
    folder = Path(output_dir)
    with open_results(folder / "results") as store:
        device = str(resolve_device(config.device))
        prepared = prepare(config, folder / "datasets")
        works = prepared.works(
            device=device, checkpoints=folder / "checkpoints", models=folder / "models"
        )
        suite_id = content_id(sorted(work.trial.id for work in works))
        store.add_suite(
            suite_id,
            prepared.config.model_dump(mode="json"),
            datetime.now(UTC).isoformat(timespec="seconds"),
            trial_ids=[work.trial.id for work in works],
        )
        pending = _pending(works, store, resume=resume)
        if pending:
            needed = {work.trial.config["dataset"] for work in pending}
            datasets = (*prepared.datasets, *prepared.walks)
            pending = audited(pending, [d for d in datasets if d.content_hash in needed])
            _run_pending(pending, store, suite_id, executor or _local(config))
        _leave_copies(store, suite_id, folder / "results", changed=bool(pending))
        records = tuple(store.records(suite_id))
        _say_what_is_not_kept(works, records)
    return FinishedRun(
        suite_id=suite_id,
        results_dir=folder / "results",
        records=records,
        trained=len(pending),
    )


def _as_config(config: BenchmarkConfig | dict[str, Any] | str | Path) -> BenchmarkConfig:
    if isinstance(config, BenchmarkConfig):
        return config
    if isinstance(config, dict):
        return parse(BenchmarkConfig, config)
    return load(BenchmarkConfig, Path(config))


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


def _run_pending(pending: list[Work], store: Results, suite_id: str, executor: Executor) -> None:
    """The heart: each record is stored before the next trial starts."""
    checkpoints = {work.trial.id: work.checkpoint_dir for work in pending}
    with progress.track("trials", total=len(pending), unit="trials") as bar:
        for record in run_trials(pending, executor):
            store.append(record, suite_id)
            if record.status is Status.OK:  # one that timed out goes on from its checkpoint
                shutil.rmtree(checkpoints[record.trial_id], ignore_errors=True)
            bar.advance(1, str(record.facts["row"]))


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


def _leave_copies(store: Results, suite_id: str, folder: Path, *, changed: bool) -> None:
    """Write the suite's exports and its config, unless they are there and still true."""
    (suite,) = (one for one in store.suites() if one.suite_id == suite_id)
    config = folder / f"suite_{suite_id}.yaml"
    if changed or not config.exists() or not (folder / f"{export_name(suite)}.json").exists():
        export(store, folder, suite_id=suite_id)
        write_text(config, yaml.safe_dump(dict(suite.config), sort_keys=False))
