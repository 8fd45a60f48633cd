"""Pictures divided among threads: Python's own, as the kernels release the interpreter lock.

Numba's parallel layers may not be entered from several threads at once, and compete with
torch for the cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from candlemark.errors import ChartError

BYTES_A_THREAD = 8 * 1024 * 1024
"""Below this many bytes of pictures a further thread costs more than it saves."""


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    work: Callable[[slice], None], count: int, size: int, threads: int | None = None
) -> None:
    """Call `work` with slices that together cover `count` pictures of `size` bytes in all.

    threads: None takes one for each 8 MiB, at most one a core; ChartError below 1
    """
    if threads is not None and threads < 1:
        raise ChartError(f"threads is {threads}; it must be at least 1, or None to choose")
    chosen = threads or max(1, min(core_count(), size // BYTES_A_THREAD))
    workers = max(1, min(chosen, count))
    if workers == 1:
        work(slice(0, count))
        return
    edges = [count * part // workers for part in range(workers + 1)]
    with ThreadPoolExecutor(workers - 1, thread_name_prefix="candlemark-draw") as pool:
        first, *others = (slice(begin, end) for begin, end in pairwise(edges))
        waiting = [pool.submit(work, part) for part in others]
        work(first)
        for each in waiting:
            each.result()
