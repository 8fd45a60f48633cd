"""A kept model asked about any dataset that it fits: the scores of its record, once more.

    evaluation = evaluate("models/btc", Path("datasets/btc"), split="test", device="cpu")
    evaluation.scored.measurements

The dataset must be drawn, described and labelled as the model's own was; which market and which
time it shows is free. On the data it was trained on, the test split gives the very scores that
training recorded: the same cases, the same batches, the same resampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from candlemark.benchmark.config import MeasureConfig
from candlemark.benchmark.fusion.network import ask, fusion_data, tokens_of
from candlemark.benchmark.fusion.plan import ROWS
from candlemark.benchmark.fusion.row import Answer, Residuals, ReturnScale
from candlemark.benchmark.fusion.task import Scored, scores_of
from candlemark.benchmark.tasks.base import FloatArray, IntArray
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.dataset.moment import look_of
from candlemark.dataset.returns import next_returns
from candlemark.errors import DatasetError, ModelError
from candlemark.hardware.device import resolve_device
from candlemark.models.baselines import make_baseline
from candlemark.models.forecasters import NoChange
from candlemark.models.fusion.building import Fusion
from candlemark.models.fusion.saving import load_fusion, read_training
from candlemark.records import Measurement

Split = Literal["train", "validation", "test"]

PERSISTENCE = "baseline: persistence"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What a model, and persistence beside it, score on one split.

    row: what the model is called in tables; model: where it came from
    persistence: learnt from the training split of the same dataset, as in every study
    coverage: share of next closes that the model's own interval held; None without one
    seen: why these scores are no test, such as "it was trained on these windows"; None for one
    changes: scores that differ from those in the model's training record, by name, as
        (recorded, found); None where that record is of other cases
    """

    model: str
    row: str
    dataset: Dataset
    split: Split
    scored: Scored
    persistence: Scored
    level: float | None
    coverage: float | None
    seen: str | None
    changes: Mapping[str, tuple[float | None, float | None]] | None

    def to_dict(self) -> dict[str, Any]:
        """JSON types, without the predictions."""
        return {
            "model": self.model,
            "row": self.row,
            "dataset": str(self.dataset.path),
            "dataset_hash": self.dataset.content_hash,
            "label": self.dataset.config.label.name,
            "label_kind": self.dataset.label_kind,
            "split": self.split,
            "cases": len(self.scored.predictions.target),
            "seen": self.seen,
            "scores": _by_name(self.scored.measurements),
            PERSISTENCE: _by_name(self.persistence.measurements),
            "interval": {"level": self.level, "coverage": self.coverage},
            "changes": None
            if self.changes is None
            else {
                name: {"recorded": was, "found": now} for name, (was, now) in self.changes.items()
            },
        }


def evaluate(
    model: str | Path, data_dir: Path, *, split: Split = "test", device: str = "auto"
) -> Evaluation:
    """Score a kept model on a split of a dataset.

    model: a folder, or an id on the Hub

    Raises DatasetError: no dataset there, or one that looks otherwise than what the model was
    trained on. ModelError: no fusion model there.
    """
    dataset = open_dataset(data_dir)
    fusion = load_fusion(model)
    check_fits(str(model), fusion, dataset)
    rows = dataset.split(split)
    if not len(rows):
        known = ", ".join(dataset.split_names)
        raise DatasetError(f"{data_dir} has no window in its split '{split}'; it has: {known}")
    training = read_training(model)
    trial, told = training.get("trial", {}), training.get("measurements", {})
    kept = fusion.config.returns
    scale = ReturnScale(mean=kept["mean"], std=kept["std"])
    answer = ask(
        fusion,
        fusion_data(fusion, dataset, rows, tokens_of(fusion, dataset)),
        scale,
        device=resolve_device(device),
        precision=(trial.get("training") or {}).get("precision", "fp32"),
    )
    returns = next_returns(dataset, rows)
    replicates = (trial.get("measure") or {}).get("replicates", MeasureConfig().replicates)
    scored = scores_of(dataset, rows, answer, returns, replicates=replicates)
    same_data = trial.get("dataset") == dataset.content_hash
    level, coverage = _coverage(kept, returns, answer)
    return Evaluation(
        model=str(model),
        row=ROWS[fusion.config.inputs].format(fusion=fusion.config.fusion),
        dataset=dataset,
        split=split,
        scored=scored,
        persistence=scores_of(
            dataset, rows, _persistence(dataset, rows), returns, replicates=replicates
        ),
        level=level,
        coverage=coverage,
        seen=_seen(split, same_data=same_data),
        changes=_changes(told, scored.measurements) if same_data and split == "test" else None,
    )


def check_fits(name: str, fusion: Fusion, dataset: Dataset) -> None:
    """DatasetError unless the dataset looks, and is called, as the model learnt it."""
    config, look = fusion.config, look_of(dataset.config)
    if not {"mean", "std"} <= set(config.returns):
        raise ModelError(
            f"{name} keeps no scale of returns, so its forecasts mean nothing; train it with: "
            "candlemark fuse train"
        )
    names = tuple(config.id2label[place] for place in sorted(config.id2label))
    if names != dataset.class_names:
        raise DatasetError(
            f"{name} tells {', '.join(names)}, and {dataset.path} has the classes "
            f"{', '.join(dataset.class_names)}; evaluate it on the label it was trained on"
        )
    for field in ("window", "experiment", "missing_share", "style"):
        trained, found = config.chart.get(field), look[field]
        matters = field != "missing_share" or look["experiment"] == "irregular"
        if trained is not None and matters and trained != found:
            raise DatasetError(
                f"{name} was trained on pictures of {field} {_short(trained)}, and "
                f"{dataset.path} has {field} {_short(found)}; build one that looks alike"
            )


def _short(value: Any) -> str:
    """A style by its kind and what else it says."""
    if not isinstance(value, Mapping):
        return str(value)
    said = [f"{key} {value[key]}" for key in sorted(value) if value[key] is not None]
    return ", ".join(sorted(said, key=lambda words: not words.startswith("kind ")))


def _persistence(dataset: Dataset, rows: IntArray) -> Answer:
    train = dataset.split("train")
    rule = make_baseline("persistence").fit(
        dataset.features(train), dataset.targets(train), class_count=len(dataset.class_names)
    )
    features = dataset.features(rows)
    return Answer(probability=rule.predict_proba(features), log_return=NoChange().predict(features))


def _coverage(
    kept: Mapping[str, Any], returns: FloatArray, answer: Answer
) -> tuple[float | None, float | None]:
    if kept.get("residual_low") is None or kept.get("level") is None:
        return None, None
    residuals = Residuals(
        level=kept["level"],
        residual_low=kept["residual_low"],
        residual_high=kept["residual_high"],
        residual_count=int(kept.get("residual_count") or 0),
    )
    return residuals.level, residuals.coverage(returns, answer.log_return)


def _seen(split: Split, *, same_data: bool) -> str | None:
    if not same_data or split == "test":
        return None
    if split == "train":
        return "it was trained on these very windows"
    return "its best epoch and its interval were chosen on these very windows"


def _changes(
    told: Mapping[str, Any], found: tuple[Measurement, ...]
) -> dict[str, tuple[float | None, float | None]]:
    return {
        one.name: (told[one.name]["value"], one.value)
        for one in found
        if one.name in told and told[one.name]["value"] != one.value
    }


def _by_name(measurements: tuple[Measurement, ...]) -> dict[str, Any]:
    return {one.name: {**asdict(one), "verdict": str(one.verdict)} for one in measurements}
