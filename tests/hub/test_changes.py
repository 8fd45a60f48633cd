"""Changes are worked out from hashes alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlemark.errors import HubError
from candlemark.hub.changes import (
    Changes,
    LocalFile,
    RemoteFile,
    human_bytes,
    local_files,
    plan_changes,
    text_diff,
)


def as_git(content: bytes) -> RemoteFile:
    oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False)
    return RemoteFile(size=len(content), oid=oid.hexdigest())


def as_large(content: bytes) -> RemoteFile:
    return RemoteFile(size=len(content), oid="0" * 40, sha256=hashlib.sha256(content).hexdigest())


@given(
    here=st.dictionaries(st.sampled_from("abcde"), st.binary(max_size=3)),
    there=st.dictionaries(
        st.sampled_from("abcde"), st.tuples(st.binary(max_size=3), st.booleans())
    ),
)
def test_every_path_is_in_one_list_and_same_means_the_same_bytes(
    here: dict[str, bytes], there: dict[str, tuple[bytes, bool]]
) -> None:
    local = {path: LocalFile(content=content) for path, content in here.items()}
    remote = {
        path: as_large(content) if large else as_git(content)
        for path, (content, large) in there.items()
    }
    changes = plan_changes(local, remote, remove=[""])
    assert set(changes.added) == set(here) - set(there)
    assert set(changes.removed) == set(there) - set(here)
    assert set(changes.same) == {p for p in here if p in there and here[p] == there[p][0]}
    assert set(changes.changed) == {p for p in here if p in there and here[p] != there[p][0]}
    assert changes.upload_bytes == sum(len(here[p]) for p in (*changes.added, *changes.changed))
    assert bool(changes) is ({path: content for path, (content, _) in there.items()} != here)


def test_a_blob_has_the_name_that_git_gives_it(tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3_000_000))
    told = subprocess.run([git, "hash-object", str(path)], capture_output=True, check=True)
    assert LocalFile(path=path).git_oid() == told.stdout.decode().strip()


def test_a_file_of_another_size_is_not_read(tmp_path: Path) -> None:
    class Unread(LocalFile):
        def sha256(self) -> str:
            raise AssertionError("read")

        git_oid = sha256

    (tmp_path / "a").write_bytes(b"12345")
    file = Unread(path=tmp_path / "a")
    assert not file.is_same_as(as_git(b"1234"))
    assert not file.is_same_as(as_large(b"1234"))


def test_nothing_is_removed_outside_the_places_named() -> None:
    remote = {
        path: as_git(b"")
        for path in ("data/old.parquet", "database.txt", "README.md", ".gitattributes", "x.json")
    }
    local = {"data/new.parquet": LocalFile(content=b"")}
    assert plan_changes(local, remote).removed == ()
    assert plan_changes(local, remote, remove=["data/"]).removed == ("data/old.parquet",)
    assert plan_changes(local, remote, remove=["x.json"]).removed == ("x.json",)
    # What the Hub itself put there stays, even where the whole repo is replaced.
    assert ".gitattributes" not in plan_changes(local, remote, remove=[""]).removed


def test_the_text_shows_every_file_with_a_sign_and_the_diff_of_the_card() -> None:
    local = {
        "README.md": LocalFile(content=b"one\nthree\n"),
        "b.bin": LocalFile(content=b"\0" * 2048),
        "same": LocalFile(content=b"same"),
    }
    remote = {"README.md": as_git(b"one\ntwo\n"), "old": as_git(b""), "same": as_git(b"same")}
    changes = plan_changes(local, remote, remove=["old"], texts={"README.md": "one\ntwo\n"})
    assert changes.text() == (
        "+ b.bin\n~ README.md\n- old\n--- a/README.md\n+++ b/README.md\n@@ -1,2 +1,2 @@\n one\n"
        "-two\n+three\n1 added, 1 changed, 1 removed, 1 unchanged; 2.0 KiB to send"
    )
    assert changes.to_dict()["diffs"] == dict(changes.diffs)


def test_nothing_to_change_says_so() -> None:
    changes = plan_changes({"a": LocalFile(content=b"a")}, {"a": as_git(b"a")})
    assert not changes
    assert changes.text() == "nothing to change: all 1 files are there as they are"
    assert not Changes()


def test_text_diff_of_equal_texts_is_empty() -> None:
    assert not text_diff("a", "x\n", "x\n")


def test_local_files_leave_out_caches_and_version_control(tmp_path: Path) -> None:
    for name in ("a.txt", "sub/b.txt", ".git/config", ".cache/x", "sub/__pycache__/c.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    found = local_files(tmp_path)
    assert sorted(found) == ["a.txt", "sub/b.txt"]
    assert found["sub/b.txt"].read() == b"sub/b.txt"
    assert sorted(local_files(tmp_path, under="data")) == ["data/a.txt", "data/sub/b.txt"]


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"there is no folder .*none to push; name the folder"):
        local_files(tmp_path / "none")
    with pytest.raises(HubError, match="holds no file to push"):
        local_files(tmp_path)


def test_a_file_is_on_disk_or_in_memory(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="either a path or its content"):
        LocalFile()
    with pytest.raises(HubError, match="either a path or its content"):
        LocalFile(path=tmp_path, content=b"")
    with pytest.raises(HubError, match="has no path"):
        LocalFile(content=b"").path_of()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text
