"""Styles as configs: defaults, sizes, names and what is refused."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from candlemark.charts.style import (
    STYLES,
    ChartStyle,
    history_slots,
    image_shape,
    resolve_style,
    smallest_width,
)
from candlemark.config import parse
from candlemark.errors import ChartError, ConfigError


@pytest.mark.parametrize(
    ("window", "shape"),
    [
        (1, (32, 3)),
        (5, (32, 15)),
        (12, (47, 36)),
        (20, (64, 60)),
        (30, (72, 90)),
        (60, (96, 180)),
        (100, (128, 300)),
    ],
)
def test_jkx_sizes_pass_through_the_published_ones(window: int, shape: tuple[int, int]) -> None:
    assert image_shape(STYLES["jkx"], window) == shape


def test_sizes_given_win_over_the_style_and_the_kind() -> None:
    style = ChartStyle(kind="ohlc4", height=64)
    assert image_shape(STYLES["ohlc4"], 100) == (500, 400)
    assert image_shape(style, 100) == (64, 400)
    assert image_shape(style, 100, height=65, width=401) == (65, 401)
    assert image_shape(STYLES["candlestick"], 224) == (224, 224, 3)


@pytest.mark.parametrize("kind", STYLES)
def test_the_smallest_width_named_is_drawable(kind: str) -> None:
    width = smallest_width(STYLES[kind], 30)
    assert image_shape(STYLES[kind], 30, width=width)[1] == width
    with pytest.raises(ChartError, match=f"width of at least {width}"):
        image_shape(STYLES[kind], 30, width=width - 1)


def test_history_is_what_the_longest_average_reads() -> None:
    assert history_slots(STYLES["ohlc4"], 30) == 0
    assert history_slots(STYLES["jkx"], 20) == 19
    assert history_slots(ChartStyle(kind="candlestick", moving_averages=(7, 25)), 30) == 24


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "renko"}, "kind = 'renko'"),
        ({"kind": "ohlc4", "volume": True}, "ohlc4 draws bars only"),
        ({"kind": "ohlc4", "moving_averages": [5]}, "ohlc4 draws bars only"),
        ({"kind": "jkx", "moving_averages": [0]}, "a moving average of 0 slots; allowed: 1 to"),
        ({"kind": "jkx", "moving_averages": [1, 2, 3, 4, 5]}, "moving_averages"),
        ({"kind": "jkx", "height": 0}, "height = 0"),
        ({"kind": "jkx", "colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_style_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(ChartStyle, wrong)


def test_an_installed_package_can_offer_a_style(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = metadata.EntryPoint(
        name="square", value="candlemark.charts.style:STYLES", group="candlemark.styles"
    )
    good = metadata.EntryPoint(
        name="plain", value="candlemark.charts.style:ChartStyle", group="candlemark.styles"
    )
    preset = ChartStyle(kind="candlestick", height=64, width=64)
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: (offered, good))
    monkeypatch.setattr(
        metadata.EntryPoint,
        "load",
        lambda entry: preset if entry.name == "plain" else STYLES,
    )
    assert resolve_style("plain") is preset
    assert resolve_style("jkx") is STYLES["jkx"]
    assert resolve_style(preset) is preset
    with pytest.raises(ChartError, match=r"candlemark\.styles:square is a dict; it must name"):
        resolve_style("square")
    with pytest.raises(ChartError, match="known: ohlc4, jkx, candlestick, square, plain"):
        resolve_style("plan")
