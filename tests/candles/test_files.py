from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from candlemark.candles.export import write
from candlemark.candles.files import find_columns, is_file_name, read_file, symbol_of
from candlemark.candles.raw import infer_interval, stamps_to_ms
from candlemark.candles.series import CandleSeries
from candlemark.errors import CandleError, CandlemarkError, ConfigError, NotFoundError

START = 1_704_067_200_000  # 2024-01-01
HOURS = [START + row * 3_600_000 for row in range(3)]
Make = Callable[..., CandleSeries]


def csv_file(folder: Path, text: str, name: str = "BTCUSDT-x.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows_with(stamps: list[str], header: str = "time,open,high,low,close,volume") -> str:
    return "\n".join([header, *(f"{stamp},1,3,0.5,2,10" for stamp in stamps)]) + "\n"


@pytest.mark.parametrize(
    "stamps",
    [
        [str(ms) for ms in HOURS],
        [str(ms // 1000) for ms in HOURS],
        [str(ms * 1000) for ms in HOURS],
        [str(ms * 1_000_000) for ms in HOURS],
        [f"{ms // 1000}.0" for ms in HOURS],
        ["2024-01-01 00:00:00", "2024-01-01 01:00:00", "2024-01-01 02:00:00"],
        ["2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z", "2024-01-01T02:00:00Z"],
        ["2024-01-01T02:00:00+02:00", "2024-01-01T03:00:00+02:00", "2024-01-01T04:00:00+02:00"],
        ["1 Jan 2024 00:00", "1 Jan 2024 01:00", "1 Jan 2024 02:00"],
        ["2024.01.01 00:00", "2024.01.01 01:00", "2024.01.01 02:00"],
        ["2024/01/01 00:00", "2024/01/01 01:00", "2024/01/01 02:00"],
    ],
)
def test_stamps_of_every_form_are_the_same_times(tmp_path: Path, stamps: list[str]) -> None:
    raw = read_file(csv_file(tmp_path, rows_with(stamps)))
    assert raw.open_time_ms.tolist() == HOURS
    assert [raw.open[0], raw.high[0], raw.low[0], raw.close[0], raw.volume[0]] == [1, 3, 0.5, 2, 10]


@pytest.mark.parametrize(
    "header",
    [
        "Date,Open,High,Low,Close,Volume",
        "OPEN TIME,open,high,low,close,vol",
        "unix,date_open,open,high,low,close,Volume BTC".replace("date_open,", ""),
        "timestamp,Open Price,High Price,Low Price,Close Price,Base Volume",
        "t,o,h,l,c,v",
        '"Datetime","Open","High","Low","Close/Last","Volume"',
    ],
)
def test_usual_column_names_are_found(tmp_path: Path, header: str) -> None:
    raw = read_file(csv_file(tmp_path, rows_with([str(ms) for ms in HOURS], header)))
    assert raw.open_time_ms.tolist() == HOURS
    assert raw.volume.tolist() == [10] * 3


@pytest.mark.parametrize("date", ["2024.01.01", "2024-01-01", "20240101"])
@pytest.mark.parametrize("seconds", ["", ":00"])
def test_date_and_time_may_stand_apart(tmp_path: Path, date: str, seconds: str) -> None:
    stamps = [f"{date},0{hour}:00{seconds}" for hour in range(3)]
    header = "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>,<VOL>"
    text = rows_with(stamps, header).replace(",10\n", ",7,10\n")
    raw = read_file(csv_file(tmp_path, text))
    assert raw.open_time_ms.tolist() == HOURS
    assert raw.volume.tolist() == [10] * 3


def test_whole_days_as_numbers(tmp_path: Path) -> None:
    raw = read_file(csv_file(tmp_path, rows_with(["20240101", "20240102"])))
    assert raw.open_time_ms.tolist() == [START, START + 24 * 3_600_000]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_titles_and_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    text = "https://example.org/prices\n" + rows_with([str(ms) for ms in HOURS])
    raw = read_file(csv_file(tmp_path, text.replace(",", delimiter)))
    assert raw.open_time_ms.tolist() == HOURS


def test_no_header_line_means_six_columns_or_binances_twelve(tmp_path: Path, make_csv: Any) -> None:
    six = "".join(f"{ms},1,3,0.5,2,10\n" for ms in HOURS)
    assert read_file(csv_file(tmp_path, six)).close.tolist() == [2] * 3
    twelve = csv_file(tmp_path, make_csv(START, 3).decode())
    assert read_file(twelve).volume.tolist() == [5] * 3
    assert read_file(twelve, market="cm").volume.tolist() == [500] * 3
    with pytest.raises(CandleError, match=r"no header line and 7 columns"):
        read_file(csv_file(tmp_path, "".join(f"{ms},1,3,0.5,2,10,7\n" for ms in HOURS)))


def test_binance_zips_and_gzipped_csv(tmp_path: Path, make_csv: Any, make_zip: Any) -> None:
    (tmp_path / "BTCUSDT-1h-2024-01.zip").write_bytes(make_zip(make_csv(START, 3, header=True)))
    assert read_file(tmp_path / "BTCUSDT-1h-2024-01.zip").open_time_ms.tolist() == HOURS
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(rows_with([str(HOURS[0])]).encode()))
    assert len(read_file(tmp_path / "x.csv.gz")) == 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
def test_what_is_written_reads_back_the_same(
    tmp_path: Path, make_series: Make, suffix: str
) -> None:
    series = make_series(50, missing=(7, 8))
    write(series, tmp_path / f"x{suffix}")
    raw = read_file(tmp_path / f"x{suffix}")
    for name, column in series.to_numpy().items():
        assert np.array_equal(getattr(raw, name), column), name
    assert list(tmp_path.iterdir()) == [tmp_path / f"x{suffix}"]


def test_unwritable_outputs_are_one_line(tmp_path: Path, make_series: Make) -> None:
    with pytest.raises(ConfigError, match=r"cannot write 'x.xlsx'; name a file ending in .parquet"):
        write(make_series(5), tmp_path / "x.xlsx")
    with pytest.raises(CandlemarkError, match=r"cannot write .*no/x.csv"):
        write(make_series(5), tmp_path / "no" / "x.csv")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_timestamp_columns_of_parquet_and_feather(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    stamps = pa.array(HOURS, pa.timestamp("ms", tz=zone)).cast(pa.timestamp(unit, tz=zone))
    values = pa.array([1.0, 2.0, 3.0])
    names = ["Date", "Open", "High", "Low", "Close", "Volume"]
    table = pa.table([stamps, *[values] * 5], names=names)
    parquet.write_table(table, tmp_path / "x.parquet")
    feather.write_feather(table, str(tmp_path / "x.feather"))
    for name in ("x.parquet", "x.feather"):
        assert read_file(tmp_path / name).open_time_ms.tolist() == HOURS


def test_a_frame_saved_by_pandas_with_its_index(tmp_path: Path, make_series: Make) -> None:
    series = make_series(10)
    series.to_pandas().to_parquet(tmp_path / "named.parquet")
    series.to_pandas().rename_axis(None).to_parquet(tmp_path / "unnamed.parquet")
    for name in ("named.parquet", "unnamed.parquet"):
        raw = read_file(tmp_path / name)
        assert np.array_equal(raw.open_time_ms, series.open_time_ms)


def test_columns_are_named_by_the_caller(tmp_path: Path) -> None:
    path = csv_file(tmp_path, rows_with([str(ms) for ms in HOURS], "when,a,b,c,d,e"))
    with pytest.raises(
        CandleError, match=r"no column is called like open_time_ms; it has: when, a"
    ):
        read_file(path)
    columns = {"open_time_ms": "when", "open": "a", "high": "b", "low": "c", "close": "d"}
    with pytest.raises(CandleError, match=r"--column volume=NAME, or --column volume=none"):
        read_file(path, columns=columns)
    assert read_file(path, columns={**columns, "volume": "e"}).volume.tolist() == [10] * 3
    assert read_file(path, columns={**columns, "volume": "none"}).volume.tolist() == [0] * 3
    with pytest.raises(CandleError, match=r"has no column 'f'; it has: when"):
        read_file(path, columns={**columns, "volume": "f"})
    with pytest.raises(ConfigError, match=r"columns names 'price'; known: open_time_ms"):
        read_file(path, columns={"price": "a"})


def test_better_known_names_win() -> None:
    names = ["date", "unix", "open", "high", "low", "close", "adj close", "Volume USDT", "Volume"]
    found = find_columns(names, {}, where="x")
    assert (found["open_time_ms"], found["close"], found["volume"]) == ("unix", "close", "Volume")


def test_a_file_from_new_to_old_is_turned_round(tmp_path: Path, messages: Any) -> None:
    raw = read_file(csv_file(tmp_path, rows_with([str(ms) for ms in reversed(HOURS)])))
    assert raw.open_time_ms.tolist() == HOURS
    assert messages.notes == ["BTCUSDT-x.csv runs from new to old; it was turned round"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; it holds no candles"),
        ("hello\nworld\n", "no line of at least 5 columns"),
        ("time,open,high,low,close,volume\n", "holds no candles"),
        (rows_with(["2024-01-01 00:00", ""]), "stamp in row 1 .* is missing|'' is not understood"),
        (rows_with(["01/02/2024", "01/03/2024"]), "row 0 of 'time': date '01/02/2024'"),
        (rows_with([str(START), str(START * 1000)]), "mixed units: .*row 1"),
        (rows_with(["17", "18"]), "row 0 of .time.: date .17. is not understood"),
        (rows_with([str(START)]).replace("0.5", "low"), "column 'low' holds no numbers"),
        (rows_with([str(START)]) + "1,2\n", "not readable as CSV"),
    ],
)
def test_damaged_files_are_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CandleError, match=words) as error:
        read_file(csv_file(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.parquet", "x.feather"])
def test_damaged_binary_files_are_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not what the name says")
    with pytest.raises(CandleError, match=r"damaged or of another form"):
        read_file(tmp_path / name)


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"x.csv does not exist; name a file ending in .csv"):
        read_file(tmp_path / "x.csv")
    with pytest.raises(NotFoundError, match=r"is a folder"):
        read_file(tmp_path)
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(CandleError, match=r"x.xlsx: unknown form"):
        read_file(tmp_path / "x.xlsx")


def test_empty_cells_are_nan_and_refused_by_the_series(tmp_path: Path) -> None:
    text = rows_with([str(ms) for ms in HOURS]).replace("3,0.5,2,10\n", ",0.5,2,10\n", 1)
    raw = read_file(csv_file(tmp_path, text))
    with pytest.raises(
        CandleError, match=r"high is not a finite number in row 0, 2024-01-01 00:00"
    ):
        raw.to_series(symbol="X", interval="1h")


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("BTCUSDT-1h-2024-01.zip", "BTCUSDT"), ("btcusd_perp.csv.gz", "BTCUSD_PERP"), ("_.csv", "_")],
)
def test_the_symbol_is_told_from_the_name(name: str, symbol: str) -> None:
    assert symbol_of(Path(name)) == symbol


def test_what_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_file_name("x.csv")
    assert is_file_name("./x")
    assert not is_file_name("BTCUSDT")
    assert not is_file_name("BTC/USDT")
    assert not is_file_name("A" * 5000)
    Path("BTCUSDT").touch()
    assert is_file_name("BTCUSDT")


def test_the_interval_is_the_usual_step() -> None:
    assert infer_interval(np.array([0, 1, 2, 5, 6]) * 900_000, where="x") == "15m"
    with pytest.raises(CandleError, match=r"cannot be told from 1 stamp"):
        infer_interval(np.array([0]), where="x")
    with pytest.raises(CandleError, match=r"step by 7 s .* no known interval; known: 1s"):
        infer_interval(np.array([0, 7000, 14000]), where="x")


def test_float_stamps_keep_their_milliseconds() -> None:
    stamps = np.array([1_704_067_200.25])
    assert stamps_to_ms(stamps, where="x", units=("s",)).tolist() == [START + 250]
    with pytest.raises(CandleError, match=r"row 1 is missing or not a number"):
        stamps_to_ms(np.array([1.7e12, np.nan]), where="x")
