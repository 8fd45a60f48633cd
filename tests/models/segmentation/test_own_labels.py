"""What a model of one's own answers, in each form, as labels of the reference."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from candlemark.errors import ModelError
from candlemark.models.segmentation.failures import FAILED_OUTCOMES, CaseError, outcome_of
from candlemark.models.segmentation.own_labels import answer_labels, channel_table, own_map

SHAPE = (1, 1, 4)
TWO = {1: "liver", 2: "tumour"}


def answered(answer: Any, *, classes: dict[int, str] | None = None, **options: Any) -> list[int]:
    settings = {"classes": classes or {2: "lesion"}, "mapping": {}, "threshold": 0.5} | options
    labels = answer_labels(answer, SHAPE, **settings)
    assert labels.dtype == np.uint8
    return labels.ravel().tolist()


def row(*values: Any, dtype: Any = None) -> npt.NDArray[Any]:
    return np.array(values, dtype).reshape(SHAPE)


def test_probabilities_and_truth_values_mean_the_one_class_whatever_its_number() -> None:
    assert answered(row(0.1, 0.5, 0.6, 1.0)) == [0, 0, 2, 2]
    assert answered(row(0.1, 0.5, 0.6, 1.0), threshold=0.9) == [0, 0, 0, 2]
    assert answered(row(False, True, True, False)) == [0, 2, 2, 0]
    assert answered(row(0.1, 0.5, 0.6, 1.0)[None]) == [0, 0, 2, 2]
    assert answered(row(-1e-6, 0.5, 0.6, 1.0005, dtype=np.float16)) == [0, 0, 2, 2]
    assert answered(row(0.0, 255.0, 0.0, 255.0)) == [0, 2, 0, 2]


def test_whole_numbers_are_labels_as_they_are_or_by_the_map() -> None:
    assert answered(row(0, 2, 2, 0, dtype=np.int64)) == [0, 2, 2, 0]
    assert answered(row(0, 255, 300, -4), mapping={255: 1, 300: 2}, classes=TWO) == [0, 1, 2, 0]


def test_white_means_the_one_class_and_nothing_beside_it_does() -> None:
    assert answered(row(0, 255, 0, 255, dtype=np.uint8)) == [0, 2, 0, 2]
    assert answered(row(0, 255, 1, 0, dtype=np.uint8)) == [0, 255, 1, 0]
    assert answered(row(0, 255, 0, 0, dtype=np.uint8), classes=TWO) == [0, 255, 0, 0]


def test_scores_by_class_are_won_by_the_highest() -> None:
    scores = np.zeros((3, *SHAPE), np.float32)
    scores[1, 0, 0, 1] = scores[2, 0, 0, 2] = 5
    assert answered(scores, classes=TWO) == [0, 1, 2, 0]
    assert answered(scores, classes={4: "x"}, mapping={2: 4}) == [0, 0, 4, 0]
    assert answered(scores[:2], classes={4: "x"}) == [0, 4, 0, 0]


def test_a_threshold_is_of_probabilities_alone() -> None:
    with pytest.raises(ModelError, match="gives labels, which reads no threshold; take threshold"):
        answered(row(0, 2, 2, 0, dtype=np.int64), threshold=0.9)
    with pytest.raises(ModelError, match="gives a score a class, which reads no threshold"):
        answered(np.zeros((2, *SHAPE), np.float32), threshold=0.9)


@pytest.mark.parametrize(
    ("answer", "outcome", "told"),
    [
        (np.zeros((1, 4, 1), np.uint8), "wrong_shape", r"uint8 of shape \(1, 4, 1\); allowed"),
        (np.zeros((2, 1, 1, 4), np.uint8), "wrong_shape", r"or scores of shape \(classes, 1, 1, 4"),
        (row(0, 1, 300, 0), "wrong_labels", "holds 300; labels are 0 to 255"),
        (row(0, -1, 0, 0), "wrong_labels", "holds -1"),
        (row(0.2, np.nan, 0.9, 0.1), "wrong_labels", "the scores hold NaN, which is no answer"),
        (np.full((2, *SHAPE), np.nan, np.float16), "wrong_labels", "the scores hold NaN"),
        (row(-3.5, 0.2, 7.25, 0.0), "wrong_labels", "float64 from -3.5 to 7.25, and a probability"),
        (row(0.0, 1.0, 2.0, 0.0), "wrong_labels", "return labels as integers, or put logits"),
        (row(0.0, 1.0, np.inf, 0.0), "wrong_labels", "from 0 to inf"),
        (row(1j, 0, 0, 0), "wrong_labels", "complex128; labels are integers"),
    ],
)
def test_what_is_no_answer_says_how_the_case_failed(
    answer: npt.NDArray[Any], outcome: str, told: str
) -> None:
    with pytest.raises(CaseError, match=told) as raised:
        answered(answer)
    assert raised.value.outcome == outcome


def test_one_class_among_several_must_be_named() -> None:
    with pytest.raises(ModelError, match=r"1 \(liver\), 2 \(tumour\); say which one.*{1: liver}"):
        answered(row(True, False, False, False), classes=TWO)
    assert answered(row(True, False, False, False), classes=TWO, mapping={1: 2}) == [2, 0, 0, 0]


def test_a_map_takes_names_and_numbers_and_refuses_the_unknown() -> None:
    assert own_map({"3": "tumour", 4: 1, "0": "background"}, TWO) == {3: 2, 4: 1, 0: 0}
    assert own_map(None, TWO) == {}
    with pytest.raises(ModelError, match=r"gives 'tumor'.*did you mean 'tumour'"):
        own_map({"1": "tumor"}, TWO)
    with pytest.raises(ModelError, match=r"gives label 7; the references have 1 \(liver\)"):
        own_map({"1": 7}, TWO)
    with pytest.raises(ModelError, match="class '\u00b2'; a model of one's own has numbers"):
        own_map({"\u00b2": 1}, TWO)
    with pytest.raises(ModelError, match="class 'wall'; a model of one's own has numbers"):
        own_map({"wall": 1}, TWO)


def test_a_map_of_classes_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(ModelError, match="names class 5; the model gives channels 0 to 2"):
        channel_table(3, TWO, {5: 1})
    with pytest.raises(ModelError, match="gives 300 channels; give it a class map"):
        channel_table(300, TWO, {})


def test_a_failure_keeps_its_outcome_across_processes() -> None:
    error = pickle.loads(pickle.dumps(CaseError("timed_out", "took too long")))  # noqa: S301
    assert (outcome_of(error), str(error)) == ("timed_out", "took too long")
    assert error.outcome in FAILED_OUTCOMES


def test_memory_and_time_are_told_from_a_crash() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    assert outcome_of(OutOfMemoryError("CUDA")) == "out_of_memory"
    assert outcome_of(MemoryError()) == "out_of_memory"
    assert outcome_of(RuntimeError("BFCArena: Out of memory")) == "out_of_memory"
    assert outcome_of(TimeoutError()) == "timed_out"
    assert outcome_of(ValueError("no")) == "crashed"
