"""Records refuse what must not be stored: NaN as a number, silence about the unknown."""

from __future__ import annotations

import math

import pytest

from candlemark.records import Measurement, RunRecord, Status, canonical_json, content_id


@pytest.mark.parametrize("field", ["value", "low", "high"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_measurement_is_finite_or_none(field, number):
    with pytest.raises(ValueError, match="unknown is None with a reason"):
        Measurement(**{"name": "auroc", "value": 0.5, field: number})


def test_an_unknown_value_needs_a_reason():
    with pytest.raises(ValueError, match="no value and no reason"):
        Measurement(name="auroc", value=None)


def test_a_failed_trial_needs_a_reason():
    with pytest.raises(ValueError, match="without a reason"):
        RunRecord(trial_id="x", trial={}, status=Status.CRASHED, started_at="", duration_s=0)


def test_ids_depend_on_content_and_not_on_order():
    assert content_id({"a": 1, "b": [2]}) == content_id({"b": [2], "a": 1})
    assert content_id({"a": 1}) != content_id({"a": 2})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": math.nan})
