"""What was appended comes back equal, survives a kill, and a store that fails says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ResultsError
from candlemark.records import (
    Measurement,
    Predictions,
    RunRecord,
    Status,
    Verdict,
    content_id,
)
from candlemark.results import opening
from candlemark.results.opening import FILE_NAME, store_path
from candlemark.results.schema import MIGRATIONS, VERSION, migrate
from candlemark.results.store import Results, open_results

WHEN = "2025-01-31T12:00:00+00:00"


def make_record(seed: int = 0, *, cases: int = 20, **changes: Any) -> RunRecord:
    random = np.random.default_rng(seed)
    raw = random.random((cases, 3))
    trial = {"model": {"id": "timm/x"}, "seed": seed}
    made = RunRecord(
        trial_id=content_id(trial),
        trial=trial,
        status=Status.OK,
        started_at=WHEN,
        duration_s=1.25,
        measurements=(
            Measurement(
                name="auroc", value=0.1 + 0.2, low=1 / 3, high=0.9, level=0.95, sample_count=cases
            ),
            Measurement(
                name="mcc", value=None, reason="one class", verdict=Verdict.TOO_FEW, unit="x"
            ),
        ),
        predictions=Predictions(
            window_start_ms=np.arange(cases) * 3_600_000 + 1_704_067_200_000,
            target=random.integers(0, 3, cases),
            probability=raw / raw.sum(axis=1, keepdims=True),
            series=tuple(random.choice(["BTCUSDT", "ETHÜSDT"], cases)),
        ),
        history=({"epoch": 0, "train_loss": 0.7, "validation_loss": None},),
        cases=({"case": "scan 1", "classes": {"lesion": {"true_positive": 12}}},),
        samples={"latency_ms": random.random(7), "memory_timeline_s": np.array([])},
        facts={"row": "timm/x", "class_names": ["down", "up"], "nested": {"a": [1, 2.5, None]}},
        environment={"comparability_key": "k1", "device": {"name": "cpu", "threads": 2}},
    )
    return replace(made, **changes)


def assert_equal(got: RunRecord, expected: RunRecord) -> None:
    for name in ("trial_id", "status", "reason", "started_at", "duration_s", "measurements"):
        assert getattr(got, name) == getattr(expected, name), name
    for name in ("trial", "facts", "environment", "history", "cases"):
        assert getattr(got, name) == getattr(expected, name), name
    assert list(got.samples) == list(expected.samples)
    for name, values in expected.samples.items():
        assert got.samples[name].dtype == np.float64
        np.testing.assert_array_equal(got.samples[name], values)
    if expected.predictions is None:
        assert got.predictions is None
        return
    assert got.predictions is not None
    assert got.predictions.series == expected.predictions.series
    for name in ("window_start_ms", "target", "probability"):
        one, two = getattr(got.predictions, name), getattr(expected.predictions, name)
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


class TestRoundTrip:
    def test_records_come_back_equal_after_reopening(self, tmp_path: Path) -> None:
        records = [
            make_record(0),
            make_record(1, predictions=None, history=(), measurements=(), samples={}),
            make_record(2, cases=0),
            make_record(3, status=Status.CRASHED, reason="ValueError: 'no' \"quotes\"\nsecond"),
        ]
        with open_results(tmp_path) as results:
            for record in records:
                results.append(record, "s1")
        with open_results(tmp_path, read_only=True) as results:
            for got, expected in zip(results.records(), records, strict=True):
                assert_equal(got, expected)

    @settings(max_examples=20, deadline=None)
    @given(
        value=st.floats(allow_nan=False, allow_infinity=False),
        text=st.text(st.characters(codec="utf-8"), max_size=20),
        whole=st.integers(-(2**53), 2**53),
    )
    def test_any_number_and_text(
        self, tmp_path_factory: pytest.TempPathFactory, value: float, text: str, whole: int
    ) -> None:
        record = make_record(
            measurements=(Measurement(name="x", value=value, unit="s"),),
            facts={"text": text, "value": value, "whole": whole},
            history=({"epoch": whole, "train_loss": value},),
        )
        with open_results(tmp_path_factory.mktemp("store")) as results:
            results.append(record, "s1")
            assert_equal(results.records()[0], record)

    def test_what_is_not_finite_is_stored_as_unknown(self, tmp_path: Path) -> None:
        record = make_record(history=({"epoch": 0, "train_loss": float("nan")},))
        with open_results(tmp_path) as results:
            results.append(record, "s1")
            assert results.records()[0].history == ({"epoch": 0, "train_loss": None},)

    def test_words_of_an_error_that_are_no_text_are_kept_as_far_as_they_are(
        self, tmp_path: Path
    ) -> None:
        said = "OSError: no scan caf\udce9\x00é"
        record = replace(
            make_record(status=Status.CRASHED, reason=said, facts={"details": said}),
            measurements=(Measurement(name="x", value=None, reason=said),),
            cases=({"case": "a", "reason": said},),
        )
        with open_results(tmp_path) as results:
            results.append(record, "s1")
            (kept,) = results.records()
        readable = "OSError: no scan caf?\x00é"
        assert (kept.reason, kept.measurements[0].reason) == (readable, readable)
        assert kept.facts["details"] == kept.cases[0]["reason"] == readable

    def test_samples_that_are_not_finite_are_unknown(self, tmp_path: Path) -> None:
        record = make_record(samples={"latency_ms": np.array([1.5, np.inf, np.nan, 2.5])})
        with open_results(tmp_path) as results:
            results.append(record, "s1")
            kept = results.records()[0].samples["latency_ms"]
            np.testing.assert_array_equal(kept, [1.5, np.nan, np.nan, 2.5])

    @pytest.mark.parametrize("samples", [np.ones((2, 2)), np.array(["a"])])
    def test_samples_that_are_no_row_of_numbers(self, tmp_path: Path, samples: Any) -> None:
        with open_results(tmp_path) as results:
            with pytest.raises(ResultsError, match=r"samples 'x' of .* must be one row of numbers"):
                results.append(make_record(samples={"x": samples}), "s1")
            assert results.records() == []

    def test_what_is_no_json_is_refused_and_leaves_nothing(self, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:
            with pytest.raises(ResultsError, match=r"facts of .* is no JSON"):
                results.append(make_record(facts={"array": np.ones(2)}), "s1")
            broken = make_record().predictions
            assert broken is not None
            with pytest.raises(ResultsError, match="20 rows of probability but"):
                results.append(make_record(predictions=replace(broken, series=("A",))), "s1")
            assert results.records() == []
            results.append(make_record(), "s1")  # the failed transactions are closed


class TestSuites:
    def test_finished_trials_are_known_and_failed_ones_apart(self, tmp_path: Path) -> None:
        good, bad = make_record(0), make_record(1, status=Status.TIMED_OUT, reason="over 60 s")
        with open_results(tmp_path) as results:
            assert results.finished_ids() == frozenset()
            results.append(good, "s1")
            results.append(bad, "s1")
            assert results.finished_ids() == {good.trial_id}
            assert results.finished_ids(include_failed=True) == {good.trial_id, bad.trial_id}

    def test_a_second_attempt_that_ends_well_is_the_one_that_counts(self, tmp_path: Path) -> None:
        failed = make_record(0, status=Status.OUT_OF_MEMORY, reason="8 GiB asked")
        with open_results(tmp_path) as results:
            for record in (failed, make_record(0), failed):
                results.append(record, "s1")
            (record,) = results.records()
            assert record.status is Status.OK
            attempts = results.sql("SELECT count(*) AS n FROM trials").to_pylist()
            assert attempts == [{"n": 3}]

    def test_a_suite_holds_its_plan_in_order_whoever_ran_it(self, tmp_path: Path) -> None:
        records = [make_record(seed) for seed in range(3)]
        with open_results(tmp_path) as results:
            for record in records:
                results.append(record, "s1")
            plan = [records[2].trial_id, records[0].trial_id]
            results.add_suite("s2", {"b": 1}, WHEN, trial_ids=plan)
            results.add_suite("s2", {"b": 2}, "later", trial_ids=plan)
            assert [r.trial_id for r in results.records("s2")] == plan
            (suite,) = results.suites()
            assert (suite.started_at, suite.config, suite.trial_ids) == (WHEN, {"b": 1}, (*plan,))
            assert len(results.records(trial_ids=[records[1].trial_id])) == 1
            with pytest.raises(ResultsError, match=r"no suite 's9' in .*candlemark results list"):
                results.records("s9")

    def test_sql_reads_scores_and_explains_mistakes(self, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:
            results.append(make_record(), "s1")
            rows = results.sql("SELECT row_name, value FROM scores WHERE name = 'auroc'")
            assert rows.to_pylist() == [{"row_name": "timm/x", "value": 0.1 + 0.2}]
            with pytest.raises(ResultsError, match=r"the query failed: .*nothing"):
                results.sql("SELECT * FROM nothing")
        with (
            open_results(tmp_path, read_only=True) as results,
            pytest.raises(ResultsError, match=r"the query failed: .*read-only"),
        ):
            results.sql("CREATE TABLE more (x INT)")


class TestRuns:
    def test_a_run_is_found_by_its_name(self, tmp_path: Path) -> None:
        first, second = make_record(0), make_record(1)
        failed = make_record(1, status=Status.CRASHED, reason="boom")
        with open_results(tmp_path) as results:
            results.append(make_record(2), "s0")
            results.append(first, "s1", run="main")
            results.append(second, "s1", run="main")
            results.append(replace(first, duration_s=9.0), "s2", run="change")
            results.append(failed, "s1", run="change")
            assert [(r.name, r.finished, r.failed, r.suite_ids) for r in results.runs()] == [
                ("main", 2, 0, ("s1",)),
                ("change", 1, 1, ("s1", "s2")),
            ]
            assert [r.duration_s for r in results.run_records("main")] == [1.25, 1.25]
            changed = results.run_records("change")
            assert [(r.duration_s, r.status) for r in changed] == [(9.0, "ok"), (1.25, "crashed")]
            with pytest.raises(ResultsError, match=r"no run 'x' in .*; newest: main, change"):
                results.run_records("x")

    def test_the_attempt_of_a_run_that_ended_well_counts(self, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:
            results.append(make_record(0), "s1", run="a")
            results.append(make_record(0, status=Status.CRASHED, reason="boom"), "s1", run="a")
            (record,) = results.run_records("a")
            assert record.status is Status.OK
            (found,) = results.current()
            assert (found.number, found.run, found.suite_id) == (1, "a", "s1")

    def test_every_attempt_in_order(self, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:
            for run in ("a", None, "b"):
                results.append(make_record(0), "s1", run=run)
            results.append(make_record(1), "s1")
            found = results.attempts(make_record(0).trial_id)
            assert [(one.number, one.run) for one in found] == [(1, "a"), (2, None), (3, "b")]
            assert_equal(found[2].record, make_record(0))
            assert len(results.attempts()) == 4
            with pytest.raises(ResultsError, match=r"no trial 'zz' .*candlemark results history"):
                results.attempts("zz")

    def test_several_records_are_stored_all_or_none(self, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:

            def add(*records: RunRecord) -> None:
                with results.together():
                    results.add_suite("s1", {}, WHEN)
                    for record in records:
                        results.append(record, "s1")

            with pytest.raises(ResultsError, match="is no JSON"):
                add(make_record(0), make_record(1, facts={"x": set()}))
            assert (results.attempts(), results.suites()) == ([], [])
            add(make_record(0))
            (light,) = results.attempts(bulk=False)
            assert (light.record.samples, light.record.predictions) == ({}, None)

    def test_what_was_imported_neither_counts_as_finished_nor_before_what_ran_here(
        self, tmp_path: Path
    ) -> None:
        away = make_record(0, facts={"imported_from": {"file": "a.json", "sha256": "00"}})
        here = make_record(0, status=Status.OUT_OF_MEMORY, reason="8 GiB asked")
        with open_results(tmp_path) as results:
            results.append(away, "s1")
            assert results.finished_ids(include_failed=True) == frozenset()
            assert results.records()[0].status is Status.OK
            results.append(here, "s1")
            results.append(away, "s1")
            assert results.records()[0].status is Status.OUT_OF_MEMORY
            assert results.finished_ids(include_failed=True) == {here.trial_id}

    def test_the_history_holds_every_attempt(self, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:
            results.append(make_record(0), "s1", run="a")
            results.append(make_record(0), "s1", run="b")
            rows = results.sql(
                "SELECT run, attempt, row_name, task, comparability_key, value FROM history "
                "WHERE name = 'auroc' ORDER BY appended"
            ).to_pylist()
        assert [(row["run"], row["attempt"], row["row_name"]) for row in rows] == [
            ("a", 1, "timm/x"),
            ("b", 2, "timm/x"),
        ]
        assert rows[0]["task"] == "charts"
        assert rows[0]["comparability_key"] == "k1"

    def test_samples_are_queried(self, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:
            results.append(make_record(samples={"latency_ms": np.array([1.0, 2.0, 9.0])}), "s1")
            found = results.sql("SELECT name, list_median(values) AS median FROM samples")
            assert found.to_pylist() == [{"name": "latency_ms", "median": 2.0}]


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )


KILLED_AFTER_APPEND = """
    import os, signal, sys
    from candlemark.records import RunRecord, Status
    from candlemark.results.store import open_results
    results = open_results(sys.argv[1])
    for number in range(int(sys.argv[2])):
        results.append(
            RunRecord(trial_id=f"{sys.argv[3]}{number}", trial={}, status=Status.OK,
                      started_at="now", duration_s=1.0), "s1")
    os.kill(os.getpid(), signal.SIGKILL)
"""


class TestKill:
    def test_a_record_survives_a_kill_right_after_append(self, tmp_path: Path) -> None:
        for count, name in ((1, "a"), (3, "b")):
            ended = run_python(KILLED_AFTER_APPEND, str(tmp_path), str(count), name)
            assert ended.returncode == -signal.SIGKILL, ended.stderr
        with open_results(tmp_path, read_only=True) as results:
            assert results.finished_ids() == {"a0", "b0", "b1", "b2"}

    def test_a_kill_inside_append_leaves_the_trial_out_and_the_store_whole(
        self, tmp_path: Path
    ) -> None:
        code = KILLED_AFTER_APPEND.replace(
            "results = open_results(sys.argv[1])",
            "results = open_results(sys.argv[1])\n"
            "    results._insert_numbers = lambda *a: os.kill(os.getpid(), signal.SIGKILL)",
        )
        assert run_python(code, str(tmp_path), "1", "a").returncode == -signal.SIGKILL
        with open_results(tmp_path) as results:
            assert results.finished_ids() == frozenset()
            results.append(make_record(), "s1")


class TestOpening:
    def test_a_store_in_use_names_the_process(self, tmp_path: Path) -> None:
        with open_results(tmp_path):
            other = run_python(
                """
                import sys
                from candlemark.errors import ResultsError
                from candlemark.results.store import open_results
                try:
                    open_results(sys.argv[1], read_only=True)
                except ResultsError as error:
                    print(error)
                """,
                str(tmp_path),
            )
        line = other.stdout.strip()
        assert "\n" not in line
        assert f"(process {os.getpid()}); wait until it ends" in line
        assert line.endswith(f"kill {os.getpid()}")

    def test_nothing_to_read_names_the_next_command(self, tmp_path: Path) -> None:
        with pytest.raises(ResultsError, match=r"no results at .*candlemark bench"):
            open_results(tmp_path, read_only=True)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_not_ours(self, tmp_path: Path) -> None:
        text = tmp_path / "text.duckdb"
        text.write_bytes(b"not a database" * 1000)
        with pytest.raises(ResultsError, match="is not a DuckDB file"):
            open_results(text)
        other = tmp_path / "other.duckdb"
        with duckdb.connect(str(other)) as connection:
            connection.execute("CREATE TABLE cats (name VARCHAR)")
        with pytest.raises(ResultsError, match="is a DuckDB file but no candlemark store"):
            open_results(other)

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        open_results(tmp_path).close()
        file = tmp_path / FILE_NAME
        content = bytearray(file.read_bytes())
        content[100:140] = b"z" * 40
        file.write_bytes(content)
        with pytest.raises(ResultsError, match="is damaged; restore a copy"):
            open_results(tmp_path)

    def test_a_newer_store(self, tmp_path: Path) -> None:
        open_results(tmp_path).close()
        with duckdb.connect(str(tmp_path / FILE_NAME)) as connection:
            connection.execute("INSERT INTO candlemark_schema VALUES (99)")
        with pytest.raises(ResultsError, match=rf"has schema 99, .* reads up to {VERSION}; update"):
            open_results(tmp_path)

    def test_an_older_store_is_brought_up_to_date(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_results(tmp_path) as results:
            results.append(make_record(), "s1")
        longer = (*MIGRATIONS, "ALTER TABLE suites ADD COLUMN note VARCHAR")
        monkeypatch.setattr(opening, "VERSION", len(longer))
        monkeypatch.setattr(opening, "migrate", lambda c: migrate(c, longer))
        with pytest.raises(ResultsError, match=f"has schema {VERSION}.*candlemark results upgrade"):
            open_results(tmp_path, read_only=True)
        with open_results(tmp_path) as results:
            assert results.sql("SELECT note FROM suites").num_rows == 0
            assert_equal(results.records()[0], make_record())

    def test_a_store_of_the_first_version_gets_runs_samples_and_names_of_today(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / FILE_NAME
        with duckdb.connect(str(file)) as connection:
            migrate(connection, MIGRATIONS[:1])
            connection.execute("INSERT INTO environments VALUES ('e1', 'k1', '{\"cpu\": \"x\"}')")
            connection.execute(
                "INSERT INTO trials VALUES ('t1', 1, 's1', 1, 'ok', NULL, ?, 1.5, '{}', "
                "'{\"row\": \"r\"}', 'e1', NULL)",
                [WHEN],
            )
            for place, name in enumerate(("latency_ms_p50", "latency_ms_p99", "auroc")):
                connection.execute(
                    "INSERT INTO measurements VALUES ('t1', 1, ?, ?, 2.5, 'ms', NULL, NULL, NULL, "
                    "NULL, 'VALID', NULL)",
                    [place, name],
                )
        with pytest.raises(ResultsError, match=r"has schema 1, .*candlemark results upgrade"):
            open_results(file, read_only=True)
        with open_results(file) as results:
            (found,) = results.current()
            assert [m.name for m in found.record.measurements] == [
                "latency_p50_ms",
                "latency_p99_ms",
                "auroc",
            ]
            assert (found.run, found.record.samples, results.runs()) == (None, {}, [])
            results.append(make_record(), "s1", run="a")
            assert results.sql("SELECT DISTINCT trial_id FROM history").num_rows == 2
            assert results.sql("SELECT DISTINCT trial_id FROM scores").num_rows == 2
        with open_results(file, read_only=True) as results:
            assert [run.name for run in results.runs()] == ["a"]

    def test_a_migration_that_fails_changes_nothing(self, tmp_path: Path) -> None:
        with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
            with pytest.raises(duckdb.Error):
                migrate(connection, (*MIGRATIONS, "CREATE TABLE broken ("))
            assert connection.execute("SHOW TABLES").fetchall() == []

    def test_a_folder_means_the_store_in_it_or_in_its_results(self, tmp_path: Path) -> None:
        assert store_path(tmp_path) == tmp_path / FILE_NAME
        open_results(tmp_path / "results").close()
        assert store_path(tmp_path) == tmp_path / "results" / FILE_NAME
        assert store_path(tmp_path / "a.duckdb") == tmp_path / "a.duckdb"

    def test_opening_for_reading_while_open_for_writing_here(self, tmp_path: Path) -> None:
        with (
            open_results(tmp_path),
            pytest.raises(ResultsError, match="open in this process in the other mode"),
        ):
            open_results(tmp_path, read_only=True)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        with pytest.raises(ResultsError, match="cannot make"):
            open_results(tmp_path / "file" / "below")


def test_the_store_is_closed_by_its_with_block(tmp_path: Path) -> None:
    with open_results(tmp_path) as results:
        assert isinstance(results, Results)
    with pytest.raises(ResultsError, match="cannot use"):
        results.finished_ids()


@pytest.mark.parametrize("size", [0, 4096, 8192])
def test_what_a_full_disk_left_of_a_store_being_made_is_made_anew(
    tmp_path: Path, size: int
) -> None:
    with open_results(tmp_path / "whole"):
        pass
    stub = tmp_path / "new" / FILE_NAME
    stub.parent.mkdir()
    stub.write_bytes((tmp_path / "whole" / FILE_NAME).read_bytes()[:size])
    with pytest.raises(ResultsError):
        open_results(stub, read_only=True)
    assert stub.stat().st_size == size
    with open_results(stub) as results:
        assert results.finished_ids() == frozenset()


def test_a_small_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / FILE_NAME
    other.write_bytes(b"not ours")
    with pytest.raises(ResultsError, match="is not a DuckDB file"):
        open_results(other)
    assert other.read_bytes() == b"not ours"


def test_a_disk_that_is_full_is_called_so() -> None:
    said = 'IO Error: Could not write file "x": No space left on device'
    told = opening._why_not_open(Path("x"), said)
    assert told == "x cannot grow, as the disk is full; free some space and run the command again"
