"""Boards, contests and recommendations say what the records hold, and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from candlemark.errors import ResultsError
from candlemark.records import Measurement, RunRecord
from candlemark.report import dashboard, figures, text
from candlemark.report.build import build_report
from candlemark.report.contests import (
    Contest,
    differing_fields,
    hold,
    pareto_front,
)
from candlemark.report.format import duration, measured, p_value, quantity, short
from candlemark.report.recommendations import answer, random_walk_sentence, recommendations
from candlemark.report.statistics import Board, build_boards
from candlemark.results.store import open_results


def _load_fakes() -> Any:
    """The records beside this file; tests are no package, so it is loaded by path."""
    import sys

    name = "candlemark_test_fake_records"
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).with_name("fake_records.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


fakes = _load_fakes()
EDGENEXT, MOBILENET, RESNET = fakes.ROWS[5], fakes.ROWS[6], fakes.ROWS[7]
BASELINES = fakes.ROWS[:5]


@cache
def suite() -> tuple[RunRecord, ...]:
    return tuple(fakes.fake_suite())


@cache
def boards() -> tuple[Board, ...]:
    return build_boards(suite())


def board_of(records: Sequence[RunRecord]) -> tuple[Board, Contest]:
    (board,) = build_boards(records)
    return board, hold(board)


class TestBoards:
    def test_each_question_has_its_board_the_answerable_first(self) -> None:
        assert [(b.market, b.label, b.label_kind) for b in boards()] == [
            ("planted", "next_candle", "forecast"),
            ("random_walk", "next_candle", "forecast"),
            ("random_walk", "last_candle", "recognition"),
        ]

    def test_rows_are_sorted_and_failed_ones_stay(self) -> None:
        planted = boards()[0]
        values = [row.value("auroc") for row in planted.rows]
        known = [value for value in values if value is not None]
        assert known == sorted(known, reverse=True)
        assert values[-1] is None
        assert planted.rows[-1].failed[0].status == "out_of_memory"

    def test_the_simultaneous_interval_is_wider(self) -> None:
        for row in boards()[0].models:
            m = row.scores["auroc"]
            assert m.low is not None
            assert m.high is not None
            assert row.adjusted.low is not None
            assert row.adjusted.high is not None
            assert row.adjusted.low < m.low < m.high < row.adjusted.high

    def test_several_seeds_are_one_row_with_their_spread(self) -> None:
        one = fakes.fake_record(EDGENEXT, seed=0)
        two = fakes.fake_record(replace(EDGENEXT, strength=0.2), seed=1)
        (single,) = build_boards([one])[0].rows
        (both,) = build_boards([one, two])[0].rows
        values = [r.measurement("auroc").value for r in (one, two)]
        assert both.value("auroc") == pytest.approx(np.mean(values))
        assert both.seeds == (0, 1)
        assert both.resampled is not None
        assert both.resampled.seed_variance == pytest.approx(np.var(values, ddof=1) / 2)

        def width(m: Measurement) -> float:
            assert m.low is not None
            assert m.high is not None
            return m.high - m.low

        assert width(both.scores["auroc"]) > width(single.scores["auroc"])

    def test_a_seed_without_a_number_leaves_the_mean_unknown(self) -> None:
        one, two = (fakes.fake_record(EDGENEXT, seed=seed) for seed in (0, 1))
        row = build_boards([one, two])[0].rows[0]
        assert row.scores["latency_p99_ms"].value is None
        assert row.scores["latency_p99_ms"].reason == (
            "unknown for 2 of 2 seeds: p99 needs 299 samples, 259 more"
        )


class TestContest:
    def test_a_strong_model_beats_the_controls_and_a_weak_one_does_not(self) -> None:
        weak = replace(RESNET, strength=0.1)
        board, contest = board_of([fakes.fake_record(row) for row in (*BASELINES, EDGENEXT, weak)])
        assert contest.winners == (EDGENEXT.name,)
        assert contest.beats_controls[weak.name].p_value == 1.0
        assert contest.tied_for_best == (EDGENEXT.name,)
        assert board.models[0].name == EDGENEXT.name

    def test_models_that_cannot_be_told_apart_are_tied(self) -> None:
        records = [fakes.fake_record(row) for row in (*BASELINES, EDGENEXT, MOBILENET)]
        board, contest = board_of(records)
        assert set(contest.tied_for_best) == {EDGENEXT.name, MOBILENET.name}
        advice = {item.title: item for item in recommendations(board, contest)}
        assert set(advice["Most accurate"].names) == {EDGENEXT.name, MOBILENET.name}
        assert "a tie with" in advice["Most accurate"].text

    def test_rows_of_different_cases_are_not_compared(self) -> None:
        short_run = fakes.fake_record(BASELINES[3], cases=400)
        _, contest = board_of([fakes.fake_record(EDGENEXT), short_run])
        duel = contest.beats_controls[EDGENEXT.name]
        assert duel.p_value is None
        assert duel.difference.reason == "the test cases differ"
        assert not duel.won

    def test_the_front_leaves_out_what_is_beaten_in_both(self) -> None:
        records = [fakes.fake_record(row) for row in (EDGENEXT, MOBILENET, RESNET)]
        board, _ = board_of(records)
        assert RESNET.name not in pareto_front(board.models, "latency_p50_ms")
        assert MOBILENET.name in pareto_front(board.models, "latency_p50_ms")
        assert pareto_front(board.models, "never_measured") == ()

    def test_unlike_machines_name_the_field_instead_of_a_winner(self) -> None:
        other = {
            **fakes.ENVIRONMENT,
            "comparability_key": "another",
            "device": {"kind": "cpu", "name": "AMD EPYC 7B13", "threads": 8},
        }
        moved = replace(fakes.fake_record(MOBILENET), environment=other)
        board, contest = board_of([fakes.fake_record(EDGENEXT), moved])
        assert differing_fields(board.models) == ("device.threads",)
        advice = {item.title: item for item in recommendations(board, contest)}
        assert advice["Fastest training"].names == ()
        assert advice["Fastest training"].text == (
            "No winner: training time was measured under unlike conditions (device.threads)."
        )

    def test_only_what_decides_comparability_is_named(self) -> None:
        here = {**fakes.ENVIRONMENT, "release": "6.1", "memory_bytes": 1}
        there = {
            **here,
            "comparability_key": "other",
            "release": "6.2",
            "memory_bytes": 2,
            "precision": "bf16",
        }
        records = [
            replace(fakes.fake_record(row), environment=environment)
            for row, environment in ((EDGENEXT, here), (MOBILENET, there))
        ]
        board, _ = board_of(records)
        assert differing_fields(board.models) == ("precision",)

    def test_an_environment_without_a_key_cannot_be_compared(self) -> None:
        bare = replace(fakes.fake_record(EDGENEXT), environment={})
        board, _ = board_of([bare])
        assert differing_fields(board.models) == ("comparability_key",)


class TestRecommendations:
    def test_no_winner_is_said(self) -> None:
        rows = (*BASELINES, replace(EDGENEXT, strength=0.0), replace(MOBILENET, strength=0.0))
        board, contest = board_of([fakes.fake_record(row, market="real") for row in rows])
        advice = {item.title: item for item in recommendations(board, contest)}
        assert advice["Best overall"].names == ()
        assert advice["Best overall"].text == "No model beats the controls."
        assert "not better than the controls" in advice["Fastest training"].text
        assert answer([board]).startswith("On BTCUSDT 1h, next_candle: no model beats the controls")

    def test_recognition_is_never_recommended(self) -> None:
        recognition = boards()[2]
        (only,) = recommendations(recognition, hold(recognition))
        assert only.names == ()
        assert "recognition: the answer is visible" in only.text
        assert answer([recognition]) == (
            "Nothing was forecast here; recognition: the answer is visible."
        )

    def test_a_random_walk_is_checked(self) -> None:
        walk = boards()[1]
        assert walk.outside_chance == ()
        assert random_walk_sentence([walk]) == (
            "Nothing found on the random walk (10 of 10 corrected intervals contain 0.5)."
        )
        assert random_walk_sentence([]) == (
            "The random walk proves nothing: no row has an interval."
        )

    def test_the_alarm_of_a_random_walk_asks_for_more_than_a_comparison(self) -> None:
        record = fakes.fake_record(EDGENEXT)
        levels = {}
        for market in ("real", "random_walk"):
            (board,) = build_boards([replace(record, facts={**record.facts, "market": market})])
            adjusted = board.rows[0].adjusted
            assert adjusted.low is not None
            assert adjusted.high is not None
            levels[market] = (board.family_level, adjusted.high - adjusted.low)
        assert levels["real"][0] == 0.95
        assert levels["random_walk"][0] == 0.99
        assert levels["random_walk"][1] > 1.2 * levels["real"][1]

    def test_a_leak_on_a_random_walk_is_shouted(self) -> None:
        leaky = replace(
            fakes.fake_record(EDGENEXT, market="planted"),
            facts={**fakes.fake_record(EDGENEXT).facts, "market": "random_walk"},
        )
        (board,) = build_boards([leaky])
        assert random_walk_sentence([board]) == (
            "A signal seen on the random walk, where there is none (1 of 1 corrected intervals "
            "without 0.5: edgenext_xx_small.in1k), so something leaks: trust no board."
        )

    def test_a_leaky_split_never_wins(self) -> None:
        rows = (*BASELINES, EDGENEXT)
        for market, said in (
            ("planted", "Planted signal not tested, for the random split leaks"),
            ("real", "leaks, so no score counts as prediction"),
        ):
            (board,) = build_boards(
                [_moved(fakes.fake_record(row, leaky_split=True), market=market) for row in rows]
            )
            assert said in answer([board])

    def test_nothing_is_answered_from_nothing(self) -> None:
        assert answer([]) == "There are no trials."


def _moved(record: RunRecord, **facts: Any) -> RunRecord:
    """The same record with other facts: another market, another truth."""
    return replace(record, facts={**record.facts, **facts})


class TestCheckAgainstTheTruth:
    def test_all_parts_held(self) -> None:
        recognition = [_moved(r, label_kind="recognition") for r in _perfect()]
        found = answer(build_boards([*_planted(0.84), *_walk(), *recognition]))
        assert re.fullmatch(
            r"This machine tells them apart: planted signal found \(edgenext_xx_small\.in1k AUROC "
            r"0\.\d{3} \[0\.\d{3}, 0\.\d{3}\], attainable 0\.840\); nothing found on the random "
            r"walk \(6 of 6 corrected intervals contain 0\.5\); the visible answer read "
            r"\(1\.000\) and "
            r"called recognition\.",
            found,
        )

    @pytest.mark.parametrize(
        ("attainable", "strength", "said"),
        [
            (0.99, 1.0, "planted signal found only in part (edge"),
            (0.84, 0.0, "planted signal NOT found: its corrected interval is not above 0.5 (edge"),
            (0.6, 1.0, "planted signal beaten, so something leaks (edge"),
        ],
    )
    def test_a_signal_is_found_in_full_or_it_is_said(
        self, attainable: float, strength: float, said: str
    ) -> None:
        found = answer(build_boards([*_planted(attainable, strength), *_walk()]))
        assert found.startswith(f"This machine does not tell them apart: {said}")
        assert "nothing found on the random walk" in found

    def test_within_reach_counts_as_found(self) -> None:
        # The interval ends below the attainable value, but the score lies within 0.05 of it.
        value = build_boards(_planted(0.9))[0].models[0].value("auroc")
        assert value is not None
        assert answer(build_boards(_planted(value + 0.049))).startswith("Planted signal found (")

    def test_a_leak_is_named_first_of_all(self) -> None:
        leak = [_moved(record, market="random_walk", dataset="walk") for record in _planted(None)]
        found = answer(build_boards([*_planted(0.84), *leak]))
        assert found.startswith("This machine does not tell them apart: planted signal found")
        assert "so something leaks: trust no board." in found

    def test_a_visible_answer_that_is_not_read_is_named(self) -> None:
        blind = [_moved(r, label_kind="recognition", label="last_candle") for r in _walk()]
        found = answer(build_boards([*_planted(0.84), *blind]))
        assert re.search(r"; the visible answer NOT read \(edgenext_xx_small.in1k AUROC 0", found)

    def test_no_model_is_no_check(self) -> None:
        baselines = [fakes.fake_record(row) for row in BASELINES]
        assert answer(build_boards(baselines)) == (
            "Planted signal not looked for: no model has a score."
        )

    def test_a_real_market_speaks_first_and_its_control_second(self) -> None:
        real = [_moved(record, market="real") for record in _planted(None)]
        found = answer(build_boards([*_walk(), *real]))
        assert re.fullmatch(
            r"On [^:]+: edgenext_xx_small\.in1k beats every control, .*\. Nothing found on the "
            r"random walk \(6 of 6 corrected intervals contain 0\.5\)\.",
            found,
        )


def _planted(attainable: float | None, strength: float = 1.0) -> list[RunRecord]:
    rows = (*BASELINES, replace(EDGENEXT, strength=strength))
    return [_moved(fakes.fake_record(row), attainable_auroc=attainable) for row in rows]


def _walk() -> list[RunRecord]:
    return [fakes.fake_record(row, market="random_walk") for row in (*BASELINES, EDGENEXT)]


def _perfect() -> list[RunRecord]:
    sure = fakes.fake_record(replace(EDGENEXT, strength=30.0))
    measurements = tuple(
        replace(m, value=1.0) if m.name == "auroc" else m for m in sure.measurements
    )
    return [replace(_moved(sure, label="last_candle"), measurements=measurements)]


class TestFigures:
    def test_all_are_drawn_and_are_pictures(self, tmp_path: Path) -> None:
        written = figures.draw_all(boards()[0], tmp_path, prefix="demo")
        assert [path.name for path in written] == [
            "demo_performance.png",
            "demo_training_curves.png",
            "demo_accuracy_parameters.png",
            "demo_accuracy_memory.png",
            "demo_efficiency.png",
            "demo_calibration.png",
            "demo_confusion.png",
        ]
        for path in written:
            with Image.open(path) as picture:
                assert picture.width > 700
                assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20

    def test_what_has_no_numbers_is_not_drawn(self, tmp_path: Path) -> None:
        (board,) = build_boards([fakes.failed_record(EDGENEXT)])
        assert figures.draw_all(board, tmp_path, prefix="x") == []

    def test_three_classes_and_one_epoch(self, tmp_path: Path) -> None:
        record = fakes.fake_record(EDGENEXT, classes=3)
        (board,) = build_boards([replace(record, history=record.history[:1])])
        assert len(figures.draw_all(board, tmp_path, prefix="x")) == 7

    def test_no_figure_is_left_open(self, tmp_path: Path) -> None:
        import matplotlib as mpl
        import matplotlib.pyplot as plt

        before = dict(mpl.rcParams)
        figures.draw_all(boards()[1], tmp_path, prefix="x")
        assert plt.get_fignums() == []
        assert dict(mpl.rcParams) == before


class TestText:
    def test_the_terminal_shows_badges_failures_and_standings(self) -> None:
        console = Console(width=150, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
        text.show(boards(), console)
        shown = console.export_text()
        console.file.close()
        for expected in (
            "forecast",
            "recognition: the answer is visible",
            "random weights",
            "attainable AUROC 0.830",
            "failed: convnext-tiny-224: out_of_memory, asked for 24.0 GiB",
            "beats all, p",
            "contains chance",
        ):
            assert expected in shown, expected

    @pytest.mark.parametrize("width", [60, 80, 200])
    def test_every_row_stays_at_any_width(self, width: int) -> None:
        console = Console(width=width, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
        text.show(boards()[:1], console)
        shown = console.export_text()
        console.file.close()
        assert max(map(len, shown.splitlines())) <= width
        assert shown.count("[0.") >= len([r for r in boards()[0].rows if r.records])

    def test_the_detailed_report_holds_everything(self) -> None:
        whole = text.detailed(boards())
        assert "p99 needs 299 samples, 259 more" in whole
        assert "Paired differences of AUROC on the same cases (p corrected by Holm)" in whole
        assert "device.name: AMD EPYC 7B13" in whole
        assert "nan" not in whole.lower().replace("nano", "")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href"}:
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestPage:
    def test_is_well_formed_and_asks_no_other_host(self) -> None:
        parser = _Page()
        parser.feed(dashboard.page(boards(), (), title="demo"))
        assert parser.open == []
        assert len(parser.ids) == len(set(parser.ids))
        outside = [r for r in parser.references if not r.startswith(("#", "data:"))]
        assert outside == []
        missing = [r for r in parser.references if r.startswith("#") and r[1:] not in parser.ids]
        assert missing == []

    def test_everything_from_outside_is_escaped(self) -> None:
        attack = "</script><img src=x onerror=alert(1)>"
        good = fakes.fake_record(replace(EDGENEXT, name=attack), dataset=attack)
        bad = replace(fakes.failed_record(EDGENEXT, dataset=attack), reason=attack)
        html = dashboard.page(build_boards([good, bad]), (), title=attack)
        assert "<img" not in re.sub(r"<script>.*?plotly.*?</script>", "", html, flags=re.DOTALL)
        parser = _Page()
        parser.feed(html)
        assert parser.open == []

    def test_shows_audit_environment_and_failures(self) -> None:
        html = dashboard.page(boards(), (), title="demo")
        for expected in ("no reach crosses a split", "AMD EPYC 7B13", "are free &lt;b&gt;"):
            assert expected in html


class TestBuild:
    def test_writes_every_file_and_strict_json(self, tmp_path: Path) -> None:
        import json

        records = [fakes.fake_record(row) for row in (BASELINES[3], EDGENEXT)]
        walk = fakes.fake_record(EDGENEXT, market="random_walk")
        with open_results(tmp_path) as results:
            results.add_suite("s1", {"a": 1}, fakes.WHEN)
            for record in (*records, walk):
                results.append(record, "s1")
            built = build_report(results, tmp_path / "out", prefix="demo/x", suite_id="s1")
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert {
            "report.html",
            "demo_x_report.html",
            "demo_x_results.csv",
            "demo_x_detailed_report.txt",
            "demo_x_performance.png",
            "demo_x_random_walk_next_candle_performance.png",
        } <= names
        value = json.loads(json.dumps(built.to_dict(), allow_nan=False))
        assert value["boards"][0]["rows"][0]["row"] == EDGENEXT.name
        assert value["answer"].startswith("This machine tells them apart: planted signal found")

    def test_an_empty_store_says_what_to_run(self, tmp_path: Path) -> None:
        with (
            open_results(tmp_path) as results,
            pytest.raises(ResultsError, match=r"holds no trial yet; run: candlemark bench"),
        ):
            build_report(results, tmp_path / "out")


def test_numbers_are_written_as_people_read_them() -> None:
    assert quantity("parameters", 1_327_216) == "1.33 M"
    assert quantity("peak_memory_bytes", 3 * 2**29) == "1.5 GiB"
    assert quantity("latency_p50_ms", 3.456) == "3.46 ms"
    assert quantity("throughput_items_per_s", 1234.5) == "1,234/s"
    assert quantity("auroc", None) == "n/a"
    assert [duration(s) for s in (0.5, 245, 7800)] == ["0.5 s", "4 min 05 s", "2 h 10 min"]
    assert [p_value(p) for p in (0.0001, 0.04, None)] == ["p < 0.001", "p = 0.040", "n/a"]
    assert measured(None) == "n/a"
    assert short("control: shuffled labels, timm/a.b") == "control: shuffled labels, a.b"
    assert short("google/vit") == "vit"
