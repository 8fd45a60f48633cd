"""A torch dataset over rows of a candlemark dataset; the only module here that needs torch.

    train = ChartDataset(dataset, dataset.split("train"))
    image, target = train[0]                     # uint8 (H, W[, 3]), int64 ()
    images, targets = train.batch([0, 5, 9])     # uint8 (3, H, W[, 3]), int64 (3,)
    loader = DataLoader(train, batch_size=64, shuffle=True)

A loader asks for whole batches (`__getitems__`), so pictures are drawn a batch at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from candlemark.candles.series import IntArray
from candlemark.dataset.lazy import Dataset, Rows
from candlemark.errors import DatasetError

Sample = tuple[torch.Tensor, torch.Tensor]


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

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Sample:
        images, targets = self.batch([position])
        return images[0], targets[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Sample]:
        """The samples of one batch, as views of pictures drawn together."""
        images, targets = self.batch(positions)
        return list(zip(images, targets, strict=True))

    def batch(self, positions: Sequence[int]) -> Sample:
        """uint8 (n, H, W[, 3]) and int64 (n,): a whole batch without putting it together."""
        chosen = np.asarray(positions, dtype=np.int64)
        images = torch.from_numpy(self.dataset.images(self.rows[chosen]))
        return images, self.targets[torch.from_numpy(chosen)]
