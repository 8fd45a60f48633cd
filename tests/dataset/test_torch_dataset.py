"""The torch dataset: the same pictures and targets, one by one or a batch at a time."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from candlemark.dataset.lazy import Dataset
from candlemark.dataset.loader import EpochBatches
from candlemark.dataset.torch_dataset import ChartDataset, WholeBatch, whole_batch
from candlemark.errors import DatasetError


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
    out = np.empty((2, *dataset.image_shape), dtype=np.uint8)
    drawn, _ = data.batch([5, 1], out=out)
    assert drawn.data_ptr() == out.ctypes.data
    assert torch.equal(drawn, images)


def test_a_batch_that_is_held_is_not_drawn_over(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    data = ChartDataset(dataset, np.arange(len(dataset)))
    parts = np.array_split(np.arange(len(dataset)), 20)
    held = [data.batch(part)[0][1:] for part in parts]
    for images, part in zip(held, parts, strict=True):
        np.testing.assert_array_equal(images.numpy(), dataset.images(part[1:]))
    dropped = {data.batch(part)[0].data_ptr() for part in parts}
    assert len(dropped) < 4


def test_a_whole_batch_is_a_sequence_of_samples(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    data = ChartDataset(dataset, dataset.split("train"))
    batch = data.__getitems__([4, 2, 7])
    assert isinstance(batch, WholeBatch)
    assert len(batch) == 3
    for sample, position in zip(batch, [4, 2, 7], strict=True):
        for seen, true in zip(sample, data[position], strict=True):
            assert torch.equal(seen, true)
    assert torch.equal(batch[-1][0], data[7][0])
    assert torch.equal(batch[1:].images, batch.images[1:])
    images, targets = whole_batch(batch)
    assert images is batch.images
    assert targets is batch.targets
    for stacked, whole in zip(whole_batch(list(batch)), (images, targets), strict=True):
        assert torch.equal(stacked, whole)


def test_a_loader_reads_all_in_order(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    rows = dataset.split("validation")
    for collate in (None, whole_batch):
        batches = list(DataLoader(ChartDataset(dataset, rows), batch_size=7, collate_fn=collate))
        images, targets = (torch.cat([batch[n] for batch in batches]) for n in (0, 1))
        np.testing.assert_array_equal(images.numpy(), dataset.images(rows))
        np.testing.assert_array_equal(targets.numpy(), dataset.targets(rows))


def in_workers(data: ChartDataset, workers: int, context: str | None = None) -> list[torch.Tensor]:
    loader = DataLoader(
        data,
        batch_sampler=EpochBatches(len(data), batch_size=48, seed=3, epoch=1),
        collate_fn=whole_batch,
        num_workers=workers,
        multiprocessing_context=context,
    )
    # Taken apart at once: what a worker sent lies in files that stay open while it is held.
    return [tensor.clone() for batch in loader for tensor in batch]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than some machines have
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_batches(
    make_dataset: Callable[..., Dataset], workers: int
) -> None:
    dataset = make_dataset()
    data = ChartDataset(dataset, dataset.split("train"))
    dataset.images([0])
    alone, shared = in_workers(data, 0), in_workers(data, workers, "fork")
    assert len(alone) == len(shared) == 2 * 6
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    data = ChartDataset(dataset, dataset.split("train"))
    alone, spawned = in_workers(data, 0), in_workers(data, 2, "spawn")
    assert all(torch.equal(a, b) for a, b in zip(alone, spawned, strict=True))


def test_a_worker_draws_with_one_thread(
    make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset()
    data = ChartDataset(dataset, dataset.split("train"))
    asked: list[int | None] = []
    draw = Dataset.images

    def images(self: Dataset, rows: np.ndarray, **options: object) -> np.ndarray:
        asked.append(options["threads"])  # type: ignore[arg-type]
        return draw(self, rows, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Dataset, "images", images)
    data.batch([1])
    monkeypatch.setattr("candlemark.dataset.torch_dataset.get_worker_info", object)
    data.batch([1])
    data.batch([1], threads=3)
    assert asked == [None, 1, 3]


def test_a_pickled_dataset_gives_the_same(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    data = ChartDataset(dataset, dataset.split("test"))
    again = pickle.loads(pickle.dumps(data))  # noqa: S301  # its own
    for seen, true in zip(again.batch([3, 1]), data.batch([3, 1]), strict=True):
        assert torch.equal(seen, true)


def test_several_threads_may_draw_at_once(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    data = ChartDataset(dataset, np.arange(len(dataset)))
    parts = np.array_split(np.random.default_rng(0).permutation(len(dataset)), 8)
    found: dict[int, torch.Tensor] = {}

    def work(number: int) -> None:
        found[number] = data.batch(parts[number])[0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(found[number].numpy(), dataset.images(part))


def test_targets_can_be_replaced_one_for_each_row(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    rows = dataset.split("test")
    assert ChartDataset(dataset, rows, np.ones(len(rows), np.int64)).targets.all()
    with pytest.raises(DatasetError, match=r"1 targets for \d+ rows; give one each"):
        ChartDataset(dataset, rows, np.ones(1, np.int64))


def test_the_rest_of_the_package_needs_no_torch() -> None:
    script = (
        "import sys, candlemark.dataset.build, candlemark.dataset.audit, candlemark.dataset.sheet\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
