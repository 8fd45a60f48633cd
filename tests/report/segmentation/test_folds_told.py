"""Under the table: how what learns was kept from the cases that it answers for."""

from __future__ import annotations

from typing import Any

from candlemark.records import Status
from candlemark.report.segmentation.board import build_board
from candlemark.report.segmentation.text import fold_lines, note_lines

HITS = [5, 6, 7, 8, 9, 4]


def folds(count: int) -> list[dict[str, list[str]]]:
    ids = [f"case_{number}" for number in range(count)]
    return [{"train": [i for i in ids if i != one], "test": [one]} for one in ids]


def test_each_way_of_splitting_is_told_once_with_its_protocols(fake: Any) -> None:
    board = build_board(
        [
            fake.scored("a", HITS, protocol="linear_probe", folds=folds(5)),
            fake.scored("b", HITS[::-1], protocol="upernet_frozen", folds=folds(5)),
            fake.scored("c", HITS, protocol="native_head", folds=[]),
            fake.scored("d", HITS),
        ]
    )
    (line,) = fold_lines(board)
    assert line.endswith(", 5 folds: each case by a head trained on the others.")
    assert {"linear_probe", "upernet_frozen"} == set(line.partition(", 5")[0].split(", "))
    assert line in note_lines(board)


def test_a_declared_split_says_how_many_cases_were_learnt_from(fake: Any) -> None:
    split = [{"train": ["x", "y"], "test": ["case_0"]}]
    told = {"protocol": "linear_probe", "folds": split}
    failed = fake.scored("a", HITS, status=Status.CRASHED, reason="died", **told)
    (line,) = fold_lines(build_board([failed, fake.scored("d", HITS)]))
    assert line == "linear_probe, a head trained on 2 cases that no row is tested on."


def test_where_nothing_learns_nothing_is_said_of_it(fake: Any) -> None:
    assert fold_lines(build_board([fake.scored("d", HITS)])) == []
