"""From a config and its datasets to trials: what will run, each with an id of its own.

    works = plan(config, datasets, device="cpu", checkpoints=Path("benchmarks/checkpoints"))

A trial's id is the hash of everything that decides its outcome, the dataset's content
included and paths left out, so a finished trial is recognised wherever it was run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candlemark.benchmark.config import BenchmarkConfig
from candlemark.candles.synthetic import attainable_auroc
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.models.catalog import resolve
from candlemark.records import content_id

MARKETS = {"random_walk": "random_walk", "planted": "planted"}
"""Market by the kind of candles; everything else is real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell of a benchmark.

    role: "model" (an image classifier), "baseline" (the same windows as numbers) or
        "control" (what must not succeed)
    row: the name it goes by in tables
    model: model id, or name of the baseline
    config: everything that decides the outcome, JSON types only; `id` is its hash
    facts: what tables need to show the trial even where it fails
    """

    role: str
    row: str
    model: str
    config: dict[str, Any]
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        """16 hex digits that change whenever the outcome could."""
        return content_id(self.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A trial with the places it reads and writes; pickles."""

    trial: Trial
    dataset_path: Path
    checkpoint_dir: Path


def plan(
    config: BenchmarkConfig, datasets: Sequence[Dataset], *, device: str, checkpoints: Path
) -> list[Work]:
    """Every trial of `config`, datasets in order, baselines before models before controls."""
    works = [
        Work(trial=trial, dataset_path=dataset.path, checkpoint_dir=checkpoints / trial.id)
        for dataset in datasets
        for trial in _trials(config, dataset, device)
    ]
    return list({work.trial.id: work for work in works}.values())


def _trials(config: BenchmarkConfig, dataset: Dataset, device: str) -> Iterator[Trial]:
    for name in config.baselines:
        yield _trial(config, dataset, role="baseline", model=name, device="cpu")
    for model in config.models:
        for seed in config.seeds:
            yield _trial(config, dataset, role="model", model=model, device=device, seed=seed)
    if "shuffled_labels" in config.controls and dataset.config.candles.kind != "random_walk":
        for role_model in _control_models(config):
            yield _trial(config, dataset, role="control", model=role_model, device=device)


def _control_models(config: BenchmarkConfig) -> tuple[str, ...]:
    """The cheapest model stands for all: the split and the pictures are the same for each."""
    if not config.models:
        return ("logistic",) if "logistic" in config.baselines else ()
    return (cheapest_model(config.models),)


def cheapest_model(models: Sequence[str]) -> str:
    """The model with the fewest known parameters; the first where none is known."""
    return min(models, key=lambda model: resolve(model).parameters or float("inf"))


def _trial(
    config: BenchmarkConfig,
    dataset: Dataset,
    *,
    role: str,
    model: str,
    device: str,
    seed: int | None = None,
) -> Trial:
    seed = config.seeds[0] if seed is None else seed
    numeric = model in config.baselines
    row = {
        "model": model,
        "baseline": f"baseline: {model}",
        "control": f"control: shuffled labels, {model}",
    }[role]
    return Trial(
        role=role,
        row=row,
        model=model,
        config={
            "task": "charts",
            "role": role,
            "model": model,
            "dataset": dataset.content_hash,
            "weights": None if numeric else config.weights,
            "allow_pickle": False if numeric else config.allow_pickle,
            "training": None if numeric else config.training.model_dump(mode="json"),
            "measure": config.measure.model_dump(mode="json"),
            "device": device,
            "seed": seed,
            "isolate": True if numeric else config.isolate,
        },
        facts={
            "row": row,
            "role": role,
            "model": model,
            "seed": seed,
            "weights": None if numeric else config.weights,
            **dataset_facts(dataset),
        },
    )


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What a table must say of the data behind a row."""
    config = dataset.config
    return {
        "dataset": dataset_name(config),
        "dataset_hash": dataset.content_hash,
        "market": MARKETS.get(config.candles.kind, "real"),
        "label": config.label.name,
        "label_kind": dataset.label_kind,
        "class_names": list(dataset.class_names),
        "attainable_auroc": _attainable_auroc(config),
        "leaky_split": config.split.method == "random",
    }


def dataset_name(config: DatasetConfig) -> str:
    """A short name: `BTCUSDT 1h`, with the experiment where it is not the regular one."""
    candles = config.candles
    names = {"random_walk": "random walk", "planted": "planted signal"}
    market = names.get(candles.kind) or "+".join(candles.symbols) or Path(candles.path or "").stem
    experiment = "" if config.experiment == "regular" else f", {config.experiment}"
    return f"{market} {candles.interval}{experiment}"


def _attainable_auroc(config: DatasetConfig) -> float | None:
    """Known only where the planted pattern is drawn and decides the label; else None."""
    label = config.label
    foretells_next = label.name in {"next_candle", "next_close"} or (
        label.name == "forward_return"
        and label.horizon == 1
        and label.classes == 2
        and not label.threshold
    )
    if config.candles.kind != "planted" or config.experiment == "irregular" or not foretells_next:
        return None
    return attainable_auroc(config.candles.strength, config.candles.density)
