"""A row that learns from pictures: a classifier of timm or transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from candlemark.benchmark.plan import Work
from candlemark.benchmark.tasks.base import FloatArray, History, IntArray
from candlemark.benchmark.tasks.networks import forward_cost, training_cost, training_facts
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.torch_dataset import ChartDataset
from candlemark.metrics.memory import MemoryMeter
from candlemark.models.catalog import resolve
from candlemark.models.store import save_model
from candlemark.models.vision import load_classifier
from candlemark.records import Measurement
from candlemark.training.config import TrainingConfig
from candlemark.training.inference import predict
from candlemark.training.loop import fit


class ImageRow:
    """Loads, trains and times one classifier."""

    def __init__(self, work: Work, dataset: Dataset) -> None:
        self.trial = work.trial
        self.config = work.trial.config
        self.training = TrainingConfig.model_validate(self.config["training"])
        self.dataset = dataset
        self.checkpoint_dir = work.checkpoint_dir
        self.device = torch.device(self.config["device"])
        self.classifier = load_classifier(
            resolve(work.trial.model),
            weights=work.weights,
            class_count=len(dataset.class_names),
            image_shape=dataset.image_shape,
            seed=self.config["seed"],
            allow_pickle=work.allow_pickle,
        )
        self.history: History = ()
        self._of_training: tuple[Measurement, ...] = ()
        self._facts: dict[str, Any] = {}

    def fit(self, rows: Mapping[str, IntArray], targets: Mapping[str, IntArray]) -> None:
        """Train, or go on from the checkpoint of a killed run."""
        slices = {name: ChartDataset(self.dataset, rows[name], targets[name]) for name in targets}
        with MemoryMeter(self.device) as memory:
            result = fit(
                self.classifier.module,
                self.classifier.prepare,
                slices["train"],
                slices["validation"],
                self.training,
                class_count=len(self.dataset.class_names),
                device=self.device,
                seed=self.config["seed"],
                checkpoint_dir=self.checkpoint_dir,
            )
        self.history = result.history
        self._of_training = training_cost(result, memory, self.config, self.device)
        self._facts = training_facts(result)

    def predict(self, rows: IntArray) -> FloatArray:
        """Probabilities by the weights of the best epoch."""
        return predict(
            self.classifier.module,
            self.classifier.prepare,
            ChartDataset(self.dataset, rows),
            device=self.device,
            class_count=len(self.dataset.class_names),
            precision=self.training.precision,
        )

    def measure(self, rows: IntArray) -> tuple[Measurement, ...]:
        """Forward passes on prepared pictures: one at a time, and in batches."""
        plan = self.config["measure"]
        of_forward = forward_cost(
            self.classifier.module,
            self._prepared(rows[:1]),
            self._prepared(rows[: plan["batch_size"]]),
            plan=plan,
            device=self.device,
            precision=self.training.precision,
        )
        return (*self._of_training, *of_forward)

    def facts(self) -> Mapping[str, Any]:
        """How the model was loaded and what training did."""
        return {
            **self.classifier.facts,
            **self._facts,
        }

    def keep(self, store: Path, scores: Sequence[Measurement]) -> Mapping[str, Any]:
        """Save the weights of the best epoch; its folder is what `--weights PATH` takes."""
        facts = self.trial.facts
        saved = save_model(
            self.classifier.module.network,
            store,
            metrics={score.name: score.value for score in scores},
            config=self.config,
            name=self.trial.row,
            trial_id=self.trial.id,
            dataset={name: facts[name] for name in ("dataset", "dataset_hash", "label")},
            class_names=facts["class_names"],
            classifier=self.classifier.facts,
        )
        return {"saved_model": saved.version}

    def conditions(self) -> Mapping[str, Any]:
        """What the speed of this row depends on beyond the machine."""
        return {
            "precision": self.training.precision,
            "channels_last": self.classifier.channels_last,
            "input_shape": list(self.classifier.input_shape),
            "batch_size": self.config["measure"]["batch_size"],
        }

    def _prepared(self, rows: IntArray) -> torch.Tensor:
        images = torch.from_numpy(self.dataset.images(rows)).to(self.device)
        return self.classifier.prepare(images)
