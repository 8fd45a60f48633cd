"""Returns start at the last close, and none is taken from a candle that another split shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from candlemark.candles.series import CandleSeries
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.returns import last_closes, next_returns
from candlemark.errors import ConfigError

MakeDataset = Callable[..., Dataset]


@pytest.fixture
def two(make_series: Callable[..., CandleSeries]) -> list[CandleSeries]:
    return [
        make_series(400, seed=1, symbol="A", missing=(50, 51, 200)),
        make_series(390, seed=2, symbol="B"),
    ]


@pytest.mark.parametrize("label", ["next_close", "direction"])
def test_the_return_is_the_label_s_where_the_label_is_one(
    make_dataset: MakeDataset, two: list[CandleSeries], label: str
) -> None:
    dataset = make_dataset(series=two, label={"name": label})
    rows = np.random.default_rng(0).permutation(len(dataset))
    value = next_returns(dataset, rows)
    np.testing.assert_allclose(value, dataset.values(rows), atol=1e-15)
    price = last_closes(dataset, rows) * np.exp(value)
    np.testing.assert_allclose(price, dataset.index.next_close[rows])


def test_the_last_close_is_the_last_slot_s(
    make_dataset: MakeDataset, two: list[CandleSeries]
) -> None:
    for name, changes in (("all", {}), ("hidden", {"experiment": "irregular"})):
        dataset = make_dataset(name, series=two, label={"name": "next_candle"}, **changes)
        rows = np.arange(0, len(dataset), 7)
        expected = [
            two[number].slots.close[start + dataset.window - 1]
            for number, start in zip(
                dataset.index.series[rows], dataset.index.start_slot[rows], strict=True
            )
        ]
        np.testing.assert_array_equal(last_closes(dataset, rows), expected)
    assert np.isnan(dataset.sequences(rows)[:, -1, 3]).any()  # hidden, and still the anchor


def test_a_hole_has_no_return(make_dataset: MakeDataset, two: list[CandleSeries]) -> None:
    dataset = make_dataset(series=two, label={"name": "last_candle"}, max_missing=0.5)
    rows = np.arange(len(dataset))
    value = next_returns(dataset, rows)
    of_first = dataset.index.series == 0
    after = dataset.index.start_slot + dataset.window
    assert np.isnan(value[of_first & (after == 50)]).all()
    assert np.isnan(value[of_first & (after == 51)]).all()
    assert not np.isnan(value[of_first & (after == 53)]).any()
    end_of_market = np.where(of_first, 400, 390)
    assert np.isnan(value[after >= end_of_market]).all()
    assert 0 < np.isnan(value).sum() < 20


def read_by(dataset: Dataset, row: int) -> tuple[int, int]:
    """First stamp that a window reads, and the end of the last."""
    index, step = dataset.index, dataset.series[0].interval_ms
    first = min(
        index.window_start_ms[row] - dataset.config.history * step, index.reach_start_ms[row]
    )
    return int(first), int(max(index.window_end_ms[row], index.reach_end_ms[row]))


@pytest.mark.parametrize(
    "changes",
    [
        {"label": {"name": "last_candle"}},
        {"label": {"name": "last_candle"}, "split": {"method": "walk_forward", "fold": 2}},
        {"label": {"name": "window_trend"}, "style": {"kind": "jkx", "moving_averages": [20]}},
        {"label": {"name": "next_close"}},
    ],
    ids=["recognition", "walk forward", "averages", "forecast"],
)
def test_no_return_is_taken_from_a_candle_that_another_split_reads(
    make_dataset: MakeDataset, two: list[CandleSeries], changes: dict[str, Any]
) -> None:
    dataset = make_dataset(series=two, **changes)
    rows = np.arange(len(dataset))
    value = next_returns(dataset, rows)
    spans = np.array([read_by(dataset, row) for row in rows])
    for row in rows.tolist():
        time = dataset.index.window_end_ms[row]
        others = spans[dataset.index.codes != dataset.index.codes[row]]
        foreign = bool(((others[:, 0] <= time) & (time < others[:, 1])).any())
        unknown = np.isnan(dataset.index.next_close[row])
        assert np.isnan(value[row]) == (foreign or unknown)
        if changes["label"]["name"] == "next_close":
            assert not foreign
    if changes["label"]["name"] == "last_candle":
        assert np.isnan(value[dataset.split("train")[-1]])


def test_a_random_split_shares_its_candles_anyway(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(label={"name": "last_candle"}, split={"method": "random"})
    value = next_returns(dataset, np.arange(len(dataset)))
    assert np.isnan(value).sum() == 1  # of the window at the end of the market


def test_prices_below_zero_have_no_return(
    make_dataset: MakeDataset, make_series: Callable[..., CandleSeries]
) -> None:
    series = make_series(400)
    moved = CandleSeries.from_numpy(
        series.to_numpy()
        | {name: getattr(series, name) - 200 for name in ("open", "high", "low", "close")},
        symbol="SPREAD",
        interval="1h",
    )
    dataset = make_dataset(series=[moved], label={"name": "next_candle"})
    assert np.isnan(next_returns(dataset, [0, 1, 2])).all()
    assert (last_closes(dataset, [0, 1, 2]) < 0).all()


def test_rows_that_are_not_there_are_refused(make_dataset: MakeDataset) -> None:
    dataset = make_dataset()
    for function in (next_returns, last_closes):
        assert function(dataset, []).shape == (0,)
        with pytest.raises(ConfigError, match=f"this dataset has rows 0 to {len(dataset) - 1}"):
            function(dataset, [len(dataset)])
