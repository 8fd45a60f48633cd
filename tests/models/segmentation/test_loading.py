"""The table of builders: every line leads somewhere, and what is built elsewhere says where."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import PROTOCOLS, Case, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.loading import (
    BUILDERS,
    ELSEWHERE,
    build_segmenter,
    builder_key,
)

MakeSpec = Callable[..., SegmenterSpec]


@pytest.mark.parametrize("line", BUILDERS.values())
def test_every_builder_exists(line: str) -> None:
    file, _, name = line.partition(":")
    assert callable(getattr(import_module(f"candlemark.models.segmentation.{file}"), name))


def test_every_protocol_of_the_hub_has_a_line(make_spec: MakeSpec) -> None:
    for protocol in PROTOCOLS:
        if protocol != "own":
            assert builder_key(make_spec("a/b", protocol=protocol)) in {*BUILDERS, *ELSEWHERE}


def test_a_control_is_built_and_asked(
    make_spec: MakeSpec, make_case: Callable[..., Case], watch: Stopwatch
) -> None:
    built = build_segmenter(make_spec("all_foreground", kind="control"), batch_size=2)
    assert hasattr(built, "segment")
    assert built.segment(make_case(np.zeros((1, 2, 2))), watch).all()


def told(volume: Any, scan: Any) -> Any:
    """A model of one's own that asks what is known of the scan."""
    return volume > scan.window[1]


def network() -> torch.nn.Module:
    """One that sees shares of the window."""
    return torch.nn.Conv2d(1, 2, 1)


@pytest.mark.parametrize(
    "asked",
    [
        {"source": "otsu", "kind": "control", "protocol": "otsu"},
        {"source": f"{__name__}:told", "kind": "python", "protocol": "own"},
        {"source": f"{__name__}:network", "kind": "python", "protocol": "own"},
        {
            "source": f"{__name__}:network",
            "kind": "python",
            "protocol": "own",
            "options": {"patch": [1, 4, 4]},
        },
        {
            "source": "tiny:segformer",
            "protocol": "native_head",
            "weights": "random",
            "options": {"class_map": {"1": 1}},
        },
    ],
    ids=["control", "function", "network", "patches", "hub"],
)
def test_a_scan_that_is_read_through_for_its_window_is_loaded(
    make_spec: MakeSpec,
    make_case: Callable[..., Case],
    asked: dict[str, Any],
) -> None:
    """Whoever asks for it first: reading is no preprocessing, in whichever row."""
    clock = [0]
    found: list[tuple[float, float]] = []

    def window() -> tuple[float, float]:
        if not found:
            clock[0] += 5_000_000
            found.append((0.0, 1.0))
        return found[0]

    case = replace(make_case(np.random.default_rng(0).random((3, 8, 8))), window=window)
    watch = Stopwatch(lambda: clock[0])
    built = build_segmenter(make_spec(**asked), batch_size=2)
    assert hasattr(built, "segment")
    built.segment(case, watch)
    assert watch.totals_ms["load"] == 5.0
    assert sum(watch.totals_ms.values()) == 5.0


@pytest.mark.parametrize(
    ("kind", "protocol", "why"),
    [
        ("hub", "linear_probe", "trained first, on the training cases"),
        ("predictions", "own", "reads masks from files"),
        ("command", "own", "candlemark segment"),
    ],
)
def test_what_the_benchmark_builds_is_refused_by_name(
    make_spec: MakeSpec, kind: str, protocol: str, why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        build_segmenter(make_spec("a/b", kind=kind, protocol=protocol), batch_size=1)


def test_nobody_builds_what_no_table_has(make_spec: MakeSpec) -> None:
    with pytest.raises(ModelError, match="nobody builds hub/guess for a/b; known: python, onnx"):
        build_segmenter(make_spec("a/b", protocol="guess"), batch_size=1)


def test_an_error_of_a_library_names_the_row(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from candlemark.models.segmentation import exported

    def fails(*_: object, **__: object) -> None:
        raise ValueError("odd opset\nand more")

    monkeypatch.setattr(exported, "build_onnx", fails)
    with pytest.raises(
        ModelError, match=r"cannot build mine \(onnx of net\.onnx\): ValueError: odd opset$"
    ):
        build_segmenter(make_spec("net.onnx", kind="onnx", name="mine"), batch_size=1)


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys, candlemark.models.segmentation.loading, "
        "candlemark.models.segmentation.controls, candlemark.models.segmentation.own_labels; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
