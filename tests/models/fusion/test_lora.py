"""Low-rank updates: nothing at first, learnt alone, and gone from what is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from candlemark.errors import MissingExtraError, ModelError
from candlemark.models.fusion.lora import add_low_rank, is_low_rank, merge_low_rank
from candlemark.models.fusion.saving import load_fusion, save_fusion

pytest.importorskip("peft")
Make = Callable[..., Any]


def train(fusion: Any, inputs: dict[str, torch.Tensor], steps: int = 3) -> None:
    learnt = [one for one in fusion.model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=0.02)
    for _ in range(steps):
        output = fusion.model(**fusion.prepare(inputs))
        optimizer.zero_grad()
        (output.logits.square().mean() + (output.forecast - 1).square().mean()).backward()
        assert all(one.grad is not None for one in learnt)
        optimizer.step()


def test_at_first_the_model_answers_as_before(make_fusion: Make, make_inputs: Make) -> None:
    plain, low = make_fusion(), make_fusion(lora_rank=4)
    inputs = make_inputs(plain)
    expected, found = plain.model(**plain.prepare(inputs)), low.model(**low.prepare(inputs))
    assert torch.equal(found.logits, expected.logits)
    assert is_low_rank(low.model)
    assert not is_low_rank(plain.model)


def test_only_updates_and_the_head_learn(make_fusion: Make, make_inputs: Make) -> None:
    fusion = make_fusion(lora_rank=2)
    learnt = [name for name, one in fusion.model.named_parameters() if one.requires_grad]
    assert all(".lora_" in name or name.startswith("head.") for name in learnt)
    # Each of 2 layers has 6 linear ones: 4 of 64 x 64, and two of 64 x 128; of two encoders.
    numbers = sum(one.numel() for name, one in fusion.model.named_parameters() if ".lora_" in name)
    assert numbers == 2 * 2 * (4 * 2 * 128 + 2 * 2 * 192)
    before = {name: one.detach().clone() for name, one in fusion.model.named_parameters()}
    train(fusion, make_inputs(fusion))
    for name, one in fusion.model.named_parameters():
        if name not in learnt:
            assert torch.equal(one, before[name]), name
    assert fusion.facts["low_rank"]
    assert fusion.facts["trainable_parameters"] < fusion.facts["parameters"]


def test_merging_keeps_the_answers_and_the_updates(make_fusion: Make, make_inputs: Make) -> None:
    fusion = make_fusion(lora_rank=4)
    inputs = make_inputs(fusion)
    untrained = fusion.model(**fusion.prepare(inputs))
    train(fusion, inputs)
    output = fusion.model(**fusion.prepare(inputs))
    assert (output.logits - untrained.logits).abs().max() > 1e-3
    merged = merge_low_rank(fusion.model)
    assert is_low_rank(fusion.model)
    assert not is_low_rank(merged)
    assert merged.state_dict().keys() == make_fusion().model.state_dict().keys()
    again = merged(**fusion.prepare(inputs))
    torch.testing.assert_close(again.logits, output.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.forecast, output.forecast, atol=1e-5, rtol=0)
    train(fusion, inputs, steps=1)
    assert merge_low_rank(merged) is merged


def test_what_is_kept_needs_no_peft(
    make_fusion: Make, make_inputs: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fusion = make_fusion(lora_rank=4)
    inputs = make_inputs(fusion)
    train(fusion, inputs)
    output = fusion.model(**fusion.prepare(inputs))
    save_fusion(fusion, tmp_path / "model", training={})
    monkeypatch.setitem(sys.modules, "peft", None)
    again = load_fusion(tmp_path / "model")
    found = again.model(**again.prepare(inputs))
    torch.testing.assert_close(found.logits, output.logits, atol=1e-5, rtol=0)
    with pytest.raises(MissingExtraError, match=r"peft is not installed.*candlemark\[lora\]"):
        make_fusion(lora_rank=1)


def test_encoders_without_linear_layers_are_refused(make_fusion: Make) -> None:
    with pytest.raises(ModelError, match="ResNetModel has no linear layers for low-rank updates"):
        make_fusion(image_encoder="tiny:resnet", lora_rank=2, shape=(64, 96))
    with pytest.raises(ModelError, match="this model has none"):
        make_fusion(inputs="numbers", lora_rank=2)


def test_layers_that_nothing_depends_on_get_no_update(make_fusion: Make) -> None:
    model = make_fusion(inputs="text").model
    unused = "encoder.layer.1.output.dense"
    model.text_encoder.get_submodule(unused).requires_grad_(False)
    adapted = add_low_rank(model, rank=2, seed=0)
    assert f"text_encoder.{unused}" not in adapted
    assert len(adapted) == 11
