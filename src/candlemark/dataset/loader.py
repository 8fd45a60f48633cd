"""Batches for a training loop, drawn ahead while the loop works.

    train = ChartDataset(dataset, dataset.split("train"))
    loader = ChartLoader(train, batch_size=256, seed=0, device="cuda")
    for epoch in range(10):
        for images, targets in loader:              # uint8 (n, H, W[, 3]), int64 (n,)
            ...
            state = loader.state_dict()             # with this step's weights, in a checkpoint
    loader.load_state_dict(state)                   # goes on with the batch after it

The order is a pure function of (seed, epoch): every sample once an epoch, an exact shuffle,
the same whatever draws it. So an epoch and a number of batches are all there is to remember.
It is held as one permutation, 8 bytes a sample: 8 MB for a million windows. A shuffle without
it (a cipher over the numbers) would spare that and cost more time for each batch.

Threads draw, not processes: the kernels release the interpreter lock, and nothing has to be
sent from one process to another. Small pictures are drawn many batches at once, since calling
costs more than drawing then. What was drawn is handed out in views of large buffers; a buffer
is drawn into again only when the last tensor that looks into it is gone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from math import prod
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from candlemark.candles.series import IntArray
from candlemark.charts.threads import core_count
from candlemark.dataset.buffers import Buffers
from candlemark.dataset.torch_dataset import ChartDataset, Sample
from candlemark.errors import ConfigError, DatasetError

BLOCK_BYTES = 8 << 20
"""Pictures drawn by one call where a batch is smaller: enough to make its cost small."""


Drawn = tuple[torch.Tensor, torch.Tensor, list[int]]
"""Images and targets of some batches, and the size of each."""


class EpochBatches(Sampler[list[int]]):
    """Positions of the batches of one epoch after the other; a torch batch sampler.

    count: samples; batch_size: samples of a batch of this process
    seed, epoch: decide the order; `shuffle` False keeps the samples' own
    drop_last: leave out a last batch that is not full; else a last batch of a single sample
        joins the one before, because batch norm cannot learn from one (batches of one stay so)
    rank, world_size: this process and how many there are. Each takes every world_size-th
        sample of the same order, so shares are disjoint; they are equal because the last
        count % world_size samples of the order are left out, which are others each epoch.

    Iterating gives the batches of the epoch that was set, from the batch that was set, and
    changes neither: a DataLoader asks for batches long before the loop gets them, so only
    the loop knows how many are done.

    Raises ConfigError: no samples, or numbers that make no sense.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        limits = {"batch_size": (batch_size, 1), "world_size": (world_size, 1), "seed": (seed, 0)}
        for name, (value, lowest) in limits.items():
            if value < lowest:
                raise ConfigError(f"{name} is {value}; it must be at least {lowest}")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}; with world_size {world_size}: 0..{world_size - 1}")
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self._share = count // world_size
        if self.per_epoch == 0:
            raise ConfigError(
                f"{count} samples make no batch of {batch_size} for each of {world_size} "
                "processes; take a smaller batch, more samples, or drop_last=False"
            )
        self.epoch, self.first = 0, 0
        self.set_epoch(epoch)

    @property
    def per_epoch(self) -> int:
        """Batches of a whole epoch."""
        if self.drop_last:
            return self._share // self.batch_size
        whole = -(-self._share // self.batch_size)
        alone = self._share - (whole - 1) * self.batch_size == 1
        return whole - 1 if alone and whole > 1 and self.batch_size > 1 else whole

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Go to a batch of an epoch, both counted from 0."""
        if epoch < 0 or not 0 <= first <= self.per_epoch:
            raise ConfigError(
                f"batch {first} of epoch {epoch}: epochs count from 0, batches 0..{self.per_epoch}"
            )
        done = first == self.per_epoch
        self.epoch, self.first = (epoch + 1, 0) if done else (epoch, first)

    def __len__(self) -> int:
        return self.per_epoch - self.first

    def __iter__(self) -> Iterator[list[int]]:
        return (positions.tolist() for positions in self.arrays())

    def arrays(self) -> Iterator[IntArray]:
        """The same batches as int64[n], which are views of the order."""
        order, first = self._order(), self.first
        for number in range(first, self.per_epoch):
            last = number == self.per_epoch - 1 and not self.drop_last
            begin = number * self.batch_size
            yield order[begin : None if last else begin + self.batch_size]

    def _order(self) -> IntArray:
        """int64[share], this process's samples in the order of the epoch."""
        if not self.shuffle:
            order = np.arange(self.count, dtype=np.int64)
        else:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        return order[self.rank :: self.world_size][: self._share]

    def state_dict(self, done: int = 0) -> dict[str, Any]:
        """Where the loop stands that has done `done` of the batches it iterates over.

        All of it is numbers, the same on every process, whatever the dataset's size.
        """
        first = self.first + done
        ended = first == self.per_epoch
        position = {"epoch": self.epoch + ended, "batch": 0 if ended else first}
        return {**self._identity(), **position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` stands; ConfigError if it is of another order of batches."""
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise ConfigError(
                    f"the state has {name} {state.get(name)}, these batches have {own}; resume "
                    "with the settings that it was saved with, or begin anew without it"
                )
        self.set_epoch(state["epoch"], state["batch"])

    def _identity(self) -> dict[str, Any]:
        names = ("count", "batch_size", "seed", "shuffle", "drop_last", "world_size")
        return {name: getattr(self, name) for name in names}


class ChartLoader:
    """Shuffled batches of a ChartDataset, (images, targets) on a device, epoch after epoch.

    device: where batches are handed out; for CUDA they are drawn into pinned memory and
        copied without waiting, on the stream that is current where the loop asks for them
    threads: drawing at the same time, each another part of the epoch; None: one a core
    The rest: see `EpochBatches`.

    Each `for` runs one epoch, or what is left of the one that was resumed, and the next `for`
    the next one. An epoch that is left early is begun again. A batch may be kept as long as
    one likes; it keeps the buffer it lies in, at most `BLOCK_BYTES` or one batch.
    """

    def __init__(
        self,
        data: ChartDataset,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        threads: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads is {threads}; it must be at least 1, or None for all cores")
        self.data = data
        self.batches = EpochBatches(
            len(data),
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        self.device = torch.device(device)
        self.threads = threads or core_count()
        self._shape = data.dataset.image_shape
        self._together = max(1, BLOCK_BYTES // (prod(self._shape) * batch_size))
        # A block that is handed out, one that waits for each thread, one that is being drawn.
        self._buffers = Buffers(keep=2 * self.threads + 1)
        self._done = 0

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to, counted from 0."""
        return int(self.state_dict()["epoch"])

    def __len__(self) -> int:
        """Batches of the next `for`."""
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Let the next `for` begin this epoch."""
        self.batches.set_epoch(epoch)
        self._done = 0

    def state_dict(self) -> dict[str, Any]:
        """The position after the batch handed out last: a few numbers."""
        return self.batches.state_dict(self._done)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next `for` go on there; ConfigError if `state` is of other batches."""
        self.batches.load_state_dict(state)
        self._done = 0

    def __iter__(self) -> Iterator[Sample]:
        if self._done:
            # The last `for` was left: in the middle, or after the last batch.
            ended = self._done == len(self.batches)
            self.batches.set_epoch(self.batches.epoch + ended)
        self._done = 0
        process = os.getpid()
        for batch in self._drawn_ahead():
            self._done += 1
            yield batch
            if os.getpid() != process:
                raise DatasetError(
                    "a ChartLoader was carried into a forked process in the middle of an epoch, "
                    "and its threads do not exist there; begin a new `for` in that process"
                )
        self.batches.set_epoch(self.batches.epoch + 1)
        self._done = 0

    def _drawn_ahead(self) -> Iterator[Sample]:
        """All batches in order, while threads draw what comes after them."""
        waiting: deque[Future[Drawn]] = deque()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="candlemark-load")
        try:
            batches = self.batches.arrays()
            while block := list(islice(batches, self._together)):
                waiting.append(pool.submit(self._draw, block))
                if len(waiting) > self.threads:
                    yield from self._hand_out(waiting.popleft())
            while waiting:
                yield from self._hand_out(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _draw(self, block: list[IntArray]) -> Drawn:
        """Draw some batches at once, on one thread; their sizes tell them apart."""
        positions = block[0] if len(block) == 1 else np.concatenate(block)
        shape = (len(positions), *self._shape)
        if self.device.type == "cuda":
            # Torch keeps pinned memory and knows when a copy from it has ended.
            images = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            _, targets = self.data.batch(positions, out=images.numpy(), threads=1)
            targets = targets.pin_memory()
        else:
            out = self._buffers.take(shape)
            images, targets = self.data.batch(positions, out=out, threads=1)
        return images, targets, [len(part) for part in block]

    def _hand_out(self, drawn: Future[Drawn]) -> Iterator[Sample]:
        images, targets, sizes = drawn.result()
        if self.device.type != "cpu":
            pinned = self.device.type == "cuda"
            images = images.to(self.device, non_blocking=pinned)
            targets = targets.to(self.device, non_blocking=pinned)
        yield from zip(torch.split(images, sizes), torch.split(targets, sizes), strict=True)
