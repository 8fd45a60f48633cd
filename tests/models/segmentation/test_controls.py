"""Controls: what costs nothing to answer, and answers exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import ORACLES, Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.controls import (
    BINS,
    CONTROLS,
    build_control,
    otsu_threshold,
)

MakeSpec = Callable[..., SegmenterSpec]
TWO = {1: "liver", 3: "tumour"}


@pytest.fixture
def control(make_spec: MakeSpec) -> Callable[..., Any]:
    def build(name: str, **changed: Any) -> Any:
        return build_control(make_spec(name, kind="control", protocol=name, **changed))

    return build


def test_all_of_one_answer_reads_nothing(
    control: Callable[..., Any], make_case: Callable[..., Case], watch: Stopwatch
) -> None:
    case = make_case(np.zeros((2, 3, 4)))
    object.__setattr__(case, "read", None)
    assert not control("all_background").segment(case, watch).any()
    assert (control("all_foreground", classes=TWO).segment(case, watch) == 1).all()
    third = control("all_foreground", classes=TWO, options={"label": 3})
    assert (third.segment(case, watch) == 3).all()
    assert third.facts["label"] == 3


def test_a_control_that_is_none_is_refused(control: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match="'median' is no control; known: all_background, all_fo"):
        control("median")
    with pytest.raises(ModelError, match=r"label 2 is no class.*1 \(liver\), 3 \(tumour\)"):
        control("otsu", classes=TWO, options={"label": 2})
    with pytest.raises(ModelError, match="has no class to answer with"):
        control("otsu", classes={})


def test_only_the_box_is_an_oracle(control: Callable[..., Any]) -> None:
    for name in CONTROLS:
        built = control(name)
        assert hasattr(built, "segment_with") == (name in ORACLES)
        assert hasattr(built, "segment") == (name not in ORACLES)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32])
def test_otsu_finds_the_bright_ball(
    control: Callable[..., Any],
    make_case: Callable[..., Case],
    watch: Stopwatch,
    dtype: Any,
) -> None:
    random = np.random.default_rng(0)
    ball = (np.indices((9, 20, 20)) - np.array([4, 10, 10]).reshape(3, 1, 1, 1)) ** 2
    inside = ball.sum(axis=0) < 16
    volume = np.where(inside, 90, 30) + random.integers(-8, 9, inside.shape)
    found = control("otsu", classes={2: "ball"}).segment(make_case(volume.astype(dtype)), watch)
    assert (found == 2 * inside).all()
    assert set(watch.totals_ms) == {"load", "preprocess", "forward", "postprocess"}


def test_otsu_of_one_intensity_finds_nothing(
    control: Callable[..., Any], make_case: Callable[..., Case], watch: Stopwatch
) -> None:
    for volume in (np.full((2, 3, 3), 7, np.int16), np.full((2, 3, 3), 7.5, np.float32)):
        assert not control("otsu").segment(make_case(volume), watch).any()


@given(arrays.arrays(np.uint8, (1, 6, 6)))
@settings(max_examples=40, deadline=None)
def test_otsu_agrees_with_itk(volume: npt.NDArray[np.uint8]) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    counts = np.bincount(volume.ravel(), minlength=256)
    ours = otsu_threshold(counts, np.arange(256, dtype=np.float64))
    if ours is None:
        assert np.unique(volume).size == 1
        return
    # Its bins span the values that are there, so they are the integers only over 0 to 255.
    stretched = volume.copy()
    stretched[0, 0, :2] = 0, 255
    counts = np.bincount(stretched.ravel(), minlength=256)
    ours = otsu_threshold(counts, np.arange(256, dtype=np.float64))
    assert ours is not None
    filtered = sitk.OtsuThresholdImageFilter()
    filtered.SetNumberOfHistogramBins(256)
    filtered.Execute(sitk.GetImageFromArray(stretched))
    theirs = filtered.GetThreshold()
    assert _between(stretched, ours) >= _between(stretched, theirs) - 1e-9


def _between(volume: npt.NDArray[Any], threshold: float) -> float:
    """The variance between what is above a threshold and what is not."""
    above, below = volume[volume > threshold], volume[volume <= threshold]
    if not above.size or not below.size:
        return 0.0
    share = above.size / volume.size
    return float(share * (1 - share) * (above.mean() - below.mean()) ** 2)


def test_intensities_of_many_values_are_counted_in_bins(
    control: Callable[..., Any], make_case: Callable[..., Case], watch: Stopwatch
) -> None:
    """A few wild values outside the window do not widen the bins."""
    volume = np.concatenate([np.linspace(0, 1, 500), np.linspace(9, 10, 500)]).reshape(1, 10, 100)
    case = make_case(volume)
    object.__setattr__(case, "window", lambda: (0.0, 10.0))
    volume[0, 0, 0], volume[0, 9, 99] = -1e9, 1e9
    found = control("otsu").segment(case, watch)
    assert (found == (volume > 5)).all()
    assert BINS > 1000


@pytest.mark.parametrize(
    ("reference", "boxes"),
    [
        (
            """
            .....  .....
            .1.1.  .....
            ..1..  ...1.
            .....  .....
            """,
            """
            .....  .....
            .111.  .....
            .111.  ...1.
            .....  .....
            """,
        ),
        (
            """
            1.1..
            11...
            ....1
            """,
            """
            111..
            111..
            ....1
            """,
        ),
        (
            """
            11111
            1.33.
            1...2
            """,
            """
            11111
            11331
            11111
            """,
        ),
    ],
    ids=["corners touch, slices do not", "islands apart", "the smaller on top"],
)
def test_the_oracle_box_is_the_box_of_each_part_on_each_slice(
    control: Callable[..., Any],
    make_case: Callable[..., Case],
    watch: Stopwatch,
    *,
    reference: str,
    boxes: str,
) -> None:
    truth = _drawn(reference)
    found = control("oracle_box", classes=TWO).segment_with(make_case(truth), truth, watch)
    assert (found == _drawn(boxes)).all()


def _drawn(text: str) -> Labels:
    """Slices side by side, "." is background."""
    rows = [line.split() for line in text.strip().splitlines()]
    slices = zip(*rows, strict=True)
    return np.array(
        [[[0 if mark == "." else int(mark) for mark in row] for row in one] for one in slices],
        np.uint8,
    )
