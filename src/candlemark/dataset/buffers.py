"""Memory for pictures that is used again once nobody looks into it.

    buffers = Buffers(keep=4)
    array = buffers.take((256, 64, 60))      # uint8, filled with whatever was there before
    tensor = torch.from_numpy(array)

Fresh memory costs as much as drawing into it, because the system hands it out zeroed, page by
page: large pictures came out half as fast. So each array is a view made for one taker, and when
it dies, which is when the last tensor made from it has died, its memory is free for the next.
A taker who keeps it keeps it; then others get new memory.

Views that NumPy makes of the array do not keep it alive, they refer to the memory below it: hand
out tensors, and let nobody but them hold the array.
"""

from __future__ import annotations

import weakref
from collections import deque
from math import prod

import numpy as np

from candlemark.dataset.storage.base import Images


class Buffers:
    """Buffers that are lent, each to one taker at a time.

    keep: free buffers kept at most
    """

    def __init__(self, keep: int) -> None:
        self._free: deque[Images] = deque(maxlen=keep)

    def __reduce__(self) -> tuple[type[Buffers], tuple[int]]:
        return Buffers, (self._free.maxlen or 0,)

    def take(self, shape: tuple[int, ...]) -> Images:
        """A uint8 array of `shape` that nobody else looks into. Any thread may ask."""
        size = prod(shape)
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(size, dtype=np.uint8)
        if len(buffer) < size:
            buffer = np.empty(size, dtype=np.uint8)
        view = buffer[:size].reshape(shape)
        weakref.finalize(view, self._free.append, buffer).atexit = False
        return view
