"""Classifiers from random and from real weights, and every way they can be refused."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.adapter import Classifier
from candlemark.models.catalog import CATALOG, MODEL_SETS, ModelSpec, resolve
from candlemark.models.vision import load_classifier

RESNET = "timm/test_resnet.r160_in1k"
VIT = "timm/test_vit.r160_in1k"
SHAPE = (64, 96)


@pytest.fixture(autouse=True)
def offline_without_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks the network, whatever lies in this machine's Hub cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.set_num_threads(1)


def load(
    model: str | ModelSpec,
    *,
    weights: str | Path = "random",
    classes: int = 2,
    shape: tuple[int, ...] = SHAPE,
    seed: int = 0,
    allow_pickle: bool = False,
) -> Classifier:
    return load_classifier(
        resolve(model) if isinstance(model, str) else model,
        weights=weights,
        class_count=classes,
        image_shape=shape,
        seed=seed,
        allow_pickle=allow_pickle,
    )


def contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses the channels-last layout."""
    return {name: tensor.contiguous() for name, tensor in state.items()}


def small(model_type: str) -> ModelSpec:
    """A transformers model of the catalog, shrunk so that a test can afford it."""
    base = CATALOG[model_type]
    smaller: dict[str, dict[str, Any]] = {
        "google/vit-base-patch16-224": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
        "microsoft/resnet-50": {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]},
        "facebook/levit-128S": {"hidden_sizes": [32, 48, 64], "depths": [1, 1, 1]},
    }
    return ModelSpec(
        id=base.id,
        library=base.library,
        family=base.family,
        image_size=base.image_size,
        parameters=None,
        fixed_size=base.fixed_size,
        architecture=base.architecture,
        config_class=base.config_class,
        config={**base.config, **smaller[model_type]},
        mean=base.mean,
        std=base.std,
    )


def logits(classifier: Classifier, shape: tuple[int, ...] = (2, *SHAPE)) -> Tensor:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())
    with torch.no_grad():
        out: Tensor = classifier.module(classifier.prepare(images))
    return out


@pytest.mark.parametrize("model_id", MODEL_SETS["demo"])
def test_the_demo_models_build_from_a_seed(model_id: str) -> None:
    first, second, other = load(model_id), load(model_id), load(model_id, seed=1)
    for name, tensor in first.module.state_dict().items():
        assert torch.equal(tensor, second.module.state_dict()[name])
    assert not torch.equal(
        torch.cat([p.flatten() for p in first.module.parameters()]),
        torch.cat([p.flatten() for p in other.module.parameters()]),
    )
    assert logits(first).shape == (2, 2)
    assert first.facts["head"] == "newly initialised"
    assert first.facts["weights"] == "random"


def test_loading_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load(RESNET)
    assert torch.equal(torch.rand(2), expected)


def test_prepare_scales_normalises_and_repeats_grey() -> None:
    classifier = load(RESNET)
    image = torch.zeros((1, *SHAPE), dtype=torch.uint8)
    image[0, 3, 5] = 255
    ready = classifier.prepare(image)
    assert ready.shape == (1, 3, *SHAPE)
    assert ready.is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        mean, std = classifier.mean[channel], classifier.std[channel]
        assert float(ready[0, channel, 3, 5]) == pytest.approx((1 - mean) / std)
        assert float(ready[0, channel, 0, 0]) == pytest.approx(-mean / std)


def test_prepare_keeps_colours_in_their_channels() -> None:
    classifier = load(RESNET, shape=(*SHAPE, 3))
    image = torch.zeros((1, *SHAPE, 3), dtype=torch.uint8)
    image[..., 1] = 255
    ready = classifier.prepare(image)
    assert ready[0, 1].min() > 0 > ready[0, 0].max()


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros((1, 64, 95), dtype=torch.uint8),
        torch.zeros((1, 64, 96)),
        torch.zeros((1, 64, 96, 4), dtype=torch.uint8),
    ],
)
def test_prepare_refuses_other_images(image: Tensor) -> None:
    with pytest.raises(ModelError, match=r"images of shape|channels are 3 or none"):
        load(RESNET).prepare(image)


def test_patches_are_completed_before_the_first_row_and_column() -> None:
    """The newest candle stays at the right edge, where every window has it."""
    classifier = load(VIT, shape=(60, 100))
    assert classifier.input_shape == (64, 112)
    image = torch.full((1, 60, 100), 255, dtype=torch.uint8)
    ready = classifier.prepare(image)
    assert ready.shape == (1, 3, 64, 112)
    assert (ready[:, :, :4] == 0).all()
    assert (ready[:, :, :, :12] == 0).all()
    assert (ready[:, :, 4:, 12:] > 0).all()
    assert not ready.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("model_id", ["google/vit-base-patch16-224", "microsoft/resnet-50"])
def test_transformers_models_are_built_for_the_size_asked(model_id: str) -> None:
    classifier = load(small(model_id), classes=3)
    assert logits(classifier).shape == (2, 3)
    assert classifier.facts["published_parameters"] is None


@pytest.mark.parametrize("model", [RESNET, VIT, "facebook/levit-128S", "microsoft/resnet-50"])
def test_the_head_follows_the_features(model: str) -> None:
    shape = (64, 64)
    classifier = load(small(model) if model.startswith(("face", "micro")) else model, shape=shape)
    ready = classifier.prepare(torch.randint(0, 256, (2, *shape), dtype=torch.uint8))
    with torch.no_grad():
        apart = classifier.module.head(classifier.module.features(ready))
        assert torch.allclose(apart, classifier.module(ready), atol=1e-5)


def test_levit_records_its_class_and_both_heads() -> None:
    facts = load(small("facebook/levit-128S"), shape=(64, 64)).facts
    assert facts["model_class"] == "LevitForImageClassificationWithTeacher"
    assert facts["heads"] == ["classifier", "classifier_distill"]


def test_a_size_the_model_cannot_take_is_refused_with_what_it_can() -> None:
    with pytest.raises(ModelError, match=r"64 high and 96 wide.*squares of whole patches"):
        load(small("facebook/levit-128S"))
    with pytest.raises(ModelError, match="smallest square it runs on is about 32x32"):
        load("timm/edgenext_xx_small.in1k", shape=(8, 8))
    with pytest.raises(ModelError, match="class_count = 1; a classifier needs 2 or more"):
        load(RESNET, classes=1)


def test_no_network_and_no_cache_names_the_way_out_at_once() -> None:
    started = time.monotonic()
    for model_id in ("microsoft/resnet-50", "timm/ghostnet_100.in1k", "resnet18"):
        with pytest.raises(ModelError, match=r"not in the Hub cache.*use --weights random"):
            load(model_id, weights="pretrained")
    assert time.monotonic() - started < 20


def test_a_hub_that_does_not_answer_is_found_out_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = time.monotonic()
    with pytest.raises(ModelError, match=f"127.0.0.1:{port} cannot be reached"):
        load("microsoft/resnet-50", weights="pretrained")
    assert time.monotonic() - started < 10


def test_a_timm_model_nobody_published_weights_of() -> None:
    with pytest.raises(ModelError, match="nobody published weights of timm/test_coatnet"):
        load("timm/test_coatnet", weights="pretrained")


def test_weights_from_a_file_give_the_same_answers(tmp_path: Path) -> None:
    for model in (RESNET, small("microsoft/resnet-50")):
        trained = load(model, seed=5)
        file = tmp_path / "weights.safetensors"
        save_file(contiguous(trained.module.state_dict()), file)
        loaded = load(model, weights=file)
        images = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
        with torch.no_grad():
            ready = loaded.prepare(images)
            assert torch.equal(loaded.module(ready), trained.module(ready))
        assert loaded.facts["head"] == "from weights"
        assert load(model, weights=file, classes=3).facts["head"] == "newly initialised"


def test_weights_that_miss_a_backbone_tensor_are_refused(tmp_path: Path) -> None:
    for model, name in ((RESNET, "conv1"), (small("microsoft/resnet-50"), "embedder")):
        state = load(model).module.network.state_dict()
        partial = {key: value for key, value in state.items() if name not in key}
        assert len(partial) < len(state)
        file = tmp_path / "partial.safetensors"
        save_file(contiguous(partial), file)
        with pytest.raises(ModelError, match=r"lacks|Missing key|cannot be built"):
            load(model, weights=file)


def test_a_pickle_needs_leave_and_a_missing_path_is_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    torch.save(load(RESNET, seed=5).module.network.state_dict(), file)
    with pytest.raises(ModelError, match=r"is not safetensors.*--allow-pickle"):
        load(RESNET, weights=file)
    assert load(RESNET, weights=file, allow_pickle=True).facts["head"] == "from weights"
    with pytest.raises(ModelError, match="allowed: pretrained, random, or the path"):
        load(RESNET, weights=tmp_path / "nothing.safetensors")
    with pytest.raises(ModelError, match="holds only a pickle"):
        load(RESNET, weights=tmp_path)


def saved_transformers(folder: Path, *, safe: bool) -> str:
    """A small ViT for 64x64 images, as its library saves it."""
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=64,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=5,
    )
    network = transformers.ViTForImageClassification(config)
    network.save_pretrained(folder)
    if not safe:
        file = folder / "model.safetensors"
        torch.save(load_file(file), folder / "pytorch_model.bin")
        file.unlink()
    return str(folder)


def test_a_transformers_folder_loads_whole_with_a_new_head(tmp_path: Path) -> None:
    folder = saved_transformers(tmp_path, safe=True)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}), encoding="utf-8"
    )
    classifier = load(folder, weights="pretrained", shape=(64, 64))
    ours = classifier.module.network.state_dict()
    theirs = load(folder, weights="pretrained", classes=5, shape=(64, 64)).module.network
    original = load_file(tmp_path / "model.safetensors")
    for name, tensor in theirs.state_dict().items():
        assert any(torch.equal(tensor, saved) for saved in original.values()), name
        assert name.startswith("classifier.") or torch.equal(ours[name], tensor)
    assert classifier.mean == (0.1, 0.2, 0.3)
    assert classifier.facts["head"] == "newly initialised"
    again = load(folder, weights="pretrained", classes=5, shape=(64, 64))
    assert again.facts["head"] == "from weights"


def test_pretrained_positions_are_interpolated_to_another_size(tmp_path: Path) -> None:
    folder = saved_transformers(tmp_path, safe=True)
    classifier = load(folder, weights="pretrained", shape=(64, 128))
    assert classifier.facts["positions_interpolated"]
    assert logits(classifier, (2, 64, 128)).shape == (2, 2)


def test_a_transformers_pickle_needs_leave(tmp_path: Path) -> None:
    folder = saved_transformers(tmp_path, safe=False)
    with pytest.raises(ModelError, match="holds only a pickle"):
        load(folder, weights="pretrained", shape=(64, 64))
    loaded = load(folder, weights="pretrained", shape=(64, 64), allow_pickle=True)
    assert loaded.facts["weights_file"] == "pytorch_model.bin"


def test_a_transformers_folder_without_its_backbone_is_refused(tmp_path: Path) -> None:
    folder = saved_transformers(tmp_path, safe=True)
    file = tmp_path / "model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if "attention" not in k}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks .* tensors of ViTForImageClassification"):
        load(folder, weights="pretrained", shape=(64, 64))


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "strange",
                "auto_map": {
                    "AutoConfig": "code.Config",
                    "AutoModelForImageClassification": "code.Model",
                },
            }
        ),
        encoding="utf-8",
    )
    (tmp_path / "code.py").write_text("raise SystemExit('ran')\n", encoding="utf-8")
    save_file({"w": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="cannot be built"):
        load(str(tmp_path), weights="pretrained")


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_real_pretrained_weights_load_both_ways(library: str, shared_data: Path) -> None:
    folder = shared_data / "models" / "efficientnet-lite0-timm"
    spec = resolve(str(folder), library="transformers" if library == "transformers" else None)
    assert spec.library == library
    whole = load(spec, weights="pretrained", classes=1000)
    assert whole.facts["parameters"] == 4_652_008
    assert whole.facts["head"] == "from weights"
    assert (whole.mean, whole.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    ours = load(spec, weights="pretrained", classes=2)
    saved = load_file(folder / "model.safetensors")
    state = ours.module.network.state_dict()
    for name in saved.keys() - {"classifier.weight", "classifier.bias"}:
        assert torch.equal(
            state[f"timm_model.{name}" if library == "transformers" else name], saved[name]
        )
    assert ours.facts["head"] == "newly initialised"


def test_both_libraries_give_the_same_answers(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "models" / "efficientnet-lite0-timm"
    copy = shutil.copytree(folder, tmp_path / "copy")
    by_timm = load(resolve(str(copy)), weights="pretrained", classes=1000)
    other = load(resolve(str(copy), library="transformers"), weights="pretrained", classes=1000)
    images = torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8)
    with torch.no_grad():
        first = by_timm.module(by_timm.prepare(images))
        second = other.module(other.prepare(images))
    assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize(
    "model_id", sorted(spec.id for spec in CATALOG.values() if spec.library == "transformers")
)
def test_random_weights_let_the_picture_through(model_id):
    """A library's own initialisation may shrink every signal to nothing on the way."""
    classifier = load_classifier(
        resolve(model_id), weights="random", class_count=2, image_shape=(224, 224, 3), seed=0
    )
    images = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits = classifier.module.train()(classifier.prepare(images))
    assert logits.std(dim=0).max() > 1e-4
