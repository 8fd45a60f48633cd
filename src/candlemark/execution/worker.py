"""The other end of `execution.process`: a process that runs calls and answers in frames.

Requests arrive as pickles on standard input, answers leave as pickles on what was standard
output. Before any work starts, file descriptor 1 is pointed at standard error, so a library
that prints cannot break a frame. When the parent goes away, however it ends, standard input
closes and this process ends at once: an orphan never writes beside its successor.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
from functools import partial
from typing import Any, BinaryIO

from candlemark import progress
from candlemark.errors import CandlemarkError
from candlemark.execution import leases
from candlemark.execution.base import Failure, FailureKind
from candlemark.progress import Event


class FrameReporter:
    """Sends progress events to the parent."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers = answers
        self._lock = threading.Lock()

    def handle(self, event: Event) -> None:
        """Send one event."""
        self.send("event", event)

    def send(self, kind: str, value: Any) -> None:
        """Write one frame; threads take turns."""
        with self._lock:
            pickle.dump((kind, value), self._answers)
            self._answers.flush()


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # A terminal sends Ctrl-C to the whole group; the parent decides when a worker ends.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    reporter = FrameReporter(answers)
    progress.set_reporter(reporter)
    leases.on_wait(partial(reporter.send, "waiting"))
    while True:
        function, item = requests.get()
        reporter.send("answer", _call(function, item))


def _read_requests(requests: queue.SimpleQueue[Any]) -> None:
    """Queue what the parent sends; end the process when the parent is gone."""
    source = sys.stdin.buffer
    try:
        path = pickle.load(source)  # noqa: S301 - from our own parent
        if path is not None:  # another interpreter keeps its own
            sys.path[:] = path
        while True:
            requests.put(pickle.load(source))  # noqa: S301 - from our own parent
    except EOFError:
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a request that cannot be read must be seen
        traceback.print_exc()
        os._exit(70)


def _call(function: Any, item: Any) -> tuple[Any, Failure | None]:
    """Run one call; everything it raises becomes a failure."""
    try:
        return function(item), None
    except CandlemarkError as error:
        return None, Failure(kind=FailureKind.REFUSED, reason=str(error))
    except BaseException as error:  # noqa: BLE001 - a failed call is an outcome, not an end
        kind = FailureKind.OUT_OF_MEMORY if _is_out_of_memory(error) else FailureKind.CRASHED
        first_line = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first_line}".rstrip(": ")
        return None, Failure(kind=kind, reason=reason, details=traceback.format_exc())


def _is_out_of_memory(error: BaseException) -> bool:
    """Python's, NumPy's and torch's ways to say that memory ended, without importing torch."""
    names = {base.__name__ for base in type(error).__mro__}
    text = str(error)
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        "DefaultCPUAllocator: can't allocate memory" in text or "CUDA out of memory" in text
    )


if __name__ == "__main__":
    main()
