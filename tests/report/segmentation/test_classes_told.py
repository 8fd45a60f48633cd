"""Under the table: which classes a model cannot find, because none of its own stands for them."""

from __future__ import annotations

from typing import Any

from candlemark.report.segmentation.board import build_board
from candlemark.report.segmentation.text import class_lines, note_lines

HITS = [5, 6, 7, 8, 9, 4]


def test_classes_that_no_class_of_a_model_stands_for_are_told_once(fake: Any) -> None:
    board = build_board(
        [
            fake.scored("a", HITS, classes_without_answer=["head/neck", "tumor"]),
            fake.scored("b", HITS[::-1], classes_without_answer=["head/neck", "tumor"]),
            fake.scored("c", HITS, classes_without_answer=[]),
            fake.scored("d", HITS),
        ]
    )
    (line,) = class_lines(board)
    assert line.endswith(", none of whose classes stands for it: head/neck, tumor.")
    rows = line.removeprefix("Never found by ").partition(",")[0]
    assert {"a", "b"} == set(rows.split(" and "))
    assert line in note_lines(board)


def test_where_every_class_can_be_found_nothing_is_said_of_it(fake: Any) -> None:
    assert class_lines(build_board([fake.scored("d", HITS)])) == []
