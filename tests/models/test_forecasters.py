"""Rules and a learner of the next return: what each says, and where nothing can be learnt."""

from __future__ import annotations

import numpy as np
import pytest

from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.errors import DatasetError, ModelError
from candlemark.models.baselines import BASELINES
from candlemark.models.forecasters import FORECASTERS, make_forecaster

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.random((300, 6, 5)).astype(np.float32)
RETURNS = np.where(FEATURES[:, -1, 3] > 0.5, 0.01, -0.01)


def test_every_forecaster_has_a_classifier_beside_it():
    assert set(FORECASTERS) <= set(BASELINES)
    assert set(FORECASTERS) == set(FusionBenchmarkConfig.model_fields["baselines"].default)


def test_persistence_and_the_mean():
    unknown = np.append(RETURNS[:-1], np.nan)
    assert (make_forecaster("persistence").fit(FEATURES, unknown).predict(FEATURES) == 0).all()
    mean = make_forecaster("majority").fit(FEATURES, unknown).predict(FEATURES[:3])
    assert mean == pytest.approx([unknown[:-1].mean()] * 3)


def test_boosting_finds_what_can_be_found_and_always_says_the_same():
    said = make_forecaster("gradient_boosting").fit(FEATURES[:200], RETURNS[:200])
    found = said.predict(FEATURES[200:])
    assert np.corrcoef(found, RETURNS[200:])[0, 1] > 0.9
    again = make_forecaster("gradient_boosting").fit(FEATURES[:200], RETURNS[:200])
    assert np.array_equal(again.predict(FEATURES[200:]), found)


@pytest.mark.parametrize(
    "returns",
    [np.full(300, np.nan), np.full(300, 0.02), np.append(np.full(299, np.nan), 0.02)],
    ids=["none known", "all alike", "one known"],
)
def test_where_nothing_can_be_learnt_boosting_says_the_mean(returns):
    said = make_forecaster("gradient_boosting").fit(FEATURES, returns).predict(FEATURES[:2])
    known = returns[np.isfinite(returns)]
    assert said == pytest.approx([known.mean() if len(known) else 0.0] * 2)


def test_windows_that_are_all_alike_say_the_mean():
    flat = np.ones((40, 6, 5), dtype=np.float32)
    said = make_forecaster("gradient_boosting").fit(flat, RETURNS[:40]).predict(flat[:1])
    assert said == pytest.approx([RETURNS[:40].mean()])


def test_unknown_names_and_shapes_are_refused():
    with pytest.raises(ModelError, match="unknown forecaster 'drift'; known: majority"):
        make_forecaster("drift")
    with pytest.raises(DatasetError, match="do not fit"):
        make_forecaster("persistence").fit(FEATURES, RETURNS[:5])
