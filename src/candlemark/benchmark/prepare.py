"""From a config to datasets on disk that have passed their audit.

    prepared = prepare(config, Path("benchmarks/datasets"))

Open ends are closed first (`period`, "the newest candle there is"), so that what runs can be
run again; a dataset that is there already is opened, not built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from candlemark import progress
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.benchmark.plan import Setting, Work, cheapest_model, plan
from candlemark.benchmark.trial import TrainedWork
from candlemark.candles import source
from candlemark.candles.source import CandlesConfig
from candlemark.dataset.audit import Audit, audit
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.errors import DatasetError
from candlemark.models.catalog import resolve
from candlemark.models.weights import weights_file

WorkT = TypeVar("WorkT", bound=TrainedWork)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A config without open ends, its datasets, and the random walks that control them.

    weights_sha256: by model, the hash of the file it starts from; None for random weights
    """

    config: BenchmarkConfig
    datasets: tuple[Dataset, ...]
    walks: tuple[Dataset, ...]
    weights_sha256: Mapping[str, str | None]

    def works(self, *, device: str, checkpoints: Path, models: Path | None = None) -> list[Work]:
        """Every trial once; on the control walks only baselines and the cheapest model run."""
        setting = Setting(
            config=self.config,
            device=device,
            weights_sha256=self.weights_sha256,
            checkpoints=checkpoints,
            models=models,
        )
        cheapest = (cheapest_model(self.config.models),) if self.config.models else ()
        on_walks = self.config.model_copy(
            update={"models": cheapest, "controls": (), "keep_models": False}
        )
        works = [
            *plan(setting, self.datasets),
            *plan(replace(setting, config=on_walks), self.walks),
        ]
        return list({work.trial.id: work for work in works}.values())


def prepare(config: BenchmarkConfig, folder: Path) -> Prepared:
    """Find the weights, resolve `config`, and build or open its datasets below `folder`.

    Weights come first: a misspelt id or a missing network should not be found out by every
    trial in turn, an hour later. What is downloaded here is what the trials load.

    Raises ModelError: nobody knows a model, or its weights cannot be had.
    """
    weights_sha256 = {model: _weights_sha256(model, config) for model in config.models}
    closed = config.model_copy(update={"datasets": resolve_all(config.datasets)})
    datasets = build_all(closed.datasets, folder)
    walks = build_all(control_walks(closed.controls, datasets), folder)
    return Prepared(config=closed, datasets=datasets, walks=walks, weights_sha256=weights_sha256)


def _weights_sha256(model: str, config: BenchmarkConfig) -> str | None:
    path = weights_file(resolve(model), config.weights, allow_pickle=config.allow_pickle)
    return None if path is None else file_sha256(path)


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_all(configs: Iterable[DatasetConfig]) -> tuple[DatasetConfig, ...]:
    """The same datasets with their open ends closed."""
    return tuple(
        config.model_copy(update={"candles": source.resolve(config.candles)}) for config in configs
    )


def build_all(configs: Iterable[DatasetConfig], folder: Path) -> tuple[Dataset, ...]:
    """Each dataset below `folder`, built or opened."""
    return tuple(build_dataset(config, root=folder) for config in configs)


def control_walks(controls: Sequence[str], datasets: Sequence[Dataset]) -> Iterable[DatasetConfig]:
    """A random walk as long as each forecast's market, drawn and labelled the same way.

    None where no control asks for it, or where one of the datasets is a random walk itself.
    """
    if "random_walk" not in controls:
        return
    if any(dataset.config.candles.kind == "random_walk" for dataset in datasets):
        return
    for dataset in datasets:
        if dataset.label_kind == "forecast":
            candles = CandlesConfig(
                kind="random_walk",
                interval=dataset.manifest.interval,
                count=max(series.candle_count for series in dataset.manifest.series),
                seed=dataset.config.seed,
            )
            yield dataset.config.model_copy(update={"candles": candles})


def audited(works: Sequence[WorkT], datasets: Iterable[Dataset]) -> list[WorkT]:
    """The works with the audit of their dataset among their facts.

    Raises DatasetError where an audit finds a leak, unless the split is `random`, which
    exists to show what it leaks and is called leaky in every table.
    """
    audits = {dataset.content_hash: _checked_audit(dataset) for dataset in datasets}
    return [
        replace(work, trial=replace(work.trial, facts={**work.trial.facts, "audit": result}))
        for work in works
        for result in [audits[work.trial.config["dataset"]].to_dict()]
    ]


def _checked_audit(dataset: Dataset) -> Audit:
    result = audit(dataset)
    if not result.ok and dataset.config.split.method != "random":
        failed = ", ".join(check.name for check in result.checks if not check.ok)
        raise DatasetError(
            f"{dataset.path} fails its audit ({failed}); "
            f"see: candlemark dataset audit {dataset.path}"
        )
    if not result.ok:
        progress.warning(f"{dataset.path}: the random split leaks, as it is meant to show")
    return result
