"""Answers are what the network computes, in words of people; what it cannot read is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from candlemark.errors import ConfigError, ModelError
from candlemark.models.fusion.building import Fusion
from candlemark.models.fusion.predictor import (
    BATCH,
    NO_FORECAST,
    NO_INTERVAL,
    Predictor,
    fit_picture,
    read_picture,
    shown_name,
    spread,
)
from candlemark.models.fusion.saving import save_fusion

MakeFusion = Callable[..., Fusion]
RETURNS = {
    "mean": 0.001,
    "std": 0.02,
    "level": 0.9,
    "residual_low": -0.03,
    "residual_high": 0.05,
}
TEXTS = ["Price goes up.", "No price differs. Volume grows.", "Price goes sideways."]
CLOSE = 200.0


def pictures(fusion: Fusion, count: int, *, grey: bool = False, seed: int = 0) -> Any:
    high, wide = fusion.config.chart["image_shape"]
    shape = (count, high, wide) if grey else (count, high, wide, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def given(fusion: Fusion, count: int = 3) -> dict[str, Any]:
    """All that a model reads, of `count` samples."""
    found: dict[str, Any] = {}
    if fusion.config.reads_image:
        found["images"] = pictures(fusion, count)
    if fusion.config.reads_text:
        found["texts"] = [TEXTS[row % 3] for row in range(count)]
    if fusion.config.inputs == "numbers":
        window = fusion.config.numbers["window"]
        numbers = np.random.default_rng(1).random((count, window, 5), dtype=np.float32)
        numbers[:, 2] = np.nan
        found["numbers"] = numbers
    return found


@pytest.fixture(scope="module")
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.mark.parametrize("inputs", ["both", "image", "text", "numbers"])
def test_answers_are_those_of_the_network(
    inputs: str, make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(inputs=inputs)
    fusion.config.returns = RETURNS
    asked = given(fusion)
    answers = Predictor(fusion, cpu).predict(**asked, last_close=[CLOSE] * 3)

    raw: dict[str, torch.Tensor] = {}
    if "images" in asked:
        raw["images"] = torch.from_numpy(asked["images"])
    if "texts" in asked:
        raw |= fusion.tokenizer(asked["texts"], padding=True, return_tensors="pt")
    if "numbers" in asked:
        raw["numbers"] = torch.from_numpy(asked["numbers"])
    with torch.inference_mode():
        output = fusion.model(**fusion.prepare(raw))
    expected = output.logits.softmax(dim=-1).numpy()
    for row, answer in enumerate(answers):
        assert list(answer.probabilities) == ["bearish", "neutral", "bullish"]
        shares = list(answer.probabilities.values())
        np.testing.assert_allclose(shares, expected[row], atol=1e-5)
        assert sum(shares) == pytest.approx(1)
        assert answer.label == max(answer.probabilities, key=answer.probabilities.get)
        assert answer.log_return == pytest.approx(
            0.001 + 0.02 * float(output.forecast[row]), abs=1e-6
        )


def test_the_interval_surrounds_the_forecast_and_becomes_prices(
    make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(inputs="image")
    fusion.config.returns = RETURNS
    (answer,) = Predictor(fusion, cpu).predict(pictures(fusion, 1), last_close=[CLOSE])
    forecast = answer.log_return
    assert answer.log_return_low == forecast - 0.03
    assert answer.log_return_high == forecast + 0.05
    assert answer.level == 0.9
    assert answer.next_close == CLOSE * math.exp(forecast)
    assert answer.next_close_low == CLOSE * math.exp(forecast - 0.03)
    assert answer.next_close_high == CLOSE * math.exp(forecast + 0.05)
    assert answer.interval_reason is None
    told = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert told["label"] == answer.label
    assert told["next_close_high"] == answer.next_close_high
    assert "attention" not in told


@pytest.mark.parametrize(
    ("returns", "forecast_reason", "interval_reason"),
    [
        ({}, NO_FORECAST, NO_FORECAST),
        ({"mean": 0.0, "std": 1.0}, None, NO_INTERVAL),
        (
            {**RETURNS, "residual_low": None, "reason": "7 cases, 90% needs 19"},
            None,
            "7 cases, 90% needs 19",
        ),
    ],
)
def test_what_cannot_be_said_is_none_with_a_reason(
    returns: dict[str, Any],
    forecast_reason: str | None,
    interval_reason: str,
    make_fusion: MakeFusion,
    cpu: torch.device,
) -> None:
    fusion = make_fusion(inputs="image")
    fusion.config.returns = returns
    (answer,) = Predictor(fusion, cpu).predict(pictures(fusion, 1), last_close=[CLOSE])
    assert (answer.log_return is None) == (forecast_reason is not None)
    assert (answer.next_close is None) == (forecast_reason is not None)
    assert answer.forecast_reason == forecast_reason
    assert answer.log_return_low is answer.next_close_high is answer.level is None
    assert answer.interval_reason == interval_reason


@pytest.mark.parametrize("close", [None, 0.0, -3.0])
def test_without_a_price_to_start_from_there_is_none_to_come(
    close: float | None, make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(inputs="image")
    fusion.config.returns = RETURNS
    (answer,) = Predictor(fusion, cpu).predict(pictures(fusion, 1), last_close=[close])
    assert answer.next_close is answer.next_close_low is answer.next_close_high is None
    assert answer.log_return_low is not None


def test_many_samples_are_answered_as_each_alone(
    make_fusion: MakeFusion, cpu: torch.device
) -> None:
    predictor = Predictor(make_fusion(), cpu)
    count = BATCH + 3
    images = pictures(predictor.fusion, count)
    texts = [TEXTS[row % 3] for row in range(count)]
    closes = [CLOSE + row for row in range(count)]
    predictor.config.returns = RETURNS
    together = predictor.predict(images, texts, last_close=closes)
    assert len(together) == count
    for row in (0, 1, 2, BATCH, count - 1):
        (alone,) = predictor.predict([images[row]], [texts[row]], last_close=[closes[row]])
        np.testing.assert_allclose(
            list(alone.probabilities.values()),
            list(together[row].probabilities.values()),
            atol=1e-5,
        )
        np.testing.assert_allclose(alone.attention, together[row].attention, atol=1e-6)
        assert alone.next_close == pytest.approx(together[row].next_close, rel=1e-6)


def test_attention_lies_on_the_chart_where_its_patches_are(
    make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(shape=(30, 45))  # patches of 8: filled up above and to the left
    predictor = Predictor(fusion, cpu)
    images = pictures(fusion, 2)
    answers = predictor.predict(images, TEXTS[:2])
    high, wide = fusion.config.chart["input_shape"]
    rows, columns = fusion.config.image_tokens["grid"]
    assert (high, wide) != (30, 45)
    assert answers[0].attention_reason is None

    read = fusion.tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    prepared = fusion.prepare({"images": torch.from_numpy(images), **read})
    with torch.inference_mode():
        weights = fusion.model(**prepared, output_attentions=True).attentions.mean(dim=1)
    patch = (high // rows, wide // columns)
    for answer, row in zip(answers, weights.numpy(), strict=True):
        whole = np.kron(row.reshape(rows, columns), np.ones(patch)) / (patch[0] * patch[1])
        assert answer.attention.dtype == np.float32
        assert answer.attention.shape == (30, 45)
        np.testing.assert_allclose(answer.attention, whole[-30:, -45:], rtol=1e-4)
        assert 0 < answer.attention.sum() < 1


def test_spread_shares_each_weight_over_its_patch() -> None:
    weights = np.arange(1.0, 7.0)[None] / 21
    (density,) = spread(weights, (2, 3), (5, 7))
    assert density.sum() == pytest.approx(1)
    corners = {(0, 0): 1, (0, -1): 3, (-1, 0): 4, (-1, -1): 6}
    for (row, column), weight in corners.items():
        area = (density == density[row, column]).sum()
        assert density[row, column] * area == pytest.approx(weight / 21)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"fusion": "late"}, "the fusion 'late' has no attention"),
        ({"fusion": "image_to_text"}, "in the fusion 'image_to_text' no text asks the picture"),
        ({"inputs": "image"}, "a model of pictures alone has no text that asks them"),
        ({"inputs": "text"}, "a model of texts looks at no chart"),
        ({"inputs": "numbers"}, "a model of numbers looks at no chart"),
    ],
)
def test_without_attention_there_is_a_reason(
    spec: dict[str, str], reason: str, make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(**spec)
    (answer,) = Predictor(fusion, cpu).predict(**given(fusion, 1))
    assert answer.attention is None
    assert answer.attention_reason == reason


@pytest.mark.parametrize("fusion", ["both_ways", "gated"])
def test_other_ways_to_ask_the_picture_have_attention(
    fusion: str, make_fusion: MakeFusion, cpu: torch.device
) -> None:
    made = make_fusion(fusion=fusion)
    (answer,) = Predictor(made, cpu).predict(**given(made, 1))
    assert answer.attention.shape == tuple(made.config.chart["image_shape"])


@pytest.mark.parametrize(
    ("inputs", "change", "message"),
    [
        ("both", {"texts": None}, "this model reads pictures and texts, and no texts are given"),
        ("text", {"texts": None}, "this model reads texts, and no texts are given"),
        ("image", {"texts": TEXTS}, "this model reads pictures; it has no use for texts"),
        ("numbers", {"images": "picture"}, "reads numbers; it has no use for pictures"),
        ("text", {"images": "picture"}, "reads texts; it has no use for pictures"),
        ("both", {"texts": TEXTS[:2]}, "got 3 pictures, 2 texts; there must be one of each"),
        ("image", {"last_close": [1.0]}, "got 3 pictures, 1 last closes"),
        ("image", {"images": "other"}, r"a picture uint8 \(8, 9, 3\); .* \(32, 48\[, 3\]\)"),
        ("image", {"images": "floats"}, r"a picture float64 \(32, 48, 3\)"),
        ("numbers", {"numbers": "short"}, r"numbers \(3, 4, 5\); .* windows of 12 candles"),
        ("text", {"texts": ["up " * 200] * 3}, "has 202 tokens, .* 64, and none is ever cut"),
    ],
)
def test_what_does_not_fit_is_one_line(
    inputs: str,
    change: dict[str, Any],
    message: str,
    make_fusion: MakeFusion,
    cpu: torch.device,
) -> None:
    fusion = make_fusion(inputs=inputs)
    arrays = {
        "picture": np.zeros((3, 32, 48, 3), dtype=np.uint8),
        "other": np.zeros((3, 8, 9, 3), dtype=np.uint8),
        "floats": np.zeros((3, 32, 48, 3)),
        "short": np.zeros((3, 4, 5), dtype=np.float32),
    }
    wrong = {
        name: arrays[value] if isinstance(value, str) else value for name, value in change.items()
    }
    with pytest.raises(ModelError, match=message) as told:
        Predictor(fusion, cpu).predict(**{**given(fusion), **wrong})
    assert "\n" not in str(told.value)


def test_grey_and_coloured_pictures_are_told_apart(
    make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(inputs="image")
    predictor = Predictor(fusion, cpu)
    grey = pictures(fusion, 1, grey=True)
    coloured = np.repeat(grey[..., None], 3, axis=3)
    assert predictor.predict(grey)[0].probabilities == predictor.predict(coloured)[0].probabilities
    with pytest.raises(ModelError, match="some pictures have colours and some have none"):
        predictor.predict([grey[0], coloured[0]])
    assert not predictor.is_grey
    fusion.config.chart = {**fusion.config.chart, "style": {"kind": "jkx"}}
    assert predictor.is_grey


def test_a_saved_model_answers_the_same(
    make_fusion: MakeFusion, tmp_path: Path, cpu: torch.device
) -> None:
    fusion = make_fusion()
    fusion.config.returns = RETURNS
    asked = given(fusion)
    before = Predictor(fusion, cpu).predict(**asked, last_close=[CLOSE] * 3)
    save_fusion(fusion, tmp_path / "model", training={})
    after = Predictor.load(tmp_path / "model", "cpu").predict(**asked, last_close=[CLOSE] * 3)
    for one, again in zip(before, after, strict=True):
        # Weights that lie elsewhere in memory are summed in another order.
        assert again.probabilities == pytest.approx(one.probabilities, abs=1e-6)
        assert again.next_close_low == pytest.approx(one.next_close_low, rel=1e-6)


def test_loading_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        Predictor.load(tmp_path, "cpu")
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        Predictor.load(tmp_path, "gpu")


def test_a_picture_of_the_right_size_is_left_alone(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "chart.png")
    read = read_picture(tmp_path / "chart.png")
    np.testing.assert_array_equal(read, picture)
    fitted, note = fit_picture(read, (32, 48))
    np.testing.assert_array_equal(fitted, picture)
    assert note is None


def test_another_size_is_resized_with_a_note() -> None:
    picture = np.full((64, 96, 3), 200, dtype=np.uint8)
    fitted, note = fit_picture(picture, (32, 48))
    assert fitted.shape == (32, 48, 3)
    assert (fitted == 200).all()
    assert note is not None
    assert note.startswith("the picture is 96 x 64 pixels and was resized to 48 x 32")


def test_colours_are_turned_to_grey_for_a_model_of_grey_charts() -> None:
    red = np.zeros((32, 48, 3), dtype=np.uint8)
    red[..., 0] = 255
    fitted, note = fit_picture(red, (32, 48), grey=True)
    assert fitted.shape == (32, 48)
    assert note is not None
    assert "grey" in note
    plain = np.full((32, 48, 3), 255, dtype=np.uint8)
    assert fit_picture(plain, (32, 48), grey=True)[1] is None


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "chart.png")
    assert (read_picture(tmp_path / "chart.png") == 255).all()


def test_files_that_are_no_pictures_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*gone.png; give a picture"):
        read_picture(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(ModelError, match=r"text.png is no picture that can be read"):
        read_picture(tmp_path / "text.png")
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"cut.png cannot be read as a picture"):
        read_picture(tmp_path / "cut.png")
    with pytest.raises(ModelError, match=r"cannot be read as a picture|is no picture"):
        read_picture(tmp_path)


def test_sixteen_bits_are_read_as_the_eight_that_they_show(tmp_path: Path) -> None:
    grey = np.array([[0, 1, 128, 255]], dtype=np.uint8)
    for name in ("chart.png", "chart.tif"):
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / name)
        np.testing.assert_array_equal(read_picture(tmp_path / name)[..., 0], grey)
    for kind in (np.int32, np.float32):
        Image.fromarray(grey.astype(kind)).save(tmp_path / "raw.tif")
        with pytest.raises(ModelError, match=r"raw.tif has pixels of 32 bits"):
            read_picture(tmp_path / "raw.tif")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "RGBA"])
def test_pictures_of_every_kind_are_read(mode: str, tmp_path: Path) -> None:
    drawn = np.zeros((4, 6), dtype=np.uint8)
    drawn[1, 2:] = 255
    Image.fromarray(drawn).convert("RGB").convert(mode).save(tmp_path / "chart.tif")
    found = read_picture(tmp_path / "chart.tif")
    np.testing.assert_array_equal(found, np.repeat(drawn[..., None], 3, axis=2))


def test_a_photograph_is_read_as_it_is_looked_at(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 32))
    turned = picture.getexif()
    turned[0x0112] = 6  # orientation: a quarter turn
    picture.save(tmp_path / "photo.jpg", exif=turned)
    assert read_picture(tmp_path / "photo.jpg").shape == (40, 32, 3)


def test_a_picture_without_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (50, 50)).save(tmp_path / "large.png")
    for limit in (2000, 1000):  # Pillow warns, and above twice its limit refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ModelError, match=r"large.png has too many pixels: .*2500 pixels"):
            read_picture(tmp_path / "large.png")


def test_names_are_shown_whatever_they_are_made_of() -> None:
    assert shown_name("charts/日本 $a.png") == "日本 $a.png"
    assert shown_name("a\nb\x1b[31m\udcff.png") == "a?b?[31m?.png"


@pytest.mark.parametrize("text", ["up \udcff", None, 3])
def test_what_is_no_text_is_refused(text: Any, make_fusion: MakeFusion, cpu: torch.device) -> None:
    predictor = Predictor(make_fusion(inputs="text"), cpu)
    with pytest.raises(ModelError, match=r"text 1 is .*, and no text in Unicode"):
        predictor.predict(texts=["Price goes up.", text])


@pytest.mark.parametrize("close", [1e-8, 1e8, 1.79e308, 5e-324, math.nan, math.inf, -1.0, 0.0])
def test_prices_of_any_size_become_prices_or_none(
    close: float, make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(inputs="text")
    fusion.config.returns = {**RETURNS, "mean": 700.0 if close == 1e8 else 0.001}
    (answer,) = Predictor(fusion, cpu).predict(texts=TEXTS[:1], last_close=[close])
    json.dumps(answer.to_dict(), allow_nan=False)
    if close == 1e-8:
        assert answer.next_close == pytest.approx(1e-8 * math.exp(answer.log_return), rel=1e-12)
    if not 0 < close < math.inf:
        assert answer.last_close is None
        assert answer.next_close is None


def test_weights_that_are_no_numbers_are_one_line(
    make_fusion: MakeFusion, cpu: torch.device
) -> None:
    fusion = make_fusion(inputs="text")
    with torch.no_grad():
        fusion.model.head.classifier[0].weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"answers with no numbers .*; train it again"):
        Predictor(fusion, cpu).predict(texts=TEXTS[:1])
