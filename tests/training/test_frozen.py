"""Rows of features, in memory or in files, of one length or of many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ModelError
from candlemark.training.frozen import FeatureDataset, FeatureStore, feature_folder


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_rows_come_back_as_they_were_with_zeros_behind(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, int]]
) -> None:
    count = sum(rows for rows, _ in batches)
    longest = max(length for _, length in batches)
    expected = torch.zeros(count, longest, 2)
    folder = tmp_path_factory.mktemp("rows")
    stores = [FeatureStore(count, None), FeatureStore(count, folder / "rows.npy")]
    start = 0
    for rows, length in batches:
        batch = torch.rand(rows, length, 2)
        expected[start : start + rows, :length] = batch
        start += rows
        for store in stores:
            store.append(batch)
    order = np.random.default_rng(0).permutation(count)
    for store in stores:
        assert torch.equal(store.read(order), expected[order])
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("other", [torch.zeros(2, 3, 1), torch.zeros(2), torch.zeros(2, 3).int()])
def test_rows_of_another_kind_are_refused(other: torch.Tensor) -> None:
    store = FeatureStore(4, None)
    store.append(torch.zeros(2, 3))
    with pytest.raises(
        ModelError, match=r"features of one batch are .*, of another float32 \(3,\)"
    ):
        store.append(other)


def test_what_is_read_is_ones_own() -> None:
    store = FeatureStore(2, None)
    store.append(torch.zeros(2, 3))
    store.read(np.array([0])).fill_(1)
    assert not store.read(np.array([0])).any()


def test_a_dataset_of_features_gives_samples_and_batches() -> None:
    stores = {name: FeatureStore(3, None) for name in ("text", "image")}
    for store in stores.values():
        store.append(torch.arange(6.0).view(3, 2))
    data = FeatureDataset(stores, {"target": torch.tensor([0, 1, 2])})
    assert len(data) == 3
    features, targets = data[1]
    assert isinstance(features, dict)
    assert isinstance(targets, dict)
    assert features["text"].tolist() == [2.0, 3.0]
    assert targets["target"].item() == 1
    batch, _ = data.batch(np.array([2, 0]))
    assert isinstance(batch, dict)
    assert batch["image"].tolist() == [[4.0, 5.0], [0.0, 1.0]]


def test_a_folder_of_features_is_gone_whatever_happens(tmp_path: Path) -> None:
    def fail(beside: Path | None) -> Path:
        with feature_folder(beside, 1) as folder:
            folder.mkdir(exist_ok=True)
            (folder / "x").touch()
            seen.append(folder)
            raise RuntimeError

    seen: list[Path] = []
    for beside in (tmp_path, None):
        with pytest.raises(RuntimeError):
            fail(beside)
    assert seen[0] == tmp_path / "features-1"
    assert not any(folder.exists() for folder in seen)
