"""Run calls on this machine, each in a fresh process, some at a time.

    for outcome in LocalExecutor(timeout_s=3600, workers=2).map(run_one, works):
        ...

A crash, a kill or the end of memory costs one outcome and no more, and memory figures start
from zero. Calls to which `share` gives the same key run one after another in one process,
which saves imports and loaded models where isolation buys nothing. While calls run, this
process sleeps until one of them says something. With several workers, it also waits for its
turn before it hands on an outcome: nothing of ours competes with a section that is being timed.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from candlemark.errors import ConfigError
from candlemark.execution import leases
from candlemark.execution.base import Outcome
from candlemark.execution.process import Frame, Inbox, WorkerProcess, seconds_until


class LocalExecutor:
    """Maps calls over fresh processes on this machine.

    timeout_s: seconds a call may take, those apart in which it waits for a lease; None: no limit
    workers: how many calls run at once
    share: the key of the process that a call may share; None or False: it gets its own. At most
        `workers` shared processes are kept; the one idle for longest makes room for a new key,
        so calls with the same key best stand together.
    """

    def __init__(
        self,
        *,
        timeout_s: float | None = None,
        workers: int = 1,
        share: Callable[[Any], Hashable] = lambda _: None,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers = {workers}: at least one process must run the calls")
        self.timeout_s = timeout_s
        self.workers = workers
        self.share = share

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Yield one outcome per item as each ends, with one worker in order.

        Nothing new starts between an outcome and the request for the next one, so what the
        caller does with an outcome is done before another call takes its place. With several
        workers it is done under the lease `loading`, beside no section that another one times.
        Closing the iterator ends the processes at work.
        """
        waiting = _Waiting(items, self.share)
        pool = _Pool(self.workers)
        try:
            while True:
                while len(pool.busy) < self.workers:
                    entry = waiting.next(pool.busy_keys)
                    if entry is None:
                        break
                    item, key = entry
                    pool.worker(key).begin(function, item, timeout_s=self.timeout_s)
                if not pool.busy and not pool.ended:
                    return
                if self.workers == 1 or leases.held() is not None:
                    yield pool.next_outcome()
                else:
                    with pool.turn():
                        yield pool.next_outcome()
        finally:
            pool.stop()


class _Waiting:
    """Items not started yet, in their order but for those whose process is taken."""

    def __init__(self, items: Iterable[Any], share: Callable[[Any], Hashable]) -> None:
        self._items = iter(items)
        self._share = share
        self._passed: deque[tuple[Any, Hashable]] = deque()

    def next(self, busy: set[Hashable]) -> tuple[Any, Hashable] | None:
        """The next item that can start now and its key; None where there is none."""
        for position, (item, key) in enumerate(self._passed):
            if key not in busy:
                del self._passed[position]
                return item, key
        for item in self._items:
            # 0 is a key like another, though it equals False.
            named = self._share(item)
            key = None if named is None or named is False else named
            if key is None or key not in busy:
                return item, key
            self._passed.append((item, key))
        return None


class _Pool:
    """The processes of one `map`: those at work, and shared ones that wait for their next call."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._inbox: Inbox = queue.SimpleQueue()
        self._idle: dict[Hashable, WorkerProcess] = {}
        self.ended: deque[Outcome] = deque()
        self.busy: dict[WorkerProcess, Hashable] = {}

    @property
    def busy_keys(self) -> set[Hashable]:
        return {key for key in self.busy.values() if key is not None}

    def worker(self, key: Hashable) -> WorkerProcess:
        """A process for a call with this key (None: one of its own); it counts as at work."""
        worker = self._idle.pop(key, None) if key is not None else None
        if worker is not None and not worker.alive:
            worker.stop()
            worker = None
        if worker is None:
            if key is not None:
                self._make_room()
            worker = WorkerProcess(inbox=self._inbox)
        self.busy[worker] = key
        return worker

    def next_outcome(self) -> Outcome:
        """Sleep until a call ends or is late."""
        while not self.ended:
            self._listen()
        return self.ended.popleft()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be where nothing is timed, with an outcome at hand.

        Another thread waits for the lease, because this one must go on listening: whoever holds
        the lease may be a worker of ours that is late.
        """
        while not self.ended:
            self._listen()
        came, leave = threading.Event(), threading.Event()
        refused: list[ConfigError] = []

        def hold() -> None:
            try:
                with leases.loading():
                    came.set()
                    self._inbox.put(Frame(None, "lease", None))
                    leave.wait()
            except ConfigError as error:
                refused.append(error)
                self._inbox.put(Frame(None, "lease", None))

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            while not came.is_set():
                self._listen()
                if refused:
                    raise refused[0]
            with leases.under("loading"):
                yield
        finally:
            leave.set()
            if came.is_set():
                thread.join()

    def _listen(self) -> None:
        """React to one frame, or to a call that is late by now."""
        deadlines = [w.deadline for w in self.busy if w.deadline is not None]
        nearest = min(deadlines, default=None)
        try:
            frame = self._inbox.get(timeout=seconds_until(nearest))
        except queue.Empty:
            worker = next(w for w in self.busy if w.deadline == nearest)
            outcome: Outcome | None = worker.time_out()
        else:
            if frame.worker is None:
                return
            worker = frame.worker
            outcome = worker.take(frame)
        if outcome is not None:
            self._release(worker)
            self.ended.append(outcome)

    def stop(self) -> None:
        """End every process, all at once, and wait for them."""
        workers = [*self.busy, *self._idle.values()]
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.stop()
        self.busy.clear()
        self._idle.clear()

    def _release(self, worker: WorkerProcess) -> None:
        key = self.busy.pop(worker)
        if key is not None and worker.alive:
            self._idle[key] = worker
        else:
            worker.stop()

    def _make_room(self) -> None:
        """End shared processes that wait, the oldest first, until one more may be started."""
        while self._idle and len(self._idle) + len(self.busy_keys) >= self._size:
            self._idle.pop(next(iter(self._idle))).stop()
