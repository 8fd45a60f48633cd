"""The candles that `irregular` hides: how many, always the same, whatever is asked for."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.candles.series import CandleSeries
from candlemark.dataset.drawing import Painter, visible_mask
from candlemark.dataset.lazy import Dataset
from candlemark.errors import CandlemarkError, DatasetError


def walk(count: int = 200, first: int = 0, symbol: str = "TEST") -> CandleSeries:
    price = 100 + np.arange(first, first + count, dtype=np.float64)
    columns = {
        "open_time_ms": (np.arange(count) + first) * 3_600_000,
        "open": price,
        "high": price + 1,
        "low": price - 1,
        "close": price + 0.5,
        "volume": np.ones(count),
    }
    return CandleSeries.from_numpy(columns, symbol=symbol, interval="1h")


@given(
    share=st.floats(0, 0.99),
    window=st.integers(2, 40),
    seed=st.integers(-5, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_so_many_stay_visible(share: float, window: int, seed: int) -> None:
    starts = np.arange(0, 200 - window + 1)
    mask = visible_mask(walk(), starts, window=window, missing_share=share, seed=seed)
    assert mask.shape == (len(starts), window)
    expected = min(window, max(2, round((1 - share) * window)))
    assert (mask.sum(axis=1) == expected).all()


@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
def test_every_position_is_hidden_alike(share: float) -> None:
    window = 20
    mask = visible_mask(walk(4020), np.arange(4000), window=window, missing_share=share, seed=1)
    kept = max(2, round((1 - share) * window)) / window
    # Four standard deviations of a binomial share.
    tolerance = 4 * np.sqrt(kept * (1 - kept) / 4000)
    np.testing.assert_allclose(mask.mean(axis=0), kept, atol=tolerance)


def test_a_window_is_hidden_the_same_in_any_batch_and_range() -> None:
    hide = partial(visible_mask, window=12, missing_share=0.6, seed=3)
    whole = hide(walk(), np.arange(100))
    alone = hide(walk(), np.array([37, 5]))
    np.testing.assert_array_equal(alone, whole[[37, 5]])
    # The same market loaded from 20 candles later on: the same times look the same.
    later = hide(walk(100, first=20), np.array([17]))
    np.testing.assert_array_equal(later[0], whole[37])


def test_seed_symbol_and_time_all_count() -> None:
    starts = np.arange(50)
    hide = partial(visible_mask, window=20, missing_share=0.6)
    base = hide(walk(), starts, seed=0)
    assert (base != hide(walk(), starts, seed=1)).any(axis=1).mean() > 0.9
    other = hide(walk(symbol="OTHER"), starts, seed=0)
    assert (base != other).any(axis=1).mean() > 0.9
    assert len(np.unique(base, axis=0)) > 45


def test_what_stays_visible_exists(make_series: Callable[..., CandleSeries]) -> None:
    series = make_series(100, missing=[11, 12, 13, 14])
    mask = visible_mask(series, np.array([10]), window=8, missing_share=0.6, seed=0)
    assert mask[0].sum() == 3
    assert not mask[0, 1:5].any()


def test_hidden_candles_are_drawn_as_empty_slots(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(experiment="irregular", missing_share=0.6)
    rows = np.arange(len(dataset))
    slots = dataset.images(rows).reshape(len(rows), 32, 10, 3)
    painted = slots.any(axis=(1, 3))
    np.testing.assert_array_equal(painted, dataset.visible(rows))


def test_labels_read_the_true_candles(make_dataset: Callable[..., Dataset]) -> None:
    plain, holed = make_dataset("a"), make_dataset("b", experiment="irregular")
    np.testing.assert_array_equal(plain.index.target, holed.index.target)
    np.testing.assert_array_equal(plain.index.value, holed.index.value)


@pytest.mark.parametrize("experiment", ["regular", "fullimage", "irregular"])
@pytest.mark.parametrize("kind", ["jkx", "candlestick"])
def test_nothing_after_the_window_is_in_pictures_or_numbers(
    experiment: str,
    kind: str,
    make_series: Callable[..., CandleSeries],
    make_dataset: Callable[..., Dataset],
) -> None:
    cut = 200
    columns = {name: column.copy() for name, column in make_series(400).to_numpy().items()}
    known = CandleSeries.from_numpy(columns, symbol="TEST", interval="1h")
    for name in ("open", "high", "low", "close", "volume"):
        columns[name][cut:] *= 7  # another future
    other = CandleSeries.from_numpy(columns, symbol="TEST", interval="1h")
    look = {
        "experiment": experiment,
        "style": {"kind": kind, "volume": True, "moving_averages": [3, 25], "height": 64},
        "label": {"name": "forward_return", "horizon": 5},
    }
    one = make_dataset("one", series=[known], **look)
    two = make_dataset("two", series=[other], **look)
    np.testing.assert_array_equal(one.index.start_slot, two.index.start_slot)
    before = np.flatnonzero(one.index.start_slot + one.window <= cut)
    assert (one.index.start_slot[before] + one.window == cut).any()  # its label lies in the future
    np.testing.assert_array_equal(one.images(before), two.images(before))
    np.testing.assert_array_equal(one.features(before), two.features(before))
    after = np.flatnonzero(one.index.start_slot + one.window == cut + 1)
    assert (one.images(after) != two.images(after)).any()


def test_a_mixed_batch_shows_each_market_as_if_it_were_alone(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    """Averages at the beginning of a series must not read the candles of the one before."""
    series = [make_series(80 + 30 * n, symbol=f"S{n}", seed=n, missing=[3, 40]) for n in range(3)]
    style = {"kind": "candlestick", "height": 48, "moving_averages": [5, 20], "volume": True}
    for experiment in ("regular", "irregular"):
        dataset = make_dataset(experiment, series=series, style=style, experiment=experiment)
        rows = np.random.default_rng(0).permutation(len(dataset))
        mixed = dataset.images(rows)
        for number, one in enumerate(series):
            alone = Painter(dataset.config, [one])
            own = dataset.index.series[rows] == number
            part = dataset.index.take(rows[own])
            np.testing.assert_array_equal(
                mixed[own], alone.draw_windows(np.zeros_like(part.series), part.start_slot)
            )


def test_pictures_are_drawn_into_a_given_buffer(make_dataset: Callable[..., Dataset]) -> None:
    for storage in ("none", "hdf5"):
        dataset = make_dataset(storage, storage={"format": storage})
        out = np.empty((4, *dataset.image_shape), dtype=np.uint8)
        assert dataset.images([5, 2, 9, 2], out=out, threads=1) is out
        np.testing.assert_array_equal(out, dataset.images([5, 2, 9, 2]))
        with pytest.raises(CandlemarkError, match=r"out is uint8 of shape \(4, .*it must be"):
            dataset.images([1], out=out)


def test_a_window_outside_its_series_is_refused(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    series = [make_series(60, symbol="A"), make_series(60, symbol="B", seed=1)]
    dataset = make_dataset(series=series)
    painter = Painter(dataset.config, series)
    with pytest.raises(
        DatasetError, match="starts at slot 51 of A, where windows of 10 start at 0 to 50"
    ):
        painter.draw_windows(np.array([1, 0]), np.array([50, 51]))


def test_packed_pictures_are_the_same_pictures(make_dataset: Callable[..., Dataset]) -> None:
    for experiment in ("regular", "irregular"):
        dataset = make_dataset(experiment, experiment=experiment)
        painter = Painter(dataset.config, dataset.series)
        part = dataset.index.take(np.array([7, 0, 3]))
        packed = painter.draw_packed(part)
        height = dataset.image_shape[0]
        bits = np.unpackbits(packed, axis=1, count=height, bitorder="little").astype(bool)
        np.testing.assert_array_equal(bits, painter.draw(part) == painter.draw(part).max())
        again = pickle.loads(pickle.dumps(painter))  # noqa: S301  # its own
        np.testing.assert_array_equal(again.draw_packed(part), packed)
