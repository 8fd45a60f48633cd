"""One face for whatever turns a scan into labels: a network, a file, a command, a rule.

    Z, Y, X  voxels of a scan along its slices, rows and columns; Z is 1 for a picture

    segmenter = build_segmenter(spec, ...)
    watch = Stopwatch(clock.stamp)
    labels = segmenter.segment(case, watch)         # uint8 (Z, Y, X), 0 is background
    watch.totals_ms                                 # {"load": 3.1, "preprocess": 8.0, ...}

A segmenter says itself which of its work is which stage, and the stopwatch waits for the device
at each boundary. The reference is not part of a `Case`: only a segmenter whose protocol is an
oracle is given it, by another name, so that none can see it by accident. This file loads no
torch, so that a benchmark can be planned without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

Stage = Literal["load", "preprocess", "forward", "postprocess"]
STAGES: tuple[Stage, ...] = get_args(Stage)

AskProtocol = Literal[
    "own",
    "native_head",
    "linear_probe",
    "upernet_frozen",
    "clip_dense",
    "sam_auto",
    "sam_oracle_box",
    "sam_oracle_point",
    "none",
]
PROTOCOLS: tuple[AskProtocol, ...] = get_args(AskProtocol)
"""How a model is asked. `own` is the user's model as it stands; `none` is timed and not scored."""

ORACLES: frozenset[str] = frozenset({"sam_oracle_box", "sam_oracle_point", "oracle_box"})
"""Protocols (and the control `oracle_box`) that are shown the reference; in tables of their own."""

Labels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A scan as a segmenter sees it.

    id: of the case
    path: of the image file, for what reads files itself
    shape: (Z, Y, X)
    spacing_mm: along Z, Y, X; None where the file has none (a PNG)
    channels: 1, or 3 for pictures in colour
    read: (start, stop) -> those slices, (n, Y, X) or (n, Y, X, 3), in the file's own type
    window: (low, high): the 0.5 and 99.5 percent points of all intensities, found once
    """

    id: str
    path: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    channels: int
    read: Callable[[int, int], npt.NDArray[Any]]
    window: Callable[[], tuple[float, float]]


class Stopwatch:
    """Adds up the time of each stage.

    stamp: nanoseconds when all that was given to the device is done; `DeviceClock.stamp`
    """

    def __init__(self, stamp: Callable[[], int]) -> None:
        self._stamp = stamp
        self.totals_ms: dict[Stage, float] = {}

    @contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        """Time what is inside; a stage may be entered many times, never inside another."""
        began = self._stamp()
        try:
            yield
        finally:
            taken = (self._stamp() - began) / 1e6
            self.totals_ms[stage] = self.totals_ms.get(stage, 0.0) + taken


class Segmenter(Protocol):
    """Turns a scan into labels.

    facts: what was found out about it, JSON types only: "model_class", "weights"
        ("pretrained" | "random" | path | None), "weights_sha256", "parameters", "protocol",
        "untrained" (True where what answers was never trained: its scores are marked so),
        and what else a reader of the table must know
    """

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON types only."""

    def segment(self, case: Case, watch: Stopwatch) -> Labels:
        """uint8 (Z, Y, X): the class of each voxel, 0 is background.

        Raises ModelError, or whatever its library raises: the case is scored as a failure.
        """


@runtime_checkable
class ByCase(Protocol):
    """Several segmenters, of which each case has one of its own."""

    def of(self, case_id: str) -> Segmenter:
        """The one that answers for the case, ready to be asked and timed.

        Raises ModelError: none does.
        """


class OracleSegmenter(Protocol):
    """A segmenter that is shown the reference, and is called an oracle everywhere."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON types only."""

    def segment_with(self, case: Case, reference: Labels, watch: Stopwatch) -> Labels:
        """As `segment`; reference: uint8 (Z, Y, X), from which the prompt is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterSpec:
    """What a segmenter is built from; pickles, and its fields decide the outcome.

    name: how it is called in tables
    source: id on the Hub, local folder, `tiny:NAME`, file, `MODULE:FUNCTION`, or command
    kind: "hub" | "python" | "onnx" | "torchscript" | "predictions" | "command" | "control"
    protocol: how it is asked
    classes: name by label of the reference, background (0) left out: {1: "lesion"}
    options: what the protocol takes, JSON types only (class map, prompts, patch, threshold, ...)
    weights: "pretrained" | "random" | path
    device: "cpu", "cuda:0", ...
    """

    name: str
    source: str
    kind: Literal["hub", "python", "onnx", "torchscript", "predictions", "command", "control"]
    protocol: str
    classes: Mapping[int, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "pretrained"
    device: str = "cpu"
    seed: int = 0
    allow_pickle: bool = False
