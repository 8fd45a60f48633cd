"""`candlemark dataset build --config` with a pipeline's file, and the log it leaves."""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from candlemark import progress
from candlemark.candles.cache import Cache, default_folder, kept_in
from candlemark.cli.dataset import app
from candlemark.cli.pipeline_log import PipelineLog
from candlemark.dataset.lazy import open_dataset
from candlemark.errors import CandlemarkError, ConfigError

LINE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z (info|warning|error) +\S?.*")
WALK = """
data: {symbol: random_walk, interval: 1h}
image: {seq_len: 8, resolution: {height: 24}, storage: {format: hdf5, images_per_file: 100}}
paths: {raw_data: raw, processed_data: made, models: trained, logs: out/logs}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))


class Listener:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def handle(self, event: progress.Event) -> None:
        self.texts.append(event.text)


@pytest.fixture
def console() -> Any:
    heard = Listener()
    before = progress.set_reporter(heard)
    yield heard
    progress.set_reporter(before)


def build(text: str, *flags: str) -> str:
    Path("old.yaml").write_text(text, encoding="utf-8")
    words = ["build", "--config", "old.yaml", *flags]
    result = CliRunner().invoke(app, words, catch_exceptions=True)
    if isinstance(result.exception, CandlemarkError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def the_log(folder: str = "out/logs") -> str:
    (path,) = Path(folder).glob("pipeline_*.log")
    assert re.fullmatch(r"pipeline_\d{8}_\d{6}\.log", path.name)
    text = path.read_text(encoding="utf-8")
    assert all(LINE.fullmatch(line) for line in text.splitlines())
    return text


def test_a_pipelines_file_builds_its_dataset(console: Listener) -> None:
    output = build(WALK, "--max-samples", "60")
    (folder,) = Path("made").iterdir()
    dataset = open_dataset(folder)
    assert (dataset.config.style.kind, dataset.image_shape) == ("ohlc4", (24, 32))
    assert (dataset.config.window, dataset.config.storage.format) == (8, "hdf5")
    assert dataset.config.max_samples == 60
    assert "models go to trained: candlemark models list --store trained" in output
    drawing = [text for text in console.texts if text.startswith("drawing with numba on ")]
    assert len(drawing) == 1
    assert re.fullmatch(r"drawing with numba on \d+ CPU threads?", drawing[0])
    log = the_log()
    for line in output.splitlines():
        assert f" info    {line}\n" in log
    for text in (
        "    seq_len: 8\n",  # the file
        "    window: 8\n",  # what it means
        "is not used: hdf5 keeps all pictures in one file\n",
        drawing[0],
        "drawing: begun, 60 images\n",
        "finished after ",
    ):
        assert text in log
    assert re.search(r"info    drawing: 60 images in \d+\.\d s\n", log)


def test_flags_beside_the_file_win() -> None:
    build(
        WALK, "--window-size", "9", "--height", "30", "--label", "next_candle", "--storage", "npz",
        "--storage-mode", "batch", "--images-per-file", "50", "--packing", "bits",
        "--max-samples", "60", "--out", "mine",
    )  # fmt: skip
    config = open_dataset("mine").config
    assert (config.window, config.image_shape, config.label.name) == (9, (30, 36), "next_candle")
    assert config.storage.format == "npz"
    assert (config.storage.mode, config.storage.images_per_file) == ("batch", 50)
    assert config.storage.packing == "bits"
    assert not Path("made").exists()


def test_dates_of_candles_that_are_made_up_are_told_of(console: Listener) -> None:
    text = WALK.replace("interval: 1h", "interval: 1h, start_date: 2024-01-01, end_date: 2024-02")
    build(text, "--max-samples", "60")
    told = [line for line in console.texts if line.startswith("data.")]
    assert told == [
        f"data.{line} is not used: random_walk is made up, with dates of its own"
        for line in ("start_date: 2024-01-01", "end_date: 2024-02")
    ]


def test_another_format_takes_nothing_of_the_files(console: Listener) -> None:
    text = WALK.replace("hdf5, images_per_file: 100", "npz, mode: batch, images_per_file: 100")
    build(text, "--storage", "jpeg", "--jpeg-quality", "80", "--max-samples", "20", "--out", "mine")
    storage = open_dataset("mine").config.storage
    assert (storage.format, storage.mode, storage.images_per_file) == ("jpeg", None, None)
    assert storage.quality == 80


def test_storage_flags_without_a_file() -> None:
    words = ["build", "--symbol", "random_walk", "--window-size", "8", "--max-samples", "20"]
    flags = ["--style", "jkx", "--storage", "hdf5", "--packing", "none", "--out", "mine"]
    assert CliRunner().invoke(app, [*words, *flags]).exit_code == 0
    storage = open_dataset("mine").config.storage
    assert (storage.format, storage.packing) == ("hdf5", "none")
    assert not Path("logs").exists()
    with pytest.raises(ConfigError, match=r"quality 80 does not go with format 'npz'"):
        build("candles: {kind: random_walk}", "--storage", "npz", "--jpeg-quality", "80")


def test_downloads_go_to_raw_data(shared_data: Path) -> None:
    mirror = (shared_data / "binance").as_uri()
    text = (
        "data: {symbol: [BTCUSDT, ETHUSDT], interval: 1h, start_date: 2024-05-01, "
        "end_date: 2024-05-07}\n"
        "image: {seq_len: 8, resolution: {height: 24}}\n"
        "paths: {raw_data: raw}\n"
    )
    build(text, "--base-url", mirror)
    (folder,) = Path("datasets").iterdir()
    dataset = open_dataset(folder)
    assert dataset.manifest.symbols == ("BTCUSDT", "ETHUSDT")
    assert [entry.candle_count for entry in dataset.manifest.series] == [7 * 24, 7 * 24]
    assert len(list(Path("raw/parsed").rglob("*.candles"))) == 2
    assert not Path("cache").exists()
    assert "BTCUSDT, ETHUSDT 1h: 2 months in " in the_log("logs")


def test_an_error_leaves_its_traceback_in_the_log() -> None:
    text = "data: {symbol: BTCUSDT, start_date: 2020-01-01, end_date: 2019-01-01}\n"
    with pytest.raises(ConfigError, match=r"is not before end"):
        build(text)
    log = the_log("logs")
    assert "error   ConfigError: start '2020-01-01' is not before end '2019-01-01'; swap" in log
    assert "error   Traceback (most recent call last):" in log
    assert re.search(r"error   failed after \d+\.\d s\n$", log)


def test_a_file_that_is_wrong_leaves_no_log() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'image.seqlen'; did you mean 'seq_len'"):
        build("data: {symbol: A1}\nimage: {seqlen: 3}\n")
    with pytest.raises(ConfigError, match=r"old.yaml mixes two shapes: 'data' of one and 'window'"):
        build("data: {symbol: A1}\nwindow: 3\n")
    assert not Path("logs").exists()


def test_a_log_that_cannot_be_made_is_one_line() -> None:
    Path("out").write_text("in the way", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot write a log in out/logs: .*paths.logs"):
        build(WALK)


def test_logs_of_the_same_second_have_names_of_their_own(tmp_path: Path) -> None:
    with PipelineLog(tmp_path) as one, PipelineLog(tmp_path) as two:
        one.record("a", "b")
        two.record("c", "d")
    assert one.path != two.path
    assert len(list(tmp_path.glob("pipeline_*.log"))) == 2


def test_a_disk_that_fills_ends_the_log_and_not_the_build(
    tmp_path: Path, console: Listener
) -> None:
    with PipelineLog(tmp_path) as log:

        class Full:
            def write(self, text: str) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            def close(self) -> None: ...

        real, log._file = log._file, Full()  # type: ignore[assignment]
        progress.note("first")
        progress.note("second")
        assert real is not None
        real.close()
    ended = [text for text in console.texts if "ends here" in text]
    assert ended == [f"the log {log.path} ends here: No space left on device"]
    assert console.texts[-1] == "second"


def test_an_interrupt_is_logged_and_the_console_given_back(
    tmp_path: Path, console: Listener
) -> None:
    with pytest.raises(KeyboardInterrupt), PipelineLog(tmp_path) as log:
        raise KeyboardInterrupt
    assert " error   interrupted after " in log.path.read_text(encoding="utf-8")
    assert progress.set_reporter(console) is console


def test_candles_are_kept_where_a_block_says(tmp_path: Path) -> None:
    assert default_folder() == tmp_path / "cache"
    with kept_in(tmp_path / "raw"):
        assert Cache().folder == tmp_path / "raw"
        with kept_in(None):
            assert Cache().folder == tmp_path / "raw"
    assert default_folder() == tmp_path / "cache"


def test_the_command_itself_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["candlemark", "dataset", "build", "--config", "my file.yaml"])
    build(WALK, "--max-samples", "20")
    assert "info    candlemark dataset build --config 'my file.yaml'\n" in the_log()
