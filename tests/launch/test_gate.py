"""The gate from end to end: turns, baselines, crashes, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.errors import ConfigError
from candlemark.launch import baselines, gate
from candlemark.launch.gate import judge_cells, run_gate
from candlemark.launch.gate_worker import Burst, Cell
from candlemark.launch.interleave import (
    ProcessStarter,
    Rounds,
    Side,
    SideError,
    check_measures,
    run_cell,
)
from candlemark.metrics.limits import Decision, parse_limits
from candlemark.metrics.measures import find_measure

CELL = Cell(
    key="k",
    row="tiny:bert",
    device="cpu",
    config={"device": "cpu", "precision": "fp32", "backend": "eager", "batch_size": 2},
)
LATENCY = [find_measure("latency_p50_ms")]


@dataclass(kw_only=True)
class FakePlayer:
    """A process whose calls take as long as it is told."""

    side: str
    factor: float
    log: list[str]
    random: np.random.Generator
    crash: bool = False
    stopped: bool = False

    def burst(self, request: Burst) -> np.ndarray:
        if self.crash:
            raise SideError(f"{self.side} crashed: RuntimeError: boom")
        self.log.append(self.side)
        count = 1 if request.queued else 40
        return 20.0 * self.factor * np.exp(self.random.normal(0, 0.01, count))

    def amounts(self) -> Mapping[str, float]:
        return {"peak_memory_bytes": 1e8 * self.factor, "load_s": 0.0}

    def clock_fault(self) -> str | None:
        return None

    def stop(self) -> None:
        self.stopped = True


@dataclass
class FakeStarter:
    """Starts fakes: B `slowdown` times as slow, each process with an offset of its own."""

    slowdown: float = 1.0
    crash_b: bool = False
    seed: int = 0
    log: list[str] = field(default_factory=list)
    players: list[FakePlayer] = field(default_factory=list)

    def start(self, cell: Cell, columns: Sequence[str]) -> Sequence[FakePlayer]:
        random = np.random.default_rng([self.seed, len(self.players)])
        made = [
            FakePlayer(
                side=side,
                factor=float(np.exp(random.normal(0, 0.005)))
                * (self.slowdown if side == "B" else 1.0),
                log=self.log,
                random=random,
                crash=self.crash_b and side == "B",
            )
            for side in columns
        ]
        self.players += made
        return made


def rows_of(starter: FakeStarter, limits: str, *, cells: Sequence[Cell] = (CELL,), rounds: int = 6):
    return judge_cells(
        cells,
        starter,
        parse_limits([limits]),
        Rounds(rounds=rounds),
        random=np.random.default_rng(1),
    )


class TestRounds:
    def test_turns_go_there_and_back_and_every_process_is_ended(self):
        starter = FakeStarter()
        run_cell(CELL, starter, Rounds(rounds=2, passes=2), LATENCY, np.random.default_rng(0))
        assert len(starter.log) == 2 * 2 * 2 * 3
        for first in range(0, len(starter.log), 6):
            assert starter.log[first : first + 3] == starter.log[first + 3 : first + 6][::-1]
        assert all(player.stopped for player in starter.players)

    def test_b_stands_in_the_first_column_whatever_the_order(self):
        found = run_cell(
            CELL, FakeStarter(slowdown=2.0), Rounds(rounds=5), LATENCY, np.random.default_rng(0)
        )
        values = found.values["latency_p50_ms"]
        assert values.shape == (5, 3)
        assert np.all(values[:, 0] - values[:, 1:].max(axis=1) > 0.6)

    def test_throughput_counts_items(self):
        rate = [find_measure("throughput_items_per_s")]
        found = run_cell(CELL, FakeStarter(), Rounds(rounds=2), rate, np.random.default_rng(0))
        np.testing.assert_allclose(np.exp(found.values[rate[0].name]), 2 * 1000 / 20, rtol=0.05)

    def test_a_percentile_that_too_few_calls_bear_says_so(self):
        p99 = [find_measure("latency_p99_ms")]
        found = run_cell(CELL, FakeStarter(), Rounds(rounds=2), p99, np.random.default_rng(0))
        assert found.missing["latency_p99_ms"].startswith("299 calls a process bear it, 240 were")
        assert np.isnan(found.values["latency_p99_ms"]).all()

    def test_what_takes_no_rounds_is_refused_by_name(self):
        with pytest.raises(ConfigError, match="'energy_per_item_j' cannot be compared in inter"):
            check_measures([find_measure("energy_per_item_j")])
        with pytest.raises(ConfigError, match="at least 2 rounds"):
            Rounds(rounds=1)


class TestDecision:
    def test_a_slow_down_is_found(self):
        rows, failures = rows_of(FakeStarter(slowdown=1.1), "latency_p50_ms>+2%")
        assert not failures
        assert rows[0].decision is Decision.FAIL
        assert rows[0].change == "SLOWER"
        assert rows[0].cell == "tiny:bert cpu fp32 eager batch 2"

    def test_a_rerun_passes(self):
        rows, _ = rows_of(FakeStarter(), "latency_p50_ms>+5%,throughput_items_per_s<-5%")
        assert [row.decision for row in rows] == [Decision.PASS, Decision.PASS]

    def test_memory_has_one_value_a_round(self):
        rows, _ = rows_of(FakeStarter(slowdown=1.3), "peak_memory_bytes>+10%")
        assert rows[0].decision is Decision.FAIL
        assert rows[0].change == "MORE"

    def test_a_crash_in_b_is_a_failure_with_its_side(self):
        rows, failures = rows_of(FakeStarter(crash_b=True), "latency_p50_ms>+5%")
        assert rows == []
        assert failures == {
            "tiny:bert cpu fp32 eager batch 2": "round 1: B crashed: RuntimeError: boom"
        }

    def test_a_value_of_nothing_is_not_compared(self):
        rows, _ = rows_of(FakeStarter(), "load_s>+5%")
        assert rows[0].decision is Decision.UNDECIDED
        assert rows[0].grounds == "a process gave no value above 0"


def git(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return ran.stdout.strip()


MODEL = """
import time
import torch

class Sleeper(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        time.sleep({delay})
        return {{"y": x * self.weight}}

def make():
    return Sleeper(), {{"x": torch.ones(1, 4)}}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions of a model in a small repository: 2 ms committed first, then 40 ms."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    for delay in ("0.002", "0.040"):
        (folder / "sleeper.py").write_text(MODEL.format(delay=delay), encoding="utf-8")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", f"sleep {delay} s")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CANDLEMARK_LEASES", str(tmp_path / "leases"))
    return folder


def worktrees(folder: Path) -> list[str]:
    return git(folder, "worktree", "list", "--porcelain").split("\n\n")


class TestBaselines:
    def test_a_revision_is_checked_out_and_cleared_away(self, repository: Path):
        revision = baselines.find_revision("HEAD~1", repository)
        assert revision is not None
        with baselines.checked_out(revision) as side:
            assert "0.002" in (side.cwd / "sleeper.py").read_text(encoding="utf-8")
            assert side.path[0] == side.cwd
            assert len(worktrees(repository)) == 2
            kept = side.cwd
        assert len(worktrees(repository)) == 1
        assert not kept.parent.exists()

    def test_what_is_no_revision_is_none(self, repository: Path, tmp_path: Path):
        assert baselines.find_revision("nothing", repository) is None
        assert baselines.find_revision("main", tmp_path) is None
        assert baselines.find_revision("--help", repository) is None

    def test_a_subfolder_is_found_in_the_copy(self, repository: Path):
        inner = repository / "src"
        inner.mkdir()
        (inner / "m.py").write_text("", encoding="utf-8")
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "--message", "src")
        revision = baselines.find_revision("HEAD", inner)
        assert revision is not None
        with baselines.checked_out(revision) as side:
            assert side.cwd.name == "src"
            assert (side.cwd / "m.py").exists()
        before = baselines.find_revision("HEAD~1", inner)
        assert before is not None
        with pytest.raises(ConfigError, match="src does not exist in 'HEAD~1'"):
            baselines.checked_out(before).__enter__()
        assert len(worktrees(repository)) == 1

    def test_both_sides_are_measured_by_this_candlemark(self, tmp_path: Path):
        (tmp_path / "src" / "candlemark").mkdir(parents=True)
        (tmp_path / "src" / "candlemark" / "__init__.py").write_text("", encoding="utf-8")
        assert baselines.importable(tmp_path) == (tmp_path,)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_an_interrupt_leaves_no_copy(self, repository: Path, number: int):
        code = textwrap.dedent(
            """
            import signal, sys, time
            from pathlib import Path
            from candlemark.launch.baselines import checked_out, find_revision
            number = int(sys.argv[1])  # what started the tests may have left it ignored
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )
            with checked_out(find_revision("main", Path.cwd())) as side:
                print(side.cwd, flush=True)
                time.sleep(60)
            """
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(int(number))],
            cwd=repository,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        ) as process:
            assert process.stdout is not None
            place = Path(process.stdout.readline().strip())
            assert place.is_dir()
            process.send_signal(number)
            assert process.wait(30) != 0
        assert not place.parent.exists()
        assert len(worktrees(repository)) == 1

    def test_a_copy_that_was_interrupted_in_the_making_is_cleared_away(self, repository: Path):
        revision = baselines.find_revision("main", repository)
        assert revision is not None
        with baselines.checked_out(revision) as side:
            git(repository, "worktree", "lock", "--reason", "initializing", str(side.cwd))
            (side.cwd / ".git").unlink()
        assert len(worktrees(repository)) == 1
        assert not side.cwd.parent.exists()

    def test_inside_a_hook_git_looks_at_the_right_repository(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        ran = tmp_path / "ran"
        hook = repository / ".git" / "hooks" / "post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {ran}\n", encoding="utf-8")
        hook.chmod(0o755)
        inner = repository / "inner"
        inner.mkdir()
        before = (repository / ".git" / "index").read_bytes()
        with monkeypatch.context() as patch:
            patch.setenv("GIT_DIR", ".git")
            patch.setenv("GIT_INDEX_FILE", str(repository / ".git" / "index"))
            revision = baselines.find_revision("HEAD~1", inner)
            assert revision is not None
            assert revision.top == repository
            outer = baselines.find_revision("HEAD~1", repository)
            assert outer is not None
            with baselines.checked_out(outer) as side:
                assert "0.002" in (side.cwd / "sleeper.py").read_text(encoding="utf-8")
        assert (repository / ".git" / "index").read_bytes() == before
        assert not ran.exists()

    def test_a_branch_without_a_commit_has_no_revision(self, tmp_path: Path):
        git(tmp_path, "init", "--quiet", "--initial-branch=main")
        assert baselines.find_revision("HEAD", tmp_path) is None
        assert baselines.find_revision("main", tmp_path) is None

    def test_what_is_not_committed_is_measured_and_left_as_it_is(self, repository: Path):
        (repository / "sleeper.py").write_text("dirty", encoding="utf-8")
        (repository / "new.py").write_text("untracked", encoding="utf-8")
        revision = baselines.find_revision("HEAD", repository)
        assert revision is not None
        before = git(repository, "status", "--porcelain")
        with baselines.checked_out(revision) as side:
            assert "0.040" in (side.cwd / "sleeper.py").read_text(encoding="utf-8")
            assert not (side.cwd / "new.py").exists()
            assert baselines.here(repository).path[0] == repository
        assert git(repository, "status", "--porcelain") == before

    def test_neither_revision_nor_run_is_refused(self, repository: Path, tmp_path: Path):
        config = InferenceConfig(models=("tiny:bert",))
        asked = {"baseline": "v0", "fail_on": ["load_s>+5%"], "output_dir": tmp_path}
        with pytest.raises(
            ConfigError, match=r"'v0' is no git revision of \S+ \(see: git log\) and no"
        ):
            run_gate(config, **asked)
        with pytest.raises(ConfigError, match=r"'v0' is no git revision, as \S+ lies in no repo"):
            run_gate(config, **asked, folder=tmp_path)
        git(tmp_path, "init", "--quiet")
        with pytest.raises(ConfigError, match=r"of \S+, which has no commit yet, and no run in"):
            run_gate(config, **asked, folder=tmp_path)
        with pytest.raises(ConfigError, match="no baseline is named"):
            run_gate(config, baseline=None, fail_on=["load_s>+5%"], output_dir=tmp_path)

    def test_an_interpreter_without_candlemark_is_refused(self, tmp_path: Path):
        fake = tmp_path / "python"
        fake.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        fake.chmod(0o755)
        with pytest.raises(ConfigError, match=r"has no candlemark, .* install it there: "):
            baselines.check_python(fake)
        with pytest.raises(ConfigError, match="cannot run --baseline-python"):
            baselines.check_python(tmp_path / "absent")
        baselines.check_python(Path(sys.executable))


class TestWhole:
    def test_processes_of_both_sides_run_their_own_version(self, repository: Path):
        config = InferenceConfig(
            models=("python:sleeper:make",), devices=("cpu",), timing={"warmup_s": 0.0}, threads=1
        )
        revision = baselines.find_revision("HEAD~1", repository)
        assert revision is not None
        with baselines.checked_out(revision) as before:
            sides = {"A": before, "B": baselines.here(repository)}
            (cell,) = sides["B"].cells(config)
            players = ProcessStarter(config=config, sides=sides).start(cell, ["A", "B"])
            try:
                a, b = (np.median(one.burst(Burst(seconds=0.02))) for one in players)
            finally:
                for player in players:
                    player.stop()
        assert 2 <= a < 40 <= b

    def test_a_gate_is_stored_and_leaves_nothing_behind(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(Side, "cells", lambda side, config: [CELL])
        monkeypatch.setattr(gate, "ProcessStarter", lambda config, sides: FakeStarter(slowdown=1.1))
        result = run_gate(
            InferenceConfig(models=("tiny:bert",)),
            baseline="HEAD~1",
            fail_on=["latency_p50_ms>+5%"],
            rounds=Rounds(rounds=6),
            output_dir=tmp_path,
            seed=0,
        )
        assert result.outcome == "regressed"
        assert result.path is not None
        stored = json.loads(result.path.read_text(encoding="utf-8"))
        assert (stored["outcome"], stored["exit_status"]) == ("regressed", 1)
        assert stored["baseline"]["kind"] == "revision"
        assert np.shape(stored["rows"][0]["values"]) == (6, 3)
        assert len(worktrees(repository)) == 1


@pytest.mark.slow
class TestEndToEnd:
    def test_both_versions_run_from_their_own_folders(self, repository: Path, tmp_path: Path):
        config = InferenceConfig(
            models=("python:sleeper:make",), devices=("cpu",), timing={"warmup_s": 0.0}, threads=1
        )
        result = run_gate(
            config,
            baseline="HEAD~1",
            fail_on=["latency_p50_ms>+5%"],
            rounds=Rounds(rounds=2, passes=1, burst_s=0.02),
            output_dir=tmp_path,
            seed=0,
        )
        assert result.failures == {}
        (row,) = result.rows
        assert row.ratio is not None
        assert row.ratio > 2
        assert row.decision is Decision.UNDECIDED  # two rounds cannot reject anything
        assert result.exit_status == 3
        assert len(worktrees(repository)) == 1

    def test_a_crash_in_b_is_no_verdict(self, repository: Path, tmp_path: Path):
        broken = MODEL.format(delay="0.002").replace("time.sleep(0.002)", "import os; os._exit(9)")
        (repository / "sleeper.py").write_text(broken, encoding="utf-8")
        result = run_gate(
            InferenceConfig(models=("python:sleeper:make",), devices=("cpu",), threads=1),
            baseline="HEAD",
            fail_on=["latency_p50_ms>+5%"],
            rounds=Rounds(rounds=2, passes=1, burst_s=0.02),
            output_dir=tmp_path,
        )
        assert result.outcome == "could not measure"
        ((_, reason),) = result.failures.items()
        assert reason == "round 1: B crashed: its process ended with exit status 9"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_whole_command_ends_with_all_of_its_processes(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ):
        import psutil

        (tmp_path / "temporary").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
        command = ["gate", "python:sleeper:make", "--baseline", "HEAD~1", "--rounds", "50"]
        limit = ["--fail-on", "latency_p50_ms>+5%", "--device", "cpu", "--threads", "1"]
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from candlemark.cli.main import main; main()",
                *command,
                *limit,
            ],
            cwd=repository,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        ) as process:
            workers: list[psutil.Process] = []
            while len(workers) < 3 and process.poll() is None:
                time.sleep(0.05)
                workers = psutil.Process(process.pid).children()
            os.killpg(process.pid, number)  # as a terminal does
            assert process.stderr is not None
            error = process.stderr.read()
            assert process.wait(60) == 128 + number
        if number == signal.SIGINT:
            assert "interrupted; nothing was decided" in error
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert alive == []
        assert list((tmp_path / "temporary").glob("candlemark-gate-*")) == []
        assert len(worktrees(repository)) == 1

    @pytest.mark.parametrize(("here", "status"), [("0.0021", 1), ("0.0020", 0)])
    def test_five_per_cent_more_sleep_is_found(
        self, repository: Path, tmp_path: Path, here: str, status: int
    ):
        (repository / "sleeper.py").write_text(MODEL.format(delay=here), encoding="utf-8")
        result = run_gate(
            InferenceConfig(models=("python:sleeper:make",), devices=("cpu",), threads=1),
            baseline="HEAD~1",
            fail_on=["latency_p50_ms>+2%"],
            output_dir=tmp_path,
        )
        assert result.exit_status == status, result.rows


class TestStoredRun:
    def test_a_stored_run_is_compared_by_its_repeats(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        from candlemark.launch import inference
        from candlemark.results.store import open_results

        made = _attempts(20.0, run="main")
        with open_results(tmp_path / "results") as store:
            for record in made:
                store.append(record, "s", run="main")
        numbers = iter(range(100))

        def measure(config: object, *, output_dir: Path, resume: bool, run_name: str) -> None:
            assert resume is False
            record = _attempts(26.0, run="now")[next(numbers)]
            with open_results(Path(output_dir) / "results") as store:
                store.append(record, "s", run=run_name)

        monkeypatch.setattr(inference, "run_inference", measure)
        monkeypatch.chdir(tmp_path)
        result = run_gate(
            InferenceConfig(models=("tiny:bert",)),
            baseline="main",
            fail_on=["latency_p50_ms>+5%"],
            rounds=Rounds(rounds=5),
            output_dir=tmp_path,
        )
        assert result.baseline.kind == "run"
        assert "did not take turns" in result.baseline.detail
        assert result.outcome == "regressed", result.rows
        assert result.notes == ()

    def test_what_the_stored_run_lacks_is_noted(self):
        limits = parse_limits(["latency_p50_ms>+5%,peak_memory_bytes>+5%"])
        mine = _attempts(20.0, run="now")
        other = [replace(one, trial={**one.trial, "batch_size": 8}, trial_id="t8") for one in mine]
        rows, unknown, notes = gate._stored_rows(
            _attempts(20.1, run="main"),
            [*mine, *other],
            ("main", "now"),
            limits,
            margin=0.01,
            repeats=(),
        )
        assert len(rows) == 1
        assert unknown == {"tiny:bert cpu fp32": "neither side measured peak_memory_bytes"}
        assert notes == [
            "tiny:bert cpu fp32 batch 8: the baseline has no such cell; it is not judged"
        ]


def _attempts(median_ms: float, *, run: str):
    from candlemark.hardware.comparability import comparability_key
    from candlemark.records import Measurement, RunRecord, Status, content_id

    trial = {"task": "inference", "model": "tiny:bert", "device": "cpu", "precision": "fp32"}
    environment = {"device": "cpu", "threads": 1}
    random = np.random.default_rng(round(median_ms))
    made = []
    for number in range(5):
        value = median_ms * float(np.exp(random.normal(0, 0.01)))
        made.append(
            RunRecord(
                trial_id=content_id(trial),
                trial=trial,
                status=Status.OK,
                started_at=f"2026-01-31T12:00:{number:02d}.{run}",
                duration_s=1.0,
                measurements=(Measurement(name="latency_p50_ms", value=value, unit="ms"),),
                samples={"latency_ms": np.full(20, value)},
                facts={"row": "tiny:bert", "model": "tiny:bert"},
                environment={**environment, "comparability_key": comparability_key(environment)},
            )
        )
    return made


def test_a_gate_that_judged_nothing_does_not_pass():
    result = gate.GateResult(
        baseline=gate.Baseline(kind="revision", name="main", detail="d"),
        rows=(),
        failures={},
        notes=(),
        started_at="2026-01-31T12:00:00+00:00",
        rounds=8,
        seed=0,
    )
    assert (result.outcome, result.exit_status) == ("could not measure", 3)
