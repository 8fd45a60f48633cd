"""What the double can be asked about large files and downloads."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import quote

from double_answers import Answers
from double_repos import Refused


class Files(Answers):
    """LFS up, ranges down."""

    # -- large files

    def lfs_batch(self, prefix: str | None, repo_id: str) -> Any:
        kind = (prefix or "models/").rstrip("/")
        found = self.find(kind, repo_id)
        self.role  # noqa: B018  # a wrong token is refused
        objects = []
        for asked in self.load()["objects"]:
            item: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if not found.large(asked["oid"]).is_file():
                item["actions"] = self._lfs_actions(kind, repo_id, asked["oid"], asked["size"])
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

    def put(self, kind: str, repo_id: str, oid: str) -> Any:
        if "part" in self.query:
            self.double.parts.setdefault(oid, {})[int(self.query["part"])] = self.body
            etag = hashlib.sha256(self.body).hexdigest()
            self.send(b"", headers={"ETag": f'"{etag}"'})
            return
        self._store(kind, repo_id, oid, self.body)
        self.send(b"", headers={})

    def lfs_complete(self, kind: str, repo_id: str) -> Any:
        asked = self.load()
        parts = self.double.parts.pop(asked["oid"], {})
        if [part["partNumber"] for part in asked["parts"]] != sorted(parts):
            raise Refused(400, "parts are missing")
        self._store(kind, repo_id, asked["oid"], b"".join(parts[n] for n in sorted(parts)))
        return {}

    def _store(self, kind: str, repo_id: str, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "The provided 'x-amz-content-sha256' does not match")
        self.double.repos[kind, repo_id].large(oid).write_bytes(content)

    def lfs_verify(self, kind: str, repo_id: str) -> Any:
        stored = self.find(kind, repo_id).large(self.load()["oid"])
        if not stored.is_file():
            raise Refused(404, "the object is not there")
        return {}

    # -- downloads

    def resolve(self, prefix: str | None, repo_id: str, revision: str, path: str) -> Any:
        kind = (prefix or "models/").rstrip("/")
        found = self.find(kind, repo_id)
        commit, entry = found.entry(revision, path)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{entry.etag}"'}
        if entry.sha256 is None:
            self._ranged(found.content(entry), headers)
            return
        where = (
            f"{self.double.storage_url}/get/{kind}/{repo_id}/{entry.sha256}/{quote(path, safe='')}"
        )
        headers |= {
            "X-Linked-Etag": f'"{entry.sha256}"',
            "X-Linked-Size": str(entry.size),
            "Location": where,
        }
        name = self.double.xet.hash_of(entry.sha256) if self.double.xet else None
        if name is not None:
            route = f"{self.double.url}/api/{kind}/{repo_id}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": name, "X-Xet-Refresh-Route": route}
        self.send(b"", status=302, headers=headers)

    def get_large(self, kind: str, repo_id: str, oid: str, name: str) -> Any:
        stored = self.double.repos[kind, repo_id].large(oid)
        self._ranged(stored.read_bytes(), {"ETag": f'"{oid}"'})

    def _ranged(self, content: bytes, headers: dict[str, str]) -> None:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        asked = self.headers.get("Range", "") if self.double.ranges else ""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        if match is None:
            self.send(content, headers=headers)
            return
        first, last = int(match[1]), int(match[2] or len(content) - 1)
        if first >= len(content):
            headers["Content-Range"] = f"bytes */{len(content)}"
            self.send(b"", status=416, headers=headers)
            return
        last = min(last, len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send(content[first : last + 1], status=206, headers=headers)
