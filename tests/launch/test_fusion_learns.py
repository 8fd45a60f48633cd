"""On a market whose next move needs both, text and picture together beat either alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import candlemark
from candlemark.config import read_mapping
from candlemark.metrics.summary import paired_difference

EXAMPLE = Path(__file__).parents[2] / "examples" / "fusion.yaml"


@pytest.mark.slow
def test_both_beat_the_picture_and_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    config = read_mapping(EXAMPLE) | {
        "inputs": ["both", "image", "text"],
        "baselines": [],
        "controls": [],
        "measure": {"latency_budget_s": 0.05, "replicates": 100},
    }
    finished = candlemark.run(config, output_dir=tmp_path)
    by_inputs = {record.facts["inputs"]: record for record in finished.records}
    both = by_inputs["both"]
    for alone in ("image", "text"):
        found = paired_difference(
            both.predictions.target,
            both.predictions.probability,
            by_inputs[alone].predictions.probability,
            block_length=both.facts["block_length"],
        )
        assert found.low is not None
        assert found.low > 0, (alone, found)
