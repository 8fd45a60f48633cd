"""The task `fusion` from end to end: config in, records in the store, models kept beside it.

finished = run_fusion(config, output_dir="benchmarks")
finished = run_fusion(config, model_dir=Path("models/btc"))       # one model, kept there
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from candlemark import progress
from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.benchmark.fusion.plan import FusionWork
from candlemark.benchmark.fusion.prepare import Prepared, prepare
from candlemark.errors import ConfigError
from candlemark.execution.base import Executor
from candlemark.hardware.device import resolve_device
from candlemark.launch.several import Leader, follow, is_follower, started_several
from candlemark.launch.suite import FinishedRun
from candlemark.launch.trained import local_executor, run_trained
from candlemark.records import RunRecord, Status
from candlemark.results.files import write_json
from candlemark.results.sharing.suites import record_to_dict
from candlemark.results.store import open_results

TRAINING = "training.json"
"""The file of a model's folder that tells how it was trained and what it scored."""

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"


def run_fusion(
    config: FusionBenchmarkConfig,
    *,
    output_dir: str | Path = "benchmarks",
    resume: bool = True,
    executor: Executor | None = None,
    model_dir: Path | None = None,
    pickle: bool = False,
) -> FinishedRun:
    """Run a study of fusion to its end, or finish one that was interrupted.

    output_dir: gets `datasets/`, `results/`, while trials run `checkpoints/`, and `models/` where
        the config says `keep_models`
    resume: False runs finished trials again
    executor: where trials run; by default each in its own process on this machine
    model_dir: where the one model of the study is kept, whatever the config says
    pickle: also keep `pytorch_model.bin`

    A finished trial whose model is to be kept and is not there is trained again. Started by
    `accelerate launch`, all processes train each network together; those that follow give back a
    run without records, and a time-out does not apply.

    Raises ConfigError, DatasetError or ModelError before anything is trained: a dataset that is
    missing or of no use, an encoder that nobody has, a precision that the device cannot train in,
    a folder that holds another model or cannot be made. A trial that fails raises nothing: it is
    a record with its reason.
    """
    folder, device = Path(output_dir), str(resolve_device(config.device))
    _refuse_precision(config)

    def planned() -> tuple[Prepared, list[FusionWork]]:
        prepared = prepare(config, folder / "datasets")
        works = prepared.works(
            device=device, checkpoints=folder / "checkpoints", models=folder / "models"
        )
        return prepared, _placed(works, model_dir, pickle=pickle)

    if is_follower():
        follow(device, lambda: planned()[1])
        return FinishedRun(suite_id="", results_dir=folder / "results", records=(), ran=0)
    leader = Leader(device) if started_several() else None
    with open_results(folder / "results") as store:
        prepared, works = planned()
        finished = run_trained(
            prepared.config,
            works,
            store,
            (*prepared.datasets, *prepared.walks),
            folder=folder / "results",
            resume=resume,
            executor=executor or leader or local_executor(config.timeout_s),
            again=_lost,
        )
    if leader is not None:
        leader.close()
    _complete(works, finished.records)
    return finished


def _refuse_precision(config: FusionBenchmarkConfig) -> None:
    """What every network would refuse in turn, once, and before the baselines have run."""
    from candlemark.training.devices import check_precision

    if config.inputs:
        check_precision(config.training.precision, resolve_device(config.device))


def _placed(works: list[FusionWork], model_dir: Path | None, *, pickle: bool) -> list[FusionWork]:
    """The works with `model_dir` in that of the one model; ConfigError where it is taken."""
    if model_dir is not None:
        models = [work for work in works if work.trial.role == "model"]
        markets = {work.trial.config["dataset"] for work in models}
        if len(models) != 1:
            raise ConfigError(
                f"one folder holds one model, and this study trains {len(models)} on "
                f"{len(markets)} datasets; say keep_models instead"
            )
        works = [
            replace(work, model_dir=model_dir) if work is models[0] else work for work in works
        ]
    placed = [replace(work, pickle=pickle) if work.model_dir else work for work in works]
    for work in placed:
        if work.model_dir is not None:
            _refuse_taken(work.model_dir, work.trial.id)
            _refuse_unwritable(work.model_dir)
    return placed


def _refuse_taken(folder: Path, trial_id: str) -> None:
    if not folder.exists() or _trial_in(folder) == trial_id:
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file; a model is written as a folder")
    if any(folder.iterdir()):
        held = "another model" if _trial_in(folder) else "other things"
        raise ConfigError(
            f"{folder} holds {held}, which training would replace; name another folder with "
            "--output, or delete this one"
        )


def _refuse_unwritable(folder: Path) -> None:
    """A folder that cannot be made should not be found out when all is trained."""
    there = next(place for place in folder.absolute().parents if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made, for nothing can be written in {there}: "
            f"{error.strerror or error}; name another folder with --output"
        ) from error


def _lost(work: FusionWork) -> bool:
    """Whether the model of a finished trial is to be kept and is not where it should be."""
    if work.model_dir is None or _trial_in(work.model_dir) == work.trial.id:
        return False
    progress.note(
        f"{work.trial.row} was trained before and its model is not in {work.model_dir}; "
        "it is trained again"
    )
    return True


def _trial_in(folder: Path) -> str | None:
    """The id of the trial whose model a folder holds; None where it holds none."""
    try:
        told = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = told.get("trial_id") if isinstance(told, dict) else None
    return str(found) if found is not None else None


def _complete(works: Sequence[FusionWork], records: Sequence[RunRecord]) -> None:
    """Tell each kept model what it is held against: baselines and controls on the same cases."""
    by_id = {record.trial_id: record for record in records if record.status is Status.OK}
    for work in works:
        record = by_id.get(work.trial.id)
        if work.model_dir is None or record is None:
            continue
        beside = [
            record_to_dict(other)
            for other in by_id.values()
            if other.facts["dataset_hash"] == record.facts["dataset_hash"]
            and other.facts["role"] != "model"
        ]
        told = {**record_to_dict(record), "beside": beside}
        if _read(work.model_dir) != told:
            write_json(work.model_dir / TRAINING, told)
        if work.pickle and not (work.model_dir / PICKLE).exists():
            _add_pickle(work.model_dir)


def _read(folder: Path) -> Any:
    return json.loads((folder / TRAINING).read_text(encoding="utf-8"))


def _add_pickle(folder: Path) -> None:
    """Write what an earlier training was not asked for; whatever else is there stays."""
    import torch
    from safetensors.torch import load_file

    scratch = folder / f".{PICKLE}"
    torch.save(load_file(folder / WEIGHTS), scratch)
    scratch.replace(folder / PICKLE)
