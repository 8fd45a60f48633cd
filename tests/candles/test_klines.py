from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from candlemark.candles.klines import parse_csv, parse_json, parse_zip, unzip
from candlemark.errors import CandleError, FetchError

START = 1_735_603_200_000  # 2024-12-31
Make = Callable[..., bytes]


@pytest.mark.parametrize("per_ms", [1, 1000])
@pytest.mark.parametrize("header", [False, True])
def test_units_and_header_lines_change_nothing(make_csv: Make, per_ms: int, header: bool) -> None:
    raw = parse_csv(make_csv(START, 5, per_ms=per_ms, header=header), market="spot", where="x")
    assert raw.open_time_ms.tolist() == [START + row * 3_600_000 for row in range(5)]
    assert raw.open.tolist() == [100, 101, 102, 103, 104]
    assert raw.high.tolist() == [102, 103, 104, 105, 106]
    assert raw.low.tolist() == [99, 100, 101, 102, 103]
    assert raw.close.tolist() == [101, 102, 103, 104, 105]
    assert raw.volume.tolist() == [5] * 5


def test_coin_margined_volume_is_base_volume_whatever_the_header_says(make_csv: Make) -> None:
    data = make_csv(START, 3, header=True)
    assert parse_csv(data, market="um", where="x").volume.tolist() == [5] * 3
    assert parse_csv(data, market="cm", where="x").volume.tolist() == [500] * 3


def test_mixed_units_in_one_file_are_refused_with_the_row(make_csv: Make) -> None:
    data = make_csv(START, 2) + make_csv(START + 7_200_000, 2, per_ms=1000)
    with pytest.raises(CandleError, match=r"mixed units.*milliseconds.*microseconds.*row 2"):
        parse_csv(data, market="spot", where="x.zip")


def test_byte_order_mark_and_windows_line_ends(make_csv: Make) -> None:
    data = b"\xef\xbb\xbf" + make_csv(START, 3, header=True).replace(b"\n", b"\r\n")
    assert len(parse_csv(data, market="spot", where="x")) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "holds no candles"),
        (lambda data: b"\n", "holds no candles"),
        (lambda data: data.splitlines()[0] + b"\n", "holds no candles"),
        (lambda data: data.replace(b"500.0", b""), "not a kline file of 12 columns"),
        (lambda data: data.replace(b",0\n", b"\n"), "not a kline file of 12 columns"),
        (lambda data: data.replace(b"101.0", b"abc"), "not a kline file of 12 columns"),
        (lambda data: data.replace(str(START).encode(), b"17"), "mixed units|no UTC time"),
        (lambda data: b"<html>\n<body>503</body>\n", "not a kline file"),
        (lambda data: b"\xff\xfe\x00" * 40, "holds no candles|not a kline file"),
    ],
)
def test_damaged_csv_is_one_clear_line(
    make_csv: Make, change: Callable[[bytes], bytes], words: str
) -> None:
    with pytest.raises(CandleError, match=words) as error:
        parse_csv(change(make_csv(START, 3, header=True)), market="cm", where="x.zip")
    assert "\n" not in str(error.value)


def test_microseconds_that_are_no_whole_milliseconds_are_refused(make_csv: Make) -> None:
    data = make_csv(START, 1, per_ms=1000).replace(str(START * 1000).encode(), b"1735603200000001")
    with pytest.raises(CandleError, match=r"no whole number of milliseconds"):
        parse_csv(data, market="spot", where="x")


def test_json_rows_read_as_csv_rows(make_csv: Make) -> None:
    lines = make_csv(START, 4).decode().split()
    rows = [
        [
            int(value) if column in {0, 6, 8} else value
            for column, value in enumerate(line.split(","))
        ]
        for line in lines
    ]
    json_raw = parse_json(rows, market="cm", where="api")
    csv_raw = parse_csv(make_csv(START, 4), market="cm", where="x")
    for name in ("open_time_ms", "open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(json_raw, name), getattr(csv_raw, name))
    assert len(parse_json([], market="spot", where="api")) == 0
    with pytest.raises(CandleError, match=r"12 columns"):
        parse_json([[1, 2]], market="spot", where="api")
    with pytest.raises(CandleError, match=r"no number"):
        parse_json([[START, "x", *rows[0][2:]]], market="spot", where="api")


def test_the_one_member_is_read(make_zip: Make) -> None:
    assert unzip(make_zip(b"hello"), limit_bytes=5, where="x") == b"hello"


@pytest.mark.parametrize("name", ["../x.csv", "/x.csv", "a/x.csv", "a\\x.csv", "C:x.csv", ".."])
def test_names_that_are_paths_are_refused(make_zip: Make, name: str) -> None:
    with pytest.raises(FetchError, match=r"a path; refused"):
        unzip(make_zip(b"hello", name), limit_bytes=100, where="x")


@pytest.mark.parametrize("count", [0, 2])
def test_anything_but_one_member_is_refused(count: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.csv", "x")
    with pytest.raises(FetchError, match=f"holds {count} members"):
        unzip(buffer.getvalue(), limit_bytes=100, where="x")


def test_bombs_are_refused_by_size_and_by_ratio(make_zip: Make) -> None:
    with pytest.raises(FetchError, match=r"over the limit of 9,999 .*zip bomb"):
        unzip(make_zip(b"a1" * 5000), limit_bytes=9_999, where="x")
    with pytest.raises(FetchError, match=r"over 200 times its size; refused as a zip bomb"):
        unzip(make_zip(b"0" * 10**6), limit_bytes=10**7, where="x")


def test_a_header_that_lies_about_the_size_does_not_unpack_more(make_zip: Make) -> None:
    data = make_zip(bytes(range(256)) * 40)
    lied = data.replace(struct.pack("<I", 256 * 40), struct.pack("<I", 100))
    assert lied != data
    with pytest.raises(FetchError, match=r"not a readable zip archive"):
        unzip(lied, limit_bytes=200, where="x")


def test_encrypted_members_are_refused(make_zip: Make) -> None:
    data = bytearray(make_zip(b"hello"))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(FetchError, match=r"encrypted; refused"):
        unzip(bytes(data), limit_bytes=100, where="x")


def test_no_damage_to_a_zip_gives_other_bytes(make_csv: Make, make_zip: Make) -> None:
    """Even without its SHA-256, a flipped or cut byte gives the same CSV or one FetchError."""
    text = make_csv(START, 3)
    data = make_zip(text)
    for bit in range(8 * len(data)):
        at = bit // 8
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << bit % 8
        for candidate in (bytes(spoilt), data[:at]) if bit % 8 == 0 else (bytes(spoilt),):
            try:
                assert unzip(candidate, limit_bytes=10_000, where="x") == text
            except FetchError as error:
                assert "\n" not in str(error)  # noqa: PT017  # both endings are right


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("count", [1, 3, 5000])
@pytest.mark.parametrize("header", [False, True])
def test_a_zip_is_parsed_as_its_text_is(
    make_csv: Make, method: int, count: int, header: bool
) -> None:
    text = make_csv(START, count, header=header)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x.csv", b"\xef\xbb\xbf" + text)
    limits = {"limit_bytes": 10**7, "where": "x"}
    raw = parse_zip(buffer.getvalue(), market="cm", **limits)
    assert raw is not None
    expected = parse_csv(text, market="cm", where="x")
    assert len(raw) == count
    for name in ("open_time_ms", "open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(raw, name), getattr(expected, name))
        assert not getattr(raw, name).flags.writeable
    assert unzip(buffer.getvalue(), **limits)[3:] == text


@pytest.mark.parametrize("text", [b"", b"\n", b" \r\n" * 4000])
def test_a_zip_of_nothing_is_nothing(text: bytes) -> None:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("x.csv", text)
    assert parse_zip(stored.getvalue(), limit_bytes=10**5, market="spot", where="x") is None
    with pytest.raises(CandleError, match=r"x: holds no candles"):
        parse_csv(text, market="spot", where="x")
    if text:
        with pytest.raises(CandleError, match=r"x: holds no candles"):
            parse_csv(b"open_time,open" + text, market="spot", where="x")


def test_rows_behind_much_white_space_are_seen(make_csv: Make) -> None:
    header, _, rows = make_csv(START, 2, header=True).partition(b"\n")
    raw = parse_csv(header + b"\n" * 9000 + rows, market="spot", where="x")
    assert len(raw) == 2
