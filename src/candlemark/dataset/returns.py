"""What a forecaster of the next close learns: log returns, and the closes they start from.

    value = next_returns(dataset, rows)         # float64[N], NaN where there is none
    price = last_closes(dataset, rows) * np.exp(value)

The return is log(next close / last close): of the candle after the window against the close of
the window's last slot, as in the label `next_close`, whatever the dataset's own label is. Under
`irregular` the last slot may be hidden; labels read the true candles, and so do returns.

Splits are purged by what picture and label read. The next close is no part of that where the
label is one of recognition, and then the candle after the last training window is the first
that validation shows. Such a return is NaN: nobody learns from a candle that another split is
judged by. A random split shares its candles anyway, and says so; there nothing is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from candlemark.candles.series import FloatArray
from candlemark.dataset.lazy import Dataset, Rows, checked_rows
from candlemark.dataset.splits import SPLITS


def last_closes(dataset: Dataset, rows: Rows) -> FloatArray:
    """float64[N], the close of each window's last slot; NaN where that slot has no candle.

    Raises ConfigError: no such row.
    """
    part = dataset.index.take(checked_rows(rows, len(dataset)))
    closes = np.empty(len(part))
    last = part.start_slot + dataset.window - 1
    for number in np.unique(part.series).tolist():
        mine = part.series == number
        closes[mine] = dataset.series[number].slots.close[last[mine]]
    return closes


def next_returns(dataset: Dataset, rows: Rows) -> FloatArray:
    """float64[N], log(next close / last close) of each window.

    NaN where one of the two candles is missing or its close is not positive, and where the
    next candle is read by a window of another split.

    Raises ConfigError: no such row.
    """
    wanted = checked_rows(rows, len(dataset))
    following, last = dataset.index.next_close[wanted], last_closes(dataset, wanted)
    known = (following > 0) & (last > 0) & ~_is_read_elsewhere(dataset)[wanted]
    # The quotient first: equal closes give exactly 0.
    quotient = np.divide(following, last, out=np.full(len(wanted), np.nan), where=known)
    value: FloatArray = np.log(quotient)
    return value


def _is_read_elsewhere(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """bool[all rows], whether some window of another split reads the next candle, of any symbol."""
    index, config = dataset.index, dataset.config
    found = np.zeros(len(index), dtype=np.bool_)
    if config.split.leaky:
        return found
    history_ms = config.history * dataset.series[0].interval_ms
    first = np.minimum(index.window_start_ms - history_ms, index.reach_start_ms)
    end = np.maximum(index.window_end_ms, index.reach_end_ms)
    for code in range(len(SPLITS)):
        inside, outside = index.codes == code, index.codes != code
        time = index.window_end_ms[inside]
        begun = np.searchsorted(np.sort(first[outside]), time, side="right")
        over = np.searchsorted(np.sort(end[outside]), time, side="right")
        found[inside] = begun > over
    return found
