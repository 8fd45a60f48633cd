"""Bytes over HTTP or from a folder, with retries that do what the server asks.

    with Fetcher("https://data.binance.vision") as fetcher:
        answer = fetcher.get("data/spot/...zip.CHECKSUM")

The base may be `https://...`, `http://127.0.0.1:PORT` or `file:///...`; a folder answers as
a server would, with 200 or 404. A broken connection, a time-out, 408, 429 and 5xx are tried
again, after `Retry-After` where the server gives one; 418 (banned) stops at once with the
time it ends. What remains is one FetchError that names the address and the last reason.

The clock and the sleep are arguments, so that tests wait for nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

from candlemark.candles.series import format_time
from candlemark.errors import ConfigError, FetchError, RateLimitError
from candlemark.progress import note

if TYPE_CHECKING:
    import httpx
    import tenacity

USER_AGENT = "candlemark"
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
SMALL_BODY_BYTES = 32 * 2**20
"""The most that `get` reads into memory; archives come through `download`."""

_LONG_WAIT_S = 5
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

ResultT = TypeVar("ResultT")


class _Again(Exception):  # noqa: N818  # never leaves this module
    """A reason to try again, and how long the server asked to wait (None: not said)."""

    def __init__(self, reason: str, wait_s: float | None = None, status: int = 0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer with status 200, or one of 400 and 404, which the caller explains."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Fetcher:
    """A client for one base address; safe to use from several threads.

    attempts: how often one request is tried in all
    timeout_s: longest silence of a connection
    longest_attempt_s: longest time for one attempt, so that a trickle does not last forever
    longest_wait_s: a longer `Retry-After` is a RateLimitError instead of a wait
    """

    def __init__(
        self,
        base_url: str,
        *,
        attempts: int = 5,
        timeout_s: float = 30,
        longest_attempt_s: float = 600,
        longest_wait_s: float = 300,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https", "file"} or not (parts.netloc or parts.path):
            raise ConfigError(
                f"base address '{base_url}' is not understood; "
                "write https://HOST, http://127.0.0.1:PORT or file:///FOLDER"
            )
        self.base_url = base_url.rstrip("/")
        self.sleep = sleep
        self.clock = clock
        self._attempts = attempts
        self._longest_attempt_s = longest_attempt_s
        self._longest_wait_s = longest_wait_s
        self._client: httpx.Client | None = None
        self.folder: Path | None = None
        if parts.scheme == "file":
            self.folder = _folder(base_url)
        else:
            import httpx

            self._client = httpx.Client(
                timeout=timeout_s,
                follow_redirects=True,
                transport=transport,
                # A proxy from the environment cannot reach this machine's own loopback.
                trust_env=parts.hostname not in _LOOPBACK,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                limits=httpx.Limits(max_connections=32),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._client.close()

    def url(self, path: str) -> str:
        """The full address of a path under the base, its names percent-encoded."""
        return f"{self.base_url}/{quote(path)}"

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Answer:
        """The whole answer, at most 32 MiB. Raises FetchError, RateLimitError."""
        if self.folder is not None:
            return self._read(path)
        return self._retry(self.url(path), lambda: self._get_once(path, params))

    def exists(self, path: str) -> bool:
        """Whether the base has this path. Raises FetchError, RateLimitError."""
        if self.folder is not None:
            return (self.folder / path).is_file()
        return self._retry(self.url(path), lambda: self._head_once(path))

    def download(self, path: str, target: Path, *, limit_bytes: int) -> bool:
        """Bring a file to `target`, going on after what is already there; False for a 404.

        The bytes are not checked here. Whatever arrived before a failure stays in `target`,
        so that the next call goes on from there. Raises FetchError, RateLimitError, OSError.
        """
        if self.folder is not None:
            answer = self._read(path)
            if answer.status == 200:
                target.write_bytes(answer.body)
            return answer.status == 200
        return self._retry(self.url(path), lambda: self._download_once(path, target, limit_bytes))

    def _read(self, path: str) -> Answer:
        if self.folder is None:
            raise ConfigError(f"{self.base_url} is no folder")
        try:
            return Answer(status=200, body=(self.folder / path).read_bytes())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return Answer(status=404)
        except OSError as error:
            raise FetchError(f"cannot read {self.folder / path}: {error.strerror}") from error

    def _get_once(self, path: str, params: Mapping[str, str | int] | None) -> Answer:
        with self._open("GET", path, params=params) as response:
            self._check(response, accepted=(200, 400, 404))
            body = bytearray()
            for chunk in self._chunks(response):
                body += chunk
                if len(body) > SMALL_BODY_BYTES:
                    raise FetchError(f"{self.url(path)} answers with over 32 MiB; refused")
            return Answer(
                status=response.status_code, body=bytes(body), headers=dict(response.headers)
            )

    def _head_once(self, path: str) -> bool:
        with self._open("HEAD", path) as response:
            self._check(response, accepted=(200, 404))
            return response.status_code == 200

    def _download_once(self, path: str, target: Path, limit_bytes: int) -> bool:
        have = target.stat().st_size if target.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._open("GET", path, headers=headers) as response:
            if response.status_code == 416:
                # What is here is longer than what is there, so it is something else.
                target.unlink()
                raise _Again("the part already here does not belong to it", 0)
            self._check(response, accepted=(200, 206, 404))
            if response.status_code == 404:
                return False
            resumed = response.status_code == 206 and response.headers.get(
                "content-range", ""
            ).startswith(f"bytes {have}-")
            if response.status_code == 206 and not resumed:
                target.unlink(missing_ok=True)
                raise _Again("the server resumed at another place than asked", 0)
            size = have if resumed else 0
            with target.open("ab" if resumed else "wb") as stream:
                for chunk in self._chunks(response):
                    size += len(chunk)
                    if size > limit_bytes:
                        stream.close()
                        target.unlink()
                        raise FetchError(f"{self.url(path)} is over {limit_bytes:,} bytes; refused")
                    stream.write(chunk)
        return True

    def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Stream:
        if self._client is None:
            raise ConfigError(f"{self.base_url} is a folder, not a server")
        request = self._client.build_request(
            method, self.url(path), params=dict(params or {}), headers=dict(headers or {})
        )
        return _Stream(self._client, request)

    def _chunks(self, response: httpx.Response) -> _Chunks:
        return _Chunks(response, deadline=time.monotonic() + self._longest_attempt_s)

    def _check(self, response: httpx.Response, *, accepted: tuple[int, ...]) -> None:
        status = response.status_code
        if status in accepted:
            return
        wait_s = self._retry_after_s(response)
        if status == 418:
            ends = (
                "unknown time" if wait_s is None else f"{format_time(self._after_ms(wait_s))} UTC"
            )
            raise RateLimitError(
                f"{self.base_url} has banned this address for asking too often (418) "
                f"until {ends}; ask again after that, or use --via archive"
            )
        if status in RETRIED:
            if wait_s is not None and wait_s > self._longest_wait_s:
                raise RateLimitError(
                    f"{self.base_url} asks to wait {wait_s:.0f} s ({status}), until "
                    f"{format_time(self._after_ms(wait_s))} UTC; ask again after that"
                )
            raise _Again(f"answered {status} {response.reason_phrase}".strip(), wait_s, status)
        hint = (
            "; it refuses this region, so name a mirror with --base-url or CANDLEMARK_BINANCE_URL"
            if status in {403, 451}
            else ""
        )
        raise FetchError(f"{response.request.url} answered {status}{hint}")

    def _after_ms(self, wait_s: float) -> int:
        return int((self.clock() + wait_s) * 1000) // 1000 * 1000

    def _retry_after_s(self, response: httpx.Response) -> float | None:
        """Seconds of `Retry-After`, which is a number or an HTTP date; None: none given."""
        text = response.headers.get("retry-after", "").strip()
        if text.isdigit():
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self.clock())
        except ValueError:
            return None

    def _retry(self, url: str, attempt: Callable[[], ResultT]) -> ResultT:
        import tenacity

        policy = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            retry=tenacity.retry_if_exception_type(_Again),
            wait=_wait_s,
            sleep=self.sleep,
            before_sleep=_tell_long_wait,
            reraise=True,
        )
        try:
            return policy(attempt)
        except _Again as error:
            kind = RateLimitError if error.status == 429 else FetchError
            raise kind(
                f"{url} could not be fetched in {self._attempts} attempts: {error}; "
                "check the connection, or name a mirror with --base-url or CANDLEMARK_BINANCE_URL"
            ) from error


class _Stream:
    """`httpx.Client.stream` with transport errors turned into reasons to try again."""

    def __init__(self, client: httpx.Client, request: httpx.Request) -> None:
        self._client = client
        self._request = request
        self._response: httpx.Response | None = None

    def __enter__(self) -> httpx.Response:
        import httpx

        try:
            self._response = self._client.send(self._request, stream=True)
        except (httpx.TransportError, httpx.TooManyRedirects) as error:
            raise _Again(_reason(error)) from error
        return self._response

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.close()


class _Chunks:
    """The body's chunks; a broken, silent or endless body is a reason to try again."""

    def __init__(self, response: httpx.Response, *, deadline: float) -> None:
        # No chunk size: httpx would hold back a part chunk, which a cut then loses.
        self._body = response.iter_bytes()
        self._deadline = deadline

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        import httpx

        if time.monotonic() > self._deadline:
            raise _Again("the body takes too long")
        try:
            return next(self._body)
        except httpx.TransportError as error:
            raise _Again(_reason(error)) from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _wait_s(state: tenacity.RetryCallState) -> float:
    """What the server asked for, else 0.5 s doubling with each attempt."""
    outcome = state.outcome.exception() if state.outcome is not None else None
    if isinstance(outcome, _Again) and outcome.wait_s is not None:
        return outcome.wait_s
    return float(min(30.0, 0.5 * 2 ** (state.attempt_number - 1)))


def _tell_long_wait(state: tenacity.RetryCallState) -> None:
    """Say why nothing happens for a while."""
    if state.next_action is not None and state.next_action.sleep >= _LONG_WAIT_S:
        reason = state.outcome.exception() if state.outcome is not None else None
        note(f"the server {reason}; trying again in {state.next_action.sleep:.0f} s")


def _folder(base_url: str) -> Path:
    parts = urlsplit(base_url)
    if parts.netloc not in {"", "localhost"}:
        raise ConfigError(
            f"'{base_url}' names another host; a folder is written file:///path, three slashes"
        )
    path = unquote(parts.path)
    if os.name == "nt":
        path = path.lstrip("/")
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(f"'{base_url}': there is no folder {folder}")
    return folder
