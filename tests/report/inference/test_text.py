"""The terminal tells how fast, how heavy and how sure, and never offers what changed the answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from candlemark.records import Measurement, RunRecord, Status, Verdict
from candlemark.report.comparison import speedups
from candlemark.report.inference.cells import answer, build_cells, families
from candlemark.report.inference.gains import gain_lines, named
from candlemark.report.inference.notes import merged, notes
from candlemark.report.inference.numbers import figures, with_interval
from candlemark.report.inference.text import detailed, show_inference


def shown(records: Sequence[RunRecord], width: int, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    show_inference(records, console, **options)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    return "\n".join(line.rstrip() for line in text.splitlines())


class TestAnswer:
    def test_says_how_many_may_be_quoted_on_what_and_why_others_may_not(
        self, fakes: ModuleType
    ) -> None:
        assert answer(build_cells(fakes.fake_sweep())) == (
            "9 of 10 cells measured (1 out of memory) on AMD EPYC 7B13, 2 threads; 7 of 9 "
            "latencies may be quoted (2 CONTENDED); 1 cell changed the answer beyond what is "
            "tolerated."
        )

    def test_all_none_one_and_nothing(self, fakes: ModuleType) -> None:
        good, busy = fakes.fake_cell(), fakes.fake_cell("a/b", contended="other work")
        where = "measured on AMD EPYC 7B13, 2 threads; "
        for records, said in (
            ([good], f"1 cell {where}the latency may be quoted."),
            ([good, fakes.fake_cell("a/c")], f"2 cells {where}all 2 latencies may be quoted."),
            ([busy], f"1 cell {where}no latency may be quoted (CONTENDED)."),
            ([], "There are no cells of inference."),
            ([fakes.failed_cell()], "0 of 1 cell measured (1 out of memory)."),
        ):
            assert answer(build_cells(records)) == said

    def test_a_latency_that_nobody_asked_for(self, fakes: ModuleType) -> None:
        record = fakes.fake_cell()
        bare = replace(
            record,
            measurements=tuple(m for m in record.measurements if "latency" not in m.name),
        )
        assert answer(build_cells([bare])).endswith("; no latency was asked for.")
        assert "83.3" in shown([bare], 100)

    def test_the_batches_that_were_searched_for_are_columns(self, fakes: ModuleType) -> None:
        record = fakes.fake_cell()
        batches = (
            Measurement(name="largest_batch", value=1536.0, unit="items"),
            Measurement(name="best_batch", value=48.0, unit="items"),
        )
        text = shown([replace(record, measurements=(*record.measurements, *batches))], 100)
        assert "largest" in text
        assert "1,536" in text
        assert "48" in text

    def test_unlike_machines_are_both_named(self, fakes: ModuleType) -> None:
        records = [fakes.fake_cell(), fakes.fake_cell(device="cuda:0", median_ms=1.0)]
        assert "on AMD EPYC 7B13, 2 threads and on NVIDIA H100 80GB HBM3;" in answer(
            build_cells(records)
        )

    def test_other_tasks_are_left_out(self, fakes: ModuleType) -> None:
        record = fakes.fake_cell()
        charts = replace(record, trial={"model": "x"})
        assert len(build_cells([record, charts])) == 1


class TestTable:
    def test_what_all_share_stands_above_and_what_varies_is_a_column(
        self, fakes: ModuleType
    ) -> None:
        text = shown(fakes.fake_sweep(), 120)
        lines = text.splitlines()
        assert (
            "text  cpu, eager, batch 1, 128 tokens, 16 new tokens, 2 threads, random weights"
            in (lines)
        )
        assert "vision  cpu, fp32, eager, batch 1, 224 px, 2 threads, random weights" in lines
        (bert, fast) = [line.split() for line in lines if line.startswith(" bert-base-uncased")]
        assert bert[1:] == ["fp32", "12.07", "±0.04", "12.2", "83.3", "-", "-", "612", "-", "VALID"]
        assert fast[:4] == ["bert-base-uncased", "bf16", "6.84", "±0.03"]
        assert "0.0040" in fast

    def test_a_percentile_that_lacks_samples_says_how_many(self, fakes: ModuleType) -> None:
        text = shown([fakes.fake_cell(calls=30)], 120)
        assert "+29 calls" in text
        assert "p95: so many more calls are needed" in text

    @pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
    def test_every_row_stays_at_any_width(self, fakes: ModuleType, width: int) -> None:
        records = fakes.fake_sweep()
        text = shown(records, width)
        assert max(map(len, text.splitlines())) <= width
        assert text.count("VALID") == 7
        for number in ("12.07", "6.84", "21.13", "11.07", "6.13", "88.5", "161.0", "45.28"):
            assert number in text

    def test_a_narrow_terminal_loses_columns_by_their_rank(self, fakes: ModuleType) -> None:
        records = fakes.fake_sweep()
        wide, narrow = shown(records, 200), shown(records, 80)
        for head in ("GMACs", "peak", "tokens"):
            assert head in wide
        text_table = narrow.split("vision")[0]
        assert "GMACs" not in text_table
        assert "peak" in text_table
        assert "OTHER ANSWER" in text_table

    def test_batches_are_told_apart(self, fakes: ModuleType) -> None:
        records = [fakes.fake_cell(batch_size=b, median_ms=5.0 * b) for b in (1, 8)]
        assert [cell.label for cell in build_cells(records)] == [
            "bert-base-uncased batch 1",
            "bert-base-uncased batch 8",
        ]
        (family,) = families(build_cells(records))
        assert [dimension.name for dimension in family.varying] == ["batch_size"]

    def test_models_of_one_short_name_keep_their_owners(self, fakes: ModuleType) -> None:
        cells = build_cells([fakes.fake_cell("a/bert"), fakes.fake_cell("b/bert")])
        assert [cell.name for cell in cells] == ["a/bert", "b/bert"]

    def test_words_in_brackets_are_no_markup(self, fakes: ModuleType) -> None:
        records = [
            fakes.fake_cell("a/[bold]b", contended="[red]busy[/]"),
            fakes.failed_cell(reason="[/] died"),
        ]
        text = shown(records, 200)
        for words in ("[bold]b", "[red]busy[/]", "[/] died"):
            assert words in text


class TestNotes:
    def test_reasons_that_differ_in_figures_are_one(self, fakes: ModuleType) -> None:
        finished = [cell for cell in build_cells(fakes.fake_sweep()) if cell.finished]
        first, second = notes(finished)
        assert first.verdict is Verdict.CONTENDED
        assert first.text == "other processes used 0.31 to 0.74 of 2 cores"
        assert first.cells == ("gpt2 fp32", "distilbert-base-uncased fp32")
        assert first.measures == ("latency p50",)
        assert second.verdict is None
        assert second.text == "no counter of energy can be read here"
        text = shown(fakes.fake_sweep(), 200)
        assert text.split("gains in latency")[0].count("other processes used") == 1
        assert "unknown energy: no counter of energy can be read here (all cells)" in text

    def test_texts_are_merged_number_by_number(self) -> None:
        assert merged(["used 1 of 2 (a 1)", "used 1 of 2 (a 1)"]) == "used 1 of 2 (a 1)"
        assert merged(["used 10 of 2 (a)", "used 9 of 2 (b)"]) == "used 9 to 10 of 2"

    def test_a_reason_that_only_the_throughput_has_is_kept(self, fakes: ModuleType) -> None:
        record = fakes.fake_cell()
        measurements = tuple(
            replace(m, verdict=Verdict.UNSTABLE, reason="two rounds")
            if m.name == "throughput_items_per_s"
            else m
            for m in record.measurements
        )
        found = notes(build_cells([replace(record, measurements=measurements)]))
        assert (found[0].text, found[0].measures) == ("two rounds", ("throughput",))


class TestGains:
    def test_an_established_gain_has_its_interval(self, fakes: ModuleType) -> None:
        attempts = self._attempts(fakes, error=0.004)
        text = shown(attempts[:2], 200, attempts=attempts)
        assert "bf16 against fp32, bert-base-uncased: 1.7" in text
        assert " x FASTER, same answer" in text

    def test_a_changed_answer_is_never_a_gain(self, fakes: ModuleType) -> None:
        attempts = self._attempts(fakes, error=0.21)
        cells = build_cells(attempts[:2])
        (line,) = gain_lines(named(speedups(attempts), cells))
        assert line.kind == "changed"
        assert "no gain" in line.text
        assert "but the answer changed: error 0.21, tolerated 0.05" in line.text
        assert "FASTER" not in line.text.split("no gain")[0]
        assert "OTHER ANSWER" in shown(attempts[:2], 100, attempts=attempts)

    def test_without_a_second_attempt_it_is_unsure_and_says_what_settles_it(
        self, fakes: ModuleType
    ) -> None:
        text = shown(self._attempts(fakes, error=0.004)[:2], 250)
        assert "UNSURE: nothing was run twice, so there is no noise floor" in text
        assert "run it again with --rerun" in text

    def test_many_that_are_unsure_alike_are_one_line(self, fakes: ModuleType) -> None:
        records = [
            fakes.fake_cell(f"a/m{n}", precision=precision, error=error, median_ms=5.0 + n)
            for n in range(5)
            for precision, error in (("fp32", None), ("bf16", 0.001))
        ]
        lines = gain_lines(speedups(records))
        assert [line.kind for line in lines] == ["unsure"]
        assert lines[0].text.startswith("5 comparisons UNSURE (bf16 against fp32): nothing was run")

    def test_a_latency_that_may_not_be_quoted_gains_nothing(self, fakes: ModuleType) -> None:
        records = [
            fakes.fake_cell(contended="other processes used 0.3 of 2 cores"),
            fakes.fake_cell(median_ms=6.0, precision="bf16", error=0.001),
        ]
        (line,) = gain_lines(named(speedups(records), build_cells(records)))
        assert line.text == (
            "bf16 against fp32, bert-base-uncased: UNSURE: the latency of fp32 is CONTENDED"
        )

    @staticmethod
    def _attempts(fakes: ModuleType, *, error: float) -> list[RunRecord]:
        return [
            fakes.fake_cell(
                median_ms=median + 0.01 * attempt, precision=p, error=e, attempt=attempt
            )
            for attempt in range(4)
            for p, median, e in (("fp32", 12.0, None), ("bf16", 6.8, error))
        ]


class TestFailures:
    def test_each_has_its_status_and_reason(self, fakes: ModuleType) -> None:
        records = [
            fakes.fake_cell(),
            fakes.failed_cell(),
            fakes.failed_cell("a/slow", status=Status.TIMED_OUT, reason="took over 60 s"),
        ]
        text = shown(records, 120)
        assert "opt-30b: out of memory: asked for 112 GiB, 15.6 GiB are free <b>&</b>" in text
        assert "slow: timed out: took over 60 s" in text

    def test_failures_alone_are_shown(self, fakes: ModuleType) -> None:
        assert "out of memory" in shown([fakes.failed_cell()], 80)


def test_the_detailed_report_holds_every_number(fakes: ModuleType) -> None:
    records = fakes.fake_sweep()
    text = detailed(build_cells(records), speedups(records))
    for expected in (
        "p99 needs 299 samples, 219 more",
        "latency p50        12.07 ±0.04 ms, n = 80",
        "nothing is transferred on a CPU",
        "opt-30b fp32: out of memory",
    ):
        assert expected in text, expected
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (12.3456, 12.28, 12.41, "12.35 ±0.07"),
        (12.3456, 12.34, 12.351, "12.35 ±0.01"),
        (18.95, 1.313, 298.0, "19 -18 +280"),
        (41.3, 19.49, 98.73, "41 -22 +58"),
        (10.0, 9.99, 10.4, "10.0 -0.1 +0.4"),
        (263.3, None, None, "263"),
        (5.0, 5.0, 5.0, "5.000 ±0"),
        (12345.0, 12300.0, 12400.0, "12,340 ±60"),
    ],
)
def test_intervals_are_rounded_outward(
    value: float, low: float | None, high: float | None, said: str
) -> None:
    assert with_interval(value, low, high) == said


def test_figures_have_three_digits() -> None:
    assert [figures(v) for v in (0.0, 0.012345, 1.0, 1234.5, 2e12)] == [
        "0",
        "0.0123",
        "1.00",
        "1,230",
        "2.00e+12",
    ]


def test_a_measure_that_this_version_does_not_know_is_kept(fakes: ModuleType) -> None:
    record = fakes.fake_cell()
    other = Measurement(name="warp_factor", value=9.0)
    more = replace(record, measurements=(*record.measurements, other))
    assert "warp_factor" in detailed(build_cells([more]), ())
