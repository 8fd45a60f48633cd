"""Errors known by hand, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from candlemark.errors import ModelError
from candlemark.metrics.measures import MEASURES
from candlemark.metrics.numerics import compare_outputs, same_answer
from candlemark.records import Measurement, Verdict

Array = npt.NDArray[np.float64]

NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-6)
PAIRS = arrays.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=4).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float64, shape, elements=NUMBERS),
        arrays.arrays(np.float64, shape, elements=NUMBERS),
    )
)


def _error(reference: Array, other: Array) -> float | None:
    return compare_outputs(torch.from_numpy(reference), torch.from_numpy(other))[0].value


def _agreement(reference: Array, other: Array) -> float | None:
    return compare_outputs(torch.from_numpy(reference), torch.from_numpy(other))[1].value


def test_known_errors() -> None:
    reference = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    other = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
    error, agreement = compare_outputs(reference, other)
    assert error == Measurement(name="relative_error", value=0.1, sample_count=4)
    assert agreement == Measurement(name="answer_agreement", value=1.0, sample_count=2)
    assert {error.name, agreement.name} <= MEASURES.keys()


def test_rounding_to_bf16_is_near_its_unit() -> None:
    reference = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
    error = compare_outputs(reference, reference.bfloat16())[0].value
    assert error is not None
    assert 2**-11 < error < 2**-8


@settings(deadline=None, max_examples=25)
@given(PAIRS)
def test_a_thing_is_itself(pair: tuple[Array, Array]) -> None:
    reference, _ = pair
    assert _error(reference, reference) == 0.0
    assert _agreement(reference, reference) == 1.0


@settings(deadline=None, max_examples=25)
@given(PAIRS, st.integers(-900, 900))
def test_scale_and_sign_change_nothing(pair: tuple[Array, Array], power: int) -> None:
    reference, other = pair
    error = _error(reference, other)
    assume(error is not None)
    for scale in (-1.0, 2.0**power):  # powers of two are exact
        assert _error(reference * scale, other * scale) == pytest.approx(error, rel=1e-12)
    assert _agreement(reference * 2.0**power, other * 2.0**power) == _agreement(reference, other)


@settings(deadline=None, max_examples=25)
@given(PAIRS, st.randoms(use_true_random=False))
def test_order_changes_nothing(pair: tuple[Array, Array], random: object) -> None:
    reference, other = pair
    order = list(range(len(reference)))
    random.shuffle(order)  # type: ignore[attr-defined]
    error = _error(reference, other)
    assert _error(reference[order], other[order]) == (
        None if error is None else pytest.approx(error, rel=1e-12)
    )
    assert _agreement(reference[order], other[order]) == _agreement(reference, other)


@settings(deadline=None, max_examples=25)
@given(PAIRS)
def test_agrees_with_numpy(pair: tuple[Array, Array]) -> None:
    reference, other = pair
    norm = np.linalg.norm(reference.ravel())
    assume(norm > 0)
    expected = np.linalg.norm((other - reference).ravel()) / norm
    assert _error(reference, other) == pytest.approx(expected, rel=1e-9)
    chosen = np.take_along_axis(reference, other.argmax(-1)[..., None], -1)
    share = float((chosen == reference.max(-1, keepdims=True)).mean())
    assert _agreement(reference, other) == pytest.approx(share)


def test_numbers_that_stopped_being_finite_have_no_error() -> None:
    reference = torch.ones(4, 5)
    reference[:, 2] = 2.0
    other = reference.clone()
    other[0, 0], other[1, 1], other[2, 2] = math.nan, math.inf, -math.inf
    error, agreement = compare_outputs(reference, other)
    assert (error.value, error.verdict) == (None, Verdict.UNSTABLE)
    assert error.reason == ("3 of 20 outputs are not finite where the reference is, or the reverse")
    assert agreement.value == 1 / 4
    assert same_answer((error, agreement), 1e9) is False


def test_masked_logits_are_equal_where_both_are_masked() -> None:
    reference = torch.tensor([[1.0, -math.inf], [2.0, 3.0]])
    error, agreement = compare_outputs(reference, reference.clone())
    assert (error.value, agreement.value) == (0.0, 1.0)
    unmasked = torch.tensor([[1.0, -6e4], [2.0, 3.0]])
    error, agreement = compare_outputs(reference, unmasked)
    assert (error.verdict, agreement.value) == (Verdict.UNSTABLE, 0.5)


def test_a_tie_has_several_right_answers() -> None:
    reference, other = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.1, 0.0]])
    assert compare_outputs(reference, other)[1].value == 1.0


def test_choices_may_lie_in_another_dimension() -> None:
    reference = torch.zeros(1, 3, 2, 2)
    reference[:, 1] = 1
    other = reference.clone()
    other[0, 2, 0, 0] = 5
    assert compare_outputs(reference, other, class_dimension=1)[1].value == 3 / 4


@pytest.mark.parametrize(
    ("reference", "other", "dimension", "error", "agreement"),
    [
        (torch.zeros(2, 3), torch.ones(2, 3), -1, "the reference is zero everywhere", None),
        (torch.zeros(0, 3), torch.zeros(0, 3), -1, "no numbers came out", "no numbers came out"),
        (torch.ones(2, 1), torch.ones(2, 1), -1, None, "one number leaves nothing to choose"),
        (torch.tensor(1.0), torch.tensor(1.0), -1, None, "one number leaves nothing to choose"),
        (
            *(torch.ones(2, 3), torch.ones(2, 3), None, None),
            "the largest number of this output is no answer",
        ),
        (
            *(torch.tensor([[math.nan, 1.0]]), torch.ones(1, 2), -1),
            "1 of 2 numbers of the reference are NaN",
            "the reference holds NaN",
        ),
    ],
)
def test_what_cannot_be_said_is_none_with_a_reason(
    *,
    reference: torch.Tensor,
    other: torch.Tensor,
    dimension: int | None,
    error: str | None,
    agreement: str | None,
) -> None:
    measured = compare_outputs(reference, other, class_dimension=dimension)
    assert [m.reason for m in measured] == [error, agreement]
    assert [m.value is None for m in measured] == [error is not None, agreement is not None]


def test_zero_against_zero_is_no_error() -> None:
    assert compare_outputs(torch.zeros(2, 3), torch.zeros(2, 3))[0].value == 0.0


def test_shapes_must_match() -> None:
    with pytest.raises(ModelError, match=r"shape \(2, 4\), the reference \(2, 3\)"):
        compare_outputs(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("value", "verdict", "expected"),
    [
        (0.01, Verdict.VALID, True),
        (0.0101, Verdict.VALID, False),
        (None, Verdict.UNSTABLE, False),
        (None, Verdict.VALID, None),
    ],
)
def test_same_answer(value: float | None, verdict: Verdict, expected: bool | None) -> None:
    measured = Measurement(name="relative_error", value=value, verdict=verdict, reason="-")
    assert same_answer([measured], 0.01) is expected
    assert same_answer([], 0.01) is None
