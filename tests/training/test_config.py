"""What decides a training, and names that outlive new keys."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from candlemark.records import content_id
from candlemark.training.config import TrainingConfig


def test_ids_from_before_the_newer_keys_still_hold() -> None:
    """The id of the defaults, as results and checkpoints of earlier versions carry it."""
    assert content_id(TrainingConfig().deciding()) == "23d86ad862602579"


def test_a_newer_key_decides_where_it_is_not_at_its_default() -> None:
    default = TrainingConfig()
    assert "schedule" not in default.deciding()
    assert TrainingConfig(schedule="linear").deciding() == {
        **default.deciding(),
        "schedule": "linear",
    }
    assert TrainingConfig(accumulation_steps=4).deciding()["accumulation_steps"] == 4
    assert TrainingConfig.model_validate(default.deciding()) == default


def test_an_update_has_at_least_one_batch() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        TrainingConfig(accumulation_steps=0)
