"""Exports are strict, complete or absent, and named so that a shell can hold them."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any

import pytest

from candlemark.errors import ResultsError
from candlemark.records import Measurement, RunRecord, Status, content_id
from candlemark.results.files import file_stem, write_bytes, write_json
from candlemark.results.query import matching, summaries
from candlemark.results.selection import select
from candlemark.results.sharing.suites import export
from candlemark.results.store import open_results

WHEN = "2025-01-31T12:00:05.123+00:00"


def make_record(row: str, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "trial_id": content_id(row),
        "trial": {"row": row},
        "status": Status.OK,
        "started_at": WHEN,
        "duration_s": 2.0,
        "measurements": (
            Measurement(name="auroc", value=0.5, low=0.4, high=0.6, level=0.95),
            Measurement(name="mcc", value=None, reason="one class"),
        ),
        "facts": {"row": row, "label": "next_candle", "market": "real"},
    }
    return RunRecord(**{**fields, **changes})


def test_json_and_csv_beside_the_store(tmp_path: Path) -> None:
    crashed = make_record("timm/a.b", status=Status.CRASHED, reason="boom", measurements=())
    with open_results(tmp_path) as results:
        results.add_suite("s1", {"epochs": 2}, WHEN)
        results.append(crashed, "s1")
        results.append(make_record("baseline: majority"), "s1")
        written = export(results, tmp_path)
    assert sorted(path.name for path in written) == [
        "baseline_majority_results.json",
        "benchmark_suite_20250131T120005Z.csv",
        "benchmark_suite_20250131T120005Z.json",
        "timm_a.b_results.json",
    ]
    suite = json.loads(
        (tmp_path / "benchmark_suite_20250131T120005Z.json").read_text(encoding="utf-8")
    )
    assert (suite["version"], suite["config"]) == (2, {"epochs": 2})
    assert [trial["status"] for trial in suite["trials"]] == ["crashed", "ok"]
    assert suite["trials"][1]["measurements"]["mcc"]["value"] is None
    assert suite["trials"][1]["measurements"]["auroc"]["verdict"] == "VALID"
    with (tmp_path / "benchmark_suite_20250131T120005Z.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["reason"] for line in lines] == ["boom", ""]
    assert (lines[1]["auroc"], lines[1]["auroc_low"], lines[1]["mcc"]) == ("0.5", "0.4", "")
    assert not list(tmp_path.glob(".*part"))


def test_names_that_collide_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with open_results(tmp_path) as results:
        for suite, row in (("s1", "timm/a.b"), ("s2", "timm_a.b")):
            results.add_suite(suite, {"of": suite}, WHEN)
            results.append(make_record(row), suite, run="main")
        written = export(results, tmp_path)
        assert len(set(written)) == len(written) == 6
        suites = [
            json.loads(one.read_text(encoding="utf-8")) for one in sorted(tmp_path.glob("*Z*.json"))
        ]
        assert [one["suite_id"] for one in suites] == ["s1", "s2"]
        rows = [
            json.loads(one.read_text(encoding="utf-8"))["row"] for one in tmp_path.glob("timm*")
        ]
        assert sorted(rows) == ["timm/a.b", "timm_a.b"]
        assert len({one.name for one in select(results, run="main")}) == 2


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"x\.json cannot be written as strict JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    (folder / "inside").write_text("", encoding="utf-8")
    with pytest.raises(ResultsError, match=r"cannot write .*taken"):
        write_bytes(folder, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(("fault", "helps"), [("ENOSPC", True), ("EDQUOT", True), ("EFBIG", False)])
def test_a_full_disk_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, helps: bool
) -> None:
    def fail(*_: object) -> int:
        raise OSError(getattr(errno, fault), "it does not fit")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ResultsError, match=r"cannot write .*: it does not fit") as error:
        write_bytes(tmp_path / "x", b"new")
    assert str(error.value).endswith("; free some space and run the command again") == helps


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("timm/edgenext_xx_small.in1k", "timm_edgenext_xx_small.in1k"),
        ("../../etc/passwd", "etc_passwd"),
        ("control: shuffled labels", "control_shuffled_labels"),
        ("///", "row"),
    ],
)
def test_names_become_file_names(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_suites_are_found_by_pattern_and_summed_up(tmp_path: Path) -> None:
    with open_results(tmp_path) as results:
        with pytest.raises(ResultsError, match=r"no suite fits '\*' .* newest: none yet"):
            matching(results, "*")
        results.add_suite("demo-1", {}, WHEN, trial_ids=["a", "b", content_id("x")])
        results.append(make_record("x"), "demo-1")
        results.append(make_record("y", status=Status.CRASHED, reason="boom"), "demo-1")
        assert [s.suite_id for s in matching(results, "demo*")] == ["demo-1"]
        assert len(matching(results, "benchmark_suite_*.json")) == 1
        (line,) = summaries(results)
        assert (line.planned, line.finished, line.failed) == (3, 1, 1)
        with pytest.raises(ResultsError, match="no suite 'z'"):
            export(results, tmp_path, suite_id="z")
