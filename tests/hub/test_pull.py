"""A pull is whole or not at all, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from candlemark.errors import HubError
from candlemark.hub import pull as pulling
from candlemark.hub.changes import LocalFile
from candlemark.hub.client import Hub
from candlemark.hub.faults import Errand, Stopped, persist
from candlemark.hub.pull import pull

LARGE = os.urandom(300_000)
FILES = {
    "README.md": b"# Made\n",
    "data/a b.txt": b"small",
    "data/copy.bin": LARGE,
    "data/large.bin": LARGE,
    "empty.txt": b"",
}


@pytest.fixture
def pushed(hub_double: Any) -> Any:
    hub = Hub()
    hub.ensure_repo("tester/made", "dataset")
    push(FILES)
    hub_double.requests.clear()
    return hub_double


def push(files: dict[str, bytes]) -> None:
    local = {path: LocalFile(content=content) for path, content in files.items()}
    Hub().upload("tester/made", "dataset", local, message="push", remove=[""])


def on_disk(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def beside(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir()} - {"hub_double", "hf_home"}


def test_what_was_pushed_comes_back_byte_for_byte(pushed: Any, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "made"
    done = pull("tester/made", "dataset", out)
    assert on_disk(out) == FILES
    assert beside(out) == {"made"}
    assert done.commit == Hub().head("tester/made", "dataset")
    assert (done.files, done.size_bytes) == (5, 2 * len(LARGE) + 12)
    # The same bytes under two names came once.
    assert len(pushed.asked("GET", "^/get/")) == 1
    assert not [request for request in pushed.requests if request.storage and request.with_token]


def test_a_second_pull_brings_nothing(pushed: Any, tmp_path: Path) -> None:
    pull("tester/made", "dataset", tmp_path / "made")
    pushed.requests.clear()
    again = pull("tester/made", "dataset", tmp_path / "made")
    assert again.fetched_bytes == 0
    assert not pushed.asked("GET", "/resolve/")


def test_an_older_revision_can_be_pulled(pushed: Any, tmp_path: Path) -> None:
    first = Hub().head("tester/made", "dataset")
    push({"new.txt": b"new"})
    pull("tester/made", "dataset", tmp_path / "new")
    pull("tester/made", "dataset", tmp_path / "old", revision=first)
    assert on_disk(tmp_path / "new") == {"new.txt": b"new"}
    assert on_disk(tmp_path / "old") == FILES


def test_a_folder_that_holds_something_else_is_refused_untouched(
    pushed: Any, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(HubError, match=r"holds other files than the repo.*--out .*made-2"):
        pull("tester/made", "dataset", out)
    assert on_disk(out) == {"mine.txt": b"mine"}
    assert beside(out) == {"made"}


def test_an_empty_folder_is_filled(pushed: Any, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    pull("tester/made", "dataset", tmp_path / "made")
    assert on_disk(tmp_path / "made") == FILES


def test_a_cut_download_goes_on_where_it_stopped(pushed: Any, tmp_path: Path) -> None:
    pushed.cut(method="GET", on="^/get/", after=200_000)
    pull("tester/made", "dataset", tmp_path / "made")
    assert on_disk(tmp_path / "made") == FILES
    # After the redirect the range stands in the request that follows it.
    assert len(pushed.asked("GET", "^/get/")) == 2
    assert pushed.waits == [1.0]


def test_a_pull_that_failed_leaves_nothing_at_its_place_and_goes_on_when_repeated(
    pushed: Any, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    pushed.cut(method="GET", on="^/get/", after=100_000, times=1)
    pushed.fail(503, method="GET", on="^/get/", times=None)
    with pytest.raises(HubError, match=r"answered 503.*8 times; run the same command again"):
        pull("tester/made", "dataset", out)
    assert not out.exists()
    assert beside(out) == {".made.pull"}
    pushed.faults.clear()
    pushed.requests.clear()
    done = pull("tester/made", "dataset", out)
    assert done.fetched_bytes == len(LARGE) - 100_000
    assert on_disk(out) == FILES
    assert beside(out) == {"made"}
    # The small files were kept and not asked for again.
    assert {request.path.rpartition("/")[2] for request in pushed.asked("GET", "/resolve/")} == {
        "copy.bin"
    }


def test_a_server_without_ranges_begins_again(pushed: Any, tmp_path: Path) -> None:
    pushed.ranges = False
    pushed.cut(method="GET", on="^/get/", after=200_000)
    pull("tester/made", "dataset", tmp_path / "made")
    assert on_disk(tmp_path / "made") == FILES
    assert len(pushed.asked("GET", "^/get/")) == 2  # at once, not when its hash was wrong


@pytest.mark.parametrize("length", [100_000, len(LARGE), len(LARGE) + 1])
def test_a_part_that_holds_something_else_is_replaced(
    pushed: Any, tmp_path: Path, length: int
) -> None:
    parts = tmp_path / ".made.pull" / "parts"
    parts.mkdir(parents=True)
    (parts / LocalFile(content=LARGE).sha256()).write_bytes(bytes(length))
    pull("tester/made", "dataset", tmp_path / "made")
    assert on_disk(tmp_path / "made") == FILES


def test_a_flipped_byte_is_found_and_the_file_brought_again(pushed: Any, tmp_path: Path) -> None:
    pushed.flip(on="^/get/", at=1234)
    pushed.flip(on="README", at=3)
    pull("tester/made", "dataset", tmp_path / "made")
    assert on_disk(tmp_path / "made") == FILES


def test_bytes_that_stay_wrong_are_never_shown(pushed: Any, tmp_path: Path) -> None:
    pushed.flip(on="^/get/", at=1234, times=None)
    with pytest.raises(HubError, match=r"copy.bin of the dataset tester/made came twice with ot"):
        pull("tester/made", "dataset", tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert LARGE[:100] not in b"".join(on_disk(tmp_path / ".made.pull").values())


def test_what_an_earlier_pull_left_of_another_revision_is_forgotten(
    pushed: Any, tmp_path: Path
) -> None:
    pushed.fail(404, method="GET", on="^/get/", times=None)
    with pytest.raises(HubError):
        pull("tester/made", "dataset", tmp_path / "made")
    pushed.faults.clear()
    push({"README.md": b"# Made again\n", "empty.txt": b""})
    pull("tester/made", "dataset", tmp_path / "made")
    assert on_disk(tmp_path / "made") == {"README.md": b"# Made again\n", "empty.txt": b""}


@pytest.mark.parametrize("path", ["../out.txt", "/etc/out", "a/../../out", "c:\\out", "..\\out"])
def test_a_repo_cannot_write_outside_its_folder(pushed: Any, tmp_path: Path, path: str) -> None:
    repo = pushed.repo("tester/made", "datasets")
    commit = repo.resolve("main")
    commit.files[path] = repo.keep(b"evil")
    with pytest.raises(HubError, match="leads out of its folder, so nothing was brought"):
        pull("tester/made", "dataset", tmp_path / "made")
    assert beside(tmp_path / "made") == set()


def test_two_pulls_to_one_place_do_not_mix(pushed: Any, tmp_path: Path) -> None:
    (tmp_path / ".made.pull").mkdir()
    with (
        FileLock(tmp_path / ".made.pull" / "lock"),
        pytest.raises(HubError, match=r"another pull to .*made is running; wait for it, or name"),
    ):
        pull("tester/made", "dataset", tmp_path / "made")


def test_a_disk_without_room_is_named_before_anything_comes(
    pushed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(HubError, match=r"293.0 KiB are to come and 1000 bytes are free"):
        pull("tester/made", "dataset", tmp_path / "made")
    assert not pushed.asked("GET", "/resolve/")


def test_a_disk_that_fills_up_keeps_what_came(
    pushed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pulling, "to_disk", full)
    with pytest.raises(HubError, match=r"the disk is full while pulling to .*; free some space"):
        pull("tester/made", "dataset", tmp_path / "made")
    monkeypatch.undo()


def test_what_is_not_there_is_named(pushed: Any, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="there is no model tester/none at http"):
        pull("tester/none", "model", tmp_path / "made")
    with pytest.raises(HubError, match=r"404.*; name a branch, tag or commit that is there"):
        pull("tester/made", "dataset", tmp_path / "made", revision="none")
    assert beside(tmp_path / "made") == set()


def test_ctrl_c_ends_a_pull_within_a_large_file(
    pushed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(10_000_000)
    push({"large.safetensors": content})

    def advance(*_: object, **__: object) -> None:
        """A slow line; whoever waits presses Ctrl-C at its first bytes."""
        if not pressed:
            pressed.append(True)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.05)

    pressed: list[bool] = []
    monkeypatch.setattr("candlemark.progress.Bar.advance", advance)
    with pytest.raises(KeyboardInterrupt):
        pull("tester/made", "dataset", tmp_path / "made")
    monkeypatch.undo()
    place = tmp_path / ".made.pull"
    assert not (place / "files" / "large.safetensors").exists()
    (part,) = (place / "parts").iterdir()
    assert 0 < part.stat().st_size < len(content)


def test_a_pull_that_is_stopped_waits_for_nothing() -> None:
    stop = threading.Event()
    stop.set()

    def fail() -> None:
        raise httpx_error()

    with pytest.raises(Stopped):
        persist(fail, Errand(doing="do", endpoint="https://h", stop=stop))


def httpx_error() -> Exception:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    error: Exception = HTTPError("cut")
    return error


@pytest.mark.parametrize("out", ["made/../made", "link"])
def test_a_place_by_another_road_is_filled(pushed: Any, tmp_path: Path, out: str) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "link").symlink_to("made")
    pull("tester/made", "dataset", tmp_path / out)
    assert on_disk(tmp_path / "made") == FILES
    assert beside(tmp_path / "made") == {"made", "link"}


def test_the_folder_one_stands_in_is_not_renamed(
    pushed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(HubError, match="the folder that you are in"):
        pull("tester/made", "dataset", Path())
    assert not pushed.requests


def test_links_in_a_loop_are_named(pushed: Any, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HubError, match=r"cannot pull to .*; name another folder with --out"):
        pull("tester/made", "dataset", tmp_path / "loop")
