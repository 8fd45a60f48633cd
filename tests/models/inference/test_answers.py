"""What outputs mean, beside the library's own post-processing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from candlemark.models.inference.answers import (
    best_labels,
    boxes,
    ctc_ids,
    object_masks,
    pixel_classes,
)

SIDE = 96


def output(**tensors: Any) -> Any:
    return SimpleNamespace(**tensors)


@pytest.mark.parametrize("nothing", [True, False])
def test_boxes_are_those_of_the_librarys_detectors(nothing: bool) -> None:
    random = torch.Generator().manual_seed(0)
    classes = 4
    logits = 3 * torch.randn(3, 12, classes + nothing, generator=random)
    centred = torch.rand(3, 12, 4, generator=random)
    config = transformers.DetrConfig(num_labels=classes)
    processor: Any = (
        transformers.DetrImageProcessor() if nothing else transformers.RTDetrImageProcessor()
    )
    theirs = processor.post_process_object_detection(
        output(logits=logits, pred_boxes=centred),
        threshold=0.5,
        target_sizes=torch.tensor([[SIDE, SIDE]] * 3),
    )
    ours = boxes({"logits": logits, "pred_boxes": centred}, config=config, side=SIDE)
    # The library's top list is as long as there are queries; what it cuts off is the weakest.
    for mine, expected in zip(ours, theirs, strict=True):
        count = len(expected["scores"])
        assert count > 0
        order = expected["scores"].argsort(descending=True)
        strongest = sorted(mine, key=lambda box: -box["score"])[:count]
        assert [box["score"] for box in strongest] == pytest.approx(
            expected["scores"][order].tolist(), abs=1e-6
        )
        assert [box["label"] for box in strongest] == [
            config.id2label[int(label)] for label in expected["labels"][order]
        ]
        assert np.allclose([box["box"] for box in strongest], expected["boxes"][order], atol=1e-3)


def test_classes_of_pixels_are_the_librarys() -> None:
    logits = torch.randn(2, 5, 12, 12, generator=torch.Generator().manual_seed(1))
    theirs = transformers.SegformerImageProcessor().post_process_semantic_segmentation(
        output(logits=logits), target_sizes=[(SIDE, SIDE)] * 2
    )
    for mine, expected in zip(pixel_classes({"logits": logits}, side=SIDE), theirs, strict=True):
        assert np.array_equal(mine, expected.numpy())


def test_classes_of_queries_are_the_librarys() -> None:
    random = torch.Generator().manual_seed(2)
    tensors = {
        "masks_queries_logits": torch.randn(2, 7, 12, 12, generator=random),
        "class_queries_logits": torch.randn(2, 7, 6, generator=random),
    }
    theirs = transformers.MaskFormerImageProcessor().post_process_semantic_segmentation(
        output(**tensors), target_sizes=[(SIDE, SIDE)] * 2
    )
    for mine, expected in zip(pixel_classes(tensors, side=SIDE), theirs, strict=True):
        assert (mine == expected.numpy()).mean() > 0.999


def test_answers_of_half_precision_are_those_of_float32() -> None:
    random = torch.Generator().manual_seed(3)
    masks, classes = torch.randn(2, 7, 12, 12, generator=random), torch.randn(2, 7, 6)
    for halved in (torch.float16, torch.bfloat16):
        low = {"masks_queries_logits": masks.to(halved), "class_queries_logits": classes.to(halved)}
        full = {name: tensor.float() for name, tensor in low.items()}
        for mine, expected in zip(
            pixel_classes(low, side=SIDE), pixel_classes(full, side=SIDE), strict=True
        ):
            assert np.array_equal(mine, expected)


def test_of_three_masks_the_best_is_taken() -> None:
    masks = torch.full((2, 1, 3, 8, 8), -1.0)
    masks[0, 0, 1, :, :4] = 1.0
    masks[1, 0, 2] = 1.0
    scores = torch.tensor([[[0.1, 0.9, 0.2]], [[0.1, 0.2, 0.9]]])
    left, everything = object_masks({"pred_masks": masks, "iou_scores": scores}, side=32)
    assert left.dtype == bool
    assert left[:, :16].all()
    assert not left[:, 17:].any()
    assert everything.all()


def test_labels_come_best_first_with_their_probabilities() -> None:
    (answer,) = best_labels(
        {"logits": torch.tensor([[0.0, 2.0, 1.0]]).log_softmax(-1)}, names={1: "bull"}
    )
    assert [found["label"] for found in answer] == ["bull", "2", "0"]
    assert sum(found["score"] for found in answer) == pytest.approx(1)


def test_ctc_merges_repeats_before_it_drops_blanks() -> None:
    best = torch.tensor([[0, 3, 3, 0, 3, 5, 5, 0], [0, 0, 0, 0, 0, 0, 0, 0]])
    logits = torch.nn.functional.one_hot(best, 6).float()
    assert ctc_ids({"logits": logits}, blank=0) == [[3, 3, 5], []]
