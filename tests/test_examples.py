"""The configs in examples/: each parses, and the quick one runs with tiny numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

import candlemark
from candlemark.benchmark.config import BenchmarkConfig
from candlemark.config import load, read_mapping
from candlemark.records import Status

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = sorted(EXAMPLES.glob("*.yaml"))


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANDLEMARK_BINANCE_URL", raising=False)


def test_there_are_examples():
    assert [path.name for path in CONFIGS] == ["btc_1h.yaml", "quick.yaml"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_example_parses_and_names_its_command(path: Path):
    load(BenchmarkConfig, path)
    assert f"candlemark run examples/{path.name}" in path.read_text()


def test_the_public_archive_gives_way_to_a_mirror(monkeypatch: pytest.MonkeyPatch):
    def base_url() -> str | None:
        return load(BenchmarkConfig, EXAMPLES / "btc_1h.yaml").datasets[0].candles.base_url

    assert base_url() == "https://data.binance.vision"
    monkeypatch.setenv("CANDLEMARK_BINANCE_URL", "file:///mirror")
    assert base_url() == "file:///mirror"


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
