"""Which windows a dataset holds: enumerate, drop with a reason, label, split, thin.

    selection = select_windows(config, series)
    selection.index          # the windows that stay, in time order
    selection.dropped        # {"missing candles": 12, "label undefined": 3, "purged": 60, ...}

Every window that the stride gives is either in the index or counted under one reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from candlemark.candles.series import CandleSeries, IntArray, Slots
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.index import Index, Span
from candlemark.dataset.labels import UNDEFINED, Label, LabelValues, make_label
from candlemark.dataset.splits import OUTSIDE, SPLITS, assign, thin
from candlemark.errors import DatasetError

MIN_CANDLES = 2
"""A window with fewer candles shows nothing that could be judged."""

LABEL_CHUNK = 1 << 16
"""Windows labelled at once: bounds the memory of labels that look at many candles each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """The windows of a dataset, and what became of the others."""

    index: Index
    boundaries_ms: Mapping[str, tuple[int, int]]
    dropped: Mapping[str, int]


def select_windows(config: DatasetConfig, series: Sequence[CandleSeries]) -> Selection:
    """Choose, label and split the windows of `series`.

    Raises DatasetError: no window is left, or too few for the splits.
    """
    label = make_label(config.label)
    parts, candidates, incomplete = [], 0, 0
    for number, one in enumerate(series):
        starts = np.arange(0, len(one.slots) - config.window + 1, config.stride, dtype=np.int64)
        candidates += len(starts)
        complete = starts[enough_candles(one.slots, starts, config)]
        incomplete += len(starts) - len(complete)
        parts.append(_describe(config, label, number, one, complete))
    index = _in_time_order(parts)
    defined = index.target != UNDEFINED
    dropped = {"missing candles": incomplete, "label undefined": int((~defined).sum())}
    index = index.take(defined)
    if len(index) == 0:
        raise _nothing_left(config, series, candidates, dropped)

    step = series[0].interval_ms
    span = span_of(config, label)
    placed = assign(
        index.window_start_ms + span.first * step,
        index.window_start_ms + (span.last + 1) * step,
        config.split,
        interval_ms=step,
    )
    dropped |= placed.dropped
    kept = thin(placed.codes, index.series, index.window_start_ms, config.max_samples)
    dropped["not sampled"] = int((placed.codes != OUTSIDE).sum() - kept.sum())
    index.codes[:] = placed.codes
    return Selection(index=index.take(kept), boundaries_ms=placed.boundaries_ms, dropped=dropped)


def span_of(config: DatasetConfig, label: Label) -> Span:
    """The slots that one window of the dataset reads."""
    return Span.of(window=config.window, history=config.history, reach=label.reach(config.window))


def compute_labels(label: Label, slots: Slots, starts: IntArray, window: int) -> LabelValues:
    """Labels of any number of windows, in bounded memory."""
    parts = [
        label.compute(slots, starts[first : first + LABEL_CHUNK], window)
        for first in range(0, max(1, len(starts)), LABEL_CHUNK)
    ]
    return LabelValues(
        target=np.concatenate([part.target for part in parts]),
        value=np.concatenate([part.value for part in parts]),
    )


def enough_candles(slots: Slots, starts: IntArray, config: DatasetConfig) -> npt.NDArray[np.bool_]:
    """bool[N], True where a window holds enough candles."""
    counted = np.concatenate([[0], np.cumsum(slots.present)])
    present = counted[starts + config.window] - counted[starts]
    missing = config.window - present
    enough: npt.NDArray[np.bool_] = present >= MIN_CANDLES
    enough &= missing <= config.max_missing * config.window + 1e-9
    return enough


def _describe(
    config: DatasetConfig, label: Label, number: int, series: CandleSeries, starts: IntArray
) -> Index:
    """Index rows of one series, in no split yet."""
    slots, window, step = series.slots, config.window, series.interval_ms
    found = compute_labels(label, slots, starts, window)
    reach = label.reach(window)
    opens = slots.start_ms + starts * step
    following = np.minimum(starts + window, len(slots) - 1)
    after_end = starts + window >= len(slots)
    return Index(
        series=np.full(len(starts), number, dtype=np.int64),
        start_slot=starts,
        window_start_ms=opens,
        window_end_ms=opens + window * step,
        reach_start_ms=opens + reach.first * step,
        reach_end_ms=opens + (reach.last + 1) * step,
        codes=np.full(len(starts), OUTSIDE, dtype=np.int8),
        target=found.target,
        value=found.value,
        next_close=np.where(after_end, np.nan, slots.close[following]),
    )


def _in_time_order(parts: Sequence[Index]) -> Index:
    joined = Index(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in Index.__slots__}
    )
    return joined.take(np.lexsort((joined.series, joined.window_start_ms)))


def _nothing_left(
    config: DatasetConfig,
    series: Sequence[CandleSeries],
    candidates: int,
    dropped: Mapping[str, int],
) -> DatasetError:
    candles = sum(len(one) for one in series)
    needed = config.window + max(0, make_label(config.label).horizon(config.window))
    if candidates == 0 or candles < needed:
        return DatasetError(
            f"no window fits: {candles} candles, and one window with its label needs {needed}; "
            "take a longer --period or a smaller --window-size"
        )
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    return DatasetError(
        f"none of {candidates} windows of {config.window} is left ({reasons}); allow more with "
        f"max_missing (now {config.max_missing:g}), or take another range with --start and --end"
    )


def count_by_class(index: Index, class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Number of windows by split and class."""
    return {
        split: {
            name: int(((index.codes == code) & (index.target == target)).sum())
            for target, name in enumerate(class_names)
        }
        for code, split in enumerate(SPLITS)
    }
