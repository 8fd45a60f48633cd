"""Which windows of a series are drawn: start, stride and count, in slots.

    window_starts(slot_count=100, window=30, stride=5)      # 0, 5, 10, ..., 70

A window that starts at slot s covers the slots s .. s + window - 1, all of which must lie
inside the series. Whether they hold candles is no matter here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from candlemark.errors import ChartError


def window_starts(
    slot_count: int, window: int, *, stride: int = 1, start: int = 0, count: int | None = None
) -> npt.NDArray[np.int64]:
    """int64[N], the first slot of each window: start, start + stride, ...

    `count` None takes every window that fits, and there must be one; `count` 0 gives none.
    Raises ChartError for a window, stride, start or count that the series cannot give.
    """
    if window < 1:
        raise ChartError(f"window is {window} slots; it must be at least 1")
    if stride < 1:
        raise ChartError(f"stride is {stride} slots; it must be at least 1")
    if count is not None and count < 0:
        raise ChartError(f"count is {count} windows; it must be 0 or more, or None for all")
    last = slot_count - window
    if last < 0:
        raise ChartError(
            f"window is {window} slots but the series has {slot_count}; "
            f"take a window of at most {slot_count} or load more candles"
        )
    if not 0 <= start <= last:
        raise ChartError(
            f"start is slot {start}; windows of {window} in {slot_count} slots start at 0 to {last}"
        )
    fitting = (last - start) // stride + 1
    if count is not None and count > fitting:
        raise ChartError(
            f"count is {count} windows; from slot {start} with stride {stride} only {fitting} fit"
        )
    number = fitting if count is None else count
    return np.arange(number, dtype=np.int64) * stride + start


def checked_starts(starts: npt.ArrayLike, slot_count: int, window: int) -> npt.NDArray[np.int64]:
    """`starts` as int64[N]; ChartError unless every window lies inside the series."""
    array = np.asarray(starts)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ChartError(
            f"starts is {array.dtype} of shape {array.shape}; it must be whole slot numbers, (N,)"
        )
    outside = (array < 0) | (array > slot_count - window)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ChartError(
            f"starts[{row}] is slot {array[row]}; windows of {window} in {slot_count} slots "
            f"start at 0 to {slot_count - window}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def checked_visible(
    visible: npt.NDArray[np.bool_] | None, window_count: int, window: int
) -> npt.NDArray[np.bool_]:
    """`visible` as bool[N, window], or bool[0, 0] for None; ChartError for another shape."""
    if visible is None:
        return np.empty((0, 0), dtype=np.bool_)
    array = np.asarray(visible)
    if array.dtype != np.bool_ or array.shape != (window_count, window):
        raise ChartError(
            f"visible is {array.dtype} of shape {array.shape}; "
            f"it must be bool of shape ({window_count}, {window})"
        )
    return np.ascontiguousarray(array)
