"""A report of a store with segmentation in it, alone, beside other tasks, by any convention."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from candlemark.cli.main import app
from candlemark.errors import ConfigError
from candlemark.records import Measurement, Status
from candlemark.report.build import build_report
from candlemark.report.segmentation.text import answer
from candlemark.results.store import open_results


@pytest.fixture
def store(fake: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    with open_results(folder) as results:
        config = {
            "task": "segmentation",
            "benchmark": {"metrics": ["dice", "nsd"], "thresholds": {"dice": 0.5}},
            "reporting": {"convention": "candlemark"},
        }
        results.add_suite("s1", config, fake.WHEN)
        for record in fake.study():
            results.append(record, "s1")
    return folder


def test_a_store_of_segmentation_alone_has_its_page_as_the_report(
    store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reports"
    with open_results(store, read_only=True) as results:
        files = build_report(results, out, prefix="scans")
    assert files.html == out / "report.html"
    assert files.masks_html == files.html
    (board,) = files.masks
    assert board.settings.metrics == ("dice", "nsd")
    assert "Bar Dice at least 0.5" in files.html.read_text(encoding="utf-8")
    told = files.to_dict()
    assert told["answer"] == answer(board)
    assert told["segmentation"][0]["dataset"] == "phantoms"
    assert "segmentation, detailed report" in files.detailed.read_text(encoding="utf-8")


def test_the_csv_of_a_report_follows_its_convention(fake: Any, tmp_path: Path) -> None:
    """It had candlemark's numbers of the run beside a page of MONAI's."""
    reference, prediction = fake.masks([10])
    blank = [fake.case_of_masks("blank", 0 * reference, prediction)]
    cases = [*(fake.case_of(name, 8) for name in fake.ids(6)), *blank]
    carried = [Measurement(name=name, value=0.5) for name in ("dice", "load_s", "nsd")]
    seeds = [fake.record("net", cases, seed=n, measurements=carried) for n in range(2)]
    shown_it = fake.record("sam", cases, oracle=True, measurements=carried)
    planned = [case["case"] for case in cases]
    dead = fake.record("dead", [], planned=planned, status=Status.CRASHED, reason="it died")
    with open_results(tmp_path / "results") as results:
        results.add_suite("s1", {"task": "segmentation"}, fake.WHEN)
        for record in (*seeds, shown_it, dead):
            results.append(record, "s1")
        found = {
            name: build_report(results, tmp_path / name, convention=name).csv
            for name in ("candlemark", "monai", "nnunet")
        }
    lines = {
        name: list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for name, path in found.items()
    }
    for line in lines["monai"][:3]:
        assert float(line["dice"]) == pytest.approx(0.8)
    assert float(lines["candlemark"][0]["dice"]) == pytest.approx(0.8 * 6 / 7)
    assert lines["nnunet"][0]["nsd"] == ""
    assert [line["load_s"] for line in lines["monai"]] == ["0.5"] * 3 + [""]
    assert [line["dice_verdict"] for line in lines["monai"]] == ["VALID", "VALID", "ORACLE", ""]


def test_beside_other_tasks_the_page_is_linked(
    fake: Any, charts: Any, store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reports"
    with open_results(store) as results:
        results.append(charts.fake_record(charts.ROWS[3]), "s1")
        files = build_report(results, out, prefix="both")
    assert files.masks_html == out / "both_segmentation_report.html"
    assert 'href="both_segmentation_report.html"' in files.html.read_text(encoding="utf-8")
    assert 'href="both_report.html"' in files.masks_html.read_text(encoding="utf-8")
    assert [board.dataset for board in files.masks] == ["phantoms"]
    assert len(files.boards) == 1


def test_report_and_show_print_the_tables_by_any_convention(store: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    out = str(tmp_path / "reports")
    asked = ["report", "--results-dir", str(store), "--reports-dir", out, "--convention", "nnunet"]
    printed = runner.invoke(app, asked)
    assert printed.exit_code == 0, printed.output
    assert "nnU-Net convention" in printed.output
    assert "n/a of all rows, NSD: nnU-Net: it has no surface Dice" in printed.output
    printed = runner.invoke(app, ["results", "show", "--results-dir", str(store), "--json"])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.output)["segmentation"][0]["convention"] == "candlemark"
    refused = runner.invoke(app, [*asked[:-1], "itk"])
    assert refused.exit_code != 0
    assert isinstance(refused.exception, ConfigError | SystemExit)
