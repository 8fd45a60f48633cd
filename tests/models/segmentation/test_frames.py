"""Slices as squares, and readers that cut nothing off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from candlemark.errors import ModelError
from candlemark.models.inference.describe import describe
from candlemark.models.inference.pictures import Reader, _ByProcessor, plain_reader
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.clip_dense import build_clip_dense
from candlemark.models.segmentation.frames import crop, open_eye, square, whole

MakeSpec = Callable[..., SegmenterSpec]
HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("size", [(3, 5), (5, 3), (4, 4), (1, 7)])
def test_what_is_made_square_is_undone_and_filled_up_with_black(size: tuple[int, int]) -> None:
    pictures = np.random.default_rng(0).integers(1, 256, (2, *size, 3)).astype(np.uint8)
    made = square(pictures)
    assert made.shape == (2, max(size), max(size), 3)
    assert np.array_equal(made[:, : size[0], : size[1]], pictures)
    assert made.sum() == pictures.sum()
    assert np.array_equal(crop(made[..., 0], size), pictures[..., 0])


def test_a_reader_that_cuts_out_the_middle_shows_all_of_it() -> None:
    """A white frame of an eighth on each side: the middle alone would be black."""
    picture = np.full((1, 64, 64, 3), 255, np.uint8)
    picture[:, 8:56, 8:56] = 0
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 48}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    )

    class Cut:
        def __init__(self) -> None:
            self.processor = processor

        def __call__(self, pictures: Any) -> torch.Tensor:
            made = self.processor(images=list(pictures), return_tensors="pt")
            return made["pixel_values"]

    cut = plain_reader(32, HALF, HALF)
    cut = type(cut)(read=Cut(), side=32, source="a processor")
    uncut = whole(cut)
    seen, all_of_it = cut.read(picture), uncut.read(picture)
    assert seen.shape == all_of_it.shape == (1, 3, 32, 32)
    assert seen.mean() < all_of_it.mean()
    edge, middle = all_of_it[0, 0, 1, 1], all_of_it[0, 0, 16, 16]
    assert edge > 1.5
    assert middle < -1.5
    assert uncut.source == "a processor, its cut of the middle left out"


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("side", [1, 3])
def test_slices_of_few_pixels_are_not_taken_for_channels(side: int, *, cuts: bool) -> None:
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 6},
        crop_size={"height": 6, "width": 6},
        do_center_crop=cuts,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    )
    red = np.zeros((1, side, side, 3), np.uint8)
    red[..., 0] = 255
    reader = whole(Reader(read=_ByProcessor(processor, {}), side=6, source="a processor"))
    pixels = reader.read(red)
    assert pixels.shape == (1, 3, 6, 6)
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_what_a_reader_was_told_beside_its_sizes_holds_without_the_cut() -> None:
    """The mean of a published checkpoint goes before the processor's own."""
    processor = transformers.CLIPImageProcessor()
    options = {
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [0.5, 0.5, 0.5],
    }
    read = _ByProcessor(processor, options)
    white = np.full((1, 48, 48, 3), 255, np.uint8)
    uncut = whole(Reader(read=read, side=32, source="a processor"))
    assert torch.allclose(read(white), torch.full((1, 3, 32, 32), 2.0))
    assert torch.allclose(uncut.read(white), read(white))


def test_a_reader_that_cuts_nothing_is_left_as_it_is() -> None:
    reader = plain_reader(32, HALF, HALF)
    assert whole(reader) is reader


def test_slices_are_seen_at_another_size_where_asked(make_spec: MakeSpec) -> None:
    prompts = {"background": "tissue", "lesion": "tumor"}
    spec = make_spec(
        "tiny:clip", protocol="clip_dense", options={"prompts": prompts, "image_size": 128}
    )
    facts = build_clip_dense(spec, batch_size=1).facts
    assert facts["image_size"] == 128
    assert facts["places"] == [16, 16]


@pytest.mark.parametrize("side", [0, -3, "large", 2.5, True])
def test_a_size_that_is_none_is_refused(side: Any, make_spec: MakeSpec) -> None:
    spec = make_spec("tiny:vit", options={"image_size": side})
    with pytest.raises(ModelError, match="allowed: a side in px, from 1"):
        open_eye(spec, describe("tiny:vit"))
