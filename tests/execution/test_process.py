"""A worker process: where it runs, what it imports, how it ends."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import candlemark
from candlemark.execution import leases
from candlemark.execution.base import FailureKind
from candlemark.execution.process import WorkerProcess


def test_calls_run_one_after_another_in_the_same_process():
    with WorkerProcess() as worker:
        pids = {worker.call(eval, "__import__('os').getpid()").value for _ in range(2)}
        assert pids == {worker.pid}
        assert worker.alive
    assert not worker.alive


def test_a_worker_has_the_folder_and_variables_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_HERE", "kept")
    with WorkerProcess(cwd=tmp_path, environment={"EXTRA": "set"}) as worker:
        assert worker.call(os.path.realpath, ".").value == os.path.realpath(tmp_path)
        assert worker.call(os.getenv, "EXTRA").value == "set"
        assert worker.call(os.getenv, "FROM_HERE").value == "kept"
    assert "EXTRA" not in os.environ


@pytest.mark.parametrize("python", [None, sys.executable], ids=["this", "named"])
def test_an_extra_path_is_searched_before_all_others(tmp_path, monkeypatch, python):
    for folder, text in (("extra", "extra"), ("here", "working folder")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"VALUE = '{text}'\n", encoding="utf-8")
    with WorkerProcess(path=[tmp_path / "extra"], cwd=tmp_path / "here", python=python) as worker:
        assert worker.call(eval, "__import__('mine').VALUE").value == "extra"


def test_another_candlemark_answers_from_its_own_source(tmp_path):
    source, other = Path(candlemark.__file__).parent, tmp_path / "candlemark"
    other.mkdir()
    for entry in source.iterdir():
        if entry.name not in {"__pycache__", "errors.py"}:
            (other / entry.name).symlink_to(entry)
    (other / "errors.py").write_text(
        (source / "errors.py").read_text(encoding="utf-8") + "\nOTHER = True\n", encoding="utf-8"
    )
    question = "hasattr(__import__('candlemark.errors').errors, 'OTHER')"
    with WorkerProcess(path=[tmp_path]) as worker:
        assert worker.call(eval, question).value is True
    with WorkerProcess() as worker:
        assert worker.call(eval, question).value is False


def test_an_interpreter_that_is_not_there_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        WorkerProcess(python=tmp_path / "no-python")


def test_a_stopped_process_takes_no_call():
    worker = WorkerProcess()
    worker.stop()
    worker.stop()
    with pytest.raises(RuntimeError, match=f"process {worker.pid} was stopped"):
        worker.call(abs, -1)


def test_a_call_that_asks_somebody_gets_no_answer_and_takes_no_request():
    with WorkerProcess() as worker:
        asked = worker.call(eval, "input('give: ')", timeout_s=60)
        assert asked.failure.reason == "EOFError: EOF when reading a line"
        program = [sys.executable, "-c", "import sys; print(len(sys.stdin.read()))"]
        assert worker.call(subprocess.check_output, program, timeout_s=60).value.strip() == b"0"
        assert worker.call(abs, -1).value == 1


def test_a_call_whose_parent_is_gone_may_end_what_it_started(tmp_path):
    told = tmp_path / "told"
    code = (
        f"end = lambda *_: (__import__('pathlib').Path({str(told)!r}).touch(), os._exit(3))\n"
        "signal.signal(signal.SIGTERM, end)\n"
    )
    with WorkerProcess() as worker:
        assert worker.call(exec, code).failure is None
        worker.begin(time.sleep, 60)
        worker._requests.close()
        assert worker.wait().failure.reason == "its process ended with exit status 3"
    assert told.exists()


def test_one_call_at_a_time():
    with WorkerProcess() as worker:
        worker.begin(time.sleep, 60)
        with pytest.raises(RuntimeError, match="runs a call already"):
            worker.begin(abs, -1)


def test_a_process_that_died_between_calls_is_an_outcome():
    with WorkerProcess() as worker:
        assert worker.call(abs, -1).value == 1
        os.kill(worker.pid, signal.SIGKILL)
        ended = worker.call(abs, -1, timeout_s=60)
        assert ended.failure.kind is FailureKind.CRASHED
        assert ended.failure.reason == "its process was ended by SIGKILL"


def test_a_death_that_was_seen_before_the_call_is_not_waited_for():
    with WorkerProcess() as worker:
        os.kill(worker.pid, signal.SIGKILL)
        frame = worker.inbox.get(timeout=30)
        assert frame.kind == "death"
        assert worker.take(frame) is None
        assert not worker.alive
        assert worker.call(abs, -1, timeout_s=60).failure.reason.endswith("SIGKILL")


def test_only_a_call_can_be_late():
    with WorkerProcess() as worker:
        assert worker.deadline is None
        with pytest.raises(RuntimeError, match="runs no call that could be late"):
            worker.time_out()


LEASES = "__import__('candlemark.execution.leases').execution.leases"
ASK = f"[lease.__enter__(), {LEASES}.held(), lease.__exit__(None, None, None)][1]"
TIMED = f"(lambda lease: {ASK})({LEASES}.timing())"


class Named:
    """A function by name, which only the other side imports."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __reduce__(self):
        return getattr, (Imported(self.module), self.name)


class Imported:
    def __init__(self, module):
        self.module = module

    def __reduce__(self):
        return importlib.import_module, (self.module,)


def test_a_lease_of_the_caller_covers_its_call():
    with WorkerProcess() as worker:
        with leases.timing("cpu"):  # which the worker would wait for without end
            assert worker.call(eval, TIMED, timeout_s=60).value == "timing"
        assert worker.call(eval, TIMED, timeout_s=60).value == "timing"
        assert worker.call(eval, f"{LEASES}.held()", timeout_s=60).value is None


def test_what_the_first_call_imports_does_not_run_beside_a_timed_section(tmp_path):
    (tmp_path / "heavy.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"
        "def work(_): pass\n",
        encoding="utf-8",
    )
    with WorkerProcess(path=[tmp_path]) as worker:
        other = threading.Event()

        def time_something():
            with leases.timing("cpu"):
                other.set()
                time.sleep(1.0)

        thread = threading.Thread(target=time_something)
        thread.start()
        other.wait(30)
        worker.begin(Named("heavy", "work"), None)
        time.sleep(0.5)
        assert not (tmp_path / "imported").exists()
        assert worker.wait().failure is None
        thread.join()
        assert (tmp_path / "imported").exists()
