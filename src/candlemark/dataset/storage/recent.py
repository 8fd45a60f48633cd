"""What readers of compressed pieces share: rows by piece, and the pieces decoded last."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

CACHE_BYTES = 64 << 20
"""Decoded pieces kept, so that neighbouring rows do not decode a piece once each."""


class Recent:
    """The arrays used last, up to some bytes or just one; travels empty to other processes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._forget()

    def __reduce__(self) -> tuple[type[Recent], tuple[int]]:
        return Recent, (self._limit,)

    def _forget(self) -> None:
        self._held: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def get(self, key: int, make: Callable[[int], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The array of `key`, made if it is not held. Two threads may both make it."""
        if self._owner != os.getpid():  # forked, maybe while another thread held the lock
            self._forget()
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = make(key)
        with self._lock:
            if key not in self._held:
                self._held[key] = made
                self._bytes += made.nbytes
            # The last one is held however large: rows in order ask for it again and again.
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return made


def groups(keys: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each key with the positions where it stands, in rising order of keys."""
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for first, last in pairwise([*edges.tolist(), len(keys)]):
        yield int(keys[order[first]]), order[first:last]
