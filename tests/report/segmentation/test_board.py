"""Boards of segmentation: who stands where, with which verdict, and against whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from candlemark.errors import ConfigError, ResultsError
from candlemark.records import Measurement, RunRecord, Status, Verdict
from candlemark.report.segmentation.board import Board, asked_of, build_board, build_boards
from candlemark.report.segmentation.text import answer, bar_lines, failure_lines, note_lines
from candlemark.results.store import Suite

GOOD = [8, 9, 8, 7, 9, 8, 8, 9]
FAIR = [6, 5, 7, 6, 5, 6, 7, 6]
TWIN = [9, 8, 8, 8, 8, 8, 9, 8]


def study(fake: Any) -> list[RunRecord]:
    return [
        fake.scored("owner/good", GOOD),
        fake.scored("owner/fair", FAIR),
        fake.scored("owner/twin", TWIN),
        fake.scored("control: Otsu", [3, 2, 4, 3, 2, 3, 3, 3], role="control"),
        fake.scored("control: untrained head", [1, 2] * 4, role="control", untrained=True),
    ]


def board_of(records: list[RunRecord], **more: Any) -> Board:
    return build_board(records, **{"metrics": ("dice", "hd95"), **more})


def test_rows_stand_best_first_with_controls_among_them(fake: Any) -> None:
    board = board_of(study(fake))
    assert [row.name for row in board.rows] == [
        *("owner/good", "owner/twin", "owner/fair"),
        *("control: Otsu", "control: untrained head"),
    ]
    assert [row.value("dice") for row in board.rows] == pytest.approx(
        [0.825, 0.825, 0.6, 0.2875, 0.15]
    )
    assert board.title == "phantoms: lesion, 8 cases"
    assert [row.name for row in board.models] == ["owner/good", "owner/twin", "owner/fair"]
    assert [row.name for row in board.controls] == ["control: Otsu", "control: untrained head"]


def test_a_distance_orders_the_other_way_round(fake: Any) -> None:
    board = board_of(study(fake), metrics=("hd95", "dice"))
    assert [row.name for row in board.models] == ["owner/good", "owner/twin", "owner/fair"]
    values = [row.value("hd95") for row in board.rows]
    assert values == sorted(values, key=lambda value: value or 0.0)
    duel = board.contest.beats_controls["owner/good"]
    assert duel.difference.value is not None
    assert duel.difference.value < 0
    assert duel.gain == -duel.difference.value
    assert board.contest.against_best["owner/fair"].gain == pytest.approx(-1.16875)


def test_ties_are_told_and_controls_are_beaten(fake: Any) -> None:
    contest = board_of(study(fake)).contest
    assert contest.tied_for_best == ("owner/good", "owner/twin")
    assert contest.against_best["owner/fair"].told_apart
    assert all(duel.won for duel in contest.beats_controls.values())
    assert len(contest.pairs) == 3
    found = {(duel.model, duel.other): duel.told_apart for duel in contest.pairs}
    assert found["owner/good", "owner/fair"]
    assert not found["owner/good", "owner/twin"]


def test_holm_makes_no_p_smaller(fake: Any) -> None:
    for duel in board_of(study(fake)).contest.pairs:
        assert duel.p_value is not None
        assert duel.difference.p_value is not None
        assert duel.p_value >= duel.difference.p_value


def test_the_same_difference_in_every_case_is_as_sure_as_so_many_coins(fake: Any) -> None:
    """Rounding of sums is no spread: it would make p as small as one likes."""
    six = [fake.scored("a", [7] * 6), fake.scored("b", [4] * 6)]
    (duel,) = board_of(six).contest.pairs
    assert duel.difference.p_value == pytest.approx(2 * 0.5**6)


def test_an_oracle_stands_apart_with_its_jitter_and_verdict(fake: Any) -> None:
    sam = [
        fake.scored(
            name, [hits] * 8, oracle=True, protocol="sam_oracle_box", jitter=jitter,
            options={"jitter": jitter},
        )
        for name, hits, jitter in (("sam, moved by 10%", 8, 0.1), ("sam", 9, 0.0))
    ]  # fmt: skip
    board = board_of([*study(fake), *sam], thresholds={"dice": 0.5})
    assert [(row.name, row.jitter) for row in board.oracles] == [
        *(("sam", 0.0), ("sam, moved by 10%", 0.1)),
    ]
    assert "sam" not in {row.name for row in board.rows}
    assert "sam" not in board.contest.tied_for_best
    m = board.oracles[0].scores["dice"]
    assert (m.verdict, m.reason) == (Verdict.ORACLE, "the prompt is taken from the reference")
    assert [bar.state for bar in board.oracles[0].bars] == ["unknown"]


def test_a_jitter_sweep_stays_together(fake: Any) -> None:
    """In the order of the jitter, although another oracle's score lies between two of them."""
    records = [
        fake.scored(
            f"{model} {jitter}", [hits] * 8, oracle=True, model=model, jitter=jitter,
            protocol="sam_oracle_box", options={"jitter": jitter},
        )
        for model, hits, jitter in (("a", 7, 0.2), ("b", 8, 0.0), ("a", 9, 0.0), ("a", 8, 0.1))
    ]  # fmt: skip
    assert [row.name for row in board_of(records).oracles] == ["a 0.0", "a 0.1", "a 0.2", "b 0.0"]


def test_an_untrained_head_says_so(fake: Any) -> None:
    m = board_of(study(fake)).row("control: untrained head").scores["dice"]
    assert m.verdict is Verdict.UNTRAINED
    assert m.reason == "what answers was never trained"


def test_an_oracle_of_few_cases_keeps_both_reasons(fake: Any) -> None:
    board = board_of([fake.scored("sam", [9] * 3, oracle=True)])
    m = board.oracles[0].scores["dice"]
    assert m.verdict is Verdict.ORACLE
    assert m.reason is not None
    assert m.reason.startswith("the prompt is taken from the reference; 3 cases; an interval needs")


def test_what_was_only_timed_has_no_scores(fake: Any) -> None:
    times = {"load": 1.0, "forward": 5.0}
    board = board_of([*study(fake), fake.scored("net", [9] * 8, protocol="none", times=times)])
    (row,) = board.timed
    assert row.scores["dice"].value is None
    assert row.scores["dice"].reason == "timed only: the protocol none asks for no mask"
    assert not row.cases
    assert {time.stage: time.p50.value for time in row.times} == {
        "load": 1.0,
        "forward": 5.0,
        "case": 6.0,
    }
    assert row.times[0].p95.value is None
    assert row.times[0].p95.reason == "p95 needs 59 samples, 51 more"


def test_measured_times_stand_above_those_of_the_cases(fake: Any) -> None:
    stored = [
        Measurement(name=name, value=value, unit=unit)
        for name, value, unit in (
            ("load_p50_ms", 7.0, "ms"),
            ("load_p95_ms", 9.0, "ms"),
            ("peak_memory_bytes", 2e9, "bytes"),
        )
    ]
    row = board_of([fake.scored("net", [9] * 8, times={"load": 1.0}, measurements=stored)]).rows[0]
    assert (row.times[0].p50.value, row.times[0].p95.value) == (7.0, 9.0)
    assert row.peak_memory is not None
    assert row.peak_memory.value == 2e9


def test_times_of_a_row_are_those_of_all_its_seeds(fake: Any) -> None:
    """Of three seeds the first one's were shown, and too few where all together are enough."""

    def seed(number: int, *, load: Verdict, memory: float | None) -> RunRecord:
        passes = [10.0 * number + n for n in range(3)]
        few = Measurement(
            name="case_p50_ms", value=None, unit="ms", sample_count=3, reason="2 more"
        )
        stored = (
            *(few, replace(few, name="case_p95_ms")),
            Measurement(name="load_s", value=1.0, verdict=load, reason="a backup ran"),
            Measurement(name="peak_memory_bytes", value=memory, reason="not seen"),
        )
        record: RunRecord = fake.scored("probe", [9] * 3, seed=number, measurements=stored)
        return replace(record, samples={"case_ms": np.array(passes)})

    records = [
        seed(0, load=Verdict.VALID, memory=None),
        seed(1, load=Verdict.VALID, memory=3e9),
        seed(2, load=Verdict.VALID, memory=2e9),
    ]
    (row,) = board_of(records).rows
    (time,) = row.times
    assert (time.p50.value, time.p50.sample_count, time.p50.verdict) == (11.0, 9, Verdict.VALID)
    assert (time.p95.value, time.p95.sample_count) == (None, 9)
    assert row.peak_memory is not None
    assert row.peak_memory.value == 3e9
    crowded = seed(2, load=Verdict.CONTENDED, memory=2e9)
    (row,) = board_of([*records[:2], crowded]).rows
    assert (row.times[0].p50.verdict, row.times[0].p50.reason) == (
        Verdict.CONTENDED,
        "a backup ran",
    )


def test_a_missing_and_a_failed_case_keep_the_denominator(fake: Any) -> None:
    names = fake.ids(8)
    cases = [fake.case_of(name, 10) for name in names[:6]]
    broken = fake.record("net", [*cases, fake.failed_case(names[6])], planned=names)
    row = board_of([*study(fake), broken]).row("net")
    assert row.value("dice") == pytest.approx(6 / 8)
    assert row.outcomes == {"ok": 6, "crashed": 1, "missing": 1}
    assert len(row.cases) == 8
    diagonal = (16**2 + 16**2) ** 0.5
    assert row.value("hd95") == pytest.approx(2 * diagonal / 8)


def test_a_trial_that_died_scores_the_worst_of_every_case(fake: Any) -> None:
    dead = fake.record(
        "net", [], planned=fake.ids(8), status=Status.OUT_OF_MEMORY, reason="needs 90 GiB"
    )
    board = board_of([*study(fake), dead])
    row = board.row("net")
    assert row.value("dice") == 0.0
    assert row.outcomes == {"out_of_memory": 8}
    assert row.cases[0].reason == "needs 90 GiB"
    assert row.value("hd95") == pytest.approx((16**2 + 16**2) ** 0.5)  # sizes are others'
    assert failure_lines(board) == ["failed: net: out_of_memory, needs 90 GiB"]
    assert not board.contest.beats_controls["net"].won


def test_a_seed_that_died_counts_in_the_mean_over_seeds(fake: Any) -> None:
    fine = fake.scored("probe", [8] * 8, seed=0)
    dead = fake.record(
        "probe", [], planned=fake.ids(8), seed=1, status=Status.CRASHED, reason="NaN loss"
    )
    row = board_of([fine, dead]).row("probe")
    assert row.seeds == (0, 1)
    assert row.value("dice") == pytest.approx(0.4)
    assert len(row.cases) == 16


def test_seeds_are_one_row_and_other_settings_are_another(fake: Any) -> None:
    records = [
        fake.scored("probe", [8] * 8, seed=0, options={"epochs": 5}),
        fake.scored("probe", [6] * 8, seed=1, options={"epochs": 5}),
        fake.scored("probe", [5] * 8, seed=0, options={"epochs": 9}),
    ]
    board = board_of(records)
    assert {row.name: row.seeds for row in board.rows} == {
        "probe, epochs 5": (0, 1),
        "probe, epochs 9": (0,),
    }
    m = board.rows[0].scores["dice"]
    assert m.value == pytest.approx(0.7)
    assert m.low is not None
    assert m.low < 0.6  # the spread over seeds, as the cases have none


def test_rows_whose_weights_differ_are_told_apart_by_the_first_letters_of_the_hash(
    fake: Any,
) -> None:
    records = [
        fake.scored("net", [8] * 8, options={"weights_sha256": f"source:{4 * sixteen}"})
        for sixteen in ("0123456789abcdef", "fedcba9876543210")
    ]
    assert {row.name for row in board_of(records).rows} == {
        "net, weights sha256 source:0123456789ab",
        "net, weights sha256 source:fedcba987654",
    }


def test_classes_have_their_own_scores(fake: Any) -> None:
    names = fake.ids(6)
    cases = [fake.case_of(name, [10, 5]) for name in names]
    board = board_of([fake.record("net", cases, classes=2)])
    row = board.rows[0]
    assert row.value("dice") == pytest.approx(0.75)
    assert row.by_class["1"]["dice"].value == pytest.approx(1.0)
    assert row.by_class["2"]["dice"].value == pytest.approx(0.5)
    assert row.cases[0].by_class["2"]["dice"] == pytest.approx(0.5)
    assert board.class_names == {"1": "lesion", "2": "organ"}


def test_few_cases_are_not_tested(fake: Any) -> None:
    board = board_of(
        [fake.scored("a", [9, 8, 9]), fake.scored("control: Otsu", [1, 2, 1], role="control")],
        thresholds={"dice": 0.5},
    )
    duel = board.contest.beats_controls["a"]
    assert duel.p_value is None
    assert duel.difference.value == pytest.approx(22 / 30)
    assert board.rows[0].scores["dice"].verdict is Verdict.TOO_FEW
    assert [bar.state for bar in board.rows[0].bars] == ["unknown"]
    assert answer(board) == (
        "3 cases are too few to name a best model: 6 are needed, 3 more. Dice so far: a 0.867, "
        "Otsu 0.133."
    )


def test_bars_are_cleared_by_the_whole_interval(fake: Any) -> None:
    board = board_of(study(fake), thresholds={"dice": 0.8, "hd95": 3.5})
    states = {row.name: {bar.metric: bar.state for bar in row.bars} for row in board.models}
    assert states["owner/good"] == {"dice": "undecided", "hd95": "clears"}
    assert states["owner/fair"]["dice"] == "misses"
    assert bar_lines(board)[0] == (
        "Bar Dice at least 0.8: fair: misses it; good and twin: cannot be told"
    )
    assert bar_lines(board)[1].startswith("Bar HD95 at most 3.5 mm: good and twin: clears it")


def test_scans_without_spacing_are_measured_in_pixels(fake: Any) -> None:
    board = board_of([fake.scored("net", GOOD, spacing=None)])
    assert board.units == {"dice": "", "hd95": "px"}
    assert board.rows[0].scores["hd95"].unit == "px"


def test_the_telling_cases_are_drawn_from_those_with_an_answer(fake: Any) -> None:
    cases = [
        fake.case_of(name, hits) for name, hits in zip(fake.ids(5), [5, 9, 7, 1, 8], strict=True)
    ]
    row = board_of([fake.record("net", [*cases, fake.failed_case("case_06")])]).rows[0]
    assert {which: case.case for which, case in row.telling_cases("dice").items()} == {
        "best": "case_02",
        "median": "case_03",
        "worst": "case_04",
    }
    assert row.ordered_cases("dice")[-1].case == "case_06"


def test_another_convention_is_recomputed_from_what_is_stored(fake: Any) -> None:
    """MONAI leaves out the case whose reference is empty; ours scores it."""
    import numpy as np

    reference, prediction = fake.masks([None])
    prediction = prediction.copy()
    prediction[0, 0, 0] = 1
    cases = [fake.case_of(name, 8) for name in fake.ids(7)]
    cases.append(fake.case_of_masks("case_08", np.zeros_like(reference), prediction))
    records = [fake.record("net", cases)]
    assert board_of(records).rows[0].value("dice") == pytest.approx(0.7)
    board = board_of(records, convention="monai")
    assert board.rows[0].value("dice") == pytest.approx(0.8)
    assert board.rows[0].cases[-1].scores["dice"] is None
    board = board_of(records, convention="nnunet", metrics=("dice", "nsd"))
    assert note_lines(board)[-1] == "n/a of all rows, NSD: nnU-Net: it has no surface Dice"


def test_other_cases_are_another_board(fake: Any) -> None:
    records = [
        fake.scored("a", [9] * 6),
        fake.scored("b", [9] * 7),
        RunRecord(
            trial_id="c", trial={"task": "charts"}, status=Status.OK, started_at="", duration_s=0.0
        ),
    ]
    assert [board.title for board in build_boards(records)] == [
        "phantoms: lesion, 6 cases",
        "phantoms: lesion, 7 cases",
    ]
    with pytest.raises(ResultsError) as caught:
        build_board(records)
    assert str(caught.value) == (
        "the trials are of 2 sets of cases (phantoms: lesion, 6 cases; phantoms: lesion, 7 cases); "
        "choose one"
    )


def test_what_cannot_be_built_is_refused_by_name(fake: Any) -> None:
    records = study(fake)
    with pytest.raises(
        ResultsError, match="no trial of the task segmentation; run: candlemark seg"
    ):
        build_board([])
    with pytest.raises(ConfigError, match="'itk' is no convention; known: candlemark, monai"):
        build_board(records, convention="itk")
    with pytest.raises(ConfigError, match=r"'dise' is no score of a mask; did you mean 'dice'\?"):
        build_board(records, metrics=("dise",))
    with pytest.raises(ConfigError, match="'dise' is no score of a mask"):
        build_board(records, thresholds={"dise": 0.5})
    with pytest.raises(ConfigError, match="metrics is empty"):
        build_board(records, metrics=())
    with pytest.raises(ResultsError, match="there is no row 'x'; known: owner/good"):
        build_board(records).row("x")


def test_the_newest_suite_says_how_it_wants_to_be_shown() -> None:
    def suite(when: str, **config: Any) -> Suite:
        return Suite(suite_id=when, started_at=when, config=config)

    suites = [
        suite("2026-02", task="segmentation", benchmark={"metrics": ["hd"], "thresholds": {}}),
        suite("2026-01", task="segmentation", reporting={"convention": "nnunet"}),
        suite("2026-03", task="charts"),
    ]
    assert asked_of(suites) == {"metrics": ["hd"]}
    assert asked_of(suites, convention="monai") == {"metrics": ["hd"], "convention": "monai"}
    assert asked_of([]) == {}
