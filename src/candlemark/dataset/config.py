"""`DatasetConfig`: everything that decides what a dataset holds.

    DatasetConfig(
        candles=CandlesConfig(symbols=("BTCUSDT",), interval="1h", period="90days"),
        window=30,
        label=LabelConfig(name="next_candle"),
    )

Experiments, all of the same windows and labels:

- `regular`: the style as given.
- `fullimage`: twice the style's own size (448 x 448 for candlestick) with volume and moving
  averages of 7 and 25; what the style names itself wins.
- `irregular`: a share of each window's candles is hidden and drawn as empty slots in true
  time. The labels still read the true candles.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from candlemark.candles.source import CandlesConfig
from candlemark.charts.style import ChartStyle, history_slots, image_shape, resolve_style
from candlemark.config import Config
from candlemark.dataset.labels import LabelConfig
from candlemark.dataset.splits import SplitConfig
from candlemark.dataset.storage.base import StorageConfig
from candlemark.errors import CandlemarkError

FULLIMAGE_AVERAGES = (7, 25)
FULLIMAGE_SCALE = 2


class DatasetConfig(Config):
    """What a dataset is made of, how its windows are drawn, named and divided.

    candles: where the candles come from; must be named unless candles are handed to
        `build_dataset`, which then looks at those alone
    window, stride: in slots; a stride below the window makes neighbours overlap, which the
        splits know about
    missing_share: share of each window's candles that `irregular` hides, at least 2 stay
    max_samples: at most this many windows, evenly spaced in time within each split; 0: all
    max_missing: share of a window's slots that may lack a candle; a window with more, or with
        fewer than 2 candles, is dropped and counted
    style: a style, its fields, or the name of one
    seed: of the candles that `irregular` hides
    """

    candles: CandlesConfig = Field(default_factory=lambda: CandlesConfig(kind="random_walk"))
    window: int = Field(default=30, ge=2, le=4096)
    stride: int = Field(default=1, ge=1)
    experiment: Literal["regular", "fullimage", "irregular"] = "regular"
    missing_share: float = Field(default=0.6, ge=0, lt=1)
    label: LabelConfig = Field(default_factory=LabelConfig)
    style: ChartStyle = Field(default_factory=lambda: ChartStyle(kind="candlestick"))
    split: SplitConfig = Field(default_factory=SplitConfig)
    max_samples: int = Field(default=0, ge=0)
    max_missing: float = Field(default=0.1, ge=0, le=1)
    storage: StorageConfig = Field(default_factory=StorageConfig)
    seed: int = 0

    @field_validator("style", mode="before")
    @classmethod
    def _style_by_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return resolve_style(value)
        except CandlemarkError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _can_be_drawn(self) -> DatasetConfig:
        if self.experiment == "fullimage" and self.style.kind == "ohlc4":
            raise ValueError(
                "experiment 'fullimage' draws volume and moving averages, which style 'ohlc4' "
                "has no place for; take --style candlestick or --style jkx"
            )
        try:
            image_shape(self.drawn_style, self.window)
        except CandlemarkError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def drawn_style(self) -> ChartStyle:
        """The style with the experiment's own size, volume and averages filled in."""
        if self.experiment != "fullimage":
            return self.style
        height, width = image_shape(self.style.model_copy(update=_NO_SIZE), self.window)[:2]
        chosen = {
            "height": FULLIMAGE_SCALE * height,
            "width": FULLIMAGE_SCALE * width,
            "volume": True,
            "moving_averages": FULLIMAGE_AVERAGES,
        }
        missing = {name: value for name, value in chosen.items() if self._unset(name)}
        return self.style.model_copy(update=missing)

    def _unset(self, name: str) -> bool:
        return getattr(self.style, name) is None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, 3)."""
        return image_shape(self.drawn_style, self.window)

    @property
    def history(self) -> int:
        """Slots before the window that its picture reads, for moving averages."""
        return history_slots(self.drawn_style, self.window)


_NO_SIZE = {"height": None, "width": None}
