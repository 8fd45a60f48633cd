"""Exports: read back by the libraries of those who get them, whole or not there at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from candlemark import progress
from candlemark.candles.dates import parse_date
from candlemark.candles.source import load_candles
from candlemark.dataset.captions import captions
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing import export as exports
from candlemark.dataset.sharing import hf_dataset, samples
from candlemark.dataset.sharing.card import read_description
from candlemark.dataset.sharing.export import FORMS, export
from candlemark.dataset.sharing.options import ExportOptions
from candlemark.errors import ConfigError, DatasetError, MissingExtraError
from candlemark.progress import Event

MakeDataset = Callable[..., Dataset]
COLOUR = {"kind": "candlestick", "height": 48, "width": 40, "volume": True}


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(params=["grey", "colour"])
def dataset(request: pytest.FixtureRequest, make_dataset: MakeDataset) -> Dataset:
    return make_dataset(**({} if request.param == "grey" else {"style": COLOUR}))


def pixels(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_form_holds_the_same_samples_and_a_card(dataset: Dataset, tmp_path: Path) -> None:
    for form in FORMS:
        out = export(dataset, tmp_path / form, to=form)
        description = read_description(out)
        assert description is not None
        assert description.content_hash == dataset.content_hash
        assert description.config == dataset.config
        counts = {name: sum(classes.values()) for name, classes in description.counts.items()}
        assert counts == {name: len(dataset.split(name)) for name in dataset.split_names}
        card = (out / "README.md").read_text(encoding="utf-8")
        assert "**Forecast**: the answer lies after the last candle of the picture" in card
        assert "Source: synthetic (random_walk)." in card
        assert f"| train | {len(dataset.split('train')):,} | down " in card


def test_the_card_of_a_recognition_label_split_at_random_says_both(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    leaky = make_dataset(label={"name": "last_candle"}, split={"method": "random"})
    card = (export(leaky, tmp_path / "out", to="webdataset") / "README.md").read_text(
        encoding="utf-8"
    )
    assert "**Recognition**: the answer is visible in the picture" in card
    assert "Split at **random**" in card


def test_the_card_of_candles_that_were_handed_in(
    make_dataset: MakeDataset, make_series: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = make_dataset(
        series=[make_series(400, missing=[7, 8, 100])], split={"method": "walk_forward", "fold": 3}
    )
    card = (export(dataset, tmp_path / "out", to="folder") / "README.md").read_text(
        encoding="utf-8"
    )
    assert "Source: handed to the build; its config names synthetic (random_walk)." in card
    assert "| TEST | 397 | 2024-01-01 00:00 | 2024-01-17 15:00 | 2 | 3 | 2 |" in card
    assert "walking forward, fold 3 of 5 (counted from 0)" in card


# ---------------------------------------------------------------- datasets


def check_hf(found: Any, dataset: Dataset, *, caption: str = "window") -> None:
    import datasets

    assert tuple(found) == dataset.split_names
    for split in dataset.split_names:
        rows, part = dataset.split(split), found[split]
        assert part.features["image"] == datasets.Image()
        assert part.features["label"] == datasets.ClassLabel(names=["down", "up"])
        assert part.features["text"] == part.features["image_path"] == datasets.Value("string")
        assert part.features["next_close"] == datasets.Value("float64")
        assert part["label"][:] == dataset.targets(rows).tolist()
        assert part["text"][:] == captions(dataset, rows, style=caption)
        expected = dataset.metadata(rows)["next_close"]
        assert part["next_close"][:] == expected
        assert len(set(part["image_path"][:])) == len(rows)
        for row, example in zip(rows.tolist(), part, strict=True):
            assert (np.asarray(example["image"]) == dataset.images([row])[0]).all()


def test_parquet_is_what_load_dataset_reads(dataset: Dataset, tmp_path: Path) -> None:
    import datasets

    out = export(dataset, tmp_path / "out", to="datasets")
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        f"{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")
    ]
    check_hf(datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache")), dataset)


def test_shards_are_bounded_and_in_order(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    dataset = make_dataset()
    monkeypatch.setattr(exports, "MIN_SHARD_BYTES", 1)
    monkeypatch.setattr(samples, "BATCH_BYTES", 20_000)
    monkeypatch.setattr(hf_dataset, "GROUP_ROWS", 7)
    out = export(dataset, tmp_path / "out", to="datasets", options=ExportOptions(shard_bytes=9000))
    names = sorted(path.name for path in (out / "data").glob("train-*"))
    assert len(names) > 2
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet"
    groups = [pq.ParquetFile(out / "data" / name).metadata for name in names]
    assert [group.row_group(0).num_rows for group in groups[:-1]] == [7] * (len(names) - 1)
    check_hf(datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache")), dataset)


def test_dataset_dict_in_the_library(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    check_hf(hf_dataset.to_dataset_dict(dataset, cache_dir=cache), dataset)
    classic = hf_dataset.to_dataset_dict(dataset, caption="classic", cache_dir=cache)
    check_hf(classic, dataset, caption="classic")

    def drawn_again(*_: Any, **__: Any) -> Any:
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(hf_dataset, "samples", drawn_again)
    check_hf(hf_dataset.to_dataset_dict(dataset, cache_dir=cache), dataset)


def test_saved_and_loaded_again(make_dataset: MakeDataset, tmp_path: Path) -> None:
    import datasets

    dataset = make_dataset()
    hf_dataset.to_dataset_dict(dataset, cache_dir=tmp_path / "c").save_to_disk(tmp_path / "disk")
    check_hf(datasets.load_from_disk(str(tmp_path / "disk")), dataset)


def test_an_error_inside_the_library_stays_ours(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset()

    def broken(_: Any) -> Any:
        raise DatasetError("chunk 3 does not match its checksum")

    monkeypatch.setattr(dataset, "images", broken)
    with pytest.raises(DatasetError, match="chunk 3 does not match its checksum"):
        hf_dataset.to_dataset_dict(dataset, cache_dir=tmp_path / "cache")


def test_without_the_library_the_extra_is_named(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"datasets is not installed.*candlemark\[share\]"):
        export(make_dataset(), tmp_path / "out", to="datasets")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- WebDataset


def read_shards(paths: list[str]) -> list[dict[str, Any]]:
    import webdataset

    with warnings.catch_warnings():
        # The library leaves closing the last tar file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        found = webdataset.WebDataset(paths, shardshuffle=False, empty_check=False)
        return list(found.decode("rgb8"))


def test_shards_are_what_webdataset_reads(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(style=COLOUR)
    monkeypatch.setattr(exports, "MIN_SHARD_BYTES", 1)
    options = ExportOptions(shard_bytes=100_000)
    out = export(dataset, tmp_path / "out", to="webdataset", options=options)
    listed = json.loads((out / "shards.json").read_text(encoding="utf-8"))
    assert tuple(listed) == dataset.split_names
    assert len(listed["train"]) > 3
    for split, shards in listed.items():
        paths = [out / shard["name"] for shard in shards]
        assert [path.stat().st_size for path in paths] == [s["size_bytes"] for s in shards]
        # tar rounds a file up to 20 blocks
        assert all(path.stat().st_size <= 100_000 + 10_240 for path in paths)
        found = read_shards([str(path) for path in paths])
        rows = dataset.split(split)
        assert len(found) == len(rows) == sum(shard["samples"] for shard in shards)
        assert [one["txt"] for one in found] == captions(dataset, rows)
        assert [one["cls"] for one in found] == dataset.targets(rows).tolist()
        assert (np.stack([one["png"] for one in found]) == dataset.images(rows)).all()
        metadata = dataset.metadata(rows)
        for name in ("label", "next_close", "value", "symbol", "window_start_ms", "split"):
            assert [one["json"][name] for one in found] == metadata[name]
        assert all(
            one["json"]["image_path"].endswith(f"{one['__key__'][-20:]}.png") for one in found
        )


def test_the_same_dataset_gives_the_same_bytes(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset()
    for form in FORMS:
        one, two = (export(dataset, tmp_path / f"{form}{i}", to=form) for i in range(2))
        files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
        assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


# ---------------------------------------------------------------- folder


def test_the_plain_folder(dataset: Dataset, tmp_path: Path) -> None:
    out = export(dataset, tmp_path / "out", to="folder")
    with (out / "index.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = np.concatenate([dataset.split(name) for name in dataset.split_names])
    metadata = dataset.metadata(rows)
    assert list(lines[0]) == [
        *("image_path", "text", "label", "next_close", "split", "symbol", "window_start")
    ]
    for name in ("label", "split", "symbol"):
        assert [line[name] for line in lines] == metadata[name]
    assert [line["text"] for line in lines] == captions(dataset, rows)
    prices = [float(line["next_close"]) if line["next_close"] else None for line in lines]
    assert prices == metadata["next_close"]
    starts = [parse_date(line["window_start"]).start_ms for line in lines]
    assert starts == metadata["window_start_ms"]
    found = np.stack([pixels((out / line["image_path"]).read_bytes()) for line in lines])
    assert found.dtype == np.uint8
    assert (found == dataset.images(rows)).all()
    on_disk = {path.relative_to(out).as_posix() for path in out.glob("images/*/*")}
    assert on_disk == {line["image_path"] for line in lines}
    series = load_candles(out / "candles" / "RANDOM_WALK.csv")
    for name, column in series.to_numpy().items():
        assert (column == getattr(dataset.series[0], name)).all()


def test_an_unknown_next_close_is_empty(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset(label={"name": "last_candle"})
    last = dataset.split("test")[-1]
    assert dataset.metadata([last])["next_close"] == [None]
    out = export(dataset, tmp_path / "out", to="folder")
    with (out / "index.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[-1]["next_close"] == ""


def test_symbols_that_no_file_system_takes(
    make_dataset: MakeDataset, make_series: Callable[..., Any], tmp_path: Path
) -> None:
    names = ["A/B", "A.B", "a_b", "../x"]
    series = [make_series(200, seed=seed, symbol=name) for seed, name in enumerate(names)]
    out = export(make_dataset(series=series), tmp_path / "out", to="folder")
    files = sorted(path.name for path in (out / "candles").iterdir())
    assert files == ["A_B.csv", "A_B_2.csv", "___x.csv", "a_b_3.csv"]


# ---------------------------------------------------------------- pictures


@given(
    hnp.arrays(
        np.uint8,
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
        ),
    )
)
def test_png_is_exact(image: Any) -> None:
    found = pixels(samples.encode_png(image))
    assert found.dtype == np.uint8
    assert (found == image).all()


def test_a_stored_dataset_exports_the_same_pictures(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    lazy, stored = make_dataset("a"), make_dataset("b", storage={"format": "hdf5"})
    for number, one in enumerate((lazy, stored)):
        export(one, tmp_path / f"out{number}", to="folder")
    names = [path.relative_to(tmp_path / "out0") for path in (tmp_path / "out0").glob("images/*/*")]
    assert names
    for name in names:
        assert (tmp_path / "out0" / name).read_bytes() == (tmp_path / "out1" / name).read_bytes()


def test_memory_is_bounded(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    drawn: list[int] = []
    images = dataset.images
    monkeypatch.setattr(samples, "BATCH_BYTES", 32 * 30 * 5)
    monkeypatch.setattr(dataset, "images", lambda rows: (drawn.append(len(rows)), images(rows))[1])
    stream = samples.samples(dataset, "train", caption="window")
    assert len(next(stream)) == 5
    assert drawn == [5] * (samples.BATCHES_AHEAD + 1)
    stream.close()


# ---------------------------------------------------------------- whole or not at all


FAULTS: dict[str, tuple[BaseException, type[BaseException], str]] = {
    "full disk": (OSError(errno.ENOSPC, "No space"), DatasetError, "the disk is full while"),
    "refused": (OSError(errno.EACCES, "Denied", "x.png"), DatasetError, "Denied: x.png"),
    "interrupted": (KeyboardInterrupt("now"), KeyboardInterrupt, "now"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_leaves_nothing(
    make_dataset: MakeDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    name: str,
) -> None:
    dataset = make_dataset()
    images, (fault, caught, message) = dataset.images, FAULTS[name]

    def failing(rows: Any) -> Any:
        if 100 in rows:
            raise fault
        return images(rows)

    monkeypatch.setattr(samples, "BATCH_BYTES", 32 * 30 * 40)
    monkeypatch.setattr(dataset, "images", failing)
    place = tmp_path / "shared"
    with pytest.raises(caught, match=message) as error:
        export(dataset, place / "out", to=form)
    assert "\n" not in str(error.value)
    assert list(place.iterdir()) == []


def test_what_a_killed_export_left_is_removed(make_dataset: MakeDataset, tmp_path: Path) -> None:
    left, living = (tmp_path / f".out.export-{process}" for process in (2**22 + 1, 1))
    for folder in (left, living):
        folder.mkdir()
        (folder / "x").write_text("x", encoding="utf-8")
    export(make_dataset(), tmp_path / "out", to="folder")
    assert not left.exists()
    assert living.exists()


def test_an_empty_folder_is_taken_and_nothing_else(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    dataset, out = make_dataset(), tmp_path / "out"
    out.mkdir()
    export(dataset, out, to="folder")
    with pytest.raises(DatasetError, match=r"out holds something already, .* --out .*out-2"):
        export(dataset, out, to="webdataset")
    assert (out / "index.csv").is_file()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match="file is a file, and nothing is written over"):
        export(dataset, tmp_path / "file", to="folder")


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("zip", ExportOptions(), "unknown form 'zip'; .* to: datasets, webdataset, folder"),
        ("folder", ExportOptions(caption="x"), "unknown caption style 'x'; known: window, classic"),
        ("webdataset", ExportOptions(shard_bytes=10), "shards of 10 bytes; .* at least 1000000"),
    ],
)
def test_wrong_input(
    make_dataset: MakeDataset, tmp_path: Path, to: str, options: ExportOptions, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        export(make_dataset(), tmp_path / "out", to=to, options=options)
    assert not (tmp_path / "out").exists()


class _Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def handle(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def recorded() -> Iterator[list[Event]]:
    recorder = _Recorder()
    previous = progress.set_reporter(recorder)
    yield recorder.events
    progress.set_reporter(previous)


@pytest.mark.parametrize("form", FORMS)
def test_progress_counts_every_sample(
    make_dataset: MakeDataset, tmp_path: Path, recorded: list[Event], form: str
) -> None:
    dataset = make_dataset()
    export(dataset, tmp_path / "out", to=form)
    mine = [event for event in recorded if event.task == "exporting"]
    assert (mine[0].kind, mine[0].amount, mine[0].unit) == ("begin", len(dataset), "samples")
    assert sum(event.amount or 0 for event in mine[1:-1]) == len(dataset)
    assert mine[-1].kind == "end"


def test_a_damaged_description_says_what_to_do(make_dataset: MakeDataset, tmp_path: Path) -> None:
    out = export(make_dataset(), tmp_path / "out", to="folder")
    path = out / "dataset.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    for text, message in [
        ("{", r"dataset.json is damaged \(Expecting"),
        ("[]", "does not say that it is a candlemark export"),
        (json.dumps({**value, "format_version": 9}), "has format 9; this candlemark reads format"),
        (json.dumps({**value, "moon": 1}), "unknown key 'moon'"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match=message):
            read_description(out)
    path.unlink()
    assert read_description(out) is None
