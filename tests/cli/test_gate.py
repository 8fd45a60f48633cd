"""`candlemark gate` and `candlemark results compare`: exit statuses, pages and messages."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from candlemark.cli import gate as gate_command
from candlemark.cli.main import main
from candlemark.launch import gate as launched
from candlemark.launch.gate import Baseline, GateResult, GateRow
from candlemark.metrics.limits import Decision
from candlemark.records import Measurement, RunRecord, Status, content_id
from candlemark.results.store import open_results

EXAMPLE = Path(__file__).parents[2] / "examples" / "github_actions.yml"

ROW = GateRow(
    cell="tiny:bert cpu fp32 eager batch 1",
    measure="latency_p50_ms",
    limit="latency_p50_ms>+2%",
    ratio=1.05,
    low=1.04,
    high=1.06,
    floor=0.01,
    rounds=8,
    change="SLOWER",
    change_grounds="p",
    decision=Decision.FAIL,
    p_value=0.001,
    grounds="+5.0% is beyond the limit | p = 0.001 over the sweep",
    more_rounds=None,
)
RESULT = GateResult(
    baseline=Baseline(kind="revision", name="main", detail="baseline: git revision 'main'"),
    rows=(ROW,),
    failures={},
    notes=("a note",),
    started_at="2026-01-31T12:00:00+00:00",
    rounds=8,
    seed=0,
)
GATE = ("gate", "tiny:bert", "--baseline", "main", "--fail-on", "latency_p50_ms>+2%")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["candlemark", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the gate is to find, and what it was asked."""
    told: dict[str, Any] = {"result": RESULT}

    def pretend(config: Any, **options: Any) -> GateResult:
        told["config"], told["options"] = config, options
        if isinstance(told["result"], Exception):
            raise told["result"]
        return told["result"]

    monkeypatch.setattr(launched, "run_gate", pretend)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return told


class TestGate:
    def test_regressed_passed_and_not_measured_have_statuses_of_their_own(
        self, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any], capsys: Any
    ):
        assert run(monkeypatch, *GATE) == 1
        assert "regressed (exit status 1)" in capsys.readouterr().out
        outcome["result"] = replace(RESULT, rows=(replace(ROW, decision=Decision.PASS),))
        assert run(monkeypatch, *GATE) == 0
        outcome["result"] = replace(RESULT, rows=(replace(ROW, decision=Decision.UNDECIDED),))
        assert run(monkeypatch, *GATE) == 3
        outcome["result"] = replace(RESULT, rows=(), failures={"tiny:bert": "B crashed"})
        assert run(monkeypatch, *GATE) == 3
        assert "tiny:bert: could not be measured: B crashed" in capsys.readouterr().out

    def test_a_defect_is_no_regression(
        self, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any], capsys: Any
    ):
        outcome["result"] = ZeroDivisionError("a defect")
        assert run(monkeypatch, *GATE) == 3
        assert "ZeroDivisionError: a defect" in capsys.readouterr().err

    def test_flags_arrive(self, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any]):
        run(monkeypatch, *GATE, "--batch-size", "1,8", "--rounds", "5", "--margin", "3%")
        assert outcome["config"].batch_sizes == (1, 8)
        assert outcome["options"]["rounds"].rounds == 5
        assert outcome["options"]["margin"] == pytest.approx(0.03)

    @pytest.mark.usefixtures("outcome")
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("gate", "tiny:bert", "--baseline", "main"), "no limit is given"),
            ((*GATE, "--fail-on", "speed>5%"), "unknown measure 'speed'"),
            ((*GATE, "--margin", "much"), "--margin 'much' is no share below 1"),
            ((*GATE, "--rounds", "1"), "at least 2 rounds"),
            (("gate", "--fail-on", "load_s>+5%", "--baseline", "main"), "nothing says what to me"),
        ],
    )
    def test_wrong_words_are_errors_of_the_user(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Any,
        tmp_path: Path,
        arguments: tuple[str, ...],
        message: str,
    ):
        monkeypatch.chdir(tmp_path)
        assert run(monkeypatch, *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

    def test_the_newest_stored_benchmark_is_what_is_gated(
        self, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any], tmp_path: Path
    ):
        with open_results(tmp_path / "results") as store:
            config = {"task": "inference", "models": ["tiny:bert"], "batch_sizes": [4]}
            store.add_suite("s", config, "2026-01-31T12:00:00+00:00")
        options = ("--baseline", "main", "--fail-on", "load_s>+5%", "--output-dir", str(tmp_path))
        run(monkeypatch, "gate", *options)
        assert outcome["config"].models == ("tiny:bert",)
        assert outcome["config"].batch_sizes == (4,)

    def test_json_is_one_object(
        self, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any], capsys: Any
    ):
        assert run(monkeypatch, *GATE, "--json") == 1
        found = json.loads(capsys.readouterr().out)
        assert found["outcome"] == "regressed"
        assert found["rows"][0]["decision"] == "FAIL"

    def test_the_page_of_a_job_gets_a_table(
        self, monkeypatch: pytest.MonkeyPatch, outcome: dict[str, Any], tmp_path: Path
    ):
        page = tmp_path / "summary.md"
        page.write_text("before\n", encoding="utf-8")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
        run(monkeypatch, *GATE)
        text = page.read_text(encoding="utf-8")
        assert text.startswith("before\n## Inference gate: regressed\n\nBaseline: git revision")
        (line,) = [line for line in text.splitlines() if "tiny:bert" in line]
        assert "| 1.050 [1.040, 1.060] | 1.0% | SLOWER | **FAIL** |" in line
        assert "beyond the limit \\| p" in line
        assert "- a note" in gate_command.markdown(RESULT)


class TestCompare:
    def fill(self, folder: Path) -> None:
        with open_results(folder) as store:
            for run_name, base in (("main", 20.0), ("mine", 25.0)):
                for number in range(4):
                    store.append(_record(base, number, run_name), "s", run=run_name)

    def test_two_runs(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any):
        self.fill(tmp_path)
        options = ("--results-dir", str(tmp_path), "--measure", "latency_p50_ms")
        assert run(monkeypatch, "results", "compare", "main", "mine", *options, "--json") == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert (row["change"], row["offered"]) == ("SLOWER", False)
        assert run(monkeypatch, "results", "compare", "main", "mine", *options) == 0
        assert "SLOWER" in capsys.readouterr().out

    def test_a_folder_of_a_run_s_name_is_not_taken_for_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
    ):
        self.fill(tmp_path / "store")
        (tmp_path / "main").mkdir()
        monkeypatch.chdir(tmp_path)
        options = ("--results-dir", "store", "--json")
        assert run(monkeypatch, "results", "compare", "main", "mine", *options) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert row["change"] == "SLOWER"

    def test_a_store_elsewhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any):
        self.fill(tmp_path / "here")
        with open_results(tmp_path / "there") as store:
            for number in range(4):
                store.append(_record(15.0, number, "x"), "s")
        options = ("--results-dir", str(tmp_path / "here"), "--json")
        assert (
            run(monkeypatch, "results", "compare", "main", str(tmp_path / "there"), *options) == 0
        )
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert row["change"] == "FASTER"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("main", "nothing"), "'nothing' is no run, suite or file; newest runs in"),
            (("main",), "a run compared with itself says nothing"),
            (("main", "--across", "colour"), "cannot compare across 'colour'; allowed: precision"),
        ],
    )
    def test_wrong_names(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: Any,
        arguments: tuple[str, ...],
        message: str,
    ):
        self.fill(tmp_path)
        options = ("--results-dir", str(tmp_path))
        assert run(monkeypatch, "results", "compare", *arguments, *options) == 2
        assert message in capsys.readouterr().err


def _record(base: float, number: int, run_name: str) -> RunRecord:
    trial = {"task": "inference", "model": "tiny:bert", "device": "cpu", "precision": "fp32"}
    value = base * (1 + 0.002 * number)
    return RunRecord(
        trial_id=content_id(trial),
        trial=trial,
        status=Status.OK,
        started_at=f"2026-01-31T12:00:{number:02d}.{run_name}",
        duration_s=1.0,
        measurements=(Measurement(name="latency_p50_ms", value=value, unit="ms"),),
        samples={"latency_ms": np.full(20, value)},
        facts={"row": "tiny:bert", "model": "tiny:bert"},
        environment={"device": "cpu", "comparability_key": "k"},
    )


class TestExample:
    def steps(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["jobs"][
            "gate"
        ]["steps"]
        return found

    def test_it_is_a_workflow_with_pinned_actions(self):
        workflow = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
        assert "pull_request" in workflow[True]  # YAML 1.1 reads the key `on` as true
        uses = [step["uses"] for step in self.steps() if "uses" in step]
        assert uses
        assert all(name.rpartition("@")[2].startswith("v") for name in uses)
        checkout = next(step for step in self.steps() if "checkout" in step.get("uses", ""))
        assert checkout["with"]["fetch-depth"] == 0

    @pytest.mark.parametrize(
        ("status", "left", "word"),
        [(0, 0, ""), (1, 1, "::error::slower"), (3, 0, "::warning::"), (2, 2, "the gate itself")],
    )
    def test_it_tells_exit_statuses_apart(self, tmp_path: Path, status: int, left: int, word: str):
        (script,) = [
            step["run"] for step in self.steps() if "candlemark gate" in step.get("run", "")
        ]
        fake = tmp_path / "candlemark"
        fake.write_text(
            f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit {status}\n', encoding="utf-8"
        )
        fake.chmod(0o755)
        ran = subprocess.run(
            ["bash", "-e", "-c", script],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "BASELINE": "origin/main"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert ran.returncode == left
        assert word in ran.stdout
        assert "--baseline origin/main --fail-on latency_p50_ms>+5%," in (
            tmp_path / "asked"
        ).read_text(encoding="utf-8")
