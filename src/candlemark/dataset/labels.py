"""Labels: what a window is to be called, with the candles that each label reads declared.

    label = make_label(LabelConfig(name="forward_return", horizon=3))
    label.reach(window=30)                    # Reach(first=30, last=32): starts after the picture
    label.kind(window=30)                     # "forecast"
    label.compute(slots, starts, window=30)   # target int64[N], value float64[N]

The visible candles of a window are its slots 0 .. window - 1. A label's *reach* is the first
and the last slot that its answer is read from. If the reach overlaps the picture the label is
*recognition* (the answer is visible), if it starts after the picture it is *forecast*.
`kind_of` is the one place where that is decided.

The base price of a return, the last visible close, is an *anchor* and no part of the reach: it
stands in the picture of every window alike, and knowing it says nothing about where the price
goes from there. Counting it would call every honest forecast of a return recognition. Splits
lose nothing by this: they purge by the whole span from the window's first slot to the end of
its reach, and the anchor lies inside. The size of the visible moves, by which `direction` tells
a move from a standstill, is an anchor for the same reason: it says how far, never which way.

Ties: a candle is "up" only if close > open; close == open is "down", as is a return of exactly
the threshold. With three classes a return of exactly +threshold or -threshold is "flat"
("neutral").
A label whose candles are missing, or lie outside the series, is undefined: target -1, value
NaN. Nothing is guessed from neighbours.

Third parties add labels through the entry point group `candlemark.labels`; each entry point
names a subclass of `Label`.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from candlemark.candles.series import FloatArray, IntArray, Slots
from candlemark.config import Config
from candlemark.errors import ConfigError

Kind = Literal["recognition", "forecast"]

NEUTRAL_SHARE_OF_DEVIATION = 0.43
"""Half width of `direction`'s neutral band, in standard deviations: a normal variable lies within
0.4307 of them with probability 1/3, so that each class has a third of normal returns."""

BATCH_CANDLES = 1 << 20
"""Visible candles looked at together: bounds the memory, whatever the window."""

UNDEFINED = -1
"""Target of a window whose label cannot be known."""

ENTRY_POINT_GROUP = "candlemark.labels"


class LabelConfig(Config):
    """Which label, and its numbers; a label ignores the numbers it has no use for.

    horizon: candles after the window that `forward_return`, `triple_barrier` and `direction`
        look at
    threshold: return that separates the classes: of `forward_return` a simple one (None: 0 with
        two classes, 0.005 with three), of `direction` a log return (None: by the size of the
        visible moves)
    barrier: half width of `triple_barrier`, as a share of the last visible close
    classes: 2 (down, up) or 3 (down, flat, up), for `forward_return` and `triple_barrier`;
        `direction` has 3 and needs no word of it, the others have 2
    """

    name: str = "last_candle"
    horizon: int = Field(default=1, ge=1)
    threshold: float | None = Field(default=None, ge=0)
    barrier: float = Field(default=0.01, gt=0, lt=1)
    classes: Literal[2, 3] = 2

    @model_validator(mode="before")
    @classmethod
    def _three_where_there_is_no_choice(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("name") not in THREE_CLASS_LABELS:
            return value
        return {"classes": 3, **value}

    @model_validator(mode="after")
    def _fits_the_label(self) -> LabelConfig:
        if self.classes == 2 and self.name in THREE_CLASS_LABELS:
            raise ValueError(
                f"label '{self.name}' has three classes; for two of the next close take next_close"
            )
        if self.classes == 3 and self.name in TWO_CLASS_LABELS:
            allowed = ", ".join(name for name in LABELS if name not in TWO_CLASS_LABELS)
            raise ValueError(
                f"label '{self.name}' has two classes; three are offered by: {allowed}"
            )
        named = self.threshold is not None and self.name in LABELS
        if named and self.name not in THRESHOLD_LABELS:
            raise ValueError(
                f"label '{self.name}' has no threshold; {' and '.join(THRESHOLD_LABELS)} have one, "
                "triple_barrier has a barrier"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """First and last slot that a label reads, relative to the window's first slot."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelValues:
    """Labels of N windows.

    target: int64[N], class index, -1 where undefined
    value: float64[N], the number behind the class (a return), NaN where there is none
    """

    target: IntArray
    value: FloatArray


def kind_of(reach: Reach, window: int) -> Kind:
    """Recognition if any candle that the label reads is visible, else forecast."""
    return "recognition" if reach.first < window else "forecast"


class Label(ABC):
    """A target with a declared reach."""

    def __init__(self, config: LabelConfig) -> None:
        self.config = config

    @abstractmethod
    def reach(self, window: int) -> Reach:
        """The slots that the answer is read from, for windows of `window` slots."""

    @abstractmethod
    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """Labels of the windows that begin at slots `starts` (int64[N], any order)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by target."""
        return ("down", "up")

    def kind(self, window: int) -> Kind:
        """Recognition or forecast, from the reach and nothing else."""
        return kind_of(self.reach(window), window)

    def horizon(self, window: int) -> int:
        """Slots that the reach extends past the window; 0 for recognition inside it."""
        return max(0, self.reach(window).last - (window - 1))


class LastCandle(Label):
    """Is the last visible candle up (close > open)? Recognition. Value: log(close / open)."""

    def reach(self, window: int) -> Reach:
        """The last visible candle."""
        return Reach(first=window - 1, last=window - 1)

    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """Colour of the last visible candle."""
        last = starts + window - 1
        return _direction(_at(slots.open, last), _at(slots.close, last))


class WindowTrend(Label):
    """Is the last visible close above the first visible open? Recognition."""

    def reach(self, window: int) -> Reach:
        """The whole window."""
        return Reach(first=0, last=window - 1)

    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """Direction from the window's first open to its last close."""
        return _direction(_at(slots.open, starts), _at(slots.close, starts + window - 1))


class NextCandle(Label):
    """Is the candle after the window up (close > open)? Forecast. Value: log(close / open)."""

    def reach(self, window: int) -> Reach:
        """The candle after the window."""
        return Reach(first=window, last=window)

    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """Colour of the candle after the window."""
        following = starts + window
        return _direction(_at(slots.open, following), _at(slots.close, following))


class NextClose(Label):
    """Log return of the next close against the last visible close. Forecast, regression.

    The value is the regression target; the class for classifiers is its sign (0 is "down").
    """

    def reach(self, window: int) -> Reach:
        """The candle after the window; the last visible close is the anchor."""
        return Reach(first=window, last=window)

    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """Log return from the last visible close to the next close."""
        anchor = _at(slots.close, starts + window - 1)
        return _direction(anchor, _at(slots.close, starts + window))


class ForwardReturn(Label):
    """Simple return over `horizon` candles from the last visible close. Forecast.

    Two classes: up if return > threshold (default 0), else down. Three: down below
    -threshold, up above +threshold (default 0.005), flat between. Value: the simple return.
    Undefined where the last visible close is not positive: a share of it means nothing.
    """

    def reach(self, window: int) -> Reach:
        """The candles after the window, up to the horizon."""
        return Reach(first=window, last=window + self.config.horizon - 1)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Down and up, with flat between if there are three."""
        return _names(self.config.classes)

    @property
    def threshold(self) -> float:
        """The threshold in use."""
        if self.config.threshold is not None:
            return self.config.threshold
        return 0.005 if self.config.classes == 3 else 0.0

    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """Return from the last visible close to the close at the horizon."""
        last = starts + window - 1
        anchor = _positive(_at(slots.close, last))
        # (later - anchor) / anchor, as later / anchor - 1 misses exact thresholds by rounding.
        value = (_at(slots.close, last + self.config.horizon) - anchor) / anchor
        target = (value > self.threshold).astype(np.int64)
        if self.config.classes == 3:
            target += (value >= -self.threshold).astype(np.int64)
        return _defined(target, value)


class TripleBarrier(Label):
    """Which barrier is touched first within `horizon` candles? Forecast.

    Barriers stand at last visible close * (1 +- barrier); a touch is high >= upper or
    low <= lower. Three classes: down, flat (neither within the horizon), up. Two: where
    neither is touched, the sign of the return at the horizon decides (0 is "down"). Value:
    log return at the touched barrier, or at the horizon.

    Undefined where a candle is missing before the first touch, and where one candle touches
    both barriers first: candles do not tell which came first. Source: M. Lopez de Prado,
    "Advances in Financial Machine Learning", 2018, section 3.4, with a fixed width.
    """

    def reach(self, window: int) -> Reach:
        """The candles after the window, up to the horizon."""
        return Reach(first=window, last=window + self.config.horizon - 1)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Down and up, with flat between if there are three."""
        return _names(self.config.classes)

    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """First barrier touched after the window."""
        anchor = _positive(_at(slots.close, starts + window - 1))
        first = starts + window
        high, low = (self._ahead(column, first) for column in (slots.high, slots.low))
        with np.errstate(invalid="ignore"):
            up = high >= (anchor * (1 + self.config.barrier))[:, None]
            down = low <= (anchor * (1 - self.config.barrier))[:, None]
        up_at, down_at, missing_at = (_first_true(hits) for hits in (up, down, np.isnan(high)))

        horizon = self.config.horizon
        touched_at = np.minimum(up_at, down_at)
        with np.errstate(divide="ignore", invalid="ignore"):
            drift = np.log(_positive(_at(slots.close, first + horizon - 1)) / anchor)
        value = np.where(up_at < down_at, np.log1p(self.config.barrier), drift)
        value = np.where(down_at < up_at, np.log1p(-self.config.barrier), value)
        both = (up_at == down_at) & (touched_at < horizon)
        value[both | (missing_at < touched_at) | np.isnan(anchor)] = np.nan

        if self.config.classes == 2:
            return _defined((value > 0).astype(np.int64), value)
        target = np.ones(len(starts), dtype=np.int64)
        target[up_at < down_at] = 2
        target[down_at < up_at] = 0
        return _defined(target, value)

    def _ahead(self, column: FloatArray, first: IntArray) -> FloatArray:
        """float64[N, horizon], the column from each `first` on, NaN past the end."""
        padded = np.concatenate([column, np.full(self.config.horizon, np.nan)])
        rolling = np.lib.stride_tricks.sliding_window_view(padded, self.config.horizon)
        ahead: FloatArray = rolling[np.minimum(first, len(column))]
        return ahead


class Direction(Label):
    """Where does the close go within `horizon` candles: down, nowhere to speak of, up? Forecast.

    Three classes: bearish below -threshold, bullish above +threshold, neutral between. Value:
    log return from the last visible close to the close at the horizon.

    threshold None: 0.43 x the standard deviation of the window's one-slot log returns, times
    the square root of the horizon. Each class then has about a third of the cases in a calm
    market and in a wild one alike. The deviation is taken about zero, as realised volatility
    is: a steady trend is a move, and a window of two candles has a size.

    Undefined where the close at either end is missing or not positive, and without a threshold
    also where no two neighbouring candles of the window have a log return.
    """

    def reach(self, window: int) -> Reach:
        """The candles after the window, up to the horizon."""
        return Reach(first=window, last=window + self.config.horizon - 1)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Bearish, neutral, bullish."""
        return ("bearish", "neutral", "bullish")

    def compute(self, slots: Slots, starts: IntArray, window: int) -> LabelValues:
        """Log return from the last visible close, against the neutral band."""
        last = starts + window - 1
        price = _positive(slots.close)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.log(_at(price, last + self.config.horizon) / _at(price, last))
        threshold = self._threshold(price, starts, window)
        with np.errstate(invalid="ignore"):
            target = (value >= -threshold).astype(np.int64) + (value > threshold)
        return LabelValues(
            target=np.where(np.isnan(value) | np.isnan(threshold), UNDEFINED, target), value=value
        )

    def _threshold(self, price: FloatArray, starts: IntArray, window: int) -> FloatArray:
        """float64[N], half the width of each window's neutral band, NaN where unknown."""
        if self.config.threshold is not None:
            return np.full(len(starts), self.config.threshold)
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = np.log(price[1:] / price[:-1]) ** 2
        rolling = np.lib.stride_tricks.sliding_window_view(
            np.concatenate([squares, np.full(window, np.nan)]), window - 1
        )
        first = np.minimum(starts, len(price) - 1)
        mean = np.empty(len(starts))
        batch = max(1, BATCH_CANDLES // window)
        for begin in range(0, len(starts), batch):
            part = slice(begin, begin + batch)
            mean[part] = _mean_of_known(rolling[first[part]])
        threshold: FloatArray = NEUTRAL_SHARE_OF_DEVIATION * np.sqrt(mean * self.config.horizon)
        return threshold


LABELS: dict[str, type[Label]] = {
    "last_candle": LastCandle,
    "window_trend": WindowTrend,
    "next_candle": NextCandle,
    "forward_return": ForwardReturn,
    "triple_barrier": TripleBarrier,
    "next_close": NextClose,
    "direction": Direction,
}
"""Labels that ship with candlemark, by name."""

TWO_CLASS_LABELS = ("last_candle", "window_trend", "next_candle", "next_close")
THREE_CLASS_LABELS = ("direction",)
"""Labels whose number of classes is no choice."""

THRESHOLD_LABELS = ("forward_return", "direction")


def make_label(config: LabelConfig) -> Label:
    """The label that `config` names, ready to use.

    Raises ConfigError: no such label ships with candlemark or is installed, or an installed
    one is no `Label`.
    """
    if config.name in LABELS:
        return LABELS[config.name](config)
    installed = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if config.name not in installed:
        known = [*LABELS, *installed]
        nearest = difflib.get_close_matches(config.name, known, n=1)
        hint = f"did you mean '{nearest[0]}'? " if nearest else ""
        raise ConfigError(f"unknown label '{config.name}'; {hint}known: {', '.join(known)}")
    found = installed[config.name].load()
    if not (isinstance(found, type) and issubclass(found, Label)):
        raise ConfigError(
            f"entry point '{config.name}' of {ENTRY_POINT_GROUP} gives {found!r}; "
            "it must name a subclass of candlemark.dataset.labels.Label"
        )
    label: Label = found(config)
    return label


def _names(classes: int) -> tuple[str, ...]:
    return ("down", "up") if classes == 2 else ("down", "flat", "up")


def _at(column: FloatArray, index: IntArray) -> FloatArray:
    """The column at `index`, NaN past the end of the series."""
    inside = index < len(column)
    taken: FloatArray = np.where(inside, column[np.where(inside, index, 0)], np.nan)
    return taken


def _positive(price: FloatArray) -> FloatArray:
    """The price where it is positive, else NaN."""
    positive: FloatArray = np.where(price > 0, price, np.nan)
    return positive


def _mean_of_known(numbers: FloatArray) -> FloatArray:
    """float64[N], the mean of each row's numbers, NaN for a row of none."""
    known = ~np.isnan(numbers)
    count = known.sum(axis=1)
    total = np.where(known, numbers, 0.0).sum(axis=1)
    mean: FloatArray = np.divide(total, count, out=np.full(len(numbers), np.nan), where=count > 0)
    return mean


def _direction(start: FloatArray, end: FloatArray) -> LabelValues:
    """Up where end > start; value = log(end / start), NaN where a price is not positive."""
    known = ~(np.isnan(start) | np.isnan(end))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(_positive(end) / _positive(start))
    target = np.where(known, (end > start).astype(np.int64), UNDEFINED)
    return LabelValues(target=target, value=value)


def _defined(target: IntArray, value: FloatArray) -> LabelValues:
    """Undefined wherever the value is NaN."""
    return LabelValues(target=np.where(np.isnan(value), UNDEFINED, target), value=value)


def _first_true(hits: npt.NDArray[np.bool_]) -> IntArray:
    """Column of the first True in each row of bool[N, K], K where there is none."""
    first: IntArray = np.where(hits.any(axis=1), hits.argmax(axis=1), hits.shape[1])
    return first
