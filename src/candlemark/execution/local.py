"""Run calls on this machine, each in a fresh process, one at a time.

    for outcome in LocalExecutor(timeout_s=3600).map(run_one, works):
        ...

A fresh interpreter is started for every call (nothing is forked, nothing is inherited but
the environment), so a crash, a kill or the end of memory costs one outcome and no more, and
memory figures start from zero. Calls for which `share` says yes run one after another in
one process, which saves the imports where isolation buys nothing. While a call runs, this
process sleeps in a read: nothing of ours competes with a section that is being timed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from candlemark import progress
from candlemark.execution.base import Failure, FailureKind, Outcome
from candlemark.progress import Event

_DETAIL_BYTES = 4000
_STOP_WAIT_S = 5.0


class LocalExecutor:
    """Maps calls over fresh processes on this machine.

    timeout_s: seconds a call may take; None: no limit.
    share: calls for which it returns True reuse one process; by default none does.
    """

    def __init__(
        self,
        *,
        timeout_s: float | None = None,
        share: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self.timeout_s = timeout_s
        self.share = share

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Yield one outcome per item in order; closing the iterator ends the process at work."""
        shared: _Worker | None = None
        worker: _Worker | None = None
        try:
            for item in items:
                reusable = self.share(item)
                worker = shared if reusable and shared is not None else _Worker()
                yield worker.call(function, item, timeout_s=self.timeout_s)
                if reusable and worker.alive:
                    shared = worker
                else:
                    worker.stop()
                    shared = None if reusable else shared
        finally:
            for running in (worker, shared):
                if running is not None:
                    running.stop()


class _Worker:
    """A process running `candlemark.execution.worker`, and the pipes to it."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "candlemark.execution.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
        )
        self._requests = cast("BinaryIO", self._process.stdin)
        self._answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._killed_before = _kernel_memory_kills()
        self._unfinished: list[str] = []
        self._send(sys.path)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def call(
        self, function: Callable[[Any], Any], item: Any, *, timeout_s: float | None
    ) -> Outcome:
        """Run one call to its end, its death or its time-out."""
        started_at, clock = datetime.now(UTC).isoformat(timespec="milliseconds"), time.monotonic()
        self._send((function, item))
        value, failure = self._answer(None if timeout_s is None else clock + timeout_s, timeout_s)
        self._end_unfinished_tasks()
        return Outcome(
            item=item,
            value=value,
            failure=failure,
            started_at=started_at,
            duration_s=time.monotonic() - clock,
        )

    def _answer(
        self, deadline: float | None, timeout_s: float | None
    ) -> tuple[Any, Failure | None]:
        while True:
            wait_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                kind, value = self._answers.get(timeout=wait_s)
            except queue.Empty:
                self.stop()
                reason = f"took longer than {timeout_s:g} s"
                return None, Failure(kind=FailureKind.TIMED_OUT, reason=reason)
            if kind == "event":
                self._forward(value)
            elif kind == "answer":
                return cast("tuple[Any, Failure | None]", value)
            else:
                return None, self._death()

    def _forward(self, event: Event) -> None:
        """Report an event of the worker, noting which tasks are still to end."""
        if event.kind == "begin":
            self._unfinished.append(event.task)
        elif event.kind == "end" and event.task in self._unfinished:
            self._unfinished.remove(event.task)
        progress.forward(event)

    def _end_unfinished_tasks(self) -> None:
        """Say for a worker that died what it could not say itself."""
        for task in self._unfinished:
            progress.forward(Event(kind="end", task=task))
        self._unfinished.clear()

    def _death(self) -> Failure:
        """Why the process ended without an answer."""
        status = self._process.wait()
        self._log.seek(max(self._log.seek(0, os.SEEK_END) - _DETAIL_BYTES, 0))
        details = self._log.read().decode(errors="replace").strip()
        if status >= 0:
            reason = f"its process ended with exit status {status}"
            return Failure(kind=FailureKind.CRASHED, reason=reason, details=details)
        name = signal.Signals(-status).name
        if name == "SIGKILL" and _kernel_memory_kills() > self._killed_before:
            reason = "the system killed its process because memory ended"
            return Failure(kind=FailureKind.OUT_OF_MEMORY, reason=reason, details=details)
        reason = f"its process was ended by {name}"
        return Failure(kind=FailureKind.CRASHED, reason=reason, details=details)

    def stop(self) -> None:
        """End the process; harmless where it has ended."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(_STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        if not self._requests.closed:
            # Unsent bytes of a request to a process that is gone have no reader.
            with contextlib.suppress(BrokenPipeError):
                self._requests.close()
        self._log.close()

    def _send(self, value: Any) -> None:
        # Where it died before reading, the reading thread reports the death.
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(value, self._requests)
            self._requests.flush()

    def _read(self) -> None:
        """Queue frames until the process closes its end."""
        source = cast("BinaryIO", self._process.stdout)
        with source:
            try:
                while True:
                    self._answers.put(pickle.load(source))  # noqa: S301 - from our own child
            except (EOFError, pickle.UnpicklingError):
                self._answers.put(("death", None))


def _environment() -> dict[str, str]:
    """This process's environment; workers never draw progress of their own."""
    return {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}


def _kernel_memory_kills() -> int:
    """How often the kernel ended a process for want of memory; 0 where it does not say."""
    for path in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        if path.exists():
            for line in path.read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return 0
