from __future__ import annotations

from typing import Any

import httpx
import pytest

from candlemark.candles.dates import parse_date
from candlemark.candles.fetch import Fetcher
from candlemark.candles.mirror import Fault, Mirror
from candlemark.candles.rest import RestClient
from candlemark.candles.series import format_time
from candlemark.errors import ConfigError, FetchError, NotFoundError, RateLimitError

MINUTE = 60_000
START = parse_date("2025-01-01").start_ms
COUNT = 2500


@pytest.fixture
def api(archive_folder: Any, fake_time: Any) -> Any:
    """A client of a mirror with 2,500 minutes in microseconds, and the mirror."""
    archive_folder.month(2025, 1, interval="1m", count=COUNT, per_ms=1000)
    fake_time.now_s = parse_date("2025-05-10").start_ms / 1000
    opened: list[Any] = []

    def serve(*faults: str) -> tuple[Mirror, RestClient]:
        mirror = Mirror(archive_folder.root, faults=[Fault.parse(text) for text in faults])
        mirror.__enter__()
        fetcher = Fetcher(mirror.url, attempts=4, sleep=fake_time.sleep, clock=fake_time.clock)
        client = RestClient(fetcher)
        opened.extend([mirror, client])
        return mirror, client

    yield serve
    for item in reversed(opened):
        item.__exit__(None, None, None)


def test_pages_of_a_thousand_make_one_range(api: Any) -> None:
    mirror, client = api()
    raw = client.load("btcusdt", "1m", start_ms=START, end_ms=START + COUNT * MINUTE)
    assert raw.open_time_ms.tolist() == [START + row * MINUTE for row in range(COUNT)]
    assert raw.open[7] == 107
    assert len(mirror.requests) == 3
    assert all("limit=1000" in line for line in mirror.requests)


def test_a_range_ends_before_its_end(api: Any) -> None:
    raw = api()[1].load("BTCUSDT", "1m", start_ms=START + MINUTE, end_ms=START + 3 * MINUTE)
    assert raw.open_time_ms.tolist() == [START + MINUTE, START + 2 * MINUTE]


@pytest.mark.parametrize(("now", "count"), [(10, 10), (10.5, 10), (10.999, 10), (11, 11)])
def test_the_unclosed_last_candle_is_dropped(
    api: Any, fake_time: Any, now: float, count: int
) -> None:
    _, client = api()
    fake_time.now_s = (START + now * MINUTE) / 1000
    raw = client.load("BTCUSDT", "1m", start_ms=START, end_ms=START + 12 * MINUTE)
    assert len(raw) == count


def test_the_newest_closed_candle(api: Any, fake_time: Any) -> None:
    _, client = api()
    assert client.newest_ms("BTCUSDT", "1m") == START + COUNT * MINUTE
    fake_time.now_s = (START + COUNT * MINUTE - 1) / 1000
    assert client.newest_ms("BTCUSDT", "1m") == START + (COUNT - 1) * MINUTE


def test_429_waits_as_long_as_told(api: Any, fake_time: Any) -> None:
    _, client = api("429:times=2:seconds=30")
    assert len(client.load("BTCUSDT", "1m", start_ms=START, end_ms=START + 5 * MINUTE)) == 5
    assert fake_time.slept == [30, 30]


def test_418_stops_with_the_time_it_ends(api: Any, fake_time: Any) -> None:
    mirror, client = api("418:seconds=7200")
    with pytest.raises(RateLimitError, match=r"\(418\) until 2025-05-10 02:00 UTC"):
        client.load("BTCUSDT", "1m", start_ms=START, end_ms=START + 5 * MINUTE)
    assert len(mirror.requests) == 1
    assert fake_time.slept == []


def test_used_weight_near_the_limit_waits_for_the_next_minute(
    api: Any, fake_time: Any, messages: Any
) -> None:
    _, client = api("weight:at=5500:times=1")
    fake_time.now_s += 20
    client.load("BTCUSDT", "1m", start_ms=START, end_ms=START + COUNT * MINUTE)
    assert fake_time.slept == [40]
    assert messages.notes == ["5500 of 6000 request weight used; waiting 40 s"]


@pytest.mark.parametrize("fault", ["cut:times=1:at=50", "500:times=3", "slow:times=1:seconds=0"])
def test_faults_that_pass_lose_nothing(api: Any, fault: str) -> None:
    _, client = api(fault)
    assert len(client.load("BTCUSDT", "1m", start_ms=START, end_ms=START + 1500 * MINUTE)) == 1500


def test_a_hole_between_pages_is_stepped_over(archive_folder: Any, api: Any) -> None:
    archive_folder.month(2025, 3, interval="1m", count=3)
    _, client = api()
    end = parse_date("2025-03").end_ms
    raw = client.load("BTCUSDT", "1m", start_ms=START, end_ms=end)
    assert len(raw) == COUNT + 3
    assert format_time(int(raw.open_time_ms[-1])) == "2025-03-01 00:02"


def test_what_is_not_there_is_one_line(api: Any) -> None:
    _, client = api()
    with pytest.raises(NotFoundError, match=r"knows no spot symbol NOPE; check it"):
        client.load("NOPE", "1m", start_ms=START, end_ms=START + MINUTE)
    with pytest.raises(NotFoundError, match=r"no closed spot candles of BTCUSDT 1m from 2020"):
        client.load(
            "BTCUSDT",
            "1m",
            start_ms=parse_date("2020").start_ms,
            end_ms=parse_date("2020-02").start_ms,
        )


def test_a_folder_has_no_api(archive_folder: Any) -> None:
    with pytest.raises(ConfigError, match=r"has no API; use --via archive"):
        RestClient(Fetcher(archive_folder.url))


def test_an_answer_that_is_no_json_is_one_line(fake_time: Any) -> None:
    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"<html>proxy login</html>")

    fetcher = Fetcher("https://x.example", transport=httpx.MockTransport(page))
    with pytest.raises(FetchError, match=r"does not answer in JSON: b'<html>"):
        RestClient(fetcher).newest_ms("BTCUSDT", "1h")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"code": -1003, "msg": "Too much."}', 400, "answered 400: Too much."),
        (b'{"code": -1120, "msg": "Invalid interval."}', 400, "does not serve the interval 1h"),
        (b"", 404, r"is not there \(404\); check --base-url"),
        (b"{}", 200, "answered 200: no reason given"),
    ],
)
def test_refusals_are_told(body: bytes, status: int, words: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, content=body))
    with pytest.raises(FetchError, match=words):
        RestClient(Fetcher("https://x.example", transport=transport)).newest_ms("BTCUSDT", "1h")
