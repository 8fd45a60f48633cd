"""The figure of what a model looked at: where the veil lies, and what is said without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from candlemark.errors import ConfigError
from candlemark.report.attention import draw_attention

PROBABILITIES = {"bearish": 0.2, "neutral": 0.3, "bullish": 0.5}
CHART = np.full((64, 96, 3), 255, dtype=np.uint8)


def drawn(tmp_path: Path, image: Any, attention: Any, **options: Any) -> np.ndarray[Any, Any]:
    path = draw_attention(
        image,
        attention,
        tmp_path / "why.png",
        title="BTCUSDT 1h",
        probabilities=PROBABILITIES,
        forecast="next close 94,250 (93,600 to 94,900, 90 %)",
        **options,
    )
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.int64)


def tinted(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where a pixel is orange, as only the veil is."""
    red, green, blue = np.moveaxis(picture, 2, 0)
    where: np.ndarray[Any, Any] = (red > green + 25) & (green > blue + 25)
    return where


def test_the_veil_lies_where_the_model_looked(tmp_path: Path) -> None:
    attention = np.zeros((64, 96))
    attention[:20, :30] = 1.0
    veil = tinted(drawn(tmp_path, CHART, attention))
    rows, columns = np.nonzero(veil)
    assert len(rows) > 1000
    assert rows.mean() < veil.shape[0] / 2
    assert columns.mean() < veil.shape[1] / 3


def test_no_attention_and_an_even_one_leave_the_chart_alone(tmp_path: Path) -> None:
    for attention in (None, np.full((64, 96), 0.01)):
        assert tinted(drawn(tmp_path, CHART, attention)).sum() < 50


def test_the_reason_for_none_changes_the_figure(tmp_path: Path) -> None:
    plain = drawn(tmp_path, CHART, None)
    said = drawn(tmp_path, CHART, None, note="the model was shown text alone")
    assert plain.shape != said.shape or np.any(plain != said)


@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 3), (3, 64, 96), (500, 60), (40, 900)])
def test_every_layout_and_proportion_is_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    picture = drawn(tmp_path, np.zeros(shape, dtype=np.uint8), None)
    assert 0.25 < picture.shape[0] / picture.shape[1] < 1.0
    dark = (picture.sum(axis=2) < 30).mean()
    assert dark > 0.1  # the chart itself, which is black


@pytest.mark.parametrize(
    ("image", "attention", "message"),
    [
        (CHART.astype(np.float64), None, r"the chart is float64 \(64, 96, 3\); expected uint8"),
        (np.zeros((4, 4, 4), dtype=np.uint8), None, r"the chart is uint8 \(4, 4, 4\)"),
        (CHART, np.ones((8, 8)), r"attention is \(8, 8\) over a chart of \(64, 96\)"),
        (CHART, np.full((64, 96), -1.0), "attention holds negative numbers, NaN or infinity"),
        (CHART, np.full((64, 96), np.nan), "attention holds negative numbers, NaN or infinity"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, image: Any, attention: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        drawn(tmp_path, image, attention)
    assert list(tmp_path.iterdir()) == []


def test_words_are_drawn_as_they_are_whatever_signs_they_hold(tmp_path: Path) -> None:
    for title in ("a $\\b$.png", "$_{^$ 日本 🕯"):
        draw_attention(
            CHART,
            None,
            tmp_path / "why.png",
            title=title,
            probabilities={"$_{^$": 1.0},
            forecast="$_{^$",
            note="$_{^$",
        )
    assert (tmp_path / "why.png").is_file()
