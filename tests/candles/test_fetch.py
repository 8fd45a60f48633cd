from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from candlemark.candles.fetch import Fetcher
from candlemark.errors import ConfigError, FetchError, RateLimitError

Handler = Callable[[httpx.Request], httpx.Response]
BODY = bytes(range(256)) * 300


class Script:
    """Answers requests with the given answers in turn, the last one for ever."""

    def __init__(self, *answers: Handler | httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, httpx.Response):
            return httpx.Response(
                answer.status_code, headers=answer.headers, content=answer.content
            )
        return answer(request)


def fetcher(script: Handler, fake_time: Any, **options: Any) -> Fetcher:
    return Fetcher(
        "https://mirror.example/",
        transport=httpx.MockTransport(script),
        sleep=fake_time.sleep,
        clock=fake_time.clock,
        **options,
    )


def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused", request=request)


def test_an_answer_comes_back_whole(fake_time: Any) -> None:
    script = Script(httpx.Response(200, content=b"hello", headers={"X-A": "1"}))
    with fetcher(script, fake_time) as client:
        answer = client.get("a b/c", {"q": 1})
    assert (answer.status, answer.body, answer.headers["x-a"]) == (200, b"hello", "1")
    assert str(script.requests[0].url) == "https://mirror.example/a%20b/c?q=1"


@pytest.mark.parametrize("status", [400, 404])
def test_400_and_404_are_answers(fake_time: Any, status: int) -> None:
    assert fetcher(Script(httpx.Response(status)), fake_time).get("x").status == status


@pytest.mark.parametrize("trouble", [httpx.Response(500), httpx.Response(429), broken])
def test_trouble_that_passes_is_waited_out(fake_time: Any, trouble: Any) -> None:
    script = Script(trouble, trouble, httpx.Response(200, content=b"ok"))
    assert fetcher(script, fake_time).get("x").body == b"ok"
    assert fake_time.slept == [0.5, 1.0]


def test_retry_after_is_honoured_in_seconds_and_as_a_date(fake_time: Any, messages: Any) -> None:
    fake_time.now_s = 1_735_689_600.0  # Wed, 01 Jan 2025 00:00:00 GMT
    script = Script(
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503, headers={"Retry-After": "Wed, 01 Jan 2025 00:00:30 GMT"}),
        httpx.Response(200),
    )
    fetcher(script, fake_time).get("x")
    assert fake_time.slept == [7.0, 23.0]
    assert messages.notes[0] == "the server answered 429 Too Many Requests; trying again in 7 s"


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        (httpx.Response(500), FetchError, "in 3 attempts: answered 500.*--base-url"),
        (httpx.Response(429), RateLimitError, "in 3 attempts: answered 429"),
        (broken, FetchError, "connection refused"),
        (httpx.Response(451), FetchError, "451; it refuses this region.*--base-url"),
        (httpx.Response(410), FetchError, "answered 410"),
    ],
)
def test_trouble_that_stays_is_one_line(
    fake_time: Any, trouble: Any, kind: Any, words: str
) -> None:
    with pytest.raises(kind, match=words) as error:
        fetcher(Script(trouble), fake_time, attempts=3).get("x")
    assert "\n" not in str(error.value)


def test_a_ban_stops_at_once_with_the_time_it_ends(fake_time: Any) -> None:
    fake_time.now_s = 1_735_689_600.0
    script = Script(httpx.Response(418, headers={"Retry-After": "3600"}))
    with pytest.raises(RateLimitError, match=r"\(418\) until 2025-01-01 01:00 UTC"):
        fetcher(script, fake_time).get("x")
    assert len(script.requests) == 1
    assert fake_time.slept == []


def test_a_wait_too_long_to_sit_out_is_told(fake_time: Any) -> None:
    fake_time.now_s = 1_735_689_600.0
    script = Script(httpx.Response(429, headers={"Retry-After": "7200"}))
    with pytest.raises(RateLimitError, match=r"asks to wait 7200 s .*until 2025-01-01 02:00 UTC"):
        fetcher(script, fake_time).get("x")


def ranged(request: httpx.Request) -> httpx.Response:
    first = int(request.headers.get("Range", "bytes=0-")[6:-1])
    if first >= len(BODY):
        return httpx.Response(416)
    status = 206 if "Range" in request.headers else 200
    headers = {"Content-Range": f"bytes {first}-{len(BODY) - 1}/{len(BODY)}"}
    return httpx.Response(status, headers=headers, content=BODY[first:])


class Cut(httpx.SyncByteStream):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Any:
        yield self.data
        raise httpx.ReadError("connection reset")


def cut(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, stream=Cut(BODY[:1000]))


def test_a_cut_download_goes_on_where_it_stopped(fake_time: Any, tmp_path: Path) -> None:
    script = Script(cut, ranged)
    assert fetcher(script, fake_time).download("x", tmp_path / "part", limit_bytes=10**6)
    assert (tmp_path / "part").read_bytes() == BODY
    assert script.requests[1].headers["Range"] == "bytes=1000-"


def test_a_server_without_ranges_starts_again(fake_time: Any, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"old")
    script = Script(httpx.Response(200, content=BODY))
    assert fetcher(script, fake_time).download("x", tmp_path / "part", limit_bytes=10**6)
    assert (tmp_path / "part").read_bytes() == BODY


@pytest.mark.parametrize(
    "odd", [httpx.Response(416), httpx.Response(206, headers={"Content-Range": "bytes 7-9/10"})]
)
def test_a_part_that_does_not_fit_is_dropped(fake_time: Any, tmp_path: Path, odd: Any) -> None:
    (tmp_path / "part").write_bytes(b"x" * 50)
    assert fetcher(Script(odd, ranged), fake_time).download(
        "x", tmp_path / "part", limit_bytes=10**6
    )
    assert (tmp_path / "part").read_bytes() == BODY


def test_limits_hold(fake_time: Any, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"over 1,000 bytes; refused"):
        fetcher(Script(ranged), fake_time).download("x", tmp_path / "part", limit_bytes=1000)
    assert not (tmp_path / "part").exists()
    with pytest.raises(FetchError, match=r"takes too long"):
        fetcher(Script(ranged), fake_time, longest_attempt_s=-1, attempts=2).get("x")


def test_what_is_not_there_is_false(fake_time: Any, tmp_path: Path) -> None:
    client = fetcher(Script(httpx.Response(404)), fake_time)
    assert not client.download("x", tmp_path / "part", limit_bytes=1)
    assert not client.exists("x")
    assert not (tmp_path / "part").exists()


def test_a_folder_answers_as_a_server_does(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"hello")
    with Fetcher(tmp_path.as_uri()) as client:
        assert client.get("a b").body == b"hello"
        assert client.get("missing").status == 404
        assert client.exists("a b")
        assert not client.exists("missing")
        assert client.download("a b", tmp_path / "copy", limit_bytes=10)
    assert (tmp_path / "copy").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data.binance.vision", "not understood; write https://HOST"),
        ("ftp://host/x", "not understood"),
        ("file:///no/such/folder", "there is no folder /no/such/folder"),
        ("file://host/x", "three slashes"),
    ],
)
def test_addresses_that_are_none_are_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Fetcher(url)
