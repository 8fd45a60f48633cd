"""Boxes and points of a reference: where they lie, and how far they move."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from candlemark.models.segmentation.base import Labels
from candlemark.models.segmentation.prompts import (
    Part,
    grid_points,
    moved_box,
    moved_point,
    parts_of,
    random_of,
)


def drawn(*rows: str) -> Labels:
    return np.array([[int(letter) for letter in row.replace(".", "0")] for row in rows], np.uint8)


SLICE = drawn(
    "..........",
    ".111....2.",
    ".111...2..",
    ".111......",
    "......111.",
    "......111.",
    "......111.",
    "......111.",
    "......111.",
    "..........",
)


def test_each_part_has_its_box_and_its_deepest_point() -> None:
    assert parts_of(SLICE, (1, 2)) == [
        Part(label=1, box=(1, 1, 3, 3), point=(2, 2)),
        Part(label=1, box=(6, 4, 8, 8), point=(7, 5)),
        Part(label=2, box=(7, 1, 8, 2), point=(8, 1)),  # corners touch: one part
    ]
    assert parts_of(SLICE, (3,)) == []
    assert [part.label for part in parts_of(SLICE, (2, 1))] == [2, 1, 1]


def test_a_part_at_the_edge_is_no_deeper_there() -> None:
    (part,) = parts_of(drawn("111", "111", "111"), (1,))
    assert part.point == (1, 1)
    assert (part.width, part.height) == (3, 3)


def test_the_point_of_a_ring_lies_on_the_ring() -> None:
    ring = drawn("11111", "1...1", "1...1", "11111")
    (part,) = parts_of(ring, (1,))
    x, y = part.point
    assert ring[int(y), int(x)] == 1


@given(
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
    corner=st.tuples(st.integers(0, 30), st.integers(0, 20)),
    lengths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_prompts_move_by_their_share_and_stay_on_the_slice(
    share: float, seed: int, corner: tuple[int, int], lengths: tuple[int, int]
) -> None:
    (left, top), (wide, high) = corner, lengths
    size = (30, 40)
    box = (float(left), float(top), left + wide - 1.0, top + high - 1.0)
    part = Part(label=1, box=box, point=(float(left), float(top)))
    x0, y0, x1, y1 = moved_box(part, share, random_of(seed, "case", 0, 0), size)
    assert 0 <= x0 <= x1 <= 39
    assert 0 <= y0 <= y1 <= 29
    if share <= 0.25:
        for before, after, length in zip(
            box, (x0, y0, x1, y1), (wide, high, wide, high), strict=True
        ):
            assert abs(before - after) <= share * length + (wide == 1 or high == 1)
    x, y = moved_point(part, share, random_of(seed, "case", 0, 0), size)
    assert abs(x - left) <= share * wide + 1e-9
    assert abs(y - top) <= share * high + 1e-9
    assert 0 <= x <= 39
    assert 0 <= y <= 29


def test_without_jitter_nothing_moves() -> None:
    for part in parts_of(SLICE, (1, 2)):
        assert moved_box(part, 0.0, random_of(0, "a", 0, 0), (10, 10)) == part.box
        assert moved_point(part, 0.0, random_of(0, "a", 0, 0), (10, 10)) == part.point


def test_a_sweep_moves_the_same_prompt_further_in_the_same_direction() -> None:
    part = Part(label=1, box=(20, 20, 39, 39), point=(30, 30))
    moved = [moved_box(part, share, random_of(5, "a", 3, 1), (60, 60)) for share in (0.1, 0.2)]
    little, much = (np.subtract(box, part.box) for box in moved)
    assert np.allclose(much, 2 * little)
    assert np.abs(little).max() > 0.1


def test_each_part_of_each_case_moves_its_own_way() -> None:
    drawn_numbers = {
        random_of(seed, case, place, order).uniform()
        for seed in (0, 1)
        for case in ("case_1", "case_10")
        for place in (0, 1)
        for order in (0, 1)
    }
    assert len(drawn_numbers) == 16
    assert random_of(1, "a", 2, 3).uniform() == random_of(1, "a", 2, 3).uniform()


def test_the_grid_covers_a_slice_evenly_in_both_directions() -> None:
    points = np.array(grid_points((40, 80), 16))
    assert len(points) == 16 * 8
    assert points.min(axis=0).tolist() == [2.0, 2.0]
    assert points.max(axis=0).tolist() == [77.0, 37.0]
    assert len(grid_points((1, 80), 16)) == 16
