"""Splits: hypothesis proves that nothing is shared; shares, thinning, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from candlemark.candles.series import IntArray
from candlemark.config import parse
from candlemark.dataset.splits import SPLITS, Assignment, Codes, SplitConfig, assign, thin
from candlemark.errors import ConfigError, DatasetError

HOUR = 3_600_000


def spans(starts: IntArray, length: int) -> tuple[IntArray, IntArray]:
    return starts * HOUR, (starts + length) * HOUR


def place(count: int, length: int, config: SplitConfig) -> tuple[IntArray, Assignment]:
    starts = np.arange(count, dtype=np.int64)
    return starts, assign(*spans(starts, length), config, interval_ms=HOUR)


def assert_disjoint(starts: IntArray, length: int, codes: Codes, embargo: int) -> None:
    """Splits follow one another in time, no span crosses, and the embargo is kept."""
    end = None
    for code in range(len(SPLITS)):
        mine = starts[codes == code]
        if not len(mine):
            continue
        if end is not None:
            assert mine.min() >= end + embargo
        end = mine.max() + length


splits = st.builds(
    lambda method, train, test, embargo, folds, fold: SplitConfig(
        method=method,
        train=train,
        test=test,
        validation=round(1 - train - test, 6),
        embargo=embargo,
        folds=folds,
        fold=fold % folds,
    ),
    st.sampled_from(["time", "walk_forward"]),
    st.sampled_from([0.3, 0.5, 0.72]),
    st.sampled_from([0.2, 0.28]),
    st.integers(0, 7),
    st.integers(1, 6),
    st.integers(0, 5),
)


@given(
    config=splits,
    length=st.integers(2, 40),
    symbols=st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 400), st.integers(1, 5)),
        min_size=1,
        max_size=3,
    ),
    holes=st.lists(st.integers(0, 700), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_no_reach_crosses_a_boundary_and_no_candle_is_shared(
    config: SplitConfig,
    length: int,
    symbols: list[tuple[int, int, int]],
    holes: list[int],
) -> None:
    starts = np.concatenate([np.arange(first, first + n, stride) for first, n, stride in symbols])
    series = np.repeat(np.arange(len(symbols)), [len(range(0, n, s)) for _, n, s in symbols])
    for hole in holes:
        stays = (starts < hole) | (starts >= hole + 50)
        starts, series = starts[stays], series[stays]
    assume(len(starts))
    try:
        placed = assign(*spans(starts, length), config, interval_ms=HOUR)
    except DatasetError:  # too few candles, which has tests of its own
        return
    assert_disjoint(starts, length, placed.codes, config.embargo)
    for code, name in enumerate(SPLITS):
        mine = starts[placed.codes == code]
        if len(mine):
            first, last = placed.boundaries_ms[name]
            assert (mine * HOUR >= first).all()
            assert ((mine + length) * HOUR <= last).all()
    assert sum(placed.dropped.values()) == (placed.codes == -1).sum()
    assert set(placed.codes[placed.codes >= 0]) >= {0, 2}

    kept = thin(placed.codes, series, starts * HOUR, 9)
    assert kept.sum() == min(9, (placed.codes >= 0).sum())
    assert set(placed.codes[kept]) == set(placed.codes[placed.codes >= 0])


def test_default_shares_hold_after_the_purge() -> None:
    starts, placed = place(10_000, 31, SplitConfig())
    counts = np.bincount(placed.codes[placed.codes >= 0])
    np.testing.assert_allclose(counts / counts.sum(), [0.72, 0.08, 0.20], atol=0.001)
    assert placed.dropped == {"purged": 2 * 30, "outside the fold": 0}
    first_validation = starts[placed.codes == 1][0]
    assert first_validation - starts[placed.codes == 0][-1] == 31


def test_a_week_of_hours_has_every_split() -> None:
    _, placed = place(168 - 30, 31, SplitConfig())
    assert np.bincount(placed.codes[placed.codes >= 0]).tolist() == [56, 6, 16]


def test_embargo_widens_the_gap() -> None:
    starts, placed = place(1_000, 31, SplitConfig(embargo=24))
    assert starts[placed.codes == 1][0] - starts[placed.codes == 0][-1] == 31 + 24


def test_walk_forward_expands_and_tests_every_later_block_once() -> None:
    tested: list[int] = []
    trained: list[int] = []
    for fold in range(4):
        starts, placed = place(1_000, 10, SplitConfig(method="walk_forward", folds=4, fold=fold))
        tested.extend(starts[placed.codes == 2].tolist())
        trained.append(int((placed.codes == 0).sum()))
    assert tested == list(range(200, 1_000))
    assert trained == sorted(trained)


def test_no_validation_is_allowed() -> None:
    for method in ("time", "walk_forward"):
        config = SplitConfig.model_validate(
            {"method": method, "train": 0.8, "validation": 0.0, "test": 0.2}
        )
        _, placed = place(500, 10, config)
        assert set(placed.codes.tolist()) == {-1, 0, 2}


def test_random_is_called_leaky_and_shares_candles() -> None:
    config = SplitConfig(method="random")
    starts, placed = place(1_000, 31, config)
    assert config.leaky
    assert not SplitConfig().leaky
    assert (placed.codes >= 0).all()
    with pytest.raises(AssertionError):
        assert_disjoint(starts, 31, placed.codes, 0)
    _, again = place(1_000, 31, config)
    np.testing.assert_array_equal(placed.codes, again.codes)


def test_too_few_candles_say_how_many_are_needed() -> None:
    with pytest.raises(
        DatasetError,
        match=r"40 windows are too few to split 0.72/0.08/0.2 by time: a window reads 31 candles "
        r".* about 96 candles are needed: take a longer --period",
    ):
        place(40, 31, SplitConfig())


def test_the_number_of_candles_named_is_enough() -> None:
    windows = 96 - 31 + 1
    _, placed = place(windows, 31, SplitConfig())
    assert set(placed.codes.tolist()) == {-1, 0, 1, 2}


@pytest.mark.parametrize("method", ["time", "walk_forward", "random"])
def test_one_window_cannot_be_split(method: str) -> None:
    with pytest.raises(DatasetError, match="--period"):
        place(1, 31, SplitConfig.model_validate({"method": method}))


def test_thinning_is_even_in_time_and_keeps_proportions() -> None:
    starts, placed = place(10_000, 31, SplitConfig())
    one_symbol = np.zeros_like(starts)
    kept = thin(placed.codes, one_symbol, starts, 200)
    assert np.bincount(placed.codes[kept]).tolist() == [144, 16, 40]
    steps = np.diff(starts[kept & (placed.codes == 0)])
    assert steps.max() - steps.min() <= 1
    assert thin(placed.codes, one_symbol, starts, 0).sum() == (placed.codes >= 0).sum()


@pytest.mark.parametrize("max_samples", [50, 134, 500, 648, 670])
def test_thinning_keeps_every_symbol_in_proportion(max_samples: int) -> None:
    starts = np.repeat(np.arange(668, dtype=np.int64), 2)
    series = np.tile(np.array([0, 1]), 668)
    placed = assign(*spans(starts, 11), SplitConfig(), interval_ms=HOUR)
    kept = thin(placed.codes, series, starts, max_samples)
    assert kept.sum() == max_samples
    for code in range(len(SPLITS)):
        mine = kept & (placed.codes == code)
        first, second = np.bincount(series[mine], minlength=2)
        assert abs(first - second) <= 1
        for symbol in (0, 1):
            steps = np.diff(starts[mine & (series == symbol)])
            assert steps.max(initial=1) - steps.min(initial=steps.max(initial=1)) <= 1


def test_thinning_to_fewer_windows_than_symbols_keeps_what_was_asked_for() -> None:
    starts = np.repeat(np.arange(300, dtype=np.int64), 5)
    series = np.tile(np.arange(5), 300)
    placed = assign(*spans(starts, 11), SplitConfig(), interval_ms=HOUR)
    assert thin(placed.codes, series, starts, 4).sum() == 4


def test_thinning_below_the_number_of_splits_is_refused() -> None:
    starts, placed = place(1_000, 31, SplitConfig())
    with pytest.raises(ConfigError, match="at least 3: --max-samples 3"):
        thin(placed.codes, np.zeros_like(starts), starts, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"train": 0.9}, r"shares 0.9 \+ 0.08 \+ 0.2 sum to 1.18; they must sum to 1"),
        ({"folds": 3, "fold": 3}, "fold 3 does not exist; 3 folds count from 0 to 2"),
    ],
)
def test_config_refuses(value: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(SplitConfig, value)
