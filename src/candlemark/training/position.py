"""Where training stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Row: TypeAlias = dict[str, float | int | None]
History: TypeAlias = tuple[Row, ...]


@dataclass(slots=True)
class Position:
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
    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float | None = None
    finished: bool = False
    stopped_early: bool = False

    def learnt(self, samples: int) -> None:
        """One more update, from `samples` samples."""
        self.epoch_sizes.append(samples)
        self.batch += 1
        self.step += 1
        self.samples_seen += samples

    def spent(self, duration_s: float) -> None:
        """Time that belongs to this epoch."""
        self.epoch_duration_s += duration_s
        self.duration_s += duration_s

    def close_epoch(
        self, row: Row, loss: float | None, *, epochs: int, patience: int | None
    ) -> bool:
        """Note the epoch and decide whether to go on; True if it is the best so far.

        row: of the history; loss: what is watched, None where nothing is
        """
        self.history.append(row)
        self.epoch += 1
        self.batch = 0
        self.epoch_losses.clear()
        self.epoch_sizes.clear()
        self.epoch_duration_s = 0.0
        better = loss is not None and (self.best_loss is None or loss < self.best_loss)
        if better:
            self.best_loss = loss
        if better or loss is None:
            self.best_epoch = self.epoch
        waited = self.epoch - self.best_epoch
        self.stopped_early = patience is not None and waited >= patience and self.epoch < epochs
        self.finished = self.stopped_early or self.epoch >= epochs
        return better
