"""A Hub on loopback: real HTTP, files on disk, and faults on demand.

    with HubDouble(folder) as double:
        hub = Hub(endpoint=double.url, token=double.token)
        double.fail(503, on="/commit/", times=2, retry_after=1)

It speaks what huggingface_hub 2.4 asks of a Hub for models, datasets and spaces: create,
delete, settings, whoami, preupload, LFS (single and in parts), commit, pull requests, info,
tree, paths-info, refs, commits, list (models by filter, expanded, in pages, with ETag), resolve
with ranges, validate-yaml. Large files lie on a second port, as on a content network, and what
arrives there with a token is counted.

Xet storage is refused as by a Hub that has none (404 for its token), unless `with_xet` gave it
some; then the real hf_xet keeps its pieces in a folder.

Every request is kept in `requests`; `put_bytes` counts the bytes of large files that arrived.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self

from double_answers import Request
from double_repos import Repo
from double_routes import Routes
from double_xet import XetStore

TOKEN = "hf_doubleWriteTokenThatMustNeverBeSeen"
READ_TOKEN = "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"


@dataclass(kw_only=True)
class Fault:
    """What goes wrong for the next `times` requests (None: all) that fit `method` and `on`.

    kind: status: an answer that is no success; cut: the connection ends after `after` bytes of
    the body, of the request where `method` is PUT or POST, of the answer for GET; flip: one byte
    of the answer is another; slow: the answer waits `seconds`; lost: it is done, and the
    connection ends before the answer
    skip: requests that fit and are let through first
    """

    kind: Literal["status", "cut", "flip", "slow", "lost"]
    method: str = ""
    on: str = ""
    times: int | None = 1
    skip: int = 0
    status: int = 0
    headers: dict[str, str] | None = None
    message: str = ""
    after: int = 0
    seconds: float = 0

    def fits(self, method: str, path: str) -> bool:
        if (self.method and method != self.method) or not re.search(self.on, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class HubDouble:
    """The server; `url` is its endpoint. Close it, or use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = TOKEN
        self.tokens = {TOKEN: "write", READ_TOKEN: "read"}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.put_bytes = 0
        self.waits: list[float] = []
        """What clients in this process waited between attempts; the fixture fills it."""
        self.large_bytes = 10_000_000
        self.part_bytes: int | None = None
        """Large files over this go up in parts of it."""
        self.page = 1000
        self.ranges = True
        self.models: list[Any] = []
        """What the Hub knows of models that can be searched for; see double_models.py."""
        self.models_page = 1000
        self.models_headers: dict[str, str] = {}
        """Said with each page of models."""
        self.models_answer: Any = None
        """Said in place of a page of models."""
        self.xet: XetStore | None = None
        self.lock = threading.RLock()
        self.parts: dict[str, dict[int, bytes]] = {}
        self._servers = [Server(self, storage=storage) for storage in (False, True)]
        self.url, self.storage_url = (server.url for server in self._servers)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables with which another process finds this Hub, and nothing else."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def with_xet(self) -> XetStore:
        """Have Xet storage from now on."""
        self.xet = XetStore(self.folder / "xet")
        return self.xet

    def fail(
        self,
        status: int,
        *,
        on: str = "",
        method: str = "",
        times: int | None = 1,
        skip: int = 0,
        retry_after: int | str | None = None,
        message: str = "the double was told to fail",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer with `status`. `{token}` in the message becomes the token that was sent."""
        extra = dict(headers or {})
        if retry_after is not None:
            extra["Retry-After"] = str(retry_after)
        self.faults.append(
            Fault(
                kind="status",
                status=status,
                method=method,
                on=on,
                times=times,
                skip=skip,
                headers=extra,
                message=message,
            )
        )

    def cut(
        self, *, method: str, on: str = "", after: int = 0, times: int | None = 1, skip: int = 0
    ) -> None:
        """End the connection after `after` bytes of the body."""
        self.faults.append(
            Fault(kind="cut", method=method, on=on, after=after, times=times, skip=skip)
        )

    def flip(self, *, on: str, at: int = 0, times: int | None = 1) -> None:
        """Change the byte at `at` of what is downloaded."""
        self.faults.append(Fault(kind="flip", method="GET", on=on, after=at, times=times))

    def lose(self, *, method: str, on: str, times: int | None = 1) -> None:
        """Do what is asked and end the connection before the answer."""
        self.faults.append(Fault(kind="lost", method=method, on=on, times=times))

    def slow(self, seconds: float, *, on: str = "", times: int | None = 1) -> None:
        """Wait before the answer."""
        self.faults.append(Fault(kind="slow", seconds=seconds, on=on, times=times))

    def repo(self, repo_id: str, kind: str = "models") -> Repo:
        """The repo, for a test to look at."""
        return self.repos[kind, repo_id]

    def files(self, repo_id: str, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
        """What a revision holds, without the `.gitattributes` that every repo has."""
        repo = self.repo(repo_id, kind)
        commit = repo.resolve(revision)
        return {
            path: repo.content(entry)
            for path, entry in commit.files.items()
            if path != ".gitattributes"
        }

    def commits(self, repo_id: str, kind: str = "models", revision: str = "main") -> list[str]:
        """Titles, newest first, without the first commit."""
        return [made.title for made in self.repo(repo_id, kind).history(revision)[:-1]]

    def asked(self, method: str, on: str) -> list[Request]:
        """The requests that fit."""
        return [r for r in self.requests if r.method == method and re.search(on, r.path)]

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            return next((fault for fault in self.faults if fault.fits(method, path)), None)


class Server(ThreadingHTTPServer):
    """One port of the double; `storage` is the one for large files."""

    daemon_threads = True

    def __init__(self, double: HubDouble, *, storage: bool) -> None:
        super().__init__(("127.0.0.1", 0), Routes)
        self.double = double
        self.storage = storage
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""
