"""Fixtures for the whole suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.candles.series import CandleSeries, interval_ms

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background deaf to Ctrl-C, and tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

FIRST = ("tests/metrics/test_memory.py", "tests/metrics/test_batches.py")
"""Files that see this process grow: one that has held gigabytes grows no more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run `FIRST` while each worker is new; all else stays in its order."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real archives, models and scans that stand beside a checkout, where there are any."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data beside this checkout (../shared/data)")
    return folder


@pytest.fixture(autouse=True)
def own_leases(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never wait for a benchmark that runs beside them, nor does it wait for them."""
    folder = tmp_path_factory.getbasetemp() / "leases"
    monkeypatch.setenv("CANDLEMARK_LEASES", str(folder))


@pytest.fixture
def make_series() -> Callable[..., CandleSeries]:
    """A factory of small random walks, with slots left out where asked."""

    def make(
        count: int,
        *,
        seed: int = 0,
        symbol: str = "TEST",
        interval: str = "1h",
        missing: Sequence[int] = (),
    ) -> CandleSeries:
        random = np.random.default_rng(seed)
        close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, count)))
        open_ = np.concatenate([[100.0], close[:-1]])
        spread = np.abs(random.normal(0, 0.004, (2, count)))
        keep = ~np.isin(np.arange(count), np.asarray(missing, dtype=int))
        columns = {
            "open_time_ms": 1_704_067_200_000 + np.arange(count) * interval_ms(interval),
            "open": open_,
            "high": np.maximum(open_, close) * (1 + spread[0]),
            "low": np.minimum(open_, close) * (1 - spread[1]),
            "close": close,
            "volume": random.lognormal(3, 1, count),
        }
        return CandleSeries.from_numpy(
            {name: column[keep] for name, column in columns.items()},
            symbol=symbol,
            interval=interval,
        )

    return make


@pytest.fixture
def hub_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running Hub on loopback (tests/hub/double.py), found by its variables, with its token set.

    Clients in this process wait for nothing: what they would have waited is in `waits`.
    """
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "hub"))
    from double import HubDouble

    with HubDouble(tmp_path / "hub_double") as double:
        for name, value in double.environment(tmp_path / "hf_home").items():
            monkeypatch.setenv(name, value)
        _wait_for_nothing(monkeypatch, double.waits)
        yield double


def _wait_for_nothing(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    import time
    from types import SimpleNamespace

    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    from candlemark.hub import faults

    clock = SimpleNamespace(sleep=waits.append, time=time.time, monotonic=time.monotonic)
    for module in (_http, file_download, faults):
        monkeypatch.setattr(module, "time", clock)
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_XET_CACHE", "HF_TOKEN_PATH"):
        home = Path(os.environ["HF_HOME"])
        monkeypatch.setattr(constants, name, str(home / name.lower()))
