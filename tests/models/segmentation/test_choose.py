"""Which protocol fits a model, by its config alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candlemark.errors import ModelError
from candlemark.models.inference.describe import describe
from candlemark.models.segmentation.base import PROTOCOLS
from candlemark.models.segmentation.choose import (
    choose_protocol,
    describe_segmenter,
    head_class,
    open_clip_vision,
    with_head,
)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def folder_of(where: Path, config: dict[str, Any], name: str = "config.json") -> str:
    where.mkdir(exist_ok=True)
    (where / name).write_text(json.dumps(config), encoding="utf-8")
    return str(where)


@pytest.mark.parametrize(
    ("model_id", "protocol", "said"),
    [
        ("tiny:segformer", "native_head", "SegformerForSemanticSegmentation gives a class a pixel"),
        ("tiny:sam", "sam_auto", "its oracles have to be named"),
        ("tiny:clip", "clip_dense", "compares places of a picture with texts"),
        ("tiny:siglip", "clip_dense", "compares places"),
        ("tiny:vit", "linear_probe", "what it sees is probed"),
        ("tiny:dinov2", "linear_probe", "has no head for masks"),
        ("nvidia/mit-b0", "linear_probe", "SegformerForImageClassification has no head for masks"),
        ("facebook/sam-vit-base", "sam_auto", "asked with points"),
        ("facebook/sam2.1-hiera-tiny", "sam_auto", "Sam2Model is asked with points"),
        ("tiny:mask2former", "native_head", "Mask2FormerForUniversalSegmentation gives"),
        ("nvidia/segformer-b0-finetuned-ade-512-512", "native_head", "gives a class a pixel"),
        ("timm/edgenext_xx_small.in1k", "linear_probe", "what it sees is probed"),
        ("tiny:detr", "none", "it gives boxes, no masks"),
        ("tiny:blip", "none", "it gives text, no masks"),
    ],
)
def test_the_architecture_decides(model_id: str, protocol: str, said: str) -> None:
    choice = choose_protocol(model_id, weights="random")
    assert choice.protocol == protocol
    assert choice.protocol in PROTOCOLS
    assert said in choice.reason


@pytest.mark.parametrize(
    ("architecture", "kind", "protocol"),
    [
        ("Mask2FormerForUniversalSegmentation", "mask2former", "native_head"),
        ("OneFormerForUniversalSegmentation", "oneformer", "native_head"),
        ("UperNetForSemanticSegmentation", "upernet", "native_head"),
        ("BeitForSemanticSegmentation", "beit", "native_head"),
        ("DPTForSemanticSegmentation", "dpt", "native_head"),
        ("Sam2Model", "sam2", "sam_auto"),
        ("Sam2VideoModel", "sam2_video", "sam_auto"),
        ("SamHQModel", "sam_hq", "none"),
        ("CLIPSegForImageSegmentation", "clipseg", "clip_dense"),
        ("AltCLIPModel", "altclip", "none"),
        ("VideomtForUniversalSegmentation", "videomt", "none"),
        ("Swinv2ForMaskedImageModeling", "swinv2", "linear_probe"),
    ],
)
def test_a_folder_is_told_by_its_config(
    tmp_path: Path, architecture: str, kind: str, protocol: str
) -> None:
    folder = folder_of(tmp_path / "clipseg", {"architectures": [architecture], "model_type": kind})
    assert choose_protocol(folder).protocol == protocol


def test_what_sees_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"tiny:bert \(BertModel\) is for text-encoder and sees"):
        choose_protocol("tiny:bert")


def test_open_clip_is_probed_and_the_reason_says_why(tmp_path: Path) -> None:
    towers = {"model_cfg": {"vision_cfg": {"timm_model_name": "vit_base_patch16_224"}}}
    folder = folder_of(tmp_path / "biomed", towers, "open_clip_config.json")
    choice = choose_protocol(folder)
    assert choice.protocol == "linear_probe"
    assert "timm's vit_base_patch16_224" in choice.reason
    assert "text tower is open_clip's" in choice.reason
    assert open_clip_vision(folder) == {"timm_model_name": "vit_base_patch16_224"}


def test_a_published_tower_with_random_weights_needs_no_network() -> None:
    name = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
    assert choose_protocol(name, weights="random").protocol == "linear_probe"


def test_open_clip_with_a_tower_of_its_own_is_refused(tmp_path: Path) -> None:
    towers = {"model_cfg": {"vision_cfg": {"layers": 12}}}
    folder = folder_of(tmp_path / "own", towers, "open_clip_config.json")
    with pytest.raises(ModelError, match="neither timm nor transformers builds"):
        choose_protocol(folder)


def test_a_damaged_config_of_open_clip_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "odd", {"model_cfg": 3}, "open_clip_config.json")
    with pytest.raises(ModelError, match="is no config of open_clip"):
        choose_protocol(folder)


def test_a_folder_of_nothing_is_described_as_ever(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        choose_protocol(str(tmp_path))


def test_a_backbone_gets_the_class_whose_head_would_be_read() -> None:
    described = with_head(describe("nvidia/mit-b0", weights="random"))
    assert described.model_class == "SegformerForSemanticSegmentation"
    assert described.model_task == "image-segmentation"
    assert with_head(describe("tiny:maskformer")).model_class.startswith("MaskFormer")


def test_a_kind_without_such_a_class_is_refused_with_what_fits() -> None:
    with pytest.raises(ModelError, match="no class that would read one; ask it as linear_probe"):
        with_head(describe("tiny:dinov2"))
    with pytest.raises(ModelError, match="timm has no class"):
        with_head(describe("timm/edgenext_xx_small.in1k", weights="random"))


def test_the_library_says_which_kinds_have_a_head() -> None:
    assert head_class("beit") == "BeitForSemanticSegmentation"
    assert head_class("detr") == "DetrForSegmentation"
    assert head_class("swinv2") is None
    assert head_class("videomt") is None


def test_clipseg_is_described_with_its_trained_head(tmp_path: Path) -> None:
    config = {"architectures": ["CLIPSegForImageSegmentation"], "model_type": "clipseg"}
    described = describe_segmenter(folder_of(tmp_path / "clipseg-rd64", config))
    assert described.model_class == "CLIPSegForImageSegmentation"
    assert described.on_hub is False
