"""Work on one pair of masks divided among threads: the kernels release the interpreter lock.

Numba's own parallel layers may not be entered from several threads at once, and compete with
torch for the cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import TypeVar

from candlemark.errors import ConfigError

Work = TypeVar("Work")
Found = TypeVar("Found")


class Threads:
    """A few threads that live as long as the `with` block.

    count: None takes one a core of this process; ConfigError below 1
    """

    def __init__(self, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise ConfigError(f"threads is {count}; it must be at least 1, or None to choose")
        self.count = count or _core_count()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def parts(self, count: int, least: int) -> list[slice]:
        """Slices that cover `count` things, one a thread, none much smaller than `least`."""
        parts = max(1, min(self.count, count // least))
        return [slice(*ends) for ends in pairwise(count * k // parts for k in range(parts + 1))]

    def each(
        self, work: Callable[[Work], Found], pieces: Sequence[Work], *, alone: bool = False
    ) -> list[Found]:
        """`work` of every piece, in their order; the first error is raised.

        alone: all of it is too little to be worth a thread
        """
        if alone or self.count == 1 or len(pieces) == 1:
            return [work(piece) for piece in pieces]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="candlemark-masks")
        return list(self._pool.map(work, pieces))


def _core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
