"""Labels: known answers on drawn-up candles, reach, ties, holes, and agreement with plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.candles.series import CandleSeries, Slots
from candlemark.config import parse
from candlemark.dataset import labels
from candlemark.dataset.labels import (
    LABELS,
    Label,
    LabelConfig,
    LabelValues,
    Reach,
    kind_of,
    make_label,
)
from candlemark.errors import ConfigError

NAN = math.nan


def slots_of(candles: list[tuple[float, float, float, float]]) -> Slots:
    """Slots from (open, high, low, close) rows; a row of NaN is a missing candle."""
    columns = np.asarray(candles, dtype=np.float64).T
    return Slots(
        start_ms=0,
        interval_ms=60_000,
        open=columns[0],
        high=columns[1],
        low=columns[2],
        close=columns[3],
        volume=np.ones(len(candles)),
    )


def up(price: float) -> tuple[float, float, float, float]:
    return (price, price + 1, price, price + 1)


MISSING = (NAN, NAN, NAN, NAN)
FALL = (100.0, 100.0, 98.0, 98.0)
FLAT = (100.0, 100.0, 100.0, 100.0)
RISE = (100.0, 103.0, 100.0, 103.0)


def target(config: LabelConfig, candles: list[tuple[float, float, float, float]]) -> int:
    """The target of the one window of two slots at the start."""
    found = make_label(config).compute(slots_of(candles), np.array([0]), 2)
    return int(found.target[0])


@pytest.mark.parametrize(
    ("name", "candles", "expected"),
    [
        ("last_candle", [FALL, RISE], 1),
        ("last_candle", [RISE, FALL], 0),
        ("last_candle", [RISE, FLAT], 0),
        ("last_candle", [MISSING, RISE], 1),
        ("last_candle", [RISE, MISSING], -1),
        ("window_trend", [FALL, RISE], 1),
        ("window_trend", [RISE, FALL], 0),
        ("window_trend", [FLAT, FLAT], 0),
        ("window_trend", [MISSING, RISE], -1),
        ("next_candle", [FALL, FALL, RISE], 1),
        ("next_candle", [RISE, RISE, FLAT], 0),
        ("next_candle", [RISE, RISE, MISSING], -1),
        ("next_candle", [RISE, RISE], -1),
        ("next_close", [RISE, FLAT, RISE], 1),
        ("next_close", [RISE, FLAT, FLAT], 0),
        ("next_close", [RISE, MISSING, RISE], -1),
    ],
)
def test_two_class_labels(
    name: str, candles: list[tuple[float, float, float, float]], expected: int
) -> None:
    assert target(LabelConfig(name=name), candles) == expected


def test_next_close_value_is_the_log_return_of_the_closes() -> None:
    found = make_label(LabelConfig(name="next_close")).compute(
        slots_of([FLAT, FLAT, RISE]), np.array([0]), 2
    )
    assert found.value[0] == pytest.approx(math.log(1.03))


@pytest.mark.parametrize(
    ("later_close", "expected"),
    [(100.5, 1), (100.6, 2), (99.5, 1), (99.4, 0), (100.0, 1)],
)
def test_forward_return_three_classes(later_close: float, expected: int) -> None:
    later = (100.0, max(100.0, later_close), min(100.0, later_close), later_close)
    config = LabelConfig(name="forward_return", horizon=2, classes=3)
    assert target(config, [FLAT, FLAT, RISE, later]) == expected


def test_forward_return_threshold_and_horizon() -> None:
    candles = [FLAT, FLAT, FALL, RISE]
    assert target(LabelConfig(name="forward_return", horizon=1), candles) == 0
    assert target(LabelConfig(name="forward_return", horizon=2), candles) == 1
    assert target(LabelConfig(name="forward_return", horizon=2, threshold=0.03), candles) == 0
    assert target(LabelConfig(name="forward_return", horizon=3), candles) == -1


@pytest.mark.parametrize(
    ("ahead", "three", "two"),
    [
        ([(100, 102, 99.5, 100)], 2, 1),
        ([(100, 100.5, 98, 100)], 0, 0),
        ([(100, 100.5, 99.5, 100.2), (100, 100.5, 99.5, 100.2)], 1, 1),
        ([(100, 100.5, 99.5, 100.2), (100, 100.5, 99.5, 100.0)], 1, 0),
        # the lower barrier is touched first, whatever comes later
        ([(100, 100.5, 98, 100), (100, 105, 100, 104)], 0, 0),
        # one candle touches both: nobody can tell which came first
        ([(100, 102, 98, 100), (100, 100, 100, 100)], -1, -1),
        # a hole before the touch hides the answer, after it does not
        ([MISSING, (100, 102, 100, 102)], -1, -1),
        ([(100, 102, 100, 102), MISSING], 2, 1),
    ],
)
def test_triple_barrier(
    ahead: list[tuple[float, float, float, float]], three: int, two: int
) -> None:
    for classes, expected in ((3, three), (2, two)):
        config = LabelConfig.model_validate(
            {"name": "triple_barrier", "horizon": len(ahead), "classes": classes}
        )
        assert target(config, [FLAT, FLAT, *ahead]) == expected


def test_triple_barrier_past_the_end_is_undefined_unless_touched_before() -> None:
    config = LabelConfig(name="triple_barrier", horizon=3, classes=3)
    assert target(config, [FLAT, FLAT, FLAT]) == -1
    assert target(config, [FLAT, FLAT, RISE]) == 2


@pytest.mark.parametrize(
    ("log_return", "expected"), [(0.011, 2), (0.009, 1), (-0.009, 1), (-0.011, 0), (0.0, 1)]
)
@pytest.mark.parametrize("horizon", [1, 4])
def test_direction_needs_more_than_the_usual_move(
    log_return: float, expected: int, horizon: int
) -> None:
    """Two visible moves of 2.1 and 2.5 %: a band of 0.43 x 2.31 % = 0.99 %, doubled over four."""
    closes = [100.0, 100 * math.exp(0.021), 100 * math.exp(-0.004)]
    later = closes[-1] * math.exp(log_return * math.sqrt(horizon))
    candles = [(c, c, c, c) for c in (*closes, *[50.0] * (horizon - 1), later)]
    found = make_label(LabelConfig(name="direction", horizon=horizon)).compute(
        slots_of(candles), np.array([0]), 3
    )
    assert found.target.tolist() == [expected]
    assert found.value[0] == pytest.approx(log_return * math.sqrt(horizon))


def test_direction_gives_each_class_a_third_of_normal_returns() -> None:
    random = np.random.default_rng(2)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 40_000)))
    slots = slots_of(list(zip(close, close, close, close, strict=True)))
    for horizon in (1, 4):
        label = make_label(LabelConfig(name="direction", horizon=horizon))
        found = label.compute(slots, np.arange(0, 39_000, 5), 60)
        shares = np.bincount(found.target, minlength=3) / len(found.target)
        np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    assert label.class_names == ("bearish", "neutral", "bullish")


def test_direction_equals_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(8)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 300)))
    close[random.random(300) < 0.15] = NAN
    close[[20, 21, 22]] = -1.0, 0.0, 0.0
    slots = slots_of(list(zip(close, close, close, close, strict=True)))
    starts = random.permutation(300)
    for window, horizon in ((2, 1), (5, 3)):
        label = make_label(LabelConfig(name="direction", horizon=horizon))
        found = label.compute(slots, starts, window)
        expected = [_direction_by_hand(close, start, window, horizon) for start in starts]
        assert found.target.tolist() == expected
        assert {-1, 0, 1, 2} == set(expected)
        monkeypatch.setattr(labels, "BATCH_CANDLES", 7)
        assert label.compute(slots, starts, window).target.tolist() == expected


def _direction_by_hand(close: np.ndarray, start: int, window: int, horizon: int) -> int:
    price = [float(c) if c > 0 else NAN for c in close] + [NAN] * (window + horizon)
    moves = [math.log(price[i + 1] / price[i]) for i in range(start, start + window - 1)]
    squares = [move**2 for move in moves if not math.isnan(move)]
    last = start + window - 1
    value = math.log(price[last + horizon] / price[last])
    if math.isnan(value) or not squares:
        return -1
    band = 0.43 * math.sqrt(sum(squares) / len(squares) * horizon)
    return 0 if value < -band else 2 if value > band else 1


def test_direction_in_a_market_that_stood_still() -> None:
    """No visible move, no band: any move is one, and none is neutral."""
    for ahead, expected in ((FLAT, 1), (RISE, 2), (FALL, 0)):
        assert target(LabelConfig(name="direction"), [FLAT, FLAT, ahead]) == expected
    assert target(LabelConfig(name="direction"), [MISSING, FLAT, RISE]) == -1
    assert target(LabelConfig(name="direction", threshold=0.02), [MISSING, FLAT, RISE]) == 2
    assert target(LabelConfig(name="direction", threshold=0.03), [MISSING, FLAT, RISE]) == 1


def test_the_edge_of_a_fixed_band_is_neutral() -> None:
    edge = math.log(103.0 / 100.0)
    for threshold, expected in ((edge, 1), (math.nextafter(edge, 0), 2)):
        config = LabelConfig(name="direction", threshold=threshold)
        assert target(config, [FLAT, FLAT, RISE]) == expected
    edge = -math.log(98.0 / 100.0)
    for threshold, expected in ((edge, 1), (math.nextafter(edge, 0), 0)):
        config = LabelConfig(name="direction", threshold=threshold)
        assert target(config, [FLAT, FLAT, FALL]) == expected


def test_direction_has_three_classes_without_being_told() -> None:
    config = LabelConfig(name="direction")
    assert config.classes == 3
    assert parse(LabelConfig, config.model_dump(mode="json")) == config
    with pytest.raises(
        ConfigError, match="'direction' has three classes; for two of the next close take next_clo"
    ):
        parse(LabelConfig, {"name": "direction", "classes": 2})


@pytest.mark.parametrize(
    ("name", "horizon", "reach", "kind"),
    [
        ("last_candle", 4, (29, 29), "recognition"),
        ("window_trend", 4, (0, 29), "recognition"),
        ("next_candle", 4, (30, 30), "forecast"),
        ("next_close", 4, (30, 30), "forecast"),
        ("direction", 4, (30, 33), "forecast"),
        ("forward_return", 4, (30, 33), "forecast"),
        ("triple_barrier", 4, (30, 33), "forecast"),
    ],
)
def test_reach_and_kind(name: str, horizon: int, reach: tuple[int, int], kind: str) -> None:
    label = make_label(LabelConfig(name=name, horizon=horizon))
    assert (label.reach(30).first, label.reach(30).last) == reach
    assert label.kind(30) == kind
    assert label.horizon(30) == max(0, reach[1] - 29)


def test_kind_is_decided_by_overlap_alone() -> None:
    assert kind_of(Reach(first=29, last=40), 30) == "recognition"
    assert kind_of(Reach(first=30, last=40), 30) == "forecast"


@pytest.mark.parametrize("name", LABELS)
@given(
    seed=st.integers(0, 10_000),
    window=st.integers(2, 6),
    horizon=st.integers(1, 4),
    classes=st.sampled_from([2, 3]),
)
@settings(max_examples=20, deadline=None)
def test_labels_read_their_reach_and_the_anchor_only(
    name: str, seed: int, window: int, horizon: int, classes: int
) -> None:
    """Candles outside the reach, bar the last visible close, can hold anything.

    And bar the visible closes where `direction` takes its band from them.
    """
    if name in labels.TWO_CLASS_LABELS:
        classes = 2
    if name in labels.THREE_CLASS_LABELS:
        classes = 3
    config = LabelConfig.model_validate({"name": name, "horizon": horizon, "classes": classes})
    label = make_label(config)
    random = np.random.default_rng(seed)
    close = 100 + np.cumsum(random.normal(0, 1, 24))
    open_ = close + random.normal(0, 1, 24)
    rows = np.stack([open_, np.maximum(open_, close) + 0.5, np.minimum(open_, close) - 0.5, close])
    start = int(random.integers(0, 24 - window - horizon))
    before = label.compute(slots_of(list(map(tuple, rows.T))), np.array([start]), window)

    reach = label.reach(window)
    changed = rows + random.normal(0, 50, rows.shape)
    read = slice(start + reach.first, start + reach.last + 1)
    changed[:, read] = rows[:, read]
    anchors = slice(start if name == "direction" else start + window - 1, start + window)
    changed[3, anchors] = rows[3, anchors]
    after = label.compute(slots_of(list(map(tuple, changed.T))), np.array([start]), window)
    np.testing.assert_array_equal(before.target, after.target)
    np.testing.assert_array_equal(before.value, after.value)


@given(seed=st.integers(0, 10_000), horizon=st.integers(1, 6), classes=st.sampled_from([2, 3]))
@settings(max_examples=25, deadline=None)
def test_triple_barrier_equals_a_plain_loop(seed: int, horizon: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.006, 60)))
    high, low = close * 1.004, close * 0.996
    hole = random.random(60) < 0.05
    rows = np.stack([close, high, low, close])
    rows[:, hole] = NAN
    slots = slots_of(list(map(tuple, rows.T)))
    starts = np.arange(60, dtype=np.int64)
    config = LabelConfig.model_validate(
        {"name": "triple_barrier", "horizon": horizon, "classes": classes}
    )
    found = make_label(config).compute(slots, starts, 3)
    expected = [_barrier_by_hand(rows, start + 3, horizon, classes) for start in range(60)]
    assert found.target.tolist() == expected


def _barrier_by_hand(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]], first: int, horizon: int, classes: int
) -> int:
    anchor = rows[3, first - 1] if first - 1 < rows.shape[1] else NAN
    if math.isnan(anchor):
        return -1
    for slot in range(first, first + horizon):
        if slot >= rows.shape[1] or math.isnan(rows[3, slot]):
            return -1
        up_hit, down_hit = rows[1, slot] >= anchor * 1.01, rows[2, slot] <= anchor * 0.99
        if up_hit and down_hit:
            return -1
        if up_hit or down_hit:
            return (classes - 1) if up_hit else 0
    return 1 if classes == 3 else int(rows[3, first + horizon - 1] > anchor)


def test_prices_below_zero_have_a_direction_but_no_return(
    make_series: Callable[..., CandleSeries],
) -> None:
    candles = [(-3.0, -1.0, -3.0, -1.0)] * 3
    assert target(LabelConfig(name="last_candle"), candles) == 1
    assert target(LabelConfig(name="forward_return"), candles) == -1
    assert target(LabelConfig(name="triple_barrier"), candles) == -1


def test_unknown_label_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown label 'next_candel'; did you mean 'next_candl"):
        make_label(LabelConfig(name="next_candel"))


def test_three_classes_of_a_two_class_label_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="'last_candle' has two classes; three are offered by: forward_return"
    ):
        parse(LabelConfig, {"name": "last_candle", "classes": 3})


def test_threshold_of_a_label_without_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="'next_candle' has no threshold"):
        parse(LabelConfig, {"name": "next_candle", "threshold": 0.1})


class GreenPair(Label):
    """Are the last two candles up?"""

    def reach(self, window: int) -> Reach:
        return Reach(first=window - 2, last=window - 1)

    def compute(self, slots: Slots, starts: np.ndarray, window: int) -> LabelValues:
        both = [
            bool((slots.close > slots.open)[start + window - 2 : start + window].all())
            for start in starts
        ]
        return LabelValues(target=np.array(both, dtype=np.int64), value=np.zeros(len(starts)))


class NoLabel:
    """Names itself a label and is none."""


def _install(monkeypatch: pytest.MonkeyPatch, value: type) -> None:
    class Point(EntryPoint):
        def load(self) -> type:
            return value

    monkeypatch.setattr(
        labels,
        "entry_points",
        lambda group: [Point(name="green_pair", value="x:y", group=group)],
    )


def test_third_party_label(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, GreenPair)
    assert target(LabelConfig(name="green_pair"), [up(1), up(2)]) == 1
    assert make_label(LabelConfig(name="green_pair")).kind(2) == "recognition"


def test_third_party_entry_that_is_no_label_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, NoLabel)
    with pytest.raises(ConfigError, match="must name a subclass of"):
        make_label(LabelConfig(name="green_pair"))
