"""Models that see and read: outputs of the library, and captions step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from candlemark.errors import ModelError
from candlemark.models.inference.base import InferenceModel, InputShape, Tensors
from candlemark.models.inference.loading import load_model

WRITING = ["blip", "llava", "smolvlm"]
ALL = ["clip", "siglip", *WRITING]


@pytest.fixture(autouse=True)
def one_thread_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)


def load(model_id: str, *, weights: str = "random", **shape: Any) -> InferenceModel:
    return load_model(model_id, weights=weights, shape=InputShape(**shape), seed=0)


def run(model: InferenceModel, inputs: Tensors) -> Tensors:
    with torch.no_grad():
        outputs: Tensors = model.module(**inputs)
    return outputs


@pytest.mark.parametrize("name", ALL)
def test_the_module_gives_what_the_library_gives(name: str) -> None:
    model = load(f"tiny:{name}")
    inputs = model.preprocess(model.make_raw(3, 0))
    outputs = run(model, inputs)
    network: Any = model.module.network
    with torch.no_grad():
        theirs = network(**inputs)
    for key, tensor in outputs.items():
        assert torch.allclose(tensor, theirs[key], atol=1e-6)
        assert len(tensor) == 3
        assert torch.isfinite(tensor).all()
        assert tensor.std() > 1e-4
    assert next(iter(outputs.values())).std(dim=0).max() > 1e-5  # items differ
    assert len(model.postprocess(outputs)) == 3
    assert model.shape.image_size == 64
    assert model.modality == "multimodal"


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_pairs(name: str) -> None:
    model = load(f"tiny:{name}")
    first, again, more = model.make_raw(2, 3), model.make_raw(2, 3), model.make_raw(4, 3)
    assert first.keys() == again.keys()
    for key in first:
        assert np.array_equal(first[key], again[key])
        assert np.array_equal(first[key], more[key][:2])


@pytest.mark.parametrize("name", ["clip", "blip", "llava"])
def test_half_precision_is_a_matter_of_moving_module_and_inputs(name: str) -> None:
    model = load(f"tiny:{name}")
    inputs = model.preprocess(model.make_raw(2, 0))
    main, expected = next(iter(run(model, inputs).items()))
    for dtype, bound in ((torch.float16, 0.02), (torch.bfloat16, 0.1)):
        model.module.to(dtype)
        moved = {
            key: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for key, tensor in inputs.items()
        }
        found = run(model, moved)[main]
        assert found.dtype == dtype
        assert (found.float() - expected).norm() / expected.norm() < bound
        if model.generator is not None:
            state = model.generator.step(model.generator.prefill(moved))
            assert model.generator.tokens(state).shape == (2, 2)
        model.module.to(torch.float32)


@pytest.mark.parametrize("name", WRITING)
def test_generated_tokens_are_the_greedy_choice_without_a_cache(name: str) -> None:
    model = load(f"tiny:{name}")
    generator = model.generator
    assert generator is not None
    inputs = model.preprocess(model.make_raw(3, 0))
    state = generator.prefill(inputs)
    for _ in range(5):
        state = generator.step(state)
    read = inputs["input_ids"]
    for _ in range(6):
        logits = run(model, {**inputs, "input_ids": read})["logits"]
        read = torch.cat((read, logits[:, -1:].argmax(-1)), dim=1)
    written = read[:, inputs["input_ids"].shape[1] :]
    assert not (written == 1023).any()  # else the reading above would look for more pictures
    assert torch.equal(generator.tokens(state), written)
    assert model.postprocess(run(model, inputs)) == written[:, :1].tolist()


def test_captions_are_those_of_blips_own_generate() -> None:
    model = load("tiny:blip")
    generator: Any = model.generator
    inputs = model.preprocess(model.make_raw(2, 0))
    network: Any = model.module.network
    theirs = network.generate(
        pixel_values=inputs["pixel_values"], max_new_tokens=4, min_new_tokens=4, do_sample=False
    )
    state = generator.prefill(inputs)
    for _ in range(3):
        state = generator.step(state)
    assert torch.equal(generator.tokens(state), theirs[:, -4:])


def test_random_ids_end_a_text_where_clip_looks_for_its_end() -> None:
    model = load("tiny:clip")
    ids = model.preprocess(model.make_raw(4, 0))["input_ids"]
    assert ids.shape == (4, 77)
    assert set(ids[:, 0].tolist()) == {1022}
    assert set(ids[:, -1].tolist()) == {1023}
    assert not torch.isin(ids[:, 1:-1], torch.tensor([1022, 1023])).any()


def test_the_likest_text_is_named() -> None:
    model = load("tiny:clip")
    logits = torch.tensor([[0.0, 2.0], [5.0, 1.0]])
    assert model.postprocess({"logits_per_image": logits}) == [
        {"text": 1, "logit": 2.0},
        {"text": 0, "logit": 5.0},
    ]


@pytest.mark.parametrize(("name", "tokens"), [("llava", 64), ("smolvlm", 16)])
def test_a_prompt_holds_the_pictures_tokens(name: str, tokens: int) -> None:
    model = load(f"tiny:{name}", sequence_length=10)
    inputs = model.preprocess(model.make_raw(2, 0))
    assert inputs["input_ids"].shape == (2, tokens + 10)
    assert ((inputs["input_ids"] == 1023).sum(dim=1) == tokens).all()
    assert model.facts["image_tokens"] == tokens
    assert model.shape.sequence_length == 10


def test_pictures_change_what_is_written() -> None:
    model = load("tiny:llava")
    inputs = model.preprocess(model.make_raw(2, 0))
    other = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}
    assert (run(model, inputs)["logits"] - run(model, other)["logits"]).abs().max() > 1e-5


@pytest.mark.parametrize("name", ["clip", "blip", "llava", "smolvlm"])
def test_a_side_smaller_than_a_patch_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be built for images of 7 x 7 px.*; leave out"):
        load_model(f"tiny:{name}", weights="random", shape=InputShape(image_size=7), seed=0)


def test_random_weights_are_built_for_the_side_that_is_asked() -> None:
    for name in ("clip", "blip", "llava", "smolvlm"):
        model = load(f"tiny:{name}", image_size=32)
        inputs = model.preprocess(model.make_raw(1, 0))
        assert inputs["pixel_values"].shape[-2:] == (32, 32)
        assert torch.isfinite(next(iter(run(model, inputs).values()))).all()


def test_a_trained_model_of_one_size_refuses_others_in_one_line(tmp_path: Path) -> None:
    load("tiny:llava").module.network.save_pretrained(tmp_path)
    assert load(str(tmp_path), weights="pretrained").facts["weights_sha256"]
    with pytest.raises(ModelError, match="sees pictures of 64 x 64 px only") as caught:
        load(str(tmp_path), weights="pretrained", image_size=32)
    assert "\n" not in str(caught.value)


def test_wrong_lengths_are_refused_in_one_line() -> None:
    for name, shape, message in (
        ("clip", {"sequence_length": 78}, "sequence_length = 78; tiny:clip reads 77 tokens"),
        ("blip", {"new_tokens": 512}, "tiny:blip has 512 positions"),
        ("llava", {"new_tokens": 480}, "96 tokens of the prompt and 480 new ones are 576"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load(f"tiny:{name}", **shape)
        assert "\n" not in str(caught.value)


def test_a_kind_whose_picture_tokens_nobody_counts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "kosmos-2", "architectures": ["Kosmos2ForConditionalGeneration"]}',
        encoding="utf-8",
    )
    with pytest.raises(ModelError, match="is of type kosmos-2; vision-language models that can"):
        load(str(tmp_path))
