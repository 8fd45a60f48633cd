"""A process that runs calls for this one, and outlives none of them by accident.

    with WorkerProcess() as worker:
        outcome = worker.call(run_one, work, timeout_s=3600)

A fresh interpreter is started (nothing is forked, nothing is inherited but the environment),
so a crash, a kill or the end of memory costs one outcome and no more. While a call runs, this
process sleeps in a read. It can be another interpreter or another checkout of the source:

    WorkerProcess(path=["/elsewhere/candlemark/src"])

Functions and items cross as pickles: both sides must be able to import what they name.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, cast

from candlemark import progress
from candlemark.execution import leases
from candlemark.execution.base import Failure, FailureKind, Outcome
from candlemark.progress import Event

_PROGRAM = "candlemark.execution.worker"
_DETAIL_BYTES = 4000
_STOP_WAIT_S = 5.0


class Frame(NamedTuple):
    """One thing that a worker said: ("event" | "waiting" | "answer" | "death", what).

    Without a worker it only wakes whoever listens.
    """

    worker: WorkerProcess | None
    kind: str
    value: Any


Inbox = queue.SimpleQueue[Frame]


@dataclass(slots=True)
class _Call:
    """The call that runs now. `left_s` is set while its clock stands."""

    item: Any
    started_at: str
    clock: float
    timeout_s: float | None
    deadline: float | None
    left_s: float | None = None


class WorkerProcess:
    """A process running `candlemark.execution.worker`, and the pipes to it.

    cwd: its working folder; None: this one's
    python: its interpreter; None: this one's
    path: folders that it imports from before all others. After them come this process's own,
        but for another interpreter, which keeps its own
    environment: variables set on top of this process's
    inbox: where its frames go, for one who listens to several; None: to itself
    """

    def __init__(
        self,
        *,
        cwd: str | Path | None = None,
        python: str | Path | None = None,
        path: Sequence[str | Path] = (),
        environment: Mapping[str, str] | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        front = [str(Path(folder).absolute()) for folder in path]
        self.inbox: Inbox = queue.SimpleQueue() if inbox is None else inbox
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - an interpreter that the caller names
                # -P: else its working folder would come before `path`.
                [str(python or sys.executable), *(["-P"] if front else []), "-m", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                cwd=cwd,
                env=_environment(front, environment or {}),
            )
        except BaseException:
            self._log.close()
            raise
        self._requests = cast("BinaryIO", self._process.stdin)
        self._call: _Call | None = None
        self._ended = False
        self._killed_before = _kernel_memory_kills()
        self._unfinished: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self._send([*front, *sys.path] if python is None else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Can it take a call?"""
        return not self._ended and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def deadline(self) -> float | None:
        """When the running call is late, by `time.monotonic`; None: never, as things stand."""
        return None if self._call is None else self._call.deadline

    def call(
        self, function: Callable[[Any], Any], item: Any, *, timeout_s: float | None = None
    ) -> Outcome:
        """Run one call to its end, its death or its time-out.

        timeout_s: seconds it may take, those apart in which it waits for a lease
        """
        self.begin(function, item, timeout_s=timeout_s)
        return self.wait()

    def wait(self) -> Outcome:
        """What becomes of the call that `begin` sent, where nobody else reads the inbox."""
        while True:
            try:
                frame = self.inbox.get(timeout=seconds_until(self.deadline))
            except queue.Empty:
                return self.time_out()
            outcome = self.take(frame)
            if outcome is not None:
                return outcome

    def begin(
        self, function: Callable[[Any], Any], item: Any, *, timeout_s: float | None = None
    ) -> None:
        """Send a call; what becomes of it arrives in the inbox, for `take`, or `wait`.

        A lease that this thread holds covers the call, too.

        Raises RuntimeError where it cannot: the process was stopped or has a call already.
        """
        if self._requests.closed or self._call is not None:
            why = "runs a call already" if self._call is not None else "was stopped"
            raise RuntimeError(f"process {self.pid} {why}; start another WorkerProcess")
        clock = time.monotonic()
        self._call = _Call(
            item=item,
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            clock=clock,
            timeout_s=timeout_s,
            deadline=None if timeout_s is None else clock + timeout_s,
        )
        self._send(leases.held())
        self._send((function, item))
        if self._ended:  # its death was read before this call, and will not be read again
            self.inbox.put(Frame(self, "death", None))

    def take(self, frame: Frame) -> Outcome | None:
        """React to a frame of this worker; the outcome where it ends the call."""
        call = self._call
        if frame.kind == "death":
            self._ended = True
        if call is None:
            return None
        if frame.kind == "event":
            self._forward(frame.value)
            return None
        if frame.kind == "waiting":
            self._stop_clock(call, standing=frame.value)
            return None
        value, failure = frame.value if frame.kind == "answer" else (None, self._death())
        return self._finish(call, value, failure)

    def time_out(self) -> Outcome:
        """End the process because its call is late."""
        call = self._call
        if call is None:
            raise RuntimeError(f"process {self.pid} runs no call that could be late")
        self.stop()
        reason = f"took longer than {call.timeout_s:g} s"
        return self._finish(call, None, Failure(kind=FailureKind.TIMED_OUT, reason=reason))

    def _finish(self, call: _Call, value: Any, failure: Failure | None) -> Outcome:
        self._call = None
        self._end_unfinished_tasks()
        return Outcome(
            item=call.item,
            value=value,
            failure=failure,
            started_at=call.started_at,
            duration_s=time.monotonic() - call.clock,
        )

    @staticmethod
    def _stop_clock(call: _Call, *, standing: bool) -> None:
        """While a call waits for its turn, its time does not run."""
        now = time.monotonic()
        if standing and call.deadline is not None:
            call.left_s, call.deadline = call.deadline - now, None
        elif not standing and call.left_s is not None:
            call.deadline, call.left_s = now + call.left_s, None

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

    def terminate(self) -> None:
        """Ask the process to end, and do not wait for it."""
        if self.alive:
            self._process.terminate()

    def stop(self) -> None:
        """End the process and wait until it has; harmless where it has ended."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._ended = True
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
                    kind, value = pickle.load(source)  # noqa: S301 - from our own child
                    self.inbox.put(Frame(self, kind, value))
            except (EOFError, pickle.UnpicklingError):
                self.inbox.put(Frame(self, "death", None))


def seconds_until(deadline: float | None) -> float | None:
    """How long to wait for a frame; None: as long as it takes."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


def _environment(front: list[str], extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment; workers never draw progress of their own."""
    merged = {
        **os.environ,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **extra,
    }
    if front:
        # The worker imports candlemark itself before it is told where from.
        merged["PYTHONPATH"] = os.pathsep.join(
            [*front, *filter(None, [merged.get("PYTHONPATH", "")])]
        )
    return merged


def _kernel_memory_kills() -> int:
    """How often the kernel ended a process for want of memory; 0 where it does not say."""
    for path in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    return 0
