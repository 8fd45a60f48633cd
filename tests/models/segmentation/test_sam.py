"""SAM: masks come back where the prompts were, as in the library's own pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.inference.networks import Network
from candlemark.models.inference.tiny import TINY
from candlemark.models.segmentation.base import ORACLES, STAGES, Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.sam import (
    SamAuto,
    SamOracle,
    as_the_model_sees,
    build_sam,
    masks_taken,
    stability,
)

MakeCase = Callable[..., Case]
MakeSpec = Callable[..., SegmenterSpec]


class Obedient(torch.nn.Module):
    """Stands for a SAM that draws what it is asked: a box's inside, or a square about a point.

    Of a point's three masks the second is the square, and rated best.
    """

    def __init__(self, side: int, reach: int = 4) -> None:
        super().__init__()
        self.side, self.reach = side, reach
        self.embedded: list[int] = []
        self.corners: list[float] = []

    def get_image_embeddings(self, pixels: Tensor) -> Tensor:
        self.embedded.append(len(pixels))
        self.corners += pixels[:, 0, 0, 0].tolist()
        return pixels

    def forward(
        self,
        image_embeddings: Tensor,
        multimask_output: bool,
        input_boxes: Tensor | None = None,
        input_points: Tensor | None = None,
    ) -> Any:
        assert len(image_embeddings) == 1
        place = torch.arange(self.side)
        if input_boxes is not None:
            assert not multimask_output
            masks = [[self._inside(place, box)] for box in input_boxes[0]]
            return SimpleNamespace(
                pred_masks=torch.stack([torch.stack(mask) for mask in masks])[None],
                iou_scores=torch.ones(1, len(masks), 1),
            )
        assert multimask_output
        assert input_points is not None
        squares = []
        for x, y in input_points[0, :, 0]:
            square = self._inside(
                place, torch.stack([x - self.reach, y - self.reach, x + self.reach, y + self.reach])
            )
            squares.append(torch.stack([torch.ones_like(square), square, -square]))
        rated = torch.tensor([0.2, 0.95, 0.1]).expand(1, len(squares), 3)
        return SimpleNamespace(pred_masks=torch.stack(squares)[None], iou_scores=rated)

    def _inside(self, place: Tensor, box: Tensor) -> Tensor:
        x0, y0, x1, y1 = box
        columns = (place >= x0) & (place <= x1)
        rows = (place >= y0) & (place <= y1)
        return torch.where(rows[:, None] & columns, 5.0, -5.0)


def obeying(segmenter: Any, side: int = 64, reach: int = 4) -> Obedient:
    """Put the stand-in where the network is."""
    network, asked = Obedient(side, reach), segmenter._asked
    sight = replace(asked.eye.sight, network=Network(module=network))
    asked.eye = replace(asked.eye, sight=sight)
    return network


def boxes_phantom() -> npt.NDArray[np.uint8]:
    reference = np.zeros((6, 64, 48), np.uint8)
    reference[1:3, 10:20, 30:45] = 1
    reference[2, 40:60, 2:9] = 1
    reference[4, 8:30, 8:30] = 2
    return reference


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_a_box_of_boxes_is_drawn_exactly(
    batch_size: int, make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    reference = boxes_phantom()
    spec = make_spec("tiny:sam", protocol="sam_oracle_box", classes={1: "lesion", 2: "organ"})
    segmenter = build_sam(spec, batch_size=batch_size)
    assert isinstance(segmenter, SamOracle)
    network = obeying(segmenter)
    labels = segmenter.segment_with(make_case(reference * 100), reference, watch)
    assert np.array_equal(labels, reference)
    assert sum(network.embedded) == 3  # slices without a prompt are not looked at
    assert set(watch.totals_ms) == set(STAGES)


def test_boxes_keep_their_place_on_slices_of_another_size(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    reference = np.zeros((1, 96, 128), np.uint8)
    reference[0, 20:40, 60:100] = 1
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_box"), batch_size=1)
    assert isinstance(segmenter, SamOracle)
    obeying(segmenter)
    labels = segmenter.segment_with(make_case(reference), reference, watch)
    assert (labels != reference).mean() < 0.001  # but for its corners, which enlarging rounds


@pytest.mark.parametrize("size", [(16, 16), (32, 12), (8, 16)])
def test_boxes_of_small_slices_hold_their_last_row_and_column(
    size: tuple[int, int], make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    """A pixel of a small slice is many of the model's: a box ends where its last pixel ends."""
    reference = np.zeros((1, *size), np.uint8)
    reference[0, 2:5, 1:4] = 1
    reference[0, 6, 9] = 1  # one pixel alone
    reference[0, size[0] - 1, size[1] - 2 :] = 1  # at the border
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_box"), batch_size=1)
    assert isinstance(segmenter, SamOracle)
    obeying(segmenter)
    labels = segmenter.segment_with(make_case(reference), reference, watch)
    assert np.array_equal(labels, reference)


def test_a_point_of_a_small_slice_is_the_middle_of_its_pixel() -> None:
    """The network takes a place for the corner of a pixel and adds half of one itself."""
    points = as_the_model_sees([(3.0, 0.0)], 16.0)
    assert (points + 0.5).tolist() == [[3.5 * 16, 0.5 * 16]]
    boxes = as_the_model_sees([(3.0, 0.0, 3.0, 1.0)], 16.0)
    assert boxes.tolist() == [[48.0, 0.0, 63.0, 31.0]]  # the first and the last of its pixels
    large = as_the_model_sees([(3.0, 0.0, 3.0, 9.0)], 0.5)
    assert large.tolist() == [[1.5, 0.0, 1.5, 4.0]]  # half a pixel wide, and not turned inside out
    for prompts in ([(3.0, 5.0)], [(3.0, 5.0, 8.0, 9.0)]):
        assert as_the_model_sees(prompts, 1.0).tolist() == [list(prompts[0])]


def test_slices_without_a_prompt_between_others_are_left_out(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    reference = boxes_phantom()
    voxels = np.broadcast_to(np.arange(6)[:, None, None] * 50, reference.shape).astype(np.uint8)
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_box"), batch_size=6)
    assert isinstance(segmenter, SamOracle)
    network = obeying(segmenter)
    reference[4] = reference[4] > 0
    segmenter.segment_with(make_case(voxels), reference, watch)
    first, second, fourth = network.corners  # each as bright as the slice it is
    assert fourth - second == pytest.approx(2 * (second - first), rel=1e-4)


def test_a_part_of_many_hundreds_is_not_lost(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    reference = np.zeros((1, 64, 64), np.uint8)
    reference[0, ::4, ::4] = 1
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_box"), batch_size=1)
    assert isinstance(segmenter, SamOracle)
    obeying(segmenter)
    labels = segmenter.segment_with(make_case(reference), reference, watch)
    assert np.array_equal(labels, reference)


class Drawn(torch.nn.Module):
    """Stands for a SAM that answers with masks (P, 1, h, w) that were drawn before."""

    def __init__(self, masks: Tensor) -> None:
        super().__init__()
        self.masks = masks

    def get_image_embeddings(self, pixels: Tensor) -> Tensor:
        return pixels

    def forward(self, **_: Any) -> Any:
        return SimpleNamespace(pred_masks=self.masks[None], iou_scores=torch.ones(1, 2, 1))


def test_masks_of_two_parts_are_each_enlarged_before_they_are_joined(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    masks = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    reference = np.zeros((1, 64, 64), np.uint8)
    reference[0, 4:9, 4:9] = reference[0, 30:40, 30:40] = 1
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_box"), batch_size=1)
    assert isinstance(segmenter, SamOracle)
    sight = replace(segmenter._asked.eye.sight, network=Network(module=Drawn(masks)))
    segmenter._asked.eye = replace(segmenter._asked.eye, sight=sight)
    labels = segmenter.segment_with(make_case(reference), reference, watch)
    large = torch.nn.functional.interpolate(masks, (64, 64), mode="bilinear")
    assert np.array_equal(labels[0], (large[:, 0] > 0).any(dim=0).numpy())
    early = torch.nn.functional.interpolate(masks.amax(dim=0)[None], (64, 64), mode="bilinear")
    assert not np.array_equal(labels[0], early[0, 0].numpy() > 0)


def test_a_point_draws_about_the_deepest_pixel(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    reference = np.zeros((2, 64, 64), np.uint8)
    reference[1, 20:31, 20:31] = 1
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_point"), batch_size=2)
    assert isinstance(segmenter, SamOracle)
    obeying(segmenter, reach=5)
    labels = segmenter.segment_with(make_case(reference), reference, watch)
    assert np.array_equal(labels, reference)


def test_the_score_falls_as_the_prompt_is_moved(make_spec: MakeSpec, make_case: MakeCase) -> None:
    reference = np.zeros((4, 64, 64), np.uint8)
    reference[:, 20:40, 16:44] = 1
    dice = []
    for jitter in (0.0, 0.1, 0.3):
        spec = make_spec("tiny:sam", protocol="sam_oracle_box", options={"jitter": jitter})
        segmenter = build_sam(spec, batch_size=4)
        assert isinstance(segmenter, SamOracle)
        obeying(segmenter)
        labels = segmenter.segment_with(make_case(reference), reference, Stopwatch(lambda: 0))
        dice.append(2 * (labels & reference).sum() / (labels.sum() + reference.sum()))
        assert segmenter.facts["jitter"] == jitter
    assert dice[0] == 1.0
    assert 1.0 > dice[1] > 0.8
    assert dice[1] > dice[2]


BOX = [10.0, 12.0, 30.0, 32.0]
PROMPTS: dict[str, Any] = {
    "box": {"input_boxes": [[BOX]]},
    "point": {"input_points": [[[20.0, 22.0]]]},
}


def asked_with(kind: str, name: str, wide: int, make_spec: MakeSpec, make_case: MakeCase) -> Any:
    """A noisy slice 64 high, its mask by ours, the network, and what it saw."""
    voxels = np.random.default_rng(0).integers(0, 256, (1, 64, wide)).astype(np.uint8)
    voxels[0, 0, :2] = 0, 255
    reference = np.zeros(voxels.shape, np.uint8)
    reference[0, 12:33, 10:31] = 1
    spec = make_spec(f"tiny:{name}", protocol=f"sam_oracle_{kind}", weights="random")
    segmenter = build_sam(spec, batch_size=1)
    assert isinstance(segmenter, SamOracle)
    labels = segmenter.segment_with(make_case(voxels), reference, Stopwatch(lambda: 0))
    assert 0.02 < labels.mean() < 0.98
    picture = np.repeat(voxels[0][..., None], 3, axis=-1)
    return labels[0], segmenter._asked, picture


@pytest.mark.parametrize("kind", ["box", "point"])
def test_masks_are_those_of_the_library_s_own_pipeline(
    kind: str, make_spec: MakeSpec, make_case: MakeCase
) -> None:
    labels, asked, picture = asked_with(kind, "sam", 44, make_spec, make_case)
    processor = transformers.SamProcessor(
        transformers.SamImageProcessor(
            size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
        )
    )
    inputs = processor(images=picture, return_tensors="pt", **PROMPTS[kind])
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    with torch.no_grad():
        made = asked.eye.module(
            multimask_output=kind == "point",
            **{key: value.float() for key, value in inputs.items()},
        )
    masks = processor.image_processor.post_process_masks(made.pred_masks, *sizes)
    assert torch.allclose(asked.read(picture[None]), inputs["pixel_values"], atol=1e-5)
    assert (labels == masks[0][0, made.iou_scores[0, 0].argmax()].numpy()).mean() > 0.99


@pytest.mark.parametrize("size", [(40, 28), (28, 40), (16, 16), (90, 128)])
def test_the_border_of_a_slice_is_no_darker_than_its_inside(
    size: tuple[int, int], make_spec: MakeSpec
) -> None:
    """What fills a slice up to a square comes after resizing, as in the library."""
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_box"), batch_size=1)
    picture = np.full((1, *size, 3), 200, np.uint8)
    theirs = transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
    )(images=list(picture), return_tensors="pt")["pixel_values"]
    assert torch.allclose(segmenter._asked.read(picture), theirs, atol=1e-5)


@pytest.mark.parametrize("kind", ["box", "point"])
def test_sam_2_is_asked_as_the_library_asks_it(
    kind: str, make_spec: MakeSpec, make_case: MakeCase
) -> None:
    labels, asked, picture = asked_with(kind, "sam2", 64, make_spec, make_case)
    prompts = {key: torch.tensor(value) for key, value in PROMPTS[kind].items()}
    if kind == "point":
        prompts = {key: value[:, :, None] for key, value in prompts.items()}
    with torch.no_grad():
        made = asked.eye.module(
            pixel_values=asked.read(picture[None]), multimask_output=kind == "point", **prompts
        )
    processor = transformers.Sam2ImageProcessor()
    masks = processor.post_process_masks(made.pred_masks, [(64, 64)])
    assert (labels == masks[0][0, made.iou_scores[0, 0].argmax()].numpy()).mean() > 0.99


def test_the_facts_call_an_oracle_an_oracle(make_spec: MakeSpec) -> None:
    for protocol in ("sam_oracle_box", "sam_oracle_point"):
        facts = build_sam(make_spec("tiny:sam", protocol=protocol), batch_size=1).facts
        assert facts["protocol"] == protocol
        assert protocol in ORACLES
        assert facts["oracle"] is True
        assert facts["frame"] in facts["inputs"]
        assert "mean colour" in facts["frame"]
        assert facts["untrained"] is True
        assert "8-connected part of each class on each slice" in facts["prompt"]
        assert json.loads(json.dumps(facts)) == facts


def test_a_grid_finds_what_stands_out_and_leaves_the_rest(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    segmenter = build_sam(
        make_spec("tiny:sam", protocol="sam_auto", classes={3: "x"}), batch_size=2
    )
    assert isinstance(segmenter, SamAuto)
    obeying(segmenter, reach=1)
    labels = segmenter.segment(make_case(np.zeros((2, 128, 64), np.uint8)), watch)
    assert set(np.unique(labels)) == {0, 3}
    assert labels[0].tolist() == labels[1].tolist()
    # 16 by 8 points 8 px apart, each drawing what lies within 2 px of it
    shares = [(part == 3).mean() for part in np.split(labels[0], 8)]
    assert np.ptp(shares) < 0.01
    assert 0.2 < shares[0] < 0.4
    assert segmenter.facts["oracle"] is False
    assert "at most half of the slice" in segmenter.facts["prompt"]


def test_the_rule_takes_masks_that_are_sure_stable_and_small() -> None:
    sharp = torch.full((8, 8), -5.0)
    sharp[2:4, 2:4] = 5.0
    soft = torch.full((8, 8), -5.0)
    soft[5:7, 5:7] = 0.5
    whole = torch.full((8, 8), 5.0)
    masks = torch.stack([sharp, soft, whole])[None]
    assert stability(masks[0]).tolist() == [1.0, 0.0, 1.0]
    sure = torch.full((1, 3), 0.9)
    assert torch.equal(masks_taken(masks, sure, (1.0, 1.0)), sharp[None])
    unsure = torch.tensor([[0.87, 0.9, 0.9]])
    assert len(masks_taken(masks, unsure, (1.0, 1.0))) == 0


def test_what_was_filled_up_does_not_make_a_mask_small() -> None:
    half = torch.full((1, 1, 8, 8), -5.0)
    half[..., :4, :] = 5.0
    rated = torch.ones(1, 1)
    assert len(masks_taken(half, rated, (1.0, 1.0))) == 1
    assert len(masks_taken(half, rated, (0.5, 1.0))) == 0


def test_stability_of_nothing_is_nothing() -> None:
    assert stability(torch.full((1, 4, 4), -5.0)).tolist() == [0.0]


def test_a_grid_cannot_tell_classes_apart(make_spec: MakeSpec) -> None:
    spec = make_spec("tiny:sam", protocol="sam_auto", classes={1: "lesion", 2: "organ"})
    with pytest.raises(ModelError, match=r"not 2 classes \(lesion, organ\) .* with --binary"):
        build_sam(spec, batch_size=1)


@pytest.mark.parametrize("jitter", [-0.1, 1.5, "much", True, None])
def test_a_jitter_that_is_no_share_is_refused(jitter: Any, make_spec: MakeSpec) -> None:
    spec = make_spec("tiny:sam", protocol="sam_oracle_box", options={"jitter": jitter})
    with pytest.raises(ModelError, match="allowed: one share of the box's size, 0 to 1"):
        build_sam(spec, batch_size=1)


def test_another_kind_of_model_is_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(ModelError, match="SegformerForSemanticSegmentation, which is not asked"):
        build_sam(make_spec("tiny:segformer", protocol="sam_auto"), batch_size=1)


def test_a_reference_on_another_grid_is_refused(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    segmenter = build_sam(make_spec("tiny:sam", protocol="sam_oracle_box"), batch_size=1)
    assert isinstance(segmenter, SamOracle)
    case = make_case(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(ModelError, match=r"shape \(1, 8, 8\), and the scan \(2, 8, 8\)"):
        segmenter.segment_with(case, np.zeros((1, 8, 8), np.uint8), watch)


def test_sam_2_as_it_is_published_is_read(tmp_path: Path, make_spec: MakeSpec) -> None:
    config = transformers.Sam2VideoConfig(
        **TINY["sam2"].config,
        memory_attention_hidden_size=32,
        memory_attention_feed_forward_hidden_size=64,
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=64,
    )
    transformers.Sam2VideoModel(config).save_pretrained(tmp_path)
    segmenter = build_sam(make_spec(str(tmp_path), protocol="sam_oracle_box"), batch_size=1)
    assert segmenter.facts["model_class"] == "Sam2Model"
    assert segmenter.facts["untrained"] is False
    assert segmenter.facts["new_parameters"] == []
