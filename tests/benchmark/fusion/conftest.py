"""A small study of fusion on the CPU, run once for every test that looks at one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.config import parse
from candlemark.execution.base import Outcome
from candlemark.launch.fusion import run_fusion

MARKET = {
    "candles": {"kind": "planted_pair", "count": 260},
    "window": 8,
    "label": {"name": "direction"},
    "style": {"kind": "ohlc4", "height": 32},
}


class Here:
    """Runs trials in this process, one after the other, and remembers which."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        for item in items:
            self.ran.append(item.trial.row)
            value = function(item)
            yield Outcome(
                item=item, value=value, failure=None, started_at="2026-01-01", duration_s=0.0
            )


def study(**changes: Any) -> FusionBenchmarkConfig:
    """Tiny encoders, one epoch, and as little measuring as there can be."""
    fields = {
        "datasets": [{**MARKET, **changes.pop("dataset", {})}],
        "model": {
            "text_encoder": "tiny:bert",
            "image_encoder": "tiny:vit",
            "weights": "random",
            "caption": "classic",
            "width": 32,
            **changes.pop("model", {}),
        },
        "training": {"epochs": 1, **changes.pop("training", {})},
        "measure": {"latency_budget_s": 0.05, "replicates": 100},
        "device": "cpu",
        "isolate": False,
        **changes,
    }
    if "data_dirs" in changes:
        del fields["datasets"]
    return parse(FusionBenchmarkConfig, fields)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANDLEMARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished study: `.folder`, `.rows` by name, `.run`, `.dataset` and `.model` folders."""
    folder: Path = tmp_path_factory.mktemp("study")
    config = study(controls=["shuffled_labels"], inputs=["both", "numbers"], keep_models=True)
    run = run_fusion(config, output_dir=folder, executor=Here())
    rows = {record.facts["row"]: record for record in run.records}
    (dataset,) = (folder / "datasets").iterdir()
    name = rows["text + image (text_to_image)"].facts["model_dir"]
    return SimpleNamespace(
        folder=folder,
        config=config,
        run=run,
        rows=rows,
        dataset=dataset,
        model=folder / "models" / name,
    )
