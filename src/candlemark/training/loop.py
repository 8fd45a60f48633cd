"""The learning loop: any module, any torch dataset, any objective, exact resume.

    result = fit(
        model.module, model.prepare, train, validation, TrainingConfig(epochs=3),
        class_count=2, device=torch.device("cpu"), seed=0, checkpoint_dir=folder,
    )
    probability = predict(model.module, model.prepare, test, device=device, class_count=2)

`predict` is in `inference`. Inputs and targets are each a tensor or several by name; what is
made of output and targets is the objective's business (`objectives`), by default cross-entropy.

What promises exactness: the order of samples is a pure function of (seed, epoch), the random
numbers of a step (dropout, stochastic depth) of (seed, step), the learning rate of the step.
So weights, optimiser, the objective's own parameters and position are all a checkpoint needs, and
on a CPU a killed and resumed run ends with the bits of an undisturbed one. A step is an update:
where several batches make one, a checkpoint is written after the last of them, so nothing half
added up is ever kept, and a resumed run begins with the first of them.
"""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from candlemark import progress
from candlemark.errors import DatasetError, ModelError
from candlemark.records import content_id
from candlemark.training import checkpoint
from candlemark.training.batches import (
    Indices,
    MapDataset,
    check_targets,
    class_weight,
    epoch_batches,
    fetched,
    parts_of,
)
from candlemark.training.config import TrainingConfig
from candlemark.training.devices import make_accelerator, own_random_state
from candlemark.training.frozen import FeatureDataset, extract_features, feature_folder, head_of
from candlemark.training.learner import Learner
from candlemark.training.objectives import Classification, Objective
from candlemark.training.optim import adamw
from candlemark.training.position import History, Position, Row
from candlemark.training.tensors import Prepare, Tensors
from candlemark.training.validation import Columns, agreed, validate

LOSS_READ_STEPS = 16
"""On a GPU the loss is read this often: every read makes the host wait for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What training did; the module now holds the weights of `best_epoch`.

    history: one mapping an epoch: epoch, train_loss, validation_loss, the objective's columns
        (by default validation_accuracy), learning_rate (of its last step), duration_s
    best_epoch: 1-based; the last epoch where there is no validation data
    steps: updates of the weights
    duration_s: of all training, the parts before a kill included
    resumed_at_step: 0 for a run that was not interrupted
    """

    history: History
    best_epoch: int
    best_validation_loss: float | None
    stopped_early: bool
    steps: int
    samples_seen: int
    duration_s: float
    resumed_at_step: int
    process_count: int


def fit(
    module: nn.Module,
    prepare: Prepare,
    train_data: MapDataset,
    validation_data: MapDataset | None,
    config: TrainingConfig,
    *,
    class_count: int,
    device: torch.device,
    seed: int,
    objective: Objective | None = None,
    checkpoint_dir: Path | None = None,
) -> FitResult:
    """Train `module` in place and leave it with its best weights, on `device`.

    module: what `prepare` gives, a mapping as keywords -> what the objective reads: logits
        (N, class_count) by default. Mode "frozen" also needs `features` and `head`, as a
        `ClassifierNet` has; `features` may give a mapping, which `head` takes as keywords
    prepare: raw inputs of the data, on `device` -> what the module takes
    validation_data: decides early stopping and the best epoch; None or empty: neither
    objective: trained in place along with the module, and left with its last values, not the
        best epoch's; None: `Classification`, with weights by `config.class_weights`, which
        decides nothing where an objective is given
    checkpoint_dir: where a killed run goes on; None keeps nothing

    Started by `accelerate launch`, every process trains on its share of each batch.

    Raises DatasetError: no data, a target outside the classes, or no known value at all.
    ConfigError: a precision the device does not have. ModelError: the loss is no longer a
    number; the checkpoint is damaged or belongs to another run.
    """
    targets = check_targets(train_data, class_count)
    weight = class_weight(targets, class_count, balanced=config.class_weights)
    accelerator = make_accelerator(config.precision, device)
    if accelerator.num_processes > 1:
        device = accelerator.device
    started = time.perf_counter()
    run = _Run(
        module=module.to(device),
        prepare=prepare,
        train_data=train_data,
        validation_data=validation_data,
        config=config,
        objective=(Classification(weight) if objective is None else objective).to(device),
        targets_hash=_targets_hash(targets, train_data),
        device=device,
        seed=seed,
        accelerator=accelerator,
        file=checkpoint_dir / checkpoint.FILE_NAME if checkpoint_dir else None,
    )
    frozen = config.mode == "frozen"
    place = feature_folder(checkpoint_dir, accelerator.process_index) if frozen else nullcontext()
    with place as folder:
        if folder is not None:
            run.freeze(folder)
        run.position.duration_s = time.perf_counter() - started
        with own_random_state(device):
            return run.train()


def _targets_hash(targets: Indices, data: MapDataset) -> str:
    """What a checkpoint knows its data by: all classes, and all values where there are any."""
    digest = hashlib.sha256(targets.tobytes())
    values = getattr(data, "values", None)
    if values is not None and not callable(values):
        array = np.asarray(values, dtype=np.float64)
        if np.isnan(array).all():
            raise DatasetError(f"none of the {len(array)} training samples has a known value")
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of `fit`."""

    module: nn.Module
    prepare: Prepare
    train_data: MapDataset
    validation_data: MapDataset | None
    config: TrainingConfig
    objective: Objective
    targets_hash: str
    device: torch.device
    seed: int
    accelerator: Any
    file: Path | None
    position: Position = field(default_factory=Position)
    best_state: dict[str, Tensor] | None = None
    scaler_state: dict[str, Any] | None = None
    saved_at: float = field(default_factory=time.monotonic)
    pending: list[Tensor] = field(default_factory=list)

    def freeze(self, folder: Path) -> None:
        """From now on only the head learns, from features kept in memory or in `folder`."""

        def seen(data: MapDataset, name: str) -> FeatureDataset:
            return extract_features(
                self.module,
                self.prepare,
                data,
                device=self.device,
                batch_size=self.config.batch_size,
                path=folder / name,
            )

        self.train_data = seen(self.train_data, "train")
        if self.validation_data is not None and len(self.validation_data):
            self.validation_data = seen(self.validation_data, "validation")
        self.module, self.prepare = head_of(self.module).to(self.device), _as_is

    def train(self) -> FitResult:
        """Go on from the checkpoint, if there is one, to the end."""
        config = self.config
        optimizer = adamw(
            self.module,
            self.objective,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        resumed_at = self._restore(optimizer)
        position = self.position
        prepared = self.accelerator.prepare_optimizer(optimizer)
        several = self.accelerator.num_processes > 1
        module = self.accelerator.prepare_model(self.module) if several else self.module
        if self.accelerator.scaler is not None and self.scaler_state is not None:
            self.accelerator.scaler.load_state_dict(self.scaler_state)
        learner = Learner(
            module=module,
            prepare=self.prepare,
            objective=self.objective,
            optimizer=prepared,
            accelerator=self.accelerator,
            config=config,
            device=self.device,
            seed=self.seed,
            total_steps=config.epochs * len(self._batches(0)),
        )
        total = config.epochs * len(self.train_data)
        with progress.track("training", total=total, unit="samples") as bar:
            bar.advance(position.samples_seen)
            while not position.finished:
                self._one_epoch(learner, bar)
                self._close_epoch(optimizer)
        for name in ("forward", "_original_forward") if several else ():
            vars(self.module).pop(name, None)  # accelerate's patches of a module it prepared
        if self.best_state is not None:
            self.module.load_state_dict(self.best_state)
        self.module.eval()
        return FitResult(
            history=tuple(position.history),
            best_epoch=position.best_epoch,
            best_validation_loss=position.best_loss,
            stopped_early=position.stopped_early,
            steps=position.step,
            samples_seen=position.samples_seen,
            duration_s=position.duration_s,
            resumed_at_step=resumed_at,
            process_count=int(self.accelerator.num_processes),
        )

    def _batches(self, epoch: int) -> list[Indices]:
        """The samples of every update of an epoch."""
        size = self.config.batch_size * self.config.accumulation_steps
        return epoch_batches(len(self.train_data), batch_size=size, seed=self.seed, epoch=epoch)

    def _one_epoch(self, learner: Learner, bar: progress.Bar) -> None:
        """The updates of the current epoch that are not done yet."""
        position = self.position
        learner.module.train()
        remaining = self._batches(position.epoch)[position.batch :]
        updates = [parts_of(indices, self.config.batch_size) for indices in remaining]
        shares = (learner.share(part) for parts in updates for part in parts)
        with closing(fetched(self.train_data, shares, self.device)) as batches:
            for parts in updates:
                started = time.perf_counter()
                self.pending.append(learner.update(batches, parts, step=position.step))
                count = sum(map(len, parts))
                position.learnt(count)
                if self.device.type == "cpu" or len(self.pending) >= LOSS_READ_STEPS:
                    self._read_losses()
                position.spent(time.perf_counter() - started)
                text = f"loss {position.epoch_losses[-1]:.3f}" if position.epoch_losses else ""
                bar.advance(count, text)
                self._save_if_due(learner.optimizer)
        self._read_losses()

    def _read_losses(self) -> None:
        """Bring pending losses to the host; ModelError if one is not a number."""
        if not self.pending:
            return
        losses = torch.stack(self.pending)
        if self.accelerator.num_processes > 1:
            losses = self.accelerator.reduce(losses, reduction="sum")
        values = losses.tolist()
        self.pending.clear()
        position = self.position
        for back, value in enumerate(reversed(values)):
            if not math.isfinite(value):
                raise ModelError(
                    f"the loss became {value} in epoch {position.epoch + 1}, step "
                    f"{position.step - back}, with learning rate {self.config.learning_rate:g} and "
                    f"precision {self.config.precision}; try a lower learning rate, "
                    "gradient clipping or precision fp32"
                )
        position.epoch_losses.extend(values)

    def _close_epoch(self, optimizer: torch.optim.Optimizer) -> None:
        """Validate, keep the best weights, decide whether to go on."""
        position, config = self.position, self.config
        started = time.perf_counter()
        columns = self._validate()
        loss = self.objective.watched(columns)
        position.spent(time.perf_counter() - started)
        sizes = np.asarray(position.epoch_sizes, dtype=np.float64)
        row: Row = {
            "epoch": position.epoch + 1,
            "train_loss": float(np.average(position.epoch_losses, weights=sizes)),
            "validation_loss": loss,
            **{name: value for name, value in columns.items() if name != "validation_loss"},
            **self.objective.state_columns(),
            "learning_rate": float(optimizer.param_groups[0]["lr"]),
            "duration_s": position.epoch_duration_s,
        }
        if position.close_epoch(row, loss, epochs=config.epochs, patience=config.patience):
            self.best_state = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.module.state_dict().items()
            }
        self._save_if_due(optimizer, always=position.finished)

    def _validate(self) -> Columns:
        """The objective's columns, the same in every process; Nones without validation data."""
        data = self.validation_data
        if data is None or len(data) == 0:
            return dict.fromkeys(self.objective.columns)
        columns = validate(
            self.module,
            self.prepare,
            data,
            self.objective,
            device=self.device,
            batch_size=self.config.batch_size * 2,
            precision=self.config.precision,
            epoch=self.position.epoch + 1,
        )
        return agreed(columns, self.accelerator, self.device)

    def _identity(self) -> str:
        """What a checkpoint must have in common with this run to be its own."""
        shapes = {k: list(v.shape) for k, v in self.module.state_dict().items()}
        config = self.config.deciding()
        del config["checkpoint_every_s"]
        return content_id(
            {
                "config": config,
                "seed": self.seed,
                "samples": len(self.train_data),
                "targets": self.targets_hash,
                "validation": len(self.validation_data) if self.validation_data else 0,
                "processes": int(self.accelerator.num_processes),
                "tensors": shapes,
                **self.objective.identity(),
            }
        )

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        """Go to where the checkpoint stands; returns the step, 0 without a checkpoint."""
        state = checkpoint.load(self.file) if self.file is not None else None
        if state is None:
            return 0
        if state["identity"] != self._identity():
            raise ModelError(
                f"checkpoint {self.file} belongs to another run (other config, seed, data or "
                "model); delete it or choose another folder"
            )
        self.module.load_state_dict(state["module"])
        # A checkpoint from before there were objectives has none, and needs none.
        self.objective.load_state_dict(state.get("objective", {}))
        optimizer.load_state_dict(state["optimizer"])
        self.best_state = state["best_state"]
        self.position = Position(**state["position"])
        self.scaler_state = state["scaler"]
        return self.position.step

    def _save_if_due(self, optimizer: Any, *, always: bool = False) -> None:
        """Write a checkpoint if the last one is old enough."""
        due = always or time.monotonic() - self.saved_at >= self.config.checkpoint_every_s
        if self.file is None or not due:
            return
        if self.pending and self.accelerator.num_processes > 1:
            # Reading losses takes every process, and each has a clock of its own: what is due
            # here may not be due there. So wait for the step at which all of them read.
            return
        self._read_losses()
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            checkpoint.save(
                self.file,
                {
                    "identity": self._identity(),
                    "module": self.module.state_dict(),
                    "objective": self.objective.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "best_state": self.best_state,
                    "position": asdict(self.position),
                },
            )
        self.saved_at = time.monotonic()


def _as_is(features: Tensors) -> Tensors:
    return features
