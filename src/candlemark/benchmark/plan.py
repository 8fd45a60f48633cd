"""From a config and its datasets to trials: what will run, each with an id of its own.

    setting = Setting(config=config, device="cpu", weights_sha256={...}, checkpoints=folder)
    works = plan(setting, datasets)

A trial's id is the hash of everything that decides its outcome. Data and weights enter by
their content and not by their place, so a finished trial is recognised wherever it was run,
and weights that changed under the same name are run anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candlemark.benchmark.attainable import attainable_auroc, attainable_of_picture
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.benchmark.trial import Trial
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.models.baselines import BASELINES
from candlemark.models.catalog import resolve

MARKETS = {"random_walk": "random_walk", "planted": "planted", "planted_pair": "planted"}
"""Market by the kind of candles; everything else is real."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A trial with the places it reads and writes; pickles.

    weights, allow_pickle: as in the config; a numeric baseline has no use for them
    models: the store that keeps what is trained; None where nothing is kept
    """

    trial: Trial
    weights: str
    allow_pickle: bool
    dataset_path: Path
    checkpoint_dir: Path
    models: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every trial of a benchmark shares.

    weights_sha256: by model, the hash of the file it starts from; None for random weights
    models: the store for what is trained, used where the config says `keep_models`
    """

    config: BenchmarkConfig
    device: str
    weights_sha256: Mapping[str, str | None]
    checkpoints: Path
    models: Path | None = None


def plan(setting: Setting, datasets: Sequence[Dataset]) -> list[Work]:
    """Every trial, datasets in order, baselines before models before controls."""
    return [
        Work(
            trial=trial,
            weights=setting.config.weights,
            allow_pickle=setting.config.allow_pickle,
            dataset_path=dataset.path,
            checkpoint_dir=setting.checkpoints / trial.id,
            # What a control has learnt is of no use to anyone.
            models=setting.models if setting.config.keep_models and trial.role == "model" else None,
        )
        for dataset in datasets
        for trial in _trials(setting, dataset)
    ]


def _trials(setting: Setting, dataset: Dataset) -> Iterator[Trial]:
    config = setting.config
    for name in config.baselines:
        yield _trial(setting, dataset, role="baseline", model=name, seed=config.seeds[0])
    for model in config.models:
        for seed in config.seeds:
            yield _trial(setting, dataset, role="model", model=model, seed=seed)
    if "shuffled_labels" in config.controls and dataset.config.candles.kind != "random_walk":
        for model in _control_models(config):
            yield _trial(setting, dataset, role="control", model=model, seed=config.seeds[0])


def _control_models(config: BenchmarkConfig) -> tuple[str, ...]:
    """The cheapest model stands for all: the split and the pictures are the same for each."""
    if not config.models:
        return ("logistic",) if "logistic" in config.baselines else ()
    return (cheapest_model(config.models),)


def cheapest_model(models: Sequence[str]) -> str:
    """The model with the fewest known parameters; the first where none is known."""
    return min(models, key=lambda model: resolve(model).parameters or float("inf"))


ROW_NAMES = {
    "model": "{model}",
    "baseline": "baseline: {model}",
    "control": "control: shuffled labels, {model}",
}
"""The name of a row in tables, by role."""


def _trial(setting: Setting, dataset: Dataset, *, role: str, model: str, seed: int) -> Trial:
    config = setting.config
    row = ROW_NAMES[role].format(model=model)
    deciding: dict[str, Any] = {
        "task": "charts",
        "role": role,
        "model": model,
        "dataset": dataset.content_hash,
        "measure": config.measure.model_dump(mode="json"),
        "seed": seed,
        **(_numeric() if model in BASELINES else _trained(setting, model)),
    }
    facts = {
        "row": row,
        "role": role,
        "model": model,
        "seed": seed,
        "weights": None if model in BASELINES else config.weights,
        "attainable_by_inputs": (
            None if model in BASELINES else attainable_of_picture(dataset.config)
        ),
        **dataset_facts(dataset),
    }
    return Trial(role=role, row=row, model=model, config=deciding, facts=facts)


def _numeric() -> dict[str, Any]:
    """What decides the outcome of a numeric baseline beyond its name and seed: nothing."""
    return {"kind": "numeric", "device": "cpu", "training": None, "isolate": False}


def _trained(setting: Setting, model: str) -> dict[str, Any]:
    """What decides the outcome of a classifier of pictures."""
    config = setting.config
    return {
        "kind": "images",
        "device": setting.device,
        "training": config.training.deciding(),
        "weights_sha256": setting.weights_sha256[model],
        "isolate": config.isolate,
    }


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
        "attainable_auroc": attainable_auroc(config),
        "leaky_split": config.split.method == "random",
    }


def dataset_name(config: DatasetConfig) -> str:
    """A short name: `BTCUSDT 1h`, with the experiment where it is not the regular one."""
    candles = config.candles
    names = {
        "random_walk": "random walk",
        "planted": "planted signal",
        "planted_pair": "planted pair",
    }
    market = names.get(candles.kind) or "+".join(candles.symbols) or Path(candles.path or "").stem
    experiment = "" if config.experiment == "regular" else f", {config.experiment}"
    return f"{market} {candles.interval}{experiment}"
