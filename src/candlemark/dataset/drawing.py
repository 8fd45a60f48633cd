"""From rows of the index to pictures and to numbers, the same way every time.

    painter = Painter(config, series)
    painter.draw(index.take(rows))           # uint8 (n, H, W[, 3])
    painter.features(index.take(rows))       # float32 (n, window, 5)

Stores are filled and lazy datasets are read through this one class, so a stored picture and
one drawn on request are the same to the bit.

Which candles `irregular` hides follows from (seed, symbol, time of the window, position)
through a counter-based hash: no state, no order, so a window looks the same whenever, wherever
and in whichever batch it is drawn, and after its market was fetched again over another range.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from candlemark.candles.series import COLUMNS, CandleSeries, IntArray, Slots
from candlemark.charts.render import Renderer
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.index import Index
from candlemark.dataset.storage.base import Images
from candlemark.errors import DatasetError

Mask = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float32]

MIN_VISIBLE = 2
"""Candles that stay visible however large the missing share."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Painter:
    """Draws windows of some series, and gives the same windows as numbers."""

    def __init__(self, config: DatasetConfig, series: Sequence[CandleSeries]) -> None:
        self._config = config
        self._style = config.drawn_style
        self._series = tuple(series)

    def __reduce__(self) -> tuple[type[Painter], tuple[DatasetConfig, Sequence[CandleSeries]]]:
        # What is prepared for drawing is made again by the process that draws.
        return Painter, (self._config, self._series)

    @cached_property
    def _market(self) -> Market:
        return Market.of(self._series, history=self._config.history)

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._market.slots, self._style, window=self._config.window)

    def draw(self, index: Index, out: Images | None = None, threads: int | None = None) -> Images:
        """uint8 (n, H, W) or (n, H, W, 3), one picture a row of the index.

        out: where to draw, a C-contiguous array of that shape; None makes one
        threads: as in `Renderer.draw`
        """
        return self.draw_windows(index.series, index.start_slot, out=out, threads=threads)

    def draw_windows(
        self,
        series: IntArray,
        starts: IntArray,
        *,
        out: Images | None = None,
        threads: int | None = None,
    ) -> Images:
        """The same for windows of which only series and first slot (int64[n] each) are known."""
        return self._renderer.draw(
            self._market.starts(series, starts, self._config.window),
            visible=self._hidden_in(series, starts),
            out=out,
            threads=threads,
        )

    def draw_packed(
        self, index: Index, out: Images | None = None, threads: int | None = None
    ) -> Images:
        """uint8 (n, G, W), eight rows a byte as in `charts.packed`; two-level styles only."""
        series, starts = index.series, index.start_slot
        return self._renderer.draw_packed(
            self._market.starts(series, starts, self._config.window),
            visible=self._hidden_in(series, starts),
            out=out,
            threads=threads,
        )

    def visible(self, index: Index) -> Mask:
        """bool[n, window], True where a candle exists and is shown."""
        shown = np.empty((len(index), self._config.window), dtype=np.bool_)
        for number, rows in _by_series(index.series):
            one, starts = self._series[number], index.start_slot[rows]
            present = one.slots.present[_slot_grid(starts, self._config.window)]
            hidden_out = self._hidden_out(one, starts)
            shown[rows] = present if hidden_out is None else present & hidden_out
        return shown

    def sequences(self, index: Index) -> npt.NDArray[np.float64]:
        """float64 (n, window, 5): open, high, low, close, volume; NaN where not visible."""
        found = np.empty((len(index), self._config.window, len(COLUMNS)))
        for number, rows in _by_series(index.series):
            grid = _slot_grid(index.start_slot[rows], self._config.window)
            slots = self._series[number].slots
            found[rows] = np.stack([getattr(slots, name)[grid] for name in COLUMNS], axis=-1)
        found[~self.visible(index)] = np.nan
        return found

    def features(self, index: Index) -> Features:
        """float32 (n, window, 5): the numbers that the picture shows, scaled as it scales them.

        Prices run from 0 at the window's lowest visible low to 1 at its highest visible high
        (0.5 throughout where those are equal), volume from 0 to 1 at the largest visible one
        (0 where there is none). NaN where a candle is missing or hidden.
        """
        numbers = self.sequences(index)
        prices, volume = numbers[..., :4], numbers[..., 4]
        low = np.nanmin(prices[..., 2], axis=1)[:, None, None]
        height = np.nanmax(prices[..., 1], axis=1)[:, None, None] - low
        largest = np.nanmax(volume, axis=1)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.where(height > 0, (prices - low) / height, prices - low + 0.5)
            share = np.where(largest > 0, volume / largest, volume)
        return np.concatenate([scaled, share[..., None]], axis=-1).astype(np.float32)

    def _hidden_in(self, series: IntArray, starts: IntArray) -> Mask | None:
        """bool[n, window] over windows of several series, None where nothing is hidden."""
        if self._config.experiment != "irregular":
            return None
        shown = np.empty((len(starts), self._config.window), dtype=np.bool_)
        for number, rows in _by_series(series):
            shown[rows] = self._hidden_out(self._series[number], starts[rows])
        return shown

    def _hidden_out(self, series: CandleSeries, starts: IntArray) -> Mask | None:
        if self._config.experiment != "irregular":
            return None
        return visible_mask(
            series,
            starts,
            window=self._config.window,
            missing_share=self._config.missing_share,
            seed=self._config.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """All series one after the other, so that one call draws windows of any of them.

    slots: each series on its grid, and between two of them as many empty slots as an average
        looks back, so that none reads its neighbour's candles
    first: int64[K], where each series begins in `slots`
    count: int64[K], slots of each series
    symbols: the series' names
    """

    slots: Slots
    first: IntArray
    count: IntArray
    symbols: tuple[str, ...]

    @classmethod
    def of(cls, series: Sequence[CandleSeries], *, history: int) -> Market:
        """Join some series; a single one is taken as it is, without a copy."""
        count = np.array([len(one.slots) for one in series], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(count + history)[:-1]])
        slots = series[0].slots
        if len(series) > 1:
            columns = {name: np.full(first[-1] + count[-1], np.nan) for name in COLUMNS}
            for name, column in columns.items():
                for one, begin in zip(series, first.tolist(), strict=True):
                    column[begin : begin + len(one.slots)] = getattr(one.slots, name)
            slots = Slots(start_ms=slots.start_ms, interval_ms=slots.interval_ms, **columns)
        return cls(
            slots=slots, first=first, count=count, symbols=tuple(one.symbol for one in series)
        )

    def starts(self, series: IntArray, starts: IntArray, window: int) -> IntArray:
        """int64[N], first slots within `slots`; DatasetError for a window outside its series."""
        outside = (starts < 0) | (starts > self.count[series] - window)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            number = int(series[row])
            raise DatasetError(
                f"a window starts at slot {starts[row]} of {self.symbols[number]}, where windows "
                f"of {window} start at 0 to {self.count[number] - window}; the index does not "
                "belong to these candles: build the dataset again"
            )
        return self.first[series] + starts


def visible_mask(
    series: CandleSeries,
    starts: IntArray,
    *,
    window: int,
    missing_share: float,
    seed: int,
) -> Mask:
    """bool[N, window], True for the candles that stay visible under `irregular`.

    Of the window's slots `round((1 - missing_share) * window)` stay, at least 2, all of them
    slots with a candle as long as there are that many.
    """
    step = series.interval_ms
    opens = (series.slots.start_ms // step + starts).astype(np.uint64)
    name = hashlib.sha256(series.symbol.encode()).digest()[:8]
    key = _mix(np.array([seed & (2**64 - 1)], np.uint64) ^ np.frombuffer(name, "<u8"))
    drawn = _mix(key + opens * _GOLDEN)
    draws = _mix(drawn[:, None] + np.arange(1, window + 1, dtype=np.uint64) * _GOLDEN)
    # Slots without a candle go last, so that what stays visible can be seen.
    draws >>= np.uint64(1)
    present = series.slots.present[_slot_grid(starts, window)]
    draws[~present] |= np.uint64(1 << 63)
    keep = min(window, max(MIN_VISIBLE, round((1 - missing_share) * window)))
    chosen = np.argsort(draws, axis=1, kind="stable")[:, :keep]
    mask = np.zeros((len(starts), window), dtype=np.bool_)
    np.put_along_axis(mask, chosen, values=True, axis=1)
    return mask & present


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _slot_grid(starts: IntArray, window: int) -> IntArray:
    """int64[N, window], the slots of each window."""
    return starts[:, None] + np.arange(window, dtype=np.int64)


def _by_series(series: IntArray) -> list[tuple[int, IntArray]]:
    """Row numbers grouped by series, one group a series at most."""
    return [
        (int(number), np.flatnonzero(series == number)) for number in np.unique(series).tolist()
    ]
