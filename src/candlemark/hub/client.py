"""The one door to a Hub: repos made, listed, compared, pushed to and read from.

    hub = Hub()                                    # HF_ENDPOINT and HF_TOKEN, or `hf auth login`
    hub.ensure_repo("user/name", "dataset", private=True)
    upload = hub.upload("user/name", "dataset", local_files(folder), message="Candles of May")
    upload.commit                                  # None where nothing had changed

One push is one commit, on the head that was compared with: a push that someone else overtakes
is refused by the Hub instead of undoing theirs, and a push whose answer was lost is recognised
instead of made twice. Nothing to change makes no commit.

Large files. The `hf_xet` package comes with huggingface_hub, and the library uses it whenever it
is installed, whether or not the Hub has Xet storage. This client asks the Hub first: where it
has Xet (huggingface.co has), pieces that have arrived are never sent again; where it has not,
files go up by LFS, and files that have arrived whole are never sent again. Either way nothing
need be set; HF_HUB_DISABLE_XET=1 is obeyed.

Who asks, and with which token: `hub.connection`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args
from urllib.parse import quote

from candlemark.errors import HubError
from candlemark.hub.changes import Changes, LocalFile, RemoteFile, plan_changes
from candlemark.hub.connection import Connection
from candlemark.hub.faults import ATTEMPTS, Moved, status_of
from candlemark.hub.transfer import Reader, batches, fetch, source
from candlemark.progress import Bar, track, warning

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

Kind = Literal["model", "dataset", "space"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PREFIXES: dict[Kind, str] = {"model": "", "dataset": "datasets/", "space": "spaces/"}
MAIN = "main"
_OID = re.compile(r"[0-9a-fA-F]{5,40}")
_SHOWN = ("README.md",)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a push did. `commit` is None where nothing had changed.

    pull_request: address of the pull request, where one was asked for
    """

    url: str
    commit: str | None
    changes: Changes
    pull_request: str | None = None


class Hub(Connection):
    """A Hub and who we are there; arguments and errors as of `Connection`."""

    def url(self, repo_id: str, kind: Kind) -> str:
        """The page of a repo."""
        return f"{self.endpoint}/{_PREFIXES[kind]}{repo_id}"

    def full_id(self, repo_id: str) -> str:
        """`user/name`; a bare name is one of the user's own.

        Raises HubError: it is no name of a repo, or it is bare and there is no token.
        """
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils._validators import validate_repo_id

        try:
            validate_repo_id(repo_id)
        except HFValidationError as error:
            raise HubError(
                f"'{repo_id}' is no name of a repo: {str(error).splitlines()[0]}; "
                "write USER/NAME in letters, digits, '-', '_' and '.'"
            ) from None
        if "/" in repo_id:
            return repo_id
        user = self.user()
        if user is None:
            raise HubError(
                f"{self.endpoint} does not say whose token this is, so '{repo_id}' alone is no "
                "name of a repo; write USER/NAME"
            )
        return f"{user}/{repo_id}"

    def head(self, repo_id: str, kind: Kind, revision: str | None = None) -> str | None:
        """The commit that a revision stands for; None where there is no such repo.

        A Hub that names no commit, such as one whose repo has none yet: the revision itself.

        Raises HubError: there is no such revision, or the Hub refuses.
        """
        found = self._info(repo_id, kind, revision)
        return None if found is None else str(found.sha or revision or MAIN)

    def ensure_repo(
        self, repo_id: str, kind: Kind, *, private: bool | None = None, sdk: str = "gradio"
    ) -> bool:
        """Make the repo unless it is there; True where it was made.

        private: what a new repo is; for one that is there, True is refused where it is public,
        since the caller would believe the push is seen by nobody
        sdk: of a new space

        Raises HubError: the token may not, or a public repo is in the place of a private one.
        """
        found = self._info(repo_id, kind, None)
        if found is not None:
            if private and found.private is None:
                warning(f"{self.endpoint} does not say whether {repo_id} is private", task="hub")
            elif private and not found.private:
                raise HubError(
                    f"the {kind} {repo_id} is there and public, but --private was asked for; "
                    f"make it private at {self.url(repo_id, kind)}/settings, or leave out --private"
                )
            return False
        self._need_token()
        self._ask(
            f"make the {kind} {repo_id}",
            lambda api: _create(
                api,
                repo_id,
                repo_type=kind,
                private=private,
                space_sdk=sdk if kind == "space" else None,
            ),
        )
        return True

    def remote_files(
        self, repo_id: str, kind: Kind, revision: str | None = None
    ) -> dict[str, RemoteFile]:
        """Every file of a revision by its path; a repo without any commit has none.

        Raises HubError: no such repo or revision.
        """
        from huggingface_hub.hf_api import RepoFile

        def find(api: HfApi) -> list[Any]:
            tree = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=kind)
            try:
                return list(tree)
            except Exception as error:
                if status_of(error) == 404 and revision == MAIN:
                    return []
                raise

        entries = self._ask(
            f"list the files of the {kind} {repo_id}", find, repo=f"{kind} {repo_id}"
        )

        return {
            entry.path: RemoteFile(
                size=entry.size, oid=entry.blob_id, sha256=entry.lfs.sha256 if entry.lfs else None
            )
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    def read(
        self, repo_id: str, kind: Kind, path: str, revision: str | None = None
    ) -> bytes | None:
        """A small file of a revision, whole; None where there is none of that name."""
        address = self._address(repo_id, kind, path, revision)
        errand = f"read {path} of the {kind} {repo_id}"
        response = self._ask(errand, lambda api: self._get(api, address), repo=f"{kind} {repo_id}")
        return None if response is None else bytes(response.content)

    def download(
        self,
        repo_id: str,
        kind: Kind,
        path: str,
        target: Path,
        *,
        size: int,
        revision: str,
        bar: Bar,
        attempts: int = ATTEMPTS,
        stop: Event | None = None,
    ) -> None:
        """Bring what `target` lacks of a file; its bytes are for the caller to check.

        stop: set by another thread to end it early

        Raises HubError, Stopped; what has arrived then stays in `target`, for the next call to go
        on from.
        """
        address = self._address(repo_id, kind, path, revision)
        self._ask(
            f"download {path} of the {kind} {repo_id}",
            lambda api: fetch(
                address, target, size=size, headers=self._headers(api), bar=bar, stop=stop
            ),
            repo=f"{kind} {repo_id}",
            attempts=attempts,
            stop=stop,
        )

    def missing(self, repo_id: str, kind: Kind) -> HubError:
        """What to raise where there is no such repo."""
        told = (
            "that this token may see"
            if self.has_token
            else "that may be seen without a token (export HF_TOKEN=... for a private one)"
        )
        return HubError(
            f"there is no {kind} {repo_id} at {self.endpoint} {told}; look for its name at "
            f"{self.url(repo_id, kind).rpartition('/')[0]}"
        )

    def plan(
        self,
        repo_id: str,
        kind: Kind,
        files: Mapping[str, LocalFile],
        *,
        remove: Iterable[str] = (),
        head: str | None = None,
    ) -> Changes:
        """What an upload would do; a repo that is not there yet is empty.

        remove: folders or files of the repo in which whatever is not pushed is removed
        head: the commit to compare with; None: the newest
        """
        head = head or self.head(repo_id, kind)
        if head is None:
            return plan_changes(files, {})
        remote = self.remote_files(repo_id, kind, head)
        texts = {}
        for path in _SHOWN:
            if path in files and path in remote and not files[path].is_same_as(remote[path]):
                before = self.read(repo_id, kind, path, head)
                texts[path] = (before or b"").decode(errors="replace")
        return plan_changes(files, remote, remove=remove, texts=texts)

    def upload(
        self,
        repo_id: str,
        kind: Kind,
        files: Mapping[str, LocalFile],
        *,
        message: str,
        description: str = "",
        remove: Iterable[str] = (),
        create_pr: bool = False,
        head: str | None = None,
    ) -> Upload:
        """Make the repo's main branch hold these files, in one commit or a pull request.

        Files of the repo that are not named stay as they are, save those below `remove`.

        head: the commit that the files were made for, refused where it is no longer the newest;
            None: whatever is the newest now

        Raises HubError: the Hub refuses, or someone else changed the repo meanwhile.
        """
        head = head or self.head(repo_id, kind)
        if head is None:
            raise self.missing(repo_id, kind)
        removed = tuple(remove)
        changes = self.plan(repo_id, kind, files, remove=removed, head=head)
        url = self.url(repo_id, kind)
        if not changes:
            return Upload(url=url, commit=None, changes=changes)
        with track("uploading", total=changes.upload_bytes, unit="bytes") as bar:
            additions = self._send_large(
                repo_id, kind, files, changes, create_pr=create_pr, bar=bar
            )
        operations = [*additions, *self._deletions(changes)]
        try:
            made = self._ask(
                f"commit to the {kind} {repo_id}",
                lambda api: _commit(
                    api,
                    operations,
                    repo_id=repo_id,
                    repo_type=kind,
                    commit_message=message,
                    commit_description=description,
                    parent_commit=head if _OID.fullmatch(head) else None,
                    create_pr=create_pr,
                ),
                repo=f"{kind} {repo_id}",
                retry_lost=not create_pr,
            )
        except Moved:
            return self._after_moved(repo_id, kind, files, removed, changes)
        if made.oid == head:  # the Hub had the bytes already, under hashes of its own
            return Upload(url=url, commit=None, changes=plan_changes({}, {}))
        return Upload(url=url, commit=made.oid, changes=changes, pull_request=made.pr_url)

    def _after_moved(
        self,
        repo_id: str,
        kind: Kind,
        files: Mapping[str, LocalFile],
        remove: Sequence[str],
        changes: Changes,
    ) -> Upload:
        """The branch moved: by our own commit whose answer was lost, or by someone else's."""
        head = self.head(repo_id, kind)
        if self.plan(repo_id, kind, files, remove=remove, head=head):
            raise HubError(
                f"someone else changed the {kind} {repo_id} during this push, so nothing was "
                "changed; run the same command again"
            )
        return Upload(url=self.url(repo_id, kind), commit=head, changes=changes)

    def _send_large(
        self,
        repo_id: str,
        kind: Kind,
        files: Mapping[str, LocalFile],
        changes: Changes,
        *,
        create_pr: bool,
        bar: Bar,
    ) -> list[CommitOperationAdd]:
        """Bring the bytes of large files to the Hub; what is there already is not sent."""
        from huggingface_hub import CommitOperationAdd

        by_reader = self._needs_readers(repo_id, kind, create_pr)
        made: list[CommitOperationAdd] = []
        for paths in batches(files, (*changes.added, *changes.changed)):

            def send(api: HfApi, paths: Sequence[str] = paths) -> list[CommitOperationAdd]:
                sources = {path: source(files[path], by_reader) for path in paths}
                batch = [
                    CommitOperationAdd(path_in_repo=path, path_or_fileobj=sources[path])
                    for path in paths
                ]
                readers = [found for found in sources.values() if isinstance(found, Reader)]
                for reader in readers:  # the reading so far was for the hash
                    reader.bar = bar
                api.preupload_lfs_files(
                    repo_id,
                    batch,
                    repo_type=kind,
                    revision=MAIN,
                    create_pr=create_pr,
                    free_memory=False,
                )
                for reader in readers:
                    reader.bar = None
                told = sum(reader.told for reader in readers)
                bar.advance(sum(files[path].size for path in paths) - told, text=paths[-1])
                return batch

            made += self._ask(
                f"upload to the {kind} {repo_id}",
                send,
                repo=f"{kind} {repo_id}",
                attempts=1,  # each of its requests is tried again by the library
            )
        return made

    def _needs_readers(self, repo_id: str, kind: Kind, create_pr: bool) -> bool:
        """Whether the library would use Xet although this Hub has none.

        The library takes Xet for every file it is given by path, and LFS for one that it is given
        as a stream.
        """
        from huggingface_hub import constants

        if constants.HF_HUB_DISABLE_XET or find_spec("hf_xet") is None:
            return False
        address = f"{self.endpoint}/api/{kind}s/{repo_id}/xet-write-token/main"
        address += "?create_pr=1" if create_pr else ""
        answer = self._ask(
            f"upload to the {kind} {repo_id}",
            lambda api: self._get(api, address),
            repo=f"{kind} {repo_id}",
        )
        return answer is None or "x-xet-cas-url" not in answer.headers

    def _deletions(self, changes: Changes) -> list[Any]:
        from huggingface_hub import CommitOperationDelete

        return [CommitOperationDelete(path, is_folder=False) for path in changes.removed]

    def _info(self, repo_id: str, kind: Kind, revision: str | None) -> Any:
        """Facts of a repo; None where there is none that may be seen."""
        from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

        def find(api: HfApi) -> Any:
            try:
                return api.repo_info(repo_id, repo_type=kind, revision=revision)
            except (GatedRepoError, RevisionNotFoundError):
                raise
            except Exception as error:
                # Behind 401 a Hub hides what a stranger may not see; a valid token gets 404.
                if status_of(error) == 404 or (status_of(error) == 401 and not self.has_token):
                    return None
                raise

        return self._ask(f"look at the {kind} {repo_id}", find, repo=f"{kind} {repo_id}")

    def _address(self, repo_id: str, kind: Kind, path: str, revision: str | None) -> str:
        """Where a file of a revision is read."""
        return (
            f"{self.endpoint}/{_PREFIXES[kind]}{repo_id}/resolve/"
            f"{quote(revision or MAIN, safe='')}/{quote(path)}"
        )


def check_kind(kind: str) -> Kind:
    """The kind of a repo. Raises HubError: it is none."""
    for known in KINDS:
        if kind == known:
            return known
    raise HubError(f"kind '{kind}' is not known; choose one of {', '.join(KINDS)}")


def _create(api: HfApi, repo_id: str, **options: Any) -> None:
    """Make a repo. One that is there was made a moment ago: by a request whose answer was lost."""
    try:
        api.create_repo(repo_id, **options)
    except Exception as error:
        if status_of(error) != 409:
            raise


def _commit(api: HfApi, operations: Sequence[Any], **options: Any) -> Any:
    try:
        return api.create_commit(operations=operations, **options)
    except KeyError as error:
        if error.args != ("pullRequestUrl",):
            raise
        raise HubError(
            f"{api.endpoint} opened no pull request but changed main of {options['repo_id']}: it "
            "knows no pull requests; look at its newest commit, and leave out --create-pr"
        ) from None
    except Exception as error:
        if status_of(error) in {409, 412}:
            raise Moved from None
        raise
