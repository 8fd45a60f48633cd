"""The order of samples, and reading a batch from any dataset."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from candlemark.errors import DatasetError
from candlemark.training.batches import (
    all_targets,
    check_targets,
    class_weight,
    epoch_batches,
    fetch,
    fetched,
    ordered_batches,
    parts_of,
)


@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_holds_every_sample_once_in_an_order_of_its_own(
    count: int, size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(count, batch_size=size, seed=seed, epoch=epoch)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(count))
    again = epoch_batches(count, batch_size=size, seed=seed, epoch=epoch)
    assert order.tolist() == np.concatenate(again).tolist()
    if count > 20:
        other = np.concatenate(epoch_batches(count, batch_size=size, seed=seed, epoch=epoch + 1))
        assert order.tolist() != other.tolist()
    if size > 1 and count > 1:
        assert min(len(batch) for batch in batches) > 1


def test_ordered_batches_keep_the_order() -> None:
    assert [b.tolist() for b in ordered_batches(5, 2)] == [[0, 1], [2, 3], [4]]


class Plain:
    """Items one by one, and a count of how often it was asked."""

    def __init__(self, count: int = 6) -> None:
        self.images = torch.arange(count * 4, dtype=torch.uint8).view(count, 2, 2)
        self.classes = torch.arange(count) % 2
        self.calls = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.calls += 1
        return self.images[index], int(self.classes[index])


class AsList(Plain):
    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        self.calls += 1
        return [(self.images[i], int(self.classes[i])) for i in indices]


class AsTensors(Plain):
    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        return self.images[indices], self.classes[indices]


class Whole(Plain):
    """Answers with whole batches, and remembers who asked for which."""

    def __init__(self, count: int = 6) -> None:
        super().__init__(count)
        self.asked: list[tuple[list[int], str]] = []

    def batch(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        self.asked.append((indices.tolist(), threading.current_thread().name))
        if 5 in indices:
            raise DatasetError("picture 5 is damaged")
        return self.images[indices], self.classes[indices]


@pytest.mark.parametrize("kind", [Plain, AsList, AsTensors, Whole])
def test_every_kind_of_dataset_gives_the_same_batch(kind: type[Plain]) -> None:
    data = kind()
    images, targets = fetch(data, np.array([4, 1, 3]))
    assert torch.equal(images, data.images[[4, 1, 3]])
    assert targets.tolist() == [0, 1, 1]
    assert targets.dtype == torch.int64
    assert data.calls == (3 if kind is Plain else 1)


CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [Plain, AsTensors, Whole])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_come_in_their_order(kind: type[Plain], size: int) -> None:
    data = kind()
    seen = list(fetched(data, ordered_batches(5, size), CPU))
    assert torch.equal(torch.cat([images for images, _ in seen]), data.images[:5])
    assert torch.cat([targets for _, targets in seen]).tolist() == data.classes[:5].tolist()
    assert list(fetched(data, [], CPU)) == []


def test_one_batch_is_fetched_ahead_by_a_thread() -> None:
    data = Whole()
    batches = fetched(data, ordered_batches(5, 1), CPU)
    next(batches)
    next(batches)
    batches.close()
    assert [indices for indices, _ in data.asked] == [[0], [1], [2]]
    assert all(name.startswith("candlemark-fetch") for _, name in data.asked)
    assert not any(thread.name.startswith("candlemark-fetch") for thread in threading.enumerate())


def test_data_that_may_roll_dice_are_asked_when_needed() -> None:
    data = AsTensors()
    batches = fetched(data, ordered_batches(6, 2), CPU)
    next(batches)
    assert data.calls == 1


def test_a_fault_comes_in_its_place() -> None:
    batches = fetched(Whole(), ordered_batches(6, 2), CPU)
    assert [targets.tolist() for _, targets in islice(batches, 2)] == [[0, 1], [0, 1]]
    with pytest.raises(DatasetError, match="picture 5 is damaged"):
        next(batches)


def test_for_cuda_batches_are_pinned_and_copied_without_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The path of a GPU where there is none: its calls are watched, not made."""
    pinned: list[torch.dtype] = []

    def pin(self: torch.Tensor) -> torch.Tensor:
        pinned.append(self.dtype)
        return self

    def to(self: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        assert device.type == "cuda"
        assert non_blocking
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", to)
    data = Whole()
    seen = list(fetched(data, ordered_batches(4, 4), torch.device("cuda")))
    assert torch.equal(seen[0][0], data.images[:4])
    assert pinned == [torch.uint8, torch.int64]


def test_a_batch_of_two_is_not_mistaken_for_a_pair() -> None:
    images, targets = fetch(AsList(), np.array([0, 1]))
    assert images.shape == (2, 2, 2)
    assert targets.tolist() == [0, 1]


def test_a_dataset_that_gives_too_little_is_named() -> None:
    class Short(AsTensors):
        def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
            return super().__getitems__(indices[:-1])

    with pytest.raises(DatasetError, match="asked for 3 samples, got images"):
        fetch(Short(), np.array([0, 1, 2]))


class Named:
    """Inputs and targets by name, one by one."""

    def __init__(self, **targets: object) -> None:
        self.more = targets

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[dict[str, object], dict[str, object]]:
        inputs = {"image": torch.full((2, 2), index, dtype=torch.uint8), "ids": np.arange(3)}
        return inputs, {"target": np.int32(index % 2), "value": np.float64(index / 4), **self.more}


class NamedWhole(Named):
    """The same as whole batches."""

    def batch(self, indices: np.ndarray) -> tuple[dict[str, object], dict[str, object]]:
        samples = [self[int(index)] for index in indices]
        return tuple(  # type: ignore[return-value]
            {name: np.stack([np.asarray(pair[side][name]) for pair in samples]) for name in first}
            for side, first in enumerate(samples[0])
        )


@pytest.mark.parametrize("kind", [Named, NamedWhole])
def test_inputs_and_targets_may_have_names(kind: type[Named]) -> None:
    batches = fetched(kind(), [np.array([3, 0]), np.array([5])], CPU)
    inputs, targets = next(batches)
    assert isinstance(inputs, dict)
    assert isinstance(targets, dict)
    assert inputs["image"][:, 0, 0].tolist() == [3, 0]
    assert inputs["image"].dtype == torch.uint8
    assert inputs["ids"].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert targets["target"].tolist() == [1, 0]
    assert targets["value"].tolist() == [0.75, 0.0]
    assert (targets["target"].dtype, targets["value"].dtype) == (torch.int64, torch.float32)
    assert len(list(batches)) == 1
    assert all_targets(kind(), batch_size=4).tolist() == [0, 1, 0, 1, 0, 1]


def test_targets_by_name_need_a_class_and_a_row_a_sample() -> None:
    class Wrong(Named):
        def __init__(self, inputs: object, targets: object) -> None:
            super().__init__()
            self.items = inputs, targets

        def batch(self, indices: np.ndarray) -> tuple[object, object]:
            return self.items

    ids, target = torch.zeros(2, 3), {"target": torch.zeros(2)}
    with pytest.raises(
        DatasetError, match=r"targets by name are \['value'\]; one must be 'target'"
    ):
        fetch(Wrong({"ids": ids}, {"value": torch.zeros(2)}), np.array([0, 1]))
    for inputs, targets in (
        ({"ids": ids[:1]}, target),
        ({"ids": ids, "mask": ids[:1]}, target),
        ({}, target),
        ({"ids": ids}, {"target": torch.zeros(2, 1)}),
        ({"ids": ids}, {**target, "value": torch.tensor(0.0)}),
    ):
        with pytest.raises(DatasetError, match=r"asked for 2 samples, got inputs .* and targets"):
            fetch(Wrong(inputs, targets), np.array([0, 1]))


@given(st.integers(2, 200), st.integers(1, 16), st.integers(1, 5))
def test_the_parts_of_an_update_are_the_samples_of_one_large_batch(
    count: int, size: int, steps: int
) -> None:
    for batch in epoch_batches(count, batch_size=size * steps, seed=0, epoch=1):
        parts = parts_of(batch, size)
        assert np.concatenate(parts).tolist() == batch.tolist()
        assert max(map(len, parts)) <= size + 1
        assert len(parts) <= steps + (size == 1)
        if size > 1 and len(batch) > 1:
            assert min(map(len, parts)) > 1


def test_targets_are_taken_without_images_where_the_data_has_them() -> None:
    data = Plain()
    assert all_targets(data).tolist() == [0, 1, 0, 1, 0, 1]
    assert data.calls == 6
    data.targets = np.array([1, 1])  # type: ignore[attr-defined]
    assert all_targets(data).tolist() == [1, 1]
    assert data.calls == 6


def test_targets_outside_the_classes_and_too_few_samples_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"target is 1; allowed: 0\.\.0"):
        check_targets(Plain(), 1)
    with pytest.raises(DatasetError, match="1 training samples"):
        check_targets(Plain(1), 2)


def test_class_weights_balance_and_average_to_one() -> None:
    targets = np.array([0, 0, 0, 1])
    weight = class_weight(targets, 3, balanced=True)
    assert weight.tolist() == pytest.approx([4 / 6, 2.0, 0.0])
    assert float(weight[targets].mean()) == pytest.approx(1)
    assert class_weight(targets, 3, balanced=False).tolist() == [1, 1, 1]
