"""Frozen networks as maps: every family by its own kind, whole or refused, each map in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from candlemark.errors import ModelError
from candlemark.models.inference.tiny import TINY
from candlemark.models.segmentation.backbones import Backbone, load_backbone
from candlemark.models.segmentation.base import SegmenterSpec

SIDE = 64
TOKENS: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}
WINDOWS: dict[str, Any] = {
    "image_size": SIDE,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
}
STAGES: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24]}
TEXT: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

IN_STAGES = (4.0, 8.0, 16.0, 32.0)
SAVED: dict[str, tuple[str, str, dict[str, Any], str, tuple[float, ...]]] = {
    "swinv2": (
        "Swinv2ForImageClassification",
        "Swinv2Config",
        WINDOWS,
        "Swinv2Backbone",
        IN_STAGES,
    ),
    "mit": (
        "SegformerForImageClassification",
        "SegformerConfig",
        {**STAGES, "num_attention_heads": [1, 1, 2, 2], "image_size": SIDE},
        "SegformerModel",
        IN_STAGES,
    ),
    "convnext": ("ConvNextModel", "ConvNextConfig", STAGES, "ConvNextBackbone", IN_STAGES),
    "vit": (
        "ViTForImageClassification",
        "ViTConfig",
        {**TOKENS, "intermediate_size": 16},
        "ViTModel",
        (8.0,) * 4,
    ),
    "dinov2": ("Dinov2Model", "Dinov2Config", TOKENS, "Dinov2Backbone", (8.0,) * 4),
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {"vision_config": {**TOKENS, "intermediate_size": 16}, "text_config": TEXT},
        "CLIPVisionModel",
        (8.0,) * 4,
    ),
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small model with weights of its own, by its family."""
    root = tmp_path_factory.mktemp("backbones")

    def save(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            model_class, config_class, settings, *_ = SAVED[name]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                config = getattr(transformers, config_class)(**settings)
                getattr(transformers, model_class)(config).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def load(make_spec: Callable[..., SegmenterSpec]) -> Callable[..., Backbone]:
    def loaded(source: str | Path, **changed: Any) -> Backbone:
        changed.setdefault("options", {"image_size": SIDE})
        return load_backbone(make_spec(str(source), protocol="linear_probe", **changed))

    return loaded


@pytest.mark.parametrize("name", SAVED)
def test_every_family_gives_maps_of_its_own_weights(
    name: str, saved: Callable[[str], Path], load: Callable[..., Backbone]
) -> None:
    backbone = load(saved(name))
    *_, model_class, strides = SAVED[name]
    assert backbone.facts["model_class"] == model_class
    assert backbone.strides == strides
    assert backbone.facts["weights"] == "pretrained"
    assert backbone.facts["frame"] == "stretched to a square"
    assert len(backbone.facts["weights_sha256"]) == 64
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    maps = backbone.module(pixels)
    assert tuple(one.shape[1] for one in maps.values()) == backbone.channels
    again, other = load(saved(name)), load(saved(name), weights="random")
    assert other.facts["weights"] == "random"
    last = list(maps)[-1]
    assert torch.equal(again.module(pixels)[last], maps[last])
    assert not torch.allclose(other.module(pixels)[last], maps[last])


@pytest.mark.parametrize("name", SAVED)
def test_what_changes_in_a_corner_changes_there_in_the_finest_map(
    name: str, saved: Callable[[str], Path], load: Callable[..., Backbone]
) -> None:
    backbone = load(saved(name))
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    changed = pixels.clone()
    changed[..., 40:56, 8:24] = 3.0  # below the middle, on the left
    before, after = backbone.module(pixels)["map0"], backbone.module(changed)["map0"]
    moved = (after - before).abs().sum(1)[0]
    row, column = divmod(int(moved.argmax()), moved.shape[1])
    stride = backbone.strides[0]
    assert 40 <= (row + 0.5) * stride < 56
    assert 8 <= (column + 0.5) * stride < 24


def test_what_is_under_a_decoder_is_a_backbone_with_or_without_the_decoder(
    tmp_path: Path, load: Callable[..., Backbone]
) -> None:
    """UperNet is a backbone and a decoder, and no class of the library is what lies between."""
    whole = transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(**TINY["upernet"].config)
    ).eval()
    whole.save_pretrained(tmp_path)
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = whole.backbone(pixels).feature_maps
    weights = load_file(tmp_path / "model.safetensors")
    for lost in ("", "decode_head.", "backbone."):
        kept = {name: one for name, one in weights.items() if not (lost and name.startswith(lost))}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        if lost == "backbone.":
            with pytest.raises(ModelError, match=r"lacks \d+ tensors of UperNetForSemantic"):
                load(tmp_path)
            continue
        backbone = load(tmp_path)
        assert backbone.facts["model_class"] == type(whole.backbone).__name__
        assert backbone.facts["new_parameters"] == []
        assert backbone.strides == IN_STAGES
        for made, wanted in zip(backbone.module(pixels).values(), expected, strict=True):
            assert torch.allclose(made, wanted, atol=1e-6)
    assert load("tiny:upernet", weights="random").strides == IN_STAGES


def test_trained_weights_of_timm_are_taken_whole(
    shared_data: Path, load: Callable[..., Backbone]
) -> None:
    import timm

    folder = shared_data / "models" / "efficientnet-lite0-timm"
    backbone = load(folder, options={"image_size": 96})
    assert backbone.strides == IN_STAGES
    assert backbone.channels == (24, 40, 112, 320)
    assert backbone.mean == pytest.approx((0.5,) * 3)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    pixels = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.forward_intermediates(pixels, intermediates_only=True)[-1]
        assert torch.allclose(backbone.module(pixels)["map3"], expected, atol=1e-3)


def test_a_picture_is_resized_and_normalised_as_the_networks_own_processor_does(
    bright_segformer: Path, load: Callable[..., Backbone]
) -> None:
    backbone = load(bright_segformer, options={})
    assert backbone.side == SIDE
    assert backbone.mean == pytest.approx((0.5,) * 3, abs=1e-6)
    assert backbone.std == pytest.approx((0.5,) * 3, abs=1e-6)
    picture = np.zeros((1, 32, 128, 3), np.uint8)
    picture[:, :, 64:] = 255
    pixels = backbone.prepare(picture, torch.device("cpu"))
    assert pixels.shape == (1, 3, SIDE, SIDE)
    assert pixels[0, :, :, 10].flatten().tolist() == pytest.approx([-1.0] * 3 * SIDE)
    assert pixels[0, :, :, -10].flatten().tolist() == pytest.approx([1.0] * 3 * SIDE)


def test_a_side_that_patches_do_not_fill_is_cut_or_refused(
    tmp_path: Path, load: Callable[..., Backbone]
) -> None:
    settings = {**TOKENS, "image_size": 60, "intermediate_size": 16}
    config = transformers.SiglipVisionConfig(**settings)
    transformers.SiglipVisionModel(config).save_pretrained(tmp_path)
    backbone = load(tmp_path, options={})
    assert backbone.side == backbone.facts["image_size"] == 56
    assert backbone.strides == (8.0,) * 4
    assert load(tmp_path, options={"image_size": 64}).strides == (8.0,) * 4
    with pytest.raises(ModelError, match=r"patches of 8 px, .* do not fill it: ask for 56 or 64"):
        load(tmp_path, options={"image_size": 60})
    with pytest.raises(ModelError, match=r"do not fill it: ask for 8$"):
        load(tmp_path, options={"image_size": 7})


def test_pictures_that_nobody_may_write_to_are_taken(load: Callable[..., Backbone]) -> None:
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture.flags.writeable = False
    pixels = load("tiny:segformer", weights="random").prepare(picture, torch.device("cpu"))
    assert pixels.shape == (1, 3, SIDE, SIDE)


def test_a_network_that_takes_blue_first_is_given_blue_first(
    tmp_path: Path, load: Callable[..., Backbone]
) -> None:
    config = transformers.MobileViTConfig(
        image_size=SIDE, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 16]
    )
    transformers.MobileViTModel(config).save_pretrained(tmp_path)
    backbone = load(tmp_path)
    assert backbone.flipped
    assert backbone.mean == pytest.approx((0.0,) * 3, abs=1e-6)
    assert backbone.std == pytest.approx((1.0,) * 3, abs=1e-6)
    red = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    red[..., 0] = 255
    pixels = backbone.prepare(red, torch.device("cpu"))
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_weights_of_another_model_and_models_that_see_nothing_are_refused(
    tmp_path: Path, saved: Callable[[str], Path], load: Callable[..., Backbone]
) -> None:
    torn = load_file(saved("vit") / "model.safetensors")
    del torn["vit.encoder.layer.1.output.dense.weight"]
    (tmp_path / "config.json").write_text(
        (saved("vit") / "config.json").read_text(encoding="utf-8"), encoding="utf-8"
    )
    save_file(torn, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors of ViTModel \(.*these are weights of"):
        load(tmp_path)
    with pytest.raises(ModelError, match=r"tiny:bert is a model for text-encoder.*linear_probe"):
        load("tiny:bert", weights="random")
    with pytest.raises(ModelError, match="is no small model"):
        load("tiny:nothing", weights="random")


def test_queries_of_a_decoder_are_not_taken_for_places(load: Callable[..., Backbone]) -> None:
    """Its twenty queries would pass for sixteen places and four tokens before them."""
    assert load("tiny:detr", weights="random").strides == (32.0, 32.0)
    stages = load("tiny:maskformer", weights="random")
    assert stages.strides == IN_STAGES
