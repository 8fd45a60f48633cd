"""Every small model does what its task promises; every known one is as large as published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from candlemark.models.inference.base import InferenceModel, InputShape
from candlemark.models.inference.known import ALIASES, KNOWN
from candlemark.models.inference.loading import load_model
from candlemark.models.inference.tiny import TINY, Recipe

WRITERS = {"text-decoder", "text-seq2seq", "speech-seq2seq", "image-captioning", "vision-language"}


@pytest.fixture(autouse=True)
def offline_without_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks the network, whatever lies in this machine's Hub cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)


def parameters(recipe: Recipe) -> int:
    """How many the library's class has, built without memory."""
    config = getattr(transformers, recipe.config_class)(**recipe.config)
    with torch.device("meta"):
        network = getattr(transformers, recipe.model_class)(config)
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def run(model: InferenceModel, count: int) -> dict[str, Tensor]:
    return model.module(**model.preprocess(model.make_raw(count, 0)))


@pytest.mark.parametrize("name", TINY)
def test_a_small_model_answers_for_each_item(name: str) -> None:
    model = load_model(f"tiny:{name}", weights="random", shape=InputShape(new_tokens=3), seed=0)
    inputs = model.preprocess(model.make_raw(2, 0))
    with torch.no_grad():
        outputs = model.module(**inputs)
    assert len(model.postprocess(outputs)) == 2
    main = next(iter(outputs.values()))
    assert main.shape[0] == 2
    assert main.dtype == torch.float32
    for tensor in outputs.values():
        assert isinstance(tensor, Tensor)
        assert tensor.isfinite().all()
    # What goes in can be told from what comes out, or nothing could be compared.
    assert (main[0] - main[1]).abs().max() > 1e-5 * main.abs().max()
    assert model.facts["weights"] == "random"
    assert model.facts["parameters"] == parameters(TINY[name]) < 2_000_000
    assert not model.module.training
    json.dumps(dict(model.facts))
    same = model.preprocess(model.make_raw(2, 0))
    assert all(torch.equal(inputs[key], same[key]) for key in inputs)


@pytest.mark.parametrize(
    "name", [name for name, recipe in TINY.items() if recipe.model_task in WRITERS]
)
def test_a_small_model_that_writes_gives_so_many_tokens(name: str) -> None:
    model = load_model(f"tiny:{name}", weights="random", shape=InputShape(new_tokens=3), seed=0)
    assert model.generator is not None
    state = model.generator.prefill(model.preprocess(model.make_raw(2, 0)))
    assert model.generator.tokens(state).shape == (2, 1)
    for count in (2, 3):
        state = model.generator.step(state)
        assert model.generator.tokens(state).shape == (2, count)
    assert model.generator.tokens(state).dtype == torch.int64


def test_a_small_model_that_only_reads_has_no_generator() -> None:
    for name in ("bert", "vit", "wav2vec2", "clip"):
        model = load_model(f"tiny:{name}", weights="random", shape=InputShape(), seed=0)
        assert model.generator is None


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.parameters])
def test_a_known_model_is_as_large_as_published(name: str) -> None:
    assert parameters(KNOWN[name]) == KNOWN[name].parameters


def test_aliases_lead_to_known_models() -> None:
    assert set(ALIASES.values()) <= set(KNOWN)
    assert not set(ALIASES) & set(KNOWN)


@pytest.mark.slow
# The audio spectrogram transformer's own extractor warns of its own 128 mel bands.
@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize("name", KNOWN)
def test_a_known_model_runs_with_random_weights(name: str) -> None:
    model = load_model(name, weights="random", shape=InputShape(new_tokens=2), seed=0)
    inputs = model.preprocess(model.make_raw(2, 0))
    with torch.no_grad():
        outputs = model.module(**inputs)
    main = next(iter(outputs.values()))
    assert main.isfinite().all()
    assert (main[0] - main[1]).abs().max() > 1e-5 * main.abs().max()
    assert len(model.postprocess(outputs)) == 2
    if model.generator is not None:
        state = model.generator.step(model.generator.prefill(inputs))
        assert model.generator.tokens(state).shape == (2, 2)
