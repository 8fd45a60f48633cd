"""A class for every pixel: the loss by hand, silence where nothing is said, bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from candlemark.errors import DatasetError, ModelError
from candlemark.training import frozen
from candlemark.training.dense import IGNORED, PixelClasses, keep_features


def targets(labels: Tensor) -> dict[str, Tensor]:
    """As `fetch` hands them over: all but the class in float32."""
    return {"target": torch.zeros(len(labels), dtype=torch.int64), "labels": labels.float()}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_without_dice_it_is_the_mean_cross_entropy_of_the_pixels() -> None:
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 1, 0, 1] = float(np.log(3))  # the second pixel: one quarter, three quarters
    labels = torch.tensor([[[0, 1]]])
    loss = PixelClasses(2, dice=0.0).losses(logits, targets(labels))
    assert loss.tolist() == pytest.approx([(np.log(2) - np.log(0.75)) / 2])


def test_dice_of_probabilities_by_hand() -> None:
    """Half everywhere, one of four pixels is the class: overlap 0.5 of sizes 2 and 1."""
    labels = torch.tensor([[[1, 0], [0, 0]]])
    with_dice = PixelClasses(2, dice=1.0).losses(torch.zeros(1, 2, 2, 2), targets(labels))
    dice = 1 - (2 * 0.5 + 1) / (2 + 1 + 1)
    assert with_dice.tolist() == pytest.approx([np.log(2) + dice])


def test_a_class_that_is_in_no_slice_adds_no_dice() -> None:
    logits, labels = noise(2, 3, 4, 4), torch.zeros(2, 4, 4)
    alone = PixelClasses(3, dice=0.0).losses(logits, targets(labels))
    assert torch.equal(PixelClasses(3).losses(logits, targets(labels)), alone)


def test_a_rare_class_counts_by_its_weight() -> None:
    labels = torch.tensor([[[1, 0]]])
    weight = torch.tensor([1.0, 3.0])
    loss = PixelClasses(2, dice=0.0, weight=weight).losses(torch.zeros(1, 2, 1, 2), targets(labels))
    assert loss.tolist() == pytest.approx([2 * np.log(2)])


@given(st.integers(0, 1000))
def test_pixels_about_which_nothing_is_said_teach_nothing(seed: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (2, 4, 4)))
    labels[:, :, 2:] = IGNORED
    logits = noise(2, 3, 4, 4, seed=seed).requires_grad_()
    objective = PixelClasses(3)
    objective.losses(logits, targets(labels)).sum().backward()
    assert logits.grad is not None
    assert not logits.grad[..., 2:].any()
    assert logits.grad[..., :2].any()
    elsewhere = logits.detach().clone()
    elsewhere[..., 2:] = 100 * noise(2, 3, 4, 2)
    before, after = (
        objective.measure(one, targets(labels)) for one in (logits.detach(), elsewhere)
    )
    assert before == after


def test_validation_counts_dice_over_all_pixels_that_are_not_background() -> None:
    labels = torch.tensor([[[0, 1, 2, 2]], [[0, 0, 0, 0]]])
    answer = torch.tensor([[[0, 1, 1, 2]], [[0, 0, 0, 2]]])
    logits = torch.nn.functional.one_hot(answer, 3).permute(0, 3, 1, 2).float()
    found = PixelClasses(3).measure(logits, targets(labels))
    assert found["validation_dice"] == (4.0, 7.0)  # 2 right of 4 answered and 3 there
    assert found["validation_loss"][1] == 8


def test_coarse_logits_are_enlarged_to_the_labels() -> None:
    labels = torch.zeros(1, 8, 8)
    labels[..., 4:] = 1
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, :, 1], logits[0, 0, :, 0] = 50.0, 50.0
    found = PixelClasses(2).measure(logits, targets(labels))
    assert found["validation_dice"] == (64.0, 64.0)


def test_other_outputs_and_targets_are_refused() -> None:
    objective = PixelClasses(2)
    with pytest.raises(ModelError, match=r"logits \(1, 3, 2, 2\); allowed: \(n, 2, h, w\)"):
        objective.losses(torch.zeros(1, 3, 2, 2), targets(torch.zeros(1, 2, 2)))
    with pytest.raises(ModelError, match=r'targets \{"target", "labels"\}'):
        objective.losses(torch.zeros(1, 2, 2, 2), torch.zeros(1))


def parts(count: int) -> list[tuple[dict[str, Tensor], Tensor]]:
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (count, 6, 6))).byte()
    labels[0] = 0
    labels[1, 0, 0] = IGNORED
    maps = {"map0": noise(count, 4, 3, 3), "map1": noise(count, 5, 2, 2, seed=1)}
    cuts = [slice(start, start + 2) for start in range(0, count, 2)]
    return [({name: one[cut] for name, one in maps.items()}, labels[cut]) for cut in cuts]


@pytest.mark.parametrize("bytes_in_memory", [1 << 30, 0])
def test_slices_come_back_as_they_went_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_in_memory: int
) -> None:
    monkeypatch.setattr(frozen, "IN_MEMORY_BYTES", bytes_in_memory)
    given_parts = parts(5)
    data = keep_features(given_parts, count=5, path=tmp_path / "train")
    assert bool(list(tmp_path.iterdir())) == (bytes_in_memory == 0)
    assert len(data) == 5
    assert data.targets[0] == 0
    assert data.targets.max() == 2
    features, found = data.batch(np.array([3, 0]))
    assert isinstance(features, dict)
    assert isinstance(found, dict)
    assert torch.equal(features["map0"][1], given_parts[0][0]["map0"][0])
    assert torch.equal(features["map1"][0], given_parts[1][0]["map1"][1])
    assert torch.equal(found["labels"][0], given_parts[1][1][1])
    one, label = data[3]
    assert torch.equal(one["map0"], features["map0"][0])  # type: ignore[call-overload, index]
    assert torch.equal(label["labels"], found["labels"][0])  # type: ignore[call-overload, index]


def test_other_labels_have_another_digest_and_a_missing_slice_is_found_out(tmp_path: Path) -> None:
    first = keep_features(parts(4), count=4, path=tmp_path / "a")
    changed = parts(4)
    changed[1][1][0, 0, 0] = 1 - changed[1][1][0, 0, 0].clamp(max=1)
    second = keep_features(changed, count=4, path=tmp_path / "b")
    assert first.digest != second.digest
    assert PixelClasses(3, data={"labels": first.digest}).identity()["labels"] == first.digest
    with pytest.raises(DatasetError, match="3 slices with labels, and 4 were announced"):
        keep_features(parts(3), count=4, path=tmp_path / "c")


@pytest.mark.parametrize("bytes_in_memory", [1 << 30, 0])
def test_a_part_is_those_slices_in_that_order_and_a_part_of_a_part_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_in_memory: int
) -> None:
    monkeypatch.setattr(frozen, "IN_MEMORY_BYTES", bytes_in_memory)
    data = keep_features(parts(6), count=6, path=tmp_path / "train")
    some = data.part(np.array([5, 1, 2]))
    one = some.part(np.array([2, 0]))
    assert (len(some), len(one)) == (3, 2)
    assert some.targets.tolist() == data.targets[[5, 1, 2]].tolist()
    for found, rows in ((some.batch(np.arange(3)), [5, 1, 2]), (one.batch(np.arange(2)), [2, 5])):
        for mine, whole in zip(found, data.batch(np.array(rows)), strict=True):
            assert isinstance(mine, dict)
            assert isinstance(whole, dict)
            assert all(torch.equal(mine[name], whole[name]) for name in whole)
    digests = {data.digest, some.digest, one.digest, data.part(np.array([1, 5, 2])).digest}
    assert len(digests) == 4
    assert data.part(np.array([5, 1, 2])).digest == some.digest
