"""What gives no masks is run on every slice, timed, and called unscored."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import STAGES, Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.time_only import build_time_only


@pytest.mark.parametrize("name", ["tiny:vit", "tiny:detr", "tiny:clip", "tiny:blip", "tiny:sam"])
def test_any_model_that_sees_is_timed_on_every_slice(
    name: str,
    make_spec: Callable[..., SegmenterSpec],
    make_case: Callable[..., Case],
    watch: Stopwatch,
) -> None:
    segmenter = build_time_only(make_spec(name, protocol="none", weights="random"), batch_size=2)
    seen: list[int] = []
    module = segmenter._model.module
    module.register_forward_pre_hook(
        lambda _, __, named: seen.append(len(named["pixel_values"])), with_kwargs=True
    )
    voxels = np.random.default_rng(0).integers(0, 255, (5, 40, 56)).astype(np.uint8)
    labels = segmenter.segment(make_case(voxels), watch)
    assert seen == [2, 2, 1]
    assert labels.shape == voxels.shape
    assert not labels.any()
    assert all(watch.totals_ms[stage] > 0 for stage in STAGES)
    facts = segmenter.facts
    assert json.loads(json.dumps(facts)) == facts
    assert facts["scored"] is False
    assert facts["protocol"] == "none"
    assert "gives no masks: timed, not scored" in str(facts["reason"])


def test_what_sees_nothing_is_refused(make_spec: Callable[..., SegmenterSpec]) -> None:
    with pytest.raises(ModelError, match="is for text-encoder and reads no pictures; time it with"):
        build_time_only(make_spec("tiny:bert", protocol="none"), batch_size=2)
