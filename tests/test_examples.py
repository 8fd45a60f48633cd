"""The configs in examples/: each parses, and the quick one runs with tiny numbers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import candlemark
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.cli.main import main
from candlemark.config import load, read_mapping
from candlemark.execution.base import Outcome
from candlemark.launch.run import as_config
from candlemark.records import Status

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = sorted(EXAMPLES.glob("*.yaml"))
BENCHMARKS = [path for path in CONFIGS if path.stem != "pipeline"]


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANDLEMARK_BINANCE_URL", raising=False)


def test_there_are_examples():
    names = [
        *("btc_1h.yaml", "fusion.yaml", "inference.yaml", "pipeline.yaml", "quick.yaml"),
        "segmentation.yaml",
    ]
    assert [path.name for path in CONFIGS] == names


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_an_example_parses_and_names_its_command(path: Path):
    as_config(path)
    assert f"candlemark run examples/{path.name}" in path.read_text(encoding="utf-8")


def test_the_public_archive_gives_way_to_a_mirror(monkeypatch: pytest.MonkeyPatch):
    def base_url() -> str | None:
        return load(BenchmarkConfig, EXAMPLES / "btc_1h.yaml").datasets[0].candles.base_url

    assert base_url() == "https://data.binance.vision"
    monkeypatch.setenv("CANDLEMARK_BINANCE_URL", "file:///mirror")
    assert base_url() == "file:///mirror"


def test_a_pipeline_is_built_by_the_command_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = EXAMPLES / "pipeline.yaml"
    (command,) = re.findall(
        r"^# +candlemark (dataset build .*)$", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.setattr(sys, "argv", ["candlemark", *command.split(), "--max-samples", "50"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in {0, None}
    (folder,) = (tmp_path / "data" / "processed").iterdir()
    loaded = candlemark.load_images(folder)
    assert loaded.images.shape == (50, 100, 120)
    (log,) = (tmp_path / "logs").glob("pipeline_*.log")
    assert "50 windows" in log.read_text(encoding="utf-8")


def test_quick_runs_with_tiny_numbers(tmp_path: Path):
    config = read_mapping(EXAMPLES / "quick.yaml")
    config["datasets"][0]["candles"]["count"] = 300
    config["datasets"][0]["max_samples"] = 60
    config["training"]["epochs"] = 1
    config["measure"] = {"latency_budget_s": 0.05, "replicates": 100}
    config["models"] = config["models"][:1]
    config["baselines"] = ["majority", "logistic"]
    config["controls"] = ["shuffled_labels"]
    finished = candlemark.run(config, output_dir=tmp_path)
    assert {record.status for record in finished.records} == {Status.OK}
    roles = [record.facts["role"] for record in finished.records]
    assert {"model", "baseline", "control"} == set(roles)


def test_inference_runs_with_tiny_numbers(tmp_path: Path):
    config = read_mapping(EXAMPLES / "inference.yaml")
    config |= {"models": config["models"][:1], "batch_sizes": [1], "metrics": ["latency"]}
    config["timing"] = {"budget_s": 0.05, "warmup_s": 0.0}
    finished = candlemark.run(config, output_dir=tmp_path)
    assert [record.status for record in finished.records] == [Status.OK, Status.OK]


class Here:
    """Runs trials in this process, which has loaded all that they need."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        for item in items:
            value = function(item)
            yield Outcome(
                item=item, value=value, failure=None, started_at="2026-01-01", duration_s=0.0
            )


def test_fusion_runs_with_tiny_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    # Its ten seconds a model are worth nothing here.
    monkeypatch.setattr("candlemark.benchmark.fusion.network.forward_cost", lambda *_, **__: ())
    config = read_mapping(EXAMPLES / "fusion.yaml")
    config["datasets"][0]["candles"]["count"] = 200
    config["training"]["epochs"] = 1
    config["measure"] = {"latency_budget_s": 0.05, "replicates": 100}
    config |= {"inputs": ["both"], "baselines": ["persistence"], "controls": []}
    finished = candlemark.run(config, output_dir=tmp_path, executor=Here())
    assert {record.status for record in finished.records} == {Status.OK}
    assert [record.facts["role"] for record in finished.records] == ["baseline", "model"]
