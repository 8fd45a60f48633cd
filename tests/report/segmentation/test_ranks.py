"""Does the order of models depend on the convention: who changes places, and what is said of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from candlemark.records import RunRecord
from candlemark.report.segmentation.board import build_board
from candlemark.report.segmentation.ranks import Ranking, RankStability, kendall

NUMBERS = st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=2, max_size=8)


@settings(deadline=None)  # the first call of scipy.stats is slow
@given(pairs=NUMBERS)
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    ours = kendall(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(kendalltau(first, second).statistic)


def test_tau_of_one_item_is_unknown() -> None:
    assert kendall([1.0], [2.0]) is None
    assert kendall([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == -1.0


def disagreeing(fake: Any) -> list[RunRecord]:
    """One model finds less and invents nothing, the other finds more and invents in empty scans.

    MONAI leaves scans without the class out of the mean of Dice, candlemark scores what is
    invented in them: the two change places.
    """
    reference, prediction = np.zeros(fake.SHAPE, np.uint8), np.zeros(fake.SHAPE, np.uint8)
    invented = prediction.copy()
    invented[0, 3, :4] = 1
    careful = [fake.case_of(name, 7) for name in fake.ids(6)]
    careful += [fake.case_of_masks(f"none_{n}", reference, prediction) for n in range(2)]
    eager = [fake.case_of(name, 9) for name in fake.ids(6)]
    eager += [fake.case_of_masks(f"none_{n}", reference, invented) for n in range(2)]
    return [fake.record("owner/careful", careful), fake.record("owner/eager", eager)]


def test_two_models_that_change_places_are_named(fake: Any) -> None:
    stability = build_board(disagreeing(fake), metrics=("dice",)).stability
    assert stability.depends
    found = {one.convention: one for one in stability.of("dice")}
    assert found["candlemark"].order == ("owner/careful", "owner/eager")
    assert found["monai"].order == ("owner/eager", "owner/careful")
    assert found["monai"].swaps == (("owner/careful", "owner/eager"),)
    assert found["monai"].tau == -1.0
    assert found["monai"].values["owner/eager"] == pytest.approx(0.9)
    assert found["candlemark"].swaps == ()
    first, second = stability.sentences()
    assert first == "Rank stability: the order of 2 models depends on the convention by Dice."
    assert second.startswith("Dice: under monai")
    assert "eager comes before careful (tau -1.00)" in second


@pytest.mark.parametrize(
    ("swaps", "said"),
    [(4, "and 1 more pair changes places"), (5, "and 2 more pairs change places")],
)
def test_pairs_that_are_not_named_are_counted(swaps: int, said: str) -> None:
    change = Ranking(
        metric="dice",
        convention="monai",
        values={},
        order=(),
        tau=0.5,
        swaps=tuple((f"a{one}", f"b{one}") for one in range(swaps)),
    )
    own = replace(change, convention="candlemark", swaps=())
    told = RankStability(convention="candlemark", models=9, rankings=(own, change)).sentences()[1]
    assert f"b2 comes before a2 {said} (tau 0.50)" in told


def test_places_that_change_between_ties_are_said_to_be_ties(fake: Any) -> None:
    board = build_board(disagreeing(fake), metrics=("dice",))
    (duel,) = board.contest.pairs
    assert not duel.told_apart
    assert (
        "(tau -1.00), which the paired test cannot tell apart here"
        in (board.stability.sentences()[1])
    )


def test_the_boards_own_convention_is_what_others_are_held_against(fake: Any) -> None:
    board = build_board(disagreeing(fake), metrics=("dice",), convention="monai")
    assert [row.name for row in board.models] == ["owner/eager", "owner/careful"]
    found = {one.convention: one for one in board.stability.of("dice")}
    assert found["candlemark"].swaps == (("owner/eager", "owner/careful"),)
    assert found["monai"].tau == 1.0


def test_an_order_that_all_share_is_said_to_be_shared(fake: Any) -> None:
    records = [fake.scored("a", [9] * 6), fake.scored("b", [5] * 6)]
    board = build_board(records, metrics=("dice", "volume_difference", "lesion_f1"))
    assert not board.stability.depends
    (sentence,) = board.stability.sentences()
    assert sentence == (
        "Rank stability: 2 models stand in the same order under every convention by Dice; by "
        "Volume difference all are level, or no two have a number; no other convention orders them "
        "by Lesion F1."
    )


def test_what_depends_is_told_from_what_does_not(fake: Any) -> None:
    board = build_board(disagreeing(fake), metrics=("dice", "specificity", "lesion_f1"))
    assert board.stability.sentences()[0] == (
        "Rank stability: the order of 2 models depends on the convention by Dice, not by "
        "Specificity; no other convention orders them by Lesion F1."
    )


def test_tools_without_a_number_order_nothing(fake: Any) -> None:
    """Nobody's order was once said to be the same as ours."""
    _, prediction = fake.masks([10])
    blank = np.zeros(fake.SHAPE, np.uint8)
    invented = [fake.case_of_masks("blank", blank, prediction)]
    models = [
        fake.record(name, [fake.case_of(i, hits) for i in fake.ids(6)] + invented)
        for name, hits in (("a", 9), ("b", 5))
    ]
    stability = build_board(models, metrics=("dice", "volume_difference", "hd")).stability
    assert all(ranking.order == () for ranking in stability.of("volume_difference")[1:])
    assert stability.sentences()[0] == (
        "Rank stability: 2 models stand in the same order under every convention by Dice and HD; "
        "no other convention orders them by Volume difference."
    )


def test_models_that_are_level_have_no_order(fake: Any) -> None:
    """Two models without one shared voxel once stood "in the same order"."""
    records = [fake.scored("a", [0] * 6), fake.scored("b", [0] * 6)]
    assert build_board(records, metrics=("dice",)).stability.sentences() == (
        "Rank stability: 2 models have no order; by Dice all are level, or no two have a number.",
    )


def test_tools_that_lack_the_same_number_are_named_together(fake: Any) -> None:
    nothing = np.zeros(fake.SHAPE, np.uint8)
    reference, _ = fake.masks([10])
    blank = [fake.case_of_masks(name, reference, nothing) for name in fake.ids(6)]
    records = [fake.scored("right", [9] * 6), fake.record("blank", blank)]
    (_, told) = build_board(records, metrics=("hd95",)).stability.sentences()
    assert re.fullmatch(r"HD95: monai, .* and .* have no number for blank\.", told)


def test_others_may_order_what_the_boards_own_convention_does_not(fake: Any) -> None:
    """Models that every other tool orders were said to be level by a tool without the score."""
    records = [fake.scored("a", [9] * 6), fake.scored("b", [5] * 6)]
    found = {
        metrics: build_board(records, metrics=metrics, convention="torchmetrics").stability
        for metrics in (("dice", "nsd", "lesion_f1"), ("nsd",))
    }
    first, second = (stability.sentences()[0] for stability in found.values())
    assert first == (
        "Rank stability: 2 models stand in the same order under every convention by Dice; by NSD "
        "and Lesion F1 torchmetrics has no order, others do."
    )
    assert second == (
        "Rank stability: the order of 2 models cannot be compared; by NSD torchmetrics has no "
        "order, others do."
    )


def test_what_was_never_trained_has_no_place(fake: Any) -> None:
    records = [fake.scored("a", [9] * 6), fake.scored("b", [5] * 6, untrained=True)]
    assert build_board(records, metrics=("dice",)).stability.sentences() == (
        "Rank stability: only one trained model has scores, so there is no order.",
    )


def test_what_a_tool_lacks_and_what_it_cannot_say_are_two_things(fake: Any) -> None:
    empty = [fake.case_of(name, 0) for name in fake.ids(6)]
    nothing = np.zeros(fake.SHAPE, np.uint8)
    reference, _ = fake.masks([10])
    blank = [fake.case_of_masks(name, reference, nothing) for name in fake.ids(6)]
    records = [fake.record("wrong", empty), fake.record("blank", blank)]
    stability = build_board(records, metrics=("dice", "hd95")).stability
    found = {one.convention: one for one in stability.of("hd95")}
    assert (
        found["torchmetrics"].absent == "TorchMetrics: its Hausdorff distance takes no percentile"
    )
    assert found["torchmetrics"].unranked == ()
    assert found["monai"].absent is None
    assert found["monai"].unranked == ("blank",)
    assert "monai, " in stability.sentences()[1]
    assert "have no number for blank" in stability.sentences()[1]


def test_a_trial_that_died_gains_no_place_where_voxels_are_added_up(fake: Any) -> None:
    """What others know of the references says how much it missed."""
    names = fake.ids(6)
    half = fake.record("half", [fake.case_of(name, 9) for name in names[:3]], planned=names)
    board = build_board([fake.scored("whole", [8] * 6), half], metrics=("sensitivity",))
    found = {one.convention: one for one in board.stability.of("sensitivity")}
    assert found["monai"].values == pytest.approx({"whole": 0.8, "half": 0.45})
    assert not board.stability.depends


def test_controls_and_oracles_have_no_part_in_it(fake: Any) -> None:
    records = [
        fake.scored("a", [9] * 6),
        fake.scored("control: Otsu", [5] * 6, role="control"),
        fake.scored("sam", [9] * 6, oracle=True),
    ]
    board = build_board(records, metrics=("dice",))
    assert board.stability.rankings == ()
    assert board.stability.sentences() == (
        "Rank stability: only one trained model has scores, so there is no order.",
    )
    board = build_board(records[1:], metrics=("dice",))
    assert board.stability.sentences() == (
        "Rank stability: no trained model has scores, so there is no order.",
    )
