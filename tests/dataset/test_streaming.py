"""Streaming builds: bounded, resumed after any kill, and never half a dataset."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark import progress
from candlemark.config import parse
from candlemark.dataset import streaming
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.dataset.storage.base import Encoded, Images
from candlemark.dataset.streaming import store_images
from candlemark.errors import DatasetError


class Memory:
    """A store in memory that says who called what."""

    files = ("memory",)
    packed = False

    def __init__(self, part_rows: int, finished: frozenset[int] = frozenset()) -> None:
        self.part_rows = part_rows
        self.finished = finished
        self.written: dict[int, bytes] = {}
        self.is_finished = False
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0
        self.writing_threads: set[int] = set()

    def finished_parts(self) -> frozenset[int]:
        return self.finished

    def encode(self, part: int, images: Images) -> Encoded:
        with self.lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        return [images.tobytes()]

    def write(self, part: int, encoded: Encoded) -> int:
        self.writing_threads.add(threading.get_ident())
        with self.lock:
            self.under_way -= 1
        assert not self.is_finished
        assert list(self.written) == sorted(self.written)
        (self.written[part],) = encoded
        return len(self.written[part])

    def finish(self) -> None:
        self.is_finished = True

    def close(self) -> None:
        pass


def draw(rows: slice, out: Images) -> None:
    out[:] = (np.arange(rows.start, rows.stop) % 251)[:, None]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    part_rows=st.integers(1, 20),
    threads=st.integers(1, 4),
    finished=st.sets(st.integers(0, 59)),
)
def test_every_missing_part_is_written_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    part_rows: int,
    threads: int,
    finished: set[int],
) -> None:
    parts = -(-count // part_rows)
    there = frozenset(part for part in finished if part < parts)
    writer = Memory(part_rows, there)
    folder = tmp_path_factory.getbasetemp()
    written = store_images(
        writer, draw, count=count, row_shape=(3,), folder=folder, threads=threads
    )
    assert set(writer.written) == set(range(parts)) - there
    for part, data in writer.written.items():
        rows = np.arange(part * part_rows, min((part + 1) * part_rows, count)) % 251
        assert data == np.repeat(rows, 3).astype(np.uint8).tobytes()
    assert written == sum(map(len, writer.written.values()))
    assert writer.is_finished
    assert writer.writing_threads <= {threading.get_ident()}
    assert writer.most_under_way <= threads + streaming.WAITING_PARTS


def test_large_parts_take_fewer_threads() -> None:
    half = streaming.MEMORY_BYTES // 2
    assert streaming._workers(half // 8, 6) == 6
    assert streaming._workers(half // 2, 6) == 2
    assert streaming._workers(half * 10, 6) == 1


def test_what_fails_in_a_thread_is_raised_and_nothing_is_finished(tmp_path: Path) -> None:
    def fail(rows: slice, out: Images) -> None:
        if rows.start >= 50:
            raise DatasetError("no ink left")

    writer = Memory(10)
    with pytest.raises(DatasetError, match="no ink left"):
        store_images(writer, fail, count=100, row_shape=(3,), folder=tmp_path, threads=2)
    assert not writer.is_finished
    assert set(writer.written) <= set(range(5))
    assert not [t for t in threading.enumerate() if t.name.startswith("candlemark-store")]


def test_a_disk_that_cannot_hold_the_rest_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = streaming.SPARE_BYTES
    free = shutil.disk_usage(tmp_path)._replace(free=spare + 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    writer = Memory(1000)
    with pytest.raises(
        DatasetError,
        match=r"99,999,000 pictures more need about 300.0 MB \(a picture takes 3 bytes\), and .* "
        r"has 16.9 MB free; free some .* --max-samples, or keep no pictures with --storage none",
    ):
        store_images(writer, draw, count=100_000_000, row_shape=(3,), folder=tmp_path, threads=1)
    assert list(writer.written) == [0]


def test_a_disk_that_may_hold_the_rest_is_given_the_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=streaming.SPARE_BYTES + 10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    assert (
        store_images(Memory(100), draw, count=5000, row_shape=(3,), folder=tmp_path, threads=2)
        == 15_000
    )


# --- killed, stopped, full ---------------------------------------------------------------------

CONFIG: dict[str, Any] = {
    "candles": {"kind": "random_walk", "count": 700, "seed": 3},
    "window": 10,
    "label": {"name": "next_candle"},
    "style": {"kind": "jkx", "moving_averages": [], "height": 32},
    "storage": {"format": "hdf5"},
}

PROGRAM = """
    import json, os, resource, signal, sys, time
    from pathlib import Path

    from candlemark import progress
    from candlemark.cli.main import main  # noqa: F401
    from candlemark.config import parse
    from candlemark.dataset.build import build_dataset
    from candlemark.dataset.config import DatasetConfig
    from candlemark.dataset.storage import hdf5, parts

    hdf5.CHUNK_BYTES, hdf5.PART_BYTES = 1000, 2000
    config, out = parse(DatasetConfig, json.loads({config!r})), Path({out!r})
    {setup}
    build_dataset(config, out)
    print("built", flush=True)
"""


def program(out: Path, setup: str = "") -> list[str]:
    """A process that runs `setup` and then builds, in some 40 parts."""
    setup = textwrap.dedent(setup)
    script = textwrap.dedent(PROGRAM).format(config=json.dumps(CONFIG), out=str(out), setup="SETUP")
    return [sys.executable, "-c", script.replace("SETUP", setup)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_dataset(parse(DatasetConfig, CONFIG), tmp_path_factory.mktemp("whole") / "data")


def check_never_half(out: Path, reference: Dataset) -> bool:
    """True if the dataset is there, and then it is whole."""
    if not out.exists():
        with pytest.raises(DatasetError, match="no dataset at"):
            open_dataset(out)
        for leftover in out.parent.glob(".data.building-*"):
            if not (leftover / "manifest.json").exists():
                with pytest.raises(DatasetError, match="never finished"):
                    open_dataset(leftover)
        return False
    rows = np.arange(len(reference))
    np.testing.assert_array_equal(open_dataset(out).images(rows), reference.images(rows))
    return True


def finish_and_check(out: Path, reference: Dataset) -> None:
    result = subprocess.run(program(out), capture_output=True, encoding="utf-8", check=False)
    assert result.stdout == "built\n", result.stderr
    assert check_never_half(out, reference)
    left = {path.name for path in out.parent.iterdir()}
    assert left - {".data.lock"} == {"data"}
    assert {path.name for path in out.iterdir()} == {
        "candles.parquet", "images.h5", "index.parquet", "manifest.json"
    }  # fmt: skip


KILLED_AT = """
    import shutil
    import numpy as np
    from candlemark.dataset.lazy import open_dataset
    from candlemark.errors import DatasetError

    def kill_at(step):
        left, write = step, os.write

        def die(event, arguments):
            nonlocal left
            ours = bool(arguments) and {out!r} in str(arguments[0]).replace("/.data", "/data")
            if event == "write" or (ours and event.split(".")[0] in ("open", "os")):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def torn(handle, data):
            half = len(data) // 2
            written = write(handle, data[:half]) if half else 0
            die("write", ())
            return written + write(handle, data[half:])

        sys.addaudithook(die)
        os.write = torn
        build_dataset(config, out)

    def check():
        try:
            opened = open_dataset(out)
        except DatasetError as error:
            assert "no dataset at" in str(error), error
        else:
            assert (opened.images(rows) == pictures).all()
        for leftover in out.parent.glob(".data.building-*"):
            try:
                open_dataset(leftover)
            except DatasetError as error:
                assert "never finished" in str(error) or "is damaged" in str(error), error
        assert (build_dataset(config, out).images(rows) == pictures).all()
        assert {{path.name for path in out.parent.iterdir()}} - {{".data.lock"}} == {{"data"}}
        names = {{"candles.parquet", "images.h5", "index.parquet", "manifest.json"}}
        assert {{path.name for path in out.iterdir()}} == names

    def apart(work, *arguments):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(*arguments)
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    reference = open_dataset({reference!r})
    rows = np.arange(len(reference))
    pictures = reference.images(rows)
    for step in {steps}:
        ended = apart(kill_at, step)
        resumable = len(list(out.parent.glob(".data.building-*/images.*")))
        print(step, ended, resumable, apart(check), flush=True)
        shutil.rmtree(out, ignore_errors=True)
    sys.exit()
"""


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(range(0, 200, 9), id="some"),
        pytest.param(range(200), id="all", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_step_it_is_resumed_and_never_half(
    tmp_path: Path, reference: Dataset, steps: range
) -> None:
    """Before each file that is opened, named or removed, and in the middle of each write."""
    out = tmp_path / "data"
    setup = textwrap.dedent(KILLED_AT).format(
        out=str(out), reference=str(reference.path), steps=repr(steps)
    )
    result = subprocess.run(program(out, setup), capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    seen = np.array([line.split() for line in result.stdout.splitlines()], dtype=int)
    assert (seen[:, 3] == 0).all(), result.stderr
    # The first steps are killed, the last lie behind the end of the build.
    assert set(seen[:, 1]) == {-signal.SIGKILL, 0}
    assert (np.diff(seen[:, 1]) >= 0).all()
    assert seen[:, 2].any()


def test_killed_at_random_moments_again_and_again(tmp_path: Path, reference: Dataset) -> None:
    out = tmp_path / "data"
    slow = """
    append = parts.PartLog.append
    def slowly(self, part, frames):
        time.sleep(0.01)
        return append(self, part, frames)
    parts.PartLog.append = slowly
    print("ready", flush=True)
    """
    chance = np.random.default_rng(5)
    for _ in range(4):
        process = subprocess.Popen(program(out, slow), stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as output:
            assert output.readline() == b"ready\n"
            time.sleep(chance.uniform(0.05, 0.7))
            process.kill()
            process.wait()
        check_never_half(out, reference)
    finish_and_check(out, reference)


@pytest.fixture
def notes() -> Iterator[list[str]]:
    texts: list[str] = []

    class Keep:
        def handle(self, event: progress.Event) -> None:
            if event.text:
                texts.append(event.text)

    before = progress.set_reporter(Keep())
    yield texts
    progress.set_reporter(before)


class Stop:
    """Presses Ctrl-C when the second part is written."""

    def __init__(self, write: Callable[..., int]) -> None:
        self.write = write

    def __call__(self, part: int, encoded: Encoded) -> int:
        if part == 2:
            raise KeyboardInterrupt
        return self.write(part, encoded)


def test_ctrl_c_says_that_the_same_command_goes_on(
    tmp_path: Path, reference: Dataset, monkeypatch: pytest.MonkeyPatch, notes: list[str]
) -> None:
    from candlemark.dataset.storage import hdf5

    monkeypatch.setattr(hdf5, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(hdf5, "PART_BYTES", 2000)
    config, out = parse(DatasetConfig, CONFIG), tmp_path / "data"
    with monkeypatch.context() as patch:
        write = hdf5.Hdf5Writer.write
        patch.setattr(
            hdf5.Hdf5Writer, "write", lambda self, *a: Stop(lambda *b: write(self, *b))(*a)
        )
        with pytest.raises(KeyboardInterrupt):
            build_dataset(config, out)
    assert "stopped; the same command goes on from what is kept in" in notes[-1]
    notes.clear()
    build_dataset(config, out)
    assert any(
        text.startswith("going on with an earlier build: 32 of 670 pictures") for text in notes
    )
    assert check_never_half(out, reference)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_ctrl_c_in_a_terminal(tmp_path: Path, reference: Dataset) -> None:
    out = tmp_path / "data"
    slow = """
    append = parts.PartLog.append
    def slowly(self, part, frames):
        if part == 3:
            print("at work", flush=True)
        time.sleep(0.02)
        return append(self, part, frames)
    parts.PartLog.append = slowly
    """
    process = subprocess.Popen(
        program(out, slow), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"at work\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) != 0
    assert not out.exists()
    assert len(list(tmp_path.glob(".data.building-*/images.parts"))) == 1
    finish_and_check(out, reference)


@pytest.mark.parametrize("limit", [3_000, 25_000, 30_000], ids=["arrow", "log", "hdf5"])
def test_a_file_that_may_not_grow_is_one_line(tmp_path: Path, limit: int) -> None:
    """The system refuses a write in the middle, whoever makes it."""
    setup = f"""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    """
    result = subprocess.run(
        program(tmp_path / "data", setup), capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("candlemark.errors.DatasetError: cannot write")
    assert "too large" in last
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_dataset_that_was_there(
    tmp_path: Path, reference: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    build_dataset(parse(DatasetConfig, CONFIG), out)
    free = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    other = parse(DatasetConfig, {**CONFIG, "window": 12})
    with pytest.raises(DatasetError, match="the disk is full while writing"):
        build_dataset(other, tmp_path / "other")
    with pytest.raises(DatasetError, match="holds another dataset"):
        build_dataset(other, out)
    assert check_never_half(out, reference)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_another_build_left_in_this_place_is_removed(
    tmp_path: Path, reference: Dataset, notes: list[str]
) -> None:
    (tmp_path / ".data.building-0123456789abcdef").mkdir()
    (tmp_path / ".database.building-0123456789abcdef").mkdir()
    build_dataset(parse(DatasetConfig, CONFIG), tmp_path / "data")
    assert any("left by a build of another dataset in this place" in text for text in notes)
    assert {path.name for path in tmp_path.iterdir()} == {
        "data", ".database.building-0123456789abcdef"
    }  # fmt: skip
