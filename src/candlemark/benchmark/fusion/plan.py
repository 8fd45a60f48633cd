"""From a study of fusion and its datasets to trials: what will run, each with an id of its own.

    setting = Setting(config=config, device="cpu", weights_sha256={...}, checkpoints=folder)
    works = plan(setting, datasets)

Rows of one dataset, in this order: what knows nothing (rules) and what reads the windows as
numbers, then every way of reading picture and text, then the control. As in the task `charts`,
data and weights enter a trial's id by their content and not by their place, and what a model
does not read does not enter at all: the row `image only` is the same trial whichever text
encoder the others have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from candlemark.benchmark.attainable import attainable_of_pair
from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.benchmark.plan import dataset_facts
from candlemark.benchmark.trial import Trial
from candlemark.candles.planted_pair import Known
from candlemark.dataset.lazy import Dataset
from candlemark.models.fusion.spec import FusionSpec

ROWS = {
    "both": "text + image ({fusion})",
    "image": "image only",
    "text": "text only",
    "numbers": "numbers only: 1-D CNN",
}
"""The name of a model's row in tables, by what it is shown."""

Encoder = Literal["text", "image"]

_OF_TEXT = ("text_encoder", "caption", "max_tokens")
_OF_IMAGES = ("image_encoder",)
_OF_ENCODERS = ("weights", "lora_rank")
UNREAD: dict[str, frozenset[str]] = {
    "both": frozenset(),
    "image": frozenset({"fusion", *_OF_TEXT}),
    "text": frozenset({"fusion", *_OF_IMAGES}),
    "numbers": frozenset({"fusion", *_OF_TEXT, *_OF_IMAGES, *_OF_ENCODERS}),
}
"""Fields of a spec that decide nothing, by what the model is shown."""

ENCODERS: dict[str, tuple[Encoder, ...]] = {
    "both": ("text", "image"),
    "image": ("image",),
    "text": ("text",),
    "numbers": (),
}
"""The encoders that a model has, by what it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionWork:
    """A trial with the places it reads and writes; pickles.

    model_dir: the folder that the trained model is kept in; None where nothing is kept
    pickle: whether `pytorch_model.bin` is to stand there beside the safetensors
    """

    trial: Trial
    dataset_path: Path
    checkpoint_dir: Path
    model_dir: Path | None = None
    pickle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every trial of a study shares.

    weights_sha256: by encoder ("text", "image"), the hash of the file it starts from; None for
        random weights
    models: the folder for models, used where the config says `keep_models`
    """

    config: FusionBenchmarkConfig
    device: str
    weights_sha256: Mapping[str, str | None]
    checkpoints: Path
    models: Path | None = None


def plan(setting: Setting, datasets: Sequence[Dataset]) -> list[FusionWork]:
    """Every trial, datasets in order, baselines before models before the control."""
    return [
        FusionWork(
            trial=trial,
            dataset_path=dataset.path,
            checkpoint_dir=setting.checkpoints / trial.id,
            model_dir=_model_dir(setting, trial),
        )
        for dataset in datasets
        for trial in _trials(setting, dataset)
    ]


def variants(config: FusionBenchmarkConfig) -> tuple[FusionSpec, ...]:
    """The models of a study: one for each word of `inputs`, and of `both` one for each fusion."""
    return tuple(
        config.model.model_copy(update={"inputs": inputs, "fusion": fusion})
        for inputs in config.inputs
        for fusion in (config.fusions if inputs == "both" else (config.model.fusion,))
    )


def main_variant(config: FusionBenchmarkConfig) -> FusionSpec | None:
    """The model that stands for all where one is enough, as in controls: the first of `both`.

    The first there is where none reads both; None for a study of baselines alone.
    """
    models = variants(config)
    return next((spec for spec in models if spec.inputs == "both"), next(iter(models), None))


def row_name(spec: FusionSpec) -> str:
    """How a model is called in tables."""
    return ROWS[spec.inputs].format(fusion=spec.fusion)


def _trials(setting: Setting, dataset: Dataset) -> Iterator[Trial]:
    config = setting.config
    for name in config.baselines:
        yield _baseline(setting, dataset, name)
    for spec in variants(config):
        for seed in config.seeds:
            yield _model(setting, dataset, spec, role="model", seed=seed)
    if "shuffled_labels" in config.controls and dataset.config.candles.kind != "random_walk":
        main = main_variant(config)
        if main is not None:
            yield _model(setting, dataset, main, role="control", seed=config.seeds[0])


def _baseline(setting: Setting, dataset: Dataset, name: str) -> Trial:
    seed = setting.config.seeds[0]
    row = f"baseline: {name}"
    # A rule and boosting know no device, no precision and no process of their own.
    numeric = {"kind": "numeric", "device": "cpu", "training": None, "isolate": False}
    return Trial(
        role="baseline",
        row=row,
        model=name,
        config={
            **_deciding(setting, dataset, role="baseline", seed=seed),
            "model": name,
            **numeric,
        },
        facts={
            **_facts(dataset, row=row, role="baseline", model=name, seed=seed),
            "inputs": "numbers",
            "weights": None,
        },
    )


def _model(setting: Setting, dataset: Dataset, spec: FusionSpec, *, role: str, seed: int) -> Trial:
    config = setting.config
    name = row_name(spec)
    row = name if role == "model" else f"control: shuffled labels, {name}"
    encoders = ENCODERS[spec.inputs]
    read = spec.model_dump(mode="json", exclude=set(UNREAD[spec.inputs]))
    return Trial(
        role=role,
        row=row,
        model=name,
        config={
            **_deciding(setting, dataset, role=role, seed=seed),
            "kind": "network",
            "model": read,
            "device": setting.device,
            "training": config.training.deciding(),
            "weights_sha256": {name: setting.weights_sha256[name] for name in encoders},
            "isolate": config.isolate,
        },
        facts={
            **_facts(dataset, row=row, role=role, model=name, seed=seed),
            "inputs": spec.inputs,
            "fusion": spec.fusion if spec.inputs == "both" else None,
            "text_encoder": spec.text_encoder if "text" in encoders else None,
            "image_encoder": spec.image_encoder if "image" in encoders else None,
            "weights": spec.weights if encoders else "random",
            "attainable_by_inputs": _attainable(dataset, spec),
        },
    )


def _attainable(dataset: Dataset, spec: FusionSpec) -> float | None:
    """AUROC that nothing shown these inputs can exceed, where the market makes it known."""
    draws_volume = dataset.config.drawn_style.draws_volume
    seen: dict[str, set[Known]] = {
        # The form `classic` tells the last candle's volume and nothing of the candle before it.
        "text": {"volume"} if spec.caption == "classic" else set(),
        "image": {"volume", "shape"} if draws_volume else {"shape"},
        "numbers": {"volume", "shape"},
    }
    seen["both"] = seen["text"] | seen["image"]
    known = seen[spec.inputs]
    if not known or (spec.caption != "classic" and spec.inputs in {"text", "both"}):
        return None
    both: Known = "both" if len(known) == 2 else next(iter(known))
    return attainable_of_pair(dataset.config, both)


def _deciding(setting: Setting, dataset: Dataset, *, role: str, seed: int) -> dict[str, Any]:
    return {
        "task": "fusion",
        "role": role,
        "dataset": dataset.content_hash,
        "measure": setting.config.measure.model_dump(mode="json"),
        "seed": seed,
    }


def _facts(dataset: Dataset, **of_row: Any) -> dict[str, Any]:
    return {**of_row, **dataset_facts(dataset)}


def _model_dir(setting: Setting, trial: Trial) -> Path | None:
    """What a control has learnt is of no use to anyone, and a baseline is retrained at once."""
    if setting.models is None or not setting.config.keep_models or trial.role != "model":
        return None
    return setting.models / f"fusion_{trial.id}"
