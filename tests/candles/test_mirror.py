from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from candlemark.candles.mirror import Fault, Mirror
from candlemark.errors import ConfigError


def test_faults_are_read_from_text() -> None:
    assert Fault.parse("500") == Fault(kind="500")
    assert Fault.parse("429:match=a/b:times=2:seconds=7") == Fault(
        kind="429", match="a/b", times=2, seconds=7
    )
    assert Fault.parse("cut:at=-5").at == -5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("boom", "unknown fault 'boom'; known: 403, 404, 418, 429"),
        ("cut:after=5", "fault option 'after=5' is not understood; known: match=TEXT"),
        ("429:times=two", "fault option 'times=two'"),
    ],
)
def test_faults_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Fault.parse(text)


def test_it_serves_files_and_ranges_and_nothing_outside(archive_folder: Any) -> None:
    path: Path = archive_folder.month(2025, 1)
    (archive_folder.root.parent / "secret").write_text("no", encoding="utf-8")
    data = path.read_bytes()
    below = path.relative_to(archive_folder.root).as_posix()
    with Mirror(archive_folder.root) as mirror, httpx.Client(trust_env=False) as client:
        assert mirror.url.startswith("http://127.0.0.1:")
        assert client.get(f"{mirror.url}/{below}").content == data
        head = client.head(f"{mirror.url}/{below}")
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
        part = client.get(f"{mirror.url}/{below}", headers={"Range": "bytes=7-"})
        assert (part.status_code, part.content) == (206, data[7:])
        assert part.headers["content-range"] == f"bytes 7-{len(data) - 1}/{len(data)}"
        late = client.get(f"{mirror.url}/{below}", headers={"Range": f"bytes={len(data)}-"})
        assert late.status_code == 416
        assert client.get(f"{mirror.url}/%2e%2e/secret").status_code == 404
        assert client.get(f"{mirror.url}/data").status_code == 404
    assert mirror.requests[0] == f"GET /{below}"


def test_the_api_pages_as_binance_does(archive_folder: Any) -> None:
    archive_folder.month(2025, 1, interval="1m", count=1200, per_ms=1000)
    with Mirror(archive_folder.root) as mirror, httpx.Client(trust_env=False) as client:

        def ask(**params: Any) -> Any:
            return client.get(f"{mirror.url}/api/v3/klines", params=params)

        newest = ask(symbol="BTCUSDT", interval="1m").json()
        assert len(newest) == 500
        assert newest[-1][:2] == [1_735_689_600_000 + 1199 * 60_000, "1299.0"]
        assert newest[-1][6] == newest[-1][0] + 59_999
        first = ask(symbol="BTCUSDT", interval="1m", startTime=0, limit=5000)
        assert len(first.json()) == 1000
        assert first.headers["x-mbx-used-weight-1m"] == "2"
        assert ask(symbol="NOPE", interval="1m").json()["code"] == -1121
        assert ask(symbol="../..", interval="1m").json()["code"] == -1121
        assert ask(symbol="BTCUSDT", interval="7m").json()["code"] == -1120


def test_a_folder_and_a_port_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        Mirror(tmp_path / "none")
    with Mirror(tmp_path) as mirror, pytest.raises(ConfigError, match="cannot be used"):
        Mirror(tmp_path, port=mirror.port)


def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"port 99999 is no port; allowed: 1 to 65535"):
        Mirror(tmp_path, port=99999)
