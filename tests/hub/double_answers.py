"""How the double answers: one request read, spoiled where a fault was ordered, told, recorded."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from double_repos import Refused, Repo

if TYPE_CHECKING:
    from double import Server

USER = "tester"


class Cut(Exception):  # noqa: N818
    """The connection ends here."""


class Done(Exception):  # noqa: N818
    """The answer has been given already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request that arrived. `status` is 0 where the connection was cut."""

    method: str
    path: str
    status: int
    with_token: bool
    storage: bool
    body: bytes


class Answers(BaseHTTPRequestHandler):
    """What all routes share; `routes` is the table of them."""

    routes: tuple[tuple[str, str, str], ...] = ()
    protocol_version = "HTTP/1.1"
    server: Server
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent."""

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _handle(self) -> None:
        self.double = self.server.double
        parts = urlsplit(self.path)
        self.route = unquote(parts.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.fault = self.double.fault(self.command, self.path)
        self.recorded = False
        self.body = b""
        try:
            self._read_body()
            self._spoil()
            answer = self._dispatch()
            if answer is not None:
                self.tell(answer)
        except Refused as refused:
            self._refuse(refused)
        except Done:
            pass
        except (Cut, ConnectionError):
            self._record(0)
            self.close_connection = True

    def _record(self, status: int) -> None:
        """Before the answer leaves, so that a test that has its answer sees the request."""
        if self.recorded:
            return
        self.recorded = True
        self.double.requests.append(
            Request(
                method=self.command,
                path=self.path,
                status=status,
                with_token="authorization" in self.headers,
                storage=self.server.storage,
                body=self.body,
            )
        )

    def _read_body(self) -> None:
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Refused(501, "a header you provided implies functionality that is not there")
        wanted = int(self.headers.get("Content-Length", 0))
        cut = self.fault is not None and self.fault.kind == "cut" and self.command != "GET"
        limit = min(wanted, self.fault.after) if cut and self.fault else wanted
        body = bytearray()
        while len(body) < limit:
            chunk = self.rfile.read(min(1 << 16, limit - len(body)))
            if not chunk:
                break
            body += chunk
        self.body = bytes(body)
        if self.command == "PUT" and self.server.storage:
            with self.double.lock:
                self.double.put_bytes += len(body)
        if cut or len(body) < wanted:
            raise Cut

    def _spoil(self) -> None:
        if self.fault is None:
            return
        if self.fault.kind == "slow":
            time.sleep(self.fault.seconds)
        if self.fault.kind == "status":
            sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
            message, status = self.fault.message.replace("{token}", sent), self.fault.status
            headers = self.fault.headers or {}
            if message.startswith("<"):  # what a proxy says
                headers = {"Content-Type": "text/html", **headers}
                self.send(message.encode(), status=status, headers=headers)
            else:
                self.tell({"error": message}, status=status, headers=headers)
            raise Done

    # -- answers

    def tell(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(
            json.dumps(value).encode(),
            status=status,
            headers={"Content-Type": "application/json", **(headers or {})},
        )

    def _refuse(self, refused: Refused) -> None:
        headers = {"X-Error-Message": refused.message}
        if refused.code is not None:
            headers["X-Error-Code"] = refused.code
        self.tell({"error": refused.message}, status=refused.status, headers=headers)

    def send(self, content: bytes, *, status: int = 200, headers: dict[str, str]) -> None:
        fault = self.fault
        if fault is not None and fault.kind == "lost":
            raise Cut
        if fault is not None and fault.kind == "flip" and content:
            at = min(fault.after, len(content) - 1)
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        self._record(status)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.kind == "cut":
            self.wfile.write(content[: fault.after])
            raise Cut
        self.wfile.write(content)

    # -- who asks

    @property
    def role(self) -> str | None:
        sent = self.headers.get("Authorization")
        if sent is None:
            return None
        role = self.double.tokens.get(sent.removeprefix("Bearer "))
        if role is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        return role

    def find(self, plural: str, repo_id: str) -> Repo:
        role = self.role
        found = self.double.repos.get((plural, repo_id))
        if found is None or (found.private and role is None):
            status = 404 if role else 401
            raise Refused(status, "Repository not found", "RepoNotFound")
        return found

    def writer(self, namespace: str | None) -> str:
        """The namespace that may be written to by who asks."""
        role = self.role
        if role is None:
            raise Refused(401, "Invalid username or password.")
        if role != "write":
            raise Refused(403, "Forbidden: you must use a write token to write to a repository.")
        if namespace not in {None, USER, "team"}:
            raise Refused(403, f'You don\'t have the rights to create or write under "{namespace}"')
        return namespace or USER

    # -- routes

    def _dispatch(self) -> Any:
        for method, pattern, name in self.routes:
            match = re.fullmatch(pattern, self.route)
            if match is not None and self.command in method.split():
                handler: Callable[..., Any] = getattr(self, name)
                if self.command in {"GET", "HEAD", "PUT"}:
                    # Whoever reads slowly must not keep the others out.
                    return handler(**match.groupdict())
                with self.double.lock:
                    return handler(**match.groupdict())
        raise Refused(404, f"no such route: {self.command} {self.route}")

    def load(self) -> Any:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refused(400, "the body is no JSON") from error
