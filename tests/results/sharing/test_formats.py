"""Copies in formats that others read: Markdown, Prometheus, lm-eval's JSON lines, DuckDB."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from candlemark.errors import ConfigError, ResultsError
from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement, Status, Verdict
from candlemark.results.sharing.formats import NAMES, copy_out
from candlemark.results.sharing.prometheus import base_unit_name
from candlemark.results.store import Results, open_results


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

STEM = "benchmark_suite_20250601T093000Z"
CONTENDED = Measurement(
    name="latency_p50_ms",
    value=12.5,
    unit="ms",
    verdict=Verdict.CONTENDED,
    reason="another | process used 40 % of a core",
)


@pytest.fixture
def results(tmp_path: Path):
    with open_results(tmp_path / "store") as store:
        store.add_suite("s1", {"models": ["a"]}, made.WHEN)
        store.append(made.make("org/good"), "s1", run="main")
        store.append(made.make('we"ird|\\name\n', more=(CONTENDED,)), "s1", run="main")
        store.append(
            made.make("dead", status=Status.OUT_OF_MEMORY, reason="8 GiB asked", measurements=()),
            "s1",
        )
        yield store


def write(results: Results, folder: Path, name: str, **chosen: Any) -> str:
    (path,) = copy_out(results, folder, formats=(name,), **chosen)
    return path.read_text(encoding="utf-8")


class TestMarkdown:
    def test_a_line_a_trial_with_intervals_marks_and_reasons(
        self, results: Results, tmp_path: Path
    ) -> None:
        text = write(results, tmp_path, "markdown")
        head, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
        assert "| latency p50, ms | latency p99, ms | peak memory, MiB |" in head
        columns = [len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, *rows)]
        assert len(set(columns)) == 1
        assert "| ok | 10 [9.9, 10.1] | n/a TOO_FEW[^1]" in rows[0]
        assert "| 286.1 |" in rows[0]
        assert rows[1].startswith('| we"ird\\|\\\\name | ')
        assert "| 12.5 CONTENDED[^2] |" in rows[1]
        assert "| out_of_memory[^3] |" in rows[2]
        assert "[^2]: CONTENDED: another \\| process used 40 % of a core" in text
        assert "[^3]: out\\_of\\_memory: 8 GiB asked" in text

    def test_what_is_unknown_says_why(self, results: Results, tmp_path: Path) -> None:
        results.append(made.make("new", memory=None), "s2")
        results.add_suite("s2", {}, "2025-06-02T09:30:00+00:00")
        text = write(results, tmp_path, "markdown", suite_id="s2")
        assert "| n/a[^2] |" in text
        assert "[^2]: not measured" in text

    def test_a_run_holds_its_trials_alone(self, results: Results, tmp_path: Path) -> None:
        text = write(results, tmp_path, "markdown", run="main")
        assert "Suite s1, run main" in text
        assert "dead" not in text


class TestPrometheus:
    def families(self, text: str) -> dict[str, Any]:
        return {family.name: family for family in text_string_to_metric_families(text)}

    def test_a_parser_reads_base_units_and_verdicts(self, results: Results, tmp_path: Path) -> None:
        text = write(results, tmp_path, "prometheus")
        found = self.families(text)
        latency = found["candlemark_latency_p50_seconds"]
        assert latency.type == "gauge"
        assert latency.documentation == MEASURES["latency_p50_ms"].meaning
        good, weird = latency.samples
        assert good.value == pytest.approx(0.010)
        assert (good.labels["row"], good.labels["verdict"]) == ("org/good", "VALID")
        assert (good.labels["run"], good.labels["batch_size"]) == ("main", "1")
        assert (weird.labels["row"], weird.labels["verdict"]) == ('we"ird|\\name\n', "CONTENDED")
        (low,) = found["candlemark_latency_p50_seconds_low"].samples
        assert low.value == pytest.approx(0.0099)
        assert [s.value for s in found["candlemark_peak_memory_bytes"].samples] == [300e6] * 2

    def test_unknown_and_failed_are_no_holes(self, results: Results, tmp_path: Path) -> None:
        found = self.families(write(results, tmp_path, "prometheus"))
        assert "candlemark_latency_p99_seconds" not in found
        unknown = found["candlemark_unknown"].samples
        assert [s.labels["measure"] for s in unknown] == ["latency_p99_ms"] * 2
        assert unknown[0].labels["verdict"] == "TOO_FEW"
        ended = [s.labels["status"] for s in found["candlemark_trial"].samples]
        assert ended == ["ok", "ok", "out_of_memory"]

    def test_each_family_stands_once_and_its_samples_differ_in_labels(
        self, results: Results, tmp_path: Path
    ) -> None:
        text = write(results, tmp_path, "prometheus")
        types = [line for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(types) == len(set(types))
        series = [line.rsplit(" ", 1)[0] for line in text.splitlines() if line[0] != "#"]
        assert len(series) == len(set(series))

    def test_a_trial_of_two_suites_is_no_series_twice(
        self, results: Results, tmp_path: Path
    ) -> None:
        shared = made.make("org/good").trial_id
        results.add_suite("s2", {}, "2025-06-02T09:30:00+00:00", trial_ids=[shared])
        files = copy_out(results, tmp_path / "out", formats=["prometheus"])
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        series = [line.rsplit(" ", 1)[0] for line in lines if line[0] != "#"]
        assert len(files) == 2
        assert len(series) == len(set(series))

    @pytest.mark.parametrize(
        ("name", "family", "factor"),
        [
            ("latency_p50_ms", "candlemark_latency_p50_seconds", 1e-3),
            ("decode_ms_per_token", "candlemark_decode_seconds_per_token", 1e-3),
            ("throughput_items_per_s", "candlemark_throughput_items_per_second", 1),
            ("load_s", "candlemark_load_seconds", 1),
            ("energy_per_item_j", "candlemark_energy_per_item_joules", 1),
            ("power_w", "candlemark_power_watts", 1),
            ("model_bytes", "candlemark_model_bytes", 1),
            ("their.own-score", "candlemark_their_own_score", 1),
        ],
    )
    def test_names_end_in_base_units(self, name: str, family: str, factor: float) -> None:
        assert base_unit_name(name) == (family, factor)

    def test_no_two_measures_share_a_family(self) -> None:
        names = [base_unit_name(name)[0] for name in MEASURES]
        assert len(set(names)) == len(names)


class TestLmEval:
    def test_a_line_a_trial_in_the_shape_of_the_harness(
        self, results: Results, tmp_path: Path
    ) -> None:
        lines = [json.loads(line) for line in write(results, tmp_path, "lm-eval").splitlines()]
        good, weird, dead = lines
        assert good["results"]["inference"]["latency_p50_ms,none"] == 10.0
        assert good["results"]["inference"]["latency_p50_ms_stderr,none"] == "N/A"
        assert good["n-shot"] == {"inference": 0}
        assert good["versions"] == {"inference": 1}
        assert good["higher_is_better"]["inference"]["latency_p50_ms"] is False
        assert good["configs"]["inference"]["batch_size"] == 1
        assert good["config"]["model_args"] == "pretrained=org/good,dtype=fp32"
        assert good["model_name_sanitized"] == "org__good"
        assert good["transformers_version"] == "5.1.0"
        assert good["date"] == 1748770200.0
        assert good["candlemark"]["intervals"]["latency_p50_ms"]["low"] == 9.9
        assert good["candlemark"]["withheld"]["latency_p99_ms"]["verdict"] == "TOO_FEW"
        assert "latency_p50_ms,none" not in weird["results"]["inference"]
        assert weird["candlemark"]["withheld"]["latency_p50_ms"]["value"] == 12.5
        assert dead["results"]["inference"] == {"alias": "dead"}
        assert dead["candlemark"]["reason"] == "8 GiB asked"


class TestFusion:
    @pytest.fixture
    def fused(self, tmp_path: Path):
        """Two trials of fusion on two data sets, each with a forecast of the next close."""
        with open_results(tmp_path / "fused") as store:
            store.add_suite("s1", {"task": "fusion"}, made.WHEN)
            for dataset in ("BTC 1h", "ETH 1h"):
                record = made.make(
                    f"text only {dataset}",
                    trial={"task": "fusion", "dataset": dataset},
                    facts={"dataset": dataset, "label": "direction"},
                    measurements=(Measurement(name="mae_percent", value=0.4, unit="%"),),
                )
                store.append(record, "s1")
            yield store

    def test_each_data_set_is_a_task_of_the_harness(self, fused: Results, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in write(fused, tmp_path, "lm-eval").splitlines()]
        tasks = {task for line in lines for task in line["results"]}
        assert tasks == {"fusion_BTC_1h_direction", "fusion_ETH_1h_direction"}
        assert lines[0]["higher_is_better"]["fusion_BTC_1h_direction"] == {"mae_percent": False}

    def test_a_table_and_a_scrape_name_the_error(self, fused: Results, tmp_path: Path) -> None:
        assert "| MAE, % |" in write(fused, tmp_path, "markdown")
        assert "# HELP candlemark_mae_percent MAE" in write(fused, tmp_path, "prometheus")


class TestDuckdb:
    def test_the_copy_is_a_store_with_all_attempts(self, results: Results, tmp_path: Path) -> None:
        results.append(made.make("org/good", p50=11.0), "s2", run="change")
        (path,) = copy_out(results, tmp_path / "out", formats=("duckdb",))
        assert path.name == "candlemark_copy.duckdb"
        with open_results(path, read_only=True) as copy:
            assert len(copy.attempts()) == 4
            assert copy.attempts()[0].record.samples["latency_ms"].tolist() == [
                9,
                9.5,
                10,
                10.5,
                11,
            ]
            assert [run.name for run in copy.runs()] == ["main", "change"]
            assert [suite.suite_id for suite in copy.suites()] == ["s1"]
            assert copy.sql("SELECT * FROM history").num_rows == 9
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["candlemark_copy.duckdb"]

    @pytest.mark.parametrize(
        ("chosen", "name", "count"),
        [
            ({"run": "main"}, "candlemark_main_copy.duckdb", 2),
            ({"suite_id": "s1"}, "candlemark_s1_copy.duckdb", 3),
        ],
    )
    def test_a_part_of_it(
        self, results: Results, tmp_path: Path, chosen: Any, name: str, count: int
    ) -> None:
        results.append(made.make("other", p50=11.0), "s2")
        (path,) = copy_out(results, tmp_path, formats=("duckdb",), **chosen)
        assert path.name == name
        with open_results(path, read_only=True) as copy:
            assert len(copy.attempts()) == count
            assert len(copy.suites()) == 1
            assert copy.sql("SELECT DISTINCT trial_id FROM samples").num_rows == count

    def test_the_store_is_never_written_over(self, tmp_path: Path) -> None:
        with open_results(tmp_path / "candlemark_copy.duckdb") as store:
            store.add_suite("s1", {}, made.WHEN)
            with pytest.raises(ResultsError, match="is the store itself; name another folder"):
                copy_out(store, tmp_path, formats=("duckdb",))

    def test_a_folder_that_cannot_be_written(self, results: Results, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        with pytest.raises(ResultsError, match="cannot make"):
            copy_out(results, tmp_path / "file", formats=("duckdb",))


def test_several_formats_at_once(results: Results, tmp_path: Path) -> None:
    written = copy_out(results, tmp_path, formats=NAMES)
    assert {
        f"{STEM}.json",
        f"{STEM}.csv",
        f"{STEM}.md",
        f"{STEM}.prom",
        f"{STEM}_lm_eval.jsonl",
    } < {path.name for path in written}
    assert all(path.is_file() for path in written)


def test_a_run_leaves_the_files_of_rows_alone(results: Results, tmp_path: Path) -> None:
    written = copy_out(results, tmp_path, run="main")
    assert [path.name for path in written] == [f"{STEM}_main.json", f"{STEM}_main.csv"]
    value = json.loads(written[0].read_text(encoding="utf-8"))
    assert [trial["run"] for trial in value["trials"]] == ["main", "main"]


def test_samples_are_one_line_of_json(results: Results, tmp_path: Path) -> None:
    path = copy_out(results, tmp_path, formats=("json",))[0]
    assert '"latency_ms": [9.0, 9.5, 10.0, 10.5, 11.0]' in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("chosen", "kind", "message"),
    [
        ({"formats": ("markdwn",)}, ConfigError, "unknown format 'markdwn'; did you mean 'markdo"),
        ({"formats": ("qqq",)}, ConfigError, "unknown format 'qqq'; known: json, csv, markdown"),
        ({"run": "x"}, ResultsError, "no run 'x' in .*; newest: main"),
        ({"suite_id": "x"}, ResultsError, "no suite 'x' in .*candlemark results list"),
        (
            {"suite_id": "x", "run": "main"},
            ResultsError,
            "run 'main' has no trial of suite 'x'",
        ),
    ],
)
def test_messages(
    results: Results, tmp_path: Path, chosen: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        copy_out(results, tmp_path / "out", **chosen)
    assert not (tmp_path / "out").exists()


def test_an_empty_store(tmp_path: Path) -> None:
    with (
        open_results(tmp_path) as empty,
        pytest.raises(ResultsError, match=r"holds no suite yet; run: candlemark bench"),
    ):
        copy_out(empty, tmp_path)
