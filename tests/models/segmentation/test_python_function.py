"""Models of one's own as functions: of a volume, of a volume and its facts, and factories."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlemark.errors import ModelError
from candlemark.models.segmentation.base import Case, Labels, SegmenterSpec, Stopwatch
from candlemark.models.segmentation.failures import CaseError
from candlemark.models.segmentation.python_function import build_python
from candlemark.scans.volume import open_scan

MakeSpec = Callable[..., SegmenterSpec]

MODELS = """
import numpy as np
import torch

def bright(volume):
    assert volume.dtype == np.float32
    return volume > 500

def scores(volume, scan):
    middle = sum(scan.window) / 2
    return torch.stack([torch.full(volume.shape, middle), torch.from_numpy(volume)])

def probability(volume, factor=0.001):
    return volume * factor

def everything(*given):
    return np.full(given[0].shape, len(given), np.uint8)

def factory():
    return lambda volume: volume > 500

class Bright(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 1, 1)
        with torch.no_grad():
            self.layer.weight.fill_(20.0)
            self.layer.bias.fill_(-10.0)

    def forward(self, pixels):
        return {"aux": None, "out": self.layer(pixels)}

def flat(volume):
    return (volume > 500)[0]

def words(volume):
    return "bright"

def needs_three(a, b, c):
    return a

def broken():
    raise RuntimeError("no weights here")

def nothing():
    return None

def late(volume):
    from thresholds_of_mine import MIDDLE
    return volume > MIDDLE

def half(volume):
    return torch.from_numpy(volume > 500).to(torch.bfloat16)
"""

VOLUME = np.random.default_rng(1).integers(0, 1000, (3, 8, 6)).astype(np.int16)
VOLUME[abs(VOLUME - 500) < 3] = 400
VOLUME[0, 0, :2] = 0, 1000
BRIGHT = (VOLUME > 500).astype(np.uint8)


@pytest.fixture(autouse=True)
def module_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """In the folder one works in, which a console script has not on its path."""
    name = f"models_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODELS, encoding="utf-8")
    (tmp_path / "thresholds_of_mine.py").write_text("MIDDLE = 500", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return name


@pytest.fixture
def ask(
    module_of_models: str, make_spec: MakeSpec, make_case: Callable[..., Case], watch: Stopwatch
) -> Callable[..., Labels]:
    def asked(function: str, *, classes: Any = None, **options: Any) -> Labels:
        spec = make_spec(
            f"{module_of_models}:{function}",
            kind="python",
            protocol="own",
            classes=classes or {2: "lesion"},
            options=options,
        )
        return build_python(spec, batch_size=2).segment(make_case(VOLUME), watch)

    return asked


@pytest.mark.parametrize(
    "function", ["bright", "scores", "probability", "half", "factory", "Bright"]
)
def test_functions_factories_and_modules_answer(ask: Callable[..., Labels], function: str) -> None:
    assert (ask(function) == 2 * BRIGHT).all()


def test_what_a_function_imports_as_it_runs_is_found_beside_it(
    ask: Callable[..., Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in {"", str(tmp_path)}])
    monkeypatch.delitem(sys.modules, "thresholds_of_mine", raising=False)
    assert (ask("late") == 2 * BRIGHT).all()
    assert str(tmp_path) not in sys.path


def test_options_are_read_or_refused(ask: Callable[..., Labels]) -> None:
    assert (ask("probability", threshold=0.9) == 2 * (VOLUME > 900)).all()
    assert (ask("Bright", patch=[2, 4, 4], overlap=0.25) == 2 * BRIGHT).all()
    assert (ask("everything", classes={1: "a", 3: "b"}, class_map={"2": "b"}) == 3).all()
    with pytest.raises(ModelError, match="gets the whole volume and reads no patch"):
        ask("bright", patch=[2, 4, 4])


def test_a_wrong_shape_fails_the_case_and_says_both(ask: Callable[..., Labels]) -> None:
    with pytest.raises(CaseError, match=r"bool of shape \(8, 6\); allowed: \(3, 8, 6\)") as raised:
        ask("flat")
    assert raised.value.outcome == "wrong_shape"
    with pytest.raises(ModelError, match="returned text; allowed: a NumPy array"):
        ask("words")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("brigth", "has no function brigth; it has: bright, broken"),
        ("needs_three", r"needs 3 arguments \(a, b, c\); it is given the volume"),
        ("broken", "failed: RuntimeError: no weights here; run it alone to see where"),
        ("nothing", "so it is a factory, and it returned nothing; allowed: a function"),
    ],
)
def test_what_is_no_model_is_refused(ask: Callable[..., Labels], function: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        ask(function)


def test_a_module_that_is_not_there_is_refused(make_spec: MakeSpec) -> None:
    with pytest.raises(ModelError, match="cannot import absent_models: ModuleNotFoundError"):
        build_python(make_spec("absent_models:segment", kind="python"), batch_size=1)
    with pytest.raises(ModelError, match=r"not of the form package\.module:function"):
        build_python(make_spec("absent_models", kind="python"), batch_size=1)


def test_the_source_is_hashed_and_nothing_is_called_trained_or_not(
    module_of_models: str, make_spec: MakeSpec
) -> None:
    spec = make_spec(f"{module_of_models}:bright", kind="python", protocol="own")
    facts = build_python(spec, batch_size=1).facts
    assert len(facts["source_sha256"]) == 64
    assert facts["weights"] == "as returned"
    assert json.loads(json.dumps(facts)) == facts


MESHNET = """
import json
import torch
from pathlib import Path
from safetensors.torch import load_file

FOLDER = Path({folder!r})

def build():
    layers = []
    said = json.loads((FOLDER / "config.json").read_text())["layers"]
    for index, layer in enumerate(said):
        padding = layer["dilation"] * (layer["kernel"] // 2)
        layers.append(torch.nn.Conv3d(
            layer["in_channels"], layer["out_channels"], layer["kernel"],
            padding=padding, dilation=layer["dilation"]))
        if index + 1 < len(said):
            layers.append(torch.nn.ReLU())
    network = torch.nn.Sequential(*layers)
    weights = load_file(FOLDER / "model.safetensors")
    for index in range(len(said)):  # a ReLU stands behind each layer but the last
        for part in ("weight", "bias"):
            weights[f"{{2 * index}}.{{part}}"] = weights.pop(f"layers.{{index}}.{{part}}")
    network.load_state_dict(weights)
    return network
"""


@pytest.fixture
def meshnet(shared_data: Path, tmp_path: Path, make_spec: MakeSpec) -> SegmenterSpec:
    """5,598 trained parameters, given as a function that returns the network."""
    folder = shared_data / "models" / "meshnet-5-gwm"
    (tmp_path / "meshnet.py").write_text(MESHNET.format(folder=str(folder)), encoding="utf-8")
    return make_spec(
        "meshnet:build",
        kind="python",
        protocol="own",
        classes={1: "white matter", 2: "grey matter"},
        options={"patch": [24, 48, 48], "overlap": 0.25},
    )


def test_a_trained_network_reads_a_real_head(
    shared_data: Path, meshnet: SegmenterSpec, watch: Stopwatch, make_case: Callable[..., Case]
) -> None:
    scan = open_scan(shared_data / "scans" / "nrrd" / "brain1_image.nrrd")
    voxels = scan.read(0, 25)[:, 100:148, 100:148]
    case = replace(make_case(voxels), window=scan.window)
    segmenter = build_python(meshnet, batch_size=1)
    assert segmenter.facts["parameters"] == 5598
    labels = segmenter.segment(case, watch)
    assert labels.shape == voxels.shape
    assert set(np.unique(labels)) <= {0, 1, 2}
    assert labels.any()


@pytest.mark.slow
def test_a_trained_network_finds_white_matter_where_it_is(
    meshnet: SegmenterSpec, watch: Stopwatch, make_case: Callable[..., Case]
) -> None:
    """On the MNI template: far above the share of voxels that are white matter, in patches."""
    found = find_spec("nilearn")
    if found is None or not found.submodule_search_locations:
        pytest.skip("nilearn, whose wheel holds the template, is not installed")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"
    head, white = (
        open_scan(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz").read()
        for name in ("t1", "wm")
    )
    middle = (slice(40, 136), slice(60, 188), slice(40, 136))
    case = replace(make_case(head[middle]), window=lambda: (0.0, 255.0))
    by_patches = replace(meshnet, options={"patch": [64, 96, 96]})
    labels = build_python(by_patches, batch_size=1).segment(case, watch)
    truth = white[middle] > 127
    dice = 2 * np.sum((labels == 1) & truth) / (np.sum(labels == 1) + np.sum(truth))
    assert dice > 0.5 > truth.mean()
