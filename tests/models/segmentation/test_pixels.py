"""Slices as networks eat them, and scores as labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from candlemark.errors import ModelError
from candlemark.models.segmentation import pixels
from candlemark.models.segmentation.base import Case
from candlemark.models.segmentation.failures import CaseError
from candlemark.models.segmentation.pixels import (
    batches,
    class_table,
    grey,
    labels_of,
    mapped,
    rgb,
    scaled,
)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches_cover_every_slice_once_and_in_order(
    make_case: Callable[..., Case], size: int
) -> None:
    parts = list(batches(make_case(np.zeros((7, 2, 2), np.int16)), size))
    assert [index for start, stop in parts for index in range(start, stop)] == list(range(7))
    assert max(stop - start for start, stop in parts) <= size


def test_the_window_is_black_to_white_and_the_rest_is_cut_off() -> None:
    slices = np.array([[[-500, 0, 50, 100, 30_000]]], np.int16)
    assert scaled(slices, (0.0, 100.0)).tolist() == [[[0.0, 0.0, 0.5, 1.0, 1.0]]]
    assert scaled(slices, (0.0, 100.0)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.float32, np.float64])
def test_no_type_of_voxel_overflows(dtype: type) -> None:
    info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(np.float32)
    slices = np.array([[[info.min, 0, info.max]]], dtype)
    shares = scaled(slices, (float(info.min), float(info.max)))
    assert np.isfinite(shares).all()
    assert shares.min() == 0
    assert shares.max() == pytest.approx(1.0)


def test_a_window_without_width_parts_what_is_above_it() -> None:
    assert scaled(np.array([[[4, 5, 6]]], np.uint8), (5.0, 5.0)).tolist() == [[[0.0, 0.0, 1.0]]]


def test_nan_is_black() -> None:
    assert scaled(np.array([[[np.nan, 1.0]]]), (0.0, 1.0)).tolist() == [[[0.0, 1.0]]]


def test_colour_of_a_file_that_is_mapped_into_memory_may_be_written_to() -> None:
    colour = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    colour.setflags(write=False)
    pictures = rgb(colour, (0.0, 255.0))
    assert pictures.flags.writeable
    assert np.array_equal(pictures, colour)


def test_grey_is_repeated_and_eight_bit_colour_stays_as_it_is() -> None:
    volume = np.array([[[0, 1000]]], np.int16)
    assert rgb(volume, (0.0, 1000.0)).tolist() == [[[[0, 0, 0], [255, 255, 255]]]]
    picture = np.array([[[[10, 20, 30]]]], np.uint8)
    assert rgb(picture, (10.0, 30.0)).tolist() == picture.tolist()
    deep = np.array([[[[0, 500, 1000]]]], np.uint16)
    assert rgb(deep, (0.0, 1000.0)).tolist() == [[[[0, 128, 255]]]]


def test_colour_becomes_grey_by_its_luma() -> None:
    pixels = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]], np.uint8)
    assert grey(pixels).ravel() == pytest.approx([76.2, 149.7, 29.1, 255.0], abs=0.1)


def test_scores_are_enlarged_before_one_wins() -> None:
    # Two columns, left sure and right unsure: the border lies where the scores cross, not
    # halfway, which enlarging labels would give.
    scores = torch.tensor([[[[3.0, -1.0]], [[0.0, 0.0]]]])
    assert labels_of(scores, (1, 8)).tolist() == [[[0, 0, 0, 0, 0, 1, 1, 1]]]


@given(st.integers(1, 4), st.integers(1, 90), st.integers(1, 6), st.integers(1, 6))
def test_labels_of_scores_of_the_right_size_are_their_argmax(
    n: int, classes: int, rows: int, columns: int
) -> None:
    generator = torch.Generator().manual_seed(n * classes)
    scores = torch.rand(n, classes, rows, columns, generator=generator)
    assert (labels_of(scores, (rows, columns)) == scores.argmax(1).numpy()).all()


@pytest.mark.parametrize("maps", [1, 3, 7, 8, 100])
def test_scores_are_enlarged_some_at_a_time_where_they_are_many(
    maps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def counted(scores: torch.Tensor, **how: Any) -> torch.Tensor:
        seen.append(scores.shape[0] * scores.shape[1])
        return interpolate(scores, **how)

    monkeypatch.setattr(pixels, "MOST_BYTES", maps * 4 * 12 * 10)
    monkeypatch.setattr(torch.nn.functional, "interpolate", counted)
    scores = torch.rand(3, 7, 4, 5, generator=torch.Generator().manual_seed(0))
    scores[:, 5] = scores[:, 2]  # of equals the lower class
    labels = labels_of(scores, (12, 10))
    large = interpolate(scores, size=(12, 10), mode="bilinear", align_corners=False)
    assert np.array_equal(labels, large.argmax(1).numpy())
    assert max(seen) <= maps
    assert sum(seen) == 21


def test_scores_of_no_class_are_refused() -> None:
    with pytest.raises(ModelError, match="gives no class a score"):
        labels_of(torch.zeros(1, 0, 4, 4), (8, 8))


def test_a_score_that_is_not_a_number_is_no_answer() -> None:
    scores = torch.zeros(2, 3, 4, 4)
    scores[1, 2, 0, 0] = float("nan")
    with pytest.raises(CaseError, match="the scores hold NaN") as raised:
        labels_of(scores, (8, 8))
    assert raised.value.outcome == "wrong_labels"


def test_many_classes_need_a_table() -> None:
    scores = torch.zeros(1, 300, 2, 2)
    scores[:, 299] = 1
    with pytest.raises(ModelError, match=r"300 classes, and labels go to 255; give it a class map"):
        labels_of(scores, (2, 2))
    table = class_table({299: 7}, 300)
    assert (labels_of(scores, (2, 2), table=table) == 7).all()


def test_a_class_map_names_classes_and_labels_that_exist() -> None:
    assert class_table({2: 5}, 3).tolist() == [0, 0, 5]
    with pytest.raises(ModelError, match=r"names class 3; the network has classes 0 to 2"):
        class_table({3: 1}, 3)
    with pytest.raises(ModelError, match=r"gives label 256; labels are 0 to 255"):
        class_table({1: 256}, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_values_are_mapped_and_the_rest_is_background(dtype: type) -> None:
    values = np.array([[[0, 1, 4, 9]]], dtype)
    assert mapped(values, {4: 1, 9: 2, 300: 3, -1: 3}).tolist() == [[[0, 0, 1, 2]]]
