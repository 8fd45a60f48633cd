"""The task `inference` from end to end: config in, records in the store, exports beside it.

finished = run_inference(config, output_dir="benchmarks", run_name="main")
finished = profile("tiny:bert", precisions=("fp32", "bf16"))
for record in finished.records: ...
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.benchmark.inference.plan import InferenceWork, plan
from candlemark.config import parse
from candlemark.errors import ConfigError
from candlemark.execution.base import Executor, Failure, FailureKind, Outcome
from candlemark.execution.local import LocalExecutor
from candlemark.launch.suite import FinishedRun, leave_copies, open_suite, run_pending
from candlemark.results.store import Results, open_results

SHARED_BY: dict[str, Callable[[InferenceWork], Hashable]] = {
    "cell": lambda _: None,
    "model": lambda work: work.trial.model,
    "none": lambda _: "all",
}
"""Which cells share a process, by `isolation`: those with the same key."""


def profile(
    models: str | Iterable[str],
    *,
    output_dir: str | Path = "benchmarks",
    resume: bool = True,
    run_name: str | None = None,
    **options: Any,
) -> FinishedRun:
    """Measure the inference of one or more models, as `candlemark profile` does.

    models: ids on the Hub or of timm, local folders, `tiny:NAME`, or `python:MODULE:FUNCTION`
    options: further fields of the config: `devices`, `batch_sizes`, `precisions`, `metrics`, ...

    Raises ConfigError, MissingExtraError or ModelError before anything is measured. A cell that
    fails raises nothing: it is a record with its reason.
    """
    names = (models,) if isinstance(models, str) else tuple(models)
    config = parse(InferenceConfig, {"models": names, **options}, where="profile")
    return run_inference(config, output_dir=output_dir, resume=resume, run_name=run_name)


def run_inference(
    config: InferenceConfig,
    *,
    output_dir: str | Path = "benchmarks",
    resume: bool = True,
    only_failed: bool = False,
    run_name: str | None = None,
    executor: Executor | None = None,
) -> FinishedRun:
    """Run a benchmark of inference to its end, or finish one that was interrupted.

    output_dir: gets `results/`
    resume: False measures finished cells again, each as one more attempt
    only_failed: run the cells that were tried and never came to a good end, and no others
    run_name: under which the results of this call are found again; None: the time in UTC
    executor: where cells run; by default in processes on this machine, as the config says

    Raises ConfigError, MissingExtraError or ModelError before anything is measured. A cell that
    fails raises nothing: it is a record with its reason.
    """
    if only_failed and not resume:
        raise ConfigError("--rerun measures every cell again and --only failed a few; name one")
    if run_name is not None and not run_name.strip():
        raise ConfigError("the name of a run is empty; leave --run-name out to take the time")
    name = run_name or datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    works = plan(config)
    folder = Path(output_dir)
    with open_results(folder / "results") as store:
        suite_id = open_suite(store, config, works)
        pending = _pending(works, store, resume=resume, only_failed=only_failed)
        runner = Refusing(executor or _local(config))
        for _ in run_pending(pending, store, suite_id, runner, run=name):
            pass
        leave_copies(store, suite_id, folder / "results", changed=bool(pending))
        records = tuple(store.records(suite_id))
    return FinishedRun(
        suite_id=suite_id,
        results_dir=folder / "results",
        records=records,
        ran=len(pending),
        run=name if pending else None,
    )


def _local(config: InferenceConfig) -> Executor:
    return LocalExecutor(
        timeout_s=config.timeout_s, workers=config.workers, share=SHARED_BY[config.isolation]
    )


def _pending(
    works: Sequence[InferenceWork], store: Results, *, resume: bool, only_failed: bool
) -> list[InferenceWork]:
    """The cells to run: all, those without a good end, or of those only the ones tried before."""
    if not resume:
        return list(works)
    finished = store.finished_ids()
    if only_failed:
        failed = store.finished_ids(include_failed=True) - finished
        return [work for work in works if work.trial.id in failed]
    return [work for work in works if work.trial.id not in finished]


class Refusing:
    """An executor that starts no process for cells which the plan has refused already."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """The refused first, then the outcomes of the others as each ends."""
        works = list(items)
        for work in works:
            if work.refusal is not None:
                yield Outcome(
                    item=work,
                    failure=Failure(kind=FailureKind.REFUSED, reason=work.refusal),
                    started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    duration_s=0.0,
                )
        yield from self.executor.map(function, [work for work in works if work.refusal is None])
