"""Scores of a classifier, each a pure function of weighted cases, many weightings at once.

    weight = np.ones((1, len(target)))
    auroc(target, probability, weight)           # float64[1]
    auroc(target, probability, resample_counts)  # float64[B]: a whole bootstrap in one call

Shapes: N cases, C classes, B weightings.
    target       int64[N], 0 <= target < C
    probability  float64[N, C], rows sum to 1
    weight       float64[B, N], >= 0; a whole number k counts a case k times
    result       float64[B], NaN where the score is undefined for that weighting

The predicted class is the most probable one, the lower number on a tie. With two classes
the positive class is 1 ("up"); with more, precision, recall, F1, AUROC and AUPRC are the
plain mean over classes, each against the rest, and are undefined as soon as one class is.
scikit-learn reports 0 for some undefined scores; here they are NaN, which becomes None
with a reason, because an invented 0 would drag down a mean and hide its cause.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
WeightedScore = Callable[[IntArray, FloatArray, FloatArray], FloatArray]

CALIBRATION_BINS = 15


def weighted_confusion(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted counts float64[B, C, C]: [b, true class, predicted class]."""
    classes = probability.shape[1]
    cell = target * classes + probability.argmax(axis=1)
    membership = np.zeros((len(target), classes * classes))
    membership[np.arange(len(target)), cell] = 1.0
    counts: FloatArray = weight @ membership
    return np.reshape(counts, (len(weight), classes, classes))


def accuracy(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Share of cases whose predicted class came true; 0 to 1, higher is better.

    NaN where all weights are 0.
    """
    right = (probability.argmax(axis=1) == target).astype(np.float64)
    return _ratio(weight @ right, weight.sum(axis=1))


def balanced_accuracy(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Mean over all classes of the recall; 0 to 1, higher is better, chance is 1 / C.

    NaN where a class has no case.
    """
    counts = weighted_confusion(target, probability, weight)
    mean: FloatArray = _per_class_recall(counts).mean(axis=1)
    return mean


def recall(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Share of a class's cases that were predicted so; 0 to 1, higher is better.

    Two classes: of class 1. More: mean over classes. NaN where the class has no case.
    """
    counts = weighted_confusion(target, probability, weight)
    return _positive_or_mean(_per_class_recall(counts))


def precision(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Share of the cases predicted as a class that are of it; 0 to 1, higher is better.

    Two classes: of class 1. More: mean over classes. NaN where the class is never predicted.
    """
    counts = weighted_confusion(target, probability, weight)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return _positive_or_mean(_ratio(hits, counts.sum(axis=1)))


def f1(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); 0 to 1, higher is better.

    Two classes: of class 1. More: mean over classes. NaN where a class has no case and is
    never predicted.
    """
    counts = weighted_confusion(target, probability, weight)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return _positive_or_mean(_ratio(2 * hits, counts.sum(axis=1) + counts.sum(axis=2)))


def mcc(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Matthews correlation; -1 to 1, higher is better, chance is 0.

    With more than two classes Gorodkin's R_K (Computational Biology and Chemistry 28, 2004).
    NaN where all cases are of one class or all predictions are.
    """
    counts = weighted_confusion(target, probability, weight)
    total = counts.sum(axis=(1, 2))
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)
    right = np.trace(counts, axis1=1, axis2=2)
    numerator = right * total - (true * predicted).sum(axis=1)
    spread_true = total**2 - (true**2).sum(axis=1)
    spread_predicted = total**2 - (predicted**2).sum(axis=1)
    return _ratio(numerator, np.sqrt(spread_true * spread_predicted))


def auroc(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Area under the ROC curve: a random positive outranks a random negative, ties half.

    0 to 1, higher is better, chance is 0.5. NaN where a class has no case.
    """
    return _one_against_rest(_auroc_of_class, target, probability, weight)


def auprc(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Average precision, the sum over thresholds of (R_n - R_n-1) P_n, without interpolation.

    0 to 1, higher is better, chance is the share of positives. NaN where a class has no case.
    """
    return _one_against_rest(_auprc_of_class, target, probability, weight)


def brier(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Half the squared distance of probabilities and outcome; 0 to 1, lower is better.

    With two classes this is Brier's mean of (p - y)^2; with more it is half his original sum
    (Monthly Weather Review 78, 1950), so that the range stays 0 to 1. NaN where all weights
    are 0.
    """
    outcome = np.zeros_like(probability)
    outcome[np.arange(len(target)), target] = 1.0
    loss = 0.5 * ((probability - outcome) ** 2).sum(axis=1)
    return _ratio(weight @ loss, weight.sum(axis=1))


def ece(target: IntArray, probability: FloatArray, weight: FloatArray) -> FloatArray:
    """Expected calibration error of the predicted class; 0 to 1, lower is better.

    15 bins of equal width over the confidence 0 to 1, closed on the right (Guo et al.,
    ICML 2017). Bins are fixed so that a weight of 2 is the same as a repeated case. The
    estimate is biased upwards when bins hold few cases. NaN where all weights are 0.
    """
    confidence = probability.max(axis=1)
    right = (probability.argmax(axis=1) == target).astype(np.float64)
    bins = calibration_bin(confidence)
    membership = np.zeros((len(target), CALIBRATION_BINS))
    membership[np.arange(len(target)), bins] = right - confidence
    return _ratio(np.abs(weight @ membership).sum(axis=1), weight.sum(axis=1))


def calibration_bin(confidence: FloatArray) -> IntArray:
    """The bin 0..14 of each confidence; a value on an edge belongs to the bin below."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def _per_class_recall(counts: FloatArray) -> FloatArray:
    return _ratio(np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2))


def _positive_or_mean(per_class: FloatArray) -> FloatArray:
    """[B, C] -> [B]: class 1 of two, the mean of more."""
    return per_class[:, 1] if per_class.shape[1] == 2 else per_class.mean(axis=1)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Element-wise quotient, NaN where the denominator is 0."""
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    quotient: FloatArray = np.divide(numerator, denominator, out=undefined, where=denominator > 0)
    return quotient


def _one_against_rest(
    score: Callable[[npt.NDArray[np.bool_], FloatArray, FloatArray], FloatArray],
    target: IntArray,
    probability: FloatArray,
    weight: FloatArray,
) -> FloatArray:
    """Class 1 of two, the mean over classes of more."""
    classes = probability.shape[1]
    chosen = [1] if classes == 2 else range(classes)
    parts = [score(target == label, probability[:, label], weight) for label in chosen]
    mean: FloatArray = np.mean(parts, axis=0)
    return mean


def _ranked(
    positive: npt.NDArray[np.bool_], value: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Weight of positives and of negatives at each distinct value, highest value first.

    Returns two arrays float64[B, distinct values]; tied cases share a column.
    """
    order = np.argsort(-value, kind="stable")
    ranked_value = value[order]
    starts = np.flatnonzero(np.r_[True, ranked_value[1:] != ranked_value[:-1]])
    ranked_weight = weight[:, order]
    hits = ranked_weight * positive[order]
    misses = ranked_weight - hits
    if len(starts) < len(value):
        hits = np.add.reduceat(hits, starts, axis=1)
        misses = np.add.reduceat(misses, starts, axis=1)
    return hits, misses


def _auroc_of_class(
    positive: npt.NDArray[np.bool_], value: FloatArray, weight: FloatArray
) -> FloatArray:
    hits, misses = _ranked(positive, value, weight)
    hits_above = np.cumsum(hits, axis=1)
    positives, negatives = hits_above[:, -1], misses.sum(axis=1)
    won = np.einsum("bv,bv->b", misses, hits_above - 0.5 * hits)
    return _ratio(won, positives * negatives)


def _auprc_of_class(
    positive: npt.NDArray[np.bool_], value: FloatArray, weight: FloatArray
) -> FloatArray:
    hits, misses = _ranked(positive, value, weight)
    hits_above = np.cumsum(hits, axis=1)
    precision_at = _ratio(hits_above, hits_above + np.cumsum(misses, axis=1))
    gained = np.einsum("bv,bv->b", hits, np.nan_to_num(precision_at))
    score = _ratio(gained, hits_above[:, -1])
    score[misses.sum(axis=1) == 0] = np.nan
    return score
