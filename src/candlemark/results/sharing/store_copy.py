"""A copy of the store as one DuckDB file, whole or of one suite or run.

copy_store(results, Path("copies"))          # copies/candlemark_copy.duckdb

The copy holds every attempt with its samples and predictions, and is a store: it can be
opened, queried and imported like the one that it was made of.
"""

from __future__ import annotations

import os
from pathlib import Path

from candlemark.errors import ResultsError
from candlemark.results.files import file_stem
from candlemark.results.opening import connect, readable_errors
from candlemark.results.schema import migrate
from candlemark.results.store import Results

_OF_ATTEMPTS = ("trials", "measurements", "samples", "predictions", "histories", "cases")


def copy_store(
    results: Results, folder: Path, *, suite_id: str | None = None, run: str | None = None
) -> Path:
    """Write the copy, complete or not at all; returns its path.

    A suite takes every attempt at a trial of its plan, a run its own attempts.

    Raises ResultsError: the folder cannot be written, or the copy would replace the store.
    """
    parts = ["candlemark", *(file_stem(part) for part in (suite_id, run) if part), "copy"]
    path = folder / f"{'_'.join(parts)}.duckdb"
    if path.resolve() == results.path.resolve():
        raise ResultsError(f"{path} is the store itself; name another folder with --out")
    beside = path.with_name(f".{path.stem}.{os.getpid()}.duckdb")
    try:
        with readable_errors(beside):
            _fill(results, beside, suite_id, run)
        beside.replace(path)
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error
    finally:
        for part in (beside, beside.with_name(f"{beside.name}.wal")):
            if part.exists():
                part.unlink()
    return path


def _fill(results: Results, file: Path, suite_id: str | None, run: str | None) -> None:
    copy = connect(file, read_only=False)
    try:
        migrate(copy)
        for table, condition in _conditions(suite_id, run).items():
            rows = results.sql(f"SELECT * FROM {table} {condition}")  # noqa: S608 - quoted below
            copy.register("incoming", rows)
            copy.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")  # noqa: S608 - a constant
            copy.unregister("incoming")
    finally:
        copy.close()


def _conditions(suite_id: str | None, run: str | None) -> dict[str, str]:
    """Which rows of each table belong to the copy."""
    clauses = []
    if suite_id is not None:
        suite = _quoted(suite_id)
        planned = f"SELECT trial_id FROM plans WHERE suite_id = {suite}"  # noqa: S608 - quoted
        clauses.append(f"(suite_id = {suite} OR trial_id IN ({planned}))")
    if run is not None:
        clauses.append(f"run = {_quoted(run)}")
    chosen = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    keys = f"(SELECT (trial_id, attempt) FROM trials {chosen})"  # noqa: S608 - quoted
    suites = "" if suite_id is None else f"WHERE suite_id = {_quoted(suite_id)}"
    if suite_id is None and run is not None:
        suites = f"WHERE suite_id IN (SELECT suite_id FROM trials {chosen})"  # noqa: S608 - quoted
    tables = dict.fromkeys(_OF_ATTEMPTS, f"WHERE (trial_id, attempt) IN {keys}")
    environments = f"(SELECT environment_id FROM trials {chosen})"  # noqa: S608 - quoted
    return {
        "suites": suites,
        "plans": suites,
        "environments": f"WHERE environment_id IN {environments}",
        **tables,
    }


def _quoted(text: str) -> str:
    """A string of SQL."""
    return "'" + text.replace("'", "''") + "'"
