"""Parsed zips are kept, proved when read, and never those of another file."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark import progress
from candlemark.candles import archive as archive_module
from candlemark.candles import parsed as parsed_module
from candlemark.candles.archive import Archive
from candlemark.candles.cache import Cache
from candlemark.candles.dates import parse_date
from candlemark.candles.fetch import Fetcher
from candlemark.candles.mirror import Fault, Mirror
from candlemark.candles.parsed import Entry, ParsedCache, join_parts
from candlemark.candles.raw import RawCandles
from candlemark.candles.series import COLUMNS
from candlemark.errors import CandleError, ChecksumError, FetchError, NotFoundError

JANUARY = parse_date("2025-01")
BOTH = {"start_ms": JANUARY.start_ms, "end_ms": parse_date("2025-02").end_ms}
NAMES = ("open_time_ms", *COLUMNS)


def load(url: str, symbol: str = "BTCUSDT", **options: Any) -> RawCandles:
    with Fetcher(url) as fetcher:
        return Archive(fetcher, refresh=options.pop("refresh", False)).load(
            symbol, "1h", **{**BOTH, **options}
        )


def settled(folder: Path) -> None:
    """As if every file had lain there for an hour."""
    for path in folder.rglob("*.zip"):
        os.utime(path, (time.time() - 3600,) * 2)


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "parsed").rglob("*.candles"))


def told_of_damage(messages: Any) -> list[str]:
    return [
        text
        for text in messages.warnings
        if text.endswith(".candles was damaged on disk; its zip is parsed again")
    ]


def equal(one: RawCandles, other: RawCandles) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in NAMES)


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were parsed as text, as the test goes on."""
    parsed: list[str] = []
    real = archive_module.parse_zip

    def counted(data: bytes, *, where: str, **options: Any) -> RawCandles | None:
        parsed.append(where)
        return real(data, where=where, **options)

    monkeypatch.setattr(archive_module, "parse_zip", counted)
    return parsed


@pytest.mark.parametrize("served", [True, False])
def test_a_zip_is_parsed_once(archive_folder: Any, unparsed: list[str], served: bool) -> None:
    archive_folder.month(2025, 1, count=31 * 24)
    archive_folder.month(2025, 2, per_ms=1000)
    settled(archive_folder.root)
    with Mirror(archive_folder.root) as mirror:
        url = mirror.url if served else archive_folder.url
        first = load(url)
        assert sorted(unparsed) == ["BTCUSDT-1h-2025-01.zip", "BTCUSDT-1h-2025-02.zip"]
        again = load(url)
        cut = load(url, start_ms=JANUARY.start_ms + 5 * 3_600_000)
    assert len(unparsed) == 2
    assert equal(first, again)
    assert equal(cut, first.take(slice(5, None)))
    assert not any(getattr(again, name).flags.writeable for name in NAMES)


def test_a_series_takes_the_columns_without_a_copy(archive_folder: Any) -> None:
    archive_folder.month(2025, 1)
    raw = load(archive_folder.url)
    series = raw.to_series(symbol="BTCUSDT", interval="1h")
    assert np.shares_memory(series.close, raw.close)
    assert np.shares_memory(series.slots.close, raw.close)


def test_daily_files_are_kept_as_well(archive_folder: Any, unparsed: list[str]) -> None:
    archive_folder.day(2025, 2, 1)
    archive_folder.day(2025, 2, 2)
    settled(archive_folder.root)
    assert len(load(archive_folder.url)) == len(load(archive_folder.url)) == 48
    assert len(unparsed) == 2


def test_every_flipped_bit_of_an_entry_is_caught(
    archive_folder: Any, private_cache: Path, messages: Any
) -> None:
    archive_folder.month(2025, 1, count=2)
    settled(archive_folder.root)
    truth = load(archive_folder.url)
    (entry,) = entries(private_cache)
    good = entry.read_bytes()
    assert len(good) == 48 + 2 * 48
    for at in range(len(good)):
        spoilt = bytearray(good)
        spoilt[at] ^= 1 << at % 8
        entry.write_bytes(bytes(spoilt))
        assert equal(load(archive_folder.url), truth), at
        assert entry.read_bytes() == good
    assert len(told_of_damage(messages)) == len(good)


@pytest.mark.parametrize("size", [0, 5, 48, 100, 143, 145])
def test_an_entry_of_another_length_is_caught(
    archive_folder: Any, private_cache: Path, messages: Any, size: int
) -> None:
    archive_folder.month(2025, 1, count=2)
    settled(archive_folder.root)
    truth = load(archive_folder.url)
    (entry,) = entries(private_cache)
    good = entry.read_bytes()
    entry.write_bytes((good + b"\0")[:size])
    assert equal(load(archive_folder.url), truth)
    assert len(told_of_damage(messages)) == 1
    assert entry.read_bytes() == good


def test_an_entry_that_breaks_between_finding_and_reading_is_parsed_again(
    archive_folder: Any, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_folder.month(2025, 1, count=3)
    archive_folder.month(2025, 2, count=2)
    settled(archive_folder.root)
    truth = load(archive_folder.url)
    real = Entry.read_into
    struck: list[Path] = []

    def strike(self: Entry, columns: Any) -> bool:
        if not struck:
            struck.append(self.path)
            self.path.unlink()
        return real(self, columns)

    monkeypatch.setattr(Entry, "read_into", strike)
    assert equal(load(archive_folder.url), truth)
    assert len(entries(private_cache)) == 2


@pytest.mark.parametrize("keeps_its_time", [False, True])
def test_a_zip_that_changed_is_never_taken_for_the_old_one(
    archive_folder: Any, keeps_its_time: bool
) -> None:
    path = archive_folder.month(2025, 1, count=24)
    settled(archive_folder.root)
    before = path.stat()
    assert len(load(archive_folder.url)) == 24
    archive_folder.month(2025, 1, count=25)
    if keeps_its_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(load(archive_folder.url)) == 25


def test_a_zip_that_no_longer_has_its_sum_is_refused_though_it_was_kept(
    archive_folder: Any,
) -> None:
    path = archive_folder.month(2025, 1)
    settled(archive_folder.root)
    assert len(load(archive_folder.url)) == 24
    spoilt = bytearray(path.read_bytes())
    spoilt[40] ^= 1
    path.write_bytes(bytes(spoilt))
    with pytest.raises(ChecksumError, match=r"has SHA-256 .* its .CHECKSUM says"):
        load(archive_folder.url)


def test_a_checksum_that_changed_alone_is_refused_though_the_zip_was_kept(
    archive_folder: Any,
) -> None:
    path = archive_folder.month(2025, 1)
    settled(archive_folder.root)
    load(archive_folder.url)
    path.with_name(f"{path.name}.CHECKSUM").write_text(
        f"{'0' * 64}  {path.name}\n", encoding="utf-8"
    )
    with pytest.raises(ChecksumError, match=r"its .CHECKSUM says 0000"):
        load(archive_folder.url)


def test_a_file_that_changed_just_now_is_hashed_again(
    archive_folder: Any, private_cache: Path, unparsed: list[str]
) -> None:
    archive_folder.month(2025, 1)
    load(archive_folder.url)
    assert not (private_cache / "seen").exists()
    load(archive_folder.url)
    assert len(unparsed) == 2


def test_a_zip_that_vanished_from_a_folder_is_gone(archive_folder: Any) -> None:
    path = archive_folder.month(2025, 1)
    settled(archive_folder.root)
    load(archive_folder.url)
    path.unlink()
    with pytest.raises(FetchError, match=r"is gone, its .CHECKSUM is there"):
        load(archive_folder.url)


def test_the_same_bytes_under_another_month_are_still_refused(
    archive_folder: Any, private_cache: Path
) -> None:
    january = archive_folder.month(2025, 1)
    settled(archive_folder.root)
    load(archive_folder.url)
    february = archive_folder.month(2025, 2)
    february.write_bytes(january.read_bytes())
    sums = january.with_name(f"{january.name}.CHECKSUM").read_text(encoding="utf-8")
    text = sums.replace(january.name, february.name)
    february.with_name(f"{february.name}.CHECKSUM").write_text(text, encoding="utf-8")
    settled(archive_folder.root)
    for _ in range(2):
        with pytest.raises(CandleError, match=r"2025-02.zip holds a candle of 2025-01-01 00:00"):
            load(archive_folder.url)


def test_markets_that_read_another_volume_do_not_share_an_entry(archive_folder: Any) -> None:
    spot = archive_folder.month(2025, 1)
    coin = archive_folder.month(2025, 1, market="cm")
    assert spot.read_bytes() == coin.read_bytes()
    settled(archive_folder.root)
    for _ in range(2):
        assert load(archive_folder.url).volume[0] == 5
        assert load(archive_folder.url, market="cm").volume[0] == 500


def test_another_parser_reads_the_zip_again(
    archive_folder: Any, unparsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_folder.month(2025, 1)
    settled(archive_folder.root)
    load(archive_folder.url)
    monkeypatch.setattr(parsed_module, "PARSER_VERSION", 2)
    load(archive_folder.url)
    assert len(unparsed) == 2


def test_a_cache_that_cannot_be_written_costs_speed_only(
    archive_folder: Any, messages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_folder.month(2025, 1)
    archive_folder.month(2025, 2)
    settled(archive_folder.root)

    def full(path: Path, *parts: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parsed_module, "write_by_rename", full)
    assert len(load(archive_folder.url)) == 48
    (line,) = messages.warnings
    assert line.startswith("cannot keep parsed candles at ")
    assert line.endswith(
        "No space left on device; they are parsed again the next time, "
        "unless CANDLEMARK_CACHE names a folder that can be written"
    )


@pytest.mark.parametrize("torn", ["", "[]", '{"path": 1}', '{"sha256": "x"}'])
def test_a_torn_note_of_what_was_seen_is_ignored(
    archive_folder: Any, private_cache: Path, torn: str
) -> None:
    archive_folder.month(2025, 1)
    settled(archive_folder.root)
    load(archive_folder.url)
    (note,) = (private_cache / "seen").glob("*.json")
    note.write_text(torn, encoding="utf-8")
    assert len(load(archive_folder.url)) == 24


def test_writers_may_race(tmp_path: Path) -> None:
    times = np.arange(5000, dtype=np.int64) * 60_000
    prices = np.random.default_rng(0).random((5, 5000))
    raw = RawCandles(open_time_ms=times, **dict(zip(COLUMNS, prices, strict=True)))
    cache = ParsedCache(Cache(tmp_path))
    sha256 = "ab" * 32
    barrier = threading.Barrier(4)

    def write_and_read(_: int) -> bool:
        barrier.wait()
        for _ in range(20):
            cache.keep(sha256, raw, market="spot")
            entry = cache.find(sha256, market="spot")
            assert entry is not None
            assert (entry.rows, entry.earliest_ms, entry.latest_ms) == (5000, 0, 4999 * 60_000)
            read, damaged = join_parts([entry, raw], map)
            assert damaged == []
            assert equal(read.take(slice(5000)), raw)
            assert equal(read.take(slice(5000, None)), raw)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write_and_read, range(4)))
    assert [path.suffix for path in (tmp_path / "parsed" / "ab").iterdir()] == [".candles"]


def test_refresh_fetches_what_was_published_anew(
    archive_folder: Any, unparsed: list[str], messages: Any
) -> None:
    archive_folder.month(2025, 1, count=24)
    archive_folder.month(2025, 2)
    with Mirror(archive_folder.root) as mirror:
        assert len(load(mirror.url)) == 48
        archive_folder.month(2025, 1, count=30)
        assert len(load(mirror.url)) == 48
        asked = len(mirror.requests)
        assert len(load(mirror.url, refresh=True)) == 54
        new = [line for line in mirror.requests[asked:] if line.endswith(".zip")]
        assert [line.rpartition("/")[2] for line in new] == ["BTCUSDT-1h-2025-01.zip"]
        assert len(unparsed) == 3
        assert messages.notes == [
            "BTCUSDT-1h-2025-01.zip was published anew since; it is replaced in the cache"
        ]
        asked = len(mirror.requests)
        assert len(load(mirror.url)) == 54
        assert len(mirror.requests) == asked


def test_symbols_are_loaded_at_once_under_one_bar(
    archive_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for symbol, count in (("BTCUSDT", 24), ("ETHUSDT", 12), ("SOLUSDT", 6)):
        archive_folder.month(2025, 1, symbol=symbol, count=count)
    archive_folder.day(2025, 2, 1, symbol="ETHUSDT")
    heard: list[progress.Event] = []

    class Listener:
        def handle(self, event: progress.Event) -> None:
            heard.append(event)

    before = progress.set_reporter(Listener())
    try:
        found = Archive(Fetcher(archive_folder.url)).load_all(
            ("solusdt", "BTCUSDT", "ETHUSDT"), "1h", **BOTH
        )
    finally:
        progress.set_reporter(before)
    assert [len(raw) for raw in found] == [6, 24, 36]
    (begun,) = [event for event in heard if event.kind == "begin"]
    assert (begun.task, begun.amount, begun.unit) == ("SOLUSDT, BTCUSDT, ETHUSDT 1h", 6, "months")
    done = sum(event.amount or 0 for event in heard if event.kind == "advance")
    assert done == pytest.approx(6)
    lines = [event.text for event in heard if event.kind == "warning"]
    assert "SOLUSDT 1h: the archive has no file for 2025-02; these" in lines[0]
    assert "ETHUSDT 1h: the archive has no file for 2025-02-02 to 2025-02-28; these" in lines[2]


def test_symbols_without_candles_are_named_all_together(archive_folder: Any) -> None:
    archive_folder.month(2025, 1)
    with pytest.raises(NotFoundError, match=r"2 of 3 symbols: .* BTCUSD; .* no spot symbol NOPE"):
        Archive(Fetcher(archive_folder.url)).load_all(("BTCUSD", "BTCUSDT", "NOPE"), "1h", **BOTH)


def test_a_fault_in_one_symbol_is_that_symbols_line(archive_folder: Any) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        archive_folder.month(2025, 1, symbol=symbol)
    fault = Fault(kind="flip", match="ETHUSDT-1h-2025-01.zip$", at=9)
    with (
        Mirror(archive_folder.root, faults=[fault]) as mirror,
        Fetcher(mirror.url) as fetcher,
        pytest.raises(ChecksumError, match=r"ETHUSDT-1h-2025-01.zip does not have its published"),
    ):
        Archive(fetcher).load_all(("BTCUSDT", "ETHUSDT"), "1h", **BOTH)
