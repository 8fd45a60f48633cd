"""Every way a call can end is an outcome, and nothing survives the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from candlemark import progress
from candlemark.execution.base import FailureKind
from candlemark.execution.local import LocalExecutor

CALLS = """
import os, signal, sys, time
from candlemark.errors import ModelError
from candlemark.progress import track

def double(number): return 2 * number
def identity(_): return os.getpid()
def refuse(_): raise ModelError("no such model")
def divide(_): return 1 / 0
def exhaust(_): raise MemoryError("no more")
def exit_early(_):
    print("last words", file=sys.stderr); sys.stderr.flush(); os._exit(3)
def kill_itself(_): os.kill(os.getpid(), signal.SIGKILL)
def sleep(seconds): time.sleep(seconds)
def chatter(number):
    print("a library that prints"); os.write(1, b"raw bytes")
    return number
def report(_):
    with track("work", total=2, unit="steps") as bar:
        bar.advance(1, "half")
def die_at_work(_):
    with track("work", total=2, unit="steps"):
        os._exit(1)
def leave_pid(path):
    with open(path, "w") as file: file.write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    (tmp_path / "worker_calls.py").write_text(CALLS)
    monkeypatch.syspath_prepend(tmp_path)
    import worker_calls

    yield worker_calls
    sys.modules.pop("worker_calls")


def outcome(function, item=None, **options):
    (only,) = LocalExecutor(**options).map(function, [item])
    return only


def test_values_come_back_in_order(calls):
    outcomes = list(LocalExecutor().map(calls.double, [1, 2]))
    assert [(o.item, o.value, o.failure) for o in outcomes] == [(1, 2, None), (2, 4, None)]


def test_each_call_has_its_own_process_unless_shared(calls):
    own = {o.value for o in LocalExecutor().map(calls.identity, range(2))}
    shared = {o.value for o in LocalExecutor(share=lambda _: True).map(calls.identity, range(3))}
    assert len(own) == 2
    assert len(shared) == 1
    assert os.getpid() not in own | shared


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("refuse", FailureKind.REFUSED, "no such model"),
        ("divide", FailureKind.CRASHED, "ZeroDivisionError: division by zero"),
        ("exhaust", FailureKind.OUT_OF_MEMORY, "MemoryError: no more"),
        ("exit_early", FailureKind.CRASHED, "its process ended with exit status 3"),
        ("kill_itself", FailureKind.CRASHED, "its process was ended by SIGKILL"),
    ],
)
def test_every_failure_is_an_outcome(calls, name, kind, reason):
    ended = outcome(getattr(calls, name))
    assert (ended.failure.kind, ended.failure.reason) == (kind, reason)
    assert ended.value is None


def test_last_output_of_a_dead_process_is_kept(calls):
    assert "last words" in outcome(calls.exit_early).failure.details


def test_a_call_after_a_crash_in_a_shared_process_still_runs(calls):
    executor = LocalExecutor(share=lambda _: True)
    endings = [o.failure is None for o in executor.map(calls.kill_itself, range(2))]
    assert endings == [False, False]
    assert [o.value for o in executor.map(calls.double, [3])] == [6]


def test_time_out_ends_the_process(calls):
    ended = outcome(calls.sleep, 60, timeout_s=1.0)
    assert ended.failure.kind is FailureKind.TIMED_OUT
    assert ended.failure.reason == "took longer than 1 s"
    assert ended.duration_s < 20


def test_output_of_libraries_does_not_disturb(calls):
    assert outcome(calls.chatter, 7).value == 7


@pytest.fixture
def events():
    seen = []

    class Recorder:
        def handle(self, event):
            seen.append((event.kind, event.task, event.text))

    previous = progress.set_reporter(Recorder())
    yield seen
    progress.set_reporter(previous)


def test_progress_crosses_the_process_boundary(calls, events):
    outcome(calls.report)
    assert events == [("begin", "work", ""), ("advance", "work", "half"), ("end", "work", "")]


def test_a_task_of_a_dead_worker_is_ended_for_it(calls, events):
    outcome(calls.die_at_work)
    assert events == [("begin", "work", ""), ("end", "work", "")]


def test_workers_die_with_a_killed_parent(calls, tmp_path):
    pid_file = tmp_path / "pid"
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import worker_calls\n"
        "from candlemark.execution.local import LocalExecutor\n"
        f"list(LocalExecutor().map(worker_calls.leave_pid, [{str(pid_file)!r}]))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    worker = int(wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not is_running(worker))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")
