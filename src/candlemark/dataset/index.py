"""The index: one row a window, and the spans that its picture and its label read.

`index.parquet` is sorted by time, then by symbol, and holds for each window:

    symbol           the series it comes from
    start_slot       its first slot, counted from the series' first candle
    window_start_ms  UTC open time of that slot
    window_end_ms    UTC end of its last visible slot (exclusive)
    reach_start_ms   UTC open time of the first slot that the label reads
    reach_end_ms     UTC end of the last slot that the label reads (exclusive)
    split            train, validation or test
    label, target    class name and class index
    value            the number behind the class (a return), null where there is none
    next_close       close of the candle after the window, null where there is none

How the columns are kept small is the business of `columns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from candlemark.candles.series import FloatArray, IntArray
from candlemark.dataset.columns import compact, floats, write_columns
from candlemark.dataset.labels import Reach
from candlemark.dataset.splits import SPLITS, Codes
from candlemark.errors import DatasetError

FILE = "index.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Slots that one window reads, relative to its first: picture, averages and label.

    first: first slot read (0 or below), last: last slot read
    """

    first: int
    last: int

    @classmethod
    def of(cls, *, window: int, history: int, reach: Reach) -> Span:
        """The span of a window of `window` slots with `history` slots of averages before it."""
        return cls(first=min(0, -history, reach.first), last=max(window - 1, reach.last))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Index:
    """Columns of the index, N rows in time order.

    series: int64[N], position of the symbol in the dataset's list of symbols
    codes: int8[N], split (see SPLITS)
    """

    series: IntArray
    start_slot: IntArray
    window_start_ms: IntArray
    window_end_ms: IntArray
    reach_start_ms: IntArray
    reach_end_ms: IntArray
    codes: Codes
    target: IntArray
    value: FloatArray
    next_close: FloatArray

    def __len__(self) -> int:
        return len(self.series)

    def take(self, rows: npt.NDArray[Any] | slice) -> Index:
        """The rows asked for, by number, by mask or as a slice."""
        return Index(**{name: getattr(self, name)[rows] for name in Index.__slots__})

    def columns(self) -> list[npt.NDArray[Any]]:
        """All columns in order, for hashing."""
        return [np.ascontiguousarray(getattr(self, name)) for name in Index.__slots__]


NUMBERS = (
    "start_slot",
    "window_start_ms",
    "window_end_ms",
    "reach_start_ms",
    "reach_end_ms",
    "target",
)
REALS = ("value", "next_close")


def write_index(
    index: Index, path: Path, *, symbols: Sequence[str], class_names: Sequence[str]
) -> None:
    """Write the index as Parquet."""
    columns: dict[str, pa.Array] = {"symbol": _names(index.series, symbols)}
    columns |= {name: pa.array(getattr(index, name)) for name in NUMBERS[:-1]}
    columns["split"] = _names(index.codes, SPLITS)
    columns["label"] = _names(index.target, class_names)
    columns["target"] = pa.array(index.target)
    columns |= {name: compact(getattr(index, name)) for name in REALS}
    write_columns(columns, path)


def read_index(path: Path, *, symbols: Sequence[str]) -> Index:
    """Read what `write_index` wrote; DatasetError if the file is no index."""
    try:
        table = pq.read_table(path)
        columns: dict[str, Any] = {
            "series": name_codes(table.column("symbol"), symbols),
            "codes": name_codes(table.column("split"), SPLITS).astype(np.int8),
        }
        for name in NUMBERS:
            columns[name] = table.column(name).to_numpy().astype(np.int64)
        for name in REALS:
            columns[name] = floats(table.column(name))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{path} is damaged ({reason}); delete its folder and build the dataset again"
        ) from error
    return Index(**columns)


def _names(codes: npt.NDArray[Any], names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(list(names)))


def name_codes(column: pa.ChunkedArray, names: Sequence[str]) -> IntArray:
    """Positions of the strings of `column` in `names`; ValueError for an unknown one."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    found: list[IntArray] = [np.empty(0, dtype=np.int64)]
    for chunk in column.chunks:
        known = chunk.dictionary.to_pylist()
        unknown = [name for name in known if name not in names]
        if unknown:
            raise ValueError(f"unknown name '{unknown[0]}'")
        positions = np.array([names.index(name) for name in known], dtype=np.int64)
        found.append(positions[chunk.indices.to_numpy()])
    return np.concatenate(found)
