"""The page holds every cell, escapes what came from outside, and stands beside the boards."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from candlemark.records import RunRecord
from candlemark.report.build import build_report
from candlemark.report.comparison import speedups
from candlemark.report.inference.cells import build_cells
from candlemark.report.inference.page import page
from candlemark.results.store import open_results


@pytest.fixture(scope="module")
def scores() -> Any:
    """Made-up records of the task `charts`."""
    path = Path(__file__).parents[1] / "fake_records.py"
    spec = spec_from_file_location("candlemark_test_scores_beside", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href"}:
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def written(records: list[RunRecord], **options: Any) -> str:
    return page(build_cells(records), speedups(records), (), title="demo", **options)


def body(html: str) -> str:
    """The page without its scripts: what a reader sees."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


class TestPage:
    def test_is_well_formed_and_asks_no_other_host(self, fakes: ModuleType) -> None:
        parser = _Page(written(fakes.fake_sweep()))
        assert parser.open == []
        assert len(parser.ids) == len(set(parser.ids))
        outside = [r for r in parser.references if not r.startswith(("#", "data:"))]
        assert outside == []
        missing = [r for r in parser.references if r.startswith("#") and r[1:] not in parser.ids]
        assert missing == []

    def test_shows_cells_with_intervals_verdicts_and_reasons(self, fakes: ModuleType) -> None:
        shown = body(written(fakes.fake_sweep()))
        for expected in (
            "7 of 9 latencies may be quoted",
            "[12.06, 12.11]",
            'title="other processes used 0.31 of 2 cores (chromium 0.3)">CONTENDED</abbr>',
            "29 more calls",
            "other answer",
            "UNSURE",
            "out of memory",
            "are free &lt;b&gt;",
            "conditions.foreign_load_cores",
            "AMD EPYC 7B13",
        ):
            assert expected in shown, expected

    def test_a_machine_is_told_once_and_conditions_with_each_cell(self, fakes: ModuleType) -> None:
        shown = body(written([fakes.fake_cell(), fakes.fake_cell("a/b", attempt=3)]))
        machine = shown.split('id="environment"')[1]
        assert machine.count("AMD EPYC 7B13") == 1
        assert "foreign_load_cores" not in machine
        assert shown.count("conditions.foreign_load_cores") == 2

    def test_lists_are_told_in_words(self, fakes: ModuleType) -> None:
        record = fakes.fake_cell()
        busiest = [{"name": "python", "cores": 1.077}, {"name": "ssh", "cores": 0.1}]
        conditions = {"busiest_foreign": busiest, "clock_reasons": []}
        moved = replace(record, environment={**record.environment, "conditions": conditions})
        shown = body(written([moved]))
        assert "<dd>name python, cores 1.077; name ssh, cores 0.1</dd>" in shown
        assert "<dd>1, 128</dd>" in shown
        assert "<dt>conditions.clock_reasons</dt><dd>none</dd>" in shown

    def test_another_machine_is_told_by_what_differs(self, fakes: ModuleType) -> None:
        records = [fakes.fake_cell(), fakes.fake_cell(device="cuda:0")]
        machine = body(written(records)).split('id="environment"')[1]
        assert machine.count("Another, as the first but for:") == 1
        assert machine.count("<dt>python</dt>") == 1
        assert "NVIDIA H100 80GB HBM3" in machine

    def test_everything_from_outside_is_escaped(self, fakes: ModuleType) -> None:
        attack = '</script><img src=x onerror="alert(1)">'
        good = fakes.fake_cell(f"a {attack}", contended=attack, model_class=attack, item=attack)
        good = replace(good, environment={**good.environment, "cpu": attack, "gpu": attack})
        bad = fakes.failed_cell(f"b {attack}", reason=attack)
        html = page(
            build_cells([good, bad, fakes.fake_cell(f"a {attack}", precision="bf16")]),
            speedups([good, bad]),
            (),
            title=attack,
            boards=attack,
        )
        plotly = re.sub(r"<script>.*?plotly.*?</script>", "", html, flags=re.DOTALL)
        assert "<img" not in plotly
        assert _Page(html).open == []

    def test_failures_alone_make_a_page(self, fakes: ModuleType) -> None:
        html = written([fakes.failed_cell()])
        assert _Page(html).open == []
        assert "asked for 112 GiB" in body(html)


class TestBuild:
    def test_a_store_of_inference_alone(self, fakes: ModuleType, tmp_path: Path) -> None:
        with open_results(tmp_path) as results:
            results.add_suite("s1", {"task": "inference", "models": ["b"]}, fakes.WHEN)
            for record in fakes.fake_sweep():
                results.append(record, "s1")
            built = build_report(results, tmp_path / "out", prefix="profile")
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert {
            "report.html",
            "profile_report.html",
            "profile_results.csv",
            "profile_detailed_report.txt",
            "profile_latency.png",
            "profile_trade_off.png",
        } <= names
        assert "profile_inference_report.html" not in names
        assert built.inference_html == built.html
        html = built.html.read_text(encoding="utf-8")
        assert "how fast, how heavy, how sure?" in html
        assert "Suite s1" in html
        value = json.loads(json.dumps(built.to_dict(), allow_nan=False))
        assert value["boards"] == []
        assert value["answer"].startswith("9 of 10 cells measured")
        labels = [cell["label"] for cell in value["inference"]["cells"]]
        assert labels[:2] == ["bert-base-uncased fp32", "bert-base-uncased bf16"]
        assert "latency_p50_ms" in value["inference"]["cells"][0]["measurements"]
        assert {gain["change"] for gain in value["inference"]["gains"]} == {"UNSURE"}
        assert "Suite s1" in built.detailed.read_text(encoding="utf-8")

    def test_gains_count_every_attempt_of_the_store(
        self, fakes: ModuleType, tmp_path: Path
    ) -> None:
        with open_results(tmp_path) as results:
            results.add_suite("s1", {"task": "inference"}, fakes.WHEN)
            for attempt in range(4):
                for precision, median, error in (("fp32", 12.0, None), ("bf16", 6.8, 0.004)):
                    record = fakes.fake_cell(
                        median_ms=median, precision=precision, error=error, attempt=attempt
                    )
                    results.append(record, "s1")
            built = build_report(results, tmp_path / "out", prefix="profile")
        (gain,) = built.gains
        assert gain.offered
        assert len(built.cells) == 2

    def test_a_store_of_both_tasks_has_a_page_for_each(
        self, fakes: ModuleType, scores: Any, tmp_path: Path
    ) -> None:
        with open_results(tmp_path) as results:
            results.add_suite("s1", {"models": ["m"]}, fakes.WHEN)
            results.add_suite("s2", {"task": "inference"}, fakes.WHEN)
            results.append(scores.fake_record(scores.ROWS[3]), "s1")
            results.append(scores.fake_record(scores.ROWS[5]), "s1")
            for record in fakes.fake_sweep()[:2]:
                results.append(record, "s2")
            built = build_report(results, tmp_path / "out", prefix="both")
        assert len(built.boards) == 1
        assert len(built.boards[0].rows) == 2
        assert len(built.cells) == 2
        assert built.inference_html == tmp_path / "out" / "both_inference_report.html"
        boards, cells = (
            path.read_text(encoding="utf-8") for path in (built.html, built.inference_html)
        )
        assert "both_inference_report.html" in _Page(boards).references
        assert "both_report.html" in _Page(cells).references
        assert "Suite s1" in boards
        assert "Suite s2" not in body(boards)
        assert "Suite s2" in body(cells)
        detailed = built.detailed.read_text(encoding="utf-8")
        assert "candlemark: detailed report" in detailed
        assert "candlemark: inference" in detailed
        value = built.to_dict()
        assert value["boards"]
        assert len(value["inference"]["cells"]) == 2
