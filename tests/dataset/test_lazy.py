"""Opened datasets: pictures, numbers, blocks, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.candles.series import CandleSeries
from candlemark.charts.render import render
from candlemark.dataset.drawing import Painter
from candlemark.dataset.lazy import Dataset, load_images, open_dataset
from candlemark.errors import ConfigError, DatasetError

EXPERIMENTS: list[dict[str, Any]] = [
    {"style": "jkx"},
    {"style": {"kind": "candlestick", "height": 40, "width": 60}},
    {"style": {"kind": "ohlc4", "height": 50}, "experiment": "irregular"},
    {"style": {"kind": "candlestick", "height": 64}, "experiment": "fullimage"},
]


@pytest.mark.parametrize("changes", EXPERIMENTS)
def test_stored_pictures_equal_drawn_ones_bit_for_bit(
    make_dataset: Callable[..., Dataset], changes: dict[str, Any]
) -> None:
    lazy = make_dataset("lazy", **changes)
    stored = make_dataset("stored", storage={"format": "hdf5"}, **changes)
    rows = np.random.default_rng(0).permutation(len(lazy))[:90]
    np.testing.assert_array_equal(stored.images(rows), lazy.images(rows))
    assert lazy.images(rows).shape == (90, *lazy.image_shape)
    assert len(np.unique(lazy.images(rows))) > 1


def test_pictures_are_the_ones_that_render_draws(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    series = make_series(200)
    dataset = make_dataset(series=[series])
    everything = render(series, dataset.config.style, window=10)
    np.testing.assert_array_equal(
        dataset.images(np.arange(len(dataset))), everything[dataset.index.start_slot]
    )


def test_splits_are_in_time_order_and_cover_all_rows(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    parts = [dataset.split(name) for name in ("train", "validation", "test")]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(len(dataset)))
    assert (np.diff(dataset.window_start_ms(parts[0])) > 0).all()
    assert dataset.split_names == ("train", "validation", "test")
    with pytest.raises(ConfigError, match="unknown split 'dev'; known: train, validation, test"):
        dataset.split("dev")


def test_symbols_share_boundaries_by_calendar_time(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    late = make_series(300, symbol="LATE", seed=2).between(1_704_067_200_000 + 100 * 3_600_000)
    dataset = make_dataset(series=[make_series(300, symbol="EARLY"), late])
    assert set(dataset.symbols(np.arange(len(dataset)))) == {"EARLY", "LATE"}
    for a, b in (("train", "validation"), ("validation", "test")):
        ends = dataset.index.reach_end_ms[dataset.split(a)].max()
        assert ends <= dataset.window_start_ms(dataset.split(b)).min()


def test_features_show_what_the_picture_shows(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    series = make_series(200, missing=[50])
    dataset = make_dataset(series=[series])
    rows = np.arange(len(dataset))
    features = dataset.features(rows)
    assert features.dtype == np.float32
    assert features.shape == (len(dataset), 10, 5)
    np.testing.assert_allclose(np.nanmin(features[..., 2], axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanmax(features[..., 1], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.nanmax(features[..., 4], axis=1), 1, atol=1e-6)
    holed = np.flatnonzero(dataset.index.start_slot == 45)
    assert np.isnan(features[holed, 5]).all()
    assert not np.isnan(features[holed, 4]).any()
    raw = dataset.sequences(holed)[0]
    assert raw[0, 3] == series.slots.close[45]


def test_flat_windows_have_features(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    columns = make_series(200).to_numpy()
    flat = {name: np.full(200, 7.0) for name in ("open", "high", "low", "close")}
    series = CandleSeries.from_numpy(
        {**columns, **flat, "volume": np.zeros(200)}, symbol="FLAT", interval="1h"
    )
    dataset = make_dataset(series=[series])
    features = dataset.features([0])
    assert (features[..., :4] == 0.5).all()
    assert (features[..., 4] == 0).all()


def test_hidden_candles_are_not_in_the_numbers(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(experiment="irregular", missing_share=0.6)
    rows = np.arange(len(dataset))
    visible = dataset.visible(rows)
    assert (visible.sum(axis=1) == 4).all()
    np.testing.assert_array_equal(np.isnan(dataset.features(rows)).all(axis=2), ~visible)


def test_block_length_covers_window_and_horizon(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    label = {"name": "forward_return", "horizon": 4}
    dense = make_dataset("a", label=label)
    assert dense.block_length(dense.split("test")) == 10 + 4
    strided = make_dataset("b", label=label, stride=5)
    assert strided.block_length(strided.split("test")) == 3
    sparse = make_dataset("c", label=label, max_samples=12)
    assert sparse.block_length(sparse.split("test")) == 1
    two = [make_series(300, symbol=name, seed=n) for n, name in enumerate("AB")]
    both = make_dataset("d", label=label, series=two)
    assert both.block_length(both.split("test")) == 2 * 14
    assert dense.block_length([]) == 1


def test_values_and_targets_agree(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(label={"name": "next_close"})
    rows = dataset.split("test")
    np.testing.assert_array_equal(dataset.targets(rows), dataset.values(rows) > 0)


@pytest.mark.parametrize("storage", ["none", "hdf5"])
def test_a_pickled_dataset_gives_the_same_pictures(
    make_dataset: Callable[..., Dataset], storage: str
) -> None:
    dataset = make_dataset(storage={"format": storage})
    before = dataset.images([3, 1, 3])
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(copy.images([3, 1, 3]), before)


@pytest.mark.parametrize("indices", [slice(0, 7), [5, 2, 2], np.array([0]), None])
def test_load_images(make_dataset: Callable[..., Dataset], indices: Any) -> None:
    dataset = make_dataset(storage={"format": "hdf5"})
    loaded = load_images(dataset.path, indices)
    rows = np.arange(len(dataset))[slice(None) if indices is None else indices]
    drawn = Painter(dataset.config, dataset.series).draw(dataset.index.take(rows))
    np.testing.assert_array_equal(loaded.images, drawn)
    assert loaded.sequences.shape == (len(rows), 10, 5)
    assert loaded.metadata["target"] == dataset.targets(rows).tolist()
    assert all(len(column) == len(rows) for column in loaded.metadata.values())
    json.dumps(loaded.metadata, allow_nan=False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([-1], "rows run from -1 to -1; this dataset has rows 0 to"),
        ([10**6], "this dataset has rows 0 to"),
        ([0.5], "they must be whole numbers"),
        ([[1, 2]], r"shape \(1, 2\)"),
    ],
)
def test_rows_that_do_not_exist(
    make_dataset: Callable[..., Dataset], rows: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_dataset().images(rows)


def test_no_rows_give_no_pictures(make_dataset: Callable[..., Dataset]) -> None:
    for number, storage in enumerate(("none", "hdf5")):
        dataset = make_dataset(str(number), storage={"format": storage})
        assert dataset.images([]).shape == (0, *dataset.image_shape)
        assert dataset.features([]).shape == (0, 10, 5)


def test_no_dataset_there(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no dataset at .*nowhere; build one with: candlemark dataset build --o"
    ):
        open_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "written by a newer candlemark; .* pip install --upgrade"),
        ({"format_version": 0}, "written by an older candlemark; .* build the dataset again"),
        ({"format_version": "x"}, "damaged .*format_version is 'x'"),
        ({"format": "zip"}, "is damaged .*does not say that it is a candlemark dataset"),
        ({"counts": 3}, "is damaged .*counts = 3"),
        ({"files": {}}, "lists no candles.parquet"),
    ],
)
def test_manifests_of_other_versions_and_damaged_ones(
    make_dataset: Callable[..., Dataset], change: dict[str, Any], message: str
) -> None:
    path = make_dataset().path / "manifest.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8"
    )
    with pytest.raises(DatasetError, match=message):
        open_dataset(path.parent)


def test_a_cut_manifest_is_damaged(make_dataset: Callable[..., Dataset]) -> None:
    path = make_dataset().path / "manifest.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(
        DatasetError, match=r"is damaged .*; delete its folder and build the dataset again"
    ):
        open_dataset(path.parent)


@pytest.mark.parametrize("name", ["candles.parquet", "index.parquet"])
def test_a_flipped_byte_is_caught_on_opening(
    make_dataset: Callable[..., Dataset], name: str
) -> None:
    path = make_dataset().path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=rf"is damaged: {name} has SHA-256 .* dataset audit"):
        open_dataset(path.parent)


def test_a_missing_picture_file(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(storage={"format": "hdf5"})
    (dataset.path / "images.h5").unlink()
    with pytest.raises(
        DatasetError, match=r"images.h5 cannot be read .*; delete its folder and build"
    ):
        open_dataset(dataset.path).images([0])
