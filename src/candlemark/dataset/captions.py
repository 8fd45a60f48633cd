"""Captions: what a picture shows, in English, for models that read text beside it.

    captions(dataset, rows)                       # one sentence or two a picture, list[str]
    captions(dataset, rows, style="classic")      # the last candle's numbers

A caption obeys the visibility contract: it reads what its own picture shows and nothing else.
Candles after the window, hidden ones and missing ones are not read; candles before it only
through the moving averages that the style draws, and those only where they lie inside the
picture. Volume is spoken of only where the style has a panel for it. A picture has no axes, so
the `window` form gives prices as shares of the picture's own range and volume as a multiple of
its own average: the same chart in another unit has the same caption. Symbol and time are not in
the picture, and so not in the caption.

That does not make a caption innocent. Where the label is *recognition* its answer is visible,
and a caption may say it in words: `window` tells the trend, which is the label `window_trend`.

`classic` is the form that the field's image-and-text datasets use: open, high, low, close and
volume of the last visible candle. It names that candle's direction and prints its numbers, so
that a text model answers `last_candle` without looking at a picture: a score on that label
with these captions means nothing. Its prices are raw, which no picture shows; they also tell
the time roughly, as a market rarely returns to a level.

Lengths are bounded, whatever the window and its candles: at most 64 word pieces of BERT's uncased
vocabulary for `classic`, 128 for `window`, the two special tokens included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from candlemark.candles.series import CandleSeries, FloatArray, IntArray
from candlemark.charts.indicators import read_only, window_averages
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.drawing import Mask
from candlemark.dataset.index import Index
from candlemark.dataset.lazy import Rows
from candlemark.errors import ConfigError

BATCH_CANDLES = 1 << 20
"""Candles looked at together: bounds the memory, whatever the window."""

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)

SIDEWAYS, SLIGHT, CLEAR = 0.1, 0.4, 0.75
"""Net moves, as shares of the picture's range, from which the words for a trend change."""

SMALL_BODY, LARGE_BODY = 1 / 3, 2 / 3
"""Mean bodies, as shares of their candles, from which the word for them changes."""

EVEN_SHADOWS = 0.05
"""Difference of mean shadows, as shares of their candles, that is none yet."""

STEADY_VOLUME = 1.25
"""Mean volume of one half of the candles, over the other half's, that is no change yet."""

_THIRDS = ("early", "midway", "late")
_DIRECTION = {-1: "down", 0: "flat", 1: "up"}


class Windows(Protocol):
    """What a caption is made from: a `Dataset`, or less."""

    @property
    def config(self) -> DatasetConfig:
        """How the windows are drawn."""

    @property
    def window(self) -> int:
        """Slots in a window."""

    @property
    def index(self) -> Index:
        """One row a window."""

    @property
    def series(self) -> Sequence[CandleSeries]:
        """The candles that the index points into."""

    def sequences(self, rows: Rows) -> FloatArray:
        """float64 (n, window, 5): open, high, low, close, volume; NaN where not visible."""


def captions(dataset: Windows, rows: Rows, *, style: str = "window") -> list[str]:
    """One caption a row, in the order of `rows`; the same rows always give the same text.

    style: "window" describes all that is visible, "classic" the last visible candle

    Raises ConfigError: there is no such style, or no such row.
    """
    describe = _DESCRIBE[check_style(style)]
    wanted = np.asarray(rows)
    batch = max(1, BATCH_CANDLES // dataset.window)
    texts: list[str] = []
    for first in range(0, len(wanted), batch):
        texts += describe(dataset, wanted[first : first + batch])
    return texts


def check_style(style: str) -> str:
    """The style itself; ConfigError naming those there are."""
    if style not in _DESCRIBE:
        raise ConfigError(f"unknown caption style '{style}'; known: {', '.join(_DESCRIBE)}")
    return style


def _window(dataset: Windows, rows: Rows) -> list[str]:
    """Trend, extremes, directions, bodies and shadows; volume and averages where drawn."""
    style = dataset.config.drawn_style
    candles = dataset.sequences(rows)
    shown = ~np.isnan(candles[..., CLOSE])
    scale = _Scale.of(candles)
    prices = scale.apply(candles[..., :VOLUME])
    parts = [_size(shown), _trend(prices, shown), _extremes(prices, scale.flat)]
    parts += [_directions(candles), _shapes(prices)]
    if style.draws_volume:
        parts.append(_volume(candles[..., VOLUME], shown))
    lengths = style.average_lengths(dataset.window)
    if lengths:
        parts += _averages(_means(dataset, rows, shown, lengths), scale, prices, shown, lengths)
    return [" ".join(filter(None, sentences)) for sentences in zip(*parts, strict=True)]


def _classic(dataset: Windows, rows: Rows) -> list[str]:
    """The last visible candle, in numbers."""
    candles = dataset.sequences(rows)
    last = _last(~np.isnan(candles[..., CLOSE]))
    numbers = candles[np.arange(len(candles)), last]
    words = np.sign(numbers[:, CLOSE] - numbers[:, OPEN]).astype(np.int64)
    return [
        f"The last candle closed {_DIRECTION[word]}: open {_short(open_)}, high {_short(high)}, "
        f"low {_short(low)}, close {_short(close)}, volume {_short(volume)}."
        for word, (open_, high, low, close, volume) in zip(
            words.tolist(), numbers.tolist(), strict=True
        )
    ]


_DESCRIBE: dict[str, Callable[[Windows, Rows], list[str]]] = {
    "window": _window,
    "classic": _classic,
}

CAPTION_STYLES = tuple(_DESCRIBE)
"""Names of the caption styles."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scale:
    """From prices to shares of each picture's range, as the picture itself scales them.

    factor, low, span: float64 (n, 1, 1). Where span is 0 nothing can be told apart.
    """

    factor: FloatArray
    low: FloatArray
    span: FloatArray

    @classmethod
    def of(cls, candles: FloatArray) -> _Scale:
        """Lowest and highest visible price of float64 (n, W, 5), NaN where not visible."""
        high = np.nanmax(candles[..., HIGH], axis=1)[:, None, None]
        low = np.nanmin(candles[..., LOW], axis=1)[:, None, None]
        # The difference of the largest prices would overflow; a quarter of them is exact.
        factor = np.where(np.maximum(np.abs(high), np.abs(low)) > 2.0**1000, 0.25, 1.0)
        return cls(factor=factor, low=low * factor, span=high * factor - low * factor)

    @property
    def flat(self) -> Mask:
        """bool[n], True where all prices are one."""
        still: Mask = self.span[:, 0, 0] == 0
        return still

    def apply(self, prices: FloatArray) -> FloatArray:
        """0 at the lowest visible price, 1 at the highest; 0.5 and out of range where flat."""
        above = prices * self.factor - self.low
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.where(above == 0, 0.5, np.sign(above) * np.inf)
            scaled: FloatArray = np.where(self.span > 0, above / self.span, off)
        return scaled


def _size(shown: Mask) -> list[str]:
    """How many candles there are to see; a hidden one looks like one that never was."""
    window = shown.shape[1]
    return [
        f"{window} candles." if count == window else f"{count} of {window} candles."
        for count in shown.sum(axis=1).tolist()
    ]


def _trend(prices: FloatArray, shown: Mask) -> list[str]:
    """From the first visible open to the last visible close."""
    row = np.arange(len(prices))
    begin = prices[row, shown.argmax(axis=1), OPEN]
    end = prices[row, _last(shown), CLOSE]
    moves = ("sideways", "slightly {}", "{}", "strongly {}")
    sizes = np.digitize(np.abs(end - begin), (SIDEWAYS, SLIGHT, CLEAR)).tolist()
    ways = np.where(end > begin, "up", "down").tolist()
    return [
        f"Price goes {moves[size].format(way)}, from {first} % to {last} % of its range."
        for size, way, first, last in zip(sizes, ways, _percent(begin), _percent(end), strict=True)
    ]


def _extremes(prices: FloatArray, flat: Mask) -> list[str]:
    """When the highest high and the lowest low come first, to a third of the window."""
    steps = np.arange(1, 3) * prices.shape[1] / 3
    high = np.digitize(np.nanargmax(prices[..., HIGH], axis=1), steps).tolist()
    low = np.digitize(np.nanargmin(prices[..., LOW], axis=1), steps).tolist()
    return [
        "No price differs." if still else f"The high comes {_THIRDS[top]}, the low {_THIRDS[end]}."
        for still, top, end in zip(flat.tolist(), high, low, strict=True)
    ]


def _directions(candles: FloatArray) -> list[str]:
    """How many candles close above their open, below it and at it."""
    open_, close = candles[..., OPEN], candles[..., CLOSE]
    counts = [
        (close > open_).sum(axis=1),
        (close < open_).sum(axis=1),
        (close == open_).sum(axis=1),
    ]
    return [
        f"{up} up, {down} down, {flat} flat." if flat else f"{up} up, {down} down."
        for up, down, flat in zip(*(count.tolist() for count in counts), strict=True)
    ]


def _shapes(prices: FloatArray) -> list[str]:
    """Bodies and shadows, as shares of the candles that have a height."""
    open_, high, low, close = (prices[..., column] for column in (OPEN, HIGH, LOW, CLOSE))
    height = high - low
    tall = height > 0
    count = tall.sum(axis=1)

    def mean(part: FloatArray) -> FloatArray:
        share = np.divide(part, height, out=np.zeros_like(part), where=tall)
        average: FloatArray = share.sum(axis=1) / np.maximum(count, 1)
        return average

    body = mean(np.abs(close - open_))
    uneven = mean(high - np.maximum(open_, close)) - mean(np.minimum(open_, close) - low)
    sizes = np.digitize(body, (SMALL_BODY, LARGE_BODY)).tolist()
    longer = np.digitize(uneven, (-EVEN_SHADOWS, EVEN_SHADOWS)).tolist()
    shadows = ("lower shadows are longer", "shadows are even", "upper shadows are longer")
    return [
        f"Bodies are {('small', 'medium', 'large')[size]}, {share} % of a candle; {shadows[side]}."
        if tall_ones
        else "No candle has a height."
        for size, share, side, tall_ones in zip(
            sizes, _percent(body), longer, count.tolist(), strict=True
        )
    ]


def _volume(volume: FloatArray, shown: Mask) -> list[str]:
    """The later half of the visible candles against the earlier, and the last against all."""
    largest = np.nanmax(volume, axis=1)[:, None]
    share = np.divide(volume, largest, out=np.zeros_like(volume), where=shown & (largest > 0))
    count = shown.sum(axis=1)
    rank, half = shown.cumsum(axis=1), (count // 2)[:, None]
    early = np.where(rank <= half, share, 0).sum(axis=1)
    late = np.where(rank > count[:, None] - half, share, 0).sum(axis=1)
    change = np.select(
        [late > STEADY_VOLUME * early, early > STEADY_VOLUME * late],
        ["grows", "shrinks"],
        "is even",
    )
    mean = share.sum(axis=1) / count
    last = share[np.arange(len(share)), _last(shown)]
    times = np.divide(last, mean, out=np.zeros_like(mean), where=mean > 0)
    return [
        f"Volume {word}; the last is {ratio:.1f} times the average." if any_volume else "No volume."
        for word, ratio, any_volume in zip(
            change.tolist(), times.tolist(), (mean > 0).tolist(), strict=True
        )
    ]


def _means(dataset: Windows, rows: Rows, shown: Mask, lengths: Sequence[int]) -> FloatArray:
    """float64 (n, K, W), the averages by the kernel that draws them."""
    index = dataset.index.take(np.asarray(rows))
    means = np.empty((len(index), len(lengths), dataset.window))
    for number in np.unique(index.series).tolist():
        mine = np.flatnonzero(index.series == number)
        found = np.empty((len(mine), *means.shape[1:]))
        window_averages(
            read_only(dataset.series[number].slots.close),
            read_only(index.start_slot[mine]),
            read_only(shown[mine]),
            np.array(lengths, dtype=np.int64),
            found,
        )
        means[mine] = found
    return means


def _averages(
    means: FloatArray, scale: _Scale, prices: FloatArray, shown: Mask, lengths: Sequence[int]
) -> list[list[str]]:
    """Where each average ends and which way it went, as far as it lies inside the picture."""
    row, first, last = np.arange(len(means)), shown.argmax(axis=1), _last(shown)
    lines, close = scale.apply(means), prices[row, last, CLOSE]
    parts = []
    for number, length in enumerate(lengths):
        begin, end = lines[row, number, first], lines[row, number, last]
        seen = (end >= 0) & (end <= 1)
        with np.errstate(invalid="ignore"):  # both ends may lie infinitely far outside
            moves = np.digitize(end - begin, (-SIDEWAYS, SIDEWAYS))
        moves = np.where((begin >= 0) & (begin <= 1), moves, 3).tolist()
        places = _side(end, close)
        words = ("falls and ends", "stays and ends", "rises and ends", "ends")
        parts.append(
            [
                f"Average of {length} {words[move]} {place} the close."
                if inside
                else f"Average of {length} ends outside the picture."
                for move, place, inside in zip(moves, places, seen.tolist(), strict=True)
            ]
        )
    return parts


def _side(end: FloatArray, close: FloatArray) -> list[str]:
    sides: list[str] = np.select([end > close, end < close], ["above", "below"], "at").tolist()
    return sides


def _last(shown: Mask) -> IntArray:
    """int64[n], the last visible slot."""
    last: IntArray = shown.shape[1] - 1 - shown[:, ::-1].argmax(axis=1)
    return last


def _percent(share: FloatArray) -> list[int]:
    whole: list[int] = np.floor(100 * share + 0.5).astype(np.int64).tolist()
    return whole


def _short(number: float) -> str:
    """A price of any size in at most nine word pieces.

    Six digits, which every price of an exchange has; five beside a sign, and four beside an
    exponent, which take pieces of their own.
    """
    text = f"{number:.6g}" if number >= 0 else f"{number:.5g}"
    return f"{number:.4g}" if "e" in text else text
