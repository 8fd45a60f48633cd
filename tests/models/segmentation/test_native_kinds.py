"""Each kind of trained head: saved, loaded whole, and run on slices that are no squares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from candlemark.errors import ModelError
from candlemark.models.inference.tiny import TINY
from candlemark.models.segmentation.base import Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.native_head import (
    NativeHead,
    build_native_head,
    class_scores,
)

MakeCase = Callable[..., Case]
MakeSpec = Callable[..., SegmenterSpec]
MAP = {"class_map": {"1": 1, "2": 1}}


def seen_by(case: Case, segmenter: NativeHead, name: str) -> Any:
    """The labels of a case, and what the network itself gave."""
    made = []
    network: Any = segmenter._eye.module
    hook = network.register_forward_hook(lambda *told: made.append(told[-1]))
    labels = segmenter.segment(case, Stopwatch(lambda: 0))
    hook.remove()
    assert network.config.model_type == name
    return labels, made


def _vit(**changed: Any) -> dict[str, Any]:
    sizes = {"image_size": 64, "patch_size": 8, "hidden_size": 32, "intermediate_size": 64}
    return {**sizes, "num_hidden_layers": 4, "num_attention_heads": 4, "num_labels": 5} | changed


SWIN = {
    key: value
    for key, value in TINY["upernet"].config["backbone_config"].items()
    if key != "model_type"
}
KINDS: dict[str, Callable[[], Any]] = {
    "beit": lambda: transformers.BeitForSemanticSegmentation(
        transformers.BeitConfig(**_vit(out_indices=[1, 2, 3, 4], pool_scales=[1, 2]))
    ),
    "mobilevit": lambda: transformers.MobileViTForSemanticSegmentation(
        transformers.MobileViTConfig(
            image_size=64,
            hidden_sizes=[16, 24, 32],
            neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64],
            aspp_out_channels=32,
            atrous_rates=[1, 2, 3],
            num_labels=5,
        )
    ),
    "upernet": lambda: transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            **{**TINY["upernet"].config, "use_auxiliary_head": True, "auxiliary_in_channels": 64}
        )
    ),
    "mask2former": lambda: transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(**TINY["mask2former"].config)
    ),
    "dpt": lambda: transformers.DPTForSemanticSegmentation(
        transformers.DPTConfig(
            **_vit(backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 32, 32, 32]),
            fusion_hidden_size=32,
            is_hybrid=False,
        )
    ),
    "eomt": lambda: transformers.EomtForUniversalSegmentation(
        transformers.EomtConfig(**_vit(num_blocks=1, num_queries=5, num_upscale_blocks=1))
    ),
    "detr": lambda: transformers.DetrForSegmentation(
        transformers.DetrConfig(
            **{
                **TINY["detr"].config,
                "encoder_attention_heads": 8,
                "decoder_attention_heads": 8,
                "backbone_config": {
                    **TINY["detr"].config["backbone_config"],
                    "out_features": ["stage1", "stage2", "stage3", "stage4"],
                },
            }
        )
    ),
    "oneformer": lambda: transformers.OneFormerForUniversalSegmentation(
        transformers.OneFormerConfig(
            backbone_config=transformers.SwinConfig(**SWIN),
            num_queries=10,
            num_labels=5,
            hidden_dim=32,
            mask_dim=32,
            conv_dim=32,
            encoder_layers=1,
            decoder_layers=2,
            encoder_feedforward_dim=64,
            dim_feedforward=64,
            num_attention_heads=4,
            query_dec_layers=1,
            text_encoder_width=32,
            text_encoder_num_layers=1,
            text_encoder_vocab_size=64,
        )
    ),
}
SLOW = frozenset({"dpt", "eomt", "detr", "mobilevit"})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in KINDS]
)
def test_every_kind_is_loaded_whole_and_answers(
    name: str, tmp_path: Path, make_spec: MakeSpec, make_case: MakeCase
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        KINDS[name]().save_pretrained(tmp_path)
    if name == "oneformer":
        refuses_without_its_words(make_spec(str(tmp_path), options=MAP))
        save_words(tmp_path, "the task is semantic")
    segmenter = build_native_head(make_spec(str(tmp_path), options=MAP), batch_size=2)
    voxels = np.random.default_rng(0).integers(0, 255, (3, 40, 64)).astype(np.uint8)
    labels, made = seen_by(make_case(voxels), segmenter, name)
    assert labels.shape == voxels.shape
    assert segmenter.facts["new_parameters"] == []
    scores = [torch.cat(list(class_scores(one))) for one in made]
    assert [len(one) for one in scores] == [2, 1]
    assert scores[0].shape[1] == segmenter.facts["model_classes"]
    if name == "mobilevit":
        assert "its cut of the middle left out" in segmenter.facts["inputs"]


def refuses_without_its_words(spec: SegmenterSpec) -> None:
    with pytest.raises(ModelError, match=r"is told its task in words .* and has no tokenizer"):
        build_native_head(spec, batch_size=2)


def save_words(folder: Path, words: str) -> None:
    table = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words.split()])}
    backend = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(folder)
