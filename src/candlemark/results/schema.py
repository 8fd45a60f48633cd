"""The tables of the results store, as numbered migrations.

    migrate(connection)      # brings a store of any earlier version to VERSION

Tables. A trial may be run again; each time is an attempt, none is ever overwritten, and the
view `current_trials` holds the attempt that counts: one made here before one that was
imported, then the newest that ended well, else the newest.

    suites         one row a suite: config, start
    plans          which trials a suite is made of, in order
    trials         one row an attempt: config, status, reason, facts, the run it belongs to
    measurements   one row a number, with interval and verdict
    samples        one row a list of samples: the name, and the values in the order taken
    predictions    one row a test case
    histories      one row an epoch
    cases          one row a test case of a task that tells more of it than a class
    environments   machines and versions, each once

Views that answer most questions:

    scores         numbers of the attempts that count, with what was measured: row_name, task,
                   model, device, precision, backend, batch_size, sequence_length
    history        numbers of every attempt, with its start, its run and the machine it ran on

A migration is never edited once released; a change is a new entry at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE suites (
        suite_id VARCHAR PRIMARY KEY,
        started_at VARCHAR NOT NULL,
        config JSON NOT NULL
    );
    CREATE TABLE plans (
        suite_id VARCHAR NOT NULL,
        position INTEGER NOT NULL,
        trial_id VARCHAR NOT NULL,
        PRIMARY KEY (suite_id, trial_id)
    );
    CREATE TABLE environments (
        environment_id VARCHAR PRIMARY KEY,
        comparability_key VARCHAR,
        snapshot JSON NOT NULL
    );
    CREATE TABLE trials (
        trial_id VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        suite_id VARCHAR NOT NULL,
        appended BIGINT NOT NULL,
        status VARCHAR NOT NULL,
        reason VARCHAR,
        started_at VARCHAR NOT NULL,
        duration_s DOUBLE NOT NULL,
        trial JSON NOT NULL,
        facts JSON NOT NULL,
        environment_id VARCHAR NOT NULL,
        class_count INTEGER,
        PRIMARY KEY (trial_id, attempt)
    );
    CREATE TABLE measurements (
        trial_id VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        position INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        value DOUBLE,
        unit VARCHAR NOT NULL,
        low DOUBLE,
        high DOUBLE,
        level DOUBLE,
        sample_count BIGINT,
        verdict VARCHAR NOT NULL,
        reason VARCHAR
    );
    CREATE TABLE predictions (
        trial_id VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        position INTEGER NOT NULL,
        series VARCHAR NOT NULL,
        window_start_ms BIGINT NOT NULL,
        target BIGINT NOT NULL,
        probability DOUBLE[] NOT NULL
    );
    CREATE TABLE histories (
        trial_id VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        position INTEGER NOT NULL,
        epoch JSON NOT NULL
    );
    CREATE VIEW current_trials AS
        SELECT * FROM trials
        QUALIFY row_number() OVER (
            PARTITION BY trial_id ORDER BY status = 'ok' DESC, attempt DESC
        ) = 1;
    CREATE VIEW scores AS
        SELECT
            t.suite_id, t.trial_id, t.facts->>'row' AS row_name, t.facts->>'dataset' AS dataset,
            t.facts->>'label' AS label, t.facts->>'label_kind' AS label_kind,
            t.facts->>'market' AS market, t.facts->>'weights' AS weights,
            m.name, m.value, m.low, m.high, m.level, m.unit, m.sample_count, m.verdict, m.reason
        FROM current_trials t JOIN measurements m USING (trial_id, attempt);
    """,
    """
    ALTER TABLE trials ADD COLUMN run VARCHAR;
    UPDATE measurements
        SET name = regexp_replace(name, '^latency_ms_(p50|p90|p95|p99)$', 'latency_\\1_ms');
    CREATE TABLE samples (
        trial_id VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        position INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        values DOUBLE[] NOT NULL
    );
    DROP VIEW scores;
    DROP VIEW current_trials;
    CREATE VIEW current_trials AS
        SELECT * FROM trials
        QUALIFY row_number() OVER (
            PARTITION BY trial_id
            ORDER BY (facts->>'imported_from') IS NULL DESC, status = 'ok' DESC, attempt DESC
        ) = 1;
    CREATE VIEW scores AS
        SELECT
            t.suite_id, t.trial_id, t.facts->>'row' AS row_name, t.facts->>'dataset' AS dataset,
            t.facts->>'label' AS label, t.facts->>'label_kind' AS label_kind,
            t.facts->>'market' AS market, t.facts->>'weights' AS weights,
            m.name, m.value, m.low, m.high, m.level, m.unit, m.sample_count, m.verdict, m.reason,
            t.run, coalesce(t.trial->>'task', 'charts') AS task,
            coalesce(t.facts->>'model', t.trial->>'model') AS model,
            t.trial->>'device' AS device, t.trial->>'precision' AS precision,
            t.trial->>'backend' AS backend,
            TRY_CAST(t.trial->>'batch_size' AS BIGINT) AS batch_size,
            TRY_CAST(t.trial->>'sequence_length' AS BIGINT) AS sequence_length
        FROM current_trials t JOIN measurements m USING (trial_id, attempt);
    CREATE VIEW history AS
        SELECT
            t.trial_id, t.attempt, t.run, t.suite_id, t.started_at, t.appended,
            t.facts->>'row' AS row_name, coalesce(t.trial->>'task', 'charts') AS task,
            coalesce(t.facts->>'model', t.trial->>'model') AS model,
            t.trial->>'device' AS device, t.trial->>'precision' AS precision,
            t.trial->>'backend' AS backend,
            TRY_CAST(t.trial->>'batch_size' AS BIGINT) AS batch_size,
            TRY_CAST(t.trial->>'sequence_length' AS BIGINT) AS sequence_length,
            t.environment_id, e.comparability_key, e.snapshot->>'cpu' AS cpu,
            e.snapshot->>'gpu' AS gpu, t.facts->'imported_from'->>'file' AS imported_from,
            m.name, m.value, m.low, m.high, m.level, m.unit, m.sample_count, m.verdict, m.reason
        FROM trials t
        JOIN measurements m USING (trial_id, attempt)
        JOIN environments e USING (environment_id);
    """,
    """
    CREATE TABLE cases (
        trial_id VARCHAR NOT NULL,
        attempt INTEGER NOT NULL,
        position INTEGER NOT NULL,
        told JSON NOT NULL
    );
    """,
)

VERSION = len(MIGRATIONS)


def stored_version(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The version of the open store; 0 for an empty file, None for one that is not ours."""
    tables = {
        str(name)
        for (name,) in connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        ).fetchall()
    }
    if "candlemark_schema" not in tables:
        return None if tables else 0
    # fetchall, not fetchone: a result that is not read to its end keeps the connection busy.
    ((version,),) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM candlemark_schema"
    ).fetchall()
    return int(version)


def migrate(connection: duckdb.DuckDBPyConnection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Apply the migrations that the store has not seen, all or none."""
    seen = stored_version(connection) or 0
    if seen == len(migrations):
        return
    connection.execute("BEGIN")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS candlemark_schema (version INTEGER PRIMARY KEY)"
        )
        for number, statements in enumerate(migrations[seen:], start=seen + 1):
            connection.execute(statements)
            connection.execute("INSERT INTO candlemark_schema VALUES (?)", [number])
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
