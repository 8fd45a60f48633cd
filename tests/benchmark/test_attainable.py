"""What can be attained is quoted only where it is known, and agrees with what the data hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.benchmark.attainable import (
    attainable_auroc,
    attainable_of_pair,
    attainable_of_picture,
)
from candlemark.benchmark.plan import MARKETS, dataset_facts
from candlemark.candles.planted_pair import attainable_pair, planted_pair
from candlemark.candles.synthetic import attainable_auroc as of_planted
from candlemark.config import parse
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.metrics.classification import auroc


def config(kind: str, label: dict[str, Any], **changes: Any) -> DatasetConfig:
    candles = {"kind": kind, "count": 2000, "strength": 0.9, "density": 0.8}
    style = {"kind": "ohlc4", "height": 32}
    return parse(
        DatasetConfig, {"candles": candles, "label": label, "window": 24, "style": style, **changes}
    )


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ({"name": "next_candle"}, 2),
        ({"name": "next_close"}, 2),
        ({"name": "forward_return"}, 2),
        ({"name": "forward_return", "classes": 3}, 3),
        ({"name": "direction"}, 3),
        ({"name": "direction", "threshold": 0.004}, 3),
        ({"name": "direction", "threshold": 0.012}, None),
        ({"name": "direction", "threshold": 0.0}, None),
        ({"name": "direction", "horizon": 2}, None),
        ({"name": "forward_return", "horizon": 2}, None),
        ({"name": "forward_return", "threshold": 0.001}, None),
        ({"name": "triple_barrier"}, None),
        ({"name": "last_candle"}, None),
    ],
)
def test_of_a_planted_pair(label: dict[str, Any], classes: Any) -> None:
    found = attainable_auroc(config("planted_pair", label))
    one = attainable_of_pair(config("planted_pair", label), "shape")
    if classes is None:
        assert found is one is None
    else:
        assert found == attainable_pair(0.9, 0.8, "both", classes=classes).auroc
        assert one == attainable_pair(0.9, 0.8, "shape", classes=classes).auroc
    planted = attainable_auroc(config("planted", label))
    assert planted == (of_planted(0.9, 0.8) if classes == 2 else None)
    assert attainable_of_pair(config("planted", label), "both") is None


def test_a_picture_without_volume_shows_one_of_the_two_facts() -> None:
    label = {"name": "direction"}
    pair = config("planted_pair", label)
    assert attainable_of_picture(pair) == attainable_of_pair(pair, "shape")
    drawn = config("planted_pair", label, style={"kind": "jkx"})
    assert attainable_of_picture(drawn) == attainable_auroc(drawn)
    assert attainable_of_picture(config("planted", {"name": "next_close"})) == of_planted(0.9, 0.8)


def test_unknown_where_candles_are_hidden_or_the_band_is_a_matter_of_luck() -> None:
    label = {"name": "direction"}
    assert attainable_auroc(config("planted_pair", label, experiment="irregular")) is None
    assert attainable_auroc(config("planted", {"name": "next_candle"})) is not None
    hidden = config("planted", {"name": "next_candle"}, experiment="irregular")
    assert attainable_auroc(hidden) is None
    sparse = {"kind": "planted_pair", "density": 0.1}
    assert attainable_auroc(config("", label, candles=sparse)) is None
    assert attainable_auroc(config("planted_pair", label, window=4)) is None
    assert attainable_auroc(config("random_walk", {"name": "next_candle"})) is None


@pytest.mark.parametrize(
    "label",
    [
        {"name": "next_candle"},
        {"name": "forward_return", "classes": 3},
        {"name": "direction"},
        {"name": "direction", "threshold": 0.0088},
    ],
    ids=["next_candle", "forward_return", "direction", "fixed"],
)
def test_the_facts_of_a_dataset_score_what_is_said(label: dict[str, Any], tmp_path: Path) -> None:
    """Probabilities by the rule that made the market, scored as every model is."""
    candles = {"kind": "planted_pair", "count": 30_000, "strength": 0.9, "density": 0.8}
    dataset = build_dataset(config("", label, candles=candles), tmp_path / "data")
    market = planted_pair(30_000, strength=0.9, density=0.8)
    rows = np.arange(len(dataset))
    last = dataset.index.start_slot + dataset.window - 1
    spoken = (market.volume_fact[last] + market.shape_fact[last - 1]) / 2
    rise = 0.5 + 0.4 * spoken
    if len(dataset.class_names) == 3:
        table = np.stack([1 - rise, np.zeros(len(rows)), rise], axis=1)
        table[spoken == 0] = 0, 1, 0
    else:
        table = np.stack([1 - rise, rise], axis=1)
    found = auroc(dataset.targets(rows), table, np.ones((1, len(rows))))
    facts = dataset_facts(dataset)
    assert facts["market"] == MARKETS["planted_pair"] == "planted"
    assert facts["dataset"] == "planted pair 1h"
    assert found[0] == pytest.approx(facts["attainable_auroc"], abs=0.01)
