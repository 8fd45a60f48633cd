"""What the double can be asked about repos: facts, listings, commits, pull requests."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import double_repos as repos
from double_answers import USER
from double_files import Files
from double_models import listed
from double_repos import KINDS, Refused, Repo


class Routes(Files):
    """One method a route; the table stands below."""

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

        text = self.load()["content"]
        if not text.startswith("---\n"):
            return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]}
        try:
            yaml.safe_load(text[4:].partition("\n---")[0])
        except yaml.YAMLError as error:
            answer = {"errors": [{"message": str(error).splitlines()[0]}], "warnings": []}
            self.tell(answer, status=400)
            return None
        return {"errors": [], "warnings": []}

    def create(self) -> Any:
        asked = self.load()
        plural = asked.get("type", "model") + "s"
        repo_id = f"{self.writer(asked.get('organization'))}/{asked['name']}"
        url = f"{self.double.url}/{KINDS[plural]}{repo_id}"
        if (plural, repo_id) in self.double.repos:
            message = "You already created this repo"
            self.tell({"error": message, "url": url}, status=409)
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
        asked = self.load()
        plural = asked.get("type", "model") + "s"
        repo_id = f"{self.writer(asked.get('organization'))}/{asked['name']}"
        found = self.find(plural, repo_id)
        # A repo of this name may come again; what was there stays on disk beside it.
        found.folder.rename(found.folder.with_name(f".deleted-{time.monotonic_ns()}"))
        del self.double.repos[plural, repo_id]
        return {}

    def settings(self, kind: str, repo_id: str) -> Any:
        found = self.find(kind, repo_id)
        self.writer(repo_id.partition("/")[0])
        if "visibility" in (asked := self.load()):
            found.private = asked["visibility"] == "private"
        return {"private": found.private}

    def listing(self, kind: str) -> Any:
        role = self.role
        if kind == "models" and self.double.models:
            page, headers = listed(self.double, self.path)
            if self.headers.get("If-None-Match") == headers["ETag"]:
                self.send(b"", status=304, headers={"ETag": headers["ETag"]})
                return None
            self.tell(page, headers=headers)
            return None
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

    def info(self, kind: str, repo_id: str, revision: str = "main") -> Any:
        found = self.find(kind, repo_id)
        blobs = self.query.get("blobs", "").lower() in {"1", "true"}
        return repos.repo_facts(found, found.resolve(revision), blobs=blobs)

    def tree(self, kind: str, repo_id: str, revision: str, path: str | None) -> Any:
        recursive = self.query.get("recursive", "").lower() in {"1", "true"}
        commit = self.find(kind, repo_id).resolve(revision)
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
        self.tell(page, headers=headers)

    def paths_info(self, kind: str, repo_id: str, revision: str) -> Any:
        files = self.find(kind, repo_id).resolve(revision).files
        if "json" in self.headers.get("Content-Type", ""):
            wanted = self.load()["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        listed = [repos.file_facts(path, files[path]) for path in wanted if path in files]
        folders = {"/".join(p.split("/")[:n]) for p in files for n in range(1, p.count("/") + 1)}
        return listed + [
            {"type": "directory", "oid": repos.git_oid(p.encode()), "size": 0, "path": p}
            for p in wanted
            if p in folders
        ]

    def refs(self, kind: str, repo_id: str) -> Any:
        found: dict[str, list[dict[str, str]]] = {
            "branches": [], "tags": [], "converts": [], "pullRequests": []
        }  # fmt: skip
        names = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}
        for ref, oid in self.find(kind, repo_id).refs.items():
            _, group, name = ref.split("/", 2)
            found[names[group]].append({"name": name, "ref": ref, "targetCommit": oid})
        return found

    def history(self, kind: str, repo_id: str, revision: str) -> Any:
        return [
            {
                "id": made.oid,
                "title": made.title,
                "message": made.description,
                "authors": [{"user": USER}],
                "date": repos.DATE,
            }
            for made in self.find(kind, repo_id).history(revision)
        ]

    def branch(self, kind: str, repo_id: str, name: str) -> Any:
        found = self.find(kind, repo_id)
        self.writer(repo_id.partition("/")[0])
        found.refs[f"refs/heads/{name}"] = found.resolve(
            self.load().get("startingPoint", "main")
        ).oid
        return {}

    def preupload(self, kind: str, repo_id: str, revision: str) -> Any:
        found = self.find(kind, repo_id)
        self.may_write(repo_id)
        there = found.resolve(revision).files
        answers = []
        for asked in self.load()["files"]:
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

    def may_write(self, repo_id: str) -> None:
        """Whoever may read may open a pull request."""
        if self.query.get("create_pr") == "1":
            if self.role is None:
                raise Refused(401, "Invalid username or password.")
            return
        self.writer(repo_id.partition("/")[0])

    def commit(self, kind: str, repo_id: str, revision: str) -> Any:
        found = self.find(kind, repo_id)
        self.may_write(repo_id)
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header = lines[0]["value"]
        url = f"{self.double.url}/{KINDS[kind]}{repo_id}"
        answer = {"success": True}
        if self.query.get("create_pr") == "1":
            base = found.resolve(header.pop("parentCommit", None) or revision).oid
            opened = found.open_pull_request(header["summary"], USER, base)
            ref = f"refs/pr/{opened['num']}"
            answer["pullRequestUrl"] = f"{url}/discussions/{opened['num']}"
        else:
            ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
            if ref not in found.refs:
                raise Refused(404, f"Invalid rev repo_id: {revision}", "RevisionNotFound")
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

    def discuss(self, kind: str, repo_id: str) -> Any:
        found = self.find(kind, repo_id)
        if self.role is None:
            raise Refused(401, "Invalid username or password.")
        asked = self.load()
        return found.open_pull_request(asked["title"], USER, found.resolve("main").oid)

    def discussions(self, kind: str, repo_id: str) -> Any:
        listed = [
            _discussion(kind, repo_id, item) for item in self.find(kind, repo_id).pull_requests
        ]
        return {"discussions": listed, "count": len(listed), "start": 0}

    def discussion(self, kind: str, repo_id: str, number: str) -> Any:
        opened = self._pull_request(kind, repo_id, number)
        return _discussion(kind, repo_id, opened) | {
            "changes": {"base": "refs/heads/main"},
            "filesWithConflicts": [],
            "events": [],
            "diff": "",
        }

    def _pull_request(self, kind: str, repo_id: str, number: str) -> dict[str, Any]:
        opened = self.find(kind, repo_id).pull_requests
        if not 0 < int(number) <= len(opened):
            raise Refused(404, "no such discussion")
        return opened[int(number) - 1]

    def merge(self, kind: str, repo_id: str, number: str) -> Any:
        found = self.find(kind, repo_id)
        self.writer(repo_id.partition("/")[0])
        opened = self._pull_request(kind, repo_id, number)
        found.refs["refs/heads/main"] = found.refs[f"refs/pr/{number}"]
        opened["status"] = "merged"
        return {}

    def xet_token(self, kind: str, repo_id: str, access: str, revision: str) -> Any:
        self.find(kind, repo_id)
        if self.double.xet is None:
            raise Refused(404, "This Hub has no Xet storage")
        if access == "write":
            self.may_write(repo_id)
        headers = self.double.xet.token()
        answer = {
            "casUrl": headers["X-Xet-Cas-Url"],
            "accessToken": headers["X-Xet-Access-Token"],
            "exp": int(headers["X-Xet-Token-Expiration"]),
        }
        self.tell(answer, headers=headers)


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
_REPO = rf"{_API}/(?P<repo_id>[^/]+/[^/]+)"
_PLAIN = r"/(?P<prefix>datasets/|spaces/)?(?P<repo_id>[^/]+/[^/]+)"
_STORED = r"(?P<kind>\w+)/(?P<repo_id>[^/]+/[^/]+)"
Routes.routes = (
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
