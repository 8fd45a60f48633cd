"""The double against the clients that it stands for: huggingface_hub itself, and its users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# huggingface_hub sends streams in a way that its own HTTP library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

LARGE = bytes(range(256)) * 40


@pytest.fixture
def api(hub_double: Any, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    """The real client, with plain LFS as on a machine without hf_xet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return HfApi(endpoint=hub_double.url, token=hub_double.token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "data").mkdir(parents=True)
    (made / "README.md").write_text("---\ntags: [candles]\n---\n# Made\n", encoding="utf-8")
    (made / "data" / "a b.txt").write_text("small", encoding="utf-8")
    (made / "empty.txt").write_text("", encoding="utf-8")
    (made / "model.safetensors").write_bytes(LARGE)
    return made


def test_a_folder_goes_up_in_one_commit_and_comes_back_byte_for_byte(
    hub_double: Any, api: HfApi, folder: Path, tmp_path: Path
) -> None:
    api.create_repo("tester/made", private=True)
    api.upload_folder(repo_id="tester/made", folder_path=folder, commit_message="all of it")
    assert hub_double.commits("tester/made") == ["all of it"]
    assert hub_double.put_bytes == len(LARGE)
    back = Path(
        snapshot_download(
            "tester/made", endpoint=hub_double.url, token=hub_double.token, cache_dir=tmp_path / "c"
        )
    )
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert (back / path.relative_to(folder)).read_bytes() == path.read_bytes()
    # Large files come from another address, which must not see the token.
    assert hub_double.asked("GET", "^/get/")
    assert not [
        request for request in hub_double.requests if request.storage and request.with_token
    ]


def test_facts_listings_and_trees_are_those_that_the_client_reads(
    hub_double: Any, api: HfApi, folder: Path
) -> None:
    hub_double.page = 2
    api.create_repo("tester/made", repo_type="dataset")
    api.upload_folder(repo_id="tester/made", folder_path=folder, repo_type="dataset")
    info = api.dataset_info("tester/made", files_metadata=True)
    assert info.tags == ["candles"]
    assert not info.private
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    assert sizes["model.safetensors"] == len(LARGE)
    tree = {item.path: item for item in api.list_repo_tree(
        "tester/made", recursive=True, repo_type="dataset")}  # fmt: skip
    assert tree["model.safetensors"].lfs.sha256  # type: ignore[union-attr]
    assert "data" in tree
    assert "data/a b.txt" in tree
    found = api.get_paths_info("tester/made", ["data/a b.txt", "none"], repo_type="dataset")
    assert [item.path for item in found] == ["data/a b.txt"]
    assert [found.id for found in api.list_datasets(search="mad", token=api.token)] == [
        "tester/made"
    ]
    assert list(api.list_models()) == []
    refs = api.list_repo_refs("tester/made", repo_type="dataset")
    assert refs.branches[0].target_commit == info.sha
    assert api.whoami()["name"] == "tester"
    assert [commit.title for commit in api.list_repo_commits("tester/made", repo_type="dataset")][
        -1
    ] == "initial commit"


def test_a_pull_request_leaves_main_alone_until_it_is_merged(hub_double: Any, api: HfApi) -> None:
    api.create_repo("tester/made")
    made = api.create_commit(
        "tester/made",
        [CommitOperationAdd("new.txt", b"new")],
        commit_message="propose",
        create_pr=True,
    )
    assert made.pr_num == 1
    assert hub_double.files("tester/made") == {}
    assert hub_double.files("tester/made", revision="refs/pr/1") == {"new.txt": b"new"}
    assert hf_hub_download(
        "tester/made", "new.txt", revision="refs/pr/1", endpoint=hub_double.url, token=api.token
    )
    assert api.get_discussion_details("tester/made", 1).is_pull_request
    api.merge_pull_request("tester/made", 1)
    assert hub_double.files("tester/made") == {"new.txt": b"new"}


def test_what_is_private_is_missing_to_a_stranger(hub_double: Any, api: HfApi) -> None:
    api.create_repo("tester/made", private=True)
    stranger = HfApi(endpoint=hub_double.url, token=False)
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info("tester/made")
    assert api.model_info("tester/made").private
    api.update_repo_settings("tester/made", private=False)
    assert stranger.model_info("tester/made").id == "tester/made"
    api.delete_repo("tester/made")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tester/made")
    api.create_repo("tester/made")


def test_what_is_not_there_has_its_own_error(hub_double: Any, api: HfApi) -> None:
    api.create_repo("tester/made")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("tester/made", "no.txt", endpoint=hub_double.url, token=api.token)
    with pytest.raises(RevisionNotFoundError):
        api.model_info("tester/made", revision="no-such-branch")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("tester/made")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("someone/else")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub_double.url, token="hf_wrong").whoami()
    reader = HfApi(endpoint=hub_double.url, token=list(hub_double.tokens)[1])
    with pytest.raises(HfHubHTTPError, match="403"):
        reader.create_repo("tester/other")
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(
            path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="tester/made"
        )


def test_a_commit_on_another_parent_is_refused(hub_double: Any, api: HfApi) -> None:
    api.create_repo("tester/made")
    first = api.model_info("tester/made").sha
    api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="tester/made")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(
            "tester/made",
            [CommitOperationAdd("b.txt", b"b")],
            commit_message="late",
            parent_commit=first,
        )


def test_large_files_go_up_in_parts_where_the_hub_asks_for_them(
    hub_double: Any, api: HfApi
) -> None:
    hub_double.part_bytes = 4096
    api.create_repo("tester/made")
    api.upload_file(path_or_fileobj=LARGE, path_in_repo="a.bin", repo_id="tester/made")
    assert hub_double.files("tester/made") == {"a.bin": LARGE}
    assert len(hub_double.asked("PUT", r"part=\d")) == 3


def test_faults_come_as_often_as_they_were_ordered(hub_double: Any, api: HfApi) -> None:
    api.create_repo("tester/made")
    hub_double.fail(503, on="/api/models/tester/made$", times=1, skip=1)
    api.model_info("tester/made")
    with pytest.raises(HfHubHTTPError, match="503"):
        api.model_info("tester/made")
    api.model_info("tester/made")


def test_xet_storage_is_spoken_by_the_real_hf_xet(
    hub_double: Any, folder: Path, tmp_path: Path
) -> None:
    store = hub_double.with_xet()
    api = HfApi(endpoint=hub_double.url, token=hub_double.token)
    content = os.urandom(1_000_000)
    (folder / "model.safetensors").write_bytes(content)
    api.create_repo("tester/made")
    api.upload_folder(repo_id="tester/made", folder_path=folder)
    assert hub_double.files("tester/made")["model.safetensors"] == content
    assert not hub_double.asked("PUT", "")
    assert store.stored_bytes >= len(content)
    back = hf_hub_download(
        "tester/made",
        "model.safetensors",
        endpoint=hub_double.url,
        token=hub_double.token,
        cache_dir=tmp_path / "cache",
    )
    assert Path(back).read_bytes() == content
    assert not hub_double.asked("GET", "^/get/")
