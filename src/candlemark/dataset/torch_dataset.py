"""A torch dataset over rows of a candlemark dataset: candles in memory, pictures on request.

    train = ChartDataset(dataset, dataset.split("train"))
    image, target = train[0]                     # uint8 (H, W[, 3]), int64 ()
    images, targets = train.batch([0, 5, 9])     # uint8 (3, H, W[, 3]), int64 (3,)

With torch's own loader, whole batches and any number of workers:

    batches = EpochBatches(len(train), batch_size=256, seed=0)      # see `loader`
    DataLoader(train, batch_sampler=batches, collate_fn=whole_batch, num_workers=2)

`ChartLoader` in `loader` gives the same batches in the same order without worker processes,
and faster. Training asks for `batch` directly.

A loader asks for whole batches (`__getitems__`), so pictures are drawn a batch at a time. In
a loader's worker one thread draws, for the workers share the cores already; no thread outlives
the call, so a worker may be forked at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from candlemark.candles.series import IntArray
from candlemark.dataset.buffers import Buffers
from candlemark.dataset.lazy import Dataset, Rows
from candlemark.dataset.storage.base import Images
from candlemark.errors import DatasetError

Sample = tuple[torch.Tensor, torch.Tensor]

KEPT_BUFFERS = 2
"""Batches whose memory is kept for the next: what a loop holds, and what is drawn meanwhile."""


class ChartDataset(TorchDataset[Sample]):
    """Pictures and targets of `rows`, in the order of `rows`.

    targets: int64[N], to take the place of the dataset's own (shuffled ones, for a control)

    Targets are held in memory, pictures are drawn or read when asked for. Pictures are uint8
    as they are stored; scaling and moving channels is the model's business.
    """

    def __init__(self, dataset: Dataset, rows: Rows, targets: IntArray | None = None) -> None:
        self.dataset = dataset
        self.rows = np.asarray(rows, dtype=np.int64)
        own = dataset.targets(self.rows) if targets is None else targets
        if len(own) != len(self.rows):
            raise DatasetError(f"{len(own)} targets for {len(self.rows)} rows; give one each")
        self.targets = torch.from_numpy(own.copy())
        self._buffers = Buffers(keep=KEPT_BUFFERS)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Sample:
        images, targets = self.batch([position])
        return images[0], targets[0]

    def __getitems__(self, positions: Sequence[int]) -> WholeBatch:
        """The samples of one batch, drawn together."""
        return WholeBatch(*self.batch(positions))

    def batch(
        self,
        positions: Sequence[int] | npt.NDArray[Any],
        *,
        out: Images | None = None,
        threads: int | None = None,
    ) -> Sample:
        """uint8 (n, H, W[, 3]) and int64 (n,): a whole batch without putting it together.

        It depends on nothing but `positions`, and may be called from several threads at once.

        out: a C-contiguous array to draw into, which the images then share
        threads: to draw with; None takes one in a loader's worker, else what the batch is worth
        """
        chosen = np.asarray(positions, dtype=np.int64)
        if threads is None and get_worker_info() is not None:
            threads = 1
        if out is None:
            out = self._buffers.take((len(chosen), *self.dataset.image_shape))
        self.dataset.images(self.rows[chosen], out=out, threads=threads)
        # NumPy picks a few numbers several times faster than torch.
        return torch.from_numpy(out), torch.from_numpy(self.targets.numpy()[chosen])


class WholeBatch(Sequence[Sample]):
    """A batch that was drawn together, as the sequence of samples that loaders expect.

    Torch's default collate takes it apart and stacks a copy; `whole_batch` does not.
    """

    def __init__(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        self.images = images
        self.targets = targets

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Sample]:
        return zip(self.images.unbind(), self.targets.unbind(), strict=True)

    @overload
    def __getitem__(self, position: int) -> Sample: ...

    @overload
    def __getitem__(self, position: slice) -> WholeBatch: ...

    def __getitem__(self, position: int | slice) -> Sample | WholeBatch:
        if isinstance(position, slice):
            return WholeBatch(self.images[position], self.targets[position])
        return self.images[position], self.targets[position]


def whole_batch(batch: Sequence[Sample]) -> Sample:
    """(images, targets) as they were drawn: the `collate_fn` that copies nothing.

    Samples that were not drawn together, as a wrapped dataset may give them, are stacked.
    """
    if isinstance(batch, WholeBatch):
        return batch.images, batch.targets
    images, targets = zip(*batch, strict=True)
    return torch.stack(images), torch.stack(targets)
