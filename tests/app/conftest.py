"""Small models that can be asked, and candles to ask them about."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from candlemark.candles.export import write
from candlemark.candles.series import CandleSeries
from candlemark.models.fusion.predictor import Predictor


@cache
def small_models() -> ModuleType:
    """The module beside this file."""
    name = "candlemark_test_small_models"
    spec = spec_from_file_location(name, Path(__file__).with_name("small_models.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a model that reads `inputs`; made once."""
    root = tmp_path_factory.mktemp("models")

    @cache
    def folder(inputs: str) -> Path:
        return small_models().make_model(root / inputs, inputs=inputs)

    return folder


@pytest.fixture(scope="session")
def predictors(model_folder: Callable[[str], Path]) -> Callable[[str], Predictor]:
    """A model that reads `inputs`, loaded once; tests leave its config as it is."""
    return cache(lambda inputs: Predictor.load(model_folder(inputs), "cpu"))


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`candlemark app WORDS` in a process of its own, still starting; `address_of` waits for it.

    gradio leaves sockets and event loops unclosed, which would be warnings in this one.
    """
    code = "import sys; from candlemark.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, "app", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def address_of(process: subprocess.Popen[str]) -> str:
    """Where a page is served, once it is."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if " answers at " not in line:
        _, told = process.communicate(timeout=30)
        raise AssertionError(f"no page: {line}{told}")
    return line.partition(" answers at ")[2].partition(";")[0].rstrip("/")


@pytest.fixture(scope="session")
def page_process(model_folder: Callable[[str], Path]) -> Iterator[subprocess.Popen[str]]:
    """A page starting, of a model that reads charts and texts; one for all tests."""
    words = (str(model_folder("both")), "--port", "0", "--device", "cpu")
    with serving(*words) as process:
        yield process


@pytest.fixture(scope="session")
def address(page_process: subprocess.Popen[str]) -> Iterator[str]:
    """Where that page is served; Ctrl-C must end it cleanly."""
    found = address_of(page_process)
    yield found
    page_process.send_signal(signal.SIGINT)
    out, told = page_process.communicate(timeout=30)
    assert (page_process.returncode, out) == (0, "stopped\n"), told
    # What is wrong with a question is told to who asks, and to nobody else.
    assert "candlemark/app" not in told
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(found.rpartition(":")[2]))) != 0


@pytest.fixture
def new_predictor(tmp_path: Path) -> Callable[..., Predictor]:
    """A model of one's own, to be changed."""

    def make(**changes: Any) -> Predictor:
        return Predictor.load(small_models().make_model(tmp_path / "model", **changes), "cpu")

    return make


@pytest.fixture
def candle_file(tmp_path: Path, make_series: Callable[..., CandleSeries]) -> Callable[..., Path]:
    """A file of candles of TEST, with slots left out where asked."""

    def make(count: int = 300, *, interval: str = "1h", missing: tuple[int, ...] = ()) -> Path:
        series = make_series(count, interval=interval, missing=missing)
        path = tmp_path / f"{interval}-{count}-{len(missing)}" / "TEST.parquet"
        path.parent.mkdir(exist_ok=True)
        write(series, path)
        return path

    return make
