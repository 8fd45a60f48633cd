"""A row that learns from pictures: a classifier of timm or transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from candlemark.benchmark.plan import Work
from candlemark.benchmark.tasks.base import FloatArray, History, IntArray
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.torch_dataset import ChartDataset
from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.flops import count_flops
from candlemark.metrics.memory import MemoryMeter
from candlemark.metrics.timing import measure_latency, measure_throughput
from candlemark.models.catalog import resolve
from candlemark.models.store import save_model
from candlemark.models.vision import load_classifier
from candlemark.records import Measurement, Verdict
from candlemark.training.config import TrainingConfig
from candlemark.training.loop import fit, predict


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
        self._of_training = (
            Measurement(name="training_time_s", value=result.duration_s, unit="s", sample_count=1),
            self._memory(memory, resumed=result.resumed_at_step > 0),
        )
        self._facts = {
            "best_epoch": result.best_epoch,
            "stopped_early": result.stopped_early,
            "resumed_at_step": result.resumed_at_step,
        }

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
        module = self.classifier.module.eval()
        one, batch = self._prepared(rows[:1]), self._prepared(rows[: plan["batch_size"]])
        clock = DeviceClock(self.device)
        clock.self_test()
        with torch.inference_mode(), self._autocast():
            latency = measure_latency(
                lambda: module(one), clock, budget_s=plan["latency_budget_s"], minimum_samples=299
            )
            throughput = measure_throughput(
                lambda: module(batch),
                clock,
                items_per_call=len(batch),
                budget_s=plan["latency_budget_s"],
            )
        cost = count_flops(module, one)
        return (
            *self._of_training,
            *latency.measurements,
            *throughput.measurements,
            *cost.measurements(),
        )

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

    def _memory(self, meter: MemoryMeter, *, resumed: bool) -> Measurement:
        """The peak of training, and what keeps it from being quoted."""
        measured = meter.measurement()
        if resumed:
            reason = f"{measured.reason}; training was resumed, and only its last part was seen"
            return replace(measured, verdict=Verdict.UNSTABLE, reason=reason)
        if self.config["isolate"] or self.device.type != "cpu":
            return measured
        reason = f"{measured.reason}; earlier trials used the same process"
        return replace(measured, verdict=Verdict.CONTENDED, reason=reason)

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

    def _autocast(self) -> torch.autocast:
        lower = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.training.precision)
        return torch.autocast(self.device.type, dtype=lower, enabled=lower is not None)
