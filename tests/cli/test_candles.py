from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from candlemark.candles.export import write
from candlemark.candles.files import read_file
from candlemark.candles.series import CandleSeries
from candlemark.cli.candles import app, parse_columns
from candlemark.errors import ConfigError

Make = Callable[..., CandleSeries]


def run(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output


def test_show_prints_what_a_series_holds_and_a_chart(tmp_path: Path, make_series: Make) -> None:
    write(make_series(100, missing=(5, 6, 40)), tmp_path / "BTCUSDT.csv")
    output = run("show", str(tmp_path / "BTCUSDT.csv"))
    assert "series      BTCUSDT 1h" in output
    assert "range       2024-01-01 00:00 to 2024-01-05 04:00 UTC" in output
    assert "candles     97 in 100 slots" in output
    assert "gaps        3 slots missing in 2 run(s): 2 from 2024-01-01 05:00, 1 from" in output
    assert "duplicates  none" in output
    assert "zero volume none" in output
    assert "┤" in output


def test_show_reports_damage_instead_of_refusing_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [
        "1704067200,1,2,0.5,1,1",
        "1704067200,1,2,0.5,1,0",
        "1704070800,1,0.1,0.5,1,-1",
        "1704074400,1,2,0.5,1,1",
    ]
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n", encoding="utf-8")
    output = run("show", str(path), exit_code=1)
    assert "duplicates  1" in output
    assert "broken      high is below low: 1 rows" in output
    assert "broken      volume is negative: 1 rows" in output
    report = json.loads(run("show", str(path), "--json", exit_code=1))
    assert (report["duplicate_count"], report["ok"]) == (1, False)


def test_show_in_json(tmp_path: Path, make_series: Make) -> None:
    write(make_series(10, missing=(4,)), tmp_path / "x.parquet")
    report = json.loads(run("show", str(tmp_path / "x.parquet"), "--json"))
    assert report["gaps"] == [{"start_ms": 1_704_081_600_000, "slot_count": 1}]
    assert (report["count"], report["ok"], report["interval"]) == (9, True, "1h")


def test_show_of_a_synthetic_market() -> None:
    assert "candles     4,000 in 4,000 slots" in run("show", "random_walk")


def test_fetch_writes_a_file_that_reads_back(tmp_path: Path, make_series: Make) -> None:
    series = make_series(30)
    write(series, tmp_path / "in.csv")
    out = tmp_path / "out.parquet"
    output = run("fetch", str(tmp_path / "in.csv"), "--period", "12h", "--out", str(out))
    assert f"12 candles, 2024-01-01 18:00 to 2024-01-02 05:00 UTC, written to {out}" in (
        output.replace("\n", "")
    )
    assert read_file(out).open_time_ms.tolist() == series.open_time_ms[-12:].tolist()


def test_a_form_that_cannot_be_written_is_told_before_anything_is_fetched() -> None:
    with pytest.raises(ConfigError, match=r"cannot write 'x.xlsx'"):
        run("fetch", "BTCUSDT", "--base-url", "http://127.0.0.1:9", "--out", "x.xlsx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "BTCUSDT", "--via", "pigeon"], "--via 'pigeon' is unknown; known: archive, rest"),
        (["show", "x.csv", "--column", "close"], "--column 'close' is not understood"),
        (
            ["fetch", "A1", "B1", "--out", "x.csv"],
            "--out x.csv is one file and 2 sources are named",
        ),
        (["fetch", "A1", "planted"], "'planted' is no symbol; several are symbols"),
        (["fetch", "random_walk", "--refresh"], "random_walk keeps nothing to refresh"),
        (["show", "BTCUSDT", "--start", "whenever"], "start = 'whenever'"),
        (["serve", "/no/such/folder"], "there is no folder"),
        (["serve", ".", "--fault", "boom"], "unknown fault 'boom'"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(*arguments)


def test_columns_are_named_by_flags(tmp_path: Path) -> None:
    assert parse_columns(["time=when", "close=a=b"]) == {"open_time_ms": "when", "close": "a=b"}
    path = tmp_path / "x.csv"
    rows = [f"{1704067200 + 3600 * row},1,2,0.5,1" for row in range(3)]
    path.write_text("\n".join(["time,open,high,low,last trade", *rows]) + "\n", encoding="utf-8")
    output = run("show", str(path), "--column", "close=last trade", "--column", "volume=none")
    assert "zero volume 3 candles in 1 run(s): 3 from 2024-01-01 00:00" in output


def test_several_symbols_are_fetched_at_once(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path))
    span = ("--start", "2024-05-01", "--end", "2024-05-07", "--refresh")
    mirror = ("--base-url", (shared_data / "binance").as_uri())
    output = run("fetch", "btcusdt", "ETHUSDT", "BTCUSDT", *span, *mirror)
    assert output.splitlines() == [
        "BTCUSDT 1h: 168 candles, 2024-05-01 00:00 to 2024-05-07 23:00 UTC",
        "ETHUSDT 1h: 168 candles, 2024-05-01 00:00 to 2024-05-07 23:00 UTC",
    ]


@pytest.mark.parametrize("command", ["show", "fetch", "serve"])
def test_help_has_examples(command: str) -> None:
    output = run(command, "--help")
    assert f"candlemark candles {command}" in output


def test_a_terminal_without_unicode_gets_plain_characters(tmp_path: Path) -> None:
    code = (
        "from candlemark.cli.candles import app; app(['show', 'random_walk', '--interval', '1d'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONIOENCODING": "ascii", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    assert b"#" in result.stdout
    assert result.stdout.isascii()


def test_serve_tells_its_address_and_serves(tmp_path: Path) -> None:
    import httpx

    (tmp_path / "hello").write_text("there", encoding="utf-8")
    code = (
        f"from candlemark.cli.candles import app; app(['serve', {str(tmp_path)!r}, '--port', '0'])"
    )
    server: Any
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as server:
        line = server.stdout.readline()
        url = line.split(" at ")[1].split(";")[0]
        assert httpx.get(f"{url}/hello", trust_env=False).text == "there"
        server.terminate()
