"""What is cut out of a case, and which cases are worth a look."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from candlemark.errors import ScanError
from candlemark.report.segmentation.views import (
    CaseView,
    cases_worth_a_look,
    close_up,
    contestants,
    edges,
    grey,
    labels_in,
    telling_slice,
    trials_of,
)


def drawn(*lines: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in line] for line in lines])


def test_intensities_become_grey_within_the_window() -> None:
    values = np.array([[-5.0, 0.0, 50.0, 100.0, 300.0, np.nan]])
    assert grey(values, (0.0, 100.0)).tolist() == [[0, 0, 128, 255, 255, 0]]
    assert grey(np.array([[7, 8]], np.int16), (7.0, 7.0)).tolist() == [[0, 255]]
    colour = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(grey(colour, (10.0, 20.0)), colour)


def test_a_stack_of_three_columns_is_no_colour() -> None:
    narrow = np.full((6, 3), 1000, np.uint16)
    assert grey(narrow, (0.0, 2000.0)).tolist() == [[128] * 3] * 6


def test_the_telling_slice_is_the_references_then_the_predictions() -> None:
    reference, prediction = np.zeros((2, 5, 4, 4), np.uint8)
    assert telling_slice(reference, prediction) == 2
    prediction[4, :2] = 1
    assert telling_slice(reference, prediction) == 4
    reference[1, 0, 0] = 2
    reference[3, 0, :2] = 2
    assert telling_slice(reference, prediction) == 3


def test_the_outline_runs_along_the_borders_of_pixels() -> None:
    found = edges(drawn("....", ".#..", "...."))
    assert {frozenset(line) for line in found} == {
        frozenset(pair)
        for pair in (
            ((0.5, 0.5), (1.5, 0.5)),
            ((0.5, 1.5), (1.5, 1.5)),
            ((0.5, 0.5), (0.5, 1.5)),
            ((1.5, 0.5), (1.5, 1.5)),
        )
    }


@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)))
def test_an_outline_has_a_line_for_each_border_between_in_and_out(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1)
    across = (padded[1:] != padded[:-1]).sum() + (padded[:, 1:] != padded[:, :-1]).sum()
    found = edges(mask)
    assert len(found) == len(set(found)) == across
    for (x0, y0), (x1, y1) in found:
        assert abs(x1 - x0) + abs(y1 - y0) == 1


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    aspect=st.sampled_from([0.5, 1.0, 3.0]),
    data=st.data(),
)
def test_a_close_up_holds_the_reference_and_stays_inside(
    shape: tuple[int, int], aspect: float, data: st.DataObject
) -> None:
    reference = np.zeros(shape, np.uint8)
    places = st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1))
    for y, x in data.draw(st.lists(places, max_size=4)):
        reference[y, x] = 1
    rows, columns = close_up(reference, np.zeros_like(reference), aspect=aspect)
    assert 0 <= rows.start < rows.stop <= shape[0]
    assert 0 <= columns.start < columns.stop <= shape[1]
    assert reference[rows, columns].sum() == reference.sum()


def test_a_close_up_looks_at_the_prediction_where_there_is_no_reference() -> None:
    reference, prediction = np.zeros((2, 200, 200), np.uint8)
    assert close_up(reference, prediction, aspect=1.0) == (slice(0, 200), slice(0, 200))
    prediction[150:160, 20:30] = 1
    rows, columns = close_up(reference, prediction, aspect=1.0)
    assert (rows, columns) == (slice(143, 167), slice(13, 37))


def test_masks_that_do_not_fit_their_image_are_refused() -> None:
    image, mask = np.zeros((2, 3, 4)), np.zeros((2, 3, 5), np.uint8)
    common = {"case": "a", "image": image, "window": (0.0, 1.0), "spacing_mm": None}
    with pytest.raises(ScanError, match=r"case a: reference has shape \(2, 3, 5\), its image"):
        CaseView(**common, reference=mask)
    with pytest.raises(ScanError, match="case a: hub/x has shape"):
        CaseView(**common, reference=np.zeros((2, 3, 4), np.uint8), predictions={"hub/x": mask})


def test_labels_are_found_in_all_masks() -> None:
    one, two = np.array([[0, 3]], np.uint8), np.array([[255, 1]], np.uint8)
    assert labels_in([one, two]) == (1, 3, 255)
    assert labels_in([]) == ()


def test_the_most_telling_cases_come_first_and_none_is_missing(board: Any) -> None:
    found = cases_worth_a_look(board)
    assert sorted(found) == sorted(board.cases)
    telling = contestants(board)[0].telling_cases("dice")
    assert found[0] == telling["worst"].case
    assert found.index(telling["best"].case) < len(found) - 1


def test_models_and_oracles_are_worth_a_look_and_controls_are_not(board: Any) -> None:
    assert {row.name for row in contestants(board)} == {
        *("clinic/moved", "hub/thinner", "sam oracle box", "gone"),
    }


def test_only_answers_are_shown(board: Any, scans: list[Any]) -> None:
    everyone = set(trials_of(board, scans[0].case))
    assert everyone == {"clinic/moved", "hub/thinner", "all foreground", "sam oracle box"}
    assert set(trials_of(board, scans[1].case)) == everyone - {"hub/thinner"}
    ids = {record.trial_id for row in board.everyone for record in row.records}
    assert set(trials_of(board, scans[0].case).values()) <= ids
