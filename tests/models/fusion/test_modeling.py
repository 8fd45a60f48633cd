"""The network: what it answers, what that depends on, and what its attention means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from candlemark.models.fusion.encoders import image_layout
from candlemark.models.fusion.modeling import FUSIONS, FusionConfig, FusionModel, build_encoder
from candlemark.training.frozen import extract_features

Make = Callable[..., Any]

WAYS = [
    *({"inputs": "both", "fusion": fusion} for fusion in FUSIONS),
    *({"inputs": inputs} for inputs in ("image", "text", "numbers")),
]
"""Every model there is, as keywords of a spec."""


def name_of(way: dict[str, str]) -> str:
    return way.get("fusion", way["inputs"])


every_way = pytest.mark.parametrize("way", WAYS, ids=name_of)


@every_way
def test_answers_have_a_class_for_each_name_and_one_forecast(
    make_fusion: Make, make_inputs: Make, way: dict[str, str]
) -> None:
    fusion = make_fusion(**way)
    output = fusion.model(**fusion.prepare(make_inputs(fusion)))
    assert output.logits.shape == (4, 3)
    assert output.forecast.shape == (4,)
    assert torch.isfinite(output.logits).all()
    assert torch.isfinite(output.forecast).all()
    assert output.attentions is None
    assert output.text_attentions is None


@every_way
def test_only_what_is_read_is_built(make_fusion: Make, way: dict[str, str]) -> None:
    model = make_fusion(**way).model
    assert hasattr(model, "text_encoder") == (way["inputs"] in {"both", "text"})
    assert hasattr(model, "image_encoder") == (way["inputs"] in {"both", "image"})
    assert not any("pooler" in name for name, _ in model.named_parameters())


@every_way
def test_a_sample_is_answered_alone_as_among_others(
    make_fusion: Make, make_inputs: Make, way: dict[str, str]
) -> None:
    fusion = make_fusion(**way)
    ready = fusion.prepare(make_inputs(fusion))
    together = fusion.model(**ready)
    for item in range(4):
        alone = fusion.model(**{name: tensor[item : item + 1] for name, tensor in ready.items()})
        torch.testing.assert_close(alone.logits[0], together.logits[item], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.forecast[0], together.forecast[item], atol=1e-5, rtol=0)


@every_way
def test_the_head_on_features_is_the_whole_model(
    make_fusion: Make, make_inputs: Make, way: dict[str, str]
) -> None:
    fusion = make_fusion(**way)
    ready = fusion.prepare(make_inputs(fusion))
    whole = fusion.model(**ready)
    features = fusion.model.features(**ready)
    assert all(len(tensor) == 4 for tensor in features.values())
    assert all(torch.isfinite(tensor).all() for tensor in features.values())
    from_head = fusion.model.head(**features)
    assert torch.equal(from_head.logits, whole.logits)
    assert torch.equal(from_head.forecast, whole.forecast)


@pytest.mark.parametrize("fusion_name", ["both_ways", "late"])
def test_kept_features_of_texts_of_any_length_train_the_head(
    make_fusion: Make, make_inputs: Make, fusion_name: str
) -> None:
    fusion = make_fusion(fusion=fusion_name)
    raw = make_inputs(fusion, count=4)

    class Data:
        """Batches as long as their own longest text."""

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            raise AssertionError("a batch is asked for whole")

        def batch(self, indices: Any) -> Any:
            chosen = {name: tensor[indices] for name, tensor in raw.items()}
            longest = int(chosen["attention_mask"].sum(1).max())
            for name in ("input_ids", "attention_mask"):
                chosen[name] = chosen[name][:, :longest]
            return chosen, torch.zeros(len(indices), dtype=torch.int64)

    kept = extract_features(
        fusion.model, fusion.prepare, Data(), device=torch.device("cpu"), batch_size=1
    )
    features, _ = kept.batch(np.arange(4))
    whole = fusion.model(**fusion.prepare(raw))
    found = fusion.model.head(**features)
    torch.testing.assert_close(found.logits, whole.logits, atol=1e-5, rtol=0)


@every_way
def test_half_precision_trains(make_fusion: Make, make_inputs: Make, way: dict[str, str]) -> None:
    fusion = make_fusion(**way)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = fusion.model.train()(**fusion.prepare(make_inputs(fusion)))
    (output.logits.float().sum() + output.forecast.float().sum()).backward()
    assert all(torch.isfinite(one.grad).all() for one in fusion.model.parameters())
    whole = fusion.model.eval()(**fusion.prepare(make_inputs(fusion)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = fusion.model(**fusion.prepare(make_inputs(fusion)))
    torch.testing.assert_close(half.logits.float(), whole.logits, atol=0.05, rtol=0)


@every_way
def test_several_devices_find_a_gradient_for_every_parameter(
    make_fusion: Make, make_inputs: Make, way: dict[str, str], one_process: None
) -> None:
    fusion = make_fusion(**way)
    # It raises at the second step where a parameter had no part in the first.
    parallel = DistributedDataParallel(fusion.model.train())
    before = {name: one.detach().clone() for name, one in fusion.model.named_parameters()}
    optimizer = torch.optim.SGD(fusion.model.parameters(), lr=0.1)
    for step in range(2):
        output = parallel(**fusion.prepare(make_inputs(fusion, seed=step)))
        optimizer.zero_grad()
        (output.logits.square().mean() + output.forecast.square().mean()).backward()
        optimizer.step()
    still = {
        name for name, one in fusion.model.named_parameters() if torch.equal(one, before[name])
    }
    # What every key shares moves no attention, and rows of words that nobody wrote stay.
    assert not {name for name in still if not name.endswith((".key.bias", ".k_bias"))}


def test_gradients_of_each_answer_reach_both_encoders(make_fusion: Make, make_inputs: Make) -> None:
    for fusion_name in FUSIONS:
        fusion = make_fusion(fusion=fusion_name)
        for answer in ("logits", "forecast"):
            fusion.model.zero_grad()
            output = fusion.model(**fusion.prepare(make_inputs(fusion)))
            output[answer].square().sum().backward()
            for encoder in (fusion.model.text_encoder, fusion.model.image_encoder):
                size = sum(float(one.grad.abs().sum()) for one in encoder.parameters())
                assert size > 0, (fusion_name, answer)


def test_attention_over_patches_sums_to_one(make_fusion: Make, make_inputs: Make) -> None:
    for fusion_name in ("text_to_image", "gated", "both_ways"):
        fusion = make_fusion(fusion=fusion_name)
        ready = fusion.prepare(make_inputs(fusion))
        output = fusion.model(**ready, output_attentions=True)
        rows, columns = fusion.config.image_tokens["grid"]
        assert (rows, columns) == (4, 6)
        assert output.attentions.shape == (4, 8, rows * columns)
        torch.testing.assert_close(output.attentions.sum(-1), torch.ones(4, 8))
        plain = fusion.model(**ready)
        torch.testing.assert_close(plain.logits, output.logits, atol=1e-5, rtol=0)


def test_attention_over_tokens_leaves_padding_out(make_fusion: Make, make_inputs: Make) -> None:
    for fusion_name in ("image_to_text", "both_ways"):
        fusion = make_fusion(fusion=fusion_name)
        ready = fusion.prepare(make_inputs(fusion))
        padding = ready["attention_mask"] == 0
        assert padding.any()
        found = fusion.model(**ready, output_attentions=True).text_attentions
        torch.testing.assert_close(found.sum(-1), torch.ones(4, 8))
        assert (found.transpose(1, 2)[padding] == 0).all()


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way["inputs"] in {"both", "text"}], ids=name_of
)
def test_what_stands_in_padding_changes_nothing(
    make_fusion: Make, make_inputs: Make, way: dict[str, str]
) -> None:
    fusion = make_fusion(**way)
    ready = fusion.prepare(make_inputs(fusion))
    output = fusion.model(**ready)
    noise = torch.randint(5, 90, ready["input_ids"].shape)
    ready["input_ids"] = torch.where(ready["attention_mask"] == 1, ready["input_ids"], noise)
    other = fusion.model(**ready)
    torch.testing.assert_close(other.logits, output.logits, atol=1e-5, rtol=0)
    longer = {
        **ready,
        "input_ids": nn.functional.pad(ready["input_ids"], (0, 5)),
        "attention_mask": nn.functional.pad(ready["attention_mask"], (0, 5)),
    }
    other = fusion.model(**longer)
    torch.testing.assert_close(other.logits, output.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(other.forecast, output.forecast, atol=1e-5, rtol=0)


def test_a_picture_that_says_nothing_leaves_the_texts_own_summary(
    make_fusion: Make, make_inputs: Make
) -> None:
    fusion = make_fusion(fusion="text_to_image")
    head = fusion.model.head
    projection = head.ask_image.attention.out_proj
    nn.init.zeros_(projection.weight)
    nn.init.zeros_(projection.bias)
    seen: list[torch.Tensor] = []
    head.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ready = fusion.prepare(make_inputs(fusion))
    fusion.model(**ready)
    own = head.text(fusion.model.features(**ready)["text"])
    assert torch.equal(seen[0], head.ask_image.norm(own))
    assert own.std() > 0.1


def test_a_closed_gate_hides_the_picture(make_fusion: Make, make_inputs: Make) -> None:
    fusion = make_fusion(fusion="gated")
    nn.init.zeros_(fusion.model.head.gate.weight)
    nn.init.constant_(fusion.model.head.gate.bias, -1e4)
    ready = fusion.prepare(make_inputs(fusion))
    other = {**ready, "pixel_values": ready["pixel_values"].flip(0)}
    assert torch.equal(fusion.model(**ready).logits, fusion.model(**other).logits)
    nn.init.constant_(fusion.model.head.gate.bias, 1e4)
    assert not torch.equal(fusion.model(**ready).logits, fusion.model(**other).logits)


@pytest.mark.parametrize("fusion_name", FUSIONS)
def test_both_inputs_are_heard(make_fusion: Make, make_inputs: Make, fusion_name: str) -> None:
    fusion = make_fusion(fusion=fusion_name)
    ready = fusion.prepare(make_inputs(fusion))
    output = fusion.model(**ready).logits
    for changed in (("pixel_values",), ("input_ids", "attention_mask")):
        other = {**ready, **{name: ready[name].flip(0) for name in changed}}
        assert (fusion.model(**other).logits - output).abs().max() > 1e-4


def test_numbers_of_missing_candles_say_nothing(make_fusion: Make) -> None:
    fusion = make_fusion(inputs="numbers")
    numbers = torch.rand(3, 12, 5)
    numbers[:, [0, 4, 11]] = torch.nan
    output = fusion.model(numbers=numbers)
    # A candle of which one number is missing is missing.
    partly = numbers.clone()
    partly[:, 4] = torch.tensor([0.5, 9.0, -3.0, 0.1, torch.nan])
    assert torch.equal(fusion.model(numbers=partly).logits, output.logits)
    whole = numbers.clone()
    whole[:, 4] = 0
    assert not torch.allclose(fusion.model(numbers=whole).logits, output.logits, atol=1e-6)
    none = torch.full((2, 12, 5), torch.nan)
    assert torch.isfinite(fusion.model(numbers=none).logits).all()


def test_numbers_train_without_a_nan(make_fusion: Make, make_inputs: Make) -> None:
    fusion = make_fusion(inputs="numbers")
    fusion.model.train()
    output = fusion.model(**fusion.prepare(make_inputs(fusion)))
    (output.logits.sum() + output.forecast.sum()).backward()
    assert all(torch.isfinite(one.grad).all() for one in fusion.model.parameters())


def test_a_missing_or_wrong_input_is_said(make_fusion: Make, make_inputs: Make) -> None:
    fusion = make_fusion()
    ready = fusion.prepare(make_inputs(fusion))
    with pytest.raises(ValueError, match="pixel_values is missing; this model reads inputs 'both'"):
        fusion.model(input_ids=ready["input_ids"])
    with pytest.raises(ValueError, match="input_ids is missing"):
        fusion.model(pixel_values=ready["pixel_values"])
    with pytest.raises(ValueError, match=r"looks at pictures of \[32, 48\] \(height, width\)"):
        fusion.model(**{**ready, "pixel_values": torch.zeros(4, 3, 32, 40)})
    with pytest.raises(ValueError, match="numbers is missing"):
        make_fusion(inputs="numbers").model()


def test_pictures_are_filled_above_and_to_the_left(make_fusion: Make) -> None:
    fusion = make_fusion(shape=(30, 45), inputs="image")
    assert fusion.config.chart["input_shape"] == [32, 48]
    pixels = torch.randn(2, 3, 30, 45)
    filled = nn.functional.pad(pixels, (3, 0, 2, 0))
    model = fusion.model
    assert torch.equal(model(pixel_values=pixels).logits, model(pixel_values=filled).logits)


def test_a_config_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="inputs is 'sound'; allowed: both, image, text, numbers"):
        FusionConfig(inputs="sound")
    with pytest.raises(ValueError, match="fusion is 'soup'; allowed: text_to_image"):
        FusionConfig(fusion="soup")
    with pytest.raises(ValueError, match="width 100 cannot be shared by 8 heads"):
        FusionConfig(width=100)
    assert FusionConfig(width=100, inputs="text").width == 100
    with pytest.raises(ValueError, match="text_config names no model_type"):
        FusionModel(FusionConfig(inputs="text", text_config={"hidden_size": 8}))


def test_configs_survive_their_file(make_fusion: Make, tmp_path: Path) -> None:
    for way in WAYS:
        config = make_fusion(**way).config
        config.returns = {"mean": 0.1, "std": 0.25, "residual_low": -1.0}
        config.save_pretrained(tmp_path)
        again = FusionConfig.from_pretrained(tmp_path)
        assert again.to_dict() == config.to_dict()
        assert again.id2label == {0: "bearish", 1: "neutral", 2: "bullish"}


def test_the_published_pair_has_the_published_size(shared_data: Path) -> None:
    configs = shared_data / "configs"
    read = {
        name: json.loads((configs / path / "config.json").read_text(encoding="utf-8"))
        for name, path in (("text", "bert-base-uncased"), ("image", "google/vit-base-patch16-224"))
    }
    with torch.device("meta"):
        eye = build_encoder(read["image"])
        layout = image_layout(eye, eye.config, (224, 224), interpolate=False)
        model = FusionModel(
            FusionConfig(
                text_config=read["text"],
                image_config=read["image"],
                text_width=768,
                image_tokens=layout,
                width=768,
                id2label=dict(enumerate("abc")),
            )
        )
    assert layout == {
        "prefix": 1,
        "interpolate": False,
        "layout": "tokens",
        "grid": [14, 14],
        "width": 768,
    }
    sizes = {
        name: sum(one.numel() for one in module.parameters())
        for name, module in model.named_children()
    }
    # As published, less the poolers that nobody asks: 590592 parameters each.
    assert sizes["text_encoder"] == 109_482_240 - 590_592
    assert sizes["image_encoder"] == 86_567_656 - 769_000
    # Cross-attention, the four norms around it, and two heads of two layers.
    attention, norm = 4 * 768 * 768 + 4 * 768, 2 * 768
    heads = 2 * (768 * 768 + 768) + 3 * 769 + 769
    assert sizes["head"] == attention + 3 * norm + heads
    with torch.device("meta"):
        # The text encoder asks whether anything is padding, which nothing on meta can tell.
        answer = model.head(
            text=torch.zeros(2, 768), patches=torch.zeros(2, 196, 768), output_attentions=True
        )
    assert answer.attentions.shape == (2, 8, 196)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A group of processes that has one."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()
