"""`ChartStyle`: how a window becomes pixels, and how large the picture is.

    style = resolve_style("candlestick")
    style = ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25), theme="dark")
    image_shape(style, window=30)        # (224, 224, 3)
    smallest_width(style, window=30)     # 30

A style is a config: it can be saved, hashed and compared. Third parties add presets by the
entry point group `candlemark.styles`, whose names point at `ChartStyle` objects.
"""

from __future__ import annotations

import difflib
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from candlemark.config import Config
from candlemark.errors import ChartError

MAX_SIDE = 16_384
MAX_AVERAGES = 4
MAX_AVERAGE_LENGTH = 10_000
ENTRY_POINT_GROUP = "candlemark.styles"

SLOT_PIXELS = {"ohlc4": 4, "jkx": 3, "candlestick": 1}
"""The narrowest slot in which each kind can be drawn."""

SMALLEST_HEIGHT = {"ohlc4": 2, "jkx": 8, "candlestick": 8}

JKX_HEIGHTS = ((5, 32), (20, 64), (60, 96))
"""Window and height of the pictures of Jiang, Kelly and Xiu; the width is 3 x window."""


class ChartStyle(Config):
    """How a window becomes pixels.

    kind: `ohlc4` (two-level, 4 px a bar), `jkx` (two-level, 3 px a bar, volume, moving
        average) or `candlestick` (RGB bodies and wicks).
    height, width: pixels; None is the kind's own size (see `image_shape`).
    volume: a volume panel in the bottom fifth; None means yes for `jkx`, no for the others.
    moving_averages: lengths in slots, at most 4; None means one of the window's own length
        for `jkx` and none for the others.
    theme: None means light for `ohlc4` and `candlestick`, dark for `jkx`. The other theme of
        a two-level picture is its negative.

    `ohlc4` is bars and nothing else: asking it for volume or averages is refused.
    """

    kind: Literal["ohlc4", "jkx", "candlestick"]
    height: int | None = Field(default=None, ge=1, le=MAX_SIDE)
    width: int | None = Field(default=None, ge=1, le=MAX_SIDE)
    volume: bool | None = None
    moving_averages: tuple[int, ...] | None = Field(default=None, max_length=MAX_AVERAGES)
    theme: Literal["light", "dark"] | None = None

    @field_validator("moving_averages")
    @classmethod
    def _lengths_in_range(cls, lengths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        for length in lengths or ():
            if not 1 <= length <= MAX_AVERAGE_LENGTH:
                raise ValueError(
                    f"a moving average of {length} slots; allowed: 1 to {MAX_AVERAGE_LENGTH}"
                )
        return lengths

    @model_validator(mode="after")
    def _ohlc4_is_bars_only(self) -> Self:
        if self.kind == "ohlc4" and (self.volume or self.moving_averages):
            raise ValueError(
                "ohlc4 draws bars only; for volume or moving averages use kind jkx or candlestick"
            )
        return self

    @property
    def draws_volume(self) -> bool:
        """Whether the picture has a volume panel."""
        return self.kind == "jkx" if self.volume is None else self.volume

    @property
    def is_dark(self) -> bool:
        """Whether the background is dark."""
        return self.kind == "jkx" if self.theme is None else self.theme == "dark"

    def average_lengths(self, window: int) -> tuple[int, ...]:
        """Lengths of the moving averages of a picture of `window` slots."""
        if self.moving_averages is None:
            return (window,) if self.kind == "jkx" else ()
        return self.moving_averages


STYLES: dict[str, ChartStyle] = {
    "ohlc4": ChartStyle(kind="ohlc4"),
    "jkx": ChartStyle(kind="jkx"),
    "candlestick": ChartStyle(kind="candlestick"),
}


def resolve_style(style: ChartStyle | str) -> ChartStyle:
    """The style itself, a built-in one by name, or one that an installed package offers.

    Raises ChartError for an unknown name, naming the nearest known one, and for an entry
    point that is no ChartStyle.
    """
    if isinstance(style, ChartStyle):
        return style
    if style in STYLES:
        return STYLES[style]
    from importlib.metadata import entry_points

    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if style not in offered:
        known = [*STYLES, *offered]
        nearest = difflib.get_close_matches(style, known, n=1)
        hint = f"did you mean '{nearest[0]}'? " if nearest else ""
        raise ChartError(f"unknown chart style '{style}'; {hint}known: {', '.join(known)}")
    loaded = offered[style].load()
    if not isinstance(loaded, ChartStyle):
        raise ChartError(
            f"entry point {ENTRY_POINT_GROUP}:{style} is a {type(loaded).__name__}; "
            "it must name a ChartStyle"
        )
    return loaded


def levels(style: ChartStyle) -> tuple[int, int]:
    """(paper, ink), the two levels of `ohlc4` and `jkx`; ChartError for a style in colour."""
    if style.kind == "candlestick":
        raise ChartError("candlestick is drawn in colour; two levels have ohlc4 and jkx")
    return (0, 255) if style.is_dark else (255, 0)


def smallest_width(style: ChartStyle, window: int) -> int:
    """The narrowest picture in which `window` slots can be drawn."""
    return SLOT_PIXELS[style.kind] * window


def history_slots(style: ChartStyle, window: int) -> int:
    """How many slots before the window a picture reads: the longest average less one."""
    return max((length - 1 for length in style.average_lengths(window)), default=0)


def image_shape(
    style: ChartStyle, window: int, height: int | None = None, width: int | None = None
) -> tuple[int, ...]:
    """(H, W) of a two-level picture, (H, W, 3) of a candlestick one.

    `height` and `width` win over the style's own, which win over the kind's default:

    - `ohlc4`: 500 x 4 * window.
    - `jkx`: 32 x 15, 64 x 60, 96 x 180 for 5, 20 and 60 slots as published. Else the width
      is 3 * window and the height lies on the straight lines through those three points,
      rounded half up, the last line going on above 60; below 5 slots it is 32.
    - `candlestick`: 224 x 224.

    Raises ChartError where the picture is too small for the window, naming the smallest
    size, or too large.
    """
    if window < 1:
        raise ChartError(f"window is {window} slots; it must be at least 1")
    default_height, default_width = _default_size(style.kind, window)
    rows = _first_given(height, style.height, default_height)
    columns = _first_given(width, style.width, default_width)
    _check_side("height", rows, SMALLEST_HEIGHT[style.kind], f"{style.kind} needs")
    _check_side(
        "width",
        columns,
        smallest_width(style, window),
        f"{window} slots of {style.kind} at {SLOT_PIXELS[style.kind]} px or more need",
    )
    return (rows, columns, 3) if style.kind == "candlestick" else (rows, columns)


def _first_given(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _check_side(name: str, value: int, smallest: int, who: str) -> None:
    if value < smallest:
        raise ChartError(f"{name} is {value} px; {who} a {name} of at least {smallest}")
    if value > MAX_SIDE:
        raise ChartError(f"{name} is {value} px; at most {MAX_SIDE} are allowed")


def _default_size(kind: str, window: int) -> tuple[int, int]:
    if kind == "ohlc4":
        return 500, 4 * window
    if kind == "jkx":
        return _jkx_height(window), 3 * window
    return 224, 224


def _jkx_height(window: int) -> int:
    (w0, h0), (w1, h1), (w2, h2) = JKX_HEIGHTS
    if window <= w0:
        return h0
    if window <= w1:
        return (2 * (h0 * (w1 - w0) + (h1 - h0) * (window - w0)) + (w1 - w0)) // (2 * (w1 - w0))
    return (2 * (h1 * (w2 - w1) + (h2 - h1) * (window - w1)) + (w2 - w1)) // (2 * (w2 - w1))
