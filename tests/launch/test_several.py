"""Two processes that train one model together, as `accelerate launch` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from candlemark.results.store import open_results

PROGRAM = """
from candlemark.launch.fusion import run_fusion
from candlemark.launch.run import as_config

config = as_config({
    "task": "fusion",
    "datasets": [{
        "candles": {"kind": "planted_pair", "count": 220},
        "window": 8,
        "label": {"name": "direction"},
        "style": {"kind": "ohlc4", "height": 32},
    }],
    "inputs": ["numbers"],
    "baselines": ["persistence"],
    "controls": [],
    "training": {"epochs": 1},
    "measure": {"latency_budget_s": 0.05, "replicates": 100},
    "device": "cpu",
    "keep_models": True,
})
first = run_fusion(config, output_dir="out")
# Nothing is left to train: the process that follows is let go all the same.
again = run_fusion(config, output_dir="out")
print(f"ran {first.ran} then {again.ran}", flush=True)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_train_one_model(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc_per_node=2", "program.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "1",
            "OMP_NUM_THREADS": "1",
            "CANDLEMARK_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[-2:] == ["ran 0 then 0", "ran 2 then 0"]
    with open_results(tmp_path / "out" / "results", read_only=True) as store:
        (record,) = (one for one in store.records() if one.facts["role"] == "model")
    assert record.facts["process_count"] == 2
    assert np.isfinite(record.predictions.probability).all()
    (model,) = (tmp_path / "out" / "models").iterdir()
    assert (
        json.loads((model / "training.json").read_text(encoding="utf-8"))["trial_id"]
        == record.trial_id
    )
