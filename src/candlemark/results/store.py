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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import duckdb

from candlemark.errors import ResultsError
from candlemark.records import RunRecord, Status, canonical_json, content_id
from candlemark.results.opening import bring_up_to_date, connect, readable_errors, store_path
from candlemark.results.rows import (
    Hanging,
    case_rows,
    finite,
    grouped,
    history_rows,
    measurement_rows,
    prediction_table,
    read_predictions,
    sample_table,
    strict_json,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A stored suite: the config it was started with and the trials it is made of."""

    suite_id: str
    started_at: str
    config: Mapping[str, Any]
    trial_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was measured in one go, under a name: how many attempts ended well, how many not.

    started_at: when the first of its trials began
    """

    name: str
    started_at: str
    finished: int
    failed: int
    suite_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt:
    """One record and its place in the store.

    number: 1 for the first attempt at its trial
    run: None for records stored without one, as all were before stores had runs
    suite_id: the suite that it was appended for
    """

    number: int
    run: str | None
    suite_id: str
    record: RunRecord


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
        self._together = False

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

    def append(self, record: RunRecord, suite_id: str, *, run: str | None = None) -> None:
        """Store a record; it is on disk when this returns.

        A trial that is already there gets one more attempt. A number that is NaN or infinite
        in the history, facts or environment is stored as null, and in samples as NaN: a
        diverged loss is unknown.

        run: the name under which all that is measured in one go can be found again

        Raises ResultsError: the record does not fit the store, or the disk is full.
        """
        with self._transaction():
            self._append(record, suite_id, run)

    def _append(self, record: RunRecord, suite_id: str, run: str | None) -> None:
        attempt = self._next("attempt", "trials WHERE trial_id = ?", [record.trial_id])
        self._connection.execute(
            "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                record.trial_id,
                attempt,
                suite_id,
                self._next("appended", "trials", []),
                str(record.status),
                finite(record.reason),
                record.started_at,
                record.duration_s,
                strict_json(record.trial, f"trial {record.trial_id}"),
                strict_json(finite(record.facts), f"facts of {record.trial_id}"),
                self._environment_id(record),
                record.predictions.probability.shape[1] if record.predictions else None,
                run,
            ],
        )
        self._insert_numbers(record, attempt)
        key = (record.trial_id, attempt)
        self._insert_table("samples", sample_table(record), key)
        self._insert_table("predictions", prediction_table(record), key)

    def finished_ids(self, include_failed: bool = False) -> frozenset[str]:
        """Trials that ended well here; with `include_failed`, every trial that ended here.

        What was imported does not count: it was measured on another machine.
        """
        rows = self._fetch(
            "SELECT DISTINCT trial_id FROM current_trials "
            "WHERE (facts->>'imported_from') IS NULL AND ($failed OR status = 'ok')",
            {"failed": include_failed},
        )
        return frozenset(str(trial_id) for (trial_id,) in rows)

    def records(
        self, suite_id: str | None = None, trial_ids: Iterable[str] | None = None
    ) -> list[RunRecord]:
        """Records of all trials, of one suite, or of the trials named, each once.

        In the order of the suite's plan, then of appending. A trial run several times gives
        its newest attempt that ended well, else its newest; one made here goes before one
        that was imported.

        Raises ResultsError: the suite is unknown.
        """
        return [attempt.record for attempt in self.current(suite_id, trial_ids)]

    def current(
        self, suite_id: str | None = None, trial_ids: Iterable[str] | None = None
    ) -> list[Attempt]:
        """As `records`, with the number and the run of each attempt."""
        if suite_id is not None and suite_id not in {s.suite_id for s in self.suites()}:
            raise ResultsError(
                f"no suite '{suite_id}' in {self.path}; see: candlemark results list"
            )
        wanted = None if trial_ids is None else list(trial_ids)
        return self._attempts(
            """
            FROM current_trials t
            LEFT JOIN plans p ON p.trial_id = t.trial_id AND p.suite_id = $suite
            WHERE ($suite IS NULL OR t.suite_id = $suite OR p.trial_id IS NOT NULL)
              AND ($wanted IS NULL OR t.trial_id IN (SELECT unnest($wanted)))
            ORDER BY p.position NULLS LAST, t.appended
            """,
            {"suite": suite_id, "wanted": wanted},
        )

    def attempts(self, trial_id: str | None = None, *, bulk: bool = True) -> list[Attempt]:
        """Every attempt at one trial, or at all of them, in the order of appending.

        bulk: False leaves out samples and predictions, which are most of a store

        Raises ResultsError: the trial is unknown.
        """
        found = self._attempts(
            "FROM trials t WHERE $trial IS NULL OR t.trial_id = $trial ORDER BY t.appended",
            {"trial": trial_id},
            bulk=bulk,
        )
        if trial_id is not None and not found:
            raise ResultsError(
                f"no trial '{trial_id}' in {self.path}; see: candlemark results history"
            )
        return found

    def runs(self) -> list[Run]:
        """Every named run, the one with the oldest first record first."""
        rows = self._fetch(
            """
            SELECT run, min(started_at), count(*) FILTER (status = 'ok'),
                   count(*) FILTER (status <> 'ok'), list(DISTINCT suite_id ORDER BY suite_id)
            FROM trials WHERE run IS NOT NULL GROUP BY run ORDER BY min(appended)
            """
        )
        return [
            Run(name=name, started_at=start, finished=ok, failed=failed, suite_ids=tuple(suites))
            for name, start, ok, failed, suites in rows
        ]

    def run_records(self, run: str) -> list[RunRecord]:
        """Records of one run, each trial once, in the order of appending.

        A trial that the run holds several times gives its newest attempt that ended well,
        else its newest.

        Raises ResultsError: no record is of that run.
        """
        return [attempt.record for attempt in self.run_attempts(run)]

    def run_attempts(self, run: str) -> list[Attempt]:
        """As `run_records`, with the number of each attempt."""
        found = self._attempts(
            """
            FROM trials t WHERE t.run = $run
            QUALIFY row_number() OVER (
                PARTITION BY t.trial_id ORDER BY t.status = 'ok' DESC, t.attempt DESC
            ) = 1
            ORDER BY t.appended
            """,
            {"run": run},
        )
        if not found:
            known = ", ".join(one.name for one in self.runs()[-5:]) or "none yet"
            raise ResultsError(f"no run '{run}' in {self.path}; newest: {known}")
        return found

    def _attempts(
        self, query: str, parameters: Mapping[str, Any], *, bulk: bool = True
    ) -> list[Attempt]:
        """Attempts that a query over `trials t` finds, in its order."""
        rows = self._fetch(
            "SELECT t.trial_id, t.attempt, t.status, t.reason, t.started_at, t.duration_s, "  # noqa: S608 - constants
            "t.trial, t.facts, t.class_count, t.run, t.suite_id, "
            "(SELECT snapshot FROM environments e WHERE e.environment_id = t.environment_id) "
            + query,
            parameters,
        )
        keys = [(str(row[0]), int(row[1])) for row in rows]
        with readable_errors(self.path):
            hanging = Hanging.read(self._connection, keys, samples=bulk)
            predictions = {
                key: read_predictions(self._connection, key, row[8])
                for key, row in zip(keys, rows, strict=True)
                if bulk and row[8] is not None
            }
        return [
            Attempt(
                number=key[1],
                run=row[9],
                suite_id=row[10],
                record=RunRecord(
                    trial_id=row[0],
                    trial=json.loads(row[6]),
                    status=Status(row[2]),
                    reason=row[3],
                    started_at=row[4],
                    duration_s=row[5],
                    measurements=tuple(hanging.measurements.get(key, ())),
                    predictions=predictions.get(key),
                    history=tuple(hanging.history.get(key, ())),
                    samples=hanging.samples.get(key, {}),
                    cases=tuple(hanging.cases.get(key, ())),
                    facts=json.loads(row[7]),
                    environment=json.loads(row[11]),
                ),
            )
            for key, row in zip(keys, rows, strict=True)
        ]

    def suites(self) -> list[Suite]:
        """Every suite, the oldest first."""
        plans = grouped(
            self._fetch("SELECT suite_id, trial_id FROM plans ORDER BY suite_id, position")
        )
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
    def together(self) -> Iterator[None]:
        """Store all that is added inside the block, or none of it."""
        with self._transaction():
            self._together = True
            try:
                yield
            finally:
                self._together = False

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with readable_errors(self.path):
            if self._together:
                yield
                return
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
        snapshot = finite(record.environment)
        environment_id = content_id(snapshot)
        self._connection.execute(
            "INSERT OR IGNORE INTO environments VALUES (?, ?, ?)",
            [environment_id, snapshot.get("comparability_key"), canonical_json(snapshot)],
        )
        return environment_id

    def _insert_numbers(self, record: RunRecord, attempt: int) -> None:
        numbers = measurement_rows(record, attempt)
        epochs = history_rows(record, attempt)
        if numbers:
            self._connection.executemany(
                "INSERT INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", numbers
            )
        if epochs:
            self._connection.executemany("INSERT INTO histories VALUES (?, ?, ?, ?)", epochs)
        cases = case_rows(record, attempt)
        if cases:
            self._connection.executemany("INSERT INTO cases VALUES (?, ?, ?, ?)", cases)

    def _insert_table(self, name: str, rows: pa.Table | None, key: tuple[str, int]) -> None:
        if rows is None:
            return
        columns = ", ".join(rows.column_names)
        self._connection.register("incoming", rows)
        try:
            self._connection.execute(
                f"INSERT INTO {name} (trial_id, attempt, {columns}) "  # noqa: S608 - constants
                f"SELECT ?, ?, {columns} FROM incoming",
                list(key),
            )
        finally:
            self._connection.unregister("incoming")
