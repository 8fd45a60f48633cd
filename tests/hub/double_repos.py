"""What a Hub keeps: repos with commits, branches, pull requests, and large files by SHA-256.

Contents lie on disk as they would on a server (`objects/<git oid>`, `lfs/<sha256>`), so a test
can look at what has really arrived. The rules are those that clients depend on:

- a new repo has one commit with a `.gitattributes`;
- a file is large by its name, its size or a NUL byte in its first 512 bytes;
- a commit on another parent than the head is refused (412);
- a commit that names a large file nobody has uploaded is refused (400).
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
LARGE_NAMES = ("*.parquet", "*.safetensors", "*.bin", "*.h5", "*.npz", "*.zip", "*.png", "*.pt")
ATTRIBUTES = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE_NAMES)
DATE = "2026-01-01T00:00:00.000Z"


class Refused(Exception):  # noqa: N818  # an answer, not a defect
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file in a commit; `sha256` is None for one that git keeps itself."""

    size: int
    oid: str
    sha256: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    files: dict[str, Entry]


@dataclass(kw_only=True)
class Repo:
    """One repo. `refs` maps full names (refs/heads/main, refs/pr/1) to commits."""

    kind: str
    id: str
    folder: Path
    private: bool = False
    sdk: str | None = None
    large_bytes: int = 10_000_000
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    pull_requests: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("objects", "lfs"):
            (self.folder / name).mkdir(parents=True)
        entry = self.keep(ATTRIBUTES.encode())
        self.commit("refs/heads/main", "initial commit", {".gitattributes": entry})

    def keep(self, content: bytes) -> Entry:
        """A regular file's bytes, kept."""
        oid = git_oid(content)
        (self.folder / "objects" / oid).write_bytes(content)
        return Entry(size=len(content), oid=oid)

    def large(self, sha256: str) -> Path:
        """Where a large file lies once it has arrived."""
        return self.folder / "lfs" / sha256

    def content(self, entry: Entry) -> bytes:
        where = self.folder / "objects" / entry.oid if entry.sha256 is None else None
        return (where or self.large(str(entry.sha256))).read_bytes()

    def is_large(self, path: str, size: int, sample: bytes) -> bool:
        name = path.rpartition("/")[2]
        by_name = any(fnmatch.fnmatch(name, pattern) for pattern in LARGE_NAMES)
        return bool(size) and (by_name or size > self.large_bytes or b"\0" in sample)

    def resolve(self, revision: str) -> Commit:
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in self.refs:
                return self.commits[self.refs[name]]
        found = [c for oid, c in self.commits.items() if oid.startswith(revision)]
        if len(revision) < 7 or len(found) != 1:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    def entry(self, revision: str, path: str) -> tuple[Commit, Entry]:
        commit = self.resolve(revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        return commit, commit.files[path]

    def history(self, revision: str) -> list[Commit]:
        """Newest first."""
        found: list[Commit] = []
        at: str | None = self.resolve(revision).oid
        while at is not None:
            found.append(self.commits[at])
            at = self.commits[at].parent
        return found

    def commit(
        self, ref: str, title: str, files: dict[str, Entry], description: str = ""
    ) -> Commit:
        parent = self.refs.get(ref)
        facts = {path: [entry.size, entry.etag] for path, entry in sorted(files.items())}
        key = json.dumps([len(self.commits), parent, title, facts])
        oid = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
        made = Commit(oid=oid, parent=parent, title=title, description=description, files=files)
        self.commits[oid] = made
        self.refs[ref] = oid
        return made

    def open_pull_request(self, title: str, author: str, base: str) -> dict[str, Any]:
        number = len(self.pull_requests) + 1
        self.refs[f"refs/pr/{number}"] = base
        self.pull_requests.append(
            {"num": number, "title": title, "author": author, "status": "draft"}
        )
        return self.pull_requests[-1]

    def apply(self, ref: str, lines: list[dict[str, Any]]) -> Commit:
        """A commit on the head of `ref`, from the lines that the client sends."""
        header = next(line["value"] for line in lines if line["key"] == "header")
        head = self.refs[ref]
        expected = header.get("parentCommit")
        if expected is not None and not head.startswith(expected):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(self.commits[head].files)
        for line in lines:
            self._apply_line(line["key"], line["value"], files)
        return self.commit(ref, header["summary"], files, header.get("description", ""))

    def _apply_line(self, key: str, value: dict[str, Any], files: dict[str, Entry]) -> None:
        path = value.get("path", "")
        if key == "file":
            content = base64.b64decode(value["content"])
            if self.is_large(path, len(content), content[:512]):
                raise Refused(400, f"Your push was rejected: {path} must be sent by LFS")
            files[path] = self.keep(content)
        elif key == "lfsFile":
            files[path] = self._pointer(path, value["oid"])
        elif key == "deletedFile":
            if path not in files:
                raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            del files[path]
        elif key == "deletedFolder":
            for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
                del files[name]

    def _pointer(self, path: str, sha256: str) -> Entry:
        stored = self.large(sha256)
        if not stored.is_file():
            raise Refused(400, f"LFS pointer pointed to a file that does not exist: {path}")
        size = stored.stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Entry(size=size, oid=git_oid(pointer.encode()), sha256=sha256)


def git_oid(content: bytes) -> str:
    """The name that git gives a blob."""
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def tree(commit: Commit, under: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below `under`, as the tree endpoint lists them."""
    prefix = f"{under.strip('/')}/" if under.strip("/") else ""
    listed: dict[str, dict[str, Any]] = {}
    for path, entry in sorted(commit.files.items()):
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            if recursive or depth == 1:
                oid = git_oid(folder.encode())
                listed.setdefault(
                    folder, {"type": "directory", "oid": oid, "size": 0, "path": folder}
                )
        if recursive or len(parts) == 1:
            listed[path] = file_facts(path, entry)
    if prefix and not listed:
        raise Refused(404, f"{under} does not exist", "EntryNotFound")
    return list(listed.values())


def file_facts(path: str, entry: Entry) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.sha256 is not None:
        facts["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
    return facts


def repo_facts(repo: Repo, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
    """What the Hub tells of a repo at a commit, its card's front matter included."""
    siblings: list[dict[str, Any]] = []
    for path, entry in sorted(commit.files.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if blobs:
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.sha256 is not None:
                sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
        siblings.append(sibling)
    card = front_matter(repo, commit)
    facts = {
        "_id": git_oid(repo.id.encode())[:24],
        "id": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": commit.oid,
        "lastModified": DATE,
        "createdAt": DATE,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list(card.get("tags", [])),
        "cardData": card,
        "siblings": siblings,
    }
    if repo.kind == "spaces":
        facts |= {"sdk": repo.sdk, "subdomain": repo.id.replace("/", "-")}
    return facts


def front_matter(repo: Repo, commit: Commit) -> dict[str, Any]:
    import yaml

    if "README.md" not in commit.files:
        return {}
    text = repo.content(commit.files["README.md"]).decode()
    if not text.startswith("---\n"):
        return {}
    found = yaml.safe_load(text[4:].partition("\n---")[0])
    return found if isinstance(found, dict) else {}
