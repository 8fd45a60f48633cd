"""Moving averages of closes, over true time and over what a window may see.

    moving_average(series.slots.close, 20)      # float64[S], NaN in slots without a candle

The average at a slot is the arithmetic mean of the closes of the candles among the last
`length` slots, that slot included: missing slots neither count nor weigh. Near the start of
a series, where fewer candles exist, it is the mean of those. It is NaN where the slot itself
has no candle, so a line through it breaks at gaps. Sums run from the oldest candle to the
newest, which makes them the same to the bit wherever they are computed; there is no running
sum, because what is subtracted after a far larger price leaves its rounding behind.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from candlemark.errors import ChartError

FloatArray = npt.NDArray[np.float64]


def moving_average(close: FloatArray, length: int) -> FloatArray:
    """float64[S], the mean of the last `length` slots at each slot of `close` (NaN: missing).

    Raises ChartError for a length below 1.
    """
    if length < 1:
        raise ChartError(f"a moving average of {length} slots; it must be at least 1")
    visible = read_only(np.empty((0, 0), dtype=np.bool_))
    means = np.empty((1, 1, len(close)))
    window_averages(
        read_only(close), read_only(np.zeros(1, np.int64)), visible, np.array([length]), means
    )
    averages: FloatArray = means[0, 0]
    return averages


def read_only(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """A read-only view.

    Compiled code is bound to whether its input may be written. A series is read-only and
    hand-made slots are not; passing both as read-only spares a second compilation.
    """
    view = array.view()
    view.flags.writeable = False
    return view


@njit(cache=True, nogil=True, error_model="numpy")
def window_averages(
    close: FloatArray,
    starts: npt.NDArray[np.int64],
    visible: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    means: FloatArray,
) -> None:
    """Write the averages of N windows to `means`, float64[N, K, window].

    close: float64[S]; starts: int64[N]; lengths: int64[K]; visible: bool[N, window], or
    bool[0, 0] for all. Candles before a window count wherever they exist; candles inside
    one count only where they are visible, so that no line betrays a hidden candle.
    """
    window = means.shape[2]
    history = 0
    for k in range(lengths.size):
        history = max(history, lengths[k] - 1)
    value = np.empty(history + window)
    exists = np.empty(history + window)
    total = np.empty(window)
    seen = np.empty(window)
    masked = visible.shape[0] > 0
    for n in range(starts.size):
        first = starts[n] - history
        peak = 0.0
        for i in range(history + window):
            slot = first + i
            price = close[slot] if slot >= 0 else np.nan
            if np.isnan(price) or (masked and i >= history and not visible[n, i - history]):
                value[i] = 0.0
                exists[i] = 0.0
            else:
                value[i] = price
                exists[i] = 1.0
                peak = max(peak, abs(price))
        # Sums of the largest prices would overflow; a power of two takes them down exactly.
        scale = 2.0**-64 if peak > 2.0**960 else 1.0
        if scale != 1.0:
            for i in range(history + window):
                value[i] *= scale
        for k in range(lengths.size):
            offset = history - (lengths[k] - 1)
            total[:] = 0.0
            seen[:] = 0.0
            # Lags outside, slots inside: the compiler adds several slots at once, and each
            # slot's own sum still runs from oldest to newest.
            for lag in range(offset, offset + lengths[k]):
                for i in range(window):
                    total[i] += value[lag + i]
                    seen[i] += exists[lag + i]
            for i in range(window):
                means[n, k, i] = total[i] / seen[i] / scale if exists[history + i] > 0.0 else np.nan
