"""Every way a call can end is an outcome, and nothing survives the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from candlemark import progress
from candlemark.errors import ConfigError
from candlemark.execution.base import FailureKind
from candlemark.execution.leases import timing
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
def wait_for_lease(seconds):
    from candlemark.execution.leases import timing
    with timing("cpu"):
        time.sleep(seconds)
    return "timed"
def time_or_nap(arguments):
    from candlemark.execution.leases import timing
    kind, seconds = arguments
    if kind == "nap":
        time.sleep(seconds)
        return kind, None
    with timing("cpu"):
        started = time.monotonic()
        time.sleep(seconds)
        return kind, (started, time.monotonic())
def meet(arguments):
    folder, mine, other = arguments
    open(os.path.join(folder, mine), "w").close()
    deadline = time.monotonic() + 30
    while not os.path.exists(os.path.join(folder, other)):
        if time.monotonic() > deadline: return "alone"
        time.sleep(0.01)
    return "met"
def nap(seconds):
    time.sleep(seconds)
    return seconds
def span(arguments):
    key, seconds = arguments
    started = time.monotonic()
    time.sleep(seconds)
    return key, os.getpid(), started, time.monotonic()
def leave_pid(path):
    with open(path, "w") as file: file.write(str(os.getpid()))
    time.sleep(60)
def leave_pid_unless_none(path):
    if path is not None: leave_pid(path)
def touch(path): open(path, "w").close()
def time_for(seconds):
    from candlemark import progress
    from candlemark.execution import leases
    with leases.timing(), progress.timing("a section"):
        time.sleep(seconds)
"""


PARENT_SHARE = 0.02


@pytest.fixture
def calls(tmp_path, monkeypatch):
    (tmp_path / "worker_calls.py").write_text(CALLS, encoding="utf-8")
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


def test_workers_run_side_by_side(calls, tmp_path):
    pairs = [(str(tmp_path), "a", "b"), (str(tmp_path), "b", "a")]
    assert [o.value for o in LocalExecutor(workers=2).map(calls.meet, pairs)] == ["met", "met"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_parent_sleeps_while_a_section_is_timed(calls, workers):
    """Processor time is counted, so that a busy machine changes nothing."""
    used = []

    class Meter:
        def handle(self, event):
            if event.task == progress.TIMING:
                used.append(time.process_time())

    previous = progress.set_reporter(Meter())
    try:
        outcomes = list(LocalExecutor(workers=workers).map(calls.time_for, [1.0, 1.0]))
    finally:
        progress.set_reporter(previous)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert len(used) == 4  # each section begins and ends, one after the other
    sections = [used[1] - used[0], used[3] - used[2]]
    assert max(sections) < PARENT_SHARE * 1.0


def test_outcomes_come_as_calls_end(calls):
    outcomes = LocalExecutor(workers=2).map(calls.nap, [3.0, 0.0])
    assert [o.item for o in outcomes] == [0.0, 3.0]


def test_calls_with_the_same_key_take_turns_in_one_process(calls):
    items = [(key, 0.1) for key in ("a", "a", "b", "a", "b", None, "a")]
    executor = LocalExecutor(workers=3, share=lambda item: item[0])
    values = [o.value for o in executor.map(calls.span, items)]
    assert len(values) == len(items)
    for key in ("a", "b"):
        spans = sorted((begin, end, pid) for k, pid, begin, end in values if k == key)
        assert len({pid for *_, pid in spans}) == 1
        assert all(end <= begin for (_, end, _), (begin, _, _) in pairwise(spans))
    assert len({pid for _, pid, _, _ in values}) == 3


def test_a_new_key_ends_the_process_that_waited_longest(calls):
    executor = LocalExecutor(share=str)
    pids = [o.value for o in executor.map(calls.identity, [1, 1, 2, 2, 1])]
    assert pids[0] == pids[1]
    assert pids[2] == pids[3]
    assert len(set(pids)) == 3


def test_a_shared_process_outlives_calls_of_their_own(calls):
    executor = LocalExecutor(share=lambda item: item != "own")
    pids = [o.value for o in executor.map(calls.identity, ["shared", "own", "shared"])]
    assert pids[0] == pids[2] != pids[1]


def test_nothing_new_starts_before_an_outcome_is_dealt_with(calls, tmp_path):
    paths = [tmp_path / name for name in "abc"]
    outcomes = LocalExecutor(workers=2).map(calls.touch, [str(path) for path in paths])
    next(outcomes)
    time.sleep(0.5)
    assert not paths[2].exists()
    assert len(list(outcomes)) == 2
    assert paths[2].exists()


def test_one_late_call_does_not_disturb_the_other(calls):
    outcomes = list(LocalExecutor(workers=2, timeout_s=2.0).map(calls.nap, [60.0, 0.0]))
    assert [(o.item, o.failure is None) for o in outcomes] == [(0.0, True), (60.0, False)]
    assert outcomes[1].failure.kind is FailureKind.TIMED_OUT


def hold_lease(seconds):
    """A thread of this process that times something for a while; it has the lease on return."""
    holding = threading.Event()

    def hold():
        with timing("cpu"):
            holding.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(30)
    return thread


def test_waiting_for_a_lease_is_not_counted_as_running(calls):
    thread = hold_lease(3.0)
    ended = outcome(calls.wait_for_lease, 0.1, timeout_s=2.5)
    thread.join()
    assert ended.value == "timed"
    assert ended.duration_s > 2.5


def test_the_clock_runs_again_once_the_lease_has_come(calls):
    thread = hold_lease(1.0)
    ended = outcome(calls.wait_for_lease, 60, timeout_s=1.5)
    thread.join()
    assert ended.failure.reason == "took longer than 1.5 s"
    assert ended.duration_s < 30


def test_closing_the_iterator_ends_every_process(calls, tmp_path):
    files = [tmp_path / name for name in "ab"]
    outcomes = LocalExecutor(workers=3).map(
        calls.leave_pid_unless_none, [None, *(str(file) for file in files)]
    )
    next(outcomes)
    pids = [
        int(wait_for(lambda file=file: file.exists() and file.read_text(encoding="utf-8")))
        for file in files
    ]
    outcomes.close()
    assert not any(is_running(pid) for pid in pids)


def test_an_outcome_is_handed_on_beside_no_timed_section(calls):
    outcomes = LocalExecutor(workers=2).map(calls.time_or_nap, [("nap", 0.0), ("time", 1.5)])
    spans = []
    for ended in outcomes:
        begun = time.monotonic()
        time.sleep(0.05)
        spans.append((begun, time.monotonic(), ended))
    (first, second) = spans
    ((_, timed),) = [o.value for *_, o in spans if o.item[0] == "time"]
    for begun, done, _ in (first, second):
        assert done <= timed[0] or timed[1] <= begun


def test_a_late_call_is_ended_although_it_holds_the_lease_that_is_waited_for(calls):
    executor = LocalExecutor(workers=2, timeout_s=3.0)
    outcomes = list(executor.map(calls.time_or_nap, [("time", 60.0), ("nap", 0.5)]))
    assert {o.item[0]: o.failure is None for o in outcomes} == {"time": False, "nap": True}


def test_who_handles_an_outcome_of_several_workers_may_not_time(calls):
    outcomes = LocalExecutor(workers=2).map(calls.double, [1])
    next(outcomes)
    with pytest.raises(RuntimeError, match="leave loading"), timing():
        pass
    outcomes.close()
    with timing():
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_leases_that_cannot_be_had_are_an_error_and_no_hang(calls, own_leases, workers):
    own_leases.touch()
    executor = LocalExecutor(workers=workers)
    if workers == 1:
        (ended,) = executor.map(calls.double, [1])
        assert ended.failure.kind is FailureKind.REFUSED
        assert "cannot open the lock file" in ended.failure.reason
    else:
        with pytest.raises(ConfigError, match="cannot open the lock file"):
            list(executor.map(calls.double, [1]))


@pytest.mark.parametrize("workers", [0, -1])
def test_no_worker_is_refused(workers):
    with pytest.raises(ConfigError, match=f"workers = {workers}: at least one process"):
        LocalExecutor(workers=workers)


def test_nothing_to_do_starts_nothing():
    assert list(LocalExecutor(workers=4).map(print, [])) == []


def test_workers_die_with_a_killed_parent(calls, tmp_path):
    pid_file = tmp_path / "pid"
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import worker_calls\n"
        "from candlemark.execution.local import LocalExecutor\n"
        f"list(LocalExecutor().map(worker_calls.leave_pid, [{str(pid_file)!r}]))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    worker = int(wait_for(lambda: pid_file.exists() and pid_file.read_text(encoding="utf-8")))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not is_running(worker))


def test_ctrl_c_ends_every_worker(calls, tmp_path):
    files = [tmp_path / name for name in "ab"]
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import worker_calls\n"
        "from candlemark.execution.local import LocalExecutor\n"
        "executor = LocalExecutor(workers=2)\n"
        f"list(executor.map(worker_calls.leave_pid, {[str(file) for file in files]!r}))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    workers = [
        int(wait_for(lambda file=file: file.exists() and file.read_text(encoding="utf-8")))
        for file in files
    ]
    parent.send_signal(signal.SIGINT)
    _, errors = parent.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert not any(is_running(worker) for worker in workers)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    )


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")
