"""`candlemark dataset` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from candlemark.cli.dataset import app
from candlemark.dataset.lazy import open_dataset
from candlemark.errors import CandlemarkError

WALK = ("--symbol", "random_walk", "--style", "jkx", "--window-size", "8")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def build(*flags: str) -> Result:
    result = call("build", *flags)
    assert result.exit_code == 0, result.output
    return result


def error_of(*words: str) -> str:
    with pytest.raises(CandlemarkError) as found:
        call(*words)
    text = str(found.value)
    assert "\n" not in text
    return text


def test_build_list_show_audit() -> None:
    built = build(*WALK, "--label", "next_candle", "--out", "datasets/walk").output
    assert "label       next_candle: forecast, down / up" in built
    assert "audit it with: candlemark dataset audit datasets/walk" in built
    listed = call("list").output
    assert "datasets/walk  RANDOM_WALK 1h  next_candle (forecast)" in listed
    shown = call("show", "datasets/walk", "--per-split", "2").output
    assert Path("datasets/walk-sheet.png").is_file()
    assert "contact sheet: " in shown
    audited = call("audit", "datasets/walk")
    assert audited.exit_code == 0
    assert "no leak found" in audited.output


def test_a_direction_of_a_planted_pair() -> None:
    words = ("--symbol", "planted_pair", "--style", "jkx", "--label", "direction")
    built = build(*words, "--out", "pair").output
    assert "label       direction: forecast, bearish / neutral / bullish" in built
    assert open_dataset("pair").config.label.classes == 3
    build(*words, "--classes", "3", "--out", "pair")
    assert "direction' has three classes" in error_of("build", *words, "--classes", "2")
    build(*words, "--threshold", "0.004", "--horizon", "2", "--out", "wider")
    assert open_dataset("wider").config.label.threshold == 0.004


def test_default_label_is_called_recognition() -> None:
    assert "last_candle: recognition" in build(*WALK).output


def test_flags_reach_the_config() -> None:
    build(
        *WALK, "--label", "forward_return", "--horizon", "3", "--threshold", "0.01", "--classes",
        "3", "--height", "40", "--split", "60/20/20", "--embargo", "4", "--max-samples", "50",
        "--storage", "hdf5", "--seed", "7", "--stride", "2", "--experiment", "irregular",
        "--missing-share", "0.5", "--out", "data",
    )  # fmt: skip
    config = open_dataset("data").config
    assert (config.label.horizon, config.label.threshold, config.label.classes) == (3, 0.01, 3)
    assert (config.style.kind, config.style.height) == ("jkx", 40)
    assert (config.split.train, config.split.embargo, config.split.seed) == (0.6, 4, 7)
    assert (config.max_samples, config.stride, config.seed) == (50, 2, 7)
    assert (config.experiment, config.missing_share) == ("irregular", 0.5)
    assert Path("data/images.h5").is_file()


def test_flags_win_over_the_config_file() -> None:
    Path("d.yaml").write_text(
        "candles: {kind: random_walk, count: 500}\nwindow: 12\nstyle: ohlc4\n"
        "label: {name: forward_return, horizon: 5}\n",
        encoding="utf-8",
    )
    build("--config", "d.yaml", "--window-size", "9", "--height", "30", "--out", "data")
    config = open_dataset("data").config
    assert (config.window, config.candles.count, config.label.horizon) == (9, 500, 5)
    assert (config.style.kind, config.style.height) == ("ohlc4", 30)


def test_real_symbols_from_a_mirror(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEMARK_CACHE", str(Path.cwd() / "cache"))
    mirror = (shared_data / "binance").as_uri()
    flags = ("--symbol", "BTCUSDT,ETHUSDT", "--end", "2024-05", "--period", "14days")
    build(*flags, "--base-url", mirror, "--style", "jkx", "--window-size", "8", "--out", "data")
    dataset = open_dataset("data")
    assert dataset.manifest.symbols == ("BTCUSDT", "ETHUSDT")
    assert call("audit", "data").exit_code == 0


def test_candles_from_a_file() -> None:
    lines = [
        f"{1_704_067_200_000 + hour * 3_600_000},{hour},{hour + 2},{hour},{hour + 1},5"
        for hour in range(200)
    ]
    Path("prices.csv").write_text(
        "\n".join(["open_time,open,high,low,close,volume", *lines]), encoding="utf-8"
    )
    build("--file", "prices.csv", "--style", "jkx", "--window-size", "8", "--out", "data")
    assert open_dataset("data").manifest.interval == "1h"


def test_audit_exits_with_1_on_a_leak() -> None:
    assert "LEAKY" in build(*WALK, "--split", "random", "--out", "data").output
    leaky = call("audit", "data")
    assert leaky.exit_code == 1
    assert "split 'random' is leaky" in leaky.output
    value = call("audit", "data", "--json")
    assert value.exit_code == 1
    found: dict[str, Any] = json.loads(value.output)
    assert found["ok"] is False
    assert {c["name"] for c in found["checks"] if not c["ok"]} == {"split", "reach", "candles"}


def test_list_names_damaged_datasets() -> None:
    build(*WALK, "--out", "datasets/good")
    bad = Path("datasets/bad")
    bad.mkdir()
    (bad / "manifest.json").write_text("{", encoding="utf-8")
    listed = call("list").output
    assert "manifest.json is damaged" in listed
    assert "datasets/good  RANDOM_WALK" in listed
    entries = json.loads(call("list", "--json").output)["datasets"]
    assert [entry["path"] for entry in entries] == ["datasets/bad", "datasets/good"]


def test_a_misspelt_key_is_told_before_missing_candles() -> None:
    Path("d.yaml").write_text("candels: {kind: random_walk}\n", encoding="utf-8")
    message = error_of("build", "--config", "d.yaml")
    assert "unknown key 'candels'; did you mean 'candles'?" in message


def test_list_of_nothing() -> None:
    assert "no datasets in datasets; build one with:" in call("list").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("build",), "no candles are named; give --symbol BTCUSDT, --file PATH or --config"),
        (("build", "--symbol", "A", "--file", "b"), "--symbol and --file are both given"),
        (("build", "--symbol", "planted,BTCUSDT"), "planted is a market of its own"),
        (("build", "--symbol", "planted_pair,A"), "planted_pair is a market of its own"),
        (("build", *WALK, "--split", "7/3"), "--split '7/3' is not understood; allowed: time"),
        (("build", *WALK, "--split", "shuffle"), "split.method = 'shuffle'"),
        (("build", *WALK, "--label", "moon"), "unknown label 'moon'"),
        (("build", *WALK, "--experiment", "x"), "experiment = 'x'"),
        (("build", "--config", "none.yaml"), "cannot read config none.yaml"),
        (("show", "nowhere"), "no dataset at nowhere"),
        (("audit", "nowhere"), "no dataset at nowhere; build one with: candlemark dataset build"),
    ],
)
def test_wrong_input_is_one_line(words: tuple[str, ...], message: str) -> None:
    assert message in error_of(*words)


@pytest.mark.parametrize("command", ["build", "list", "show", "audit"])
def test_help_has_examples(command: str) -> None:
    assert f"candlemark dataset {command}" in call(command, "--help").output
