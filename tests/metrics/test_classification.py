"""Every metric agrees with scikit-learn and keeps the properties of its row in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics

from candlemark.metrics import classification
from candlemark.metrics.catalog import METRICS, Metric, all_metrics
from candlemark.metrics.classification import FloatArray, IntArray

Cases = tuple[IntArray, FloatArray, FloatArray]


def make_cases(seed: int, count: int = 200, classes: int = 2, ties: bool = False) -> Cases:
    random = np.random.default_rng(seed)
    raw = random.gamma(1.0, size=(count, classes))
    if ties:
        raw = np.round(raw, 0) + 0.5
    probability = raw / raw.sum(axis=1, keepdims=True)
    target = np.r_[np.arange(classes), random.integers(0, classes, count - classes)]
    return target, probability, random.gamma(1.0, size=(3, count)) + 0.01


def reference(name: str, target: IntArray, probability: FloatArray, weight: FloatArray) -> float:
    """What scikit-learn says of one weighting."""
    classes = probability.shape[1]
    predicted = probability.argmax(axis=1)
    average: dict[str, Any] = {"average": "binary" if classes == 2 else "macro"}
    value = probability[:, 1] if classes == 2 else probability
    by_prediction: dict[str, Callable[[], float]] = {
        "accuracy": lambda: sklearn_metrics.accuracy_score(target, predicted, sample_weight=weight),
        "balanced_accuracy": lambda: sklearn_metrics.balanced_accuracy_score(
            target, predicted, sample_weight=weight
        ),
        "f1": lambda: sklearn_metrics.f1_score(target, predicted, sample_weight=weight, **average),
        "recall": lambda: sklearn_metrics.recall_score(
            target, predicted, sample_weight=weight, **average
        ),
        "precision": lambda: sklearn_metrics.precision_score(
            target, predicted, sample_weight=weight, **average
        ),
        "mcc": lambda: sklearn_metrics.matthews_corrcoef(target, predicted, sample_weight=weight),
        "auroc": lambda: _auroc(target, probability, weight),
        "auprc": lambda: sklearn_metrics.average_precision_score(
            target if classes == 2 else np.eye(classes)[target],
            value,
            sample_weight=weight,
            average="macro",
        ),
        "brier": lambda: sklearn_metrics.brier_score_loss(
            target, value, sample_weight=weight, scale_by_half=True, labels=range(classes)
        ),
        "ece": lambda: _slow_calibration_error(target, probability, weight),
    }
    return float(by_prediction[name]())


def _auroc(target: IntArray, probability: FloatArray, weight: FloatArray) -> float:
    classes = probability.shape[1]
    chosen = [1] if classes == 2 else range(classes)
    each = [
        sklearn_metrics.roc_auc_score(target == label, probability[:, label], sample_weight=weight)
        for label in chosen
    ]
    return float(np.mean(each))


def _slow_calibration_error(target: IntArray, probability: FloatArray, weight: FloatArray) -> float:
    """Guo et al. (2017), bin by bin."""
    confidence, predicted = probability.max(axis=1), probability.argmax(axis=1)
    total = 0.0
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            share = weight[inside]
            hit = np.average(predicted[inside] == target[inside], weights=share)
            total += share.sum() * abs(hit - np.average(confidence[inside], weights=share))
    return float(total / weight.sum())


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scikit_learn(name: str, classes: int, ties: bool) -> None:
    target, probability, weight = make_cases(classes, classes=classes, ties=ties)
    got = METRICS[name].function(target, probability, weight)
    expected = [reference(name, target, probability, row) for row in weight]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_every_metric_of_the_module_stands_in_the_table() -> None:
    """A score written but not listed fails here."""
    plumbing = {"weighted_confusion", "calibration_bin"}
    written = {
        name
        for name, value in vars(classification).items()
        if callable(value)
        and getattr(value, "__module__", "") == classification.__name__
        and not name.startswith("_")
    } - plumbing
    assert written == {metric.function.__name__ for metric in METRICS.values()}
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
class TestEveryRowOfTheTable:
    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def test_stays_in_range_or_is_undefined(self, metric: Metric, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, 12))
        classes = data.draw(st.integers(2, 4))
        target = data.draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))
        raw = data.draw(arrays(np.float64, (count, classes), elements=st.integers(1, 4)))
        weight = data.draw(arrays(np.float64, (4, count), elements=st.integers(0, 3)))
        value = metric.function(target, raw / raw.sum(axis=1, keepdims=True), weight)
        assert value.shape == (4,)
        defined = value[~np.isnan(value)]
        assert np.all((defined >= metric.low - 1e-12) & (defined <= metric.high + 1e-12))

    @pytest.mark.parametrize("classes", [2, 3])
    def test_weight_two_is_a_case_twice(self, metric: Metric, classes: int) -> None:
        target, probability, _ = make_cases(5, 40, classes, ties=True)
        counts = np.random.default_rng(0).integers(0, 4, 40)
        counts[:classes] = 1
        rows = np.repeat(np.arange(40), counts)
        weighted = metric.function(target, probability, counts[None].astype(float))
        repeated = metric.function(target[rows], probability[rows], np.ones((1, len(rows))))
        np.testing.assert_allclose(weighted, repeated, atol=1e-12)

    @pytest.mark.parametrize("classes", [2, 3])
    def test_order_and_scale_of_weights_do_not_matter(self, metric: Metric, classes: int) -> None:
        target, probability, weight = make_cases(6, 60, classes, ties=True)
        order = np.random.default_rng(1).permutation(60)
        value = metric.function(target, probability, weight)
        np.testing.assert_allclose(
            metric.function(target[order], probability[order], weight[:, order]), value, atol=1e-12
        )
        np.testing.assert_allclose(
            metric.function(target, probability, 7 * weight), value, atol=1e-12
        )

    @pytest.mark.parametrize("classes", [2, 3])
    def test_perfect_and_reversed_sit_at_the_ends(self, metric: Metric, classes: int) -> None:
        target = np.arange(30) % classes
        once = np.ones((1, 30))
        perfect = metric.function(target, np.eye(classes)[target], once)[0]
        wrong = metric.function(target, np.eye(classes)[(target + 1) % classes], once)[0]
        assert perfect == (metric.high if metric.higher_is_better else metric.low)
        assert (wrong < perfect) == metric.higher_is_better

    def test_undefined_is_nan_without_a_warning(self, metric: Metric) -> None:
        nothing = metric.function(np.array([0, 1]), np.full((2, 2), 0.5), np.zeros((1, 2)))
        assert np.isnan(nothing).all()
        assert metric.degenerate

    @pytest.mark.parametrize("classes", [2, 4])
    def test_a_blind_guess_scores_the_chance_level(self, metric: Metric, classes: int) -> None:
        chance = metric.chance(classes)
        if chance is None:
            return
        random = np.random.default_rng(3)
        target = random.integers(0, classes, 40_000)
        probability = random.dirichlet(np.ones(classes), 40_000)
        value = metric.function(target, probability, np.ones((1, 40_000)))[0]
        assert value == pytest.approx(chance, abs=0.02)


def test_one_class_only_is_undefined_not_zero() -> None:
    target = np.ones(10, dtype=np.int64)
    probability = np.tile([0.3, 0.7], (10, 1))
    once = np.ones((1, 10))
    for name in ("auroc", "auprc", "balanced_accuracy", "mcc"):
        assert np.isnan(METRICS[name].function(target, probability, once)).all(), name
    assert METRICS["accuracy"].function(target, probability, once)[0] == 1


def test_a_class_never_predicted_has_no_precision() -> None:
    target = np.array([0, 1, 0, 1])
    always_down = np.tile([0.9, 0.1], (4, 1))
    assert np.isnan(METRICS["precision"].function(target, always_down, np.ones((1, 4))))[0]
    assert METRICS["recall"].function(target, always_down, np.ones((1, 4)))[0] == 0


def test_the_entry_point_group_starts_from_the_table() -> None:
    assert set(METRICS) <= set(all_metrics())
