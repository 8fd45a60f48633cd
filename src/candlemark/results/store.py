"""The results store: one DuckDB file that holds every trial, failures included.

    with open_results("benchmarks/results") as results:
        results.append(record, suite_id)     # on disk when it returns
        results.finished_ids()               # what a resumed suite skips
        results.records()                    # RunRecords, equal to what was appended
        results.sql("SELECT row_name, value, low, high FROM scores WHERE name = 'auroc'")

`append` is one transaction, written through to disk before it returns: a process killed the
moment after loses nothing. One process may write at a time; DuckDB lets no second process
read meanwhile, and the error then names the process that holds the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import duckdb
import numpy as np

from candlemark.errors import ResultsError
from candlemark.records import (
    Measurement,
    Predictions,
    RunRecord,
    Status,
    Verdict,
    canonical_json,
    content_id,
)
from candlemark.results.opening import bring_up_to_date, connect, readable_errors, store_path

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A stored suite: the config it was started with and the trials it is made of."""

    suite_id: str
    started_at: str
    config: Mapping[str, Any]
    trial_ids: tuple[str, ...] = ()


def open_results(path: str | Path = "benchmarks/results", *, read_only: bool = False) -> Results:
    """Open a store; one that is not there is made, unless `read_only`.

    path: a `.duckdb` file or the folder that holds `candlemark.duckdb`.

    Raises ResultsError: there is none to read, another process holds it, it is damaged, is
    no candlemark store, or is from another version.
    """
    file = store_path(path)
    if read_only and not file.is_file():
        raise ResultsError(f"no results at {file}; run a benchmark first: candlemark bench")
    connection = connect(file, read_only=read_only)
    try:
        with readable_errors(file):
            bring_up_to_date(connection, file, read_only=read_only)
    except BaseException:
        connection.close()
        raise
    return Results(file, connection)


class Results:
    """An open store. Close it, or use it in a `with` block."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; other processes may open it then."""
        self._connection.close()

    def add_suite(
        self,
        suite_id: str,
        config: Mapping[str, Any],
        started_at: str,
        *,
        trial_ids: Iterable[str] = (),
    ) -> None:
        """Note a suite and the trials it is made of, before the first of them runs.

        A suite that is already there keeps its start and config and gets the new plan. Trials
        that another suite has finished count for this one as soon as they stand in its plan.
        """
        with self._transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO suites VALUES (?, ?, ?)",
                [suite_id, started_at, canonical_json(dict(config))],
            )
            rows = [
                [suite_id, place, trial] for place, trial in enumerate(dict.fromkeys(trial_ids))
            ]
            if rows:
                self._connection.execute("DELETE FROM plans WHERE suite_id = ?", [suite_id])
                self._connection.executemany("INSERT INTO plans VALUES (?, ?, ?)", rows)

    def append(self, record: RunRecord, suite_id: str) -> None:
        """Store a record; it is on disk when this returns.

        A trial that is already there gets one more attempt. A number that is NaN or infinite
        in the history, facts or environment is stored as null: a diverged loss is unknown.

        Raises ResultsError: the record does not fit the store, or the disk is full.
        """
        arrow_rows = _prediction_table(record)
        with self._transaction():
            attempt = self._next("attempt", "trials WHERE trial_id = ?", [record.trial_id])
            self._connection.execute(
                "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    record.trial_id,
                    attempt,
                    suite_id,
                    self._next("appended", "trials", []),
                    str(record.status),
                    record.reason,
                    record.started_at,
                    record.duration_s,
                    _strict_json(record.trial, f"trial {record.trial_id}"),
                    _strict_json(_finite(record.facts), f"facts of {record.trial_id}"),
                    self._environment_id(record),
                    record.predictions.probability.shape[1] if record.predictions else None,
                ],
            )
            self._insert_numbers(record, attempt)
            if arrow_rows is not None:
                self._insert_predictions(arrow_rows, record.trial_id, attempt)

    def finished_ids(self, include_failed: bool = False) -> frozenset[str]:
        """Trials that ended well; with `include_failed`, every trial that ended."""
        condition = "" if include_failed else "WHERE status = 'ok'"
        rows = self._fetch(f"SELECT DISTINCT trial_id FROM current_trials {condition}")  # noqa: S608 - two constants
        return frozenset(str(trial_id) for (trial_id,) in rows)

    def records(
        self, suite_id: str | None = None, trial_ids: Iterable[str] | None = None
    ) -> list[RunRecord]:
        """Records of all trials, of one suite, or of the trials named, each once.

        In the order of the suite's plan, then of appending. A trial run several times gives
        its newest attempt that ended well, else its newest.

        Raises ResultsError: the suite is unknown.
        """
        if suite_id is not None and suite_id not in {s.suite_id for s in self.suites()}:
            raise ResultsError(
                f"no suite '{suite_id}' in {self.path}; see: candlemark results list"
            )
        wanted = None if trial_ids is None else set(trial_ids)
        rows = self._fetch(
            """
            SELECT t.trial_id, t.attempt, t.status, t.reason, t.started_at, t.duration_s,
                   t.trial, t.facts, e.snapshot, t.class_count
            FROM current_trials t
            JOIN environments e USING (environment_id)
            LEFT JOIN plans p ON p.trial_id = t.trial_id AND p.suite_id = $suite
            WHERE $suite IS NULL OR t.suite_id = $suite OR p.trial_id IS NOT NULL
            ORDER BY p.position NULLS LAST, t.appended
            """,
            {"suite": suite_id},
        )
        chosen = [row for row in rows if wanted is None or row[0] in wanted]
        keys = [(row[0], row[1]) for row in chosen]
        measurements = self._measurements(keys)
        histories = self._histories(keys)
        predictions = self._predictions([k for k, row in zip(keys, chosen, strict=True) if row[9]])
        return [
            RunRecord(
                trial_id=row[0],
                trial=json.loads(row[6]),
                status=Status(row[2]),
                reason=row[3],
                started_at=row[4],
                duration_s=row[5],
                measurements=tuple(measurements.get(key, ())),
                predictions=_with_classes(predictions.get(key), row[9]),
                history=tuple(histories.get(key, ())),
                facts=json.loads(row[7]),
                environment=json.loads(row[8]),
            )
            for key, row in zip(keys, chosen, strict=True)
        ]

    def suites(self) -> list[Suite]:
        """Every suite, the oldest first."""
        plans: dict[str, list[str]] = {}
        for suite_id, trial_id in self._fetch(
            "SELECT suite_id, trial_id FROM plans ORDER BY suite_id, position"
        ):
            plans.setdefault(suite_id, []).append(trial_id)
        rows = self._fetch(
            "SELECT suite_id, started_at, config FROM suites ORDER BY started_at, suite_id"
        )
        return [
            Suite(
                suite_id=suite_id,
                started_at=started_at,
                config=json.loads(config),
                trial_ids=tuple(plans.get(suite_id, ())),
            )
            for suite_id, started_at, config in rows
        ]

    def sql(self, query: str) -> pa.Table:
        """The answer to a query as an Arrow table.

        Raises ResultsError: the query is wrong.
        """
        try:
            relation = self._connection.sql(query)
        except duckdb.Error as error:
            detail = " ".join(str(error).split())
            raise ResultsError(f"the query failed: {detail}") from error
        if relation is None:
            raise ResultsError("the query gives no rows; ask with SELECT")
        return relation.to_arrow_table()

    def _fetch(self, query: str, parameters: Any = None) -> list[Any]:
        with readable_errors(self.path):
            return list(self._connection.execute(query, parameters).fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with readable_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _next(self, column: str, source: str, parameters: list[str]) -> int:
        query = f"SELECT coalesce(max({column}), 0) + 1 FROM {source}"  # noqa: S608 - constants
        ((number,),) = self._connection.execute(query, parameters).fetchall()
        return int(number)

    def _environment_id(self, record: RunRecord) -> str:
        snapshot = _finite(record.environment)
        environment_id = content_id(snapshot)
        self._connection.execute(
            "INSERT OR IGNORE INTO environments VALUES (?, ?, ?)",
            [environment_id, snapshot.get("comparability_key"), canonical_json(snapshot)],
        )
        return environment_id

    def _insert_numbers(self, record: RunRecord, attempt: int) -> None:
        numbers = [
            [
                *(record.trial_id, attempt, place, m.name, m.value, m.unit, m.low, m.high),
                *(m.level, m.sample_count, str(m.verdict), m.reason),
            ]
            for place, m in enumerate(record.measurements)
        ]
        epochs = [
            [
                record.trial_id,
                attempt,
                place,
                _strict_json(_finite(epoch), f"epoch {place} of {record.trial_id}"),
            ]
            for place, epoch in enumerate(record.history)
        ]
        if numbers:
            self._connection.executemany(
                "INSERT INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", numbers
            )
        if epochs:
            self._connection.executemany("INSERT INTO histories VALUES (?, ?, ?, ?)", epochs)

    def _insert_predictions(self, table: pa.Table, trial_id: str, attempt: int) -> None:
        self._connection.register("incoming_predictions", table)
        try:
            self._connection.execute(
                "INSERT INTO predictions SELECT ?, ?, position, series, window_start_ms, target, "
                "probability FROM incoming_predictions",
                [trial_id, attempt],
            )
        finally:
            self._connection.unregister("incoming_predictions")

    def _measurements(self, keys: Sequence[tuple[str, int]]) -> dict[Any, list[Measurement]]:
        rows = self._fetch(
            "SELECT trial_id, attempt, name, value, unit, low, high, level, sample_count, "
            "verdict, reason FROM measurements ORDER BY trial_id, attempt, position"
        )
        wanted = set(keys)
        found: dict[Any, list[Measurement]] = {}
        for trial_id, attempt, name, value, unit, low, high, level, count, verdict, reason in rows:
            if (trial_id, attempt) in wanted:
                found.setdefault((trial_id, attempt), []).append(
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
        return found

    def _histories(self, keys: Sequence[tuple[str, int]]) -> dict[Any, list[dict[str, Any]]]:
        wanted = set(keys)
        found: dict[Any, list[dict[str, Any]]] = {}
        for trial_id, attempt, epoch in self._fetch(
            "SELECT trial_id, attempt, epoch FROM histories ORDER BY trial_id, attempt, position"
        ):
            if (trial_id, attempt) in wanted:
                found.setdefault((trial_id, attempt), []).append(json.loads(epoch))
        return found

    def _predictions(self, keys: Sequence[tuple[str, int]]) -> dict[Any, Predictions]:
        """One query a trial: a table of all cases at once would not fit beside large suites."""
        found = {}
        for trial_id, attempt in keys:
            with readable_errors(self.path):
                table = self._connection.sql(
                    "SELECT series, window_start_ms, target, probability FROM predictions "
                    "WHERE trial_id = ? AND attempt = ? ORDER BY position",
                    params=[trial_id, attempt],
                ).to_arrow_table()
            found[trial_id, attempt] = Predictions(
                window_start_ms=table.column("window_start_ms").to_numpy().astype(np.int64),
                target=table.column("target").to_numpy().astype(np.int64),
                probability=table.column("probability").combine_chunks().flatten().to_numpy(),
                series=tuple(table.column("series").to_pylist()),
            )
        return found


def _with_classes(flat: Predictions | None, class_count: int | None) -> Predictions | None:
    """The predictions with the probabilities, stored flat, as [N, C] again."""
    if flat is None or class_count is None:
        return None
    return Predictions(
        window_start_ms=flat.window_start_ms,
        target=flat.target,
        probability=flat.probability.reshape(-1, class_count),
        series=flat.series,
    )


def _prediction_table(record: RunRecord) -> pa.Table | None:
    """Cases as Arrow columns, without a copy of the probabilities."""
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


def _finite(value: Any) -> Any:
    """The same value with NaN and infinity as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _strict_json(value: Any, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{what} is no JSON: {error}") from error
