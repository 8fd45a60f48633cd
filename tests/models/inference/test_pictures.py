"""Synthetic pictures, and who turns them into a model's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from candlemark.errors import ModelError
from candlemark.models.inference.base import Described, InputShape
from candlemark.models.inference.pictures import (
    choose_side,
    find_reader,
    make_pictures,
    plain_reader,
    published_side,
    raw_side,
)
from candlemark.models.inference.request import LoadRequest


def request(folder: Path | None = None, side: int | None = None) -> LoadRequest:
    return LoadRequest(
        described=Described(
            id="mine",
            library="transformers",
            model_task="image-classification",
            model_class="ViTForImageClassification",
            weights="random",
            folder=folder,
        ),
        file=None,
        shape=InputShape(image_size=side),
    )


def test_a_picture_depends_on_its_seed_and_place_alone() -> None:
    many = make_pictures(5, 48, seed=3)
    assert many.shape == (5, 48, 48, 3)
    assert many.dtype == np.uint8
    assert np.array_equal(make_pictures(2, 48, seed=3), many[:2])
    assert not np.array_equal(make_pictures(1, 48, seed=4)[0], many[0])
    assert len({picture.tobytes() for picture in many}) == 5


def test_pictures_are_smooth_and_use_the_whole_range() -> None:
    pictures = make_pictures(4, 128, seed=0).astype(float)
    steps = np.abs(np.diff(pictures, axis=1)).mean()
    assert steps < 0.25 * pictures.std()
    for picture in pictures:
        assert picture.min() < 60
        assert picture.max() > 195


KINDS = [
    *("ViT", "ResNet", "ConvNext", "EfficientNet", "Levit", "Swin", "Dinov2", "Detr", "Yolos"),
    *("Segformer", "MaskFormer", "Sam", "CLIP", "Siglip", "Blip", "Llava"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_processor_gives_squares_of_the_side_that_is_asked(kind: str) -> None:
    config = getattr(transformers, f"{kind}Config")()
    for side in (64, 96):
        reader = find_reader(request(), config, side=side)
        pixels = reader.read(make_pictures(2, raw_side(side), 0))
        assert pixels.shape == (2, 3, side, side)
        assert pixels.dtype == torch.float32
        assert "ImageProcessor" in reader.source


def test_a_side_that_a_processor_rounds_is_refused() -> None:
    with pytest.raises(ModelError, match=r"image_size = 40; .* 32 x 32 px of it: ask for 32"):
        find_reader(request(), transformers.YolosConfig(), side=40)


def test_the_checkpoints_own_processor_goes_first(tmp_path: Path) -> None:
    own = transformers.ViTImageProcessor(
        size={"height": 40, "width": 40}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    )
    own.save_pretrained(tmp_path)
    pictures = make_pictures(3, 60, seed=1)
    asked = request(tmp_path)
    assert published_side(asked) == 40
    assert choose_side(asked, transformers.ViTConfig(image_size=224)) == 40
    reader = find_reader(asked, transformers.CLIPConfig(), side=40)
    assert reader.source == "the checkpoint's own image processor"
    theirs = own(images=list(pictures), return_tensors="pt")["pixel_values"]
    assert torch.equal(reader.read(pictures), theirs)
    smaller = find_reader(asked, transformers.CLIPConfig(), side=32).read(pictures)
    assert smaller.shape == (3, 3, 32, 32)


def test_published_mean_and_deviation_go_before_the_librarys() -> None:
    grey = np.full((1, 48, 48, 3), 51, np.uint8)
    reader = find_reader(
        request(), transformers.ViTConfig(), side=32, mean=(0.1, 0.1, 0.1), std=(0.5, 0.5, 0.5)
    )
    assert torch.allclose(reader.read(grey), torch.tensor(0.2), atol=1e-6)
    assert "published mean" in reader.source


def test_the_plain_reader_resizes_scales_and_normalises() -> None:
    read = plain_reader(16, (0.5, 0.2, 0.0), (0.5, 0.1, 1.0)).read
    colour = np.full((2, 24, 24, 3), (255, 51, 0), np.uint8)
    expected = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(2, 3, 16, 16)
    assert torch.allclose(read(colour), expected, atol=1e-6)


def test_the_side_is_asked_then_of_the_config_then_of_the_kind() -> None:
    assert choose_side(request(side=96), transformers.ViTConfig(image_size=64)) == 96
    assert choose_side(request(), transformers.ViTConfig(image_size=64)) == 64
    assert choose_side(request(), transformers.YolosConfig(image_size=[512, 864])) == 800
    assert choose_side(request(), transformers.DetrConfig()) == 800
    assert choose_side(request(), transformers.BertConfig()) == 224


def test_a_damaged_processor_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "preprocessor_config.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="no readable JSON") as caught:
        published_side(request(tmp_path))
    assert "\n" not in str(caught.value)
    for other in ("[]", '{"image_processor": 5}'):
        file.write_text(other, encoding="utf-8")
        with pytest.raises(ModelError, match="does not hold settings by name"):
            published_side(request(tmp_path))
    file.write_text('{"image_processor_type": "NobodysImageProcessor"}', encoding="utf-8")
    with pytest.raises(ModelError, match="the image processor of mine cannot be built") as caught:
        published_side(request(tmp_path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500  # the library names all that it knows
