"""Baselines against counts made by hand, and in the corners."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from candlemark.errors import DatasetError, ModelError
from candlemark.models.baselines import BASELINES, last_colour, make_baseline, visible_trend

Array = npt.NDArray[np.float64]


def windows(*rows: list[tuple[float, float] | None]) -> Array:
    """Windows of (open, close) candles; None is a missing slot."""
    features = np.full((len(rows), len(rows[0]), 5), np.nan)
    for i, row in enumerate(rows):
        for j, candle in enumerate(row):
            if candle is not None:
                open_, close = candle
                features[i, j] = (open_, max(candle), min(candle), close, 1.0)
    return features


def random_windows(
    count: int, classes: int = 2, seed: int = 0
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Windows whose last close decides the class."""
    random = np.random.default_rng(seed)
    features = random.random((count, 6, 5))
    target = np.minimum((features[:, -1, 3] * classes).astype(np.int64), classes - 1)
    features[random.random((count, 6)) < 0.2] = np.nan
    return features, target


def test_signals_read_the_first_and_last_candle_there_is() -> None:
    features = windows(
        [(1, 2), (2, 3), (3, 1.5)],
        [(1, 2), (2, 3), None],
        [None, (3, 2), (2, 2)],
        [None, None, None],
    )
    assert last_colour(features).tolist() == [-1, 1, 0, 0]
    assert visible_trend(features).tolist() == [1, 1, -1, 0]


def test_majority_gives_the_training_frequencies_to_everyone() -> None:
    features, _ = random_windows(4)
    baseline = make_baseline("majority").fit(features, np.array([0, 0, 0, 1]), class_count=2)
    assert np.allclose(baseline.predict_proba(features), [3.5 / 5, 1.5 / 5])


def test_persistence_conditions_on_the_last_colour() -> None:
    up: list[tuple[float, float] | None] = [(1, 2)]
    down: list[tuple[float, float] | None] = [(2, 1)]
    flat: list[tuple[float, float] | None] = [(1, 1)]
    features = windows(up, up, up, down, down)
    baseline = make_baseline("persistence")
    baseline.fit(features, np.array([1, 1, 0, 0, 0]), class_count=2)
    probability = baseline.predict_proba(windows(up, down, flat))
    assert np.allclose(probability[0], [1.5 / 4, 2.5 / 4])
    assert np.allclose(probability[1], [2.5 / 3, 0.5 / 3])
    assert np.allclose(probability[2], [3.5 / 6, 2.5 / 6])  # never seen: the prior


@pytest.mark.parametrize("name", list(BASELINES))
@pytest.mark.parametrize("classes", [2, 3])
def test_every_baseline_gives_probabilities_and_repeats_itself(name: str, classes: int) -> None:
    features, target = random_windows(120, classes)
    first = make_baseline(name, seed=3).fit(features, target, class_count=classes)
    second = make_baseline(name, seed=3).fit(features, target, class_count=classes)
    probability = first.predict_proba(features)
    assert probability.shape == (120, classes)
    assert probability.dtype == np.float64
    assert np.allclose(probability.sum(axis=1), 1)
    assert (probability >= 0).all()
    assert np.array_equal(probability, second.predict_proba(features))


@pytest.mark.parametrize("name", ["logistic", "gradient_boosting"])
def test_learners_find_what_is_there_to_find(name: str) -> None:
    features, target = random_windows(600)
    fresh, truth = random_windows(300, seed=1)
    baseline = make_baseline(name).fit(features, target, class_count=2)
    guess = baseline.predict_proba(fresh).argmax(axis=1)
    assert (guess == truth).mean() > 0.8


@pytest.mark.parametrize("name", list(BASELINES))
def test_one_class_only_unseen_classes_and_empty_slots(name: str) -> None:
    features, _ = random_windows(40)
    features[:, 2] = np.nan
    one = make_baseline(name).fit(features, np.ones(40, np.int64), class_count=3)
    assert (one.predict_proba(features).argmax(axis=1) == 1).all()
    target = np.tile([0, 2], 20).astype(np.int64)
    gap = make_baseline(name).fit(features, target, class_count=3).predict_proba(features)
    assert gap.shape == (40, 3)
    assert (gap[:, 1] < 0.05).all()
    assert one.predict_proba(features[:0]).shape == (0, 3)


@pytest.mark.parametrize("name", list(BASELINES))
def test_wrong_input_is_refused(name: str) -> None:
    features, target = random_windows(10)
    with pytest.raises(DatasetError, match="do not fit"):
        make_baseline(name).fit(features[:, :, :4], target, class_count=2)
    with pytest.raises(DatasetError, match="no training windows"):
        make_baseline(name).fit(features[:0], target[:0], class_count=2)
    with pytest.raises(DatasetError, match=r"allowed: 0\.\.1"):
        make_baseline(name).fit(features, target + 1, class_count=2)
    with pytest.raises(ModelError, match="call fit first"):
        make_baseline(name).predict_proba(features)


@pytest.mark.parametrize("name", ["logistic", "gradient_boosting"])
def test_windows_that_never_vary_are_refused(name: str) -> None:
    target = np.tile([0, 1], 5).astype(np.int64)
    with pytest.raises(DatasetError, match="nothing to learn"):
        make_baseline(name).fit(np.ones((10, 4, 5)), target, class_count=2)


def test_unknown_baseline_names_the_known() -> None:
    with pytest.raises(ModelError, match="known: majority, persistence"):
        make_baseline("oracle")
