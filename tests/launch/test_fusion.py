"""A study of fusion from end to end: kept, found again, killed, and resumed to the same bits."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import candlemark
from candlemark.errors import ConfigError, DatasetError
from candlemark.execution.base import Outcome
from candlemark.launch.fusion import run_fusion
from candlemark.launch.run import as_config
from candlemark.records import Status

MAIN = "text + image (text_to_image)"


class Here:
    """Runs trials in this process and remembers which."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        for item in items:
            self.ran.append(item.trial.row)
            value = function(item)
            yield Outcome(
                item=item, value=value, failure=None, started_at="2026-01-01", duration_s=0.0
            )


class Nobody:
    """Runs nothing."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        raise AssertionError([item.trial.row for item in items])


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def study(**changes: Any) -> dict[str, Any]:
    market = {
        "candles": {"kind": "planted_pair", "count": 220},
        "window": 8,
        "label": {"name": "direction"},
        "style": {"kind": "ohlc4", "height": 32},
    }
    return {
        "task": "fusion",
        "datasets": [market],
        "model": {
            "text_encoder": "tiny:bert",
            "image_encoder": "tiny:vit",
            "weights": "random",
            "caption": "classic",
            "width": 32,
        },
        "inputs": ["both"],
        "baselines": ["persistence"],
        "controls": [],
        "training": {"epochs": 2},
        "measure": {"latency_budget_s": 0.05, "replicates": 100},
        "device": "cpu",
        "isolate": False,
        **changes,
    }


def run(config: dict[str, Any], folder: Path, **options: Any):
    here = Here()
    return run_fusion(as_config(config), output_dir=folder, executor=here, **options), here.ran


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_study_is_run_once_and_its_saved_config_finds_it_again(tmp_path):
    numbers = study(inputs=["numbers"])
    here = Here()
    first = candlemark.run(numbers, output_dir=tmp_path, executor=here)
    assert here.ran == ["baseline: persistence", "numbers only: 1-D CNN"]
    assert not list((tmp_path / "checkpoints").glob("*"))
    saved = first.results_dir / f"suite_{first.suite_id}.yaml"
    assert yaml.safe_load(saved.read_text(encoding="utf-8"))["task"] == "fusion"
    again = candlemark.run(saved, output_dir=tmp_path, executor=here)
    assert (again.suite_id, again.ran) == (first.suite_id, 0)
    assert list(first.results_dir.glob("benchmark_suite_*.json"))
    more = candlemark.run(
        {**numbers, "controls": ["random_walk"]}, output_dir=tmp_path, executor=here
    )
    markets = [record.facts["market"] for record in more.records]
    assert (more.ran, markets) == (2, ["planted"] * 2 + ["random_walk"] * 2)


def test_a_model_is_kept_where_it_was_asked_for_and_made_again_where_it_is_gone(tmp_path):
    place = tmp_path / "models" / "mine"
    config = study(inputs=["numbers"], keep_models=True, training={"epochs": 1})
    _, ran = run(config, tmp_path, model_dir=place)
    assert ran == ["baseline: persistence", "numbers only: 1-D CNN"]
    weights = digest(place / "model.safetensors")
    _, ran = run(config, tmp_path, model_dir=place)
    assert ran == []

    _, ran = run(config, tmp_path, model_dir=place, pickle=True)
    assert ran == []
    loaded = torch.load(place / "pytorch_model.bin", weights_only=True)
    assert sum(tensor.numel() for tensor in loaded.values()) > 0
    assert digest(place / "model.safetensors") == weights

    finished, ran = run(config, tmp_path, model_dir=tmp_path / "elsewhere")
    assert ran == ["numbers only: 1-D CNN"]
    assert digest(tmp_path / "elsewhere" / "model.safetensors") == weights
    told = json.loads((tmp_path / "elsewhere" / "training.json").read_text(encoding="utf-8"))
    assert told["trial_id"] in {record.trial_id for record in finished.records}
    assert [row["row"] for row in told["beside"]] == ["baseline: persistence"]


def test_what_stands_in_a_folder_is_not_replaced(tmp_path):
    config = study(inputs=["numbers"], training={"epochs": 1})
    place = tmp_path / "mine"
    run(config, tmp_path, model_dir=place)
    with pytest.raises(ConfigError, match="holds another model, which training would replace"):
        run({**config, "seeds": [1]}, tmp_path, model_dir=place)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="notes holds other things"):
        run(config, tmp_path, model_dir=tmp_path / "notes")
    with pytest.raises(ConfigError, match="is a file; a model is written as a folder"):
        run(config, tmp_path, model_dir=tmp_path / "notes" / "thesis.txt")
    with pytest.raises(ConfigError, match="one folder holds one model, and this study trains 2"):
        run({**config, "inputs": ["numbers", "both"]}, tmp_path, model_dir=tmp_path / "two")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch
):
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    config = study(inputs=["numbers"])
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    nobody = Nobody()
    with pytest.raises(ConfigError, match=r"file/m cannot be made, .*: Not a directory; name"):
        run_fusion(
            as_config(config),
            output_dir=tmp_path / "out",
            executor=nobody,
            model_dir=tmp_path / "file" / "m",
        )
    monkeypatch.setattr("candlemark.launch.fusion.tempfile.TemporaryFile", full)
    with pytest.raises(ConfigError, match=r"m cannot be made, .*: No space left on device; name"):
        run_fusion(
            as_config(config),
            output_dir=tmp_path / "out",
            executor=nobody,
            model_dir=tmp_path / "m",
        )


def test_a_precision_that_the_device_cannot_train_in_is_refused_before_anything_is_trained(
    tmp_path,
):
    config = study(training={"epochs": 1, "precision": "fp16"})
    with pytest.raises(ConfigError, match="precision fp16 does not train on a CPU"):
        run_fusion(as_config(config), output_dir=tmp_path, executor=Nobody())
    rules = study(inputs=[], training={"epochs": 1, "precision": "fp16"})
    finished, ran = run(rules, tmp_path)
    assert ran == ["baseline: persistence"]
    assert finished.records[0].status is Status.OK


def test_a_dataset_that_is_there_is_used_where_it_is(tmp_path):
    run(study(inputs=[]), tmp_path)
    (place,) = (tmp_path / "datasets").iterdir()
    given = {key: value for key, value in study(inputs=["numbers"]).items() if key != "datasets"}
    finished, _ = run({**given, "data_dirs": [str(place)]}, tmp_path / "other")
    assert not (tmp_path / "other" / "datasets").exists()
    assert {record.status for record in finished.records} == {Status.OK}
    index = place / "index.parquet"
    damaged = bytearray(index.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    index.write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"index\.parquet"):
        run({**given, "data_dirs": [str(place)]}, tmp_path / "third")


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ({"training": {"epochs": 1, "mode": "frozen"}}, MAIN),
        ({"inputs": ["text"], "training": {"epochs": 1, "accumulation_steps": 2}}, "text only"),
        ({"inputs": ["image"], "training": {"epochs": 1, "schedule": "linear"}}, "image only"),
    ],
    ids=["frozen", "accumulated", "linear"],
)
def test_every_way_of_learning_comes_to_an_end_and_can_be_loaded(tmp_path, change, row):
    finished, _ = run(study(**change), tmp_path, model_dir=tmp_path / "m")
    record = next(one for one in finished.records if one.facts["role"] == "model")
    assert (record.status, record.facts["row"]) == (Status.OK, row)
    from candlemark.benchmark.fusion.evaluate import evaluate

    (data,) = (tmp_path / "datasets").iterdir()
    assert evaluate(tmp_path / "m", data, device="cpu").changes == {}


def test_low_rank_updates_are_merged_in_what_is_kept(tmp_path):
    pytest.importorskip("peft")
    from candlemark.benchmark.fusion.evaluate import evaluate

    config = study(inputs=["text"], training={"epochs": 1})
    config["model"]["lora_rank"] = 2
    run(config, tmp_path, model_dir=tmp_path / "m")
    (data,) = (tmp_path / "datasets").iterdir()
    found = evaluate(tmp_path / "m", data, device="cpu")
    # Merged weights are the sum of two: equal to the last digits but not to the last bit.
    for was, now in found.changes.values():
        assert now == pytest.approx(was, abs=1e-3)


PROGRAM = """
import os, signal, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from candlemark.execution.base import Outcome
from candlemark.launch.fusion import run_fusion
from candlemark.launch.run import as_config
from candlemark.training import checkpoint

class Here:
    def map(self, function, items):
        for item in items:
            done = {"value": function(item), "failure": None}
            yield Outcome(item=item, **done, started_at="2026-01-01", duration_s=0.0)

saved, save = [], checkpoint.save

def save_and_die(path, state):
    save(path, state)
    saved.append(path)
    if len(saved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save = save_and_die
folder = Path(sys.argv[2])
run_fusion(as_config(sys.argv[1]), output_dir=folder, executor=Here(), model_dir=folder / "m")
"""


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    # A checkpoint after every step; the second one is the last thing that the killed one does.
    plan = study(training={"epochs": 2, "batch_size": 32, "checkpoint_every_s": 1e-6})
    whole, _ = run(plan, tmp_path / "whole", model_dir=tmp_path / "whole" / "m")
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(plan), encoding="utf-8")
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(config), str(tmp_path / "killed")],
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert list((tmp_path / "killed").glob("checkpoints/*/checkpoint.pt"))
    assert not (tmp_path / "killed" / "m").exists()
    resumed, ran = run(plan, tmp_path / "killed", model_dir=tmp_path / "killed" / "m")
    assert ran[-1] == MAIN
    one, other = (next(r for r in f.records if r.facts["row"] == MAIN) for f in (whole, resumed))
    assert other.facts["resumed_at_step"] == 2
    assert np.array_equal(one.predictions.probability, other.predictions.probability)
    for name in ("log_return", "forecast_log_return", "forecast_case"):
        assert np.array_equal(one.samples[name], other.samples[name])
    assert digest(tmp_path / "whole/m/model.safetensors") == digest(
        tmp_path / "killed/m/model.safetensors"
    )
    assert not list((tmp_path / "killed" / "checkpoints").glob("*"))
