"""What comes from elsewhere arrives whole or not at all, once, and says where it is from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from candlemark.errors import ResultsError
from candlemark.records import Measurement, Predictions, RunRecord, Status, Verdict
from candlemark.results.schema import MIGRATIONS, migrate
from candlemark.results.sharing.formats import copy_out
from candlemark.results.sharing.imports import identity, import_files
from candlemark.results.sharing.suites import export
from candlemark.results.store import open_results


def _load_made() -> Any:
    """The made-up records beside this file; tests are no package, so loaded by path."""
    name = "candlemark_test_inference_records"
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).parents[1] / "inference_records.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


made = _load_made()

PREDICTIONS = Predictions(
    window_start_ms=np.array([0, 1]),
    target=np.array([0, 1]),
    probability=np.array([[0.5, 0.5], [0.25, 0.75]]),
    series=("A", "B"),
)


def without_source(record: RunRecord) -> RunRecord:
    facts = {key: value for key, value in record.facts.items() if key != "imported_from"}
    return replace(record, facts=facts)


def assert_same(got: RunRecord, expected: RunRecord) -> None:
    for name in ("trial_id", "trial", "status", "reason", "started_at", "duration_s"):
        assert getattr(got, name) == getattr(expected, name), name
    for name in ("measurements", "history", "facts", "environment"):
        assert getattr(got, name) == getattr(expected, name), name
    assert list(got.samples) == list(expected.samples)
    for name, values in expected.samples.items():
        np.testing.assert_array_equal(got.samples[name], values)


RECORDS = (
    made.make("a", p50=0.1 + 0.2, samples={"latency_ms": np.array([1.5, np.nan, 1 / 3])}),
    made.make("b", status=Status.TIMED_OUT, reason="over 60 s", measurements=(), samples={}),
    made.make("c", predictions=PREDICTIONS, history=({"epoch": 0, "train_loss": None},)),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a suite of three trials, one never run, and its exports beside it."""
    with open_results(tmp_path / "away") as results:
        plan = [record.trial_id for record in (RECORDS[2], RECORDS[0], RECORDS[1])]
        results.add_suite("s1", {"models": ["a"]}, made.WHEN, trial_ids=[*plan, "never run"])
        for record in RECORDS:
            results.append(record, "s1", run="main")
        export(results, tmp_path / "away")
        copy_out(results, tmp_path / "away", formats=("duckdb",))
    return tmp_path / "away"


class TestRoundTrip:
    def test_a_suite_as_json_comes_back_equal_but_for_its_predictions(
        self, folder: Path, tmp_path: Path
    ) -> None:
        file = folder / "benchmark_suite_20250601T093000Z.json"
        with open_results(tmp_path / "here") as results:
            (done,) = import_files(results, [file])
            assert (done.added, done.present, done.suite_ids) == (3, 0, ("s1",))
            (suite,) = results.suites()
            assert suite.config == {"models": ["a"]}
            assert suite.trial_ids[-1] == "never run"
            found = results.current("s1")
            assert [one.run for one in found] == ["main"] * 3
            for one, expected in zip(found, (RECORDS[2], RECORDS[0], RECORDS[1]), strict=True):
                assert_same(without_source(one.record), expected)
                assert one.record.predictions is None
            source = found[0].record.facts["imported_from"]
            assert source["file"] == file.name
            assert source["sha256"] == done.sha256
            assert source["predictions_left_out"] == 2
            assert "predictions_left_out" not in found[1].record.facts["imported_from"]
            assert results.finished_ids(include_failed=True) == frozenset()

    def test_a_store_comes_back_equal_with_its_predictions(
        self, folder: Path, tmp_path: Path
    ) -> None:
        with open_results(tmp_path / "here") as results:
            (done,) = import_files(results, [folder / "candlemark.duckdb"])
            assert done.added == 3
            for got, expected in zip(results.attempts(), RECORDS, strict=True):
                assert_same(without_source(got.record), expected)
            kept = results.attempts()[2].record.predictions
            assert kept is not None
            np.testing.assert_array_equal(kept.probability, PREDICTIONS.probability)

    def test_a_second_import_of_the_same_in_any_form_adds_nothing(
        self, folder: Path, tmp_path: Path
    ) -> None:
        files = [
            folder / "candlemark.duckdb",
            folder / "benchmark_suite_20250601T093000Z.json",
            folder / "candlemark_copy.duckdb",
        ]
        with open_results(tmp_path / "here") as results:
            done = import_files(results, files)
            assert [(one.added, one.present) for one in done] == [(3, 0), (0, 3), (0, 3)]
            again = import_files(results, files)
            assert [(one.added, one.present) for one in again] == [(0, 3)] * 3
            assert len(results.attempts()) == 3

    def test_what_was_exported_here_is_here_already(self, folder: Path) -> None:
        with open_results(folder) as results:
            (done,) = import_files(results, [folder / "benchmark_suite_20250601T093000Z.json"])
            assert (done.added, done.present) == (0, 3)
            assert "imported_from" not in results.records()[0].facts

    def test_the_first_source_is_kept_when_results_travel_on(
        self, folder: Path, tmp_path: Path
    ) -> None:
        with open_results(tmp_path / "one") as results:
            import_files(results, [folder / "benchmark_suite_20250601T093000Z.json"])
        with open_results(tmp_path / "two") as results:
            import_files(results, [tmp_path / "one" / "candlemark.duckdb"])
            source = results.records()[0].facts["imported_from"]
        assert source["file"] == "candlemark.duckdb"
        assert source["earlier"]["file"] == "benchmark_suite_20250601T093000Z.json"

    def test_an_export_of_the_first_version_gets_the_names_of_today(
        self, folder: Path, tmp_path: Path
    ) -> None:
        file = folder / "benchmark_suite_20250601T093000Z.json"
        value = json.loads(file.read_text(encoding="utf-8"))
        value["version"] = 1
        del value["plan"]
        for trial in value["trials"]:
            del trial["samples"], trial["run"]
            trial["measurements"] = {
                "latency_ms_p50" if name == "latency_p50_ms" else name: {
                    **m,
                    "name": "latency_ms_p50" if name == "latency_p50_ms" else name,
                }
                for name, m in trial["measurements"].items()
            }
        file.write_text(json.dumps(value), encoding="utf-8")
        with open_results(tmp_path / "here") as results:
            import_files(results, [file])
            record = results.records()[1]
            assert record.measurements[0].name == "latency_p50_ms"
            assert record.samples == {}

    def test_a_store_of_the_first_version_is_read_and_left_as_it_is(self, tmp_path: Path) -> None:
        file = tmp_path / "old.duckdb"
        with duckdb.connect(str(file)) as connection:
            migrate(connection, MIGRATIONS[:1])
            connection.execute("INSERT INTO environments VALUES ('e1', NULL, '{}')")
            connection.execute(
                "INSERT INTO trials VALUES ('t1', 1, 's1', 1, 'ok', NULL, ?, 1.5, '{}', '{}', "
                "'e1', NULL)",
                [made.WHEN],
            )
        before = file.read_bytes()
        with open_results(tmp_path / "here") as results:
            assert import_files(results, [file])[0].added == 1
        assert file.read_bytes() == before

    def test_what_an_old_store_keeps_in_its_log_is_read_too(self, tmp_path: Path) -> None:
        code = """
import duckdb, os, sys
from candlemark.results.schema import MIGRATIONS, migrate
connection = duckdb.connect(sys.argv[1])
migrate(connection, MIGRATIONS[:1])
connection.execute("CHECKPOINT")
connection.execute("INSERT INTO environments VALUES ('e1', NULL, '{}')")
connection.execute(
    "INSERT INTO trials VALUES ('t1', 1, 's1', 1, 'ok', NULL, ?, 1.5, '{}', '{}', 'e1', NULL)",
    [sys.argv[2]],
)
os._exit(0)
"""
        file = tmp_path / "old.duckdb"
        subprocess.run([sys.executable, "-c", code, str(file), made.WHEN], check=True)
        assert (tmp_path / "old.duckdb.wal").is_file()
        with open_results(tmp_path / "here") as results:
            assert import_files(results, [tmp_path / "old.duckdb"])[0].added == 1


CSV = """model,device,precision,batch_size,name,value,unit,low,high,cpu,host
gpt2,cuda:0,fp16,1,latency_p50_ms,0.00481,s,0.0047,0.0049,EPYC,node7
gpt2,cuda:0,fp16,1,peak_memory_bytes,310,MiB,,,EPYC,node7
gpt2,cuda:0,fp16,8,latency_ms_p50,9.5,,,,EPYC,node7
gpt2,cuda:0,fp16,8,energy_per_item_j,,,,,EPYC,node7
"""


class TestTables:
    def test_lines_of_one_trial_become_a_record(self, tmp_path: Path) -> None:
        (tmp_path / "theirs.csv").write_text(CSV, encoding="utf-8")
        with open_results(tmp_path / "here") as results:
            (done,) = import_files(results, [tmp_path / "theirs.csv"])
            assert done.added == 2
            one, eight = results.records(done.suite_ids[0])
        p50, memory = one.measurements
        assert (p50.name, p50.value, p50.unit) == ("latency_p50_ms", pytest.approx(4.81), "ms")
        assert (p50.low, p50.high) == (pytest.approx(4.7), pytest.approx(4.9))
        assert (memory.value, memory.unit) == (310 * 2**20, "bytes")
        assert one.trial["columns"] == {"host": "node7"}
        assert one.trial["batch_size"] == 1
        assert (one.environment["cpu"], one.environment["device"]) == ("EPYC", "cuda")
        assert one.facts["imported_from"]["file"] == "theirs.csv"
        unknown = eight.measurement("energy_per_item_j")
        assert (unknown.value, unknown.reason) == (None, "not given")
        assert eight.measurement("latency_p50_ms").value == 9.5

    def test_again_even_with_another_date_of_the_file_adds_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "theirs.csv").write_text(CSV, encoding="utf-8")
        with open_results(tmp_path / "here") as results:
            import_files(results, [tmp_path / "theirs.csv"])
            (tmp_path / "later.csv").write_text(CSV, encoding="utf-8")

            os.utime(tmp_path / "later.csv", (1, 1))
            (done,) = import_files(results, [tmp_path / "later.csv"])
            assert (done.added, done.present) == (0, 2)

    def test_a_line_ends_where_json_lines_say(self, tmp_path: Path) -> None:
        line = {"model": "a", "name": "latency_p50_ms", "value": 1.0, "note": "one\u2028two"}
        text = json.dumps(line, ensure_ascii=False)
        (tmp_path / "theirs.jsonl").write_text(f"{text}\r\n", encoding="utf-8")
        with open_results(tmp_path / "here") as results:
            assert import_files(results, [tmp_path / "theirs.jsonl"])[0].added == 1

    def test_the_kind_of_a_file_may_be_written_large(self, tmp_path: Path) -> None:
        (tmp_path / "THEIRS.CSV").write_text(CSV, encoding="utf-8")
        with open_results(tmp_path / "here") as results:
            assert import_files(results, [tmp_path / "THEIRS.CSV"])[0].added == 2
            with pytest.raises(ResultsError, match=r"is a folder; name a file in it, such as .*ck"):
                import_files(results, [tmp_path])

    def test_json_lines_and_a_list_say_the_same(self, tmp_path: Path) -> None:
        lines: list[dict[str, Any]] = [
            {"model": "m", "name": "latency_p50_ms", "value": 3, "started_at": made.WHEN,
             "run": "nightly", "verdict": "CONTENDED", "reason": "a cron job", "sample_count": 9},
            {"model": "m", "name": "power_w", "value": None, "reason": "no counter",
             "started_at": made.WHEN, "run": "nightly"},
        ]  # fmt: skip
        (tmp_path / "a.jsonl").write_text(
            "\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8"
        )
        (tmp_path / "b.json").write_text(json.dumps(lines), encoding="utf-8")
        with open_results(tmp_path / "here") as results:
            done = import_files(results, [tmp_path / "a.jsonl", tmp_path / "b.json"])
            assert [(one.added, one.present) for one in done] == [(1, 0), (0, 1)]
            (record,) = results.run_records("nightly")
        assert record.started_at == made.WHEN
        assert record.measurements == (
            Measurement(name="latency_p50_ms", value=3, unit="ms", sample_count=9,
                        verdict=Verdict.CONTENDED, reason="a cron job"),
            Measurement(name="power_w", value=None, unit="W", reason="no counter"),
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("name,value\nlatency_p50_ms,1\n", "line 2: no 'model'; needed: model, name, value"),
            ("model,name,value\n,flops,1\n", "line 2: the model has no name"),
            ("model,name,value\nm,latency_p50,1\n", "did you mean 'latency_p50_ms'?"),
            ("model,name,value\nm,flops,fast\n", "line 2: value is 'fast'; it must be a number"),
            ("model,name,value\nm,flops,nan\n", "line 2: value is 'nan'; it must be a number"),
            ("model,name,value,unit\nm,load_s,1,parsec\n", "unknown unit 'parsec' of load_s"),
            ("model,name,value,batchsize\nm,flops,1,2\n", "did you mean 'batch_size'?"),
            ("model,name,value,batch_size\nm,flops,1,2.5\n", "must be a whole number"),
            ("model,name,value,verdict\nm,flops,1,FINE\n", "'FINE' is not a valid Verdict"),
            ("model,name,value,started_at\nm,flops,1,today\n", "started_at is 'today'"),
            ("model,name,value\nm,flops,1\nm,flops,2\n", "line 3: flops of this trial is there"),
            ("model,name,value\nm,flops\n", "not as many columns as the head"),
            ("model,name,value\n", "holds no measurement"),
            ("", "holds no measurement"),
        ],
    )
    def test_messages(self, tmp_path: Path, text: str, message: str) -> None:
        file = tmp_path / "x.csv"
        file.write_text(text, encoding="utf-8")
        with (
            open_results(tmp_path / "here") as results,
            pytest.raises(ResultsError) as caught,
        ):
            import_files(results, [file])
        assert message in str(caught.value)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [("{", "line 1 is no JSON"), ("3", "line 1 is no object")],
    )
    def test_messages_of_json_lines(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "x.jsonl").write_text(text, encoding="utf-8")
        with (
            open_results(tmp_path / "here") as results,
            pytest.raises(ResultsError, match=message),
        ):
            import_files(results, [tmp_path / "x.jsonl"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("x.json", "{", "is damaged or no JSON: Expecting .*; export it again"),
            ("x.json", "3", "is no export of candlemark"),
            ("x.json", '{"format": "other"}', "is no export of candlemark"),
            ("x.json", '{"format": "candlemark row"}', "import the file of the suite"),
            (
                "x.json",
                '{"format": "candlemark suite", "version": 99}',
                "has format 99, this candlemark reads up to 2; update with",
            ),
            (
                "x.json",
                '{"format": "candlemark suite", "version": 2, "trials": []}',
                "is damaged: no key 'suite_id'; export it again",
            ),
            ("x.xml", "", "unknown kind of file '.xml'; known: .json, .duckdb, .csv"),
            ("x.csv", b"\xff\xfe", "is no text in UTF-8"),
            ("x.duckdb", b"no" * 9000, "is not a DuckDB file"),
        ],
    )
    def test_one_line_and_nothing_stored(
        self, folder: Path, tmp_path: Path, name: str, content: str | bytes, message: str
    ) -> None:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        good = folder / "benchmark_suite_20250601T093000Z.json"
        with open_results(tmp_path / "here") as results:
            with pytest.raises(ResultsError, match=message) as caught:
                import_files(results, [good, file])
            assert "\n" not in str(caught.value)
            assert (results.attempts(), results.suites()) == ([], [])

    def test_a_newer_store(self, folder: Path, tmp_path: Path) -> None:
        file = folder / "candlemark_copy.duckdb"
        with duckdb.connect(str(file)) as connection:
            connection.execute("INSERT INTO candlemark_schema VALUES (99)")
        with (
            open_results(tmp_path / "here") as results,
            pytest.raises(ResultsError, match="has schema 99"),
        ):
            import_files(results, [file])

    def test_an_alien_store(self, tmp_path: Path) -> None:
        with duckdb.connect(str(tmp_path / "cats.duckdb")) as connection:
            connection.execute("CREATE TABLE cats (name VARCHAR)")
        with (
            open_results(tmp_path / "here") as results,
            pytest.raises(ResultsError, match="is a DuckDB file but no candlemark store"),
        ):
            import_files(results, [tmp_path / "cats.duckdb"])

    def test_no_file_and_the_store_itself(self, folder: Path, tmp_path: Path) -> None:
        with open_results(folder) as results:
            with pytest.raises(ResultsError, match="there is no such file"):
                import_files(results, [tmp_path / "none.csv"])
            with pytest.raises(ResultsError, match="is the store itself"):
                import_files(results, [folder / "candlemark.duckdb"])

    def test_a_store_that_fails_half_way_keeps_nothing(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_results(tmp_path / "here") as results:
            real, calls = results._append, []

            def fail_at_third(*words: Any) -> None:
                calls.append(words)
                if len(calls) == 3:
                    raise ResultsError("the disk is full")
                real(*words)

            monkeypatch.setattr(results, "_append", fail_at_third)
            with pytest.raises(ResultsError, match="the disk is full"):
                import_files(results, [folder / "benchmark_suite_20250601T093000Z.json"])
            assert (results.attempts(), results.suites()) == ([], [])


def test_records_differ_by_what_they_measured() -> None:
    record = made.make("a")
    assert identity(record) == identity(replace(record, samples={}))
    assert identity(record) != identity(replace(record, duration_s=9.0))
    assert identity(record) != identity(made.make("a", p50=10.5))
