"""`candlemark results` and `candlemark report` on a small store: what they print and write."""

from __future__ import annotations

import csv
import io
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from candlemark.cli import main as command
from candlemark.results.schema import VERSION
from candlemark.results.store import open_results


def _load(name: str, *parts: str) -> Any:
    """The made-up records of other tests; tests are no package, so loaded by path."""
    if name not in sys.modules:
        path = Path(__file__).parents[1].joinpath(*parts)
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


fakes = _load("candlemark_test_fake_records", "report", "fake_records.py")
made = _load("candlemark_test_inference_records", "results", "inference_records.py")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `candlemark WORDS` in this process: (exit status, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    with open_results(folder) as results:
        results.add_suite("s1", {"models": ["a"]}, fakes.WHEN)
        results.append(fakes.fake_record(fakes.ROWS[3]), "s1")
        results.append(fakes.fake_record(fakes.ROWS[5]), "s1")
    return folder


def test_list(call, store: Path):
    status, out, _ = call("results", "list", "--results-dir", store, "--json")
    (suite,) = json.loads(out)["suites"]
    assert status == 0
    assert (suite["suite_id"], suite["finished"], suite["failed"]) == ("s1", 2, 0)
    assert "s1" in call("results", "list", "--results-dir", store)[1]


def test_show(call, store: Path):
    status, out, _ = call("results", "show", "--results-dir", store)
    assert status == 0
    assert out.startswith("Planted signal found (edgenext_xx_small.in1k AUROC")
    value = json.loads(call("results", "show", "s*", "--results-dir", store, "--json")[1])
    assert value["answer"].startswith("Planted signal found")
    assert [row["role"] for row in value["boards"][0]["rows"]] == ["model", "baseline"]


def test_show_tells_boards_first_and_inference_beside_them(call, store: Path, tmp_path: Path):
    before = call("results", "show", "--results-dir", store)[1]
    assert (
        json.loads(call("results", "show", "--results-dir", store, "--json")[1])["inference"]
        is None
    )
    with open_results(store) as results:
        results.append(made.make("gpt2"), "s1")
    both = call("results", "show", "--results-dir", store)[1]
    assert both.startswith(before)
    assert "1 cell measured" in both.removeprefix(before)
    with open_results(tmp_path / "inference") as results:
        results.add_suite("s2", {}, made.WHEN)
        results.append(made.make("gpt2"), "s2")
    status, out, _ = call("results", "show", "--results-dir", tmp_path / "inference", "--json")
    value = json.loads(out)
    assert (status, value["boards"]) == (0, [])
    assert [cell["row"] for cell in value["inference"]["cells"]] == ["gpt2"]
    status, out, _ = call("results", "show", "--results-dir", tmp_path / "inference")
    assert status == 0
    assert out.startswith("1 cell measured")


def test_list_shows_runs(call, store: Path):
    with open_results(store) as results:
        results.append(made.make("gpt2"), "s1", run="[main]")
    out = call("results", "list", "--results-dir", store)[1]
    assert "[main]" in out
    value = json.loads(call("results", "list", "--results-dir", store, "--json")[1])
    (run,) = value["runs"]
    assert (run["name"], run["finished"], run["suite_ids"]) == ("[main]", 1, ["s1"])


def test_sql_prints_csv_or_json(call, store: Path):
    query = "SELECT row_name, value FROM scores WHERE name = 'auroc' ORDER BY value DESC"
    status, out, _ = call("results", "sql", query, "--results-dir", store)
    lines = list(csv.reader(io.StringIO(out)))
    assert status == 0
    assert lines[0] == ["row_name", "value"]
    assert lines[1][0] == fakes.ROWS[5].name
    rows = json.loads(call("results", "sql", query, "--results-dir", store, "--json")[1])["rows"]
    assert len(rows) == 2


def test_a_query_can_only_read(call, store: Path):
    status, out, err = call("results", "sql", "DROP TABLE trials", "--results-dir", store)
    assert status != 0
    assert out == ""
    assert err.startswith("error: ")
    assert json.loads(call("results", "list", "--results-dir", store, "--json")[1])["suites"]


def test_export_names_what_it_wrote(call, store: Path, tmp_path: Path):
    status, out, _ = call("results", "export", "--out", tmp_path / "o", "--results-dir", store)
    assert status == 0
    assert out.split()
    assert all(Path(line).is_file() for line in out.splitlines())


def test_upgrade_leaves_a_store_of_today(call, store: Path):
    told = call("results", "upgrade", "--results-dir", store)[1]
    assert told.strip().endswith(f"has schema {VERSION}")


@pytest.mark.parametrize("words", [("results", "list"), ("results", "upgrade"), ("report",)])
def test_no_store_is_one_line(call, tmp_path: Path, words: tuple[str, ...]):
    status, out, err = call(*words, "--results-dir", tmp_path / "nowhere")
    assert (status != 0, out) == (True, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_report(call, store: Path, tmp_path: Path):
    folder = tmp_path / "reports"
    words = ("report", "--results-dir", store, "--reports-dir", folder, "--output-prefix", "june")
    status, out, _ = call(*words, "--json")
    value = json.loads(out)
    assert status == 0
    assert Path(value["files"]["detailed"]) == folder / "june_detailed_report.txt"
    assert all(Path(path).is_file() for path in value["files"]["figures"])
    status, out, err = call(*words, "--pattern", "never*")
    assert status != 0
    assert "never*" in err


def test_report_of_inference_has_its_own_page(call, store: Path, tmp_path: Path):
    folder = tmp_path / "reports"
    alone = tmp_path / "inference"
    with open_results(alone) as results:
        results.add_suite("s2", {"task": "inference"}, made.WHEN)
        results.append(made.make("gpt2"), "s2")
    words = ("report", "--results-dir", alone, "--reports-dir", folder, "--output-prefix", "july")
    status, out, _ = call(*words)
    assert status == 0
    assert out.startswith("1 cell measured")
    assert f"report: {folder / 'report.html'}" in out
    assert "inference:" not in out
    with open_results(store) as results:
        results.append(made.make("gpt2"), "s1")
    words = ("report", "--results-dir", store, "--reports-dir", folder, "--output-prefix", "both")
    out = call(*words)[1]
    assert out.startswith("Planted signal found")
    assert "1 cell measured" in out
    assert f"inference: {folder / 'both_inference_report.html'}" in out
