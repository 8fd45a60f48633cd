"""The learning loop: any classifier, any torch dataset, exact resume.

    result = fit(
        model.module, model.prepare, train, validation, TrainingConfig(epochs=3),
        class_count=2, device=torch.device("cpu"), seed=0, checkpoint_dir=folder,
    )
    probability = predict(model.module, model.prepare, test, device=device, class_count=2)

What promises exactness: the order of samples is a pure function of (seed, epoch), the random
numbers of a step (dropout, stochastic depth) of (seed, step), the learning rate of the step.
So weights, optimiser and position are all a checkpoint needs, and on a CPU a killed and
resumed run ends with the bits of an undisturbed one.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from candlemark import progress
from candlemark.errors import ModelError
from candlemark.records import content_id
from candlemark.training import checkpoint
from candlemark.training.batches import (
    MapDataset,
    check_targets,
    class_weight,
    epoch_batches,
    fetched,
    ordered_batches,
)
from candlemark.training.config import TrainingConfig
from candlemark.training.devices import autocast, make_accelerator, own_random_state
from candlemark.training.frozen import FeatureDataset, extract_features, head_of
from candlemark.training.optim import adamw, learning_rate_factor, set_learning_rate

Prepare = Callable[[Tensor], Tensor]
History = tuple[dict[str, float | int | None], ...]

LOSS_READ_STEPS = 16
"""On a GPU the loss is read this often: every read makes the host wait for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What training did; the module now holds the weights of `best_epoch`.

    history: one mapping an epoch: epoch, train_loss, validation_loss, validation_accuracy,
        learning_rate (of its last step), duration_s
    best_epoch: 1-based; the last epoch where there is no validation data
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
    """Where training stands: everything of a checkpoint but the tensors."""

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
    checkpoint_dir: Path | None = None,
) -> FitResult:
    """Train `module` in place and leave it with its best weights, on `device`.

    module: float (N, 3, H, W) -> logits (N, class_count); mode "frozen" also needs
        `features` and `head`, as a `ClassifierNet` has
    prepare: raw images of the data, on `device` -> what the module takes
    validation_data: decides early stopping and the best epoch; None or empty: neither
    checkpoint_dir: where a killed run goes on; None keeps nothing

    Started by `accelerate launch`, every process trains on its share of each batch.

    Raises DatasetError: no data, or a target outside the classes. ConfigError: a precision
    the device does not have. ModelError: the loss is no longer a number; the checkpoint is
    damaged or belongs to another run.
    """
    targets = check_targets(train_data, class_count)
    accelerator = make_accelerator(config.precision, device)
    if accelerator.num_processes > 1:
        device = accelerator.device
    started = time.perf_counter()
    if config.mode == "frozen":
        size = config.batch_size
        train_features = extract_features(
            module, prepare, train_data, device=device, batch_size=size
        )
        validation_features: FeatureDataset | None = None
        if validation_data is not None and len(validation_data):
            validation_features = extract_features(
                module, prepare, validation_data, device=device, batch_size=size
            )
        module, prepare = head_of(module), _as_is
        train_data, validation_data = train_features, validation_features
    run = _Run(
        module=module.to(device),
        prepare=prepare,
        train_data=train_data,
        validation_data=validation_data,
        config=config,
        weight=class_weight(targets, class_count, balanced=config.class_weights).to(device),
        targets_hash=hashlib.sha256(targets.tobytes()).hexdigest(),
        device=device,
        seed=seed,
        accelerator=accelerator,
        file=checkpoint_dir / checkpoint.FILE_NAME if checkpoint_dir else None,
        position=_Position(duration_s=time.perf_counter() - started),
    )
    with own_random_state(device):
        return run.train()


def predict(
    module: nn.Module,
    prepare: Prepare,
    data: MapDataset,
    *,
    device: torch.device,
    class_count: int,
    batch_size: int = 64,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
) -> npt.NDArray[np.float64]:
    """Class probabilities float64[N, C] in the data's order; rows sum to 1.

    Raises ModelError: the module gave a number of classes other than `class_count`, or
    logits that are not numbers.
    """
    parts = [np.empty((0, class_count))]
    module.to(device).eval()
    with (
        torch.inference_mode(),
        progress.track("predicting", total=len(data)) as bar,
        closing(fetched(data, ordered_batches(len(data), batch_size), device)) as batches,
    ):
        for images, _ in batches:
            with autocast(device, precision):
                logits = module(prepare(images))
            # float64 only after the move: some devices have none.
            probability = logits.float().cpu().double().softmax(dim=1).numpy()
            if probability.shape[1] != class_count or not np.isfinite(probability).all():
                raise ModelError(
                    f"the model gave logits of shape {tuple(logits.shape)} for {class_count} "
                    "classes, or logits that are not numbers"
                )
            parts.append(probability)
            bar.advance(len(images))
    return np.concatenate(parts)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of `fit`."""

    module: nn.Module
    prepare: Prepare
    train_data: MapDataset
    validation_data: MapDataset | None
    config: TrainingConfig
    weight: Tensor
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

    def train(self) -> FitResult:
        """Go on from the checkpoint, if there is one, to the end."""
        config = self.config
        optimizer = adamw(
            self.module, learning_rate=config.learning_rate, weight_decay=config.weight_decay
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

    def _batches(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        return epoch_batches(
            len(self.train_data), batch_size=self.config.batch_size, seed=self.seed, epoch=epoch
        )

    def _one_epoch(
        self, module: nn.Module, optimizer: Any, total_steps: int, bar: progress.Bar
    ) -> None:
        """The batches of the current epoch that are not done yet."""
        position, config = self.position, self.config
        module.train()
        remaining = self._batches(position.epoch)[position.batch :]
        shares = map(self._share, remaining)
        with closing(fetched(self.train_data, shares, self.device)) as batches:
            for indices in remaining:
                started = time.perf_counter()
                rate = config.learning_rate * learning_rate_factor(
                    position.step, total_steps=total_steps, warmup_share=config.warmup_share
                )
                set_learning_rate(optimizer, rate)
                # Dropout and the like: a pure function of (seed, step, process).
                process = self.accelerator.process_index
                torch.manual_seed(_step_seed(self.seed, position.step, process))
                images, targets = next(batches)
                loss = self._step(module, optimizer, images, targets, len(indices))
                self.pending.append(loss)
                position.epoch_sizes.append(len(indices))
                position.batch += 1
                position.step += 1
                position.samples_seen += len(indices)
                if self.device.type == "cpu" or len(self.pending) >= LOSS_READ_STEPS:
                    self._read_losses()
                duration = time.perf_counter() - started
                position.epoch_duration_s += duration
                position.duration_s += duration
                text = f"loss {position.epoch_losses[-1]:.3f}" if position.epoch_losses else ""
                bar.advance(len(indices), text)
                self._save_if_due(optimizer)
        self._read_losses()

    def _share(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """What this process learns of a batch, or one sample where nothing is left for it."""
        share = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        return share if len(share) else indices[:1]

    def _step(
        self, module: nn.Module, optimizer: Any, images: Tensor, targets: Tensor, whole: int
    ) -> Tensor:
        """One update; returns the loss of this process's share, detached, on the device.

        whole: samples of the batch over all processes
        """
        accelerator, config = self.accelerator, self.config
        # A process left without a sample still takes part, with one that weighs nothing.
        present = 1.0 if accelerator.process_index < whole else 0.0
        with autocast(self.device, config.precision):
            logits = module(self.prepare(images))
        losses = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        # Divided by the whole batch, not by the share: then the mean that several processes
        # take of their gradients is the gradient of one process with the whole batch.
        loss = present * (losses * self.weight[targets]).sum() / whole
        optimizer.zero_grad()
        accelerator.backward(loss * accelerator.num_processes)
        if config.gradient_clip is not None:
            accelerator.clip_grad_norm_(module.parameters(), config.gradient_clip)
        optimizer.step()
        return loss.detach()

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
        loss, accuracy = self._validate()
        elapsed = time.perf_counter() - started
        position.duration_s += elapsed
        position.epoch_duration_s += elapsed
        sizes = np.asarray(position.epoch_sizes, dtype=np.float64)
        position.history.append(
            {
                "epoch": position.epoch + 1,
                "train_loss": float(np.average(position.epoch_losses, weights=sizes)),
                "validation_loss": loss,
                "validation_accuracy": accuracy,
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

    def _validate(self) -> tuple[float | None, float | None]:
        """(class-weighted loss, accuracy) on the validation data; Nones where there is none."""
        data = self.validation_data
        if data is None or len(data) == 0:
            return None, None
        self.module.eval()
        loss_sum = weight_sum = correct = 0.0
        order = ordered_batches(len(data), self.config.batch_size * 2)
        with torch.inference_mode(), closing(fetched(data, order, self.device)) as batches:
            for images, targets in batches:
                with autocast(self.device, self.config.precision):
                    logits = self.module(self.prepare(images)).float()
                losses = nn.functional.cross_entropy(logits, targets, reduction="none")
                weights = self.weight[targets]
                loss_sum += float((losses * weights).sum())
                weight_sum += float(weights.sum())
                correct += int((logits.argmax(dim=1) == targets).sum())
        # A class never seen in training has no weight; alone it leaves nothing to average.
        if weight_sum == 0:
            return None, correct / len(data)
        if not math.isfinite(loss_sum):
            raise ModelError(
                f"the validation loss became {loss_sum} after epoch {self.position.epoch + 1}; "
                "try a lower learning rate or precision fp32"
            )
        loss, accuracy = loss_sum / weight_sum, correct / len(data)
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            # Every process validates alone; the first one's figures decide for all.
            loss, accuracy = broadcast(torch.tensor([loss, accuracy], device=self.device)).tolist()
        return loss, accuracy

    def _identity(self) -> str:
        """What a checkpoint must have in common with this run to be its own."""
        shapes = {k: list(v.shape) for k, v in self.module.state_dict().items()}
        return content_id(
            {
                "config": self.config.model_dump(mode="json", exclude={"checkpoint_every_s"}),
                "seed": self.seed,
                "samples": len(self.train_data),
                "targets": self.targets_hash,
                "validation": len(self.validation_data) if self.validation_data else 0,
                "weight": self.weight.cpu().tolist(),
                "processes": int(self.accelerator.num_processes),
                "tensors": shapes,
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
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    "best_state": self.best_state,
                    "position": asdict(self.position),
                },
            )
        self.saved_at = time.monotonic()


def _as_is(features: Tensor) -> Tensor:
    return features


def _step_seed(seed: int, step: int, process: int) -> int:
    return int(np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)[0] >> 1)
