"""What was measured here stands beside the best control of the same data."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from candlemark.errors import ResultsError
from candlemark.hub.leaderboard.own import measured_here
from candlemark.results.own_scores import compared
from candlemark.results.store import open_results


def load(name: str, *parts: str) -> ModuleType:
    """A module of made-up records, by its path: tests are no package."""
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).parents[2].joinpath(*parts))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def test_masks_are_scored_from_their_cases_and_held_against_the_best_control(
    tmp_path: Path,
) -> None:
    fake = load(
        "candlemark_test_fake_segmentation", "report", "segmentation", "fake_segmentation.py"
    )
    good, poor = [8, 9, 8, 9, 8, 9, 8, 9], [3, 2, 3, 2, 3, 2, 3, 2]
    with open_results(tmp_path) as results:
        for record in (
            fake.scored("nvidia/mit-b0", good, protocol="linear_probe"),
            fake.scored("me/poor", poor, protocol="native_head"),
            fake.scored("otsu", [5] * 8, role="control", protocol="control"),
            fake.scored("all_background", [0] * 8, role="control", protocol="control"),
            fake.scored("oracle", [10] * 8, role="control", protocol="control", oracle=True),
            fake.scored("facebook/sam", [10] * 8, protocol="sam_oracle_box", oracle=True),
        ):
            results.append(record, "s1")
    found = {score.model: score for score in measured_here(tmp_path)}
    assert set(found) == {"nvidia/mit-b0", "me/poor", "facebook/sam"}
    mit = found["nvidia/mit-b0"]
    assert mit.value == pytest.approx(0.85)
    assert (mit.protocol, mit.metric, mit.verdict) == ("linear_probe", "dice", "VALID")
    assert (mit.control, mit.control_value) == ("otsu", pytest.approx(0.5))
    assert mit.beats_control is True
    assert found["me/poor"].beats_control is False
    assert (found["facebook/sam"].verdict, found["facebook/sam"].quotable) == ("ORACLE", False)


def test_charts_are_read_as_they_were_scored(tmp_path: Path) -> None:
    fake = load("candlemark_test_fake_records", "report", "fake_records.py")
    with open_results(tmp_path) as results:
        for row in (fake.ROWS[0], fake.ROWS[3], fake.ROWS[5]):
            results.append(fake.fake_record(row), "s1")
    (score,) = measured_here(tmp_path)
    assert score.metric == "auroc"
    assert score.control in {"baseline: majority", "baseline: logistic"}
    assert score.row == "timm/edgenext_xx_small.in1k"


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=str(tmp_path / "none")):
        measured_here(tmp_path / "none")


def test_an_interval_that_holds_the_control_does_not_beat_it() -> None:
    row = {
        "model": "a", "row": "a", "role": "model", "protocol": None, "task": "charts",
        "dataset": "d", "label": "l", "metric": "auroc", "value": 0.6, "low": 0.48, "high": 0.7,
        "verdict": None, "reason": None,
    }  # fmt: skip
    control = {**row, "row": "c", "role": "baseline", "value": 0.5}
    assert compared([row, control])[0].beats_control is False
    assert compared([{**row, "low": 0.51}, control])[0].beats_control is True
    assert compared([row])[0].beats_control is None, "beside no control nothing is beaten"
    assert compared([row, {**control, "dataset": "other"}])[0].beats_control is None
