"""A row that learns from pictures and texts, or from numbers, by gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from candlemark.benchmark.fusion.data import FusionData, caption_tokens
from candlemark.benchmark.fusion.plan import FusionWork
from candlemark.benchmark.fusion.row import Answer, Residuals, ReturnScale
from candlemark.benchmark.tasks.base import FloatArray, History, IntArray
from candlemark.benchmark.tasks.networks import forward_cost, training_cost, training_facts
from candlemark.dataset.captions import captions
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.moment import look_of
from candlemark.metrics.memory import MemoryMeter
from candlemark.models.fusion.building import Fusion, build_fusion
from candlemark.models.fusion.saving import save_fusion
from candlemark.models.fusion.spec import FusionSpec, Inputs
from candlemark.models.fusion.tokens import Tokens
from candlemark.records import Measurement
from candlemark.training.batches import class_weight
from candlemark.training.config import TrainingConfig
from candlemark.training.inference import infer
from candlemark.training.loop import fit
from candlemark.training.objectives import ClassAndReturn

BATCH_SIZE = 64
"""Windows asked at once. Fixed, as sums of floats depend on it: a model that was saved gives
the very scores of the record that it was saved with."""


class NetworkRow:
    """Builds, trains, times and keeps one fusion model."""

    def __init__(self, work: FusionWork, dataset: Dataset) -> None:
        self.trial = work.trial
        self.config = work.trial.config
        self.training = TrainingConfig.model_validate(self.config["training"])
        self.spec = FusionSpec.model_validate(self.config["model"])
        self.dataset = dataset
        self.checkpoint_dir = work.checkpoint_dir
        self.pickle = work.pickle
        self.device = torch.device(self.config["device"])
        self.fusion = build(self.spec, dataset, seed=self.config["seed"])
        self.tokens = tokens_of(self.fusion, dataset)
        self.scale = ReturnScale(mean=0.0, std=1.0)
        self.history: History = ()
        self._of_training: tuple[Measurement, ...] = ()
        self._facts: dict[str, Any] = {}

    def fit(
        self,
        rows: Mapping[str, IntArray],
        targets: Mapping[str, IntArray],
        returns: Mapping[str, FloatArray],
    ) -> None:
        """Train, or go on from the checkpoint of a killed run."""
        self.scale = ReturnScale.of(returns["train"])
        parts = {
            name: fusion_data(
                self.fusion,
                self.dataset,
                rows[name],
                self.tokens,
                targets=targets[name],
                values=self.scale.standardise(returns[name]),
            )
            for name in targets
        }
        classes = len(self.dataset.class_names)
        weight = class_weight(targets["train"], classes, balanced=self.training.class_weights)
        with MemoryMeter(self.device) as memory:
            result = fit(
                self.fusion.model,
                self.fusion.prepare,
                parts["train"],
                parts["validation"],
                self.training,
                class_count=classes,
                device=self.device,
                seed=self.config["seed"],
                checkpoint_dir=self.checkpoint_dir,
                objective=ClassAndReturn(weight),
            )
        self.history = result.history
        self._of_training = training_cost(result, memory, self.config, self.device)
        self._facts = {
            **training_facts(result),
            "process_count": result.process_count,
            "return_mean": self.scale.mean,
            "return_std": self.scale.std,
        }

    def predict(self, rows: IntArray) -> Answer:
        """What the weights of the best epoch say."""
        return ask(
            self.fusion,
            fusion_data(self.fusion, self.dataset, rows, self.tokens),
            self.scale,
            device=self.device,
            precision=self.training.precision,
        )

    def measure(self, rows: IntArray) -> tuple[Measurement, ...]:
        """Forward passes on prepared inputs: one at a time, and in batches."""
        plan = self.config["measure"]
        of_forward = forward_cost(
            self.fusion.model,
            self._prepared(rows[:1]),
            self._prepared(rows[: plan["batch_size"]]),
            plan=plan,
            device=self.device,
            precision=self.training.precision,
        )
        return (*self._of_training, *of_forward)

    def conditions(self) -> Mapping[str, Any]:
        """What the speed of this row depends on beyond the machine."""
        reads_text = self.tokens is not None
        return {
            "precision": self.training.precision,
            "input_shape": _input_shape(self.fusion),
            "sequence_length": self.fusion.config.max_tokens if reads_text else None,
            "batch_size": self.config["measure"]["batch_size"],
        }

    def facts(self) -> Mapping[str, Any]:
        """How the model was built and what training did."""
        began = self.fusion.config.origin.get("weights", {})
        kinds = {part: kind for part, kind in began.items() if kind is not None}
        if len(set(kinds.values())) > 1:
            weights = ", ".join(f"{part} {kind}" for part, kind in kinds.items())
        else:
            weights = next(iter(kinds.values()), "random")
        return {**self.fusion.facts, **self._facts, "weights": weights}

    def keep(self, folder: Path, residuals: Residuals, training: Mapping[str, Any]) -> None:
        """Save the weights of the best epoch, with all that an answer needs."""
        config = self.fusion.config
        config.returns = {"mean": self.scale.mean, "std": self.scale.std, **residuals.to_dict()}
        save_fusion(self.fusion, folder, training=training, pickle=self.pickle)

    def _prepared(self, rows: IntArray) -> dict[str, Tensor]:
        data = fusion_data(self.fusion, self.dataset, rows, self.tokens)
        inputs, _ = data.batch(np.arange(len(rows)))
        return self.fusion.prepare(
            {name: tensor.to(self.device) for name, tensor in inputs.items()}
        )


def build(spec: FusionSpec, dataset: Dataset, *, seed: int) -> Fusion:
    """An untrained model for a dataset; it keeps how the windows look and what they are from."""
    reads_text = spec.inputs in {"both", "text"}
    texts = captions(dataset, dataset.split("train"), style=spec.caption) if reads_text else []
    fusion = build_fusion(
        spec,
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        window=dataset.window,
        texts=texts,
        seed=seed,
    )
    config = fusion.config
    config.chart = {**config.chart, **look_of(dataset.config)}
    config.origin = {
        **config.origin,
        "dataset_hash": dataset.content_hash,
        "label": dataset.config.label.name,
        "label_kind": dataset.label_kind,
        "interval": dataset.manifest.interval,
        "symbols": list(dataset.manifest.symbols),
    }
    return fusion


def tokens_of(fusion: Fusion, dataset: Dataset) -> Tokens | None:
    """The captions of all rows of a dataset as the model's tokens; None if it reads no text."""
    config = fusion.config
    if not config.reads_text:
        return None
    return caption_tokens(
        dataset, fusion.tokenizer, style=config.caption, max_tokens=config.max_tokens
    )


def fusion_data(
    fusion: Fusion,
    dataset: Dataset,
    rows: IntArray,
    tokens: Tokens | None,
    *,
    targets: IntArray | None = None,
    values: FloatArray | None = None,
) -> FusionData:
    """What the model reads of `rows`; their own classes and no returns where none are given."""
    return FusionData(
        dataset,
        rows,
        inputs=cast("Inputs", fusion.config.inputs),
        tokens=tokens,
        values=np.full(len(rows), np.nan) if values is None else values,
        targets=dataset.targets(rows) if targets is None else targets,
    )


def ask(
    fusion: Fusion,
    data: FusionData,
    scale: ReturnScale,
    *,
    device: torch.device,
    precision: Any,
) -> Answer:
    """Probabilities and log returns of every case, in the data's order."""
    found = infer(
        fusion.model,
        fusion.prepare,
        data,
        device=device,
        batch_size=BATCH_SIZE,
        precision=precision,
        read=lambda output: {
            "probability": output.logits.float().cpu().double().softmax(dim=1),
            "forecast": output.forecast.float().cpu().double(),
        },
    )
    if not found:  # no case at all
        classes = len(fusion.config.id2label)
        return Answer(probability=np.empty((0, classes)), log_return=np.empty(0))
    return Answer(probability=found["probability"], log_return=scale.turn_back(found["forecast"]))


def _input_shape(fusion: Fusion) -> list[int]:
    """Height and width of the pictures, or candles and channels of the numbers."""
    config = fusion.config
    if config.inputs == "numbers":
        return [config.numbers["window"], config.numbers["channels"]]
    if not config.reads_image:
        return []
    return list(config.chart["input_shape"])
