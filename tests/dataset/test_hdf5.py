"""The HDF5 store: what goes in comes out, readable by others, and damage is named."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.charts import threads
from candlemark.charts.packed import pack
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.dataset.storage import hdf5
from candlemark.dataset.storage.base import Levels, StorageConfig, open_reader, open_writer
from candlemark.errors import DatasetError

LIGHT: Levels = (255, 0)


def pictures(count: int, shape: tuple[int, ...], levels: Levels | None, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    if levels is None:
        return random.integers(0, 256, (count, *shape), dtype=np.uint8)
    return np.array(levels, np.uint8)[random.integers(0, 2, (count, *shape))]


def store(
    folder: Path,
    images: Any,
    levels: Levels | None,
    *,
    config: StorageConfig | None = None,
    parts: int | None = None,
) -> StorageConfig:
    """Write pictures; `parts` stops before the end, without finishing."""
    config = config or StorageConfig(format="hdf5")
    shape = images.shape[1:]
    writer = open_writer(config, folder, count=len(images), shape=shape, levels=levels)
    stored = pack(images, levels[1]) if writer.packed and levels is not None else images
    try:
        for part in range(-(-len(images) // writer.part_rows))[:parts]:
            rows = slice(part * writer.part_rows, (part + 1) * writer.part_rows)
            writer.write(part, writer.encode(part, stored[rows]))
        if parts is None:
            writer.finish()
    finally:
        writer.close()
    return config


def reader(folder: Path, images: Any, levels: Levels | None, **settings: Any) -> Any:
    config = StorageConfig(format="hdf5", **settings)
    return open_reader(config, folder, count=len(images), shape=images.shape[1:], levels=levels)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and parts of few pictures, so that small tests have many of them."""
    monkeypatch.setattr(hdf5, "CHUNK_BYTES", 200)
    monkeypatch.setattr(hdf5, "PART_BYTES", 500)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    height=st.integers(1, 19),
    width=st.integers(1, 9),
    kind=st.sampled_from(["light", "dark", "grey", "colour", "unpacked"]),
    rows=st.lists(st.integers(0, 10**6), max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_goes_in_comes_out(  # noqa: PLR0917 -- hypothesis draws them
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    height: int,
    width: int,
    kind: str,
    rows: list[int],
    seed: int,
) -> None:
    levels = {"light": LIGHT, "unpacked": LIGHT, "dark": (0, 255)}.get(kind)
    shape = (height, width, 3) if kind == "colour" else (height, width)
    images = pictures(count, shape, levels, seed)
    folder = tmp_path_factory.mktemp("store")
    config = StorageConfig(format="hdf5", packing="none" if kind == "unpacked" else "auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "CHUNK_BYTES", 100)
        patch.setattr(hdf5, "PART_BYTES", 300)
        store(folder, images, levels, config=config)
        wanted = np.array(rows, dtype=np.int64) % count
        found = reader(folder, images, levels, packing=config.packing).read(wanted)
        np.testing.assert_array_equal(found, images[wanted])
        everything = np.arange(count)
        found = reader(folder, images, levels, packing=config.packing).read(everything)
        np.testing.assert_array_equal(found, images)
    assert [path.name for path in folder.iterdir()] == ["images.h5"]


@pytest.mark.parametrize("style", ["jkx", "ohlc4", "candlestick"])
def test_plain_h5py_reads_the_store(make_dataset: Callable[..., Dataset], style: str) -> None:
    """By nothing but the line that the file itself holds, in a process without candlemark."""
    dataset = make_dataset(storage={"format": "hdf5"}, style={"kind": style, "height": 30})
    script = (
        "import sys, h5py\n"
        "with h5py.File('images.h5') as file:\n"
        "    (held,) = file.values()\n"
        "    about = dict(held.attrs)\n"
        "exec(about['read_with'])\n"
        "assert 'candlemark' not in sys.modules\n"
        "print(about['filter'], '|', int(about['filter_id']), '|', int(about['height']))\n"
        "print(images.dtype, images.shape, images.sum(), images[5].sum())\n"
    )
    output = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=dataset.path,
    ).stdout.splitlines()
    assert output[0] == "zstd, level 1, with content checksum | 32015 | 30"
    first = dataset.images(np.arange(100))
    assert output[1] == f"uint8 {first.shape} {first.sum()} {first[5].sum()}"


def test_what_the_file_says_of_itself(tmp_path: Path) -> None:
    images = pictures(10, (13, 7), LIGHT)
    store(tmp_path, images, LIGHT)
    with h5py.File(tmp_path / "images.h5") as file:
        held = file["images_bits"]
        assert held.shape == (10, 2, 7)
        assert held.attrs["levels"].tolist() == [255, 0]
        assert "bit r of byte [n, g, x]" in held.attrs["packing"]
        assert held.attrs["format"] == hdf5.FORMAT
        assert "32015" in held._filters


def test_reading_in_many_threads_and_processes(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(200, (30, 11), LIGHT)
    store(tmp_path, images, LIGHT)
    monkeypatch.setattr(threads, "BYTES_A_THREAD", 1000)
    monkeypatch.setattr(threads, "core_count", lambda: 3)
    shared = reader(tmp_path, images, LIGHT)
    random = np.random.default_rng(1)
    orders = [random.permutation(200) for _ in range(24)]
    with ThreadPoolExecutor(4) as pool:
        for order, found in zip(orders, pool.map(shared.read, orders), strict=True):
            np.testing.assert_array_equal(found, images[order])
    copy = pickle.loads(pickle.dumps(shared))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(copy.read(orders[0]), images[orders[0]])


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@settings(max_examples=40, deadline=None)
@given(chunk=st.integers(0, 9), place=st.floats(0, 1, exclude_max=True))
def test_a_flipped_byte_anywhere_in_a_chunk_is_named_with_its_rows(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, place: float
) -> None:
    folder = tmp_path_factory.mktemp("store")
    images = pictures(38, (8, 50), LIGHT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "CHUNK_BYTES", 200)
        store(folder, images, LIGHT)
        with h5py.File(folder / "images.h5") as file:
            info = file["images_bits"].id.get_chunk_info(chunk)
        flip(folder / "images.h5", info.byte_offset + int(place * info.size))
        damaged = reader(folder, images, LIGHT)
        first, last = 4 * chunk, min(4 * chunk + 3, 37)
        with pytest.raises(
            DatasetError,
            match=rf"chunk {chunk} \(pictures {first} to {last}\) does not match its checksum",
        ):
            damaged.read(np.arange(38))
        others = np.delete(np.arange(38), np.arange(first, last + 1))
        np.testing.assert_array_equal(damaged.read(others), images[others])


def test_a_chunk_of_another_length_is_damaged(tmp_path: Path, small_chunks: None) -> None:
    images = pictures(30, (8, 50), LIGHT)
    store(tmp_path, images, LIGHT)
    with h5py.File(tmp_path / "images.h5", "r+") as file:
        short = zstandard.ZstdCompressor().compress(b"few")
        file["images_bits"].id.write_direct_chunk((0, 0, 0), short)
    with pytest.raises(DatasetError, match=r"chunk 0 \(pictures 0 to 3\) does not match"):
        reader(tmp_path, images, LIGHT).read(np.array([2]))


@pytest.mark.parametrize("left", [0, 100, 3000])
def test_a_cut_file_is_told(tmp_path: Path, left: int) -> None:
    images = pictures(200, (40, 50), LIGHT)
    store(tmp_path, images, LIGHT)
    with (tmp_path / "images.h5").open("r+b") as file:
        file.truncate(left)
    with pytest.raises(DatasetError, match=r"images.h5 cannot be read .*; delete its folder and b"):
        reader(tmp_path, images, LIGHT).read(np.arange(200))


def test_a_file_of_another_time_or_size_is_told(tmp_path: Path) -> None:
    images = pictures(20, (8, 50), LIGHT)
    store(tmp_path, images, LIGHT)
    with pytest.raises(DatasetError, match=r"holds \(20, 1, 50\) in chunks .* the dataset has"):
        reader(tmp_path, images[:19], LIGHT).read(np.array([0]))
    with h5py.File(tmp_path / "images.h5", "r+") as file:
        file["images_bits"].attrs["format"] = "candlemark images 9"
    with pytest.raises(DatasetError, match=r"has format 'candlemark images 9'; this candlemark re"):
        reader(tmp_path, images, LIGHT).read(np.array([0]))
    (tmp_path / "images.h5").unlink()
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("images", data=images, **hdf5plugin.Blosc(cname="zstd"))
    with pytest.raises(DatasetError, match=r"has no 'images_bits' of format 'candlemark images 2'"):
        reader(tmp_path, images, LIGHT).read(np.array([0]))


def test_an_unfinished_store_is_no_store(tmp_path: Path, small_chunks: None) -> None:
    images = pictures(60, (8, 50), LIGHT)
    store(tmp_path, images, LIGHT, parts=3)
    with pytest.raises(DatasetError, match=r"images.h5 cannot be read"):
        reader(tmp_path, images, LIGHT).read(np.array([0]))
    config = StorageConfig(format="hdf5")
    writer = open_writer(config, tmp_path, count=60, shape=(8, 50), levels=LIGHT)
    assert writer.finished_parts() == {0, 1, 2}
    with pytest.raises(DatasetError, match=r"images.h5: 5 of 8 parts are missing"):
        writer.finish()
    writer.close()


def test_pictures_of_another_shape_are_refused(tmp_path: Path) -> None:
    config = StorageConfig(format="hdf5")
    writer = open_writer(config, tmp_path, count=9, shape=(8, 50), levels=LIGHT)
    with pytest.raises(DatasetError, match=r"part 0 has pictures of shape .* must be \(9, 1, 50\)"):
        writer.encode(0, np.zeros((9, 8, 50), np.uint8))
    writer.close()


def test_a_damaged_store_is_told_by_the_dataset(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(storage={"format": "hdf5"}, style={"kind": "jkx", "height": 3000})
    path = dataset.path / "images.h5"
    with h5py.File(path) as file:
        chunk = file["images_bits"].id.get_chunk_info(1)
    flip(path, chunk.byte_offset + chunk.size // 2)
    reopened = open_dataset(dataset.path)
    with pytest.raises(DatasetError, match=r"chunk 1 \(pictures \d+ to \d+\) does not match its"):
        reopened.images(np.arange(len(dataset)))
