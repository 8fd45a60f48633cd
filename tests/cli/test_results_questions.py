"""`candlemark results` beyond listing: copies, imports, searches, fronts and histories."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from candlemark.cli import main as command
from candlemark.records import Measurement, Verdict
from candlemark.results.questions import machine
from candlemark.results.store import open_results


def _load_made() -> Any:
    """The made-up records of the store's tests; tests are no package, so loaded by path."""
    name = "candlemark_test_inference_records"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "results" / "inference_records.py"
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


made = _load_made()


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `candlemark WORDS` in this process: (exit status, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models measured here, one of them elsewhere too, and one that was contended."""
    here = machine.Machine(cpu="AMD EPYC 7B13", gpus=())
    monkeypatch.setattr(machine, "this_machine", lambda: here)
    busy = Measurement(
        name="latency_p50_ms", value=1.0, unit="ms", verdict=Verdict.CONTENDED, reason="cron"
    )
    folder = tmp_path / "results"
    with open_results(folder) as results, results.together():
        results.add_suite("s1", {"models": ["a"]}, made.WHEN)
        results.append(made.make("org/fast", p50=8.0), "s1", run="main")
        results.append(made.make("small", p50=12.0, memory=50e6), "s1", run="main")
        results.append(made.make("small", p50=2.0, environment={"cpu": "Other"}), "s1")
        results.append(made.make("busy", more=(busy,)), "s1")
    return folder


class TestExportAndImport:
    def test_formats_by_comma_or_again(self, call, store: Path, tmp_path: Path) -> None:
        status, out, _ = call(
            *("results", "export", "--format", "markdown,prometheus", "--format", "duckdb"),
            *("--run", "main", "--out", tmp_path / "o", "--results-dir", store),
        )
        assert status == 0
        assert [Path(line).name for line in out.splitlines()] == [
            "benchmark_suite_20250601T093000Z_main.md",
            "benchmark_suite_20250601T093000Z_main.prom",
            "candlemark_main_copy.duckdb",
        ]
        assert all(Path(line).is_file() for line in out.splitlines())

    def test_an_unknown_format_is_one_line(self, call, store: Path) -> None:
        status, out, err = call("results", "export", "--format", "xml", "--results-dir", store)
        assert (status, out) == (2, "")
        assert err.startswith("error: unknown format 'xml'; ")
        assert len(err.splitlines()) == 1

    def test_there_and_back(self, call, store: Path, tmp_path: Path) -> None:
        out = call("results", "export", "--out", tmp_path / "o", "--results-dir", store)[1]
        file = next(line for line in out.splitlines() if "suite" in line and ".json" in line)
        words = ("results", "import", file, "--results-dir", tmp_path / "other")
        assert call(*words)[1] == f"{Path(file).name}: 3 added, 0 in the store already\n"
        value = json.loads(call(*words, "--json")[1])
        assert [(one["added"], one["present"]) for one in value["files"]] == [(0, 3)]

    def test_a_file_that_is_not_there_is_one_line(self, call, tmp_path: Path) -> None:
        status, _, err = call("results", "import", "no.csv", "--results-dir", tmp_path)
        assert (status, err) == (2, "error: cannot import no.csv: there is no such file\n")
        assert list(tmp_path.iterdir()) == []


class TestFind:
    def test_here(self, call, store: Path) -> None:
        status, out, _ = call(
            "results", "find", "latency_p50_ms < 10", "peak_memory_bytes < 1GB",
            "--results-dir", store,
        )  # fmt: skip
        assert status == 0
        assert "org/fast fp32 eager" in out
        assert "inference on AMD EPYC 7B13, cpu, batch 1, length 128" in out
        assert "not small fp32 eager: latency p50 is 12 ms" in out
        assert "cannot be judged:" in out
        assert "busy fp32 eager: latency_p50_ms is CONTENDED: cron" in out
        assert "small: measured on Other, this is AMD EPYC 7B13" in out

    def test_anywhere_as_json(self, call, store: Path) -> None:
        words = ("results", "find", "latency_p50_ms < 10", "--anywhere", "--json")
        value = json.loads(call(*words, "--results-dir", store)[1])
        assert value["models"] == ["small", "org/fast"]
        assert value["conditions"] == [{"name": "latency_p50_ms", "operator": "<", "limit": 10}]
        assert value["matching"][0]["machine"] == "Other"
        assert value["failing"][0]["broken"] == "latency_p50_ms < 10"
        assert [one["label"] for one in value["unknown"]] == ["busy fp32 eager"]

    def test_nothing_fits(self, call, store: Path) -> None:
        status, out, _ = call("results", "find", "latency_p50_ms < 1ms", "--results-dir", store)
        assert status == 0
        assert out.startswith("no model fulfils latency_p50_ms < 1ms\n")

    def test_a_condition_that_cannot_be_read_is_one_line(self, call, store: Path) -> None:
        status, _, err = call("results", "find", "fast", "--results-dir", store)
        assert status == 2
        assert err.startswith("error: cannot read the condition 'fast'")
        assert len(err.splitlines()) == 1


class TestPareto:
    def test_the_front(self, call, store: Path) -> None:
        words = ("results", "pareto", "--objectives", "latency_p50_ms,peak_memory_bytes")
        status, out, _ = call(*words, "--results-dir", store)
        assert status == 0
        assert "inference on AMD EPYC 7B13, cpu, batch 1, length 128" in out
        lines = [line for line in out.splitlines() if line.rstrip().endswith("front")]
        assert [line.split()[0] for line in lines] == ["org/fast", "small"]
        value = json.loads(call(*words, "--json", "--anywhere", "--results-dir", store)[1])
        assert [front["workload"]["machine"] for front in value["fronts"]] == [
            "AMD EPYC 7B13",
            "Other",
        ]
        assert value["objectives"][0] == {"name": "latency_p50_ms", "higher_is_better": False}
        assert value["unknown"][0]["reason"] == "latency_p50_ms is CONTENDED: cron"

    def test_objectives_that_nobody_measured(self, call, store: Path) -> None:
        status, out, _ = call("results", "pareto", "--results-dir", store)
        assert status == 0
        assert out.startswith("no model has a number for each of latency_p50_ms, peak_memory")
        assert "org/fast fp32 eager: parameters was not measured" in out

    def test_who_is_beaten(self, call, store: Path) -> None:
        with open_results(store) as results:
            results.append(made.make("slow", p50=8.05), "s1")
        words = ("results", "pareto", "--objectives", "latency_p50_ms")
        out = call(*words, "--results-dir", store)[1]
        assert "beaten by org/fast fp32 eager, within the intervals" in out


class TestHistory:
    @pytest.fixture
    def long(self, tmp_path: Path) -> Path:
        with open_results(tmp_path / "long") as results, results.together():
            for day in range(1, 18):
                level = 10.0 if day < 9 else 12.0
                newer = {"packages": {"torch": "2.12.0"}} if day == 17 else {}
                record = made.make(
                    "gpt2",
                    p50=level + day / 100,
                    started_at=f"2025-06-{day:02d}T09:30:00+00:00",
                    environment=newer,
                )
                results.append(record, "s1", run=f"day {day}")
        return tmp_path / "long"

    def test_a_line_of_bars_and_the_change(self, call, long: Path) -> None:
        status, out, _ = call("results", "history", "--model", "gpt*", "--results-dir", long)
        assert status == 0
        lines = out.splitlines()
        assert lines[0].startswith("gpt2 cpu fp32 eager batch 1 length 128: latency p50 on AMD")
        assert lines[1].strip() == "▁▁▁▁▁▁▁▁████████  10 ms to 12.2 ms, 16 attempts"
        since = "worse from 2025-06-09T09:30:00+00:00 (attempt 9, run day 9)"
        assert lines[2].strip().startswith(f"{since}: 10 ms to 12.1 ms, +20.")
        assert lines[2].endswith("p < 0.001")
        assert "a change needs 8 attempts, 7 more" in out
        assert "no change of the model: packages.torch 2.11.0 to 2.12.0" in out

    def test_as_json(self, call, long: Path) -> None:
        value = json.loads(call("results", "history", "--results-dir", long, "--json")[1])
        first, second = value["series"]
        (change,) = first["changes"]
        assert (change["index"], change["run"], change["worse"]) == (8, "day 9", True)
        assert len(first["moments"]) == 16
        assert second["untested"] == "a change needs 8 attempts, 7 more"
        assert value["new_environments"][0]["differing"]["packages.torch"] == ["2.11.0", "2.12.0"]

    def test_left_out_and_unchanged(self, call, store: Path) -> None:
        words = ("results", "history", "--model", "busy", "--results-dir", store)
        assert "1 left out, CONTENDED: cron" in call(*words)[1]
        busier = Measurement(
            name="latency_p50_ms", value=2.0, verdict=Verdict.CONTENDED, reason="two crons"
        )
        with open_results(store) as results:
            results.append(made.make("busy", more=(busier,)), "s1")
        assert "2 left out, the newest CONTENDED: two crons" in call(*words)[1]

    def test_an_unknown_measure_is_one_line(self, call, store: Path) -> None:
        status, _, err = call("results", "history", "--measure", "speed", "--results-dir", store)
        assert status == 2
        assert err.startswith("error: unknown measure 'speed'; ")
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["find", "pareto", "history", "export", "import"])
def test_help_has_examples(call, name: str) -> None:
    status, out, _ = call("results", name, "--help")
    assert status == 0
    assert f"candlemark results {name}" in out.replace("\n", " ").split("Usage:")[-1]
