"""Contact sheets: a page with the pictures on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from candlemark.candles.series import CandleSeries
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sheet import contact_sheet
from candlemark.errors import ConfigError


@pytest.mark.parametrize(
    "changes",
    [
        {"style": "jkx"},
        {"style": {"kind": "candlestick", "height": 300, "width": 500}},
        {"style": {"kind": "ohlc4", "height": 40}},
        {"label": {"name": "forward_return", "classes": 3}},
    ],
)
def test_the_sheet_shows_every_split(
    make_dataset: Callable[..., Dataset], tmp_path: Path, changes: dict[str, Any]
) -> None:
    dataset = make_dataset(**changes)
    path = contact_sheet(dataset, tmp_path / "sheet.png", per_split=5, columns=4)
    assert [file.name for file in tmp_path.glob("*.png")] == ["sheet.png"]
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape[0] > pixels.shape[1] / 4
    colors = {tuple(color) for color in pixels.reshape(-1, 3)[::7].tolist()}
    assert len(colors) > 10


def test_pictures_stand_on_the_sheet_pixel_for_pixel(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = make_dataset(style={"kind": "jkx", "height": 208, "moving_averages": []})
    path = contact_sheet(dataset, tmp_path / "sheet.png", per_split=1)
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("L"))
    rows = dataset.split("train")
    image = dataset.images([rows[len(rows) // 2]])[0]
    height, width = image.shape
    found = [
        (y, x)
        for y in range(80, 160)
        for x in range(20, 40)
        if np.array_equal(pixels[y : y + height, x : x + width], image)
    ]
    assert len(found) == 1


def test_several_symbols(
    make_series: Callable[..., CandleSeries],
    make_dataset: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    names = ("A", "B", "C", "D", "E")
    series = [make_series(200, symbol=name, seed=n) for n, name in enumerate(names)]
    assert contact_sheet(make_dataset(series=series), tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("wrong", [{"per_split": 0}, {"columns": 0}])
def test_empty_sheets_are_refused(
    make_dataset: Callable[..., Dataset], tmp_path: Path, wrong: dict[str, int]
) -> None:
    with pytest.raises(ConfigError, match="both must be at least 1"):
        contact_sheet(make_dataset(), tmp_path / "sheet.png", **wrong)
