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
from collections.abc import Iterator
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
    Batch,
    Indices,
    MapDataset,
    check_targets,
    class_weight,
    epoch_batches,
    fetched,
    parts_of,
)
from candlemark.training.config import TrainingConfig
from candlemark.training.devices import autocast, make_accelerator, own_random_state
from candlemark.training.frozen import FeatureDataset, extract_features, feature_folder, head_of
from candlemark.training.objectives import Classification, Objective
from candlemark.training.optim import adamw, learning_rate_factor, set_learning_rate
from candlemark.training.tensors import Prepare, Tensors, call
from candlemark.training.validation import Columns, agreed, validate

History = tuple[dict[str, float | int | None], ...]

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


@dataclass(slots=True)
class _Position:
    """Where training stands: everything of a checkpoint but the tensors.

    batch: updates of this epoch that are done; step: of all epochs
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    epoch_losses: list[float] = field(default_factory=list)
    epoch_sizes: list[int] = field(default_factory=list)
    epoch_duration_s: float = 0.0
    duration_s: float = 0.0
    samples_seen: int = 0
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float | None = None
    finished: bool = False
    stopped_early: bool = False


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
    position: _Position = field(default_factory=_Position)
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
        count = len(self.train_data)
        total_steps = config.epochs * len(self._batches(0))
        with progress.track("training", total=config.epochs * count, unit="samples") as bar:
            bar.advance(position.samples_seen)
            while not position.finished:
                self._one_epoch(module, prepared, total_steps, bar)
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

    def _one_epoch(
        self, module: nn.Module, optimizer: Any, total_steps: int, bar: progress.Bar
    ) -> None:
        """The updates of the current epoch that are not done yet."""
        position, config = self.position, self.config
        module.train()
        updates = [
            parts_of(indices, config.batch_size)
            for indices in self._batches(position.epoch)[position.batch :]
        ]
        shares = (self._share(part) for parts in updates for part in parts)
        with closing(fetched(self.train_data, shares, self.device)) as batches:
            for parts in updates:
                started = time.perf_counter()
                factor = learning_rate_factor(
                    position.step,
                    total_steps=total_steps,
                    warmup_share=config.warmup_share,
                    schedule=config.schedule,
                )
                set_learning_rate(optimizer, config.learning_rate, factor)
                self.pending.append(self._update(module, optimizer, batches, parts))
                count = sum(map(len, parts))
                position.epoch_sizes.append(count)
                position.batch += 1
                position.step += 1
                position.samples_seen += count
                if self.device.type == "cpu" or len(self.pending) >= LOSS_READ_STEPS:
                    self._read_losses()
                duration = time.perf_counter() - started
                position.epoch_duration_s += duration
                position.duration_s += duration
                text = f"loss {position.epoch_losses[-1]:.3f}" if position.epoch_losses else ""
                bar.advance(count, text)
                self._save_if_due(optimizer)
        self._read_losses()

    def _share(self, indices: Indices) -> Indices:
        """What this process learns of a batch, or one sample where nothing is left for it."""
        share = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        return share if len(share) else indices[:1]

    def _update(
        self, module: nn.Module, optimizer: Any, batches: Iterator[Batch], parts: list[Indices]
    ) -> Tensor:
        """One update; returns the loss of this process's share, detached, on the device.

        parts: the samples of each batch of this update, over all processes
        """
        accelerator, config = self.accelerator, self.config
        process, several = accelerator.process_index, accelerator.num_processes > 1
        whole = sum(map(len, parts))
        optimizer.zero_grad()
        total: Tensor | None = None
        for number, part in enumerate(parts):
            # Dropout and the like: a pure function of (seed, step, process, part).
            torch.manual_seed(_step_seed(self.seed, self.position.step, process, number))
            last = number == len(parts) - 1
            # Processes exchange gradients once an update, with its last batch.
            with nullcontext() if last or not several else accelerator.no_sync(module):
                # A process left without a sample still takes part, with one that weighs nothing.
                present = 1.0 if process < len(part) else 0.0
                loss = present * self._losses(module, next(batches)).sum() / whole
                accelerator.backward(loss * accelerator.num_processes)
            total = loss.detach() if total is None else total + loss.detach()
        if several:
            for parameter in self.objective.parameters():
                parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
        if config.gradient_clip is not None:
            accelerator.clip_grad_norm_(module.parameters(), config.gradient_clip)
        optimizer.step()
        if total is None:
            raise ModelError("an update without a batch")
        return total

    def _losses(self, module: nn.Module, batch: Batch) -> Tensor:
        """What each sample of the batch adds to the loss.

        The update divides their sum by all of its samples, over batches and processes: then the
        sum of the gradients of several batches, and the mean that several processes take of
        theirs, are the gradient of one process with one batch.
        """
        inputs, targets = batch
        with autocast(self.device, self.config.precision):
            output = call(module, self.prepare(inputs))
        return self.objective.losses(output, targets)

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
        elapsed = time.perf_counter() - started
        position.duration_s += elapsed
        position.epoch_duration_s += elapsed
        sizes = np.asarray(position.epoch_sizes, dtype=np.float64)
        position.history.append(
            {
                "epoch": position.epoch + 1,
                "train_loss": float(np.average(position.epoch_losses, weights=sizes)),
                "validation_loss": loss,
                **{name: value for name, value in columns.items() if name != "validation_loss"},
                **self.objective.state_columns(),
                "learning_rate": float(optimizer.param_groups[0]["lr"]),
                "duration_s": position.epoch_duration_s,
            }
        )
        position.epoch += 1
        position.batch = 0
        position.epoch_losses.clear()
        position.epoch_sizes.clear()
        position.epoch_duration_s = 0.0
        if loss is None:
            position.best_epoch = position.epoch
        elif position.best_loss is None or loss < position.best_loss:
            position.best_loss, position.best_epoch = loss, position.epoch
            self.best_state = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.module.state_dict().items()
            }
        waited = position.epoch - position.best_epoch
        position.stopped_early = (
            config.patience is not None
            and waited >= config.patience
            and position.epoch < config.epochs
        )
        position.finished = position.stopped_early or position.epoch >= config.epochs
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
        self.position = _Position(**state["position"])
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


def _step_seed(seed: int, step: int, process: int, part: int) -> int:
    """Of the first part it is that of a step with one part only."""
    place = (seed, step, process, part) if part else (seed, step, process)
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
