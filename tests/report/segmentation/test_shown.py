"""Text, files and page say what the board holds, and nothing that is unknown is a number."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from candlemark.records import Measurement, RunRecord, Status, Verdict
from candlemark.report.format import quantity
from candlemark.report.segmentation.board import Board, build_board
from candlemark.report.segmentation.detailed import detailed
from candlemark.report.segmentation.export import (
    board_to_dict,
    cases_csv,
    comparison_csv,
    comparison_markdown,
    write_exports,
)
from candlemark.report.segmentation.tables import forest, page
from candlemark.report.segmentation.terminal import show
from candlemark.report.segmentation.text import answer, failure_lines, note_lines
from candlemark.report.segmentation.times import time_lines


@cache
def board_of(
    fake: Any,
    metrics: tuple[str, ...] = ("dice", "hd95", "lesion_f1"),
    convention: str = "candlemark",
) -> Board:
    return build_board(fake.study(), metrics=metrics, convention=convention)


def shown(board: Board, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(board, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_answer_names_the_best_and_the_test_against_the_controls(fake: Any) -> None:
    board = board_of(fake)
    assert answer(board) == (
        "good and <b>|broken cannot be told apart: Dice 0.867 [0.807, 0.916] for the first, "
        "better than every control (p < 0.001)."
    )
    alone = build_board([r for r in fake.study() if r.facts["row"] != "<b>|broken"])
    assert answer(alone).startswith("good has the best Dice, 0.867 [0.807, 0.916]; better than")
    assert answer(build_board(fake.study()[3:])) == (
        "No model was scored, and none can be recommended: name one by --hf-models or --model."
    )
    assert answer(board_of(fake, metrics=("nsd",), convention="nnunet")) == (
        "No model has a known NSD (nnU-Net: it has no surface Dice)."
    )


@pytest.mark.parametrize("width", [60, 80, 160])
def test_every_row_is_shown_at_every_width(fake: Any, width: int) -> None:
    text = shown(board_of(fake), width)
    for name in ("good", "broken", "dead", "Otsu", "sam", "net"):
        assert name in text
    assert "Oracles: the prompt comes from the reference" in text
    assert max(map(len, text.splitlines())) <= width


def test_protocols_failures_and_verdicts_stand_in_the_table(fake: Any) -> None:
    text = shown(board_of(fake), 200)
    assert re.search(r"good +native_head +0\.867 .*0 of 6|good +native_head .* 0 ", text)
    assert re.search(r"broken .*2 of 6", text)
    assert re.search(r"dead .*6 of 6", text)
    assert re.search(r"sam +sam_oracle_box +1\.000 \[.* moved by 10%", text)
    assert re.search(r"row +all stages, p50 .*\n.*\n *good +9 ms ", text)


def test_no_model_is_crowned_that_may_not_be_quoted(fake: Any) -> None:
    """Neither what was never trained, nor what too few cases say, nor a score of nothing."""
    otsu = fake.scored("control: Otsu", [3] * 6, role="control")
    random = fake.scored("owner/random", [9] * 6, untrained=True, protocol="sam_auto")
    assert answer(build_board([random, otsu])) == (
        "No trained model was scored: random is UNTRAINED, random weights say nothing of a model."
    )
    half = fake.scored("owner/half", [5, 6, 5, 6, 5, 6])
    board = build_board([random, half, otsu])
    assert answer(board).startswith("half reaches Dice 0.550 [")
    assert board.contest.tied_for_best == ("owner/half",)
    assert "owner/random" not in board.contest.beats_controls
    assert "UNTRAINED takes part in no test and no order: random." in note_lines(board)
    few = [fake.scored("owner/half", [5]), fake.scored("control: Otsu", [3], role="control")]
    assert answer(build_board(few)) == (
        "1 case is too few to name a best model: 6 are needed, 5 more. Dice so far: half 0.500, "
        "Otsu 0.300."
    )
    nothing = [fake.scored("owner/nothing", [0] * 6), otsu]
    assert answer(build_board(nothing)).startswith(
        "No model found anything: the best Dice is 0.000"
    )


def test_models_that_only_failed_gave_no_answer(fake: Any) -> None:
    """Their worst scores are no scores that a model reached."""
    dead = fake.record("owner/dead", [], planned=fake.ids(6), status=Status.CRASHED, reason="boom")
    board = build_board([dead, fake.scored("control: Otsu", [3] * 6, role="control")])
    assert answer(board) == (
        "No model gave an answer: dead failed in every case, as told below the tables."
    )
    assert failure_lines(board) == ["failed: dead: crashed, boom"]


def test_a_model_that_loses_to_a_control_is_not_called_the_best(fake: Any) -> None:
    records = [
        fake.scored("owner/weak", [3, 2, 4, 3, 2, 3]),
        fake.scored("owner/weaker", [1, 1, 2, 1, 1, 2]),
        fake.scored("control: Otsu", [5, 6, 5, 6, 5, 5], role="control"),
    ]
    assert re.fullmatch(
        r"No model is shown to beat every control: weak, the best of 2, has Dice 0\.283 \[.*\], "
        r"Otsu 0\.533 \(p = 1\.000\)\.",
        answer(build_board(records)),
    )


def test_a_narrow_table_keeps_hd95_and_says_what_it_left_out(fake: Any) -> None:
    metrics = ("dice", "iou", "sensitivity", "precision", "hd95", "assd", "nsd")
    text = shown(board_of(fake, metrics=metrics), 80)
    assert "HD95" in text
    assert re.search(
        r"Left out for want of width: .*IoU.*; the CSV and the page have", " ".join(text.split())
    )
    assert "Left out" not in shown(board_of(fake, metrics=metrics), 200)
    text = " ".join(shown(board_of(fake, metrics=metrics), 60).split())
    assert re.search(r"Left out .*times of .*load", text)
    cases = [fake.case_of(name, [9, 5]) for name in fake.ids(6)]
    classes = build_board([fake.record("net", cases, classes=2)], metrics=metrics)
    assert re.search(r"Left out .*NSD by class", " ".join(shown(classes, 50).split()))
    assert "Left out" not in shown(classes, 200)


def test_a_reason_of_its_own_in_every_case_is_not_a_line_in_every_case(fake: Any) -> None:
    names = fake.ids(9)
    failed = [
        {**fake.failed_case(name, "wrong_shape"), "reason": f"shape ({place}, 2, 2)"}
        for place, name in enumerate(names)
    ]
    lines = failure_lines(build_board([fake.record("net", failed)]))
    assert len(lines) == 6
    assert lines[0] == f"wrong shape: net: {names[0]}: shape (0, 2, 2)"
    assert lines[-1] == "failed: net: 4 cases more, as the CSV of cases tells"


def test_the_chart_holds_scores_that_have_no_greatest_value(fake: Any) -> None:
    """Its axis ended at 2, with every volume difference over the reference's beyond it."""
    ranged = {}
    for name in ("candlemark", "metrics-reloaded"):
        drawn = forest(board_of(fake, metrics=("volume_difference",), convention=name))
        assert drawn is not None
        ranged[name] = drawn["layout"]["xaxis"].get("range")
    assert ranged == {"candlemark": [-0.02, 2.02], "metrics-reloaded": None}


def test_one_case_is_no_mean_and_no_test(fake: Any) -> None:
    one = build_board([fake.scored("net", [9]), fake.scored("other", [8])])
    assert note_lines(one)[:2] == [
        "Of 1 case, as it is; without an answer it scores the worst.",
        "No interval and no test: both need 6 cases; below that no paired test can reach p = 0.05.",
    ]
    assert note_lines(board_of(fake))[:2] == [
        "Means over all 6 cases; a case without an answer scores the worst.",
        (
            "Intervals: bootstrap of cases, 95 %. p-values: paired bootstrap of the same cases "
            "with Student's t of 5 degrees of freedom, corrected by Holm."
        ),
    ]
    assert "an interval needs" not in shown(one, 80)


def test_means_of_a_tool_that_leaves_cases_out_are_not_said_to_be_over_all(fake: Any) -> None:
    found = {
        name: note_lines(build_board([fake.scored("net", [9] * 6)], convention=name))[0]
        for name in ("candlemark", "monai", "surface-distance")
    }
    assert found["monai"] == (
        "Means over all 6 cases, but for those that MONAI leaves out or adds up; a case without an "
        "answer scores the worst."
    )
    assert (
        found["candlemark"]
        == found["surface-distance"]
        == ("Means over all 6 cases; a case without an answer scores the worst.")
    )


def test_cases_that_a_tool_leaves_out_name_no_best_model(fake: Any) -> None:
    """Four cases with a number in nine were a test of nine."""
    reference, prediction = fake.masks([10])
    blank = [fake.case_of_masks(f"b{n}", 0 * reference, prediction) for n in range(5)]
    records = [
        fake.record(name, [*(fake.case_of(i, hits) for i in fake.ids(4)), *blank], role=role)
        for name, hits, role in (("a", 9, "model"), ("b", 5, "model"), ("c", 1, "control"))
    ]
    board = build_board(records, metrics=("dice",), convention="monai")
    assert answer(board) == (
        "4 cases with a number, of 9, are too few to name a best model: 6 are needed, 2 more. Dice "
        "so far: a 0.900, c 0.100."
    )
    assert note_lines(board)[1].startswith("No interval and no test: both need 6 cases")
    assert "an interval needs" not in shown(board, 80)


def test_withheld_times_say_what_was_seen_and_which_flag_gives_them(fake: Any) -> None:
    assert time_lines(board_of(fake)) == [
        "Times: p95 needs 59 timed passes of a row, 6 were made; --repeats 10 makes enough."
    ]
    few = build_board([fake.scored("net", [9] * 3, times=fake.TIMES)])
    assert time_lines(few) == [
        "Times: p50 needs 5 timed passes of a row, 3 were made; --repeats 2 makes enough.",
        "Times: p95 needs 59 timed passes of a row, 3 were made; --repeats 20 makes enough.",
        "Times with ~: the median of fewer passes than p50 needs.",
    ]
    assert re.search(r"net +~9 ms +~1 ms +~2 ms +~5 ms +~1 ms", shown(few, 120))
    assert "Time of a case, TOO_FEW" in shown(few)


def test_times_that_nobody_saw_are_said_to_be_unseen(fake: Any) -> None:
    why = "the masks were finished before; nobody saw them being made"
    stored = [
        Measurement(name=f"case_{p}_ms", value=None, unit="ms", sample_count=0, reason=why)
        for p in ("p50", "p95")
    ]
    board = build_board([fake.scored("owner/masks", [9] * 6, measurements=stored)])
    assert time_lines(board) == [f"No times of masks: {why}."]
    assert "Time of a case" not in shown(board)


def test_a_fault_of_the_clock_is_told_once_for_all_rows(fake: Any) -> None:
    def row(name: str, busy: str) -> RunRecord:
        stored = [
            Measurement(
                name=f"case_{p}_ms", value=v, unit="ms", verdict=Verdict.CONTENDED, reason=r
            )
            for p, v, r in (("p50", 2030.0, busy), ("p95", None, "p95 needs 59 samples, 53 more"))
        ]
        record: RunRecord = fake.scored(name, [9] * 6, measurements=stored)
        return record

    board = build_board([row("a", "others used 1 core"), row("b", "others used 2 cores")])
    assert time_lines(board) == [
        "Times of all rows are CONTENDED: others used 1 core in a; others alike."
    ]
    assert re.search(r"a +2030 ms", shown(board))
    assert "Time of a case, CONTENDED" in shown(board)


def test_memory_of_a_shared_process_is_said_to_be_shared(fake: Any) -> None:
    def row(name: str, verdict: Verdict) -> RunRecord:
        peak = Measurement(
            name="peak_memory_bytes", value=2e9, unit="bytes", verdict=verdict, reason="shared"
        )
        record: RunRecord = fake.scored(name, [9] * 6, times=fake.TIMES, measurements=[peak])
        return record

    first, *others = row("a", Verdict.VALID), row("b", Verdict.CONTENDED), row("c", Verdict.VALID)
    assert "Peak memory of b is CONTENDED: shared." in shown(build_board([first, *others]))
    shared = [row(name, Verdict.CONTENDED) for name in "bc"]
    assert time_lines(build_board(shared))[-1] == "Peak memory of all rows is CONTENDED: shared."


def test_no_number_has_an_exponent() -> None:
    assert quantity("peak_memory_bytes", 1019.6 * 2**20) == "0.996 GiB"
    assert quantity("peak_memory_bytes", 833 * 2**20) == "833 MiB"
    assert quantity("flops", 999_700) == "1 M"
    assert [quantity("x_ms", v) for v in (0.2164, 241.0, 999.7, 2030.4, 49_122.8)] == [
        *("0.216 ms", "241 ms", "1000 ms", "2030 ms", "49.1 s"),
    ]


def test_failures_are_told_once_with_their_reason(fake: Any) -> None:
    assert failure_lines(board_of(fake)) == [
        "crashed: <b>|broken: case_05: the network raised ValueError",
        "wrong shape: <b>|broken: case_06: the network raised ValueError",
        "failed: dead: crashed, boom",
    ]


def test_a_reason_that_every_seed_gives_is_told_once(fake: Any) -> None:
    why = {"planned": fake.ids(6), "status": Status.CRASHED}
    dead = [fake.record("net", [], seed=seed, reason="boom", **why) for seed in range(3)]
    other = fake.record("net", [], seed=3, reason="no memory", **why)
    assert failure_lines(build_board([*dead, other])) == [
        "failed: net: crashed, boom",
        "failed: net: crashed, no memory",
    ]


def test_the_detailed_text_holds_every_score_pair_and_convention(fake: Any) -> None:
    text = detailed([board_of(fake)])
    assert "a model of ours" in text
    assert re.search(r"owner/good \(model, native_head\)\n +Dice +0\.867 \[", text)
    assert "good - control: Otsu: +0.583 [" in text
    assert re.search(r"HD95, torchmetrics: TorchMetrics: its Hausdorff .* no percentile", text)
    assert "HD95, nnunet: good" in text


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_has_a_line_a_case_and_says_why_one_failed(fake: Any) -> None:
    lines = rows_of(cases_csv([board_of(fake)]))
    assert len(lines) == 5 * 6  # what was only timed has no cases
    failed = [line for line in lines if line["row"] == "<b>|broken" and line["outcome"] != "ok"]
    assert [(line["case"], line["outcome"], line["dice"]) for line in failed] == [
        ("case_05", "crashed", "0.0"),
        ("case_06", "wrong_shape", "0.0"),
    ]
    assert failed[0]["reason"] == "the network raised ValueError"
    assert failed[0]["volume_bias"] == ""
    good = next(line for line in lines if line["row"] == "owner/good")
    assert float(good["dice"]) == pytest.approx(0.9)
    assert (good["class"], good["distance_unit"], good["forward_ms"]) == ("lesion", "mm", "5.0")
    assert {line["oracle"] for line in lines if line["row"] == "sam"} == {"True"}


def test_several_classes_have_a_line_each_and_one_for_their_mean(fake: Any) -> None:
    cases = [fake.case_of(name, [10, 5]) for name in fake.ids(6)]
    board = build_board([fake.record("net", cases, classes=2)], metrics=("dice",))
    lines = rows_of(cases_csv([board]))
    assert [(line["class"], line["dice"]) for line in lines[:3]] == [
        *(("lesion", "1.0"), ("organ", "0.5"), ("mean of classes", "0.75")),
    ]
    compared = rows_of(comparison_csv([board]))
    assert [line["class"] for line in compared] == ["mean of classes", "lesion", "organ"]
    assert "By class" in shown(board)


def test_the_comparison_holds_all_three_tables(fake: Any) -> None:
    lines = {line["row"]: line for line in rows_of(comparison_csv([board_of(fake)]))}
    assert {name: line["table"] for name, line in lines.items()} == {
        **dict.fromkeys(("owner/good", "<b>|broken", "dead", "control: Otsu"), "main"),
        "sam": "oracle",
        "net": "timed",
    }
    assert lines["net"]["dice"] == ""
    assert lines["net"]["case_p50_ms"] == "9.0"
    assert lines["sam"]["dice_verdict"] == "ORACLE"
    assert lines["dead"]["failed_cases"] == "6"


def test_markdown_escapes_names(fake: Any) -> None:
    text = comparison_markdown([board_of(fake)])
    assert "\\<b>\\|broken" in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {9}


def test_json_holds_the_answer_and_no_nan(fake: Any) -> None:
    found = json.loads(json.dumps(board_to_dict(board_of(fake)), allow_nan=False))
    assert found["answer"].startswith("good and <b>|broken cannot be told apart")
    assert [row["row"] for row in found["oracles"]] == ["sam"]
    assert found["rows"][0]["scores"]["dice"]["quotable"] is True
    assert found["timed"][0]["scores"]["dice"]["value"] is None
    assert found["beats_controls"]["owner/good"]["won"] is True
    assert found["rank_stability"]["rankings"][0]["metric"] == "dice"
    assert found["rows"][0]["telling_cases"]["best"] == "case_01"


def test_files_are_named_by_their_time(fake: Any, tmp_path: Path) -> None:
    at = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
    files = write_exports([board_of(fake)], tmp_path / "out", at=at)
    assert sorted(path.name for path in files.all) == [
        "benchmark_results_20260501_093000.csv",
        "benchmark_summary_20260501_093000.json",
        "model_comparison_20260501_093000.csv",
        "model_comparison_20260501_093000.md",
    ]
    assert all(path.stat().st_size for path in files.all)


def test_the_page_escapes_names_and_draws_every_scored_row(fake: Any) -> None:
    board = board_of(fake)
    text = page([board], [], title="scans <i>")
    assert "scans &lt;i&gt;" in text
    assert "<b>|broken" not in text
    assert text.count('<tr class="control">') == 1
    chart = forest(board)
    assert chart is not None
    assert chart["layout"]["yaxis"]["categoryarray"] == [
        *("sam", "<b>shown the reference:</b>"),
        *("dead", "control: Otsu", "&lt;b&gt;|broken", "good"),
    ]
    marks = {trace["y"][0]: trace["marker"] for trace in chart["data"][1:]}
    assert (marks["sam"]["symbol"], marks["sam"]["color"]) == ("diamond-open", "@warn")
    assert (marks["good"]["symbol"], marks["good"]["color"]) == ("circle", "@model")


def test_a_verdict_stands_once_a_row(fake: Any) -> None:
    """Where it is the same for all scores; ORACLE once stood under every number."""
    text = page([board_of(fake)], [], title="scans")
    (row,) = re.findall(r"<tr class=\"model\"><td class=\"name\">sam<.*?</tr>", text)[:1]
    assert row.count(">ORACLE</abbr>") == 1
    few = page([build_board([fake.scored("net", [9] * 3, times=fake.TIMES)])], [], title="scans")
    assert re.search(r"<h3>Time of a case <abbr[^>]*>TOO_FEW</abbr></h3>", few)
    assert "~9 ms</td>" in few
    assert "Against the controls" not in few
