"""Texts asked place by place: what a place sees, which prompt wins, and prompts that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from candlemark.errors import ModelError
from candlemark.models.inference.tiny import TINY
from candlemark.models.segmentation.base import STAGES, Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.choose import COMPARED
from candlemark.models.segmentation.clip_dense import (
    DENSE,
    alone,
    build_clip_dense,
    clip_places,
    siglip_places,
)
from candlemark.models.segmentation.texts import read_prompts

MakeCase = Callable[..., Case]
MakeSpec = Callable[..., SegmenterSpec]
PROMPTS = {"background": "healthy tissue", "lesion": "a bright tumor"}
ASKED = {"prompts": PROMPTS}


def halves() -> Any:
    """White on the left, black on the right."""
    voxels = np.zeros((3, 64, 64), np.uint8)
    voxels[:, :, :32] = 255
    return voxels


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIPSeg with weights and no tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "clipseg"
    config = transformers.CLIPSegConfig(
        **TINY["clip"].config, extract_layers=[0, 1], reduce_dim=16, decoder_num_attention_heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.CLIPSegForImageSegmentation(config).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path, words: str) -> None:
    """One token a word, in the place and with the ends of the small CLIP's vocabulary."""
    table = {word: number for number, word in enumerate(["[UNK]", *words.split()])}
    table |= {"<start>": 1022, "<end>": 1023}
    backend = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1022), ("<end>", 1023)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="<end>", eos_token="<end>"
    ).save_pretrained(folder)


def test_every_class_that_is_compared_has_its_way() -> None:
    assert set(DENSE) == COMPARED


@pytest.mark.parametrize("name", ["tiny:clip", "tiny:siglip"])
def test_a_place_gets_the_class_of_the_likest_text(
    name: str, make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    segmenter = build_clip_dense(
        make_spec(name, protocol="clip_dense", options=ASKED, classes={4: "lesion"}), batch_size=2
    )
    eye = segmenter._eye
    places = clip_places if name == "tiny:clip" else siglip_places
    pictures = np.stack([np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])
    with torch.inference_mode():  # texts that say "black" and "white", in that order
        segmenter._texts = places(eye.module, eye.read(pictures), {}).mean(dim=1)
    labels = segmenter.segment(make_case(halves()), watch)
    assert np.array_equal(np.unique(labels), [0, 4])
    assert (labels == np.where(halves() > 0, 4, 0)).mean() > 0.9
    assert segmenter.facts["places"] == [8, 8]
    assert set(watch.totals_ms) == set(STAGES)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_layer_alone_is_the_layer_with_every_other_place_hidden(name: str) -> None:
    recipe = TINY[name]
    config = getattr(transformers, recipe.config_class)(**recipe.config)
    layer = getattr(transformers, recipe.model_class)(config).eval().vision_model.encoder.layers[0]
    hidden = torch.randn(2, 5, 64)
    hide = torch.full((1, 1, 5, 5), float("-inf"))
    hide[0, 0].fill_diagonal_(0)
    with torch.no_grad():
        assert torch.allclose(alone(layer, hidden), layer(hidden, hide), atol=1e-6)


def test_the_only_place_of_siglip_sees_what_the_whole_picture_is() -> None:
    recipe = TINY["siglip"]
    vision = {**recipe.config["vision_config"], "image_size": 8, "patch_size": 8}
    config = transformers.SiglipConfig(**{**recipe.config, "vision_config": vision})
    network = transformers.SiglipModel(config).eval()
    pixels = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        whole = network.get_image_features(pixel_values=pixels).pooler_output
        assert torch.allclose(siglip_places(network, pixels, {})[:, 0], whole, atol=1e-5)


@pytest.mark.parametrize(("side", "border"), [(64, 32), (60, 34), (68, 30)])
def test_places_lie_where_the_patches_are_and_the_last_goes_to_the_edge(
    side: int, border: int, make_spec: MakeSpec, make_case: MakeCase, watch: Stopwatch
) -> None:
    """Patches of 8 px: the fifth begins at 32 px of those that the model sees."""
    spec = make_spec("tiny:clip", protocol="clip_dense", options={**ASKED, "image_size": side})
    segmenter = build_clip_dense(spec, batch_size=2)
    places = segmenter.facts["places"][0]
    scores = torch.zeros(1, 2, places, places)
    scores[:, 1] = torch.where(torch.arange(places) < 4, -1.0, 1.0)
    segmenter._score = lambda _, pixels, *__: scores.expand(len(pixels), -1, -1, -1)
    labels = segmenter.segment(make_case(halves()), watch)
    expected = np.broadcast_to(np.arange(64) >= border, labels.shape)
    assert np.array_equal(labels, expected)


def test_clipseg_answers_as_the_library_does(clipseg: Path, make_spec: MakeSpec) -> None:
    save_tokenizer(clipseg, "healthy tissue a bright tumor")
    spec = make_spec(str(clipseg), protocol="clip_dense", options=ASKED)
    segmenter = build_clip_dense(spec, batch_size=2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(clipseg)
    ids = tokenizer(list(PROMPTS.values()), padding=True, return_tensors="pt")["input_ids"]
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours = segmenter.scores(pixels)
        for item in range(2):
            theirs = segmenter._eye.module(
                input_ids=ids, pixel_values=pixels[item].expand(2, 3, 64, 64)
            ).logits
            assert torch.allclose(ours[item], theirs, atol=1e-3)  # of about 10
    assert ours.shape == (2, 2, 64, 64)
    assert segmenter.facts["untrained"] is False
    assert segmenter.facts["dense"].startswith("the trained decoder")


def test_trained_weights_without_their_tokenizer_are_refused(
    clipseg: Path, tmp_path: Path, make_spec: MakeSpec
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((clipseg / name).read_bytes())
    with pytest.raises(ModelError, match="has no tokenizer beside its weights"):
        build_clip_dense(
            make_spec(str(tmp_path), protocol="clip_dense", options=ASKED), batch_size=1
        )


@pytest.mark.parametrize(
    ("words", "prompts", "said"),
    [
        ("healthy", {"background": "tissue", "lesion": "tumor"}, "reads two of the prompts"),
        ("a b", {"background": "a " * 90, "lesion": "b"}, "is 92 tokens long, and .* reads 77"),
    ],
)
def test_prompts_that_the_tokenizer_loses_are_refused(
    words: str, prompts: dict[str, str], said: str, clipseg: Path, make_spec: MakeSpec
) -> None:
    save_tokenizer(clipseg, words)
    spec = make_spec(str(clipseg), protocol="clip_dense", options={"prompts": prompts})
    with pytest.raises(ModelError, match=said):
        build_clip_dense(spec, batch_size=1)


def test_the_prompts_are_stored_as_they_stand(make_spec: MakeSpec) -> None:
    asked = {"prompts": {"Lesion": " a bright tumor ", "background": "healthy tissue"}}
    spec = make_spec("tiny:clip", protocol="clip_dense", options=asked)
    facts = build_clip_dense(spec, batch_size=1).facts
    assert facts["prompts"] == PROMPTS
    assert list(facts["prompts"]) == ["background", "lesion"]
    assert facts["template"] == "none: prompts as they are written"
    assert facts["protocol"] == "clip_dense"
    assert facts["untrained"] is True
    assert json.loads(json.dumps(facts)) == facts


def test_other_words_give_another_answer(make_spec: MakeSpec, make_case: MakeCase) -> None:
    voxels = np.random.default_rng(0).integers(0, 256, (1, 64, 64)).astype(np.uint8)
    answers = []
    for words in ("a bright tumor", "a bright tumor", "a dark stone"):
        asked = {"prompts": {**PROMPTS, "lesion": words}}
        spec = make_spec("tiny:clip", protocol="clip_dense", options=asked)
        segmenter = build_clip_dense(spec, batch_size=1)
        answers.append(segmenter.scores(segmenter._eye.read(np.repeat(voxels[..., None], 3, -1))))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0][:, 1], answers[2][:, 1])
    assert torch.equal(answers[0][:, 0], answers[2][:, 0])


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (None, "is asked with texts, and none is given; give it in the config prompts: {backgr"),
        ({"lesion": "a tumor"}, "has no prompt for background; each class needs one"),
        ({"background": "x", "lesion": " "}, "has no prompt for lesion"),
        ({**PROMPTS, "liver": "a liver"}, "has a prompt for liver, which is no class; classes are"),
        ({"background": "x", "lesion": "x"}, "has one prompt for background and lesion; word"),
        (
            {"background": "x", "lesion": "y", "Lesion ": "z"},
            "a/b has prompts of which two have one name (lesion, Lesion ); rename one in prompts",
        ),
    ],
)
def test_prompts_and_classes_match_one_to_one(
    prompts: dict[str, str] | None, said: str, make_spec: MakeSpec
) -> None:
    with pytest.raises(ModelError) as raised:
        read_prompts(make_spec("a/b", protocol="clip_dense", options={"prompts": prompts}))
    assert said in str(raised.value)


@pytest.mark.parametrize("classes", [{1: "lesion", 2: "Lesion"}, {1: "Background"}])
def test_classes_that_one_prompt_would_stand_for_are_refused(
    classes: dict[int, str], make_spec: MakeSpec
) -> None:
    prompts = {"background": "tissue", "lesion": "tumor"}
    spec = make_spec("a/b", classes=classes, options={"prompts": prompts})
    with pytest.raises(ModelError, match=r"of which two have one name .*; rename one in classes"):
        read_prompts(spec)


def test_open_clip_is_sent_to_the_probes(tmp_path: Path, make_spec: MakeSpec) -> None:
    towers = {"model_cfg": {"vision_cfg": {"timm_model_name": "vit_base_patch16_224"}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(towers), encoding="utf-8")
    with pytest.raises(ModelError, match="written by open_clip, whose text tower is not read here"):
        build_clip_dense(
            make_spec(str(tmp_path), protocol="clip_dense", options=ASKED), batch_size=1
        )


def test_other_models_are_refused(make_spec: MakeSpec) -> None:
    spec = make_spec("tiny:segformer", protocol="clip_dense", options=ASKED)
    with pytest.raises(ModelError, match="nobody here knows what it sees at one place"):
        build_clip_dense(spec, batch_size=1)
