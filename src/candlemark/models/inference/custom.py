"""Models of the user's own: `python:MODULE:FUNCTION`, a function that returns one.

    def build():                                   # mymodels.py, in the folder one works in
        return MyNetwork(), {"pixels": torch.rand(1, 3, 64, 64)}

    describe_function("python:mymodels:build").model_task       # "image-features"

FUNCTION takes nothing and returns an `InferenceModel`, or a module and the inputs of one item by
name, each with a first dimension of 1. It is called when a benchmark is planned, to see what
the model reads, and again in the process that measures it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.building import first_line
from candlemark.models.inference.base import (
    MODEL_TASKS,
    Described,
    InferenceModel,
    InputShape,
    Tensors,
)

AS_RETURNED = "as returned"
"""What such a model says of its weights: they are what its function gave them."""

_PICTURE_DIMENSIONS = 4


def describe_function(model_id: str) -> Described:
    """What the model of `python:MODULE:FUNCTION` reads and does.

    Raises ModelError: as `load_function` does.
    """
    model = load_function(model_id)
    return Described(
        id=model_id,
        library="python",
        model_task=model.model_task,
        model_class=model_id.removeprefix("python:"),
        weights=AS_RETURNED,
        config={"source_sha256": model.facts["source_sha256"]},
    )


def load_function(model_id: str) -> InferenceModel:
    """Call the function of `python:MODULE:FUNCTION`; the folder one works in is on its path.

    Raises ModelError: the module cannot be imported, has no such function, the function fails,
    or what it returns is no model.
    """
    with working_folder():
        function = _find(model_id)
        try:
            found = function()
        except Exception as error:  # the user's own code may raise anything
            raise ModelError(
                f"{model_id} failed: {type(error).__name__}: {first_line(error)}; "
                "run it alone to see where"
            ) from error
    model = found if isinstance(found, InferenceModel) else _from_example(model_id, found)
    if model.model_task not in MODEL_TASKS:
        raise ModelError(
            f"{model_id} says model_task = {model.model_task!r}; known: {', '.join(MODEL_TASKS)}"
        )
    model.module.eval()
    facts = {
        "library": "python",
        "model_class": type(model.module).__name__,
        "weights": AS_RETURNED,
        "weights_sha256": None,
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "attention": None,
        "inputs": "as the model's own function makes them",
        "source_sha256": source_sha256(function),
        **model.facts,
    }
    return replace(model, facts=facts)


def _find(model_id: str) -> Callable[[], Any]:
    prefix, _, rest = model_id.partition(":")
    module_name, _, name = rest.partition(":")
    if prefix != "python" or not module_name or not name:
        raise ModelError(f"'{model_id}' is not of the form python:MODULE:FUNCTION")
    return named_function(model_id, module_name, name)


def named_function(source: str, module_name: str, name: str) -> Callable[..., Any]:
    """A callable of a module of the user's own.

    source: as the user wrote it, for messages

    Raises ModelError: the module cannot be imported, or has no such function.
    """
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's own code
        raise ModelError(
            f"{source}: cannot import {module_name}: {type(error).__name__}: "
            f"{first_line(error)}; the module must lie in this folder or be installed"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        functions = sorted(key for key, value in vars(module).items() if inspect.isfunction(value))
        raise ModelError(
            f"{source}: {module_name} has no function {name}; it has: "
            f"{', '.join(functions) or 'none'}"
        )
    found: Callable[..., Any] = function
    return found


def _from_example(model_id: str, found: Any) -> InferenceModel:
    """A face for a module and the inputs of one item."""
    if not (
        isinstance(found, tuple)
        and len(found) == 2
        and isinstance(found[0], nn.Module)
        and isinstance(found[1], Mapping)
    ):
        raise ModelError(
            f"{model_id} returned {_kind(found)}; allowed: an InferenceModel, or a module and "
            "its inputs by name: (nn.Module, {name: tensor of one item})"
        )
    module, example = found
    for name, value in example.items():
        if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != 1:
            seen = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else _kind(value)
            raise ModelError(
                f"{model_id}: input '{name}' is {seen}; it must be a tensor of one item, "
                "with a first dimension of 1"
            )
    if not example:
        raise ModelError(f"{model_id} returned no inputs; name the tensors of one item")
    inputs: Tensors = {str(name): value.detach().cpu() for name, value in example.items()}
    task, shape = _what_it_reads(inputs)
    return InferenceModel(
        module=_ByName(module),
        model_task=task,
        shape=shape,
        make_raw=_Repeated(inputs),
        preprocess=_stacked,
        postprocess=_rows,
        facts={
            "model_class": type(module).__name__,
            "inputs": "the example that the model's own function gave, repeated",
        },
    )


class _ByName(nn.Module):
    """A module with its outputs by name, whatever it returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: Tensor) -> Tensors:
        outputs = self.network(**inputs)
        if isinstance(outputs, Tensor):
            return {"output": outputs}
        named: Mapping[str, Any] = {}
        if isinstance(outputs, Mapping):
            named = outputs
        elif isinstance(outputs, list | tuple):
            named = {f"output_{index}": value for index, value in enumerate(outputs)}
        found = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        if not found:
            raise ModelError(
                f"{type(self.network).__name__} returned {_kind(outputs)}; allowed: a tensor, or "
                "tensors by name or in a tuple or list"
            )
        return found


class _Repeated:
    """Items that are all the example."""

    def __init__(self, inputs: Tensors) -> None:
        self._inputs = inputs

    def __call__(self, count: int, seed: int) -> list[Tensors]:  # noqa: ARG002 - none is random
        return [self._inputs] * count


def _stacked(raw: list[Tensors]) -> Tensors:
    return {name: torch.cat([item[name] for item in raw]) for name in raw[0]}


def _rows(outputs: Tensors) -> list[Any]:
    """The main output, one row an item."""
    main: Tensor = next(iter(outputs.values()))
    return list(main.float().numpy())


def _what_it_reads(inputs: Tensors) -> tuple[str, InputShape]:
    """Task and shape, told from names and shapes: pictures, token ids, or else sound."""
    picture = next((v for v in inputs.values() if v.ndim == _PICTURE_DIMENSIONS), None)
    ids = next((v for v in inputs.values() if v.dtype == torch.int64 and v.ndim == 2), None)
    shape = InputShape(
        sequence_length=None if ids is None else int(ids.shape[1]),
        image_size=None if picture is None else int(picture.shape[-1]),
    )
    if picture is not None:
        return ("image-features" if ids is None else "image-text-similarity"), shape
    sound = any(name in {"input_features", "input_values"} for name in inputs)
    return ("speech-classification" if sound else "text-encoder"), shape


def source_sha256(function: Callable[..., Any]) -> str | None:
    """Hash of the file that the function stands in; None where it stands in none."""
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        return None
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@contextmanager
def working_folder() -> Iterator[None]:
    """The folder one works in on the import path, where a console script has it not."""
    folder = str(Path.cwd())
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(part).__name__ for part in value)}"
    return f"a {type(value).__name__}"
