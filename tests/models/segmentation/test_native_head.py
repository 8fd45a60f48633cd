"""Trained heads: known answers, the map of classes, and weights without a head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.utils import ModelOutput

from candlemark.errors import ModelError
from candlemark.models.inference.tiny import TINY
from candlemark.models.segmentation.base import STAGES, Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.native_head import (
    ENLARGED,
    build_native_head,
    class_scores,
)
from candlemark.models.segmentation.pixels import labels_of

MakeCase = Callable[..., Case]
MakeSpec = Callable[..., SegmenterSpec]
MAP = {"class_map": {"bright": "lesion"}}


def band(shape: tuple[int, int, int], rows: slice) -> Any:
    voxels = np.full(shape, 100, np.int16)
    voxels[:, rows] = 900
    return voxels


def test_a_network_that_reads_brightness_finds_what_is_bright(
    bright_segformer: Path, make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    voxels = band((5, 64, 64), slice(16, 40))
    segmenter = build_native_head(make_spec(str(bright_segformer), options=MAP), batch_size=2)
    labels = segmenter.segment(make_case(voxels), watch)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, voxels > 500)
    assert set(watch.totals_ms) == set(STAGES)
    assert all(total > 0 for total in watch.totals_ms.values())


@pytest.mark.parametrize("size", [(64, 40), (32, 64), (128, 96), (50, 37)])
def test_slices_of_any_shape_come_back_in_place(
    size: tuple[int, int],
    bright_segformer: Path,
    make_spec: MakeSpec,
    make_case: MakeCase,
    watch: Stopwatch,
) -> None:
    high, wide = size
    voxels = band((2, high, wide), slice(high // 4, high // 2))
    voxels[:, :, : wide // 2] = 100
    segmenter = build_native_head(make_spec(str(bright_segformer), options=MAP), batch_size=4)
    labels = segmenter.segment(make_case(voxels), watch)
    expected = voxels > 500
    both = (labels == 1) & expected
    dice = 2 * both.sum() / ((labels == 1).sum() + expected.sum())
    assert labels.shape == voxels.shape
    assert dice > 0.85  # its places are 4 px of the square wide


def test_a_processor_of_rectangles_is_told_to_make_squares(
    bright_segformer: Path, tmp_path: Path, make_spec: MakeSpec, make_case: MakeCase
) -> None:
    """As those of street scenes do: no scan could be shown to such a model."""
    source = edited(bright_segformer, tmp_path, lambda state: state)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    settings["size"] = {"height": 64, "width": 128}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    voxels = band((1, 64, 64), slice(16, 40))
    for side in (None, 128):
        spec = make_spec(source, options={**MAP, "image_size": side})
        labels = build_native_head(spec, batch_size=1).segment(
            make_case(voxels), Stopwatch(lambda: 0)
        )
        assert np.array_equal(labels, voxels > 500)


def test_a_side_that_its_processor_would_pad_is_refused_with_one_that_it_does_not(
    bright_segformer: Path, tmp_path: Path, make_spec: MakeSpec
) -> None:
    """Else every case is: squares of 50 px become squares of 64, of which 14 are padding."""
    source = edited(bright_segformer, tmp_path, lambda state: state)
    transformers.Mask2FormerImageProcessor(
        size={"shortest_edge": 50, "longest_edge": 200}, size_divisor=32
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"image_size = 50; .* 64 x 64 px of it: ask for 64"):
        build_native_head(make_spec(source, options=MAP), batch_size=1)
    build_native_head(make_spec(source, options={**MAP, "image_size": 64}), batch_size=1)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_answer_does_not_depend_on_the_batch(
    batch_size: int, bright_segformer: Path, make_spec: MakeSpec, make_case: MakeCase
) -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (5, 48, 64)).astype(np.float32)
    spec = make_spec(str(bright_segformer), options=MAP)
    alone, several = (
        build_native_head(spec, batch_size=size).segment(make_case(voxels), Stopwatch(lambda: 0))
        for size in (5, batch_size)
    )
    assert (alone != several).mean() < 1e-3  # float32 sums in another order
    assert 0.1 < alone.mean() < 0.9


def test_the_map_decides_which_label_a_class_becomes(
    bright_segformer: Path, make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    voxels = band((1, 64, 64), slice(16, 40))
    spec = make_spec(
        str(bright_segformer),
        classes={2: "dark matter", 7: "never"},
        options={"class_map": {"0": 2}},
    )
    segmenter = build_native_head(spec, batch_size=2)
    assert np.array_equal(segmenter.segment(make_case(voxels), watch), 2 * (voxels < 500))
    assert segmenter.facts["class_map"] == {"0": 2}
    assert segmenter.facts["class_map_names"] == {"dark": "dark matter"}
    assert segmenter.facts["classes_without_answer"] == ["never"]


def test_the_facts_say_what_answers(bright_segformer: Path, make_spec: MakeSpec) -> None:
    facts = build_native_head(make_spec(str(bright_segformer), options=MAP), batch_size=1).facts
    assert json.loads(json.dumps(facts)) == facts
    assert facts["protocol"] == "native_head"
    assert facts["model_class"] == "SegformerForSemanticSegmentation"
    assert facts["untrained"] is False
    assert len(facts["weights_sha256"]) == 64
    assert facts["frame"] == "padded with black to a square"
    assert "the checkpoint's own image processor" in facts["inputs"]


def test_without_a_map_nobody_knows_what_a_class_means(
    bright_segformer: Path, make_spec: MakeSpec
) -> None:
    with pytest.raises(ModelError, match=r"nobody said what the classes of .* mean \(dark, bright"):
        build_native_head(make_spec(str(bright_segformer)), batch_size=1)


def test_weights_without_the_head_are_refused_by_name(tmp_path: Path, make_spec: MakeSpec) -> None:
    config = transformers.SegformerConfig(**TINY["segformer"].config)
    transformers.SegformerForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as raised:
        build_native_head(make_spec(str(tmp_path), options=MAP), batch_size=1)
    said = str(raised.value)
    assert "has no trained head: its weights (model.safetensors) lack decode_head." in said
    assert "of SegformerForSemanticSegmentation, which would be drawn at random" in said
    assert "probe what it sees with protocol linear_probe or upernet_frozen" in said


def test_one_tensor_of_the_head_that_is_missing_is_enough(
    bright_segformer: Path, tmp_path: Path, make_spec: MakeSpec
) -> None:
    source = edited(
        bright_segformer, tmp_path, lambda state: state.pop("decode_head.classifier.weight")
    )
    with pytest.raises(ModelError, match=r"lack decode_head\.classifier\.weight of"):
        build_native_head(make_spec(source, options=MAP), batch_size=1)


def edited(folder: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """A copy of a model's folder with other weights."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    change(state)
    for name in ("config.json", "preprocessor_config.json"):
        (to / name).write_bytes((folder / name).read_bytes())
    save_file(state, to / "model.safetensors", {"format": "pt"})
    return str(to)


def test_a_count_of_batches_is_no_part_of_a_trained_head(
    bright_segformer: Path, tmp_path: Path, make_spec: MakeSpec, make_case: MakeCase
) -> None:
    counter = "decode_head.batch_norm.num_batches_tracked"
    source = edited(bright_segformer, tmp_path, lambda state: state.pop(counter))
    voxels = band((1, 64, 64), slice(16, 40))
    segmenter = build_native_head(make_spec(source, options=MAP), batch_size=1)
    assert np.array_equal(segmenter.segment(make_case(voxels), Stopwatch(lambda: 0)), voxels > 500)
    assert segmenter.facts["new_parameters"] == []


def test_a_head_of_other_classes_than_the_config_s_is_named(
    bright_segformer: Path, tmp_path: Path, make_spec: MakeSpec
) -> None:
    name = "decode_head.classifier.weight"
    source = edited(
        bright_segformer, tmp_path, lambda state: state.update({name: torch.zeros(9, 64, 1, 1)})
    )
    with pytest.raises(ModelError) as raised:
        build_native_head(make_spec(source, options=MAP), batch_size=1)
    assert str(raised.value) == (
        f"{tmp_path / 'model.safetensors'} holds {name} of shape (9, 64, 1, 1), and by the config "
        f"of {tmp_path} it has (2, 64, 1, 1); take both of one model"
    )


def test_random_weights_are_called_untrained(
    make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    spec = make_spec("tiny:segformer", options={"class_map": {"1": 1}}, weights="random")
    segmenter = build_native_head(spec, batch_size=2)
    assert segmenter.facts["untrained"] is True
    assert segmenter.facts["weights"] == "random"
    assert segmenter.facts["weights_seed"] == 0
    assert segmenter.segment(make_case(band((2, 40, 40), slice(4, 9))), watch).max() <= 1


PROCESSORS = {
    "maskformer": transformers.MaskFormerImageProcessor,
    "mask2former": transformers.Mask2FormerImageProcessor,
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_masks_by_query_are_the_library_s_own(
    name: str, make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    every = {"class_map": {str(own): own + 1 for own in range(10)}}
    classes = {label: f"class {label}" for label in range(1, 11)}
    spec = make_spec(f"tiny:{name}", options=every, classes=classes, weights="random")
    segmenter = build_native_head(spec, batch_size=2)
    eye: Any = segmenter._eye
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():  # wide enough that several classes win somewhere
        for weights in eye.module.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 1.4 / weights[0].numel() ** 0.5, generator=random)
    voxels = np.random.default_rng(3).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    labels = segmenter.segment(make_case(voxels), watch)
    pixels = eye.read(np.repeat(_stretched(voxels)[..., None], 3, axis=-1))
    with torch.no_grad():
        made = eye.module(pixels)
    theirs = PROCESSORS[name]().post_process_semantic_segmentation(
        made, target_sizes=[(64, 64)] * 3
    )
    assert len(np.unique(labels)) > 1
    agreed = labels == torch.stack(theirs).numpy() + 1
    assert agreed.mean() > 0.999  # sums of batches of two and of three differ in their last bits


def test_masks_are_enlarged_to_what_the_network_sees_where_the_library_does_so() -> None:
    random = torch.Generator().manual_seed(0)
    made = ModelOutput(
        class_queries_logits=3 * torch.randn(2, 7, 5, generator=random),
        masks_queries_logits=9 * torch.randn(2, 7, 16, 16, generator=random),
        patch_offsets=None,
    )
    ours = [labels_of(scores, (48, 48))[0] for scores in class_scores(made, 64)]
    theirs = transformers.EomtImageProcessor(
        size={"shortest_edge": 64, "longest_edge": None}
    ).post_process_semantic_segmentation(made, target_sizes=[(48, 48)] * 2)
    assert np.array_equal(np.stack(ours), torch.stack(theirs).numpy())
    assert ENLARGED["eomt"] is None


def _stretched(voxels: Any) -> Any:
    low, high = float(voxels.min()), float(voxels.max())
    return np.rint((voxels - low) / (high - low) * 255).astype(np.uint8)


def test_one_score_a_pixel_is_decided_by_its_sign(
    bright_segformer: Path, tmp_path: Path, make_spec: MakeSpec, make_case: MakeCase
) -> None:
    network = transformers.SegformerForSemanticSegmentation.from_pretrained(bright_segformer)
    last = network.decode_head.classifier
    alone = torch.nn.Conv2d(last.in_channels, 1, 1)
    with torch.no_grad():
        alone.weight.copy_(last.weight[1:])
        alone.bias.copy_(last.bias[1:])
    network.decode_head.classifier = alone
    network.config.num_labels = 1
    network.save_pretrained(tmp_path)
    processor = "preprocessor_config.json"
    (tmp_path / processor).write_bytes((bright_segformer / processor).read_bytes())
    voxels = band((1, 64, 64), slice(16, 40))
    spec = make_spec(str(tmp_path), options={"class_map": {"0": "lesion"}})
    labels = build_native_head(spec, batch_size=1).segment(make_case(voxels), Stopwatch(lambda: 0))
    assert np.array_equal(labels, voxels > 500)


def test_a_kind_that_has_no_head_at_all_is_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(ModelError, match="has no trained head for masks"):
        build_native_head(make_spec("tiny:vit", options=MAP), batch_size=1)


def test_an_output_without_pixels_is_refused() -> None:
    with pytest.raises(ModelError, match=r"ModelOutput holds no scores of pixels \(logits\)"):
        list(class_scores(ModelOutput(logits=torch.zeros(2, 10))))
