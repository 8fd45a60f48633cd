"""The task `segmentation` from end to end: config in, records in the store, masks beside it.

finished = run_segmentation(config, output_dir="benchmarks")
finished = run_segmentation(config, pairing=found)      # scans that were paired and shown before
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candlemark import progress
from candlemark.benchmark.segmentation.config import ScansConfig, SegmentationConfig
from candlemark.benchmark.segmentation.plan import plan, shares_process
from candlemark.benchmark.segmentation.prepare import Prepared, prepare
from candlemark.benchmark.segmentation.protocols import LEARNING
from candlemark.benchmark.segmentation.rows import rows_of
from candlemark.benchmark.segmentation.scan_cases import kept_mask
from candlemark.benchmark.segmentation.work import SegmentationWork
from candlemark.errors import ConfigError
from candlemark.execution.base import Executor, Outcome
from candlemark.execution.local import LocalExecutor
from candlemark.hardware.device import resolve_device
from candlemark.launch.suite import FinishedRun, leave_copies, open_suite, run_pending
from candlemark.records import Status
from candlemark.results.store import Results, open_results
from candlemark.scans.pairs import Pairing

DEFAULT_FOLDER = Path("benchmarks")
PREDICTIONS = "predictions"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinishedSegmentation(FinishedRun):
    """What a run leaves behind, with the scans that it was about."""

    prepared: Prepared


class CommandsApart:
    """Processes on this machine, with a time-out for each row but those of commands.

    A command has the same time for each case of its own: a case that takes longer has failed, and
    the row goes on.
    """

    def __init__(
        self, timeout_s: float | None, share: Callable[[SegmentationWork], Hashable]
    ) -> None:
        self.timeout_s, self.share = timeout_s, share

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Outcomes as each ends, those of commands last."""
        works = list(items)
        for timeout_s, are_commands in ((self.timeout_s, False), (None, True)):
            chosen = [work for work in works if (work.spec.kind == "command") is are_commands]
            executor = LocalExecutor(timeout_s=timeout_s, share=self.share)
            yield from executor.map(function, chosen)


def output_folder(config: SegmentationConfig, output_dir: str | Path | None) -> Path:
    """Where a run writes: what the caller names, else the config's own, else `benchmarks`.

    Raises ConfigError: a file stands there.
    """
    folder = Path(output_dir or config.benchmark.output or DEFAULT_FOLDER)
    _refuse_file(folder)
    return folder


def run_segmentation(
    config: SegmentationConfig,
    *,
    output_dir: str | Path | None = None,
    resume: bool = True,
    executor: Executor | None = None,
    pairing: Pairing | None = None,
) -> FinishedSegmentation:
    """Ask every row for every test case, or finish a run that was interrupted.

    output_dir: gets `results/`, `predictions/`, `phantoms/` and, while probes train,
        `checkpoints/`
    resume: False runs finished trials again
    executor: where trials run; by default models in a process each and controls in one
    pairing: what `find_cases` found for this config

    Raises ConfigError, ScanError or ModelError before anything is asked: scans that cannot be
    compared, a device that is not there, a model that nobody knows. A trial that fails raises
    nothing, nor does a case: both are rows with their reason.
    """
    folder = output_folder(config, output_dir)
    device = str(resolve_device(config.performance.device))
    works, prepared = planned(config, folder, device=device, pairing=pairing)
    with open_results(folder / "results") as store:
        suite_id = open_suite(store, prepared.config, works)
        pending = _pending(works, store, suite_id, resume=resume)
        runner = executor or CommandsApart(
            config.performance.timeout_s, shares_process(config.isolate)
        )
        checkpoints = {work.trial.id: work.checkpoint_dir for work in pending}
        for record in run_pending(pending, store, suite_id, runner):
            if record.status is Status.OK:  # one that was killed goes on from its checkpoint
                shutil.rmtree(checkpoints[record.trial_id], ignore_errors=True)
        with suppress(OSError):  # not there, or with what another run goes on from
            (folder / "checkpoints").rmdir()
        leave_copies(store, suite_id, folder / "results", changed=bool(pending))
        records = tuple(store.records(suite_id))
    return FinishedSegmentation(
        suite_id=suite_id,
        results_dir=folder / "results",
        records=records,
        ran=len(pending),
        prepared=prepared,
    )


def planned(
    config: SegmentationConfig, folder: Path, *, device: str, pairing: Pairing | None = None
) -> tuple[list[SegmentationWork], Prepared]:
    """Every trial of a config and the cases that they share.

    Raises as `run_segmentation`.
    """
    rows = rows_of(config)
    learns = any(row.spec.protocol in LEARNING for row in rows)
    _refuse_unread(config.dataset, learns=learns)
    prepared = prepare(config, folder, learns=learns, pairing=pairing)
    return plan(prepared, rows, device=device, folder=folder), prepared


def _refuse_unread(data: ScansConfig, *, learns: bool) -> None:
    """Refuse what says how cases are dealt where none are."""
    default = {key: field.default for key, field in ScansConfig.model_fields.items()}
    if not learns and data.folds != default["folds"]:
        raise ConfigError(
            f"folds = {data.folds}: they are of probes, and none is named; take folds out"
        )
    dealt = learns and data.splits is None
    if data.seed != default["seed"] and not dealt and not data.phantoms:
        raise ConfigError(
            f"dataset.seed = {data.seed}: it makes phantoms and deals folds, and here are neither; "
            "take it out (`seeds` are of models)"
        )


def _pending(
    works: Sequence[SegmentationWork], store: Results, suite_id: str, *, resume: bool
) -> list[SegmentationWork]:
    """What has not ended well: a row without a single answer has not, whatever its status says.

    A library that was not installed, or memory that others held, may be there the next time.
    """
    if not resume:
        for work in works:
            shutil.rmtree(work.checkpoint_dir, ignore_errors=True)
            shutil.rmtree(work.predictions, ignore_errors=True)
        return list(works)
    silent = {
        record.trial_id
        for record in store.records(suite_id)
        if record.cases and all(case["outcome"] != "ok" for case in record.cases)
    }
    finished = store.finished_ids() - silent
    return [work for work in works if work.trial.id not in finished]


def missing_masks(finished: FinishedRun, folder: Path) -> list[str]:
    """Rows whose masks are not below `folder` any more; --no-resume makes them again."""
    return sorted(
        {
            str(record.facts["row"])
            for record in finished.records
            if any(
                case["outcome"] == "ok"
                and kept_mask(folder / PREDICTIONS / record.trial_id, case["case"]) is None
                for case in record.cases
            )
        }
    )


def drop_masks(finished: FinishedRun, folder: Path) -> None:
    """Delete the masks of a run, where the config does not keep them."""
    for record in finished.records:
        shutil.rmtree(folder / PREDICTIONS / record.trial_id, ignore_errors=True)
    with_masks = folder / PREDICTIONS
    if with_masks.is_dir() and not any(with_masks.iterdir()):
        with_masks.rmdir()
    progress.note("the predicted masks were deleted, as keep_predictions says")


def _refuse_file(folder: Path) -> None:
    there = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        raise ConfigError(f"{there} is a file; --output-dir names a folder")
