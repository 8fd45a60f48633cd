"""Scores of cases and their means: failures stay, conventions keep their own arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.metrics.segmentation.aggregate import (
    Sampled,
    aggregate,
    bounds_of,
    measurement,
    over_seeds,
    sample,
)
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS, Extent
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.metrics.segmentation.lesions import count_lesions
from candlemark.metrics.segmentation.measure import measure
from candlemark.metrics.segmentation.scores import (
    CaseResult,
    case_scores,
    complete,
    read_case,
    tabulate,
    unit_of,
)
from candlemark.metrics.summary import difference, replicate
from candlemark.records import Verdict

OURS = CONVENTIONS["candlemark"]
SHAPE = (1, 8, 8)
EXTENTS = {"b": Extent(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))}
NAMES = tuple(SEGMENTATION_METRICS)


def stored(
    name: str,
    *classes: tuple[int, int, int],
    outcome: str = "ok",
    spacing: Sequence[float] | None = (1.0, 1.0, 1.0),
) -> dict[str, Any]:
    """A case whose class k has (hits, wrong, missed) voxels, each on a line of its own."""
    kept: dict[str, Any] = {}
    for place, (hits, wrong, missed) in enumerate(classes):
        reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        reference[0, 1, :hits] = prediction[0, 1, :hits] = 1
        prediction[0, 3, :wrong] = 1
        reference[0, 6, :missed] = 1
        found = measure(reference, prediction, 1, None if spacing is None else (1.0, 1.0, 1.0))
        kept[str(place + 1)] = {
            "name": f"class {place + 1}",
            **found.to_dict(),
            "lesions": count_lesions(reference, prediction).to_dict(),
        }
    return {
        "case": name,
        "outcome": outcome,
        "shape": list(SHAPE),
        "spacing_mm": None if spacing is None else list(spacing),
        "classes": kept,
    }


def results(*cases: dict[str, Any]) -> tuple[CaseResult, ...]:
    return tuple(map(read_case, cases))


def value_of(cases: Sequence[CaseResult], metric: str, convention: str = "candlemark") -> Any:
    return sample(cases, labels=("1",), metric=metric, convention=CONVENTIONS[convention]).value


def test_known_scores_of_a_case() -> None:
    scores = case_scores(stored("a", (4, 2, 1)), metrics=NAMES)["1"]
    assert scores["dice"] == pytest.approx(8 / 11)
    assert scores["iou"] == pytest.approx(4 / 7)
    assert scores["sensitivity"] == pytest.approx(4 / 5)
    assert scores["specificity"] == pytest.approx(57 / 59)
    assert scores["precision"] == pytest.approx(4 / 6)
    assert scores["volume_difference"] == pytest.approx(2 / 11)
    assert scores["lesion_sensitivity"] == pytest.approx(1 / 2)
    assert scores["hd"] == 3.0  # the missed line is three rows below the nearest predicted one


def test_the_sign_of_the_volume_stands_apart() -> None:
    over, under = results(stored("a", (4, 2, 0)), stored("b", (4, 0, 2)))
    assert over.volume_bias("1") == pytest.approx(2 / 5)
    assert under.volume_bias("1") == pytest.approx(-2 / 5)
    ours = [one.score("volume_difference", "1", OURS) for one in (over, under)]
    assert ours == pytest.approx([2 / 5, 2 / 5])


@pytest.mark.parametrize("metric", NAMES)
def test_both_empty_is_right_and_one_empty_never_undefined(metric: str) -> None:
    known = SEGMENTATION_METRICS[metric]
    nothing, invented, missed = results(
        stored("a", (0, 0, 0)), stored("b", (0, 3, 0)), stored("c", (0, 0, 3))
    )
    assert nothing.score(metric, "1", OURS) == known.both_empty
    extent = Extent(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    for one in (invented, missed):
        score = one.score(metric, "1", OURS)
        assert score is not None
        assert math.isfinite(score)
        if metric != "specificity":  # it is defined whichever side is empty
            assert score == known.worst_of(extent)


@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_failed_case_scores_the_worst_by_every_convention(convention: str, metric: str) -> None:
    failed = read_case({**stored("a", (4, 0, 0)), "outcome": "crashed"})
    score = failed.score(metric, "1", CONVENTIONS[convention])
    extent = Extent(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    assert score in {None, SEGMENTATION_METRICS[metric].worst_of(extent)}


def test_a_missing_case_keeps_the_denominator() -> None:
    found = complete([stored("a", (4, 0, 0))], ["a", "b"])
    assert [one.outcome for one in found] == ["ok", "missing"]
    assert found[1].reason == "no result of this case is stored"
    assert value_of(found, "dice") == 0.5


def test_a_failed_trial_fails_every_case() -> None:
    found = complete(
        [], ["a", "b"], outcome="timed_out", reason="60 s", extents={"b": Extent(shape=(1, 3, 4))}
    )
    assert [(one.outcome, one.reason) for one in found] == [("timed_out", "60 s")] * 2
    assert value_of(found, "dice") == 0.0
    assert found[1].score("hd95", "1", OURS) == 5.0


def test_a_distance_of_a_scan_nobody_could_open_is_unknown_and_says_so() -> None:
    found = complete([stored("a", (4, 0, 0))], ["a", "b"])
    unknown = sample(found, labels=("1",), metric="hd95", convention=OURS)
    assert math.isnan(unknown.value)
    m = measurement("hd95", unknown, unit="mm")
    assert m.value is None
    assert m.reason == "case b failed (missing) and the size of its scan is not stored"


def test_a_failed_case_is_missed_where_a_tool_adds_up_voxels() -> None:
    """MONAI's sensitivity is of all voxels together; a case without an answer found none."""
    there = [stored("a", (4, 0, 0))]
    assert value_of(complete(there, ["a"]), "sensitivity", "monai") == 1.0
    found = complete(there, ["a", "b"], references={"b": {"1": 12}}, extents=EXTENTS)
    assert value_of(found, "sensitivity", "monai") == 4 / 16
    assert value_of(found, "precision", "monai") == 4 / 16  # an empty answer would gain by failing
    assert value_of(found, "specificity", "monai") == pytest.approx(100 / 112)
    unknown = sample(
        complete(there, ["a", "b"]), labels=("1",), metric="sensitivity",
        convention=CONVENTIONS["monai"],
    )  # fmt: skip
    assert unknown.reason == (
        "case b failed (missing) and how many voxels its reference has is not stored"
    )


def test_one_nan_case_does_not_make_the_mean_nan() -> None:
    """MONAI's Dice of a case without the class is NaN; ours is a score, and the mean a number."""
    found = results(stored("a", (4, 0, 0)), stored("b", (0, 2, 0)))
    assert math.isnan(found[1].score("dice", "1", CONVENTIONS["monai"]) or 0.0)
    assert value_of(found, "dice") == 0.5
    assert value_of(found, "dice", "monai") == 1.0  # MONAI leaves the case out


def test_an_infinite_mean_is_unknown_with_a_reason() -> None:
    """Of a tool that says infinity where one side is empty."""
    endless = replace(
        OURS, title="Theirs", rules={"hd95": lambda m, _size, _mm: 0.0 if m.reference else math.inf}
    )
    found = results(stored("a", (4, 0, 0)), stored("b", (0, 2, 0)))
    sampled = sample(found, labels=("1",), metric="hd95", convention=endless)
    m = measurement("hd95", sampled, unit="mm")
    assert m.value is None
    assert m.reason == (
        "infinite by the convention of Theirs, which has no number for 1 of 2 cases"
    )


def test_a_metric_that_a_tool_lacks_is_unknown_with_its_reason() -> None:
    found = aggregate(
        results(stored("a", (4, 0, 0))), labels=("1",), metrics=("nsd",), convention="nnunet"
    )
    assert found.overall["nsd"].value is None
    assert found.overall["nsd"].reason == "nnU-Net: it has no surface Dice"


def test_means_go_over_classes_first() -> None:
    found = results(stored("a", (4, 0, 0), (0, 4, 4)), stored("b", (2, 2, 2), (2, 2, 2)))
    drawn = aggregate(found, labels=("1", "2"), metrics=("dice",))
    assert drawn.overall["dice"].value == pytest.approx(0.5)
    assert drawn.by_class["1"]["dice"].value == pytest.approx(0.75)
    assert drawn.by_class["2"]["dice"].value == pytest.approx(0.25)


def test_fewer_than_six_cases_bear_no_interval() -> None:
    five = results(*(stored(str(n), (3, n % 3, 1)) for n in range(5)))
    m = aggregate(five, labels=("1",), metrics=("dice",)).overall["dice"]
    assert (m.low, m.high, m.verdict) == (None, None, Verdict.TOO_FEW)
    assert m.reason == (
        "5 cases; an interval needs 6, 1 more, as below that no paired test can reach p = 0.05"
    )
    six = results(*(stored(str(n), (3, n % 3, 1)) for n in range(6)))
    m = aggregate(six, labels=("1",), metrics=("dice",)).overall["dice"]
    assert m.verdict is Verdict.VALID
    assert m.low is not None
    assert m.high is not None
    assert m.value is not None
    assert m.low < m.value < m.high


def test_a_perfect_distance_has_no_interval_but_a_reason() -> None:
    right = results(*(stored(str(n), (3, 0, 0)) for n in range(8)))
    m = aggregate(right, labels=("1",), metrics=("hd95",)).overall["hd95"]
    assert (m.value, m.low) == (0.0, None)
    assert m.reason == ("every case has the best score there is; how far off one may be is unseen")


@pytest.mark.parametrize(("hits", "wrong"), [(3, 0), (3, 2), (0, 3)])
def test_cases_that_score_the_same_leave_room_for_those_not_seen(hits: int, wrong: int) -> None:
    """Six cases of one Dice had it for certain: from 0.750 to 0.750."""
    alike = results(*(stored(str(n), (hits, wrong, 3 - hits)) for n in range(6)))
    found = aggregate(alike, labels=("1",), metrics=("dice", "hd95")).overall
    dice, unseen = found["dice"], 1 - 0.05 ** (1 / 6)
    assert dice.value is not None
    assert dice.low == pytest.approx(dice.value * (1 - unseen))
    assert dice.high == pytest.approx(dice.value + unseen * (1 - dice.value))
    assert found["hd95"].low is None
    assert str(found["hd95"].reason).startswith("every case has the ")


@pytest.mark.parametrize("wrong", [(8, 8, 8, 8, 8, 8), (8, 7, 6, 5, 4, 3)])
def test_an_interval_holds_a_score_beyond_our_own_range(wrong: Sequence[int]) -> None:
    """Over the reference's volume a difference has no greatest value: 8.0 was from 4.9 to 5.6."""
    cases = results(*(stored(str(n), (1, more, 0)) for n, more in enumerate(wrong)))
    found = aggregate(
        cases, labels=("1",), metrics=("volume_difference",), convention="metrics-reloaded"
    ).overall["volume_difference"]
    assert found.value == pytest.approx(np.mean(wrong))
    if len(set(wrong)) == 1:
        assert found.reason == (
            "every case has the same score; how far off another may be is unseen"
        )
    else:
        assert found.low is not None
        assert found.high is not None
        assert 3 < found.low < found.value < found.high < 10


def test_cases_that_a_tool_leaves_out_bear_no_interval() -> None:
    """MONAI's Dice of eight cases, of which five have the class, is that of five."""
    blank = [stored(f"blank {n}", (0, 1, 0)) for n in range(3)]
    held = [stored(str(n), (3, n % 3, 1)) for n in range(6)]
    five, six = (results(*held[:count], *blank) for count in (5, 6))
    for cases, verdict in ((five, Verdict.TOO_FEW), (six, Verdict.VALID)):
        m = aggregate(cases, labels=("1",), metrics=("dice",), convention="monai").overall["dice"]
        assert (m.sample_count, m.verdict) == (len(cases) - 3, verdict)
        assert (m.low is None) == (verdict is Verdict.TOO_FEW)
    ours = aggregate(five, labels=("1",), metrics=("dice",)).overall["dice"]
    assert (ours.sample_count, ours.verdict) == (8, Verdict.VALID)
    monai = CONVENTIONS["monai"]
    seeds = [sample(c, labels=("1",), metric="dice", convention=monai) for c in (six, five)]
    both = over_seeds(seeds)
    assert (both.case_count, both.replicates.size) == (5, 0)


def test_the_spread_over_seeds_widens_the_interval() -> None:
    drawn = np.random.default_rng(0).normal(0.6, 0.02, 500)
    one, two = (Sampled(value=value, replicates=drawn, case_count=20) for value in (0.5, 0.7))
    both = over_seeds([one, two])
    assert both.value == pytest.approx(0.6)
    assert both.seed_variance == pytest.approx(0.01)
    alone = measurement("dice", over_seeds([one, one]), unit="")
    wide = measurement("dice", both, unit="")
    assert wide.high is not None
    assert wide.low is not None
    assert alone.high is not None
    assert alone.low is not None
    assert wide.high - wide.low > 2 * (alone.high - alone.low)


def test_millimetres_and_pixels_have_no_mean() -> None:
    mixed = results(stored("a", (4, 1, 0)), stored("b", (4, 1, 0), spacing=None))
    assert unit_of("hd95", mixed) is None
    assert unit_of("dice", mixed) == ""
    assert unit_of("hd95", mixed[1:]) == "px"
    m = aggregate(mixed, labels=("1",), metrics=("hd95", "dice")).overall
    assert m["hd95"].value is None
    assert m["hd95"].reason == (
        "some scans have a spacing and some have none; distances in mm and px have no mean"
    )
    assert m["dice"].value is not None


COUNTS = st.tuples(*[st.integers(0, 4)] * 3)
CASES = st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=4)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=lambda c: c.name)
@given(cases=CASES)
@settings(max_examples=15, deadline=None)
def test_the_mean_is_the_conventions_own(convention: Any, cases: Any) -> None:
    """Drawing every case once gives what the convention itself says of all of them."""
    found = results(*(stored(str(n), *classes) for n, classes in enumerate(cases)))
    extents = [one.extent for one in found]
    table = [[one.classes[label].measure for label in ("1", "2")] for one in found]
    for metric in convention.rules:
        ours = tabulate(found, labels=("1", "2"), metric=metric, convention=convention)
        assert ours is not None
        (mean,) = ours.mean(np.ones((1, len(found))))
        theirs = convention.aggregate(metric, table, extents)
        assert mean == pytest.approx(theirs, nan_ok=True)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=lambda c: c.name)
def test_drawing_a_case_twice_is_having_it_twice(convention: Any) -> None:
    cases = [stored("a", (4, 1, 0), (1, 1, 1)), stored("b", (2, 0, 3), (0, 0, 2))]
    twice = results(cases[0], cases[0], cases[1])
    for metric in convention.rules:
        once = tabulate(results(*cases), labels=("1", "2"), metric=metric, convention=convention)
        whole = tabulate(twice, labels=("1", "2"), metric=metric, convention=convention)
        assert once is not None
        assert whole is not None
        assert once.mean(np.array([[2.0, 1.0]])) == pytest.approx(
            whole.mean(np.ones((1, 3))), nan_ok=True
        )
        assert once.mean_of("2", np.array([[2.0, 1.0]])) == pytest.approx(
            whole.mean_of("2", np.ones((1, 3))), nan_ok=True
        )


def drawn(scores: Any) -> tuple[float, Any]:
    """The mean of scores and its bootstrap."""
    count = len(scores)
    ((value, replicates),) = replicate(
        [lambda weight: weight @ scores / count],
        case_count=count,
        block_length=1,
        replicates=1000,
    )
    return value, replicates


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 40])
def test_intervals_hold_the_mean_and_tests_their_level(count: int) -> None:
    """As the head of `aggregate` says."""
    random = np.random.default_rng(7)
    dice = SEGMENTATION_METRICS["dice"]
    held = alarms = 0
    for _ in range(300):
        scores = random.beta(8, 2, count)
        value, replicates = drawn(scores)
        bounds = bounds_of(dice, Sampled(value=value, replicates=replicates, case_count=count))
        assert bounds.low is not None
        assert bounds.high is not None
        held += bounds.low <= 0.8 <= bounds.high
        other = drawn(scores + random.normal(0, 0.05, count))
        found = difference(
            (value, replicates), other, metric=dice, case_count=count, block_length=1
        )
        assert found.p_value is not None
        alarms += found.p_value < 0.05
    assert held / 300 > 0.89
    assert alarms / 300 < 0.09
