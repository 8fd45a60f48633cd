"""The torch dataset: the same pictures and targets, one by one or a batch at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from candlemark.dataset.lazy import Dataset
from candlemark.dataset.torch_dataset import ChartDataset


@pytest.mark.parametrize("storage", ["none", "hdf5"])
def test_samples_and_batches(make_dataset: Callable[..., Dataset], storage: str) -> None:
    dataset = make_dataset(storage={"format": storage})
    rows = dataset.split("test")
    data = ChartDataset(dataset, rows)
    assert len(data) == len(rows)
    image, target = data[3]
    assert image.dtype == torch.uint8
    assert target.dtype == torch.int64
    np.testing.assert_array_equal(image.numpy(), dataset.images([rows[3]])[0])
    assert int(target) == dataset.targets([rows[3]])[0]
    images, targets = data.batch([5, 1])
    np.testing.assert_array_equal(images.numpy(), dataset.images(rows[[5, 1]]))
    np.testing.assert_array_equal(targets.numpy(), dataset.targets(rows[[5, 1]]))


def test_a_loader_reads_all_in_order(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    rows = dataset.split("validation")
    batches = list(DataLoader(ChartDataset(dataset, rows), batch_size=7))
    np.testing.assert_array_equal(torch.cat([b[0] for b in batches]).numpy(), dataset.images(rows))
    np.testing.assert_array_equal(torch.cat([b[1] for b in batches]).numpy(), dataset.targets(rows))


def test_the_rest_of_the_package_needs_no_torch() -> None:
    script = (
        "import sys, candlemark.dataset.build, candlemark.dataset.audit, candlemark.dataset.sheet\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
