"""How a record becomes rows of the store, and rows become a record again.

    hanging = Hanging.read(connection, [("3f2a", 1)])      # all that hangs on these attempts
    hanging.measurements["3f2a", 1]

An attempt is one row of `trials`; its numbers, epochs, samples and predictions hang on it by
trial id and attempt number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ResultsError
from candlemark.records import Measurement, Predictions, RunRecord, Verdict

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Key = tuple[str, int]
"""Trial id and attempt number."""

_ASKED = "(trial_id, attempt) IN (SELECT (unnest($trials), unnest($attempts)))"


@dataclass(slots=True, eq=False)
class Hanging:
    """What hangs on the attempts asked for; an attempt without any is not in the mapping."""

    measurements: dict[Key, list[Measurement]] = field(default_factory=dict)
    history: dict[Key, list[dict[str, Any]]] = field(default_factory=dict)
    samples: dict[Key, dict[str, npt.NDArray[np.float64]]] = field(default_factory=dict)
    cases: dict[Key, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def read(
        cls, connection: duckdb.DuckDBPyConnection, keys: Sequence[Key], *, samples: bool = True
    ) -> Hanging:
        """Read numbers, epochs and, unless told otherwise, samples and cases.

        Raises duckdb.Error.
        """
        found = cls()
        for *key, name, value, unit, low, high, level, count, verdict, reason in _ask(
            connection,
            "name, value, unit, low, high, level, sample_count, verdict, reason FROM measurements",
            keys,
        ):
            found.measurements.setdefault(_key(key), []).append(
                Measurement(
                    name=name,
                    value=value,
                    unit=unit,
                    low=low,
                    high=high,
                    level=level,
                    sample_count=count,
                    verdict=Verdict(verdict),
                    reason=reason,
                )
            )
        for *key, epoch in _ask(connection, "epoch FROM histories", keys):
            found.history.setdefault(_key(key), []).append(json.loads(epoch))
        for *key, name, values in _ask(
            connection, "name, values FROM samples", keys if samples else ()
        ):
            array = np.asarray(values, np.float64)
            found.samples.setdefault(_key(key), {})[name] = array
        for *key, case in _ask(connection, "told FROM cases", keys if samples else ()):
            found.cases.setdefault(_key(key), []).append(json.loads(case))
        return found


def _ask(connection: duckdb.DuckDBPyConnection, what: str, keys: Sequence[Key]) -> list[Any]:
    """Rows of the attempts asked for, in the order in which they were appended."""
    if not keys:
        return []
    return list(
        connection.execute(
            f"SELECT trial_id, attempt, {what} WHERE {_ASKED} ORDER BY trial_id, attempt, position",
            {"trials": [trial for trial, _ in keys], "attempts": [number for _, number in keys]},
        ).fetchall()
    )


def _key(columns: Sequence[Any]) -> Key:
    trial_id, attempt = columns
    return str(trial_id), int(attempt)


def read_predictions(
    connection: duckdb.DuckDBPyConnection, key: Key, class_count: int
) -> Predictions:
    """The cases of one attempt: those of all at once would not fit beside large suites."""
    table = connection.sql(
        "SELECT series, window_start_ms, target, probability FROM predictions "
        "WHERE trial_id = ? AND attempt = ? ORDER BY position",
        params=list(key),
    ).to_arrow_table()
    flat = table.column("probability").combine_chunks().flatten().to_numpy()
    return Predictions(
        window_start_ms=table.column("window_start_ms").to_numpy().astype(np.int64),
        target=table.column("target").to_numpy().astype(np.int64),
        probability=flat.reshape(-1, class_count),
        series=tuple(table.column("series").to_pylist()),
    )


def prediction_table(record: RunRecord) -> pa.Table | None:
    """Cases as Arrow columns, without a copy of the probabilities.

    Raises ResultsError: the columns are not equally long.
    """
    import pyarrow as pa

    predictions = record.predictions
    if predictions is None:
        return None
    count, classes = predictions.probability.shape
    lengths = {len(predictions.window_start_ms), len(predictions.target), len(predictions.series)}
    if lengths != {count}:
        raise ResultsError(
            f"predictions of trial {record.trial_id} have {count} rows of probability but "
            f"{sorted(lengths)} of window_start_ms, target or series"
        )
    flat = pa.array(np.ascontiguousarray(predictions.probability, np.float64).ravel())
    offsets = np.arange(count + 1, dtype=np.int32) * classes
    return pa.table(
        {
            "position": np.arange(count, dtype=np.int32),
            "series": pa.array(predictions.series, pa.string()),
            "window_start_ms": np.asarray(predictions.window_start_ms, np.int64),
            "target": np.asarray(predictions.target, np.int64),
            "probability": pa.ListArray.from_arrays(offsets, flat),
        }
    )


def sample_table(record: RunRecord) -> pa.Table | None:
    """Samples as Arrow columns, one row a name; what is not finite becomes NaN.

    Raises ResultsError: samples are no row of numbers.
    """
    import pyarrow as pa

    if not record.samples:
        return None
    arrays: list[npt.NDArray[np.float64]] = []
    for name, values in record.samples.items():
        array = np.asarray(values)
        if array.ndim != 1 or array.dtype.kind not in "fiu":
            raise ResultsError(
                f"samples '{name}' of trial {record.trial_id} have shape {array.shape} and type "
                f"{array.dtype}; they must be one row of numbers"
            )
        array = array.astype(np.float64)
        arrays.append(np.where(np.isfinite(array), array, np.nan))
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    values = pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(arrays), from_pandas=False))
    return pa.table(
        {
            "position": np.arange(len(arrays), dtype=np.int32),
            "name": pa.array(list(record.samples), pa.string()),
            "values": values,
        }
    )


def measurement_rows(record: RunRecord, attempt: int) -> list[list[Any]]:
    """One row a number, in the order of the record."""
    return [
        [
            *(record.trial_id, attempt, place, m.name, m.value, m.unit, m.low, m.high),
            *(m.level, m.sample_count, str(m.verdict), finite(m.reason)),
        ]
        for place, m in enumerate(record.measurements)
    ]


def history_rows(record: RunRecord, attempt: int) -> list[list[Any]]:
    """One row an epoch, in the order of the record."""
    return [
        [
            record.trial_id,
            attempt,
            place,
            strict_json(finite(epoch), f"epoch {place} of {record.trial_id}"),
        ]
        for place, epoch in enumerate(record.history)
    ]


def case_rows(record: RunRecord, attempt: int) -> list[list[Any]]:
    """One row a case, in the order of the record."""
    return [
        [
            record.trial_id,
            attempt,
            place,
            strict_json(finite(case), f"case {place} of {record.trial_id}"),
        ]
        for place, case in enumerate(record.cases)
    ]


def finite(value: Any) -> Any:
    """The same value with NaN and infinity as None, and half a letter as "?".

    Bytes of a file's name that are no text reach Python as lone surrogates, and stand in the
    errors of anyone's code; no store and no file takes them.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def strict_json(value: Any, what: str) -> str:
    """Compact JSON text; ResultsError, which begins with `what`, if the value is none."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{what} is no JSON: {error}") from error


def grouped(values: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Second entries by first, in their order."""
    found: dict[str, list[str]] = {}
    for first, second in values:
        found.setdefault(first, []).append(second)
    return found
