"""A Hub on loopback: real HTTP, files on disk, and faults on demand.

    with HubDouble(folder) as double:
        hub = Hub(endpoint=double.url, token=double.token)
        double.fail(503, on="/commit/", times=2, retry_after=1)

It speaks what huggingface_hub 2.4 asks of a Hub for models, datasets and spaces: create,
delete, settings, whoami, preupload, LFS (single and in parts), commit, pull requests, info,
tree, paths-info, refs, commits, list, resolve with ranges, validate-yaml. Large files lie on a
second port, as on a content network, and what arrives there with a token is counted.

Xet storage is refused as by a Hub that has none (404 for its token), unless `with_xet` gave it
some; then the real hf_xet keeps its pieces in a folder.

Every request is kept in `requests`; `put_bytes` counts the bytes of large files that arrived.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import double_repos as repos
from double_repos import KINDS, Refused, Repo
from double_xet import XetStore

TOKEN = "hf_doubleWriteTokenThatMustNeverBeSeen"
READ_TOKEN = "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"
USER = "tester"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request that arrived. `status` is 0 where the connection was cut."""

    method: str
    path: str
    status: int
    with_token: bool
    storage: bool
    body: bytes


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
        self.xet: XetStore | None = None
        self.lock = threading.RLock()
        self.parts: dict[str, dict[int, bytes]] = {}
        self._servers = [_Server(self, storage=storage) for storage in (False, True)]
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, double: HubDouble, *, storage: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.double = double
        self.storage = storage
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Cut(Exception):  # noqa: N818
    """The connection ends here."""


class _Done(Exception):  # noqa: N818
    """The answer has been given already."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
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
                self._json(answer)
        except Refused as refused:
            self._refuse(refused)
        except _Done:
            pass
        except (_Cut, ConnectionError):
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
            raise _Cut

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
                self._bytes(message.encode(), status=status, headers=headers)
            else:
                self._json({"error": message}, status=status, headers=headers)
            raise _Done

    # -- answers

    def _json(
        self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self._bytes(
            json.dumps(value).encode(),
            status=status,
            headers={"Content-Type": "application/json", **(headers or {})},
        )

    def _refuse(self, refused: Refused) -> None:
        headers = {"X-Error-Message": refused.message}
        if refused.code is not None:
            headers["X-Error-Code"] = refused.code
        self._json({"error": refused.message}, status=refused.status, headers=headers)

    def _bytes(self, content: bytes, *, status: int = 200, headers: dict[str, str]) -> None:
        fault = self.fault
        if fault is not None and fault.kind == "lost":
            raise _Cut
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
            raise _Cut
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

    def _repo(self, plural: str, repo_id: str) -> Repo:
        role = self.role
        found = self.double.repos.get((plural, repo_id))
        if found is None or (found.private and role is None):
            status = 404 if role else 401
            raise Refused(status, "Repository not found", "RepoNotFound")
        return found

    def _writer(self, namespace: str | None) -> str:
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
        for method, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, self.route)
            if match is not None and self.command in method.split():
                handler: Callable[..., Any] = getattr(self, name)
                if self.command in {"GET", "HEAD", "PUT"}:
                    # Whoever reads slowly must not keep the others out.
                    return handler(**match.groupdict())
                with self.double.lock:
                    return handler(**match.groupdict())
        raise Refused(404, f"no such route: {self.command} {self.route}")

    def _load(self) -> Any:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refused(400, "the body is no JSON") from error

    def whoami(self) -> Any:
        role = self.role
        if role is None:
            raise Refused(401, "Invalid username or password.")
        return {
            "type": "user",
            "name": USER,
            "fullname": "A Tester",
            "orgs": [{"name": "team", "type": "org"}],
            "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": role}},
        }

    def validate_yaml(self) -> Any:
        import yaml

        text = self._load()["content"]
        if not text.startswith("---\n"):
            return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]}
        try:
            yaml.safe_load(text[4:].partition("\n---")[0])
        except yaml.YAMLError as error:
            answer = {"errors": [{"message": str(error).splitlines()[0]}], "warnings": []}
            self._json(answer, status=400)
            return None
        return {"errors": [], "warnings": []}

    def create(self) -> Any:
        asked = self._load()
        plural = asked.get("type", "model") + "s"
        repo_id = f"{self._writer(asked.get('organization'))}/{asked['name']}"
        url = f"{self.double.url}/{KINDS[plural]}{repo_id}"
        if (plural, repo_id) in self.double.repos:
            message = "You already created this repo"
            self._json({"error": message, "url": url}, status=409)
            return None
        self.double.repos[plural, repo_id] = Repo(
            kind=plural,
            id=repo_id,
            folder=self.double.folder / plural / repo_id,
            private=asked.get("visibility") == "private",
            sdk=asked.get("sdk"),
            large_bytes=self.double.large_bytes,
        )
        return {"url": url, "name": repo_id, "id": repos.git_oid(repo_id.encode())[:24]}

    def delete(self) -> Any:
        asked = self._load()
        plural = asked.get("type", "model") + "s"
        repo_id = f"{self._writer(asked.get('organization'))}/{asked['name']}"
        found = self._repo(plural, repo_id)
        # A repo of this name may come again; what was there stays on disk beside it.
        found.folder.rename(found.folder.with_name(f".deleted-{time.monotonic_ns()}"))
        del self.double.repos[plural, repo_id]
        return {}

    def settings(self, kind: str, id: str) -> Any:  # noqa: A002
        found = self._repo(kind, id)
        self._writer(id.partition("/")[0])
        if "visibility" in (asked := self._load()):
            found.private = asked["visibility"] == "private"
        return {"private": found.private}

    def listing(self, kind: str) -> Any:
        role = self.role
        wanted, author = self.query.get("search", ""), self.query.get("author")
        found = [
            repo
            for (plural, _), repo in sorted(self.double.repos.items())
            if plural == kind
            and (role or not repo.private)
            and wanted.lower() in repo.id.lower()
            and author in {None, repo.id.partition("/")[0]}
        ]
        limit = int(self.query.get("limit", len(found)))
        return [repos.repo_facts(repo, repo.resolve("main")) for repo in found[:limit]]

    def info(self, kind: str, id: str, revision: str = "main") -> Any:  # noqa: A002
        found = self._repo(kind, id)
        blobs = self.query.get("blobs", "").lower() in {"1", "true"}
        return repos.repo_facts(found, found.resolve(revision), blobs=blobs)

    def tree(self, kind: str, id: str, revision: str, path: str | None) -> Any:  # noqa: A002
        recursive = self.query.get("recursive", "").lower() in {"1", "true"}
        commit = self._repo(kind, id).resolve(revision)
        listed = repos.tree(commit, path or "", recursive=recursive)
        first = int(self.query.get("cursor", 0))
        last = first + self.double.page
        headers = {}
        if last < len(listed):
            plain = urlsplit(self.path).path
            flag = "true" if recursive else "false"
            link = f"{self.double.url}{plain}?recursive={flag}&cursor={last}"
            headers["Link"] = f'<{link}>; rel="next"'
        page = listed[first:last]
        if self.query.get("expand", "").lower() in {"1", "true"}:
            touched = {"id": commit.oid, "title": commit.title, "date": repos.DATE}
            page = [{**entry, "lastCommit": touched} for entry in page]
        self._json(page, headers=headers)

    def paths_info(self, kind: str, id: str, revision: str) -> Any:  # noqa: A002
        files = self._repo(kind, id).resolve(revision).files
        if "json" in self.headers.get("Content-Type", ""):
            wanted = self._load()["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        listed = [repos.file_facts(path, files[path]) for path in wanted if path in files]
        folders = {"/".join(p.split("/")[:n]) for p in files for n in range(1, p.count("/") + 1)}
        return listed + [
            {"type": "directory", "oid": repos.git_oid(p.encode()), "size": 0, "path": p}
            for p in wanted
            if p in folders
        ]

    def refs(self, kind: str, id: str) -> Any:  # noqa: A002
        found: dict[str, list[dict[str, str]]] = {
            "branches": [], "tags": [], "converts": [], "pullRequests": []
        }  # fmt: skip
        names = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}
        for ref, oid in self._repo(kind, id).refs.items():
            _, group, name = ref.split("/", 2)
            found[names[group]].append({"name": name, "ref": ref, "targetCommit": oid})
        return found

    def history(self, kind: str, id: str, revision: str) -> Any:  # noqa: A002
        return [
            {
                "id": made.oid,
                "title": made.title,
                "message": made.description,
                "authors": [{"user": USER}],
                "date": repos.DATE,
            }
            for made in self._repo(kind, id).history(revision)
        ]

    def branch(self, kind: str, id: str, name: str) -> Any:  # noqa: A002
        found = self._repo(kind, id)
        self._writer(id.partition("/")[0])
        found.refs[f"refs/heads/{name}"] = found.resolve(
            self._load().get("startingPoint", "main")
        ).oid
        return {}

    def preupload(self, kind: str, id: str, revision: str) -> Any:  # noqa: A002
        import base64

        found = self._repo(kind, id)
        self._may_write(id)
        there = found.resolve(revision).files
        answers = []
        for asked in self._load()["files"]:
            sample = base64.b64decode(asked["sample"])
            large = found.is_large(asked["path"], asked["size"], sample)
            answer = {
                "path": asked["path"],
                "uploadMode": "lfs" if large else "regular",
                "shouldIgnore": False,
            }
            if asked["path"] in there:
                answer["oid"] = there[asked["path"]].etag
            answers.append(answer)
        return {"files": answers}

    def _may_write(self, repo_id: str) -> None:
        """Whoever may read may open a pull request."""
        if self.query.get("create_pr") == "1":
            if self.role is None:
                raise Refused(401, "Invalid username or password.")
            return
        self._writer(repo_id.partition("/")[0])

    def commit(self, kind: str, id: str, revision: str) -> Any:  # noqa: A002
        found = self._repo(kind, id)
        self._may_write(id)
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header = lines[0]["value"]
        url = f"{self.double.url}/{KINDS[kind]}{id}"
        answer = {"success": True}
        if self.query.get("create_pr") == "1":
            base = found.resolve(header.pop("parentCommit", None) or revision).oid
            opened = found.open_pull_request(header["summary"], USER, base)
            ref = f"refs/pr/{opened['num']}"
            answer["pullRequestUrl"] = f"{url}/discussions/{opened['num']}"
        else:
            ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
            if ref not in found.refs:
                raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        self._take_from_xet(found, lines)
        made = found.apply(ref, lines)
        return answer | {"commitUrl": f"{url}/commit/{made.oid}", "commitOid": made.oid}

    def _take_from_xet(self, found: Repo, lines: list[dict[str, Any]]) -> None:
        if self.double.xet is None:
            return
        for value in (line["value"] for line in lines if line["key"] == "lfsFile"):
            target = found.large(value["oid"])
            if not target.is_file() and not self.double.xet.take(
                value["oid"], value["size"], target
            ):
                target.unlink(missing_ok=True)

    def discuss(self, kind: str, id: str) -> Any:  # noqa: A002
        found = self._repo(kind, id)
        if self.role is None:
            raise Refused(401, "Invalid username or password.")
        asked = self._load()
        return found.open_pull_request(asked["title"], USER, found.resolve("main").oid)

    def discussions(self, kind: str, id: str) -> Any:  # noqa: A002
        listed = [_discussion(kind, id, item) for item in self._repo(kind, id).pull_requests]
        return {"discussions": listed, "count": len(listed), "start": 0}

    def discussion(self, kind: str, id: str, number: str) -> Any:  # noqa: A002
        opened = self._pull_request(kind, id, number)
        return _discussion(kind, id, opened) | {
            "changes": {"base": "refs/heads/main"},
            "filesWithConflicts": [],
            "events": [],
            "diff": "",
        }

    def _pull_request(self, kind: str, repo_id: str, number: str) -> dict[str, Any]:
        opened = self._repo(kind, repo_id).pull_requests
        if not 0 < int(number) <= len(opened):
            raise Refused(404, "no such discussion")
        return opened[int(number) - 1]

    def merge(self, kind: str, id: str, number: str) -> Any:  # noqa: A002
        found = self._repo(kind, id)
        self._writer(id.partition("/")[0])
        opened = self._pull_request(kind, id, number)
        found.refs["refs/heads/main"] = found.refs[f"refs/pr/{number}"]
        opened["status"] = "merged"
        return {}

    def xet_token(self, kind: str, id: str, access: str, revision: str) -> Any:  # noqa: A002
        self._repo(kind, id)
        if self.double.xet is None:
            raise Refused(404, "This Hub has no Xet storage")
        if access == "write":
            self._may_write(id)
        headers = self.double.xet.token()
        answer = {
            "casUrl": headers["X-Xet-Cas-Url"],
            "accessToken": headers["X-Xet-Access-Token"],
            "exp": int(headers["X-Xet-Token-Expiration"]),
        }
        self._json(answer, headers=headers)

    # -- large files

    def lfs_batch(self, prefix: str | None, id: str) -> Any:  # noqa: A002
        kind = (prefix or "models/").rstrip("/")
        found = self._repo(kind, id)
        self.role  # noqa: B018  # a wrong token is refused
        objects = []
        for asked in self._load()["objects"]:
            item: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if not found.large(asked["oid"]).is_file():
                item["actions"] = self._lfs_actions(kind, id, asked["oid"], asked["size"])
            objects.append(item)
        return {"transfer": "basic", "objects": objects}

    def _lfs_actions(self, kind: str, repo_id: str, oid: str, size: int) -> dict[str, Any]:
        verify = {"href": f"{self.double.url}/lfs-verify/{kind}/{repo_id}"}
        put = f"{self.double.storage_url}/put/{kind}/{repo_id}/{oid}"
        part_bytes = self.double.part_bytes
        if part_bytes is None or size <= part_bytes:
            return {"upload": {"href": put}, "verify": verify}
        count = -(-size // part_bytes)
        header = {str(n + 1): f"{put}?part={n + 1}" for n in range(count)}
        header["chunk_size"] = str(part_bytes)
        done = f"{self.double.url}/lfs-complete/{kind}/{repo_id}"
        return {"upload": {"href": done, "header": header}, "verify": verify}

    def put(self, kind: str, id: str, oid: str) -> Any:  # noqa: A002
        if "part" in self.query:
            self.double.parts.setdefault(oid, {})[int(self.query["part"])] = self.body
            etag = hashlib.sha256(self.body).hexdigest()
            self._bytes(b"", headers={"ETag": f'"{etag}"'})
            return
        self._store(kind, id, oid, self.body)
        self._bytes(b"", headers={})

    def lfs_complete(self, kind: str, id: str) -> Any:  # noqa: A002
        asked = self._load()
        parts = self.double.parts.pop(asked["oid"], {})
        if [part["partNumber"] for part in asked["parts"]] != sorted(parts):
            raise Refused(400, "parts are missing")
        self._store(kind, id, asked["oid"], b"".join(parts[n] for n in sorted(parts)))
        return {}

    def _store(self, kind: str, repo_id: str, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "The provided 'x-amz-content-sha256' does not match")
        self.double.repos[kind, repo_id].large(oid).write_bytes(content)

    def lfs_verify(self, kind: str, id: str) -> Any:  # noqa: A002
        stored = self._repo(kind, id).large(self._load()["oid"])
        if not stored.is_file():
            raise Refused(404, "the object is not there")
        return {}

    # -- downloads

    def resolve(self, prefix: str | None, id: str, revision: str, path: str) -> Any:  # noqa: A002
        kind = (prefix or "models/").rstrip("/")
        found = self._repo(kind, id)
        commit, entry = found.entry(revision, path)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{entry.etag}"'}
        if entry.sha256 is None:
            self._ranged(found.content(entry), headers)
            return
        where = f"{self.double.storage_url}/get/{kind}/{id}/{entry.sha256}/{quote(path, safe='')}"
        headers |= {
            "X-Linked-Etag": f'"{entry.sha256}"',
            "X-Linked-Size": str(entry.size),
            "Location": where,
        }
        name = self.double.xet.hash_of(entry.sha256) if self.double.xet else None
        if name is not None:
            route = f"{self.double.url}/api/{kind}/{id}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": name, "X-Xet-Refresh-Route": route}
        self._bytes(b"", status=302, headers=headers)

    def get_large(self, kind: str, id: str, oid: str, name: str) -> Any:  # noqa: A002
        stored = self.double.repos[kind, id].large(oid)
        self._ranged(stored.read_bytes(), {"ETag": f'"{oid}"'})

    def _ranged(self, content: bytes, headers: dict[str, str]) -> None:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self._bytes(content, headers=headers)
            return
        first, last = int(match[1]), int(match[2] or len(content) - 1)
        if first >= len(content):
            headers["Content-Range"] = f"bytes */{len(content)}"
            self._bytes(b"", status=416, headers=headers)
            return
        last = min(last, len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._bytes(content[first : last + 1], status=206, headers=headers)


def _discussion(kind: str, repo_id: str, opened: dict[str, Any]) -> dict[str, Any]:
    return {
        **opened,
        "author": {"name": opened["author"]},
        "createdAt": repos.DATE,
        "isPullRequest": True,
        "repo": {"name": repo_id, "type": kind[:-1]},
        "repoOwner": {"name": repo_id.partition("/")[0]},
        "numComments": 0,
    }


_API = r"/api/(?P<kind>models|datasets|spaces)"
_REPO = rf"{_API}/(?P<id>[^/]+/[^/]+)"
_PLAIN = r"/(?P<prefix>datasets/|spaces/)?(?P<id>[^/]+/[^/]+)"
_STORED = r"(?P<kind>\w+)/(?P<id>[^/]+/[^/]+)"
_ROUTES = (
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", r"/api/repos/create", "create"),
    ("DELETE", r"/api/repos/delete", "delete"),
    ("GET", _API, "listing"),
    ("GET", _REPO, "info"),
    ("GET", rf"{_REPO}/revision/(?P<revision>.+)", "info"),
    ("PUT", rf"{_REPO}/settings", "settings"),
    ("GET", rf"{_REPO}/tree/(?P<revision>refs/pr/\d+|[^/]+)(?:/(?P<path>.*))?", "tree"),
    ("POST", rf"{_REPO}/paths-info/(?P<revision>.+)", "paths_info"),
    ("GET", rf"{_REPO}/refs", "refs"),
    ("GET", rf"{_REPO}/commits/(?P<revision>.+)", "history"),
    ("POST", rf"{_REPO}/branch/(?P<name>.+)", "branch"),
    ("POST", rf"{_REPO}/preupload/(?P<revision>.+)", "preupload"),
    ("POST", rf"{_REPO}/commit/(?P<revision>.+)", "commit"),
    ("POST", rf"{_REPO}/discussions", "discuss"),
    ("GET", rf"{_REPO}/discussions", "discussions"),
    ("GET", rf"{_REPO}/discussions/(?P<number>\d+)", "discussion"),
    ("POST", rf"{_REPO}/discussions/(?P<number>\d+)/merge", "merge"),
    ("GET", rf"{_REPO}/xet-(?P<access>read|write)-token/(?P<revision>.+)", "xet_token"),
    ("POST", rf"{_PLAIN}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", rf"/put/{_STORED}/(?P<oid>[0-9a-f]+)", "put"),
    ("POST", rf"/lfs-complete/{_STORED}", "lfs_complete"),
    ("POST", rf"/lfs-verify/{_STORED}", "lfs_verify"),
    ("GET HEAD", rf"/get/{_STORED}/(?P<oid>[0-9a-f]+)/(?P<name>.+)", "get_large"),
    (
        "GET HEAD",
        rf"{_PLAIN}/resolve/(?P<revision>refs/pr/\d+|[^/]+)/(?P<path>.+)",
        "resolve",
    ),
)
