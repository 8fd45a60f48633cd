"""Building: whole or not at all, once only, every window accounted for."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark import progress
from candlemark.candles.series import CandleSeries
from candlemark.config import parse
from candlemark.dataset import build, manifest
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.dataset.manifest import Manifest
from candlemark.dataset.storage import hdf5
from candlemark.errors import ConfigError, DatasetError


class Events:
    """What was reported."""

    def __init__(self) -> None:
        self.seen: list[progress.Event] = []

    def handle(self, event: progress.Event) -> None:
        self.seen.append(event)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.seen if event.kind in ("note", "warning")]


@pytest.fixture
def events() -> Iterator[Events]:
    found = Events()
    before = progress.set_reporter(found)
    yield found
    progress.set_reporter(before)


def test_every_window_is_in_the_index_or_counted(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    series = make_series(300, missing=[40, 41, 42, 150])
    dataset = make_dataset(series=[series], max_samples=100)
    dropped = dataset.manifest.dropped
    assert len(dataset) == 100 == dataset.manifest.sample_count
    assert len(dataset) + sum(dropped.values()) == 300 - 10 + 1
    # One missing slot of ten is allowed: starts 32 to 41 hold two or three.
    assert dropped["missing candles"] == 10
    # The slot after the window is missing: 40, 41, 150, and 300 past the end.
    assert dropped["label undefined"] == 4
    assert dropped["not sampled"] > 0


def test_what_the_manifest_says(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    said = json.loads((dataset.path / "manifest.json").read_text(encoding="utf-8"))
    assert said["label_kind"] == "forecast"
    assert (said["label_first_slot"], said["label_last_slot"]) == (10, 10)
    assert said["class_names"] == ["down", "up"]
    assert set(said["files"]) == {"candles.parquet", "index.parquet"}
    assert said["series"][0]["candle_count"] == 400
    total = sum(sum(by_class.values()) for by_class in said["counts"].values())
    assert total == len(dataset)
    assert said["boundaries_ms"]["train"][1] <= said["boundaries_ms"]["validation"][0]


def test_recognition_is_called_so(make_dataset: Callable[..., Dataset]) -> None:
    assert make_dataset(label={"name": "last_candle"}).label_kind == "recognition"


def test_a_second_build_does_nothing(
    make_config: Callable[..., DatasetConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_dataset(make_config(), tmp_path / "data")
    monkeypatch.setattr(build, "load", lambda config: pytest.fail("loaded candles again"))
    again = build_dataset(make_config(), tmp_path / "data")
    assert again.content_hash == first.content_hash


def test_another_dataset_in_the_same_place_is_refused(
    make_dataset: Callable[..., Dataset],
) -> None:
    make_dataset()
    with pytest.raises(DatasetError, match=r"holds another dataset .* give another --out, or rem"):
        make_dataset(window=12)


def test_a_folder_with_other_things_is_refused(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"exists and is no finished dataset; remove it, or bui"):
        make_dataset()
    assert (tmp_path / "data" / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_an_empty_folder_is_used(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert len(make_dataset()) > 0


def test_same_content_whatever_the_storage(make_dataset: Callable[..., Dataset]) -> None:
    lazy, stored = make_dataset("a"), make_dataset("b", storage={"format": "hdf5"})
    assert lazy.content_hash == stored.content_hash
    assert make_dataset("c", window=11).content_hash != lazy.content_hash


def test_default_folder_is_named_after_the_dataset(
    make_config: Callable[..., DatasetConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = build_dataset(make_config())
    assert dataset.path.parent == Path("datasets")
    assert dataset.path.name.startswith("random_walk-1h-regular-jkx-next_candle-")


def test_candles_of_a_changed_file_are_another_dataset(
    make_series: Callable[..., CandleSeries],
    make_config: Callable[..., DatasetConfig],
    tmp_path: Path,
) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "prices.parquet"
    config = make_config(candles={"kind": "file", "path": str(path)})
    pq.write_table(make_series(300, seed=1).to_arrow(), path)
    build_dataset(config, tmp_path / "data")
    pq.write_table(make_series(300, seed=2).to_arrow(), path)
    with pytest.raises(DatasetError, match="holds another dataset"):
        build_dataset(config, tmp_path / "data")


@pytest.mark.parametrize(
    ("symbols", "intervals", "message"),
    [
        (["A", "A"], ["1h", "1h"], "symbol A is there 2 times; name each symbol once"),
        (["A", "B"], ["1h", "1m"], "candles have intervals 1h, 1m; a dataset has one"),
    ],
)
def test_series_that_do_not_go_together(
    make_series: Callable[..., CandleSeries],
    make_dataset: Callable[..., Dataset],
    symbols: list[str],
    intervals: list[str],
    message: str,
) -> None:
    series = [
        make_series(100, symbol=symbol, interval=interval)
        for symbol, interval in zip(symbols, intervals, strict=True)
    ]
    with pytest.raises(DatasetError, match=message):
        make_dataset(series=series)


def test_no_candles_at_all(make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(ConfigError, match="no candles were given; name a symbol: --symbol"):
        make_dataset(series=[])


def test_a_config_without_candles_needs_some_handed_in(
    make_series: Callable[..., CandleSeries], tmp_path: Path
) -> None:
    config = DatasetConfig(window=10)
    with pytest.raises(ConfigError, match=r"names no candles .* or pass candles=\[series\]"):
        build_dataset(config, tmp_path / "data")
    dataset = build_dataset(config, tmp_path / "data", candles=[make_series(200)])
    assert dataset.manifest.candles_given
    assert dataset.manifest.symbols == ("TEST",)


def test_too_few_candles_for_one_window(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    with pytest.raises(
        DatasetError, match="no window fits: 8 candles, and one window with its label needs 11"
    ):
        make_dataset(series=[make_series(8)])


def test_nothing_but_holes(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    series = make_series(100, missing=[n for n in range(100) if n % 3 == 1])
    with pytest.raises(DatasetError, match=r"none of 91 windows of 10 is left \(91 missing candl"):
        make_dataset(series=[series])


class _DiskFull:
    """A writer on a disk that fills up."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Can't write data (file write failed: error message = 'No space left on device')"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    make_dataset: Callable[..., Dataset],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: OSError,
) -> None:
    monkeypatch.setattr(hdf5.Hdf5Writer, "write", _DiskFull(error))
    with pytest.raises(DatasetError, match=r"the disk is full while writing .* --storage none"):
        make_dataset(storage={"format": "hdf5"})
    assert list(tmp_path.iterdir()) == []


def test_hdf5_is_stopped_before_the_disk_is_full(
    make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What HDF5 does on a full disk depends on where it meets it, so it must never see one."""
    nearly_full = shutil.disk_usage(tmp_path)._replace(free=hdf5.RESERVE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: nearly_full)
    with pytest.raises(DatasetError, match=r"the disk is full while writing .*4 MB free"):
        make_dataset(storage={"format": "hdf5"})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_leaves_nothing(
    make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write_manifest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_dataset()
    assert list(tmp_path.iterdir()) == []


KILLED = """
    from pathlib import Path
    import time
    from candlemark.config import parse
    from candlemark.dataset import build, manifest
    from candlemark.dataset.config import DatasetConfig

    def hang(manifest, folder):
        print("writing", flush=True)
        time.sleep(60)

    build.write_manifest = hang
    build.build_dataset(parse(DatasetConfig, {config!r}), Path({out!r}))
"""


def test_a_killed_build_is_never_read_and_is_built_again(
    make_config: Callable[..., DatasetConfig], tmp_path: Path
) -> None:
    config = make_config(storage={"format": "hdf5"})
    out = tmp_path / "data"
    script = textwrap.dedent(KILLED).format(config=config.model_dump(mode="json"), out=str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"writing\n"
        process.kill()
        process.wait()
    (leftover,) = tmp_path.glob(".data.building-*")
    assert leftover.name.startswith(".data.building-")
    assert (leftover / "images.h5").exists()
    # Its lock died with it.
    with pytest.raises(DatasetError, match="no dataset at"):
        open_dataset(out)
    with pytest.raises(DatasetError, match="never finished"):
        open_dataset(leftover)

    dataset = build_dataset(config, out)
    assert len(open_dataset(out)) == len(dataset)
    assert list(tmp_path.iterdir()) == [out]


def test_leftovers_of_another_place_stay(tmp_path: Path) -> None:
    from candlemark.dataset.scratch import appearing_whole

    other = tmp_path / ".data1.building-abc"  # which "data[12]" would match as a pattern
    other.mkdir()
    mine = tmp_path / ".data[12].building-old"
    mine.mkdir()
    place = tmp_path / "data[12]"
    with appearing_whole(place, "new", keep=False, is_built=lambda: False):
        pass
    assert place.is_dir()
    assert other.is_dir()
    assert not mine.exists()


def test_names_are_on_disk_before_the_folder_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from candlemark.dataset import scratch

    forced: list[tuple[str, bool]] = []
    place = tmp_path / "data"
    monkeypatch.setattr(
        scratch, "sync", lambda path: forced.append((path.name, (place / "file").exists()))
    )
    with scratch.appearing_whole(place, "key", keep=False, is_built=lambda: False) as folder:
        (folder / "file").touch()
    assert forced == [(folder.name, False), (tmp_path.name, True)]


HOLDING = """
    from pathlib import Path
    import time
    from candlemark.dataset.scratch import alone

    with alone(Path({out!r})):
        print("held", flush=True)
        time.sleep({seconds})
"""


def test_a_second_build_waits_for_the_first(
    make_dataset: Callable[..., Dataset], tmp_path: Path, events: Events
) -> None:
    script = textwrap.dedent(HOLDING).format(out=str(tmp_path / "data"), seconds=0.5)
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout as output:
        assert output.readline() == b"held\n"
        assert len(make_dataset()) > 0
    assert holder.wait() == 0
    assert any("is being built by another process; waiting for it" in t for t in events.texts)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_a_place_that_takes_no_files_is_not_waited_for() -> None:
    from candlemark.dataset.scratch import alone

    with pytest.raises(DatasetError, match="cannot write /proc/data: "), alone(Path("/proc/data")):
        pass


def test_whoever_finishes_first_is_kept(
    make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write_and_be_overtaken(written: Manifest, folder: Path) -> None:
        manifest.write_manifest(written, folder)
        shutil.copytree(folder, tmp_path / "data")

    monkeypatch.setattr(build, "write_manifest", write_and_be_overtaken)
    assert len(make_dataset()) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_progress_counts_every_picture(
    make_dataset: Callable[..., Dataset], events: Events
) -> None:
    dataset = make_dataset(storage={"format": "hdf5"})
    advanced = [event for event in events.seen if event.kind == "advance"]
    assert sum(event.amount or 0 for event in advanced) == len(dataset)
    assert advanced[-1].text.endswith(" MB")


def test_a_random_split_warns(make_dataset: Callable[..., Dataset], events: Events) -> None:
    make_dataset(split={"method": "random"})
    warned = [event.text for event in events.seen if event.kind == "warning"]
    assert any("leaky" in text for text in warned)


def test_the_same_config_gives_the_same_bytes(make_dataset: Callable[..., Dataset]) -> None:
    one, two = make_dataset("a"), make_dataset("b")
    assert one.manifest.files == two.manifest.files
    np.testing.assert_array_equal(one.index.target, two.index.target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windw": 3}, "unknown key 'windw'; did you mean 'window'"),
        ({"style": "candlestik"}, "unknown chart style 'candlestik'"),
        ({"experiment": "fullimage", "style": "ohlc4"}, "take --style candlestick or --style jkx"),
        ({"style": {"kind": "candlestick", "width": 5}}, "width is 5 px"),
        ({"window": 1}, "greater than or equal to 2"),
    ],
)
def test_configs_that_are_refused(changes: dict[str, Any], message: str) -> None:
    value = {"candles": {"kind": "random_walk"}, **changes}
    with pytest.raises(ConfigError, match=message):
        parse(DatasetConfig, value)


def test_fullimage_fills_in_what_the_style_leaves_open() -> None:
    value = {"candles": {"kind": "random_walk"}, "experiment": "fullimage"}
    config = parse(DatasetConfig, value)
    assert config.image_shape == (448, 448, 3)
    assert config.drawn_style.draws_volume
    assert config.drawn_style.moving_averages == (7, 25)
    small = parse(DatasetConfig, {**value, "style": {"kind": "candlestick", "height": 96}})
    assert small.image_shape == (96, 448, 3)
    jkx = parse(DatasetConfig, {**value, "style": "jkx", "window": 20})
    assert jkx.image_shape == (128, 120)
