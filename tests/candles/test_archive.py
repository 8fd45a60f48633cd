from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from candlemark.candles.archive import Archive
from candlemark.candles.archive_files import check_symbol, days, months, runs
from candlemark.candles.cache import Cache, sha256_of
from candlemark.candles.dates import parse_date
from candlemark.candles.fetch import Fetcher
from candlemark.candles.mirror import Fault, Mirror
from candlemark.candles.raw import RawCandles
from candlemark.candles.series import format_time
from candlemark.errors import (
    CandleError,
    ChecksumError,
    ConfigError,
    FetchError,
    NotFoundError,
    RateLimitError,
)

ALL = (parse_date("2025-01").start_ms, parse_date("2025-02").end_ms)


@pytest.fixture
def served(archive_folder: Any, fake_time: Any) -> Any:
    """Load January and February 2025 from a mirror with faults."""
    fake_time.now_s = parse_date("2025-05-10").start_ms / 1000
    opened: list[Any] = []

    def serve(*faults: str) -> tuple[Mirror, Archive]:
        mirror = Mirror(archive_folder.root, faults=[Fault.parse(text) for text in faults])
        mirror.__enter__()
        fetcher = Fetcher(mirror.url, attempts=4, sleep=fake_time.sleep, clock=fake_time.clock)
        opened.extend([mirror, fetcher])
        return mirror, Archive(fetcher)

    yield serve
    for item in reversed(opened):
        item.__exit__(None, None, None)


def load(archive: Archive, **options: Any) -> RawCandles:
    span = {"start_ms": ALL[0], "end_ms": ALL[1], **options}
    return archive.load("BTCUSDT", "1h", **span)


def objects(cache: Path) -> list[Path]:
    return sorted((cache / "objects").rglob("*.zip"))


def leftovers(cache: Path) -> list[Path]:
    return sorted((cache / "partial").glob("*.part"))


def test_months_are_fetched_once_and_verified(
    archive_folder: Any, served: Any, private_cache: Any
) -> None:
    archive_folder.month(2025, 1, per_ms=1000)
    archive_folder.month(2025, 2, per_ms=1)
    mirror, archive = served()
    raw = load(archive)
    assert len(raw) == 48
    assert format_time(int(raw.open_time_ms[24])) == "2025-02-01 00:00"
    assert len(objects(private_cache)) == 2
    assert leftovers(private_cache) == []
    asked = len(mirror.requests)
    assert len(load(archive)) == 48
    assert len(mirror.requests) == asked


def test_a_range_is_cut_to_the_candle(archive_folder: Any, served: Any) -> None:
    archive_folder.month(2025, 1)
    hour = 3_600_000
    raw = load(served()[1], start_ms=ALL[0] + 3 * hour, end_ms=ALL[0] + 5 * hour)
    assert raw.open_time_ms.tolist() == [ALL[0] + 3 * hour, ALL[0] + 4 * hour]


def test_days_stand_in_for_months_not_published(
    archive_folder: Any, served: Any, messages: Any
) -> None:
    archive_folder.month(2025, 1)
    archive_folder.day(2025, 2, 1)
    archive_folder.day(2025, 2, 3)
    raw = load(served()[1])
    assert len(raw) == 72
    assert messages.warnings == [
        (
            "BTCUSDT 1h: the archive has no file for 2025-02-02, 2025-02-04 to 2025-02-28; "
            "these candles are carried as gaps"
        )
    ]


def test_a_month_that_is_nowhere_is_a_gap_with_a_warning(
    archive_folder: Any, served: Any, messages: Any
) -> None:
    archive_folder.month(2025, 1)
    archive_folder.month(2025, 3)
    raw = load(served()[1], end_ms=parse_date("2025-03").end_ms)
    assert len(raw) == 48
    assert raw.to_series(symbol="B", interval="1h").gaps[0].slot_count == 59 * 24 - 24
    assert "no file for 2025-02; these" in messages.warnings[0]


def test_an_empty_month_is_a_gap_with_a_warning(
    archive_folder: Any,
    served: Any,
    messages: Any,
    make_zip: Any,
) -> None:
    archive_folder.month(2025, 1)
    archive_folder.put(months("spot", "BTCUSDT", "1h", ALL[1] - 1, ALL[1])[0], make_zip(b""))
    assert len(load(served()[1])) == 24
    assert messages.warnings == ["BTCUSDT-1h-2025-02.zip is empty; its candles are carried as gaps"]


@pytest.mark.parametrize(
    ("market", "folder", "volume"), [("um", "futures/um", 5), ("cm", "futures/cm", 500)]
)
def test_futures_have_their_own_folders(
    archive_folder: Any, served: Any, market: Any, folder: Any, volume: Any
) -> None:
    path = archive_folder.month(2025, 1, market=market, header=True)
    assert folder in path.as_posix()
    assert load(served()[1], market=market).volume[0] == volume


# Every fault of the mirror, and how it must end: in a verified file, or in one clear line.
RECOVERED: Sequence[str] = (
    "429:times=2:seconds=9",
    "429:times=3",
    "500:times=3",
    "503:times=2:seconds=1",
    "cut:times=1:at=0",
    "cut:match=01.zip$:times=2:at=100",
    "cut:match=.CHECKSUM:times=2:at=10",
    "flip:match=01.zip$:times=1:at=300",
    "flip:times=1:at=70",  # the name in the .CHECKSUM file
    "checksum:times=1",
    "slow:times=1:seconds=0",
    "norange",
)
REFUSED: Sequence[tuple[str, type[FetchError], str]] = (
    ("403", FetchError, "answered 403; it refuses this region"),
    ("404", NotFoundError, "no spot candles of BTCUSDT 1h at all"),
    ("418:seconds=120", RateLimitError, r"\(418\) until 20"),
    ("429", RateLimitError, "in 4 attempts: answered 429"),
    ("429:seconds=9999", RateLimitError, "asks to wait 9999 s"),
    ("500", FetchError, "in 4 attempts: answered 500"),
    ("cut:at=0", FetchError, "in 4 attempts: .*"),
    ("cut:match=01.zip$:at=9", FetchError, "in 4 attempts: .*"),
    ("flip:match=.zip", ChecksumError, "is no|does not have|not '<sha256>"),
    ("flip:match=01.zip$:at=5", ChecksumError, "does not have its published SHA-256"),
    ("checksum", ChecksumError, "does not have its published SHA-256 0{64} after 3 downloads"),
)


@pytest.mark.parametrize("fault", RECOVERED)
def test_faults_that_pass_end_in_a_verified_file(
    archive_folder: Any,
    served: Any,
    private_cache: Any,
    fault: Any,
) -> None:
    archive_folder.month(2025, 1)
    _, archive = served(fault)
    assert len(load(archive, end_ms=ALL[0] + 24 * 3_600_000)) == 24
    (kept,) = objects(private_cache)
    assert kept.read_bytes() == next(archive_folder.root.rglob("*.zip")).read_bytes()
    assert leftovers(private_cache) == []


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_faults_that_stay_end_in_one_line_and_keep_nothing(
    archive_folder: Any,
    served: Any,
    private_cache: Path,
    case: tuple[str, type[FetchError], str],
) -> None:
    fault, kind, words = case
    archive_folder.month(2025, 1)
    _, archive = served(fault)
    with pytest.raises(kind, match=words) as error:
        load(archive, end_ms=ALL[0] + 24 * 3_600_000)
    assert "\n" not in str(error.value)
    assert objects(private_cache) == []


def test_a_cut_download_is_resumed_by_the_next_run(
    archive_folder: Any, served: Any, private_cache: Any
) -> None:
    archive_folder.month(2025, 1)
    one_month = {"end_ms": ALL[0] + 24 * 3_600_000}
    with pytest.raises(FetchError, match=r"attempts"):
        load(served("cut:match=01.zip$:at=9:times=4", "norange")[1], **one_month)
    (part,) = leftovers(private_cache)
    assert part.stat().st_size == 9
    assert len(load(served()[1], **one_month)) == 24
    assert leftovers(private_cache) == []


def test_a_flipped_byte_on_the_wire_is_always_caught(
    archive_folder: Any, served: Any, private_cache: Any
) -> None:
    path = archive_folder.month(2025, 1, count=2)
    mirror, archive = served()
    file = months("spot", "BTCUSDT", "1h", ALL[0], ALL[0] + 1)[0]
    data = path.read_bytes()
    for at in range(0, len(data), 3):
        for match in ("01.zip$", ".CHECKSUM"):
            mirror.set_faults([Fault(kind="flip", match=match, times=1, at=at)])
            shutil.rmtree(private_cache, ignore_errors=True)
            assert archive.read(file) == data
            assert mirror.spent()


def test_a_flipped_byte_in_the_cache_is_always_caught(
    archive_folder: Any,
    served: Any,
    private_cache: Any,
    messages: Any,
) -> None:
    path = archive_folder.month(2025, 1, count=2)
    _, archive = served()
    file = months("spot", "BTCUSDT", "1h", ALL[0], ALL[0] + 1)[0]
    data = path.read_bytes()
    archive.read(file)
    (kept,) = objects(private_cache)
    positions = range(0, len(data), 3)
    for at in positions:
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        kept.write_bytes(bytes(spoilt))
        assert archive.read(file) == data
        assert kept.read_bytes() == data
    assert len(messages.warnings) == len(positions)
    assert "was damaged on disk; it is fetched again" in messages.warnings[0]


def test_a_truncated_cache_file_and_a_torn_index_are_repaired(
    archive_folder: Any,
    served: Any,
    private_cache: Any,
) -> None:
    archive_folder.month(2025, 1)
    _, archive = served()
    load(archive)
    (kept,) = objects(private_cache)
    kept.write_bytes(kept.read_bytes()[:50])
    assert len(load(archive)) == 24
    (index,) = (private_cache / "index").glob("*.json")
    for torn in ('{"url": ', "[]", '{"url": "other", "sha256": "' + "0" * 64 + '"}'):
        index.write_text(torn, encoding="utf-8")
        assert len(load(archive)) == 24


def test_a_flipped_byte_in_a_folder_is_caught(archive_folder: Any) -> None:
    path = archive_folder.month(2025, 1)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ChecksumError, match=r"has SHA-256 .* its .CHECKSUM says .* copy the file"):
        load(Archive(Fetcher(archive_folder.url)))


@pytest.mark.parametrize("text", ["", "abc", "0" * 64 + "  OTHER.zip\n", "0" * 63 + "  x.zip"])
def test_a_checksum_file_of_another_form_is_refused(archive_folder: Any, text: str) -> None:
    path = archive_folder.month(2025, 1)
    path.with_name(path.name + ".CHECKSUM").write_text(text, encoding="utf-8")
    with pytest.raises(ChecksumError, match=r"not '<sha256>  BTCUSDT-1h-2025-01.zip'"):
        load(Archive(Fetcher(archive_folder.url)))


def test_a_file_without_checksum_is_refused(archive_folder: Any) -> None:
    path = archive_folder.month(2025, 1)
    path.with_name(path.name + ".CHECKSUM").unlink()
    with pytest.raises(ChecksumError, match=r"has no .CHECKSUM beside it"):
        load(Archive(Fetcher(archive_folder.url)))


def test_bombs_paths_and_strangers_are_refused(
    archive_folder: Any, make_zip: Any, make_csv: Any
) -> None:
    file = months("spot", "BTCUSDT", "1h", ALL[0], ALL[0] + 1)[0]
    archive = Archive(Fetcher(archive_folder.url))
    for data, words in (
        (make_zip(b"0" * 10**6), "refused as a zip bomb"),
        (make_zip(b"x", "../../x.csv"), "a path; refused"),
        (b"<html>not found</html>", "not a readable zip archive"),
    ):
        archive_folder.put(file, data)
        with pytest.raises(FetchError, match=words):
            load(archive)
    archive_folder.put(file, make_zip(make_csv(ALL[0] - 3_600_000, 3)))
    with pytest.raises(
        CandleError, match=r"a candle of 2024-12-31 23:00 UTC, outside its own time"
    ):
        load(archive)


def test_a_full_disk_is_one_line_and_keeps_nothing(
    archive_folder: Any,
    served: Any,
    private_cache: Any,
    monkeypatch: Any,
) -> None:
    archive_folder.month(2025, 1)
    _, archive = served()

    def full(self: Cache, partial: Path, sha256: str) -> bytes | None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Cache, "keep", full)
    with pytest.raises(FetchError, match=r"the disk is full: .* bytes are free.*CANDLEMARK_CACHE"):
        load(archive)
    assert objects(private_cache) == leftovers(private_cache) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_while_writing_is_one_line_and_keeps_nothing(
    archive_folder: Any, served: Any, private_cache: Path
) -> None:
    path = archive_folder.month(2025, 1)
    partial = Cache(private_cache).partial_path(sha256_of(path.read_bytes()))
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    _, archive = served()
    with pytest.raises(FetchError, match=r"the disk is full: .* nothing truncated was kept"):
        load(archive)
    assert objects(private_cache) == []
    assert not partial.is_symlink()
    assert len(load(archive)) == 24


def test_a_server_that_is_too_slow_is_given_up(
    archive_folder: Any, fake_time: Any, private_cache: Path
) -> None:
    archive_folder.month(2025, 1)
    fake_time.now_s = parse_date("2025-05-10").start_ms / 1000
    options = {"timeout_s": 0.1, "sleep": fake_time.sleep, "clock": fake_time.clock}
    day = {"end_ms": ALL[0] + 24 * 3_600_000}
    with Mirror(archive_folder.root, faults=[Fault(kind="slow", times=4, seconds=1)]) as mirror:
        with Fetcher(mirror.url, attempts=2, **options) as fetcher:
            with pytest.raises(FetchError, match=r"in 2 attempts: timed out"):
                load(Archive(fetcher), **day)
            assert objects(private_cache) == []
        with Fetcher(mirror.url, attempts=5, **options) as fetcher:
            assert len(load(Archive(fetcher), **day)) == 24


def test_a_cache_that_is_no_folder_is_one_line(
    archive_folder: Any, served: Any, private_cache: Any
) -> None:
    archive_folder.month(2025, 1)
    private_cache.write_text("in the way", encoding="utf-8")
    with pytest.raises(FetchError, match=r"cannot use the cache at .*set CANDLEMARK_CACHE"):
        load(served()[1])


@pytest.mark.parametrize(
    ("symbol", "interval", "start", "words"),
    [
        ("BTCUSD", "1h", "2025-01", "no spot symbol BTCUSD; did you mean BTCUSDT. it has: BTCUSDT"),
        ("BTCUSDT", "5m", "2025-01", "no 5m candles of BTCUSDT; it has: 1h"),
        ("BTCUSDT", "1h", "2024-01", "2024-02-01 00:00 UTC at .*; it has 2025-01, 2025-03-01"),
    ],
)
def test_a_folder_says_what_it_has_instead(
    archive_folder: Any, symbol: Any, interval: Any, start: Any, words: Any
) -> None:
    archive_folder.month(2025, 1)
    archive_folder.day(2025, 3, 1)
    span = parse_date(start)
    with pytest.raises(NotFoundError, match=words):
        Archive(Fetcher(archive_folder.url)).load(
            symbol, interval, start_ms=span.start_ms, end_ms=span.end_ms
        )


def test_a_server_says_what_was_tried_and_what_is_newest(archive_folder: Any, served: Any) -> None:
    archive_folder.month(2024, 3)
    _, archive = served()
    with pytest.raises(
        NotFoundError,
        match=r"tried 2 monthly and 59 daily files\); its newest file is "
        r"BTCUSDT-1h-2024-03.zip: it may be delisted since, try --end 2024-03",
    ):
        load(archive)
    with pytest.raises(NotFoundError, match=r"no spot candles of NOPE 1h at all; check the symbol"):
        archive.load("NOPE", "1h", start_ms=ALL[0], end_ms=ALL[1])


@pytest.mark.parametrize("served_over_http", [True, False])
@pytest.mark.parametrize(
    ("files", "end"),
    [
        (["2025-05-09"], "2025-05-10 00:00"),
        (["2025-05-09", "2025-04"], "2025-05-10 00:00"),
        (["2025-04", "2025-05-02"], "2025-05-03 00:00"),
        (["2024-01", "2023-12"], "2024-01-02 00:00"),
        (["2024-01", "2024-02-03"], "2024-02-04 00:00"),
    ],
)
def test_the_newest_candle_is_found(
    archive_folder: Any, served: Any, served_over_http: Any, files: Any, end: Any
) -> None:
    for date in files:
        parts = [int(part) for part in date.split("-")]
        (archive_folder.month if len(parts) == 2 else archive_folder.day)(*parts)
    archive = served()[1] if served_over_http else Archive(Fetcher(archive_folder.url))
    assert format_time(archive.newest_ms("btcusdt", "1h")) == end


def test_looking_for_the_newest_candle_is_bounded(archive_folder: Any, served: Any) -> None:
    mirror, archive = served()
    with pytest.raises(NotFoundError, match=r"at all"):
        archive.newest_ms("NOPE", "1h")
    assert len(mirror.requests) < 200


def test_many_missing_months_are_not_all_searched_by_day(
    archive_folder: Any, served: Any, messages: Any
) -> None:
    archive_folder.month(2025, 2)
    mirror, archive = served()
    assert len(load(archive, start_ms=parse_date("2023-01").start_ms)) == 24
    assert "25 months have no monthly file; only the newest 12" in messages.warnings[0]
    assert "no file for 2023-01 to 2025-01" in messages.warnings[1]
    assert len(mirror.requests) < 1000


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC-USDT", "../x", "", "A", "BTC USDT"])
def test_symbols_that_cannot_be_one_are_refused(symbol: str) -> None:
    with pytest.raises(ConfigError, match=r"is no symbol"):
        check_symbol(symbol)


def test_symbols_are_written_in_capitals() -> None:
    assert check_symbol(" btcusd_perp ") == "BTCUSD_PERP"
    with pytest.raises(ConfigError, match=r"did you mean BTCUSDT?"):
        check_symbol("btc/usdt")


def test_no_month_is_asked_for_before_binance_began() -> None:
    files = months("spot", "BTCUSDT", "1h", 0, parse_date("2017-08").end_ms)
    assert [file.date for file in files] == ["2017-07", "2017-08"]
    assert runs([*files, *days("spot", "B", "1h", *ALL)[:1]]) == "2017-07 to 2017-08, 2025-01-01"


_LOADER = """
import sys
from candlemark.candles.archive import Archive
from candlemark.candles.fetch import Fetcher

archive = Archive(Fetcher(sys.argv[1]))
print(len(archive.load("BTCUSDT", "1h", start_ms=int(sys.argv[2]), end_ms=int(sys.argv[3]))))
"""


def test_processes_share_a_cache_and_download_once(archive_folder: Any, private_cache: Any) -> None:
    for month in (1, 2):
        archive_folder.month(2025, month)
    command = [sys.executable, "-c", _LOADER]
    with Mirror(archive_folder.root) as mirror:
        workers = [
            subprocess.Popen([*command, mirror.url, *map(str, ALL)], stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        assert [worker.communicate(timeout=120)[0].strip() for worker in workers] == [b"48"] * 3
        zips = [line for line in mirror.requests if line.endswith(".zip")]
    assert len(zips) == 2
    assert leftovers(private_cache) == []
