"""Timed sections are alone, loads are together, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import combinations

import pytest

from candlemark.errors import ConfigError
from candlemark.execution import leases
from candlemark.execution.leases import default_folder, holder, loading, on_wait, timing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")

PROGRAM = """
import sys, time
from candlemark.execution.leases import loading, timing
log, kinds = sys.argv[1], sys.argv[2:]
for kind in kinds:
    with loading() if kind == "loading" else timing("cpu"):
        started = time.monotonic_ns()
        time.sleep(0.02)
        ended = time.monotonic_ns()
    with open(log, "a") as file:
        file.write(f"{kind} {started} {ended}\\n")
"""

HOLDER = """
import sys, time
from candlemark.execution.leases import loading, timing
with loading() if sys.argv[1] == "loading" else timing("cuda:7"):
    print("held", flush=True)
    time.sleep(60)
"""


def start(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture
def held_by_another():
    """Start a process that holds a lease; it is killed at the end."""
    running = []

    def hold(kind):
        process = start(HOLDER, kind)
        running.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def in_thread(lease):
    """A thread that takes a lease and says so by an event."""
    got, leave = threading.Event(), threading.Event()

    def run():
        with lease():
            got.set()
            leave.wait(60)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return got, leave, thread


def test_timed_sections_of_processes_overlap_with_nothing(tmp_path):
    log = tmp_path / "log"
    kinds = [["timing", "loading"] * 4, ["loading", "timing"] * 4, ["timing", "timing"] * 4]
    processes = [start(PROGRAM, log, *order) for order in kinds]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    sections = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
    assert len(sections) == 24
    for (kind, *first), (other, *second) in combinations(sections, 2):
        if "timing" in {kind, other}:
            (start_a, end_a), (start_b, end_b) = map(int, first), map(int, second)
            assert end_a <= start_b or end_b <= start_a, (kind, other)


def test_loads_run_side_by_side(held_by_another):
    held_by_another("loading")
    with loading():
        pass


@pytest.mark.parametrize("kind", ["loading", "timing"])
def test_a_killed_holder_lets_go(held_by_another, kind):
    other = held_by_another(kind)
    got, leave, thread = in_thread(timing)
    assert not got.wait(0.3)
    other.send_signal(signal.SIGKILL)
    assert got.wait(30)
    leave.set()
    thread.join()


def test_a_section_that_waits_is_not_passed_by_loads_that_come_later():
    first, leave_first, one = in_thread(loading)
    assert first.wait(30)
    timed, leave_timed, two = in_thread(timing)
    assert not timed.wait(0.2)
    late, leave_late, three = in_thread(loading)
    assert not late.wait(0.2)
    leave_first.set()
    assert timed.wait(30)
    assert not late.wait(0.2)
    leave_timed.set()
    assert late.wait(30)
    leave_late.set()
    for thread in (one, two, three):
        thread.join()


def test_waiting_costs_no_processor_time(held_by_another):
    held_by_another("timing")
    got, leave, _ = in_thread(timing)
    before = time.process_time()
    assert not got.wait(0.5)
    assert time.process_time() - before < 0.1
    leave.set()  # the other dies at the end of the test


def test_a_lease_inside_another_changes_nothing():
    with timing("cpu"), timing("cpu"), loading():
        got, leave, thread = in_thread(loading)
        assert not got.wait(0.2)
    assert got.wait(30)
    leave.set()
    thread.join()


def test_timing_inside_loading_is_refused_at_once():
    with loading(), pytest.raises(RuntimeError, match="leave loading"), timing():
        pass
    with timing():
        pass


def test_a_lease_ends_with_an_exception():
    with pytest.raises(ValueError, match="broken"), timing():
        raise ValueError("broken")
    got, leave, thread = in_thread(timing)
    assert got.wait(30)
    leave.set()
    thread.join()


def test_who_holds_the_machine_can_be_read(held_by_another):
    assert holder() is None
    other = held_by_another("timing")
    assert holder() == f"process {other.pid} on cuda:7"


def test_waiting_is_told_and_only_waiting(held_by_another):
    told = []
    previous = on_wait(told.append)
    try:
        with timing():
            pass
        assert told == []
        other = held_by_another("timing")
        threading.Timer(0.2, other.kill).start()
        with timing():
            assert told[:1] == [True]
            assert told[-1] is False
    finally:
        on_wait(previous)


FORKED = """
    import os
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
"""
STARTED = """
    import subprocess
    nap = [sys.executable, "-c", "import time; time.sleep(60)"]
    print(subprocess.Popen(nap, close_fds=False).pid, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside pytest's threads
@pytest.mark.parametrize("child", [FORKED, STARTED], ids=["forked", "started"])
def test_a_child_such_as_a_compiler_does_not_keep_a_dead_parents_lease(child):
    program = HOLDER.replace('    print("held", flush=True)\n', child)
    parent = start(program, "timing")
    child = int(parent.stdout.readline())
    try:
        parent.kill()
        parent.wait()
        got, leave, thread = in_thread(timing)
        assert got.wait(30)
        leave.set()
        thread.join()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_processes_that_name_other_folders_do_not_see_each_other(
    held_by_another, tmp_path, monkeypatch
):
    held_by_another("timing")
    monkeypatch.setenv(leases.ENVIRONMENT, str(tmp_path / "elsewhere"))
    with timing():
        pass


def test_the_default_folder_is_of_this_user_and_this_machine(monkeypatch):
    monkeypatch.delenv(leases.ENVIRONMENT)
    assert default_folder().name == f"candlemark-{os.getuid()}"


def test_a_folder_that_cannot_be_had_is_named_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(leases.ENVIRONMENT, str(tmp_path / "file"))
    with (
        pytest.raises(ConfigError, match=r"cannot open the lock file .* export CANDLEMARK_LEASES="),
        timing(),
    ):
        pass
