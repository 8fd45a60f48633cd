"""A small server of an archive folder, on this machine only, that can misbehave on request.

    with Mirror(Path("folder"), faults=[Fault.parse("429:times=2")]) as mirror:
        load_candles("BTCUSDT", base_url=mirror.url)

It serves the archive's files (with `Range`) and, from the same files, the klines API at
`/api/v3/klines`. A fault answers in place of, or spoils, the requests whose path holds
`match`; `times` limits how often. It exists to test clients: what candlemark promises about
429, 500, cut connections, wrong checksums and slow servers is tested against it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from candlemark.candles.klines import KLINE_COLUMNS, unzip
from candlemark.candles.raw import stamps_to_ms
from candlemark.candles.rest import KLINE_PATHS, PAGE
from candlemark.candles.series import INTERVAL_MS
from candlemark.errors import ConfigError

FaultKind = Literal[
    "403", "404", "418", "429", "500", "503", "cut", "flip", "checksum", "slow", "norange", "weight"
]

_DEFAULT_LIMIT = 500
_MAX_CSV_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong.

    kind: a status to answer with; "cut" closes the connection after `at` bytes; "flip" flips
        one bit of byte `at`; "checksum" serves a well-formed wrong SHA-256; "slow" waits
        `seconds` first; "norange" ignores `Range`; "weight" reports `at` as used weight.
    match: only requests whose path holds this text, or ends with it where it ends with $
        ("checksum": only .CHECKSUM files)
    times: how many requests it strikes; None: all of them
    seconds: `Retry-After` of 418, 429 and 503 (None: not sent), and the wait of "slow"
    at: see kind; negative counts from the end of the body
    """

    kind: FaultKind
    match: str = ""
    times: int | None = None
    seconds: int | None = None
    at: int = -1

    def strikes(self, path: str) -> bool:
        """Whether a request's path matches."""
        if self.match.endswith("$"):
            return path.endswith(self.match[:-1])
        return self.match in path

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `KIND[:match=TEXT][:times=N][:seconds=N][:at=N]`; ConfigError if it is not."""
        kind, *options = text.split(":")
        values: dict[str, Any] = {}
        for option in options:
            name, _, value = option.partition("=")
            if name == "match":
                values[name] = value
            elif name in {"times", "seconds", "at"} and value.lstrip("-").isdigit():
                values[name] = int(value)
            else:
                raise ConfigError(
                    f"fault option '{option}' is not understood; "
                    "known: match=TEXT, times=N, seconds=N, at=N"
                )
        if kind not in get_args(FaultKind):
            raise ConfigError(f"unknown fault '{kind}'; known: {', '.join(get_args(FaultKind))}")
        return cls(kind=cast("FaultKind", kind), **values)


@dataclass
class Mirror:
    """A server of `folder` on 127.0.0.1; `port` 0 picks a free one. Use it in a `with`.

    `requests` lists every request as "METHOD path?query", in order.
    """

    folder: Path
    port: int = 0
    faults: Sequence[Fault] = ()
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ConfigError(f"there is no folder {self.folder}")
        self._struck = [0] * len(self.faults)
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str, str], list[list[Any]]] = {}
        try:
            self._server = _Server(("127.0.0.1", self.port), _Handler)
        except OSError as error:
            raise ConfigError(f"port {self.port} cannot be used: {error.strerror}") from error
        except OverflowError as error:
            raise ConfigError(
                f"port {self.port} is no port; allowed: 1 to 65535, or 0 for a free one"
            ) from error
        self._server.mirror = self
        self.port = self._server.server_port
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base address for clients."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()

    def serve_forever(self) -> None:
        """Serve in this thread until it is interrupted."""
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Replace the faults, none of which has struck yet."""
        with self._lock:
            self.faults = tuple(faults)
            self._struck = [0] * len(self.faults)

    def spent(self) -> bool:
        """Whether every fault with a number of times has struck as often."""
        with self._lock:
            return all(
                fault.times is None or count >= fault.times
                for fault, count in zip(self.faults, self._struck, strict=True)
            )

    def strike(self, method: str, path: str) -> list[Fault]:
        """Log a request and take the faults that strike it."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            struck = []
            for index, fault in enumerate(self.faults):
                spent = fault.times is not None and self._struck[index] >= fault.times
                apart = fault.kind == "checksum" and ".CHECKSUM" not in path
                if fault.strikes(path) and not spent and not apart:
                    self._struck[index] += 1
                    struck.append(fault)
            return struck

    def file(self, path: str) -> bytes | None:
        """A file below the folder; None if there is none or the path leads out of it."""
        root = self.folder.resolve()
        target = (root / path.lstrip("/")).resolve()
        return target.read_bytes() if target.is_relative_to(root) and target.is_file() else None

    def rows(self, market: str, symbol: str, interval: str) -> list[list[Any]]:
        """All klines of a symbol and interval in API form, stamps in milliseconds."""
        key = (market, symbol, interval)
        with self._lock:
            if key not in self._rows:
                self._rows[key] = self._load_rows(market, symbol, interval)
            return self._rows[key]

    def has_symbol(self, market: str, symbol: str) -> bool:
        """Whether the folder has files of a symbol."""
        return any(folder.is_dir() for folder in self._folders(market, symbol))

    def _folders(self, market: str, *below: str) -> list[Path]:
        base = self.folder / "data" / ("spot" if market == "spot" else f"futures/{market}")
        if any(part in {"", ".", ".."} or "/" in part for part in below):
            return []
        return [base.joinpath(every, "klines", *below) for every in ("daily", "monthly")]

    def _load_rows(self, market: str, symbol: str, interval: str) -> list[list[Any]]:
        import numpy as np

        by_time: dict[int, list[Any]] = {}
        for folder in self._folders(market, symbol, interval):
            for path in sorted(folder.glob("*.zip")):
                text = unzip(path.read_bytes(), limit_bytes=_MAX_CSV_BYTES, where=path.name)
                for line in text.decode().splitlines():
                    fields: list[Any] = line.split(",")
                    if len(fields) != len(KLINE_COLUMNS) or not fields[0].isdigit():
                        continue
                    stamps = np.array([int(fields[0])])
                    opened = int(stamps_to_ms(stamps, where=path.name)[0])
                    per_ms = int(fields[0]) // opened
                    fields[0], fields[6] = opened, int(fields[6]) // per_ms
                    fields[8] = int(fields[8])
                    by_time[opened] = fields
        return [by_time[stamp] for stamp in sorted(by_time)]


class _Server(ThreadingHTTPServer):
    """A server that knows its mirror and stays quiet when a client goes away."""

    daemon_threads = True
    mirror: Mirror

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is none of the server's business."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "candlemark-mirror"
    # One packet for head and body: apart, each answer waits 40 ms for a delayed ACK.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base's name
        """Log nothing; `Mirror.requests` has it all."""

    def do_GET(self) -> None:
        """Answer with a file or a page of klines."""
        self._serve()

    def do_HEAD(self) -> None:
        """Answer as GET does, without the body."""
        self._serve()

    def _serve(self) -> None:
        mirror = cast("_Server", self.server).mirror
        faults = {fault.kind: fault for fault in mirror.strike(self.command, self.path)}
        if slow := faults.get("slow"):
            time.sleep(slow.seconds or 0)
        for kind, fault in faults.items():
            if kind.isdigit():
                headers = {} if fault.seconds is None else {"Retry-After": str(fault.seconds)}
                self._answer(int(kind), b"", headers)
                return
        parts = urlsplit(self.path)
        market = next((m for m, p in KLINE_PATHS.items() if parts.path == f"/{p}"), None)
        if market is not None:
            self._klines(mirror, market, parse_qs(parts.query), faults)
            return
        body = mirror.file(unquote(parts.path))
        if body is None:
            self._answer(404, b"")
        else:
            self._file(body, faults)

    def _file(self, body: bytes, faults: dict[FaultKind, Fault]) -> None:
        if "checksum" in faults:
            body = b"0" * 64 + body[64:]
        if (flip := faults.get("flip")) and body:
            spoilt = bytearray(body)
            spoilt[flip.at % len(body)] ^= 1
            body = bytes(spoilt)
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and asked.endswith("-") and "norange" not in faults:
            first = int(asked[6:-1])
            if first >= len(body):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            span = {"Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}"}
            self._answer(206, body[first:], span, faults.get("cut"))
            return
        self._answer(200, body, {"Accept-Ranges": "bytes"}, faults.get("cut"))

    def _klines(
        self,
        mirror: Mirror,
        market: str,
        query: dict[str, list[str]],
        faults: dict[FaultKind, Fault],
    ) -> None:
        symbol, interval = (query.get(name, [""])[0] for name in ("symbol", "interval"))
        if not mirror.has_symbol(market, symbol):
            self._json(400, {"code": -1121, "msg": "Invalid symbol."})
            return
        if interval not in INTERVAL_MS:
            self._json(400, {"code": -1120, "msg": "Invalid interval."})
            return
        rows = mirror.rows(market, symbol, interval)
        limit = min(int(query.get("limit", [str(_DEFAULT_LIMIT)])[0]), PAGE)
        start = int(query["startTime"][0]) if "startTime" in query else None
        end = int(query["endTime"][0]) if "endTime" in query else None
        chosen = [
            row
            for row in rows
            if (start is None or row[0] >= start) and (end is None or row[0] <= end)
        ]
        page = chosen[-limit:] if start is None else chosen[:limit]
        weight = faults["weight"].at if "weight" in faults else 2
        self._json(200, page, {"X-MBX-USED-WEIGHT-1M": str(weight)}, faults.get("cut"))

    def _json(
        self,
        status: int,
        value: Any,
        headers: dict[str, str] | None = None,
        cut: Fault | None = None,
    ) -> None:
        body = json.dumps(value).encode()
        self._answer(status, body, {"Content-Type": "application/json", **(headers or {})}, cut)

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut: Fault | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is not None:
            self.wfile.write(body[: cut.at])
            self.close_connection = True
            return
        self.wfile.write(body)
