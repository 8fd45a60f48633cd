"""The other end of `execution.process`: a process that runs calls and answers in frames.

Requests arrive as pickles on standard input: first the path to import from, then for each call
the lease that its caller holds and the call. Answers leave as pickles on what was standard
output. Before any work starts, file descriptor 1 is pointed at standard error and 0 at nothing,
so what prints cannot break a frame and what asks, a program that it starts too, cannot take one
or wait for it. When the parent goes away, however it ends, standard input closes and this process
ends at once: an orphan never writes beside its successor.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from candlemark import progress
from candlemark.errors import CandlemarkError
from candlemark.execution import leases
from candlemark.execution.base import Failure, FailureKind
from candlemark.progress import Event

LAST_WORDS_S = 1.0
"""For what a call does about SIGTERM when the parent is gone; by default that ends it at once."""


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
    answers, source = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    # A terminal sends Ctrl-C to the whole group; the parent decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reporter = FrameReporter(answers)
    progress.set_reporter(reporter)
    leases.on_wait(partial(reporter.send, "waiting"))
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(source, requests), daemon=True).start()
    while True:
        lease, (function, item) = requests.get()
        with leases.under(lease):
            answer = _call(function, item)
        reporter.send("answer", answer)


def _read_requests(source: BinaryIO, requests: queue.SimpleQueue[Any]) -> None:
    """Queue what the parent sends; end the process when the parent is gone."""
    try:
        path = pickle.load(source)  # noqa: S301 - from our own parent
        if path is not None:  # another interpreter keeps its own
            sys.path[:] = path
        first = True
        while True:
            lease = pickle.load(source)  # noqa: S301 - from our own parent
            refused: CandlemarkError | None = None
            with ExitStack() as stack:
                if first and lease is None:
                    # The first request imports what it names, which takes seconds of all cores.
                    try:
                        stack.enter_context(leases.loading())
                    except CandlemarkError as error:
                        refused = error
                request = pickle.load(source)  # noqa: S301 - from our own parent
            requests.put((lease, request if refused is None else (_refuse, refused)))
            first = refused is not None
    except EOFError:
        # What would live on, such as a command of the user's, is ended by whoever started it.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LAST_WORDS_S)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a request that cannot be read must be seen
        traceback.print_exc()
        os._exit(70)


def _refuse(error: CandlemarkError) -> None:
    raise error


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
