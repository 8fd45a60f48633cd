"""Models of the user's own, from a function by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from candlemark.errors import ModelError
from candlemark.models.inference.base import InputShape
from candlemark.models.inference.describe import describe
from candlemark.models.inference.loading import load_model

MODULE = """
import torch
from torch import nn
from candlemark.models.inference.base import InferenceModel, InputShape

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, pixels):
        return self.layer(pixels.mean((1, 2)))

def pictures():
    return Net(), {"pixels": torch.arange(3 * 4 * 8.0).view(1, 3, 4, 8)}

class Pair(nn.Module):
    def forward(self, input_ids):
        return input_ids.float(), input_ids.float() * 2

def texts():
    return Pair(), {"input_ids": torch.arange(5).view(1, 5)}

class Objects(nn.Module):
    def forward(self, input_ids):
        return {"text": "no tensor"}

def objects():
    return Objects(), {"input_ids": torch.arange(5).view(1, 5)}

class Mixed(nn.Module):
    def forward(self, input_ids):
        return input_ids.float(), None, (input_ids,)

def mixed():
    return Mixed(), {"input_ids": torch.arange(5).view(1, 5)}

def sounds():
    return nn.Sequential(), {"input_values": torch.zeros(1, 16000)}

def both():
    return Pair(), {"input_ids": torch.arange(5).view(1, 5), "pixels": torch.zeros(1, 3, 6, 6)}

def whole():
    return InferenceModel(
        module=Pair(), model_task="text-decoder", shape=InputShape(sequence_length=7),
        make_raw=lambda count, seed: [seed] * count,
        preprocess=lambda raw: {"input_ids": torch.tensor(raw)},
        postprocess=lambda outputs: list(outputs), facts={"inputs": "mine"},
    )

def wrong_task():
    model = whole()
    return InferenceModel(
        module=model.module, model_task="poetry", shape=model.shape, make_raw=model.make_raw,
        preprocess=model.preprocess, postprocess=model.postprocess,
    )

def nothing():
    return None

def no_inputs():
    return Net(), {}

def no_batch():
    return Net(), {"pixels": torch.zeros(3, 4, 8)}

def number():
    return Net(), {"pixels": 4}

def broken():
    raise RuntimeError("the weights are at home\\nand far away")

constant = 4
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that lies in the folder one works in, and nowhere else."""
    torch.set_num_threads(1)
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_module_and_one_item_are_enough(module: str) -> None:
    model = load_model(f"python:{module}:pictures", weights="random", shape=InputShape(), seed=0)
    inputs = model.preprocess(model.make_raw(4, 0))
    assert inputs["pixels"].shape == (4, 3, 4, 8)
    assert torch.equal(inputs["pixels"][3], torch.arange(96.0).view(3, 4, 8))
    with torch.no_grad():
        outputs = model.module(**inputs)
    assert list(outputs) == ["output"]
    assert outputs["output"].shape == (4, 3)
    assert len(model.postprocess(outputs)) == 4
    assert not model.module.training
    assert model.facts["parameters"] == 27
    assert model.facts["model_class"] == "Net"
    assert model.facts["weights"] == "as returned"
    assert model.facts["inputs"] == "the example that the model's own function gave, repeated"


@pytest.mark.parametrize(
    ("function", "task", "shape"),
    [
        ("pictures", "image-features", InputShape(image_size=8)),
        ("texts", "text-encoder", InputShape(sequence_length=5)),
        ("sounds", "speech-classification", InputShape()),
        ("both", "image-text-similarity", InputShape(sequence_length=5, image_size=6)),
        ("whole", "text-decoder", InputShape(sequence_length=7)),
    ],
)
def test_what_it_reads_is_told_from_its_inputs(
    module: str, function: str, task: str, shape: InputShape
) -> None:
    model_id = f"python:{module}:{function}"
    described = describe(model_id)
    assert (described.library, described.model_task) == ("python", task)
    assert described.model_class == f"{module}:{function}"
    assert len(described.config["source_sha256"]) == 64
    assert load_model(model_id, weights="x", shape=InputShape(), seed=0).shape == shape


def test_several_outputs_are_named_in_order(module: str) -> None:
    model = load_model(f"python:{module}:texts", weights="random", shape=InputShape(), seed=0)
    outputs = model.module(**model.preprocess(model.make_raw(2, 0)))
    assert list(outputs) == ["output_0", "output_1"]


def test_of_a_tuple_only_the_tensors_are_outputs(module: str) -> None:
    model = load_model(f"python:{module}:mixed", weights="random", shape=InputShape(), seed=0)
    assert list(model.module(**model.preprocess(model.make_raw(2, 0)))) == ["output_0"]


def test_outputs_that_are_no_tensors_are_refused_when_run(module: str) -> None:
    model = load_model(f"python:{module}:objects", weights="random", shape=InputShape(), seed=0)
    with pytest.raises(ModelError, match=r"Objects returned a dict; allowed: a tensor, or tensors"):
        model.module(**model.preprocess(model.make_raw(2, 0)))


def test_a_whole_model_keeps_what_it_says(module: str) -> None:
    model = load_model(f"python:{module}:whole", weights="random", shape=InputShape(), seed=0)
    assert model.make_raw(3, 5) == [5, 5, 5]
    assert model.facts["inputs"] == "mine"
    assert model.facts["parameters"] == 0
    assert model.facts["library"] == "python"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nothing", r"returned a NoneType; allowed: an InferenceModel, or a module and"),
        ("no_inputs", "returned no inputs; name the tensors of one item"),
        ("no_batch", r"'pixels' is a tensor \(3, 4, 8\); it must be a tensor of one item"),
        ("number", "'pixels' is a int; it must be a tensor"),
        ("broken", "failed: RuntimeError: the weights are at home; run it alone"),
        ("wrong_task", "says model_task = 'poetry'; known: text-encoder"),
        ("constant", "has no function constant; it has: both, broken, mixed, no_batch"),
        ("missing", "has no function missing; it has: both"),
    ],
)
def test_every_mistake_is_one_line(module: str, function: str, said: str) -> None:
    for attempt in (
        lambda: describe(f"python:{module}:{function}"),
        lambda: load_model(
            f"python:{module}:{function}", weights="random", shape=InputShape(), seed=0
        ),
    ):
        with pytest.raises(ModelError, match=said) as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_id", ["python:", "python:module", "python::function"])
def test_the_form_of_the_name_is_checked(model_id: str) -> None:
    with pytest.raises(ModelError, match="is not of the form python:MODULE:FUNCTION"):
        describe(model_id)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match="cannot import no_such_module_here: ModuleNotFound"):
        describe("python:no_such_module_here:build")


def test_the_import_path_is_left_as_it_was(module: str) -> None:
    before = list(sys.path)
    describe(f"python:{module}:texts")
    assert sys.path == before
