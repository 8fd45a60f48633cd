"""Vision towers that open_clip saved: BiomedCLIP's way, with a small network of timm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from candlemark.errors import ModelError
from candlemark.models.segmentation.backbones import Backbone, load_backbone
from candlemark.models.segmentation.base import SegmenterSpec

NAME = "test_vit"
VISION = {"timm_model_name": NAME, "timm_pool": "", "image_size": 64}
READING = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


@pytest.fixture
def load(make_spec: Callable[..., SegmenterSpec]) -> Callable[..., Backbone]:
    def loaded(source: str | Path, **changed: Any) -> Backbone:
        return load_backbone(make_spec(str(source), protocol="linear_probe", **changed))

    return loaded


def network() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return timm.create_model(NAME, num_classes=0, img_size=64).eval()


def write(folder: Path, vision: Any = VISION, *, without: str = "", pickled: bool = False) -> Path:
    """A repository of open_clip: the tower, what projects it, and some of the text's tower."""
    trunk = {f"visual.trunk.{name}": one for name, one in network().state_dict().items()}
    state = {
        **{name: one for name, one in trunk.items() if name != f"visual.trunk.{without}"},
        "visual.head.proj.weight": torch.zeros(4, 64),
        "text.proj.0.weight": torch.zeros(4, 4),
    }
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": {"vision_cfg": vision, "text_cfg": {}}, "preprocess_cfg": READING}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    if pickled:
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("pickled", [False, True])
def test_the_tower_is_found_and_loaded_whole(
    tmp_path: Path, load: Callable[..., Backbone], *, pickled: bool
) -> None:
    backbone = load(write(tmp_path, pickled=pickled), allow_pickle=pickled)
    assert backbone.side == 64
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.facts["tower"] == "vision tower of open_clip"
    assert len(backbone.facts["weights_sha256"]) == 64
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network().forward_intermediates(pixels, intermediates_only=True)[-1]
    assert torch.allclose(backbone.module(pixels)["map3"], expected, atol=1e-6)


def test_what_is_not_whole_safe_or_of_timm_is_refused(
    tmp_path: Path, load: Callable[..., Backbone]
) -> None:
    with pytest.raises(ModelError, match=r"lacks 1 tensors of the vision tower \(norm.weight"):
        load(write(tmp_path / "torn", without="norm.weight"))
    with pytest.raises(ModelError, match=r"no open_clip_model.safetensors.*allow_pickle: true"):
        load(write(tmp_path / "pickle", pickled=True))
    with pytest.raises(ModelError, match="open_clip's own"):
        load(write(tmp_path / "own", {"layers": 12, "width": 768}))
    with pytest.raises(ModelError, match="built on 'test_none', which timm"):
        load(write(tmp_path / "unknown", {"timm_model_name": "test_none"}))
    with pytest.raises(ModelError, match="holds another tower: size mismatch"):
        load(write(tmp_path / "other", {**VISION, "image_size": 96}))
    (tmp_path / "own" / "open_clip_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"is no config of open_clip \(KeyError"):
        load(tmp_path / "own")


def test_another_side_is_looked_at_with_positions_interpolated(
    tmp_path: Path, load: Callable[..., Backbone]
) -> None:
    write(tmp_path)
    wide = load(tmp_path, options={"image_size": 96})
    assert wide.side == 96
    assert wide.module(torch.zeros(1, 3, 96, 96))["map0"].shape[-1] == 6


def test_random_weights_are_drawn_by_the_seed(
    tmp_path: Path, load: Callable[..., Backbone]
) -> None:
    folder = write(tmp_path)
    pixels = torch.rand(1, 3, 64, 64)
    one, same, other = (
        load(folder, weights="random", seed=seed).module(pixels)["map0"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
