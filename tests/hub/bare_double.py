"""A Hub that knows nothing but what a push and a pull cannot do without.

    with BareHub() as bare:
        hub = Hub(endpoint=bare.url, token="hf_any")

No whoami, Xet, pull requests, pages of listings, ranges, error codes or ETags; whatever else is
asked is a plain 404. It keeps files in memory and knows one branch. Names that stand in `leave_out`
are left out of the facts of a repo (id, sha, private) and of listed files (lfs).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

_PREFIXES = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
LARGE_BYTES = 10_000


class BareHub:
    """The server; `url` is its endpoint."""

    def __init__(self, *, leave_out: Collection[str] = (), commit_prefix: str = "") -> None:
        self.leave_out = frozenset(leave_out)
        self.commit_prefix = commit_prefix
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, list[str]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.strangers: list[str] = []
        """What was asked that is not known here."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
        self._server.bare = self  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def facts(self, key: str) -> dict[str, Any]:
        made = self.commits[key]
        name = hashlib.sha1("\n".join(made).encode(), usedforsecurity=False).hexdigest()
        sha = f"{self.commit_prefix}{name}" if made else None
        found = {"id": key.split("/", 1)[1], "sha": sha, "private": self.private[key]}
        return {name: value for name, value in found.items() if name not in self.leave_out}

    def listed(self, key: str) -> list[dict[str, Any]]:
        found = []
        for path, content in self.repos[key].items():
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content)}
            entry["oid"] = git_oid(content)
            if len(content) > LARGE_BYTES:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["oid"] = sha256
                if "lfs" not in self.leave_out:
                    entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
            found.append(entry)
        return found


def git_oid(content: bytes) -> str:
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent."""

    def do_GET(self) -> None:
        bare: BareHub = self.server.bare  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                answer = getattr(self, name)(bare, body, **found.groupdict())
                break
        else:
            bare.strangers.append(f"{self.command} {path}")
            answer = 404
        if isinstance(answer, int):
            self._send(b"{}", status=answer)
        else:
            self._send(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _send(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def create(self, bare: BareHub, body: bytes) -> Any:
        asked = json.loads(body)
        kind = asked.get("type", "model") + "s"
        repo_id = f"{asked['organization']}/{asked['name']}"
        key = f"{kind}/{repo_id}"
        if key in bare.repos:
            return 409
        bare.repos[key], bare.commits[key] = {}, []
        bare.private[key] = asked.get("visibility") == "private"
        return {"url": f"{bare.url}/{_PREFIXES[kind]}{repo_id}"}

    def validate_yaml(self, bare: BareHub, body: bytes) -> Any:
        return {"errors": [], "warnings": []}

    def info(self, bare: BareHub, body: bytes, key: str, revision: str | None = None) -> Any:
        return bare.facts(key) if key in bare.repos else 404

    def tree(self, bare: BareHub, body: bytes, key: str, revision: str) -> Any:
        return bare.listed(key) if bare.repos.get(key) else 404

    def preupload(self, bare: BareHub, body: bytes, key: str) -> Any:
        return {
            "files": [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["size"] > LARGE_BYTES else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
        }

    def batch(self, bare: BareHub, body: bytes) -> Any:
        objects = []
        for one in json.loads(body)["objects"]:
            upload = {"href": f"{bare.url}/put/{one['oid']}"}
            actions = {} if one["oid"] in bare.large else {"actions": {"upload": upload}}
            objects.append({"oid": one["oid"], "size": one["size"], **actions})
        return {"transfer": "basic", "objects": objects}

    def put(self, bare: BareHub, body: bytes, oid: str) -> Any:
        bare.large[oid] = body
        return {}

    def commit(self, bare: BareHub, body: bytes, key: str) -> Any:
        files = bare.repos[key]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                bare.commits[key].append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = bare.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        kind, repo_id = key.split("/", 1)
        sha = bare.facts(key).get("sha") or "0" * 40
        url = f"{bare.url}/{_PREFIXES[kind]}{repo_id}/commit/{sha}"
        return {"commitUrl": url, "commitOid": sha}

    def resolve(self, bare: BareHub, body: bytes, prefix: str | None, **asked: str) -> Any:
        files = bare.repos.get(f"{(prefix or 'models/')}{asked['repo_id']}", {})
        return files.get(asked["path"], 404)


_KEY = r"/api/(?P<key>(?:models|datasets|spaces)/[^/]+/[^/]+)"
ROUTES = (
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate_yaml"),
    ("GET", _KEY, "info"),
    ("GET", rf"{_KEY}/revision/(?P<revision>.+)", "info"),
    ("GET", rf"{_KEY}/tree/(?P<revision>[^/]+)", "tree"),
    ("POST", rf"{_KEY}/preupload/main", "preupload"),
    ("POST", rf"{_KEY}/commit/main", "commit"),
    ("POST", r".*\.git/info/lfs/objects/batch", "batch"),
    ("PUT", "/put/(?P<oid>.+)", "put"),
    (
        "GET",
        r"/(?P<prefix>datasets/|spaces/)?(?P<repo_id>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)",
        "resolve",
    ),
)
