"""Where a model looked: its attention over a chart, beside what it said.

    draw_attention(
        image, attention, Path("why.png"),
        title="BTCUSDT 1h, 2025-05-01 12:00 UTC",
        probabilities={"bearish": 0.21, "neutral": 0.30, "bullish": 0.49},
        forecast="next close 94,250 (93,600 to 94,900, 90 %)",
    )

Attention says which patches a summary was made of. It is no proof of what decided: other weights
may give the same answer (Jain and Wallace, NAACL 2019). So the figure says "looked at".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.errors import ConfigError
from candlemark.report.drawing import new_figure, save_figure
from candlemark.report.style import BASELINE, INK, MODEL, MUTED, WARNING, figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.floating]

_STRONGEST = 0.75  # opacity of the most looked-at place: the chart must stay legible under it
_NARROWEST, _WIDEST = 1.0, 4.5  # width over height of the picture's panel; it is stretched to them


def draw_attention(
    image: npt.NDArray[np.uint8],
    attention: FloatArray | None,
    path: Path,
    *,
    title: str,
    probabilities: Mapping[str, float],
    forecast: str,
    note: str | None = None,
) -> Path:
    """Write a PNG: the chart, what was looked at as a veil over it, bars of the classes.

    image: uint8 (H, W), (H, W, 3) or (3, H, W)
    attention: (H, W) >= 0 of any sum, None where the model has none; `note` then says why
    probabilities: by class name, in the order to be drawn; sum to 1
    forecast: what is said of the next close, in words

    A map that is the same everywhere is drawn as such, and named.

    Raises ConfigError: shapes do not fit, or attention is negative, NaN or infinite.
    """
    picture = _channels_last(image)
    veil = None if attention is None else _veil(attention, picture.shape[:2])
    with figure_style():
        ratio = min(max(picture.shape[1] / picture.shape[0], _NARROWEST), _WIDEST)
        height = 4.2 if ratio <= 2 else 3.4
        figure = new_figure(height * 0.78 * ratio + 3.2, height)
        chart, bars = figure.subplots(1, 2, width_ratios=(height * 0.78 * ratio, 2.6))
        _chart(chart, picture, veil, _caption(attention, veil, note))
        _bars(bars, probabilities)
        # A name with two dollar signs is no formula.
        plain: dict[str, Any] = {"ha": "left", "parse_math": False}
        figure.suptitle(title, x=0.01, fontsize=11.5, fontweight="bold", **plain)
        figure.text(0.01, -0.02, forecast, va="top", fontsize=10, color=INK, **plain)
        return save_figure(figure, path)


def _channels_last(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, 3)."""
    image = np.asarray(image)
    if image.dtype == np.uint8 and image.size:
        if image.ndim == 2:
            return np.repeat(image[:, :, None], 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 3:
            return image
        if image.ndim == 3 and image.shape[0] == 3:
            return np.moveaxis(image, 0, 2)
    raise ConfigError(
        f"the chart is {image.dtype} {image.shape}; expected uint8 (H, W), (H, W, 3) or (3, H, W)"
    )


def _veil(attention: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Attention as opacity 0 to 1, strongest where it is greatest; all 0 where it is even."""
    attention = np.asarray(attention, dtype=np.float64)
    if attention.shape != tuple(shape):
        raise ConfigError(
            f"attention is {attention.shape} over a chart of {tuple(shape)}; "
            "bring it to the size of the chart first"
        )
    if not np.all(np.isfinite(attention)) or attention.min() < 0:
        raise ConfigError("attention holds negative numbers, NaN or infinity; it must be >= 0")
    least, most = float(attention.min()), float(attention.max())
    if most - least <= 1e-9 * max(most, 1e-300):
        return np.zeros_like(attention)
    return (attention - least) / (most - least)


def _caption(attention: FloatArray | None, veil: FloatArray | None, note: str | None) -> str:
    if attention is None or veil is None:
        return note or "this model has no attention over the chart"
    if not veil.any():
        return "attention is the same everywhere: nothing was singled out"
    said = "looked at: the darker, the more"
    return said if note is None else f"{said}; {note}"


def _chart(
    axes: Axes, picture: npt.NDArray[np.uint8], veil: FloatArray | None, caption: str
) -> None:
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    if veil is not None and veil.any():
        colour = np.empty((*veil.shape, 4))
        colour[..., :3] = [int(WARNING[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        colour[..., 3] = _STRONGEST * veil
        axes.imshow(colour, interpolation="bilinear", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.set_xlabel(caption, color=MUTED, fontsize=8.5, parse_math=False)


def _bars(axes: Axes, probabilities: Mapping[str, float]) -> None:
    names = list(probabilities)[::-1]
    values = [probabilities[name] for name in names]
    most = max(values, default=0.0)
    axes.barh(
        range(len(names)),
        values,
        color=[MODEL if value == most else BASELINE for value in values],
        height=0.62,
    )
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:.0%}".replace("%", " %"),
            (value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(-0.8, max(len(names), 1) - 0.2)
    axes.set_xlim(0, max(most, 0.5) * 1.25)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
