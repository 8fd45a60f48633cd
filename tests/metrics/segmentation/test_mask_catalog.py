"""What is true of every score of a mask, whatever the convention."""

from __future__ import annotations

import math

import pytest

from candlemark.errors import ConfigError
from candlemark.metrics.catalog import all_scores
from candlemark.metrics.segmentation.catalog import (
    SEGMENTATION_METRICS,
    Extent,
    SegmentationMetric,
    find_segmentation,
)
from candlemark.results.units import find_quantity

METRICS = pytest.mark.parametrize("metric", SEGMENTATION_METRICS.values(), ids=lambda m: m.name)
SCAN = Extent(shape=(30, 40, 120), spacing_mm=(1.0, 1.0, 1.0))


@METRICS
def test_worst_and_best_stand_at_the_ends_of_the_range(metric: SegmentationMetric) -> None:
    worst, best = metric.worst_of(SCAN), metric.both_empty
    assert metric.low <= best <= metric.high
    assert metric.low <= worst <= metric.high
    assert best > worst if metric.higher_is_better else best < worst
    if not math.isinf(metric.high):
        assert {best, worst} == {metric.low, metric.high}


@METRICS
def test_every_score_is_found_by_name(metric: SegmentationMetric) -> None:
    assert find_segmentation(metric.name) is metric
    known = all_scores()[metric.name]
    assert (known.unit, known.low, known.higher_is_better) == (
        *(metric.unit, metric.low, metric.higher_is_better),
    )
    assert find_quantity(metric.name).is_score


def test_the_diagonal_counts_voxels_in_millimetres() -> None:
    assert SCAN.diagonal == 130.0
    assert Extent(shape=(10, 1, 1), spacing_mm=(3.0, 4.0, 0.0001)).diagonal == pytest.approx(
        math.hypot(30, 4)
    )


def test_a_picture_has_no_depth() -> None:
    assert Extent(shape=(1, 30, 40), spacing_mm=(500.0, 1.0, 1.0)).diagonal == 50.0


def test_lengths_are_in_pixels_where_the_spacing_is_unknown() -> None:
    hd95, dice = SEGMENTATION_METRICS["hd95"], SEGMENTATION_METRICS["dice"]
    assert (hd95.unit_of(None), hd95.unit_of((1.0, 1.0, 1.0))) == ("px", "mm")
    assert dice.unit_of(None) == ""
    assert Extent(shape=(1, 3, 4)).diagonal == 5.0


def test_an_unknown_score_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        find_segmentation("hd_95")
    assert str(caught.value) == "'hd_95' is no score of a mask; did you mean 'hd95'?"
    with pytest.raises(ConfigError, match=r"'x' is no score of a mask; known: dice, iou, .*"):
        find_segmentation("x")
