"""A model of the user's own as a function: `package.module:function`.

    def segment(volume, scan):                    # mymodel.py, in the folder one works in
        return volume > scan.window[1] / 2        # bool (Z, Y, X): the one class

    def build():                                  # or a factory, called once, without arguments
        return load_my_network()                  # a function as above, or a torch module

A function gets the whole volume as the file has it, float32 (Z, Y, X) (or (Z, Y, X, 3) in
colour), and, where it takes a second argument, a `ScanFacts`. It answers with labels or scores as
`own_labels` reads them, as a NumPy array or a torch tensor. A torch module is asked as an exported
network is: by slices, by patches (`patch`), with intensities as shares of the window.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from candlemark.errors import ModelError
from candlemark.models.building import first_line, in_words
from candlemark.models.inference.custom import named_function, source_sha256, working_folder
from candlemark.models.segmentation.base import (
    Case,
    Labels,
    Segmenter,
    SegmenterSpec,
    Stopwatch,
)
from candlemark.models.segmentation.exported import of_module
from candlemark.models.segmentation.networks import NetworkSegmenter
from candlemark.models.segmentation.own_labels import answer_labels, own_map
from candlemark.models.segmentation.pixels import batches

FOR_NETWORKS = ("patch", "overlap", "blending", "intensity", "activation", "dimensions", "channels")
"""Options that a torch module reads, and a function that gets the whole volume does not."""

READ_AT_ONCE = 16
"""Slices, while the volume is put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFacts:
    """What a function may know of the scan beside its voxels; of the reference nothing.

    window: the 0.5 and 99.5 percent points of all intensities
    classes: name by label of the reference
    device: where the user asked for the work to be done
    """

    id: str
    spacing_mm: tuple[float, float, float] | None
    window: tuple[float, float]
    classes: Mapping[int, str]
    device: str


def build_python(spec: SegmenterSpec, *, batch_size: int) -> Segmenter:
    """The function of spec.source, or what its factory returns, as a segmenter.

    Raises ModelError: the module cannot be imported, has no such function, the factory fails or
    returns no model, or an option is given that nothing reads.
    """
    with working_folder():
        function = _find(spec.source)
        made = _from_factory(spec, function)
    facts = {
        "model_class": spec.source.removeprefix("python:"),
        "weights": "as returned",
        "weights_sha256": None,
        "source_sha256": source_sha256(function),
    }
    if isinstance(made, nn.Module):
        network = of_module(made.eval().to(spec.device), spec, facts=facts)
        return NetworkSegmenter(spec, network, batch_size=batch_size)
    unread = [key for key in FOR_NETWORKS if spec.options.get(key) is not None]
    if unread:
        raise ModelError(
            f"{spec.name} is a function, which gets the whole volume and reads no {unread[0]}; "
            f"take {unread[0]} out, or let the function return a torch module"
        )
    return FunctionSegmenter(spec, made, facts=facts)


class FunctionSegmenter:
    """The whole volume in, labels out. The whole volume is in memory, as float32."""

    def __init__(
        self, spec: SegmenterSpec, function: Callable[..., Any], *, facts: Mapping[str, Any]
    ) -> None:
        self._spec = spec
        self._function = function
        self._wants_facts = _positions(function) == 2
        self._mapping = own_map(spec.options.get("class_map"), spec.classes)
        self._threshold = float(spec.options.get("threshold", 0.5))
        self.facts: Mapping[str, Any] = {
            "parameters": None,
            "protocol": spec.protocol,
            "untrained": False,
            "reads": "whole volumes, as the file has them",
            "threshold": self._threshold,
            "class_map": {str(own): label for own, label in self._mapping.items()},
            **facts,
        }

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X); all that the function does is `forward`."""
        volume: npt.NDArray[np.float32] | None = None
        for start, stop in batches(case, READ_AT_ONCE):
            with watch("load"):
                raw = case.read(start, stop)
            with watch("preprocess"):
                if volume is None:
                    volume = np.empty((case.shape[0], *raw.shape[1:]), np.float32)
                volume[start:stop] = raw
        arguments: list[Any] = [volume]
        if self._wants_facts:
            with watch("load"):
                window = case.window()
            arguments.append(
                ScanFacts(
                    id=case.id,
                    spacing_mm=case.spacing_mm,
                    window=window,
                    classes=self._spec.classes,
                    device=self._spec.device,
                )
            )
        with watch("forward"), working_folder():  # for what the function imports as it runs
            answer = self._function(*arguments)
        with watch("postprocess"):
            return answer_labels(
                _array(answer),
                case.shape,
                classes=self._spec.classes,
                mapping=self._mapping,
                threshold=self._threshold,
            )


def _array(answer: Any) -> npt.NDArray[Any]:
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu()
        # NumPy has no bfloat16.
        answer = (answer.float() if answer.dtype == torch.bfloat16 else answer).numpy()
    if not isinstance(answer, np.ndarray):
        raise ModelError(
            f"the function returned {in_words(answer)}; allowed: a NumPy array or a torch "
            "tensor of labels or scores"
        )
    return answer


def _find(source: str) -> Callable[..., Any]:
    module_name, _, name = source.removeprefix("python:").partition(":")
    if not module_name or not name:
        raise ModelError(f"'{source}' is not of the form package.module:function")
    return named_function(source, module_name, name)


def _from_factory(spec: SegmenterSpec, function: Callable[..., Any]) -> Any:
    """The function itself, or what it returns where it takes nothing: a function or a module."""
    if isinstance(function, nn.Module) or _positions(function) > 0:
        return function
    try:
        made = function()
    except Exception as error:  # the user's own code may raise anything
        raise ModelError(
            f"{spec.source} failed: {type(error).__name__}: {first_line(error)}; run it alone to "
            "see where"
        ) from error
    if not callable(made):
        raise ModelError(
            f"{spec.source} takes nothing, so it is a factory, and it returned "
            f"{in_words(made)}; allowed: a function of a volume, or a torch module"
        )
    return made


def _positions(function: Callable[..., Any]) -> int:
    """How many arguments it can be given by position, up to two; what cannot be told is one."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in C
        return 1
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return 2
    by_position = [
        each
        for each in parameters
        if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}
    ]
    needed = [each for each in by_position if each.default is each.empty]
    if len(needed) > 2:
        raise ModelError(
            f"{getattr(function, '__qualname__', function)} needs {len(needed)} arguments "
            f"({', '.join(each.name for each in needed)}); it is given the volume, and what is "
            "known of the scan"
        )
    return len(needed)
