"""Real BTCUSDT candles across the hole of 2024, where they stand beside the checkout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from candlemark.dataset.audit import audit
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig


@pytest.mark.parametrize("label", ["last_candle", "forward_return"])
def test_btcusdt_across_the_hole(
    make_config: Callable[..., DatasetConfig],
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
) -> None:
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    config = make_config(
        candles={
            "symbols": ["BTCUSDT", "ETHUSDT"],
            "start": "2024-04",
            "end": "2024-12",
            "base_url": (shared_data / "binance").as_uri(),
        },
        window=24,
        label={"name": label, "horizon": 4},
        style="jkx",
    )
    dataset = build_dataset(config, tmp_path / "btc")
    found = audit(dataset)
    assert found.ok, found.as_text()
    assert found.kind == ("recognition" if label == "last_candle" else "forecast")
    hole = 24 * (30 + 31 + 31 + 30 + 31)
    for entry in dataset.manifest.series:
        assert entry.candle_count == 24 * (30 + 31 + 30 + 31)
        assert entry.missing_candles == hole
        assert entry.largest_gaps[0].slot_count == hole
    # The hole lies in no window, and no return is taken over it.
    assert dataset.visible(np.arange(len(dataset))).mean() > 0.99
    june, november = 1_717_200_000_000, 1_730_419_200_000
    ends = dataset.index.reach_end_ms
    inside = (dataset.index.window_start_ms < november) & (ends > june)
    shown = dataset.visible(np.flatnonzero(inside))
    assert (shown.sum(axis=1) >= 22).all()
