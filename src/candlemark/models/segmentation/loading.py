"""Build any segmenter that needs no training and no file of masks: the table, and the door to it.

    segmenter = build_segmenter(spec, batch_size=4)
    segmenter.segment(case, watch)                      # or segment_with, of an oracle

What learns first (`linear_probe`, `upernet_frozen`, the control of an untrained head) and what
reads masks (finished predictions, commands) is built by the benchmark, which has the training
cases and the scans' readers; here it is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from candlemark.errors import CandlemarkError, ModelError
from candlemark.models.segmentation.base import OracleSegmenter, Segmenter, SegmenterSpec

BUILDERS: dict[str, str] = {
    "python": "python_function:build_python",
    "onnx": "exported:build_onnx",
    "torchscript": "exported:build_torchscript",
    "control": "controls:build_control",
    "hub/native_head": "native_head:build_native_head",
    "hub/clip_dense": "clip_dense:build_clip_dense",
    "hub/sam_auto": "sam:build_sam",
    "hub/sam_oracle_box": "sam:build_sam",
    "hub/sam_oracle_point": "sam:build_sam",
    "hub/none": "time_only:build_time_only",
}
"""Who builds what, by kind and, of the Hub, by protocol: FILE:FUNCTION beside this file, loaded
when it is asked for. Each takes `(spec, *, batch_size)`."""

ELSEWHERE: dict[str, str] = {
    "hub/linear_probe": "it is trained first, on the training cases",
    "hub/upernet_frozen": "it is trained first, on the training cases",
    "hub/untrained_head": "its head is drawn where the probes' heads are",
    "predictions": "it reads masks from files",
    "command": "it reads masks from files",
}
"""What the benchmark builds, and why."""


def build_segmenter(spec: SegmenterSpec, *, batch_size: int) -> Segmenter | OracleSegmenter:
    """The segmenter, its weights loaded, on its device, in evaluation mode.

    batch_size: slices (or patches) that are in the network at once; the answer does not depend
        on it

    Raises ModelError: nobody builds such a segmenter here, or its model, weights or function
    cannot be had.
    """
    key = builder_key(spec)
    if key in ELSEWHERE:
        raise ModelError(
            f"{spec.name} ({key}) is built by the benchmark, because {ELSEWHERE[key]}; "
            "run it with: candlemark segment"
        )
    try:
        return builder(key)(spec, batch_size)
    except (CandlemarkError, MemoryError):
        raise
    except Exception as error:  # each library refuses files and configs in its own way
        first = str(error).strip().partition("\n")[0] or "no message"
        raise ModelError(
            f"cannot build {spec.name} ({key} of {spec.source}): {type(error).__name__}: {first}"
        ) from error


def builder_key(spec: SegmenterSpec) -> str:
    """Its line of the tables.

    Raises ModelError: no table has it.
    """
    key = f"hub/{spec.protocol}" if spec.kind == "hub" else spec.kind
    if key not in BUILDERS and key not in ELSEWHERE:
        known = ", ".join([*BUILDERS, *ELSEWHERE])
        raise ModelError(f"nobody builds {key} for {spec.name}; known: {known}")
    return key


def builder(key: str) -> Callable[[SegmenterSpec, int], Segmenter | OracleSegmenter]:
    """The function of `key`, a key of BUILDERS, as one of (spec, batch_size)."""
    file, _, name = BUILDERS[key].partition(":")
    function = getattr(import_module(f"candlemark.models.segmentation.{file}"), name)

    def build(spec: SegmenterSpec, batch_size: int) -> Segmenter | OracleSegmenter:
        made: Segmenter | OracleSegmenter = function(spec, batch_size=batch_size)
        return made

    return build
