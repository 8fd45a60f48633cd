"""Models that see: their outputs are the library's own, and wrong sizes are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from torch import Tensor

from candlemark.errors import ModelError
from candlemark.models.catalog import CATALOG
from candlemark.models.inference.base import InferenceModel, InputShape, Tensors
from candlemark.models.inference.loading import load_model
from candlemark.models.inference.pictures import make_pictures
from candlemark.models.inference.tiny import TINY

SMALL = [
    name for name, recipe in TINY.items() if recipe.model_task.startswith(("image-", "object-"))
]
SEEING = [name for name in SMALL if name not in {"clip", "siglip", "blip"}]


@pytest.fixture(autouse=True)
def one_thread_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)


def load(model_id: str, *, weights: str = "random", side: int | None = None) -> InferenceModel:
    return load_model(model_id, weights=weights, shape=InputShape(image_size=side), seed=0)


def run(model: InferenceModel, inputs: Tensors) -> Tensors:
    with torch.no_grad():
        outputs: Tensors = model.module(**inputs)
    return outputs


@pytest.mark.parametrize("name", SEEING)
def test_the_module_gives_what_the_library_gives(name: str) -> None:
    model = load(f"tiny:{name}")
    inputs = model.preprocess(model.make_raw(3, 0))
    outputs = run(model, inputs)
    network: Any = model.module.network
    with torch.no_grad():
        theirs = network(**inputs)
    for key, tensor in outputs.items():
        expected = theirs.pooler_output if key == "features" else theirs[key]
        assert torch.equal(tensor, expected.reshape(tensor.shape))
        assert len(tensor) == 3
        assert torch.isfinite(tensor).all()
        assert tensor.std() > 1e-4
    assert next(iter(outputs.values())).std(dim=0).max() > 1e-5  # pictures differ
    assert len(model.postprocess(outputs)) == 3
    assert model.shape.image_size == model.facts["image_size"] == 64
    assert "synthetic pictures of 96 x 96 px" in model.facts["inputs"]


@pytest.mark.parametrize("name", ["resnet", "sam", "yolos"])
def test_half_precision_is_a_matter_of_moving_module_and_inputs(name: str) -> None:
    model = load(f"tiny:{name}")
    inputs = model.preprocess(model.make_raw(2, 0))
    main, expected = next(iter(run(model, inputs).items()))
    for dtype, bound in ((torch.float16, 0.02), (torch.bfloat16, 0.1)):
        model.module.to(dtype)
        outputs = run(model, {key: tensor.to(dtype) for key, tensor in inputs.items()})
        assert outputs[main].dtype == dtype
        distance = (outputs[main].float() - expected).norm() / expected.norm()
        assert distance < bound
        model.module.to(torch.float32)


def test_the_same_seed_gives_the_same_pictures_and_weights() -> None:
    first, second = load("tiny:vit"), load("tiny:vit")
    assert np.array_equal(first.make_raw(2, 7), second.make_raw(2, 7))
    assert not np.array_equal(first.make_raw(2, 7), first.make_raw(2, 8))
    inputs = first.preprocess(first.make_raw(2, 7))
    assert torch.equal(run(first, inputs)["logits"], run(second, inputs)["logits"])


def test_convolutional_networks_see_channels_last() -> None:
    model = load("tiny:resnet")
    pixels = model.preprocess(model.make_raw(2, 0))["pixel_values"]
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert model.facts["channels_last"]
    assert not load("tiny:vit").facts["channels_last"]
    assert not load("tiny:segformer").facts["channels_last"]


def test_random_weights_are_built_for_the_side_that_is_asked() -> None:
    for name, side in (("vit", 32), ("resnet", 48), ("segformer", 96), ("sam", 32)):
        model = load(f"tiny:{name}", side=side)
        inputs = model.preprocess(model.make_raw(1, 0))
        assert inputs["pixel_values"].shape == (1, 3, side, side)
        assert torch.isfinite(next(iter(run(model, inputs).values()))).all()


def test_batch_norms_of_random_weights_let_pictures_through() -> None:
    model = load("tiny:resnet")
    pixels = model.preprocess(make_pictures(4, 96, 0))["pixel_values"]
    found: list[tuple[Tensor, Tensor]] = []

    def note(_: Any, __: Any, output: Tensor) -> None:
        # At once: the library adds the shortcut to the very tensor.
        found.append((output.mean(dim=(0, 2, 3)), output.std(dim=(0, 2, 3))))

    norms = [part for part in model.module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(note)
    run(model, {"pixel_values": pixels})
    assert len(found) == len(norms) > 3
    for mean, deviation in found:
        assert mean.abs().max() < 0.2
        assert deviation.mean() == pytest.approx(1, abs=0.1)
    assert not any(norm.training for norm in norms)
    assert {norm.momentum for norm in norms} == {0.1}


def saved(folder: Path, model_class: str, config: Any, side: int) -> str:
    torch.manual_seed(0)
    getattr(transformers, model_class)(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return str(folder)


def small_vit() -> Any:
    return transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        id2label={0: "bear", 1: "bull", 2: "crab"},
    )


def test_trained_positions_are_interpolated_to_another_side(tmp_path: Path) -> None:
    folder = saved(tmp_path, "ViTForImageClassification", small_vit(), 32)
    model = load(folder, weights="pretrained")
    assert model.shape.image_size == 32
    assert not model.facts["positions_interpolated"]
    assert model.facts["weights_sha256"]
    answers = model.postprocess(run(model, model.preprocess(model.make_raw(2, 0))))
    assert [answer["label"] for answer in answers[0]] != []
    assert {answer["label"] for answer in answers[0]} == {"bear", "bull", "crab"}
    assert sum(answer["score"] for answer in answers[0]) == pytest.approx(1)
    wider = load(folder, weights="pretrained", side=48)
    inputs = wider.preprocess(wider.make_raw(2, 0))
    with torch.no_grad():
        theirs = wider.module.network(**inputs, interpolate_pos_encoding=True).logits
    assert torch.equal(run(wider, inputs)["logits"], theirs)
    assert wider.facts["positions_interpolated"]


def test_a_trained_model_of_one_size_refuses_others_in_one_line(tmp_path: Path) -> None:
    config = transformers.LevitConfig(
        image_size=64,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[1, 2, 2],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
    )
    folder = saved(tmp_path, "LevitForImageClassification", config, 64)
    assert load(folder, weights="pretrained").shape.image_size == 64
    with pytest.raises(ModelError, match="cannot be built for images of 96 x 96 px") as caught:
        load(folder, weights="pretrained", side=96)
    assert "\n" not in str(caught.value)
    assert "leave out the image size (--image-size, or image_size in a" in str(caught.value)


def test_features_without_a_trained_pooler_are_the_class_token(tmp_path: Path) -> None:
    network = transformers.ViTModel(small_vit(), add_pooling_layer=False)
    network.save_pretrained(tmp_path)
    model = load(str(tmp_path), weights="pretrained")
    assert model.model_task == "image-features"
    inputs = model.preprocess(model.make_raw(2, 0))
    with torch.no_grad():
        expected = network.eval()(**inputs).last_hidden_state[:, 0]
    features = run(model, inputs)
    assert torch.allclose(features["features"], expected, atol=1e-6)
    assert np.allclose(model.postprocess(features)[1], expected[1], atol=1e-6)


def test_real_weights_answer_as_timm_does(shared_data: Path) -> None:
    folder = shared_data / "models" / "efficientnet-lite0-timm"
    model = load(str(folder), weights="pretrained")
    assert model.facts["parameters"] == 4_652_008
    pictures = model.make_raw(2, 0)
    inputs = model.preprocess(pictures)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    settings = timm.data.resolve_model_data_config(theirs)
    transform = timm.data.create_transform(**settings)
    expected = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
    assert torch.equal(inputs["pixel_values"], expected)
    with torch.no_grad():
        logits = theirs(expected)
    assert torch.allclose(run(model, inputs)["logits"], logits, atol=1e-4)
    assert model.facts["channels_last"]
    smaller = load(str(folder), weights="pretrained", side=64)
    assert smaller.preprocess(smaller.make_raw(1, 0))["pixel_values"].shape == (1, 3, 64, 64)


def test_wrong_pictures_are_refused_in_one_line() -> None:
    model = load("tiny:vit")
    with pytest.raises(ModelError, match=r"got float32 pictures of shape \(2, 96, 96, 3\)"):
        model.preprocess(model.make_raw(2, 0).astype(np.float32))
    detector = load("tiny:detr")
    with pytest.raises(ModelError, match="built for 64 x 64: give square pictures") as caught:
        detector.preprocess(detector.make_raw(1, 0)[:, :48])
    assert "\n" not in str(caught.value)


def test_timm_models_of_the_catalog_have_their_published_size() -> None:
    model = load("timm/test_resnet.r160_in1k", side=64)
    assert model.facts["parameters"] == 469_688
    inputs = model.preprocess(model.make_raw(2, 0))
    assert run(model, inputs)["logits"].shape == (2, 1000)
    assert model.facts["library"] == "timm"


@pytest.mark.slow
@pytest.mark.parametrize("model_id", sorted(CATALOG))
def test_every_model_of_the_catalog_loads_with_random_weights(model_id: str) -> None:
    model = load(model_id)
    spec = CATALOG[model_id]
    assert model.facts["parameters"] == spec.parameters
    assert model.shape.image_size == spec.image_size
    assert model.facts["channels_last"] == (spec.family == "cnn")
    logits = run(model, model.preprocess(model.make_raw(2, 0)))["logits"]
    assert logits.shape == (2, 1000)
    assert torch.isfinite(logits).all()
    assert (logits[0] - logits[1]).abs().max() > 1e-3
