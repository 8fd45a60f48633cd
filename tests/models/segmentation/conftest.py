"""Cases made of arrays, and a network whose answer is known: what is bright is class 1."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
import torch
import transformers

from candlemark.models.inference.tiny import TINY
from candlemark.models.segmentation.base import Case, SegmenterSpec, Stopwatch

SIDE = 64


@pytest.fixture(autouse=True)
def one_thread_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """A case from an array (Z, Y, X) or (Z, Y, X, 3), whose window is its own range."""

    def make(voxels: npt.NDArray[Any], *, case_id: str = "case_1") -> Case:
        def window() -> tuple[float, float]:
            return float(voxels.min()), float(voxels.max())

        return Case(
            id=case_id,
            path=Path(f"{case_id}.nii.gz"),
            shape=tuple(voxels.shape[:3]),
            spacing_mm=(1.0, 1.0, 1.0),
            channels=voxels.shape[3] if voxels.ndim == 4 else 1,
            read=lambda start, stop: voxels[start:stop],
            window=window,
        )

    return make


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch(time.perf_counter_ns)


@pytest.fixture
def make_spec() -> Callable[..., SegmenterSpec]:
    """A model of the Hub with one class, changed where asked."""

    def make(source: str, **changed: Any) -> SegmenterSpec:
        fields = {"name": source, "kind": "hub", "protocol": "native_head"} | changed
        fields.setdefault("classes", {1: "lesion"})
        return SegmenterSpec(source=source, **fields)

    return make


@pytest.fixture(scope="session")
def bright_segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SegFormer's folder that calls what is brighter than one half "bright", by 4 x 4 px.

    Its first layer takes the mean of each 4 x 4 px; the layers between are made to pass it on,
    and the last one is set so that white and black score +1 and -1.
    """
    folder = tmp_path_factory.mktemp("models") / "bright"
    settings = {**TINY["segformer"].config, "id2label": {0: "dark", 1: "bright"}}
    del settings["num_labels"]
    config = transformers.SegformerConfig(**settings)
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    with torch.no_grad():
        _read_brightness(network.state_dict())
        high, low = (
            network(torch.full((1, 3, SIDE, SIDE), value)).logits[0, 1, 8, 8]
            for value in (1.0, -1.0)
        )
        last = network.decode_head.classifier
        last.weight[1] *= 2 / (high - low)
        last.bias[1] = 1 - 2 * high / (high - low)
    network.save_pretrained(folder)
    _write_processor(folder)
    return folder


def _read_brightness(state: dict[str, torch.Tensor]) -> None:
    for name, tensor in state.items():
        passed_on = name.endswith(
            ("o_proj.weight", "o_proj.bias", "mlp.fc2.weight", "mlp.fc2.bias")
        )
        if passed_on or name.startswith(("decode_head.linear", "decode_head.classifier")):
            tensor.zero_()
    first = state["segformer.stages.0.patch_embeddings.proj.weight"].zero_()
    first[0, :, 3:7, 3:7] = 1 / 48
    bias = state["segformer.stages.0.patch_embeddings.proj.bias"].zero_()
    bias[1] = 4.0  # keeps the layer norm's width nearly the same, so that it stays monotone
    state["decode_head.linear_projections.0.proj.weight"][0, 0] = 1.0
    state["decode_head.linear_projections.0.proj.bias"][0] = 5.0  # far from where ReLU cuts
    state["decode_head.linear_fuse.weight"][0, ::64] = 1.0
    state["decode_head.classifier.weight"][1, 0] = 1.0


def _write_processor(folder: Path) -> None:
    settings = {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
