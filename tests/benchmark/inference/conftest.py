"""Models with known behaviour, leases of the tests' own, and one thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from candlemark.benchmark.inference import session
from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.benchmark.inference.plan import InferenceWork, plan
from candlemark.config import parse

QUICK = {"warmup_calls": 1, "warmup_s": 0.0, "budget_s": 0.05, "minimum_samples": 5}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("CANDLEMARK_LEASES", str(tmp_path / "leases"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    session._kept.clear()
    session._tested.clear()


@pytest.fixture
def make_config() -> Callable[..., InferenceConfig]:
    """A config of one small model on the CPU, with what the test changes."""

    def make(**changes: Any) -> InferenceConfig:
        value = {
            "models": ("python:gadgets:linear",),
            "devices": ("cpu",),
            "threads": 1,
            "timing": QUICK,
            **changes,
        }
        return parse(InferenceConfig, value)

    return make


@pytest.fixture
def make_works(make_config: Callable[..., InferenceConfig]) -> Callable[..., list[InferenceWork]]:
    """The cells of such a config."""

    def make(**changes: Any) -> list[InferenceWork]:
        return plan(make_config(**changes))

    return make
