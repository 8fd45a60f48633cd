"""Heads on maps: linear where they say so, the pyramid's shapes, and the segmenter's manners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from candlemark.errors import ModelError
from candlemark.models.segmentation.backbones import load_backbone
from candlemark.models.segmentation.base import Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.maps import Maps
from candlemark.models.segmentation.probe import (
    LinearHead,
    ProbeSegmenter,
    Standardise,
    UperHead,
    build_head,
    made_a_pyramid,
)

CHANNELS = (4, 5, 6)


def some_maps(places: tuple[int, ...] = (16, 8, 4), seed: int = 0) -> Maps:
    random = torch.Generator().manual_seed(seed)
    return {
        f"map{number}": 3 + 7 * torch.randn(2, channels, side, side, generator=random)
        for number, (channels, side) in enumerate(zip(CHANNELS, places, strict=True))
    }


def test_channels_are_standardised_by_all_batches_and_a_constant_one_is_only_shifted() -> None:
    seen = [some_maps(seed=seed) for seed in range(3)]
    for maps in seen:
        maps["map1"][:, 2] = 1e6
    standardise = Standardise(CHANNELS)
    assert torch.equal(standardise(seen[0])[0], seen[0]["map0"])  # nothing was learnt yet
    standardise.learn(iter(seen))
    found = torch.cat([standardise(maps)[0] for maps in seen])
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0.0] * 4, abs=1e-5)
    assert found.std((0, 2, 3), correction=0).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert not standardise(seen[0])[1][:, 2].any()


def test_a_linear_head_is_linear_in_the_enlarged_and_joined_maps() -> None:
    head = LinearHead(CHANNELS, classes=3)
    head.standardise.learn([some_maps(seed=9)])
    maps = some_maps()
    levels = head.standardise(maps)
    joined = torch.cat(
        [interpolate(one, size=(16, 16), mode="bilinear", align_corners=False) for one in levels],
        dim=1,
    )
    layers = [head.finest, *head.coarser]
    weight = torch.cat([layer.weight for layer in layers], dim=1)
    expected = torch.nn.functional.conv2d(joined, weight, head.finest.bias)
    assert torch.allclose(head(**maps), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("places", "single", "answered"), [((16, 8, 4), False, 16), ((8, 8, 8), True, 32)]
)
def test_the_pyramid_answers_by_its_finest_level_and_all_of_it_learns(
    places: tuple[int, ...], answered: int, *, single: bool
) -> None:
    head = UperHead(CHANNELS, classes=3, single=single)
    logits = head(**some_maps(places))
    assert logits.shape == (2, 3, answered, answered)
    logits.square().sum().backward()
    assert all(one.grad is not None and one.grad.any() for one in head.parameters())


@pytest.mark.parametrize("places", [1, 2, 3, 7, 14])
def test_a_pyramid_of_one_resolution_keeps_every_map_in_place(places: int) -> None:
    """What rises evenly from -1 to 1 is 0 in the middle, however many places there are."""
    ramp = torch.linspace(-1, 1, places) if places > 1 else torch.zeros(1)
    levels = made_a_pyramid([ramp.expand(1, 1, places, places)] * 4)
    assert [len(one[0, 0]) for one in levels] == [4 * places, 2 * places, places, places // 2 or 1]
    for level in levels:
        assert level.mean().item() == pytest.approx(0.0, abs=1e-6)
        assert torch.allclose(level, -level.flip(-1), atol=1e-6)


@pytest.mark.parametrize("protocol", ["linear_probe", "upernet_frozen"])
def test_a_head_starts_from_the_odds_of_each_class(
    protocol: str, make_spec: Callable[..., SegmenterSpec]
) -> None:
    spec = make_spec("tiny:segformer", weights="random", protocol=protocol)
    head = build_head(protocol, load_backbone(spec), classes=3, seed=0)
    head.start_from(torch.tensor([0.9, 0.1, 0.0]))
    bias = head.answer.bias
    assert bias is not None
    assert bias.exp().tolist() == pytest.approx([0.9, 0.1, 1e-4])


def test_heads_are_drawn_by_their_seed_and_the_callers_random_state_is_left_alone(
    make_spec: Callable[..., SegmenterSpec],
) -> None:
    backbone = load_backbone(make_spec("tiny:segformer", weights="random"))
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    first, same, other = (
        build_head("linear_probe", backbone, classes=2, seed=seed).answer.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    with pytest.raises(ModelError, match="native_head has no head; allowed: linear_probe"):
        build_head("native_head", backbone, classes=2, seed=0)


@pytest.fixture
def ask(
    make_spec: Callable[..., SegmenterSpec], make_case: Callable[..., Case], watch: Stopwatch
) -> Callable[..., Any]:
    """What an untrained head with labels 3 and 7 says of five slices."""
    backbone = load_backbone(make_spec("tiny:segformer", weights="random"))
    head = build_head("linear_probe", backbone, classes=3, seed=0).eval()
    voxels = np.random.default_rng(0).integers(0, 900, (5, 20, 30), dtype=np.int16)

    def answer(batch_size: int, **changed: Any) -> Any:
        segmenter = ProbeSegmenter(
            backbone=backbone,
            head=head,
            table=np.array([0, 3, 7], np.uint8),
            batch_size=batch_size,
            device=torch.device("cpu"),
            **changed,
        )
        return segmenter.segment(make_case(voxels), watch)

    return answer


def test_every_slice_is_answered_in_the_references_labels_whatever_the_batch(
    ask: Callable[..., Any], watch: Stopwatch
) -> None:
    labels = ask(2)
    assert labels.shape == (5, 20, 30)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 3, 7}
    assert len(np.unique(labels)) > 1
    assert np.mean(ask(5) == labels) > 0.999  # sums of floats depend on the batch
    assert set(watch.totals_ms) == {"load", "preprocess", "forward", "postprocess"}


def test_a_case_that_was_learnt_from_is_not_answered(ask: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match="case case_1 is one that this head was trained on"):
        ask(2, learnt=frozenset({"case_1"}))
