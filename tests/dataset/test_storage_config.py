"""What a storage config says, what it refuses, and which of them mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from candlemark.config import parse
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.storage.base import StorageConfig
from candlemark.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "batch"}, "storage 'none' keeps no pictures, so mode batch means nothing"),
        ({"quality": 90}, "storage 'none' keeps no pictures, so quality 90 means nothing"),
        (
            {"format": "png", "mode": "batch"},
            "format 'png', which is always 'single'; formats with mode 'batch': hdf5, npz, zarr",
        ),
        (
            {"format": "hdf5", "mode": "single"},
            r"format 'hdf5', which is always 'batch'; formats with mode 'single': npz, png, jpeg",
        ),
        (
            {"format": "hdf5", "images_per_file": 10},
            r"which keeps all pictures in one file; leave it out; formats that have it: npz, zarr",
        ),
        ({"format": "png", "images_per_file": 10}, "which keeps one a file; leave it out"),
        ({"format": "npz", "images_per_file": 0}, "greater than or equal to 1"),
        (
            {"format": "npz", "mode": "single", "images_per_file": 2},
            "mode 'single' is one picture a file, and images_per_file is 2; leave one of them out",
        ),
        (
            {"format": "png", "packing": "bits"},
            "packing 'bits' does not go with format 'png'; .* a format of: hdf5, npz, zarr",
        ),
        (
            {"format": "hdf5", "quality": 90},
            "quality 90 does not go with format 'hdf5'; leave it out; formats that have it: jpeg",
        ),
        ({"format": "jpeg", "quality": 101}, "less than or equal to 100"),
        ({"format": "tiff"}, "'none', 'hdf5', 'npz', 'zarr', 'png' or 'jpeg'"),
        ({"format": "npz", "images_per_fle": 3}, "did you mean 'images_per_file'"),
    ],
)
def test_storages_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(StorageConfig, changes)


def test_bits_of_pictures_with_colours_are_refused_before_anything_is_loaded(
    tmp_path: Path,
) -> None:
    storage = {"format": "hdf5", "packing": "bits"}
    candles = {"kind": "random_walk", "count": 700}
    values = {"candles": candles, "window": 10, "storage": storage, "style": "candlestick"}
    config = parse(DatasetConfig, values)
    with pytest.raises(ConfigError, match=r"packing 'bits' is for pictures of two levels .* jkx"):
        build_dataset(config, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"format": "hdf5"}, {"format": "hdf5", "mode": "batch"}, True),
        ({"format": "hdf5"}, {"format": "hdf5", "packing": "bits"}, True),
        ({"format": "hdf5"}, {"format": "hdf5", "packing": "none"}, False),
        ({"format": "npz"}, {"format": "npz", "packing": "none"}, True),
        ({"format": "npz"}, {"format": "npz", "packing": "bits"}, False),
        ({"format": "npz"}, {"format": "npz", "mode": "single"}, False),
        ({"format": "npz"}, {"format": "npz", "images_per_file": 7}, False),
        (
            {"format": "npz", "mode": "single"},
            {"format": "npz", "mode": "single", "images_per_file": 1},
            True,
        ),
        ({"format": "jpeg"}, {"format": "jpeg", "quality": 95}, True),
        ({"format": "jpeg"}, {"format": "jpeg", "quality": 90}, False),
        ({"format": "png"}, {"format": "jpeg"}, False),
    ],
)
def test_storages_that_mean_the_same_are_the_same(
    one: dict[str, Any], two: dict[str, Any], same: bool
) -> None:
    assert (StorageConfig(**one).identity() == StorageConfig(**two).identity()) == same
