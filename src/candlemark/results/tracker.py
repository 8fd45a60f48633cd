"""Snapshots of what the Hub said, kept in a DuckDB file of their own.

    with open_tracker("benchmarks/leaderboard") as tracker:
        tracker.add(snapshot)
        tracker.newest(asked)             # the last one of the same queries
        tracker.at(asked, "2026-01-31")   # the last one until the end of that day

A snapshot that found what the one before it found shares its rows, so a daily call that meets
no change costs one line. Tables:

    snapshots   one row a snapshot: when, of which Hub, which queries, the content it saw, and
                whether its news were told to a watcher
    contents    one row a model of a content: its numbers as columns, all of it as JSON
    history     (view) one row a model a snapshot
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import duckdb

from candlemark.errors import ResultsError
from candlemark.results.opening import connect, readable_errors
from candlemark.results.tracked import Snapshot, TrackedModel, utc

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME = "leaderboard.duckdb"
VERSION = 1
_MOST_NAMED = 3
PATIENCE_S = 10.0
"""How long a file that another process has is waited for."""

_SCHEMA = """
    CREATE TABLE tracker_schema (version INTEGER PRIMARY KEY);
    CREATE TABLE snapshots (
        number INTEGER PRIMARY KEY,
        taken_at VARCHAR NOT NULL,
        endpoint VARCHAR NOT NULL,
        asked_id VARCHAR NOT NULL,
        asked JSON NOT NULL,
        content_id VARCHAR NOT NULL,
        watched BOOLEAN NOT NULL
    );
    CREATE TABLE contents (
        content_id VARCHAR NOT NULL,
        position INTEGER NOT NULL,
        model VARCHAR NOT NULL,
        downloads BIGINT,
        downloads_all_time BIGINT,
        likes BIGINT,
        trending DOUBLE,
        parameters HUGEINT,
        last_modified VARCHAR,
        told JSON NOT NULL,
        PRIMARY KEY (content_id, position)
    );
    CREATE VIEW history AS
        SELECT s.number, s.taken_at, s.endpoint, s.asked_id, c.model, c.downloads,
               c.downloads_all_time, c.likes, c.trending, c.parameters, c.last_modified, c.told
        FROM snapshots s JOIN contents c USING (content_id);
    INSERT INTO tracker_schema VALUES (1);
"""


def tracker_path(path: str | Path) -> Path:
    """The file that `path` means: itself, or `leaderboard.duckdb` in a folder."""
    path = Path(path).expanduser()
    return path if path.suffix == ".duckdb" else path / FILE_NAME


def open_tracker(path: str | Path, *, read_only: bool = False) -> Tracker:
    """Open the tracker, and make it where there is none.

    Raises ResultsError: it is in use, no tracker, of a newer version, or (read_only) not there.
    """
    file = tracker_path(path)
    if read_only and not file.exists():
        raise ResultsError(
            f"there are no snapshots at {file}; make the first with the same command, "
            "without --offline and --diff"
        )
    connection = _connect(file, read_only=read_only)
    try:
        with readable_errors(file):
            _prepare(connection, file)
    except BaseException:
        connection.close()
        raise
    return Tracker(file, connection)


def _connect(file: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection; another process has the file for moments only, so that is waited for."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return connect(file, read_only=read_only)
        except ResultsError as error:
            if "set lock" not in str(error.__cause__) or time.monotonic() >= give_up:
                told = str(error).replace("--results-dir or --output-dir", "--tracker-dir")
                raise ResultsError(told) from error
        time.sleep(0.05)


def _prepare(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Make the tables of a new file; refuse one that is not ours."""
    tables = {
        name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    }
    if not tables:
        connection.execute("BEGIN")
        connection.execute(_SCHEMA)
        connection.execute("COMMIT")
        return
    if "tracker_schema" not in tables:
        raise ResultsError(
            f"{file} holds no snapshots of a Hub; name another folder with --tracker-dir"
        )
    ((version,),) = connection.execute("SELECT max(version) FROM tracker_schema").fetchall()
    if version != VERSION:
        raise ResultsError(
            f"{file} has schema {version}, this candlemark reads {VERSION}; "
            "update with: python -m pip install -U candlemark"
        )


class Tracker:
    """An open tracker; close it, or use it in a `with`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, snapshot: Snapshot, *, watched: bool = False) -> Snapshot:
        """Keep a snapshot, whole or not at all; the same with its number.

        watched: the next watcher hears what changed since this one
        """
        told = [json.dumps(model.to_dict(), sort_keys=True) for model in snapshot.models]
        content = hashlib.sha256("\n".join(told).encode()).hexdigest()
        with self._transaction():
            ((number,),) = self._fetch("SELECT coalesce(max(number), 0) + 1 FROM snapshots")
            ((kept,),) = self._fetch(
                "SELECT count(*) FROM contents WHERE content_id = ?", [content]
            )
            rows = [
                _row(content, place, model, text)
                for place, (model, text) in enumerate(zip(snapshot.models, told, strict=True))
            ]
            if rows and not kept:
                # By columns: row by row, a thousand models take seconds.
                places = ", ".join(["unnest(?)"] * len(rows[0]))
                self._connection.execute(
                    f"INSERT INTO contents SELECT {places}",
                    [list(column) for column in zip(*rows, strict=True)],
                )
            self._connection.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    number,
                    snapshot.taken_at,
                    snapshot.endpoint,
                    asked_id(snapshot.endpoint, snapshot.asked),
                    json.dumps(snapshot.asked),
                    content,
                    watched,
                ],
            )
        return Snapshot(
            number=int(number),
            taken_at=snapshot.taken_at,
            endpoint=snapshot.endpoint,
            asked=snapshot.asked,
            models=snapshot.models,
        )

    def newest(self, endpoint: str, asked: Sequence[str]) -> Snapshot | None:
        """The last snapshot of these queries; None: there is none."""
        return self._one("TRUE", asked_id(endpoint, asked), "DESC", [])

    def watched(self, endpoint: str, asked: Sequence[str]) -> Snapshot | None:
        """The last snapshot of these queries whose news were told to a watcher."""
        return self._one("watched", asked_id(endpoint, asked), "DESC", [])

    def last(self, endpoint: str, asked: Sequence[str]) -> Snapshot:
        """The last snapshot of these queries. Raises ResultsError: there is none."""
        found = self.newest(endpoint, asked)
        if found is None:
            raise self._none_of(endpoint)
        return found

    def at(self, endpoint: str, asked: Sequence[str], day: str) -> Snapshot:
        """The last snapshot of these queries until the end of a day, or until a time.

        day: 2026-01-31, or 2026-01-31T12:00:00Z; UTC

        Raises ResultsError: it is no date, or there is no snapshot so old.
        """
        until = _until(day)
        found = self._one("taken_at <= ?", asked_id(endpoint, asked), "DESC", [until])
        if found is not None:
            return found
        first = self._one("TRUE", asked_id(endpoint, asked), "ASC", [])
        if first is None:
            raise self._none_of(endpoint)
        raise ResultsError(
            f"{self.path} has no snapshot of these queries from {day} or before; "
            f"the oldest is of {first.taken_at}"
        )

    def times(self, endpoint: str, asked: Sequence[str]) -> list[str]:
        """When snapshots of these queries were taken, the oldest first."""
        return [
            str(taken_at)
            for (taken_at,) in self._fetch(
                "SELECT taken_at FROM snapshots WHERE asked_id = ? ORDER BY number",
                [asked_id(endpoint, asked)],
            )
        ]

    def history(
        self, endpoint: str, asked: Sequence[str]
    ) -> dict[str, list[tuple[str, int | None]]]:
        """Downloads of the last 30 days by model: (when, how many), the oldest first."""
        found: dict[str, list[tuple[str, int | None]]] = {}
        for model, taken_at, downloads in self._fetch(
            "SELECT model, taken_at, downloads FROM history WHERE asked_id = ? ORDER BY number",
            [asked_id(endpoint, asked)],
        ):
            found.setdefault(str(model), []).append((str(taken_at), downloads))
        return found

    def sql(self, query: str) -> pa.Table:
        """The answer to a query as an Arrow table."""
        with readable_errors(self.path):
            return self._connection.sql(query).to_arrow_table()

    def _none_of(self, endpoint: str) -> ResultsError:
        """What to raise where there is no snapshot of some queries: of which there are some."""
        kept = self._fetch(
            "SELECT asked FROM snapshots WHERE endpoint = ? "
            "GROUP BY asked ORDER BY max(number) DESC",
            [endpoint],
        )
        sets = [json.loads(asked) for (asked,) in kept[:_MOST_NAMED]]
        named = [f"'{one[0]}'" + (f" and {len(one) - 1} more" if one[1:] else "") for one in sets]
        others = f" (there are some of {'; of '.join(named)})" if named else ""
        return ResultsError(
            f"{self.path} has no snapshot of these queries at {endpoint}{others}; "
            "make the first with the same command, without --offline and --diff"
        )

    def _one(self, where: str, asked: str, order: str, values: list[Any]) -> Snapshot | None:
        found = self._fetch(
            "SELECT number, taken_at, endpoint, asked, content_id FROM snapshots "  # noqa: S608
            f"WHERE asked_id = ? AND {where} ORDER BY number {order} LIMIT 1",
            [asked, *values],
        )
        if not found:
            return None
        number, taken_at, endpoint, queries, content = found[0]
        models = self._fetch(
            "SELECT told FROM contents WHERE content_id = ? ORDER BY position", [content]
        )
        return Snapshot(
            number=number,
            taken_at=taken_at,
            endpoint=endpoint,
            asked=tuple(json.loads(queries)),
            models=tuple(TrackedModel.from_dict(json.loads(told)) for (told,) in models),
        )

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


def asked_id(endpoint: str, asked: Sequence[str]) -> str:
    """Which snapshots can be compared: the same Hub asked the same queries, in any order."""
    key = json.dumps([endpoint, sorted(asked)])
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _row(content: str, place: int, model: TrackedModel, told: str) -> list[Any]:
    return [
        content,
        place,
        model.id,
        model.downloads,
        model.downloads_all_time,
        model.likes,
        model.trending,
        model.parameters,
        model.last_modified,
        told,
    ]


def _until(day: str) -> str:
    """The last moment that a date or a time means, written as snapshots are."""
    with suppress(ValueError):
        return f"{date.fromisoformat(day).isoformat()}T23:59:59Z"
    try:
        return utc(day)
    except ValueError as error:
        raise ResultsError(f"'{day}' is no date; write 2026-01-31 or 2026-01-31T12:00Z") from error
