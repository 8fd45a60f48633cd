"""`keep_models`: what a benchmark trains is kept, scores as it scored, and starts the next one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import candlemark
from candlemark import progress
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.cli import main as command
from candlemark.dataset.torch_dataset import ChartDataset
from candlemark.errors import CandlemarkError
from candlemark.models.catalog import resolve
from candlemark.models.vision import load_classifier
from candlemark.progress import Event
from candlemark.training.inference import predict

MODEL = "timm/test_byobnet.r160_in1k"


@pytest.fixture
def warnings_told() -> Iterator[list[str]]:
    """What the library warns of while a test runs."""
    lines: list[str] = []

    class Listener:
        def handle(self, event: Event) -> None:
            if event.kind == "warning":
                lines.append(event.text)

    before = progress.set_reporter(Listener())
    yield lines
    progress.set_reporter(before)


def suite(**changes: Any) -> dict[str, Any]:
    return {
        "datasets": [
            {
                "candles": {"kind": "planted", "count": 300, "strength": 0.95, "density": 0.9},
                "window": 12,
                "label": {"name": "next_candle"},
                "style": {"kind": "candlestick", "height": 36, "width": 36},
            }
        ],
        "models": [MODEL],
        "weights": "random",
        "baselines": ["majority"],
        "controls": ["shuffled_labels", "random_walk"],
        "training": {"epochs": 1},
        "measure": {"latency_budget_s": 0.05, "replicates": 200},
        "device": "cpu",
        "isolate": False,
        **changes,
    }


def test_nothing_is_kept_unasked_and_then_it_says_so(tmp_path: Path, warnings_told: list[str]):
    first = candlemark.run(suite(controls=[]), output_dir=tmp_path)
    assert not (tmp_path / "models").exists()
    asked = candlemark.run(suite(controls=[], keep_models=True), output_dir=tmp_path)
    assert (asked.suite_id, asked.ran) == (first.suite_id, 0)
    assert [record.trial_id for record in asked.records] == [r.trial_id for r in first.records]
    (line,) = warnings_told
    assert line.startswith("1 of 1 models were trained before, when nobody asked to keep them; ")
    assert line.endswith("to train them again and keep them: --no-resume")


def test_what_was_trained_is_kept_and_predicts_as_it_did(tmp_path: Path, warnings_told: list[str]):
    finished = candlemark.run(suite(keep_models=True), output_dir=tmp_path)
    assert warnings_told == []
    assert len(finished.records) == 5
    # Neither rules, nor what learnt shuffled labels, nor what learnt a random walk.
    (saved,) = candlemark.list_models(tmp_path / "models")
    (record,) = (one for one in finished.records if "saved_model" in one.facts)
    assert record.facts["role"] == "model"
    assert record.facts["market"] == "planted"
    assert record.facts["saved_model"] == saved.version
    assert saved.name == MODEL
    assert saved.fields["trial_id"] == record.trial_id
    assert saved.config == record.trial
    assert saved.fields["class_names"] == record.facts["class_names"]
    scores = {one.name: one.value for one in record.measurements}
    assert saved.metrics["auroc"] == scores["auroc"]
    assert saved.directions["brier"] == "lower"

    assert record.predictions is not None
    (folder,) = (
        path
        for path in (tmp_path / "datasets").iterdir()
        if candlemark.open_dataset(path).content_hash == record.trial["dataset"]
    )
    dataset = candlemark.open_dataset(folder)
    classifier = load_classifier(
        resolve(MODEL), weights=saved.path, class_count=2, image_shape=dataset.image_shape, seed=9
    )
    assert classifier.facts["head"] == "from weights"
    probability = predict(
        classifier.module,
        classifier.prepare,
        ChartDataset(dataset, dataset.split("test")),
        device=torch.device("cpu"),
        class_count=2,
        precision="fp32",
    )
    assert np.allclose(probability, record.predictions.probability, atol=1e-6)

    again = candlemark.run(suite(keep_models=True), output_dir=tmp_path)
    assert (again.ran, warnings_told) == (0, [])
    assert len(candlemark.list_models(tmp_path / "models")) == 1


@pytest.mark.parametrize("flags", [[], ["--keep-models"]])
def test_the_flag_is_the_key(monkeypatch: pytest.MonkeyPatch, flags: list[str]):
    asked: list[BenchmarkConfig] = []

    def run(config: BenchmarkConfig, **_: Any) -> None:
        asked.append(config)
        raise CandlemarkError("enough")

    monkeypatch.setattr("candlemark.launch.run.run", run)
    monkeypatch.setattr(sys, "argv", ["candlemark", "bench", "--coin", "BTCUSDT", *flags])
    with pytest.raises(SystemExit):
        command.main()
    assert [config.keep_models for config in asked] == [bool(flags)]
