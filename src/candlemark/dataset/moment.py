"""One window of a series, as a dataset would hold it: to ask a trained model about a moment.

    now = moment(series, config)                          # the newest candles
    then = moment(series, config, at_ms=1_704_067_200_000)
    then.image, then.caption, then.features, then.last_close
    kept = look_of(config)                                # into the config of a model
    config = config_of(kept)                              # and back, when the model is asked

Picture, caption and numbers come from the code that fills datasets, so a model that was trained
on a dataset meets here what it was trained on: the same style, moving averages that read the
candles before the window, and under `irregular` the same hidden candles.

The time is when one looks: a candle that has not closed by then is not seen. Nothing older is
taken silently. Where the window at that time lacks candles the error names the nearest earlier
one that does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.candles.series import CandleSeries, FloatArray, format_time
from candlemark.config import parse
from candlemark.dataset.captions import captions
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.drawing import Features, Painter
from candlemark.dataset.index import Index
from candlemark.dataset.labels import UNDEFINED
from candlemark.dataset.lazy import Rows
from candlemark.dataset.select import MIN_CANDLES, enough_candles
from candlemark.dataset.splits import OUTSIDE
from candlemark.dataset.storage.base import Images
from candlemark.errors import ConfigError, DatasetError
from candlemark.progress import warning

LOOK = ("window", "experiment", "missing_share", "max_missing", "style", "seed")
"""The fields of a `DatasetConfig` that decide what a window looks like."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """What was to be seen at one time.

    image: uint8 (H, W) or (H, W, 3)
    caption: None where none was asked for
    features: float32 (window, 5), scaled as in the picture; NaN where no candle is visible
    last_close: close of the window's last slot, also where `irregular` hides it; None where
        that slot has no candle
    window_start_ms, window_end_ms: open of the first slot, and end (exclusive) of the last
    """

    symbol: str
    interval: str
    image: Images
    caption: str | None
    features: Features
    last_close: float | None
    window_start_ms: int
    window_end_ms: int


def moment(
    series: CandleSeries,
    config: DatasetConfig,
    *,
    caption: str | None = "window",
    at_ms: int | None = None,
) -> Moment:
    """The window that ends with the newest candle closed at `at_ms`.

    config: only what decides the look is read: window, style, experiment with its missing share
        and seed, and how many candles may be missing
    caption: a caption style; None gives no caption
    at_ms: UTC; None: when the newest candle of the series closes

    Raises DatasetError: the series is too short, the time lies outside it, or more candles are
    missing than the config allows. ConfigError: there is no such caption style.
    """
    start = _start_slot(series, config, at_ms)
    windows = _OneWindow(series, config, start)
    before = min(start, config.history)
    if before < config.history:
        warning(
            f"the moving averages of {series.symbol} read {config.history} candles before the "
            f"window, and there are {before}; their lines begin late or are missing, as in the "
            "first pictures of a dataset"
        )
    last_close = float(series.slots.close[start + config.window - 1])
    return Moment(
        symbol=series.symbol,
        interval=series.interval,
        image=windows.painter.draw(windows.index)[0],
        caption=None if caption is None else captions(windows, [0], style=caption)[0],
        features=windows.painter.features(windows.index)[0],
        last_close=None if np.isnan(last_close) else last_close,
        window_start_ms=int(windows.index.window_start_ms[0]),
        window_end_ms=int(windows.index.window_end_ms[0]),
    )


def look_of(config: DatasetConfig) -> dict[str, Any]:
    """What a model must keep to be shown other windows as it was shown these; JSON types."""
    kept: dict[str, Any] = config.model_dump(mode="json", include=set(LOOK))
    return kept


def config_of(look: Mapping[str, Any]) -> DatasetConfig:
    """A config for `moment` from what `look_of` gave; other keys are left alone.

    Raises ConfigError: a field is missing where nothing stands for it, or has no such value.
    """
    known = {name: look[name] for name in LOOK if name in look}
    for name in ("window", "style"):
        if name not in known:
            raise ConfigError(
                f"the look has no '{name}', so nobody can tell how its pictures were drawn; "
                f"it has: {', '.join(look) or 'nothing'}"
            )
    return parse(DatasetConfig, known, where="the look of a model")


class _OneWindow:
    """A dataset of one window, without label, split or folder."""

    def __init__(self, series: CandleSeries, config: DatasetConfig, start: int) -> None:
        self.config = config
        self.series: Sequence[CandleSeries] = (series,)
        self.window = config.window
        self.index = _index(series, config.window, start)
        self.painter = Painter(config, self.series)

    def sequences(self, rows: Rows) -> FloatArray:
        """float64 (n, window, 5), as `Dataset.sequences`."""
        return self.painter.sequences(self.index.take(np.asarray(rows)))


def _index(series: CandleSeries, window: int, start: int) -> Index:
    """One row; what belongs to a label or a split is unknown."""
    opens = series.slots.start_ms + start * series.interval_ms
    ends = opens + window * series.interval_ms

    def one(value: float, kind: npt.DTypeLike = np.int64) -> npt.NDArray[np.generic]:
        return np.array([value], dtype=kind)

    columns = {
        "series": one(0),
        "start_slot": one(start),
        "window_start_ms": one(opens),
        "window_end_ms": one(ends),
        "reach_start_ms": one(ends),
        "reach_end_ms": one(ends),
        "codes": one(OUTSIDE, np.int8),
        "target": one(UNDEFINED),
        "value": one(np.nan, np.float64),
        "next_close": one(np.nan, np.float64),
    }
    return Index(**columns)  # type: ignore[arg-type]  # kinds are those of the columns


def _start_slot(series: CandleSeries, config: DatasetConfig, at_ms: int | None) -> int:
    """First slot of the window asked for; DatasetError where there is none to show."""
    slots, step, window = series.slots, series.interval_ms, config.window
    name = f"{series.symbol} {series.interval}"
    end_ms = slots.start_ms + len(slots) * step
    if len(slots) < window:
        raise DatasetError(
            f"{name} has {len(slots)} candle slots, {format_time(slots.start_ms)} to "
            f"{format_time(end_ms)} UTC, and one window is {window}; load an earlier start or a "
            "longer period"
        )
    at = end_ms if at_ms is None else at_ms
    end = (at - slots.start_ms) // step
    if not window <= end <= len(slots):
        first = format_time(slots.start_ms + window * step)
        raise DatasetError(
            f"time {format_time(at)} UTC lies outside these candles: windows of {window} of "
            f"{name} end from {first} to {format_time(end_ms)} UTC; name a time in that range, "
            "or load other candles"
        )
    start = int(end - window)
    whole = enough_candles(slots, np.arange(start + 1), config)
    if whole[start]:
        return start
    # Of those with enough candles, one that has a last close is the better advice.
    whole &= slots.present[window - 1 : window + start]
    raise _incomplete(series, config, start, np.flatnonzero(whole))


def _incomplete(
    series: CandleSeries, config: DatasetConfig, start: int, whole: npt.NDArray[np.int64]
) -> DatasetError:
    """How many candles are missing, and when there were enough."""
    step, window = series.interval_ms, config.window
    present = series.slots.present[start : start + window]
    gap = series.slots.start_ms + (start + int(np.argmin(present))) * step
    allowed = max(0, min(int(config.max_missing * window + 1e-9), window - MIN_CANDLES))
    advice = "no earlier window has enough: load other candles"
    if len(whole):
        end = series.slots.start_ms + (int(whole[-1]) + window) * step
        advice = f"the last window before that with enough ends at {format_time(end)} UTC"
    return DatasetError(
        f"{series.symbol} {series.interval} lacks {int((~present).sum())} of the {window} candles "
        f"up to {format_time(series.slots.start_ms + (start + window) * step)} UTC, the first at "
        f"{format_time(gap)}, and at most {allowed} may be missing; {advice}"
    )
