"""The loader: an exact shuffle, whatever draws it, wherever it goes on; and memory lent once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.dataset import loader as module
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.loader import ChartLoader, EpochBatches
from candlemark.dataset.torch_dataset import ChartDataset
from candlemark.errors import ConfigError, DatasetError
from candlemark.training.batches import epoch_batches

COUNTS = st.integers(1, 300)
SIZES = st.integers(1, 64)


@pytest.fixture
def data(make_dataset: Callable[..., Dataset]) -> ChartDataset:
    dataset = make_dataset()
    return ChartDataset(dataset, dataset.split("train"))


@pytest.fixture(params=[1, 4 << 20], ids=["one batch", "many batches"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With blocks of one batch each, and of many."""
    monkeypatch.setattr(module, "BLOCK_BYTES", request.param)


# --- The order ---------------------------------------------------------------------------


@given(COUNTS, SIZES, st.integers(0, 5), st.integers(0, 5))
@settings(deadline=None)
def test_the_order_is_the_one_of_training(count: int, size: int, seed: int, epoch: int) -> None:
    ours = list(EpochBatches(count, batch_size=size, seed=seed, epoch=epoch))
    theirs = epoch_batches(count, batch_size=size, seed=seed, epoch=epoch)
    assert ours == [batch.tolist() for batch in theirs]


def test_batches_of_one_stay_batches_of_one() -> None:
    assert [len(batch) for batch in EpochBatches(5, batch_size=1)] == [1] * 5


@given(COUNTS, SIZES, st.integers(1, 4), st.booleans(), st.booleans())
@settings(deadline=None)
def test_ranks_share_an_epoch_and_nothing_twice(
    count: int, size: int, world_size: int, drop_last: bool, shuffle: bool
) -> None:
    options: dict[str, Any] = {
        "batch_size": size,
        "world_size": world_size,
        "drop_last": drop_last,
    }
    if count // world_size < (size if drop_last else 1):
        with pytest.raises(ConfigError, match="make no batch of"):
            EpochBatches(count, **options)
        return
    ranks = [
        EpochBatches(count, rank=rank, shuffle=shuffle, **options) for rank in range(world_size)
    ]
    shares = [[position for batch in rank for position in batch] for rank in ranks]
    assert len({len(share) for share in shares}) == 1
    together = [position for share in shares for position in share]
    assert len(set(together)) == len(together)
    batches = [len(batch) for batch in ranks[0]]
    assert len(batches) == len(ranks[0])
    if drop_last:
        assert set(batches) == {size}
        assert sum(batches) == count // world_size // size * size
    else:
        assert len(together) == count - count % world_size
        assert min(batches) > 1 or size == 1 or len(batches) == 1
    if not shuffle:
        assert shares[0] == sorted(shares[0])


def test_left_out_samples_differ_from_epoch_to_epoch() -> None:
    batches = EpochBatches(101, batch_size=10, world_size=3)
    seen = set()
    for epoch in range(6):
        batches.set_epoch(epoch)
        order = np.random.default_rng((0, epoch)).permutation(101)
        seen.add(tuple(sorted(order[99:].tolist())))
        assert set(next(iter(batches))) <= set(order[:99].tolist())
    assert len(seen) > 1


@given(COUNTS, SIZES, st.integers(0, 3), st.data())
@settings(deadline=None)
def test_going_on_gives_the_batches_that_were_left(
    count: int, size: int, epoch: int, data: st.DataObject
) -> None:
    batches = EpochBatches(count, batch_size=size, seed=1, epoch=epoch)
    everything = list(batches)
    done = data.draw(st.integers(0, len(everything)))
    state = json.loads(json.dumps(batches.state_dict(done)))
    resumed = EpochBatches(count, batch_size=size, seed=1)
    resumed.load_state_dict(state)
    if done == len(everything):
        assert (resumed.epoch, resumed.first) == (epoch + 1, 0)
    else:
        assert len(resumed) == len(everything) - done
        assert list(resumed) == everything[done:]
        assert resumed.state_dict() == state


def test_numbers_that_make_no_sense_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 2, "seed": -1}, "seed is -1; it must be at least 0"),
        ({"batch_size": 2, "world_size": 0}, "world_size is 0"),
        ({"batch_size": 2, "rank": 2, "world_size": 2}, r"rank is 2; with world_size 2: 0\.\.1"),
        ({"batch_size": 11, "drop_last": True}, "10 samples make no batch of 11"),
        ({"batch_size": 2, "epoch": -1}, "batch 0 of epoch -1: epochs count from 0"),
    ]
    for options, message in wrong:
        with pytest.raises(ConfigError, match=message):
            EpochBatches(10, **options)
    with pytest.raises(ConfigError, match=r"batch 6 of epoch 0: .* batches 0\.\.5"):
        EpochBatches(10, batch_size=2).set_epoch(0, 6)


def test_a_state_of_other_batches_is_refused() -> None:
    state = EpochBatches(10, batch_size=2, seed=4).state_dict(3)
    assert state["batch"] == 3
    with pytest.raises(ConfigError, match="the state has seed 4, these batches have 5; resume"):
        EpochBatches(10, batch_size=2, seed=5).load_state_dict(state)
    with pytest.raises(ConfigError, match="the state has count 10, these batches have 11"):
        EpochBatches(11, batch_size=2, seed=4).load_state_dict(state)


# --- The loader --------------------------------------------------------------------------


def expected(data: ChartDataset, **options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [data.batch(positions) for positions in EpochBatches(len(data), **options)]


def equal(
    seen: Iterator[tuple[torch.Tensor, torch.Tensor]] | ChartLoader,
    true: list[tuple[torch.Tensor, torch.Tensor]],
) -> bool:
    """Batch by batch, all held until the end, so that one drawn over would be found."""
    held = list(seen)
    return len(held) == len(true) and all(
        torch.equal(images, wanted) and torch.equal(targets, classes)
        for (images, targets), (wanted, classes) in zip(held, true, strict=True)
    )


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("threads", [1, 3])
def test_it_gives_every_epoch_in_its_order(data: ChartDataset, threads: int) -> None:
    loader = ChartLoader(data, batch_size=23, seed=2, threads=threads)
    for epoch in range(3):
        assert loader.epoch == epoch
        assert len(loader) == len(expected(data, batch_size=23))
        assert equal(loader, expected(data, batch_size=23, seed=2, epoch=epoch))
    loader.set_epoch(1)
    assert equal(loader, expected(data, batch_size=23, seed=2, epoch=1))


def test_stored_pictures_and_other_options_go_through(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(storage={"format": "hdf5"})
    data = ChartDataset(dataset, dataset.split("train"))
    options: dict[str, Any] = {"batch_size": 20, "shuffle": False, "drop_last": True}
    for rank in range(2):
        share = {**options, "rank": rank, "world_size": 2}
        assert equal(ChartLoader(data, **share), expected(data, **share))


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("done", [1, 4, 12])
def test_a_loop_that_was_killed_goes_on_with_the_next_batch(data: ChartDataset, done: int) -> None:
    true = expected(data, batch_size=23) + expected(data, batch_size=23, epoch=1)
    loader = ChartLoader(data, batch_size=23, threads=2)
    for _ in islice(loader, done):
        state = json.loads(json.dumps(loader.state_dict()))
    resumed = ChartLoader(data, batch_size=23, threads=1)
    resumed.load_state_dict(state)
    assert len(true) == 2 * 12
    # The rest of the first epoch, and the second.
    assert equal(iter([*resumed, *(resumed if done < 12 else [])]), true[done:])


def test_an_epoch_that_is_left_early_is_begun_again(data: ChartDataset) -> None:
    loader = ChartLoader(data, batch_size=23)
    next(iter(loader))
    assert loader.state_dict()["batch"] == 1
    assert equal(loader, expected(data, batch_size=23))


def test_a_loop_left_after_the_last_batch_has_had_the_epoch(data: ChartDataset) -> None:
    loader = ChartLoader(data, batch_size=23)
    kept = list(islice(loader, len(loader)))
    assert len(kept) == 12
    assert (loader.epoch, loader.state_dict()["batch"]) == (1, 0)
    assert equal(loader, expected(data, batch_size=23, epoch=1))


def test_a_fault_while_drawing_reaches_the_loop_in_its_place(
    data: ChartDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    fatal = next(islice(iter(EpochBatches(len(data), batch_size=23)), 3, None))
    draw = ChartDataset.batch

    def batch(self: ChartDataset, positions: np.ndarray, **options: Any) -> Any:
        if positions.tolist() == fatal:
            raise DatasetError("chunk 7 is damaged")
        return draw(self, positions, **options)

    monkeypatch.setattr(ChartDataset, "batch", batch)
    batches = iter(ChartLoader(data, batch_size=23, threads=2))
    assert [len(images) for images, _ in islice(batches, 3)] == [23, 23, 23]
    with pytest.raises(DatasetError, match="chunk 7 is damaged"):
        next(batches)


def test_a_fork_in_the_middle_of_an_epoch_is_told(
    data: ChartDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = ChartLoader(data, batch_size=23)
    batches = iter(loader)
    next(batches)
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(DatasetError, match=r"carried into a forked process .* begin a new `for`"):
        next(batches)
    monkeypatch.undo()
    assert equal(loader, expected(data, batch_size=23))


def test_threads_below_one_are_refused(data: ChartDataset) -> None:
    with pytest.raises(ConfigError, match="threads is 0; it must be at least 1, or None"):
        ChartLoader(data, batch_size=2, threads=0)


def test_batches_come_on_the_device(data: ChartDataset) -> None:
    sizes = []
    for images, targets in ChartLoader(data, batch_size=50, device="meta"):
        assert images.device.type == targets.device.type == "meta"
        sizes.append(len(images))
    assert sum(sizes) == len(data)


def test_for_cuda_memory_is_pinned_and_copied_without_waiting(
    data: ChartDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a GPU where there is none: its two calls are watched, not made."""
    empty, to = torch.empty, torch.Tensor.to
    asked: list[str] = []

    def pinned_empty(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        if pin_memory:
            asked.append("pinned images")
        return empty(*shape, **options)

    def watched(self: torch.Tensor, device: Any, **options: Any) -> torch.Tensor:
        assert device == torch.device("cuda")
        assert options == {"non_blocking": True}
        asked.append(f"copy {self.dtype}")
        return to(self, "cpu")

    def pin(self: torch.Tensor) -> torch.Tensor:
        asked.append("pinned targets")
        return self

    monkeypatch.setattr(torch, "empty", pinned_empty)
    monkeypatch.setattr(torch.Tensor, "to", watched)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    loader = ChartLoader(data, batch_size=300, device="cuda", threads=1)
    assert equal(loader, expected(data, batch_size=300))
    assert asked == ["pinned images", "pinned targets", "copy torch.uint8", "copy torch.int64"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_batches_on_a_gpu_are_those_on_the_cpu(data: ChartDataset) -> None:
    seen = [(i.cpu(), t.cpu()) for i, t in ChartLoader(data, batch_size=23, device="cuda")]
    assert equal(iter(seen), expected(data, batch_size=23))


# --- Memory ------------------------------------------------------------------------------


def test_a_loop_that_keeps_nothing_needs_few_buffers(
    data: ChartDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    loader = ChartLoader(data, batch_size=10, threads=2)
    addresses = [images.data_ptr() for _ in range(3) for images, _ in loader]
    assert len(addresses) == 3 * len(loader)
    assert len(set(addresses)) <= 2 * loader.threads + 2
    assert all(a != b for a, b in pairwise(addresses))
