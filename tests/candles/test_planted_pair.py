"""The planted pair holds exactly the signal that it claims, in two places, and nothing else."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from threadpoolctl import threadpool_limits

from candlemark.candles.planted_pair import (
    PlantedPair,
    attainable_pair,
    foretold_share,
    planted_pair,
)
from candlemark.candles.synthetic import attainable_auroc, random_walk
from candlemark.dataset.labels import LabelConfig, make_label
from candlemark.errors import ConfigError

COUNT = 120_000
WINDOW = 24
KNOWN = ("both", "volume", "shape", "neither")
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module", params=[(0.9, 1.0), (0.8, 0.5)], ids=["dense", "sparse"])
def market(request: pytest.FixtureRequest) -> PlantedPair:
    strength, density = request.param
    return planted_pair(COUNT, strength=strength, density=density, seed=3)


def facts(market: PlantedPair, known: str) -> FloatArray:
    """float64[N - 2, 2]: the facts about candles 2, 3, ... that a forecast sees, else 0."""
    volume = market.volume_fact[1:-1] * (known in {"both", "volume"})
    shape = market.shape_fact[:-2] * (known in {"both", "shape"})
    return np.stack([volume, shape], axis=1).astype(np.float64)


def rises(market: PlantedPair) -> np.ndarray[Any, np.dtype[np.int64]]:
    return (market.candles.close > market.candles.open).astype(np.int64)


def directions(market: PlantedPair) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Target of `direction` for the windows that end one candle before each candle."""
    label = make_label(LabelConfig(name="direction"))
    starts = np.arange(len(market.candles) - WINDOW)
    return label.compute(market.candles.slots, starts, WINDOW).target


@pytest.mark.parametrize("strength", [0.5, 0.7, 0.9, 1.0])
def test_two_classes_in_closed_form(strength: float) -> None:
    """With a fact in every candle: three levels of both, two of one."""
    found = {known: attainable_pair(strength, 1.0, known) for known in KNOWN}
    alone = (strength + 0.5) / 2
    assert found["both"].auroc == pytest.approx(attainable_auroc(strength, 0.5))
    assert found["both"].accuracy == pytest.approx(alone)
    for known in ("volume", "shape"):
        assert found[known].auroc == pytest.approx(alone)
        assert found[known].accuracy == pytest.approx(alone)
    assert found["neither"].auroc == found["neither"].accuracy == 0.5


def test_three_classes_in_closed_form() -> None:
    """Strength 1, a fact in every candle: both tell all, one leaves its class or neutral."""
    assert attainable_pair(1.0, 1.0, "both", classes=3).auroc == 1
    assert attainable_pair(1.0, 1.0, "both", classes=3).accuracy == 1
    one = attainable_pair(1.0, 1.0, "volume", classes=3)
    assert one.accuracy == pytest.approx(0.5)
    # Bullish (1/4 of all) never comes after a light volume, which is two thirds of the rest;
    # of neutral the volume says nothing.
    bullish = 2 / 3 + 1 / 3 / 2
    assert one.auroc == pytest.approx((2 * bullish + 0.5) / 3)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
def test_both_facts_are_worth_more_than_one(density: float, classes: Literal[2, 3]) -> None:
    both, volume, shape, neither = (
        attainable_pair(0.85, density, known, classes=classes) for known in KNOWN
    )
    assert volume == shape
    assert both.auroc > volume.auroc > neither.auroc == pytest.approx(0.5)
    assert both.accuracy >= volume.accuracy >= neither.accuracy


@pytest.mark.parametrize("known", KNOWN)
def test_a_logistic_regression_of_the_facts_attains_what_is_attainable(
    market: PlantedPair, known: str
) -> None:
    """Fitted on one half, scored on the other; what is not known is a column of zeros.

    A class between two others takes squares and products: no straight line has a middle.
    """
    seen, half = facts(market, known), COUNT // 2
    rise = rises(market)[2:]
    model = LogisticRegression().fit(seen[:half], rise[:half])
    probability = model.predict_proba(seen[half:])[:, 1]
    expected = market.attainable(known)
    assert roc_auc_score(rise[half:], probability) == pytest.approx(expected.auroc, abs=0.007)
    if known != "both":  # where the facts contradict one another either answer is as good
        accuracy = accuracy_score(rise[half:], probability > 0.5)
        assert accuracy == pytest.approx(expected.accuracy, abs=0.007)

    volume, shape = seen[WINDOW - 2 :].T
    seen = np.stack([volume, shape, volume * shape, volume**2, shape**2], axis=1)
    target = directions(market)
    model = LogisticRegression(C=100.0).fit(seen[:half], target[:half])
    probability = model.predict_proba(seen[half:])
    expected = market.attainable(known, classes=3)
    auroc = roc_auc_score(target[half:], probability, multi_class="ovr", average="macro")
    assert auroc == pytest.approx(expected.auroc, abs=0.007)


def test_every_foretold_move_leaves_the_neutral_band_and_no_other(market: PlantedPair) -> None:
    target = directions(market)
    spoken = facts(market, "both")[WINDOW - 2 :].sum(axis=1)
    assert (target[spoken != 0] != 1).all()
    # Where few of a window's moves were foretold the band is too narrow: one in three thousand.
    assert (target[spoken == 0] == 1).mean() > 0.999
    assert (spoken != 0).mean() == pytest.approx(foretold_share(market.density), abs=0.005)
    returns = np.diff(np.log(market.candles.close))[1:]
    size = np.abs(returns[np.arange(len(spoken)) + WINDOW - 2])
    assert size[spoken != 0].min() >= 0.009 - 1e-9
    assert size[spoken != 0].max() <= 0.017 + 1e-9
    assert size[spoken == 0].min() >= 0.001 - 1e-9
    assert size[spoken == 0].max() <= 0.002 + 1e-9


def shown(market: PlantedPair, lag: int) -> dict[str, FloatArray]:
    """What there is to be seen of the candle `lag` candles before candles 8, 9, ..."""
    candles, rows = market.candles, np.arange(8, COUNT) - lag
    open_, high, low, close = (
        np.log(getattr(candles, name))[rows] for name in ("open", "high", "low", "close")
    )
    return {
        "move": close - open_,
        "above": high - np.maximum(open_, close),
        "below": np.minimum(open_, close) - low,
        "volume": np.log(candles.volume)[rows],
    }


def columns(market: PlantedPair, lags: range, names: tuple[str, ...]) -> FloatArray:
    return np.stack([shown(market, lag)[name] for lag in lags for name in names], axis=1)


@pytest.mark.parametrize(
    ("known", "lags", "names"),
    [
        ("both", range(1, 4), ("move", "above", "below", "volume")),
        ("shape", range(1, 4), ("move", "above", "below")),
        ("volume", range(1, 2), ("move", "above", "below", "volume")),
    ],
    ids=["all", "what a picture shows", "what a caption tells"],
)
def test_nothing_that_is_shown_says_more_than_the_facts(
    market: PlantedPair, known: str, lags: range, names: tuple[str, ...]
) -> None:
    """Boosted trees find the facts in the candles, and nothing beside them."""
    seen, half = columns(market, lags, names), COUNT // 2
    rise = rises(market)[8:]
    model = HistGradientBoostingClassifier(
        max_iter=12, learning_rate=0.4, max_leaf_nodes=15, max_bins=63, random_state=0
    )
    with threadpool_limits(1):  # waiting for one another costs threads more than so little work
        model.fit(seen[:half], rise[:half])
        probability = model.predict_proba(seen[half:])[:, 1]
    auroc = roc_auc_score(rise[half:], probability)
    assert auroc == pytest.approx(market.attainable(known).auroc, abs=0.009)


def test_given_the_facts_nothing_moves_the_next_candle(market: PlantedPair) -> None:
    spoken = facts(market, "both")[6:].sum(axis=1) / 2
    rise = rises(market)[8:]
    for lag in (1, 2, 3):
        for name, column in shown(market, lag).items():
            for state in np.unique(spoken):
                rows = np.flatnonzero(spoken == state)
                # Within the levels that the facts make of it.
                level = (market.volume_fact if name == "volume" else market.shape_fact)[8 - lag :][
                    rows
                ]
                residual = column[rows]
                for one in np.unique(level):
                    part = rows[level == one]
                    above = part[residual[level == one] > np.median(residual[level == one])]
                    expected = 0.5 + (market.strength - 0.5) * state
                    error = 0.5 / np.sqrt(len(above))
                    assert rise[above].mean() == pytest.approx(expected, abs=4.5 * error), (
                        lag,
                        name,
                        state,
                        one,
                    )


def test_facts_and_directions_are_independent_coins(market: PlantedPair) -> None:
    rows = {
        "volume": market.volume_fact.astype(np.float64),
        "shape": market.shape_fact.astype(np.float64),
        "direction": 2.0 * rises(market) - 1,
    }
    told = {("volume", "direction", 1), ("shape", "direction", 2)}
    for first, earlier in rows.items():
        for second, later in rows.items():
            for lag in range(5):
                if (first, second, lag) in told or (lag == 0 and first == second):
                    continue
                product = later[lag:] * earlier[: COUNT - lag]
                assert abs(product.mean()) < 4.5 * product.std() / np.sqrt(len(product)), (
                    first,
                    second,
                    lag,
                )


def test_the_rest_looks_like_the_random_walk(market: PlantedPair) -> None:
    walk = random_walk(COUNT, seed=1)
    plain = market.shape_fact == 0
    for side in ("above", "below"):
        ours = shadows(market.candles)[side]
        theirs = shadows(walk)[side]
        if plain.any():
            assert ks_2samp(ours[plain], theirs).pvalue > 1e-4
        other_side = market.shape_fact == (1 if side == "above" else -1)
        assert ks_2samp(ours[other_side], theirs).pvalue > 1e-4
    for fact, level in ((-1, 2.5), (0, 3.5), (1, 4.5)):
        volume = market.candles.volume[market.volume_fact == fact]
        if len(volume):
            assert np.median(np.log10(volume)) == pytest.approx(level, abs=0.01)
            assert np.log(volume).std() == pytest.approx(0.25, abs=0.005)
            digits = np.floor(np.log10(volume)).astype(int) + 1
            assert (digits == int(level) + 1).mean() > 0.9999


def test_the_volume_knows_nothing_of_what_is_drawn(market: PlantedPair) -> None:
    """Not of the candle itself, which the picture shows, nor of the candles around it."""
    candles = market.candles
    volume = np.log(candles.volume) - np.log(10.0) * market.volume_fact
    drawn = {
        "move": np.log(candles.close / candles.open),
        "size": np.abs(np.log(candles.close / candles.open)),
        **shadows(candles),
    }
    for name, column in drawn.items():
        for lag in (-1, 0, 1):
            together = np.corrcoef(np.roll(column, lag), volume)[0, 1]
            assert abs(together) < 4.5 / np.sqrt(COUNT), (name, lag)
        assert abs(np.corrcoef(column, market.volume_fact)[0, 1]) < 4.5 / np.sqrt(COUNT), name


def shadows(candles: Any) -> dict[str, FloatArray]:
    top, bottom = np.maximum(candles.open, candles.close), np.minimum(candles.open, candles.close)
    return {"above": np.log(candles.high / top), "below": np.log(bottom / candles.low)}


def test_a_shape_is_a_long_shadow(market: PlantedPair) -> None:
    sides = shadows(market.candles)
    for side, fact in (("above", -1), ("below", 1)):
        long = market.shape_fact == fact
        assert sides[side][long].min() >= 0.025 - 1e-9
        assert sides[side][~long].max() < 0.0205


def test_the_same_seed_gives_the_same_market() -> None:
    first, second, other = (planted_pair(300, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(first.candles.close, second.candles.close)
    assert np.array_equal(first.candles.volume, second.candles.volume)
    assert not np.array_equal(first.candles.close, other.candles.close)
    assert [len(planted_pair(count).candles) for count in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.1}, r"strength = 1.1: must lie between 0.5"),
        ({"density": -0.1}, r"density = -0.1"),
        ({"count": 0}, r"count = 0"),
    ],
)
def test_impossible_markets_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planted_pair(**{"count": 10, **options})


def test_without_any_fact_there_is_nothing_to_rank() -> None:
    """All is neutral then, and the other classes have no AUROC."""
    assert np.isnan(attainable_pair(0.9, 0.0, "both", classes=3).auroc)
    assert attainable_pair(0.9, 0.0, "both").auroc == 0.5
