"""The whole job: what ran is kept, what is finished is not run again, a kill costs nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import candlemark
from candlemark.errors import ConfigError, DatasetError
from candlemark.records import Status

MODEL = "timm/test_byobnet.r160_in1k"


def suite(**changes):
    dataset = {
        "candles": {"kind": "planted", "count": 360, "strength": 0.95, "density": 0.9},
        "window": 12,
        "label": {"name": "next_candle"},
        "style": {"kind": "candlestick", "height": 36, "width": 36},
        **changes.pop("dataset", {}),
    }
    return {
        "datasets": [dataset],
        "models": [],
        "weights": "random",
        "baselines": ["majority", "logistic"],
        "controls": [],
        "training": {"epochs": 2, "checkpoint_every_s": 0},
        "measure": {"latency_budget_s": 0.05, "replicates": 200},
        "device": "cpu",
        **changes,
    }


def scores(records):
    """What must not depend on when, or how often, a suite was interrupted."""
    return {
        record.facts["row"]: {
            measured.name: (measured.value, measured.low, measured.high)
            for measured in record.measurements
            if measured.name in {"auroc", "accuracy", "brier"}
        }
        for record in records
    }


def test_records_exports_and_config_are_left_behind(tmp_path):
    finished = candlemark.run(suite(), output_dir=tmp_path)
    rows = {record.facts["row"]: record for record in finished.records}
    assert list(rows) == ["baseline: majority", "baseline: logistic"]
    assert rows["baseline: logistic"].measurement("auroc").low > 0.5
    assert rows["baseline: majority"].measurement("auroc").value == 0.5
    (exported,) = finished.results_dir.glob("benchmark_suite_*.json")
    assert len(json.loads(exported.read_text(encoding="utf-8"))["trials"]) == 2
    assert not list((tmp_path / "checkpoints").glob("*"))

    saved = finished.results_dir / f"suite_{finished.suite_id}.yaml"
    again = candlemark.run(saved, output_dir=tmp_path)
    assert (again.suite_id, again.ran) == (finished.suite_id, 0)


def test_finished_trials_are_kept_and_new_ones_run(tmp_path):
    first = candlemark.run(suite(), output_dir=tmp_path)
    more = candlemark.run(
        suite(baselines=["majority", "logistic", "visible_trend"]), output_dir=tmp_path
    )
    assert (first.ran, more.ran) == (2, 1)
    assert len(more.records) == 3
    forced = candlemark.run(suite(), output_dir=tmp_path, resume=False)
    assert forced.ran == 2
    assert scores(forced.records) == scores(first.records)


def test_copies_are_left_even_if_the_last_run_ended_before_it_could_write_them(tmp_path):
    first = candlemark.run(suite(), output_dir=tmp_path)
    for copy in first.results_dir.glob("*.json"):
        copy.unlink()
    again = candlemark.run(suite(), output_dir=tmp_path)
    assert again.ran == 0
    assert list(first.results_dir.glob("benchmark_suite_*.json"))

    part = candlemark.run(suite(baselines=["majority"]), output_dir=tmp_path)
    assert part.ran == 0
    assert (part.results_dir / f"suite_{part.suite_id}.yaml").exists()


def test_a_trial_that_cannot_work_is_a_row_and_the_suite_goes_on(tmp_path):
    unloadable = suite(models=["timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"])
    unloadable["timeout_s"] = 0.5
    finished = candlemark.run(unloadable, output_dir=tmp_path)
    status = {record.facts["role"]: record.status for record in finished.records}
    assert status["model"] is Status.TIMED_OUT
    failed = next(record for record in finished.records if record.facts["role"] == "model")
    assert failed.reason == "took longer than 0.5 s"
    assert failed.facts["dataset"] == "planted signal 1h"


def test_a_random_split_runs_and_is_called_leaky(tmp_path):
    leaky = suite(dataset={"split": {"method": "random"}})
    finished = candlemark.run(leaky, output_dir=tmp_path)
    assert all(record.facts["leaky_split"] for record in finished.records)
    assert not finished.records[0].facts["audit"]["ok"]


def test_a_damaged_dataset_stops_the_suite_before_training(tmp_path):
    candlemark.run(suite(), output_dir=tmp_path)
    (index,) = (tmp_path / "datasets").glob("*/index.parquet")
    damaged = bytearray(index.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    index.write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"index\.parquet"):
        candlemark.run(suite(seeds=[1]), output_dir=tmp_path)


def test_a_config_that_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'baselines'"):
        candlemark.run({**suite(), "baseline": []}, output_dir=tmp_path)


def test_shuffled_labels_teach_nothing(tmp_path):
    finished = candlemark.run(
        suite(
            controls=["shuffled_labels"], dataset={"candles": {"kind": "planted", "count": 1500}}
        ),
        output_dir=tmp_path,
    )
    control = next(record for record in finished.records if record.facts["role"] == "control")
    auroc = control.measurement("auroc")
    assert abs(auroc.value - 0.5) < 0.1
    assert control.facts["row"] == "control: shuffled labels, logistic"


def interrupted(config: Path, folder: Path, kills: int, generator: random.Random) -> int:
    """Run a suite to its end, killing it `kills` times on the way; how often it was killed."""
    program = f"import candlemark; candlemark.run({str(config)!r}, output_dir={str(folder)!r})"
    killed = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        if killed < kills:
            time.sleep(generator.uniform(0.5, 9.0))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
        if process.wait() == 0:
            return killed


@pytest.mark.parametrize(
    "kills", [2, pytest.param(20, marks=pytest.mark.slow)], ids=["twice", "twenty"]
)
def test_a_killed_suite_ends_like_an_undisturbed_one(tmp_path, kills):
    config = tmp_path / "suite.yaml"
    plan = suite(models=[MODEL], controls=["shuffled_labels"], seeds=[0, 1][: 1 + kills // 10])
    config.write_text(yaml.safe_dump(plan), encoding="utf-8")
    undisturbed = candlemark.run(config, output_dir=tmp_path / "undisturbed")
    assert interrupted(config, tmp_path / "killed", kills, random.Random(7)) > 0  # noqa: S311 - moments to kill at
    resumed = candlemark.run(config, output_dir=tmp_path / "killed")
    assert resumed.ran == 0
    assert scores(resumed.records) == scores(undisturbed.records)
    for one, other in zip(undisturbed.records, resumed.records, strict=True):
        assert one.status is Status.OK
        assert np.array_equal(one.predictions.probability, other.predictions.probability)
    with candlemark.open_results(tmp_path / "killed" / "results") as results:
        attempts = results.sql("SELECT max(attempt) AS most FROM trials").to_pylist()
    assert attempts == [{"most": 1}]
