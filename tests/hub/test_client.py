"""The client against the double, with hf_xet installed and with it switched off."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from candlemark import progress
from candlemark.errors import HubError
from candlemark.hub.changes import LocalFile, local_files
from candlemark.hub.client import Hub, check_kind

LARGE = os.urandom(100_000)


@pytest.fixture(params=["Hub with Xet", "Hub without Xet", "hf_xet switched off"])
def hub(request: pytest.FixtureRequest, hub_double: Any, monkeypatch: pytest.MonkeyPatch) -> Hub:
    if request.param == "Hub with Xet":
        hub_double.with_xet()
    if request.param == "hf_xet switched off":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return Hub()


def sent_bytes(hub_double: Any) -> int:
    """Bytes of large files that arrived, to a thousand: Xet adds a few to its pieces."""
    stored = hub_double.xet.stored_bytes if hub_double.xet else 0
    return int(round(hub_double.put_bytes + stored, -3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "data").mkdir(parents=True)
    (made / "README.md").write_text("---\ntags: [candles]\n---\n# Made\n", encoding="utf-8")
    (made / "data" / "a b.txt").write_text("small", encoding="utf-8")
    (made / "empty.txt").write_text("", encoding="utf-8")
    (made / "data" / "one.parquet").write_bytes(LARGE)
    (made / "data" / "two.parquet").write_bytes(LARGE[::-1])
    return made


def on_disk(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_goes_up_in_one_commit_and_a_second_push_changes_nothing(
    hub: Hub, hub_double: Any, folder: Path
) -> None:
    assert hub.ensure_repo("tester/made", "dataset", private=True)
    first = hub.upload("tester/made", "dataset", local_files(folder), message="all of it")
    assert hub_double.files("tester/made", "datasets") == on_disk(folder)
    assert hub_double.repo("tester/made", "datasets").private
    assert first.commit == hub.head("tester/made", "dataset")
    assert first.url == f"{hub_double.url}/datasets/tester/made"
    assert len(first.changes.added) == 5

    asked = len(hub_double.requests)
    assert not hub.ensure_repo("tester/made", "dataset", private=True)
    second = hub.upload("tester/made", "dataset", local_files(folder), message="again")
    assert second.commit is None
    assert not second.changes
    assert hub_double.commits("tester/made", "datasets") == ["all of it"]
    assert sent_bytes(hub_double) == 2 * len(LARGE)
    assert {request.method for request in hub_double.requests[asked:]} == {"GET"}


def test_only_what_differs_is_sent_and_only_named_places_lose_files(
    hub: Hub, hub_double: Any, folder: Path
) -> None:
    hub.ensure_repo("tester/made", "dataset")
    hub.upload("tester/made", "dataset", local_files(folder), message="first")
    (folder / "data" / "two.parquet").rename(folder / "data" / "three.parquet")
    (folder / "README.md").write_text("---\ntags: [candles]\n---\n# Made again\n", encoding="utf-8")
    (folder / "empty.txt").unlink()
    done = hub.upload(
        "tester/made", "dataset", local_files(folder), message="second", remove=["data/"]
    )
    assert done.changes.added == ("data/three.parquet",)
    assert done.changes.changed == ("README.md",)
    assert done.changes.removed == ("data/two.parquet",)
    assert "+# Made again" in done.changes.text()
    assert hub_double.files("tester/made", "datasets") == {**on_disk(folder), "empty.txt": b""}
    # Renamed, so its bytes were there.
    assert sent_bytes(hub_double) == 2 * len(LARGE)


def test_bytes_in_memory_go_up_like_files(hub: Hub, hub_double: Any) -> None:
    hub.ensure_repo("tester/made", "model")
    files = {"a.bin": LocalFile(content=LARGE), "b.txt": LocalFile(content=b"b")}
    hub.upload("tester/made", "model", files, message="both")
    assert hub_double.files("tester/made") == {"a.bin": LARGE, "b.txt": b"b"}


def test_large_files_go_up_in_parts(hub: Hub, hub_double: Any) -> None:
    hub_double.part_bytes = 30_000
    hub.ensure_repo("tester/made", "space")
    hub.upload("tester/made", "space", {"a.bin": LocalFile(content=LARGE)}, message="a")
    assert hub_double.files("tester/made", "spaces") == {"a.bin": LARGE}
    assert len(hub_double.asked("PUT", "part=")) == (0 if hub_double.xet else 4)


def test_a_dry_run_asks_and_changes_nothing(hub: Hub, hub_double: Any, folder: Path) -> None:
    changes = hub.plan("tester/none", "model", local_files(folder))
    assert len(changes.added) == 5
    assert {request.method for request in hub_double.requests} == {"GET"}
    assert not hub_double.repos


def test_a_pull_request_leaves_main_alone(hub: Hub, hub_double: Any, folder: Path) -> None:
    hub.ensure_repo("tester/made", "model")
    done = hub.upload(
        "tester/made", "model", local_files(folder), message="propose", create_pr=True
    )
    assert done.pull_request == f"{hub_double.url}/tester/made/discussions/1"
    assert hub_double.files("tester/made") == {}
    assert hub_double.files("tester/made", revision="refs/pr/1") == on_disk(folder)


def test_whoever_may_only_read_can_propose(hub: Hub, hub_double: Any) -> None:
    hub.ensure_repo("tester/made", "model")
    reader = Hub(token=list(hub_double.tokens)[1])
    files = {"a.bin": LocalFile(content=LARGE)}
    with pytest.raises(HubError, match=r"answered 403.*--create-pr"):
        reader.upload("tester/made", "model", files, message="push")
    assert reader.upload("tester/made", "model", files, message="propose", create_pr=True)
    assert hub_double.files("tester/made", revision="refs/pr/1") == {"a.bin": LARGE}


def test_a_bare_name_is_one_of_the_users_own(hub: Hub) -> None:
    assert hub.full_id("made") == "tester/made"
    assert hub.full_id("team/made") == "team/made"
    assert hub.user() == "tester"


def test_read_gives_the_bytes_or_none(hub: Hub, folder: Path) -> None:
    hub.ensure_repo("tester/made", "dataset")
    hub.upload("tester/made", "dataset", local_files(folder), message="m")
    assert hub.read("tester/made", "dataset", "data/a b.txt") == b"small"
    assert hub.read("tester/made", "dataset", "data/one.parquet") == LARGE
    assert hub.read("tester/made", "dataset", "none.txt") is None


def test_a_public_repo_is_not_pushed_to_as_a_private_one(hub_double: Any) -> None:
    hub = Hub()
    hub.ensure_repo("tester/made", "model")
    with pytest.raises(HubError, match="is there and public, but --private was asked for; make"):
        hub.ensure_repo("tester/made", "model", private=True)


def test_the_token_is_not_shown_and_not_pickled(hub_double: Any) -> None:
    hub = Hub(token=hub_double.token)
    assert hub.has_token
    assert hub_double.token not in repr(hub)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(hub)


@pytest.mark.parametrize(
    "endpoint", ["huggingface.co", "ftp://h", "https://user:word@h", "http://"]
)
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    with pytest.raises(HubError, match="no address of a Hub; write https://HOST"):
        Hub(endpoint=endpoint)


@pytest.mark.parametrize("name", ["a/b/c", "a b", "a--b", "x/.", ""])
def test_a_name_is_checked_before_anything_is_asked(name: str, hub_double: Any) -> None:
    with pytest.raises(HubError, match="is no name of a repo"):
        Hub().full_id(name)
    assert not hub_double.requests


def test_a_kind_is_one_of_three() -> None:
    assert check_kind("space") == "space"
    with pytest.raises(HubError, match="kind 'bucket' is not known; choose one of model, dataset"):
        check_kind("bucket")


def test_a_token_that_would_go_in_clear_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, hub_double: Any
) -> None:
    told: list[progress.Event] = []

    class Reporter:
        def handle(self, event: progress.Event) -> None:
            told.append(event)

    before = progress.set_reporter(Reporter())
    try:
        for endpoint in ("http://hub.example", "https://hub.example", hub_double.url):
            hub = Hub(endpoint=endpoint)
            assert hub.has_token
            assert hub.has_token
    finally:
        progress.set_reporter(before)
    assert [event.text for event in told] == [
        "the token goes to http://hub.example unencrypted; use https"
    ]


def test_a_push_for_an_older_head_is_refused(hub_double: Any) -> None:
    hub = Hub()
    hub.ensure_repo("tester/made", "model")
    head = hub.head("tester/made", "model")
    hub.upload("tester/made", "model", {"a": LocalFile(content=b"a")}, message="first")
    with pytest.raises(HubError, match="someone else changed the model tester/made during this"):
        hub.upload(
            "tester/made", "model", {"b": LocalFile(content=b"b")}, message="second", head=head
        )
    assert hub_double.files("tester/made") == {"a": b"a"}


def test_many_files_of_the_same_bytes_go_up_once(hub_double: Any, tmp_path: Path) -> None:
    """The library would read one stream in several threads at once."""
    files = {f"{number}.bin": LocalFile(content=LARGE) for number in range(5)}
    (tmp_path / "other.bin").write_bytes(LARGE[::-1])
    files["other.bin"] = LocalFile(path=tmp_path / "other.bin")
    hub = Hub()
    hub.ensure_repo("tester/made", "model")
    hub.upload("tester/made", "model", files, message="m")
    assert set(hub_double.files("tester/made")) == set(files)
    assert hub_double.put_bytes == 2 * len(LARGE)
    assert len(hub_double.asked("POST", "/preupload/")) == 2


def test_with_xet_only_the_pieces_that_are_new_are_sent(hub_double: Any, tmp_path: Path) -> None:
    store = hub_double.with_xet()
    hub = Hub()
    hub.ensure_repo("tester/made", "model")
    path = tmp_path / "a.bin"
    files = {"a.bin": LocalFile(path=path)}
    path.write_bytes(os.urandom(3_000_000))
    hub.upload("tester/made", "model", files, message="first")
    before = store.stored_bytes
    with path.open("ab") as stream:
        stream.write(os.urandom(100_000))
    hub.upload("tester/made", "model", files, message="longer")
    assert hub_double.files("tester/made")["a.bin"] == path.read_bytes()
    assert store.stored_bytes - before < 400_000
    assert hub_double.put_bytes == 0


def test_progress_ends_at_what_there_was_to_send(hub: Hub, hub_double: Any, folder: Path) -> None:
    told: list[progress.Event] = []

    class Reporter:
        def handle(self, event: progress.Event) -> None:
            told.append(event)

    hub.ensure_repo("tester/made", "dataset")
    before = progress.set_reporter(Reporter())
    try:
        done = hub.upload("tester/made", "dataset", local_files(folder), message="m")
    finally:
        progress.set_reporter(before)
    steps = [event for event in told if event.kind == "advance"]
    assert sum(event.amount or 0 for event in steps) == done.changes.upload_bytes
    assert [event.amount for event in told if event.kind == "begin"] == [done.changes.upload_bytes]


def test_an_answer_that_is_no_token_for_xet_means_no_xet(hub_double: Any) -> None:
    hub = Hub()
    hub.ensure_repo("tester/made", "model")
    hub_double.fail(200, on="/xet-write-token/", message="what is that?")
    hub.upload("tester/made", "model", {"a.bin": LocalFile(content=LARGE)}, message="m")
    assert hub_double.files("tester/made") == {"a.bin": LARGE}
