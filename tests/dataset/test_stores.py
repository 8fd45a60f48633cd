"""Every store gives back what it was given, in any order, or says which file is damaged."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import get_sampling
from zarr.codecs import Crc32cCodec, ZstdCodec

from candlemark.charts.packed import pack
from candlemark.charts.render import render
from candlemark.dataset.build import build_dataset
from candlemark.dataset.drawing import Painter
from candlemark.dataset.lazy import Dataset, load_images
from candlemark.dataset.storage import disk, folder, npz, recent
from candlemark.dataset.storage import zarr as zarr_store
from candlemark.dataset.storage.base import (
    Images,
    ImageWriter,
    Levels,
    StorageConfig,
    open_reader,
    open_writer,
    part_count,
)
from candlemark.dataset.storage.folder import Files
from candlemark.dataset.storage.shards import Layout, with_checksum
from candlemark.errors import DatasetError

EXACT = ("hdf5", "npz", "zarr", "png")
BATCHED = ("npz", "zarr")
PACKABLE = ("hdf5", "npz", "zarr")

TWO_LEVEL: tuple[dict[str, Any], ...] = (
    {"format": "hdf5"},
    {"format": "hdf5", "packing": "none"},
    {"format": "npz", "images_per_file": 7},
    {"format": "npz", "images_per_file": 7, "packing": "bits"},
    {"format": "npz", "mode": "single"},
    {"format": "npz", "mode": "single", "packing": "bits"},
    {"format": "zarr", "images_per_file": 8},
    {"format": "zarr", "images_per_file": 8, "packing": "bits"},
    {"format": "png"},
)
"""Every kind of exact store, several files or chunks of twenty pictures where it can."""

RESUMABLE = [one for one in TWO_LEVEL if one != {"format": "hdf5", "packing": "none"}]


def name_of(config: dict[str, Any]) -> str:
    return "-".join(str(value) for value in config.values())


each_store = pytest.mark.parametrize("config", TWO_LEVEL, ids=name_of)
each_of_mine = pytest.mark.parametrize(
    "config", [one for one in TWO_LEVEL if one["format"] != "hdf5"], ids=name_of
)


def two_level(count: int, height: int = 13, width: int = 9, seed: int = 0) -> Images:
    """Pictures of 0 and 255."""
    bits = np.random.default_rng(seed).integers(0, 2, (count, height, width), dtype=np.uint8)
    return bits * np.uint8(255)


@pytest.fixture(scope="module", autouse=True)
def _without_waiting_for_the_disk() -> Iterator[None]:
    """A busy disk takes seconds to be sure of a file; that has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        patch.setattr("os.sync", lambda: None)
        yield


class Store:
    """A store in `folder` of `images`, written part by part."""

    def __init__(
        self,
        config: dict[str, Any],
        folder: Path,
        images: Images,
        levels: Levels | None = (0, 255),
    ) -> None:
        self.config = StorageConfig(**config)
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.images = images
        self.known: dict[str, Any] = {
            "count": len(images),
            "shape": images.shape[1:],
            "levels": levels,
        }

    def writer(self) -> ImageWriter:
        return open_writer(self.config, self.folder, **self.known)

    def reader(self) -> Any:
        return open_reader(self.config, self.folder, **self.known)

    def part(self, writer: ImageWriter, part: int) -> Images:
        images = self.images[part * writer.part_rows : (part + 1) * writer.part_rows]
        return pack(images, self.known["levels"][1]) if writer.packed else images

    def write(self, *parts: int, finish: bool = True) -> frozenset[int]:
        """Write `parts`, or those that are missing; the parts that were there before."""
        writer = self.writer()
        there = writer.finished_parts()
        for part in parts or range(part_count(writer, len(self.images))):
            if part not in there:
                assert writer.write(part, writer.encode(part, self.part(writer, part))) > 0
        if finish:
            writer.finish()
            assert writer.files
            assert all((self.folder / name).is_file() for name in writer.files)
        writer.close()
        return there

    def read(self, rows: Any = None) -> Images:
        wanted = np.arange(len(self.images)) if rows is None else np.asarray(rows, dtype=np.int64)
        images: Images = self.reader().read(wanted)
        return images

    def contents(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@st.composite
def stores(draw: st.DrawFn) -> tuple[dict[str, Any], Images, Levels | None, list[int]]:
    kind = draw(st.sampled_from(EXACT))
    config: dict[str, Any] = {"format": kind}
    if kind == "npz":
        config["mode"] = draw(st.sampled_from(["single", "batch"]))
    if kind in BATCHED and config.get("mode") != "single":
        config["images_per_file"] = draw(st.none() | st.integers(1, 12))
    content = draw(st.sampled_from(["two levels", "grey", "rgb"]))
    if kind in PACKABLE and content == "two levels":
        config["packing"] = draw(st.sampled_from(["auto", "bits", "none"]))
    count, height, width = (
        draw(st.integers(1, 30)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 20)),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if content == "two levels":
        levels = draw(st.sampled_from([(0, 255), (255, 0), (20, 230)]))
        drawn = random.integers(0, 2, (count, height, width))
        images = np.array(levels, dtype=np.uint8)[drawn]
    else:
        levels = None
        shape = (count, height, width, 3) if content == "rgb" else (count, height, width)
        images = random.integers(0, 256, shape, dtype=np.uint8)
    rows = draw(st.lists(st.integers(0, count - 1), max_size=40))
    return config, images, levels, rows


@settings(max_examples=120, deadline=None)
@given(stores())
def test_every_store_gives_back_what_it_was_given(
    case: tuple[dict[str, Any], Images, Levels | None, list[int]],
) -> None:
    config, images, levels, rows = case
    with TemporaryDirectory() as place:
        store = Store(config, Path(place), images, levels)
        assert store.write() == frozenset()
        found = store.read(rows)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, images[np.asarray(rows, dtype=np.int64)])
        np.testing.assert_array_equal(store.read(), images)


@pytest.mark.parametrize("count", [1, 999, 1000, 1001])
@pytest.mark.parametrize("kind", EXACT)
def test_files_that_are_just_full(tmp_path: Path, kind: str, count: int) -> None:
    store = Store({"format": kind}, tmp_path, two_level(count, 5, 3))
    store.write()
    np.testing.assert_array_equal(store.read(), store.images)


def test_only_two_level_pictures_are_one_bit_deep(tmp_path: Path) -> None:
    images = np.stack([two_level(1, 4, 5)[0], np.full((4, 5), 254, dtype=np.uint8)])
    images[0, 0, 0], images[1, 0, 0] = 255, 0
    store = Store({"format": "png"}, tmp_path, images, levels=None)
    store.write()
    for row, mode in enumerate(["1", "L"]):
        with Image.open(tmp_path / f"images/000/00000{row}.png") as file:
            assert file.mode == mode
    np.testing.assert_array_equal(store.read(), images)


@each_store
def test_reading_from_several_threads(tmp_path: Path, config: dict[str, Any]) -> None:
    store = Store(config, tmp_path, two_level(20))
    store.write()
    reader = store.reader()
    orders = [np.random.default_rng(seed).permutation(20) for seed in range(24)]
    with ThreadPoolExecutor(4) as threads:
        for rows, found in zip(orders, threads.map(reader.read, orders), strict=True):
            np.testing.assert_array_equal(found, store.images[rows])


@each_store
def test_a_pickled_reader_reads(tmp_path: Path, config: dict[str, Any]) -> None:
    store = Store(config, tmp_path, two_level(20))
    store.write()
    reader = store.reader()
    reader.read(np.array([3]))  # holds files and caches, which must not travel
    travelled = pickle.dumps(reader)
    assert len(travelled) < 2000
    copy = pickle.loads(travelled)  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(copy.read(np.arange(20)), store.images)


@each_store
def test_threads_encode_what_one_thread_encodes(tmp_path: Path, config: dict[str, Any]) -> None:
    store = Store(config, tmp_path, two_level(20))
    writer = store.writer()
    parts = list(range(part_count(writer, 20))) * 8
    with ThreadPoolExecutor(4) as threads:
        encoded = list(
            threads.map(lambda part: writer.encode(part, store.part(writer, part)), parts)
        )
    for part, one in zip(parts, encoded, strict=True):
        assert one == encoded[part]
    writer.close()


# Damage


def damage(store: Store, change: Callable[[bytes], bytes], name: str) -> str:
    """Read everything from a store one of whose files was changed: what is said, or nothing."""
    path = store.folder / name
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        np.testing.assert_array_equal(store.read(), store.images)
    except DatasetError as error:
        return str(error)
    finally:
        path.write_bytes(before)
    return ""


@each_store
def test_a_damaged_byte_is_told_and_never_shown(tmp_path: Path, config: dict[str, Any]) -> None:
    store = Store(config, tmp_path, two_level(20))
    store.write()
    told = 0
    for name, content in store.contents().items():
        random = np.random.default_rng(len(content))
        many = 60 if len(content) > 1000 else 6
        for place in {0, len(content) - 1, *random.integers(0, len(content), many).tolist()}:
            message = damage(store, partial(flipped, place=place), name)
            told += bool(message)
            if message:
                assert Path(name).name in message or "SHA256SUMS" in name
                assert "delete its folder and build the dataset again" in message
    assert told > 0


def cut(data: bytes, share: float) -> bytes:
    return data[: int(share * len(data))]


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


@each_store
def test_a_cut_or_missing_file_is_told(tmp_path: Path, config: dict[str, Any]) -> None:
    store = Store(config, tmp_path, two_level(20))
    store.write()
    for name in store.contents():
        for keep in (0, 0.5, 0.99):
            said = damage(store, partial(cut, share=keep), name)
            assert Path(name).name in said or ("SHA256SUMS" in name and said)
        path = store.folder / name
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(DatasetError, match=rf"{path.name}.*; delete its folder and build"):
            store.read()
        path.write_bytes(content)
    np.testing.assert_array_equal(store.read(), store.images)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"format": "png"},
            r"13.png \(picture 13\) is not as it was written: its SHA-256 .*SHA256SUMS; delete i",
        ),
        (
            {"format": "npz", "images_per_file": 7},
            r"images/000/000001.npz \(pictures 7 to 13\) is not as it was written",
        ),
        (
            {"format": "zarr", "images_per_file": 10},
            r"images.zarr/c.1.0.0: chunk 0 \(pictures 10 to 19\) does not match its checksum; ",
        ),
    ],
)
def test_the_message_names_file_and_rows(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    store = Store(config, tmp_path, two_level(20))
    store.write()
    name = {"png": "images/000/000013.png", "npz": "images/000/000001.npz"}.get(
        config["format"], "images.zarr/c.1.0.0"
    )
    path = tmp_path / name
    path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 3))
    np.testing.assert_array_equal(store.read([0, 1, 2]), store.images[:3])
    with pytest.raises(DatasetError, match=message):
        store.read([0, 13])


@pytest.mark.parametrize("config", [{"format": "png"}, {"format": "npz", "images_per_file": 5}])
def test_two_files_that_changed_places_are_told(tmp_path: Path, config: dict[str, Any]) -> None:
    store = Store(config, tmp_path, two_level(20))
    store.write()
    one, other = sorted((tmp_path / "images" / "000").iterdir())[1:3]
    one.rename(tmp_path / "between")
    other.rename(one)
    (tmp_path / "between").rename(other)
    with pytest.raises(DatasetError, match="SHA-256 differs"):
        store.read()


@pytest.mark.parametrize(
    ("config", "content", "message"),
    [
        ({"format": "png"}, b"not a picture", "is damaged"),
        ({"format": "jpeg"}, b"not a picture", "is damaged"),
        ({"format": "npz", "images_per_file": 5}, b"not a zip", "is damaged"),
        ({"format": "npz", "images_per_file": 5}, "other rows", "other rows than 0 to 4"),
        ({"format": "npz", "images_per_file": 5}, "other shape", r"not uint8 of \(5, 13, 9\)"),
        ({"format": "jpeg"}, "other shape", r"a picture of \(9, 13\), not of \(13, 9\)"),
        ({"format": "png"}, "other shape", r"not that of a picture of \(13, 9\)"),
    ],
)
def test_a_file_that_its_line_proves_and_that_is_still_wrong(
    tmp_path: Path, config: dict[str, Any], content: Any, message: str
) -> None:
    store = Store(config, tmp_path / "a", two_level(5))
    store.write()
    (path,) = [
        store.folder / name for name in store.contents() if name.rpartition("/")[2][5] == "0"
    ]
    if content == "other rows":
        np.savez_compressed(path, images=store.images, rows=np.arange(5)[::-1])
    elif content == "other shape":
        other = Store(config, tmp_path / "b", store.images.transpose(0, 2, 1))
        other.write()
        path.write_bytes((other.folder / path.relative_to(store.folder)).read_bytes())
    else:
        path.write_bytes(content)
    sums = store.folder / "images" / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines()
    lines[0] = hashlib.sha256(path.read_bytes()).hexdigest() + lines[0][64:]
    sums.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        store.read()


def test_an_array_of_another_shape_is_told(tmp_path: Path) -> None:
    store = Store({"format": "zarr"}, tmp_path, two_level(20))
    store.write()
    shorter = Store({"format": "zarr"}, tmp_path, two_level(19))
    with pytest.raises(DatasetError, match=r"zarr.json tells of shape, shards and chunks \(\[20"):
        shorter.read()


def test_zarr_shards_that_their_checksums_prove_and_that_are_still_wrong(tmp_path: Path) -> None:
    store = Store({"format": "zarr", "images_per_file": 10}, tmp_path, two_level(20))
    store.write()
    path = tmp_path / "images.zarr" / "c.1.0.0"
    before = path.read_bytes()
    path.write_bytes(b"more" + before)
    with pytest.raises(DatasetError, match=r"c.1.0.0 is damaged \(it has \d+ bytes, and its chun"):
        store.read()
    path.write_bytes(before[:-20])
    with pytest.raises(DatasetError, match=r"the list of its 1 chunks does not match its checksu"):
        store.read()
    content = with_checksum(b"no frame of zstd")
    index = np.array([0, len(content)], dtype="<u8").tobytes()
    path.write_bytes(content + with_checksum(index))
    with pytest.raises(DatasetError, match=r"chunk 0 \(pictures 10 to 19\) is damaged \("):
        store.read()


# Builds that were killed


def test_a_file_has_its_name_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: self.touch())
    with pytest.raises(OSError, match="0 of 4 bytes of file reached the disk"):
        disk.write_whole(path, b"four")
    assert not path.exists()


def test_every_file_is_forced_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[Any] = []
    monkeypatch.setattr("os.fsync", forced.append)
    monkeypatch.setattr("os.sync", lambda: forced.append("all"))
    images = two_level(disk.FEW + 1)
    # Each file and the list; the two folders; the folder of the list once it has its name.
    for count, calls in ((3, 3 + 1 + 2 + 1), (disk.FEW - 1, disk.FEW + 2 + 1), (disk.FEW, 1 + 1)):
        Store({"format": "png"}, tmp_path / str(count), images[:count]).write()
        assert len(forced) == calls
        assert ("all" in forced) == (count == disk.FEW)
        forced.clear()
    monkeypatch.setattr("sys.platform", "win32")
    Store({"format": "png"}, tmp_path / "more", images).write()
    assert len(forced) == disk.FEW + 2 + 2 + 1
    assert "all" not in forced


KILLED = """
    import time
    from pathlib import Path
    from candlemark.config import parse
    from candlemark.dataset.build import build_dataset
    from candlemark.dataset.config import DatasetConfig
    from candlemark.dataset.storage.{module} import {writer}
    from candlemark.dataset.storage import folder

    folder.PART_BYTES = 100_000
    write = {writer}.write

    def hang(self, part, encoded):
        if part == 2:
            print("writing", flush=True)
            time.sleep(60)
        return write(self, part, encoded)

    {writer}.write = hang
    build_dataset(parse(DatasetConfig, {config!r}), Path({out!r}))
"""


@pytest.mark.parametrize(
    ("storage", "writer"),
    [
        ({"format": "png"}, folder.FolderWriter),
        ({"format": "zarr", "images_per_file": 60}, zarr_store.ZarrWriter),
    ],
)
def test_a_build_killed_while_writing_keeps_what_is_whole(
    make_config: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage: dict[str, Any],
    writer: Any,
) -> None:
    config, out = make_config(storage=storage), tmp_path / "data"
    script = textwrap.dedent(KILLED).format(
        config=config.model_dump(mode="json"),
        out=str(out),
        module=writer.__module__.rpartition(".")[2],
        writer=writer.__name__,
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"writing\n"
        process.kill()
        process.wait()

    monkeypatch.setattr(folder, "PART_BYTES", 100_000)
    found: list[frozenset[int]] = []
    finished_parts = writer.finished_parts

    def noting(self: Any) -> frozenset[int]:
        found.append(finished_parts(self))
        return found[-1]

    monkeypatch.setattr(writer, "finished_parts", noting)
    dataset = build_dataset(config, out)
    assert found[0] == {0, 1}
    drawn = Painter(dataset.config, dataset.series).draw(dataset.index)
    np.testing.assert_array_equal(dataset.images(np.arange(len(dataset))), drawn)
    assert not [path for path in out.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize("config", RESUMABLE, ids=name_of)
def test_a_killed_build_goes_on_and_ends_the_same(
    tmp_path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PART_BYTES", 1000)
    images = two_level(4000, 60, 40) if config["format"] == "hdf5" else two_level(40)
    whole = Store(config, tmp_path / "whole", images)
    whole.write()
    store = Store(config, tmp_path / "killed", images)
    writer = store.writer()
    some = (0, 2) if part_count(writer, len(images)) > 2 else (0,)
    writer.close()
    store.write(*some, finish=False)
    assert store.write() == frozenset(some)
    np.testing.assert_array_equal(store.read(), images)
    assert store.contents() == whole.contents()


@each_of_mine
def test_a_part_that_is_not_whole_is_written_again(tmp_path: Path, config: dict[str, Any]) -> None:
    store = Store(config, tmp_path, two_level(40))
    store.write()
    content = store.contents()
    name = next(name for name in content if "0" in Path(name).name[1:] and "SHA" not in name)
    for damaged in (content[name][:-1], flipped(content[name], len(content[name]) // 2)):
        (tmp_path / name).write_bytes(damaged)
        (tmp_path / name).with_name(f".{Path(name).name}.partial").write_bytes(b"half")
        writer = store.writer()
        assert 0 not in writer.finished_parts()
        writer.close()
        store.write()
        assert store.contents() == content
    (tmp_path / name).unlink()
    assert 0 not in store.write()
    assert store.contents() == content


@each_of_mine
def test_an_unfinished_store_is_not_finished(
    tmp_path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PART_BYTES", 1000)
    store = Store(config, tmp_path, two_level(40))
    store.write(0, finish=False)
    writer = store.writer()
    with pytest.raises(DatasetError, match=r"lacks \d+ of \d+ .*; run the same build again"):
        writer.finish()
    writer.close()
    with pytest.raises(DatasetError):
        store.read()


# Other programs read the stores


def test_numpy_reads_npz(tmp_path: Path) -> None:
    images = two_level(20)
    Store({"format": "npz", "images_per_file": 8}, tmp_path / "a", images).write()
    with np.load(tmp_path / "a/images/000/000002.npz") as file:
        assert sorted(file) == ["images", "rows"]
        np.testing.assert_array_equal(file["images"], images[16:])
        np.testing.assert_array_equal(file["rows"], [16, 17, 18, 19])
    Store({"format": "npz", "mode": "single"}, tmp_path / "b", images).write()
    with np.load(tmp_path / "b/images/000/000019.npz") as file:
        np.testing.assert_array_equal(file["images"], images[19:])
    config = {"format": "npz", "images_per_file": 8, "packing": "bits"}
    Store(config, tmp_path / "c", images, (255, 0)).write()
    with np.load(tmp_path / "c/images/000/000000.npz") as file:  # as the module says
        ink = np.unpackbits(file["bits"], axis=1, count=int(file["height"]), bitorder="little")
        found = np.where(ink == 1, file["ink"], file["paper"])
        np.testing.assert_array_equal(found, images[:8])
        assert found.dtype == np.uint8


@pytest.mark.parametrize("per_file", [None, 1, 8, 12, 13, 100])
@pytest.mark.parametrize("packing", ["none", "bits"])
def test_zarr_reads_zarr(
    tmp_path: Path, packing: str, per_file: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = two_level(30)
    config = {"format": "zarr", "images_per_file": per_file, "packing": packing}
    store = Store(config, tmp_path, images)
    store.write()
    array = zarr.open_array(tmp_path / "images.zarr", mode="r")
    assert array.metadata.zarr_format == 3
    if packing == "none":
        np.testing.assert_array_equal(array[17], images[17])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(str(array.attrs["read_with"]), names)  # noqa: S102 - as the array says
    np.testing.assert_array_equal(names["images"], images)
    assert names["images"].dtype == np.uint8


@pytest.mark.parametrize("per_file", [1, 8, 13])
@pytest.mark.parametrize("packing", ["none", "bits"])
def test_shards_are_those_of_the_zarr_library(tmp_path: Path, packing: str, per_file: int) -> None:
    images = two_level(30)
    config = {"format": "zarr", "images_per_file": per_file, "packing": packing}
    store = Store(config, tmp_path / "mine", images)
    store.write()
    stored = pack(images, 255) if packing == "bits" else images
    mine = zarr.open_array(tmp_path / "mine/images.zarr", mode="r")
    its = zarr.create_array(
        store=tmp_path / "its",
        shape=mine.shape,
        chunks=mine.chunks,
        shards=mine.shards,
        dtype="uint8",
        filters=None,
        compressors=(ZstdCodec(level=1), Crc32cCodec()),
        chunk_key_encoding={"name": "default", "separator": "."},
        fill_value=0,
    )
    its[:] = stored
    shards = sorted(path.name for path in (tmp_path / "its").glob("c.*"))
    assert shards == sorted(path.name for path in (tmp_path / "mine/images.zarr").glob("c.*"))
    for name in shards:
        written = (tmp_path / "its" / name).read_bytes()
        assert (tmp_path / "mine/images.zarr" / name).read_bytes() == written


def test_chunks_are_small_and_divide_a_shard() -> None:
    def rows(shape: tuple[int, ...], per_file: int | None, count: int = 100_000) -> list[int]:
        config = StorageConfig(format="zarr", images_per_file=per_file, packing="none")
        layout = Layout(config, Path(), count=count, shape=shape, levels=None)
        return [layout.shard_rows, layout.chunk_rows]

    assert rows((64, 60), None) == [8738, 34]
    assert rows((64, 60), 1000) == [1000, 25]
    assert rows((64, 60), 997) == [997, 1]
    assert rows((224, 224, 3), None) == [222, 1]
    assert rows((64, 60), None, count=3) == [3, 3]
    assert rows((64, 60), 1000, count=40) == [40, 20]


@pytest.mark.parametrize("content", ["two levels", "grey", "rgb"])
def test_pillow_reads_png(tmp_path: Path, content: str) -> None:
    random = np.random.default_rng(0)
    images = two_level(3)
    if content != "two levels":
        shape = (3, 13, 9, 3) if content == "rgb" else (3, 13, 9)
        images = random.integers(0, 256, shape, dtype=np.uint8)
    Store({"format": "png"}, tmp_path, images).write()
    for row, image in enumerate(images):
        with Image.open(tmp_path / f"images/000/{row:06d}.png") as file:
            file.verify()
        with Image.open(tmp_path / f"images/000/{row:06d}.png") as file:
            mode = "RGB" if content == "rgb" else "L"
            np.testing.assert_array_equal(np.asarray(file.convert(mode)), image)


@pytest.mark.parametrize("kind", ["png", "jpeg", "npz"])
def test_the_list_of_checksums_is_an_ordinary_one(tmp_path: Path, kind: str) -> None:
    store = Store({"format": kind}, tmp_path, two_level(20))
    store.write()
    lines = (tmp_path / "images" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    files = [name for name in store.contents() if "SHA256SUMS" not in name]
    assert [f"images/{line.split('  ')[1]}" for line in lines] == files
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "images" / name).read_bytes()).hexdigest() == digest


def test_names_of_files() -> None:
    def names(count: int, *numbers: int) -> list[str]:
        files = Files(Path(), count=count, rows_per_file=1, suffix=".png")
        assert {len(files.line(number, "0" * 64)) for number in numbers} == {files.line_length}
        return [files.name(number) for number in numbers]

    assert names(1, 0) == ["000/000000.png"]
    assert names(10**6, 0, 999, 1000, 999_999) == [
        "000/000000.png",
        "000/000999.png",
        "001/001000.png",
        "999/999999.png",
    ]
    assert names(10**7, 0, 1_234_567) == ["0000/0000000.png", "1234/1234567.png"]


# JPEG


@pytest.mark.parametrize(
    ("style", "settings_", "most"),
    [
        ("ohlc4", {"window": 30, "height": 120}, 16),
        ("jkx", {"window": 20}, 16),
        ("candlestick", {"window": 30, "height": 96, "width": 120}, 40),
    ],
)
def test_jpeg_loses_no_more_than_it_says(
    tmp_path: Path,
    make_series: Callable[..., Any],
    style: str,
    settings_: dict[str, Any],
    most: int,
) -> None:
    images = render(make_series(400, missing=range(90, 95)), style, count=40, stride=8, **settings_)
    errors = {}
    for quality in (None, 75):
        store = Store({"format": "jpeg", "quality": quality}, tmp_path / str(quality), images)
        store.write()
        assert len(list(store.folder.rglob("*.jpg"))) == 40
        errors[quality] = np.abs(store.read().astype(int) - images)
    assert 0 < errors[None].mean() <= 1.5
    assert errors[None].max() <= most
    assert errors[None].mean() < errors[75].mean() <= 4
    with Image.open(tmp_path / "None/images/000/000000.jpg") as file:
        assert file.mode == ("RGB" if style == "candlestick" else "L")
        assert get_sampling(file) in (0, -1)  # nothing is subsampled, or there is no colour


def test_jpeg_comes_in_any_order(tmp_path: Path, make_series: Callable[..., Any]) -> None:
    images = render(make_series(100), "jkx", window=20, count=40)
    store = Store({"format": "jpeg"}, tmp_path, images)
    store.write()
    rows = [39, 0, 7, 7, 12]
    np.testing.assert_array_equal(store.read(rows), store.read()[rows])


# Caches


def test_an_npz_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store({"format": "npz", "images_per_file": 10}, tmp_path, two_level(30))
    store.write()
    decoded = []
    original = npz.NpzCodec.decode

    def decode(self: npz.NpzCodec, data: bytes, first: int, count: int) -> Images:
        decoded.append(first)
        return original(self, data, first, count)

    monkeypatch.setattr(npz.NpzCodec, "decode", decode)
    reader = store.reader()
    for _ in range(5):
        rows = np.random.default_rng(1).permutation(30)
        np.testing.assert_array_equal(reader.read(rows), store.images[rows])
    assert decoded == [0, 10, 20]


def test_recent_pieces_are_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(key: int) -> Images:
        made.append(key)
        return np.full(40, key, dtype=np.uint8)

    held = recent.Recent(100)
    for key in (1, 2, 1, 3, 1, 2):
        assert held.get(key, make)[0] == key
    assert made == [1, 2, 3, 2]
    small = recent.Recent(0)  # holds the last one alone
    for key in (5, 5, 6, 5):
        small.get(key, make)
    assert made[4:] == [5, 6, 5]
    made.clear()
    # A child process forgets: another thread may have held the lock when it was forked.
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert held.get(1, make)[0] == 1
    assert made == [1]


# From a dataset


@pytest.mark.parametrize(
    "storage",
    [
        {"format": "hdf5"},
        {"format": "npz"},
        {"format": "npz", "mode": "single"},
        {"format": "npz", "images_per_file": 64, "packing": "bits"},
        {"format": "zarr"},
        {"format": "zarr", "images_per_file": 64, "packing": "bits"},
        {"format": "png"},
        {"format": "jpeg"},
    ],
    ids=name_of,
)
def test_load_images_whatever_the_format(
    make_dataset: Callable[..., Dataset], storage: dict[str, Any]
) -> None:
    dataset = make_dataset(storage=storage)
    loaded = load_images(dataset.path, indices=slice(0, 100))
    drawn = Painter(dataset.config, dataset.series).draw(dataset.index.take(slice(0, 100)))
    if storage["format"] == "jpeg":
        assert np.abs(loaded.images.astype(int) - drawn).max() <= 16
    else:
        np.testing.assert_array_equal(loaded.images, drawn)
    assert loaded.sequences.shape == (100, 10, 5)
    assert loaded.metadata["target"] == dataset.targets(np.arange(100)).tolist()
    backwards = load_images(dataset.path, indices=[99, 3, 3])
    np.testing.assert_array_equal(backwards.images, loaded.images[[99, 3, 3]])


def test_coloured_pictures_in_every_format(make_dataset: Callable[..., Dataset]) -> None:
    style = {"kind": "candlestick", "height": 32, "width": 40}
    for kind in EXACT:
        dataset = make_dataset(kind, storage={"format": kind}, style=style)
        drawn = Painter(dataset.config, dataset.series).draw(dataset.index)
        np.testing.assert_array_equal(load_images(dataset.path).images, drawn)


def test_a_storage_library_is_imported_only_with_its_store() -> None:
    code = (
        "import sys, candlemark.dataset.build, candlemark.dataset.lazy\n"
        "print([n for n in ('zarr', 'numcodecs', 'PIL', 'h5py') if n in sys.modules])\n"
        "import candlemark.dataset.storage.files, candlemark.dataset.storage.npz\n"
        "print([n for n in ('zarr', 'numcodecs', 'PIL', 'h5py') if n in sys.modules])\n"
        "import candlemark.dataset.storage.zarr\n"
        "print('zarr' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.split("\n")[:3] == ["[]", "[]", "False"]
