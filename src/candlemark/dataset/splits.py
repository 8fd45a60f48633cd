"""Splits by calendar time across all symbols at once, with purge and embargo.

    placed = assign(span_start_ms, span_end_ms, SplitConfig(), interval_ms=3_600_000)
    placed.codes            # int8[N]: 0 train, 1 validation, 2 test, -1 in no split

The *span* of a window is all that its picture and its label read: from the first candle that
the picture shows (or averages) to the end of the label's reach. A split is a stretch of
calendar time, and a window belongs to it only if its whole span lies inside. So no reach
crosses a boundary and no candle is shared, whatever the symbols; the starts on two sides of a
boundary are at least a span apart, which is more than window + horizon - 1 candles.

The shares are shares of what is left after the purge: 72/8/20 stays 72/8/20 on a week of
candles, where cutting first and purging then would leave validation empty.

`walk_forward` cuts the windows into folds + 1 blocks of equal size: fold i trains on blocks
0 .. i (expanding), keeps the end of them for validation in the proportion
validation / (train + validation), and tests on block i + 1.

`random` ignores time. Neighbouring windows share almost all of their candles, so it leaks; it
exists to show how much, and the audit fails it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from candlemark.candles.series import IntArray
from candlemark.config import Config
from candlemark.errors import ConfigError, DatasetError

Codes = npt.NDArray[np.int8]

SPLITS = ("train", "validation", "test")
"""Names of the splits, by code."""

OUTSIDE = -1
"""Code of a window in no split."""


class SplitConfig(Config):
    """How windows are divided; see the module for what each method does.

    train, validation, test: shares of the windows left after the purge; they sum to 1
    embargo: candles left out after each boundary, beside the purge
    folds, fold: number of walk-forward folds, and which one this dataset is (from 0)
    seed: of the random method alone
    """

    method: Literal["time", "walk_forward", "random"] = "time"
    train: float = Field(default=0.72, gt=0, lt=1)
    validation: float = Field(default=0.08, ge=0, lt=1)
    test: float = Field(default=0.20, gt=0, lt=1)
    embargo: int = Field(default=0, ge=0)
    folds: int = Field(default=5, ge=1)
    fold: int = Field(default=0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> SplitConfig:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"shares {self.train} + {self.validation} + {self.test} sum to {total:g}; "
                "they must sum to 1"
            )
        if self.fold >= self.folds:
            raise ValueError(
                f"fold {self.fold} does not exist; {self.folds} folds count from 0 "
                f"to {self.folds - 1}"
            )
        return self

    @property
    def leaky(self) -> bool:
        """True if windows of different splits share candles by construction."""
        return self.method == "random"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """Where each window went.

    codes: int8[N], index into SPLITS, -1 for a window in no split
    boundaries_ms: start and end of the calendar time of each split; empty for random
    dropped: windows in no split, counted by reason ("purged", "outside the fold")
    """

    codes: Codes
    boundaries_ms: Mapping[str, tuple[int, int]]
    dropped: Mapping[str, int]


def assign(
    span_start_ms: IntArray, span_end_ms: IntArray, config: SplitConfig, *, interval_ms: int
) -> Assignment:
    """Place every window in a split, or in none.

    span_start_ms, span_end_ms: int64[N], the first open time that a window reads and the end
    (exclusive) of the last candle that it reads; any order, spans of equal length.

    Raises DatasetError: a split would be empty; the message says how many candles are needed.
    """
    if config.method == "random":
        return _random(span_start_ms, config)
    order = np.argsort(span_start_ms, kind="stable")
    timeline = _Timeline(
        start=span_start_ms[order],
        end=span_end_ms[order],
        embargo_ms=config.embargo * interval_ms,
    )
    cuts = (_by_time if config.method == "time" else _walk_forward)(timeline, config)
    if cuts is None:
        raise _too_few(timeline, config, interval_ms)

    sorted_codes = np.full(len(order), OUTSIDE, dtype=np.int8)
    boundaries = {}
    for code, (first, last) in cuts.items():
        sorted_codes[first:last] = code
        if first < last:
            boundaries[SPLITS[code]] = (int(timeline.start[first]), int(timeline.end[last - 1]))
    codes = np.empty_like(sorted_codes)
    codes[order] = sorted_codes
    used = [cut for cut in cuts.values() if cut[0] < cut[1]]
    lowest, highest = min(cut[0] for cut in used), max(cut[1] for cut in used)
    within = int((sorted_codes[lowest:highest] == OUTSIDE).sum())
    dropped = {"purged": within, "outside the fold": len(order) - (highest - lowest)}
    return Assignment(codes=codes, boundaries_ms=boundaries, dropped=dropped)


def thin(
    codes: Codes, series: IntArray, time_ms: IntArray, max_samples: int
) -> npt.NDArray[np.bool_]:
    """bool[N], the windows kept when at most `max_samples` may stay (0: all).

    series: int64[N], the symbol of each window; time_ms: int64[N], when it begins

    Each split keeps its proportion of what was left after the purge, at least one window, and
    so does each symbol within a split. The windows of each are taken evenly spaced in time;
    nothing is shuffled, so a split stays the stretch of time that it was. (Even steps through
    the windows of all symbols at once would fall on the same symbol again and again.)

    Raises ConfigError: fewer windows are allowed than there are splits.
    """
    inside: npt.NDArray[np.bool_] = codes != OUTSIDE
    counts = np.bincount(codes[inside], minlength=len(SPLITS))
    if max_samples == 0 or counts.sum() <= max_samples:
        return inside
    needed = int((counts > 0).sum())
    if max_samples < needed:
        raise ConfigError(
            f"max_samples is {max_samples}; {needed} splits need at least one window each, so it "
            f"must be 0 (all) or at least {needed}: --max-samples {needed}"
        )
    kept = np.zeros(len(codes), dtype=bool)
    for code, share in enumerate(_shares_of(counts, max_samples)):
        rows = np.flatnonzero(codes == code)
        symbols = np.bincount(series[rows])
        for symbol, part in enumerate(_shares_of(symbols, share) if share else []):
            mine = rows[series[rows] == symbol]
            mine = mine[np.argsort(time_ms[mine], kind="stable")]
            picks = ((np.arange(part) + 0.5) * len(mine) / max(part, 1)).astype(np.int64)
            kept[mine[picks]] = True
    return kept


def _shares_of(counts: npt.NDArray[np.int64], total: int) -> list[int]:
    """`total` divided in the proportion of `counts`, largest remainder, none empty if it can be."""
    exact = counts * total / counts.sum()
    shares = np.maximum(np.floor(exact), counts > 0).astype(int)
    while shares.sum() > total:
        shares[np.argmax(shares)] -= 1
    for code in np.argsort(shares - exact, kind="stable")[: total - shares.sum()]:
        shares[code] += 1
    return [int(share) for share in np.minimum(shares, counts)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Timeline:
    """Spans in time order; `start` and `end` are both sorted, as all spans are equally long."""

    start: IntArray
    end: IntArray
    embargo_ms: int

    def after(self, position: int) -> int:
        """First window that begins once the windows before `position`, and the embargo, end."""
        if position == 0:
            return 0
        free = self.end[position - 1] + self.embargo_ms
        return int(np.searchsorted(self.start, free, side="left"))

    def before(self, position: int) -> int:
        """Windows that end, the embargo included, no later than window `position` begins."""
        if position >= len(self.start):
            return len(self.start)
        free = self.start[position] - self.embargo_ms
        return int(np.searchsorted(self.end, free, side="right"))


_Cuts = Mapping[int, tuple[int, int]]


def _divide(
    timeline: _Timeline, stop: int, shares: Sequence[float]
) -> list[tuple[int, int]] | None:
    """Cut windows 0 .. stop into neighbouring runs in the proportion of `shares`.

    The largest total is sought that fits with the windows purged between the runs; more in
    an early run always pushes the later runs back, so bisection finds it. None if some run
    with a share would be empty.
    """

    def runs(total: int) -> list[tuple[int, int]] | None:
        placed: list[tuple[int, int]] = []
        position = 0
        for share in shares:
            count = max(1, round(share * total)) if share > 0 else 0
            first = timeline.after(position) if count else position
            if first + count > stop:
                return None
            position = first + count
            placed.append((first, position))
        return placed

    fits, too_many = 0, stop + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if runs(middle) is None:
            too_many = middle
        else:
            fits = middle
    placed = runs(fits) if fits else None
    if placed is None:
        return None
    # Rounding leaves a few windows at the end: they belong to the last run that has a share.
    last = max(run for run, share in enumerate(shares) if share > 0)
    placed[last] = (placed[last][0], stop)
    return placed


def _by_time(timeline: _Timeline, config: SplitConfig) -> _Cuts | None:
    shares = (config.train, config.validation, config.test)
    runs = _divide(timeline, len(timeline.start), shares)
    return None if runs is None else dict(enumerate(runs))


def _walk_forward(timeline: _Timeline, config: SplitConfig) -> _Cuts | None:
    count = len(timeline.start)
    edges = [count * block // (config.folds + 1) for block in range(config.folds + 2)]
    test = (edges[config.fold + 1], edges[config.fold + 2])
    if test[0] == test[1]:
        return None
    known = config.train + config.validation
    runs = _divide(
        timeline, timeline.before(test[0]), (config.train / known, config.validation / known)
    )
    return None if runs is None else {0: runs[0], 1: runs[1], 2: test}


def _random(span_start_ms: IntArray, config: SplitConfig) -> Assignment:
    """Splits drawn without regard to time."""
    count = len(span_start_ms)
    edges = np.round(np.cumsum([0, config.train, config.validation, config.test]) * count)
    ranks = np.random.default_rng(config.seed).permutation(count)
    codes = (np.searchsorted(edges.astype(np.int64), ranks, side="right") - 1).astype(np.int8)
    for code, share in enumerate((config.train, config.validation, config.test)):
        if share > 0 and not (codes == code).any():
            raise DatasetError(
                f"split '{SPLITS[code]}' would be empty: {count} windows for shares "
                f"{config.train}/{config.validation}/{config.test}; take a longer --period"
            )
    return Assignment(codes=codes, boundaries_ms={}, dropped={"purged": 0, "outside the fold": 0})


def _too_few(timeline: _Timeline, config: SplitConfig, interval_ms: int) -> DatasetError:
    """What is there, what is needed, and which flags help."""
    count = len(timeline.start)
    span = int(timeline.end[0] - timeline.start[0]) // interval_ms if count else 0
    distance = int(np.median(np.diff(timeline.start))) // interval_ms if count > 1 else 1
    distance = max(distance, 1)
    shares = [s for s in (config.train, config.validation, config.test) if s > 0]
    gap = span + config.embargo
    if config.method == "time":
        # Between neighbouring splits a whole span is lost, and each split needs one window.
        needed = span + (len(shares) - 1) * gap + distance * len(shares)
        cut = f"{config.train:g}/{config.validation:g}/{config.test:g} by time"
    else:
        needed = (config.folds + 1) * ((len(shares) - 1) * gap + distance * len(shares)) + span
        cut = f"fold {config.fold} of {config.folds}, walking forward,"
    return DatasetError(
        f"{count} windows are too few to split {cut}: a window reads {span} candles up to the end "
        f"of its label, and as many{f' + {config.embargo}' if config.embargo else ''} are purged "
        f"at each boundary, so a split would be empty; about {needed} candles are needed: take "
        "a longer --period or an earlier --start, a shorter --interval, or a smaller "
        "--window-size, --horizon or --embargo"
    )
