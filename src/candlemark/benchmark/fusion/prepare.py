"""From a study of fusion to datasets that can answer it, and to its trials.

prepared = prepare(config, Path("benchmarks/datasets"))
works = prepared.works(device="cpu", checkpoints=folder, models=None)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.benchmark.fusion.plan import (
    ENCODERS,
    Encoder,
    FusionWork,
    Setting,
    main_variant,
    plan,
    variants,
)
from candlemark.benchmark.prepare import (
    build_all,
    control_walks,
    file_sha256,
    resolve_all,
)
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.errors import ConfigError, DatasetError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A config without open ends, its datasets, and the random walks that control them.

    weights_sha256: by encoder, the hash of the file it starts from; None for random weights
    """

    config: FusionBenchmarkConfig
    datasets: tuple[Dataset, ...]
    walks: tuple[Dataset, ...]
    weights_sha256: Mapping[str, str | None]

    def works(
        self, *, device: str, checkpoints: Path, models: Path | None = None
    ) -> list[FusionWork]:
        """Every trial once; on the control walks only baselines and the main model run."""
        setting = Setting(
            config=self.config,
            device=device,
            weights_sha256=self.weights_sha256,
            checkpoints=checkpoints,
            models=models,
        )
        main = main_variant(self.config)
        on_walks = self.config.model_copy(
            update={
                "inputs": () if main is None else (main.inputs,),
                "fusions": self.config.fusions[:1],
                "controls": (),
                "keep_models": False,
            }
        )
        works = [
            *plan(setting, self.datasets),
            *plan(replace(setting, config=on_walks), self.walks),
        ]
        return list({work.trial.id: work for work in works}.values())


def prepare(config: FusionBenchmarkConfig, folder: Path) -> Prepared:
    """Find the weights, then open the datasets, or build them below `folder`.

    Weights come first: a misspelt id or a missing network should not be found out by every
    trial in turn.

    Raises ModelError: nobody knows an encoder, or its weights cannot be had. DatasetError: a
    folder holds no dataset, or one that a study of fusion cannot use.
    """
    weights_sha256 = _weights_sha256(config)
    closed = config.model_copy(update={"datasets": resolve_all(config.datasets)})
    opened = tuple(open_dataset(path) for path in closed.data_dirs)
    datasets = (*opened, *build_all(closed.datasets, folder))
    _refuse_repeats(datasets)
    for dataset in datasets:
        check_usable(dataset)
    walks = build_all(control_walks(closed.controls, datasets), folder)
    return Prepared(config=closed, datasets=datasets, walks=walks, weights_sha256=weights_sha256)


def check_usable(dataset: Dataset) -> None:
    """DatasetError unless there is something to tell apart, to learn from and to test on."""
    names = dataset.class_names
    if len(names) < 2:
        raise DatasetError(
            f"{dataset.path} has the label '{dataset.config.label.name}' with "
            f"{len(names)} classes; a classifier needs 2 or more, such as: "
            "candlemark dataset build --label direction"
        )
    for split in ("train", "test"):
        if len(dataset.split(split)) < 2:
            raise DatasetError(
                f"{dataset.path} has {len(dataset.split(split))} windows in its split '{split}'; "
                "2 or more are needed: build it from more candles"
            )


def _refuse_repeats(datasets: Sequence[Dataset]) -> None:
    seen: dict[str, Path] = {}
    for dataset in datasets:
        other = seen.setdefault(dataset.content_hash, dataset.path)
        if other is not dataset.path:
            raise ConfigError(f"{dataset.path} and {other} hold the same dataset; name one of them")


def _weights_sha256(config: FusionBenchmarkConfig) -> dict[str, str | None]:
    """Hashes of the files that the encoders in use start from."""
    from candlemark.models.fusion.encoders import encoder_weights  # with torch, for real needs

    names: dict[Encoder, str] = {
        "text": config.model.text_encoder,
        "image": config.model.image_encoder,
    }
    needed = {name for spec in variants(config) for name in ENCODERS[spec.inputs]}
    files = {
        kind: encoder_weights(names[kind], kind=kind, weights=config.model.weights)
        for kind in sorted(needed)
    }
    return {kind: None if path is None else file_sha256(path) for kind, path in files.items()}
