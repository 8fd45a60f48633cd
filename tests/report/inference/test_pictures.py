"""Figures and charts draw what is known, name what is best, and leave out what is not there."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from candlemark.records import RunRecord
from candlemark.report.inference import charts, figures
from candlemark.report.inference.cells import build_cells
from candlemark.report.inference.parts import (
    batch_curves,
    memory_parts,
    pareto,
    stage_parts,
    trade_offs,
)


def batches(fakes: ModuleType) -> list[RunRecord]:
    return [
        fakes.fake_cell("a/net", "vision", batch_size=batch, median_ms=median)
        for batch, median in ((1, 4.0), (8, 20.0), (32, 100.0))
    ]


def without(record: RunRecord, *names: str) -> RunRecord:
    kept = tuple(m for m in record.measurements if m.name not in names)
    return replace(record, measurements=kept)


class TestParts:
    def test_stages_of_an_encoder_and_of_a_generator(self, fakes: ModuleType) -> None:
        encoder, writer = build_cells(
            [
                fakes.fake_cell(median_ms=10.0),
                fakes.fake_cell("a/gpt", median_ms=10.0, generates=True),
            ]
        )
        assert stage_parts(encoder) == {
            "preprocess": pytest.approx(1.0),
            "forward": encoder.value("latency_p50_ms"),
            "postprocess": pytest.approx(0.2),
        }
        parts = stage_parts(writer)
        assert list(parts) == ["preprocess", "prefill", "decode", "postprocess"]
        assert parts["decode"] == pytest.approx(15 * 2.0)

    def test_shares_without_the_forward_pass_would_mislead(self, fakes: ModuleType) -> None:
        (cell,) = build_cells([without(fakes.fake_cell(), "latency_p50_ms")])
        assert stage_parts(cell) == {}

    def test_the_parts_of_the_memory_add_up_or_are_not_told_apart(self, fakes: ModuleType) -> None:
        (cell,) = build_cells([fakes.fake_cell(peak_bytes=612e6, model_bytes=438e6)])
        parts = memory_parts(cell)
        assert list(parts) == ["model", "activations", "rest"]
        assert sum(parts.values()) == pytest.approx(612)
        (small,) = build_cells([fakes.fake_cell(peak_bytes=100e6, model_bytes=438e6)])
        assert memory_parts(small) == {"not told apart": pytest.approx(100)}

    def test_the_best_batch_has_the_highest_throughput(self, fakes: ModuleType) -> None:
        (curve,) = batch_curves(build_cells(batches(fakes)))
        assert curve.label == "net"
        assert [point.batch for point in curve.points] == [1, 8, 32]
        assert curve.best.batch == 8

    def test_batches_of_a_search_count_too(self, fakes: ModuleType) -> None:
        found = {"1": 80.0, "4": 200.0, "16": None}
        cells = build_cells([fakes.fake_cell(throughput_by_batch=found)])
        (curve,) = batch_curves(cells)
        assert [point.batch for point in curve.points] == [1, 4]
        assert curve.points[0].rate == pytest.approx(1000 / 12)  # measured longer than searched
        assert batch_curves(build_cells([fakes.fake_cell()])) == ()

    def test_the_front_leaves_out_what_is_beaten_contended_or_changed(
        self, fakes: ModuleType
    ) -> None:
        cells = build_cells(
            [
                fakes.fake_cell("a/light", median_ms=9.0, peak_bytes=2e8),
                fakes.fake_cell("a/fast", median_ms=3.0, peak_bytes=5e8),
                fakes.fake_cell("a/beaten", median_ms=9.5, peak_bytes=6e8),
                fakes.fake_cell("a/busy", median_ms=1.0, peak_bytes=1e8, contended="busy"),
                fakes.fake_cell("a/wrong", median_ms=1.0, peak_bytes=1e8, error=0.5),
            ]
        )
        assert {cell.name for cell in pareto(cells)} == {"light", "fast"}

    def test_unlike_devices_share_no_panel(self, fakes: ModuleType) -> None:
        cells = build_cells(
            [
                fakes.fake_cell(f"a/{name}", device=device)
                for name in "bc"
                for device in ("cpu", "cuda:0")
            ]
        )
        assert [group.title for group in trade_offs(cells)] == ["text, cpu", "text, cuda:0"]
        assert trade_offs(cells)[0].names == ("b", "c")


class TestFigures:
    def test_all_are_drawn_without_a_warning_and_are_pictures(
        self, fakes: ModuleType, tmp_path: Path
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            written = figures.draw_all(
                build_cells([*fakes.fake_sweep(), *batches(fakes)]), tmp_path, prefix="x"
            )
        assert [path.name for path in written] == [
            "x_latency.png",
            "x_stages.png",
            "x_memory.png",
            "x_throughput.png",
            "x_trade_off.png",
            "x_samples.png",
            "x_memory_timeline.png",
        ]
        for path in written:
            with Image.open(path) as picture:
                assert picture.width > 550
                assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20

    def test_what_has_no_numbers_is_not_drawn(self, fakes: ModuleType, tmp_path: Path) -> None:
        assert figures.draw_all(build_cells([fakes.failed_cell()]), tmp_path, prefix="x") == []
        bare = replace(fakes.fake_cell(), measurements=(), samples={})
        assert figures.draw_all(build_cells([bare]), tmp_path, prefix="x") == []

    def test_one_call_that_never_varies_and_one_cell(
        self, fakes: ModuleType, tmp_path: Path
    ) -> None:
        flat = {
            "latency_ms": np.full(7, 5.0),
            "memory_timeline_s": np.linspace(0, 1, 4),
            "memory_timeline_bytes": np.full(4, 1e8),
        }
        record = replace(fakes.fake_cell(calls=7, spread=0.0), samples=flat)
        written = figures.draw_all(build_cells([record]), tmp_path, prefix="x")
        assert {path.stem for path in written} == {
            "x_latency",
            "x_stages",
            "x_memory",
            "x_samples",
            "x_memory_timeline",
        }

    def test_a_long_name_keeps_its_end(self) -> None:
        assert figures.clip("a" * 60 + " bf16 batch 8").endswith(" bf16 batch 8")
        assert len(figures.clip("a" * 60 + " bf16")) <= figures.LONGEST_NAME


class TestCharts:
    def test_latencies_that_may_not_be_quoted_are_hollow(self, fakes: ModuleType) -> None:
        chart = charts.latency(build_cells(fakes.fake_sweep()))
        assert chart is not None
        points = chart["data"][-1]
        hollow = [
            name
            for name, colour in zip(points["y"], points["marker"]["color"], strict=True)
            if colour == "@paper"
        ]
        assert hollow == ["distilbert-base-uncased fp32", "gpt2 fp32"]

    def test_of_many_cells_only_the_front_is_named(self, fakes: ModuleType) -> None:
        records = [
            fakes.fake_cell(f"a/m{n}", median_ms=5.0 + n, peak_bytes=5e8 + 1e6 * n)
            for n in range(20)
        ]
        (group,) = trade_offs(build_cells(records))
        chart = charts.trade_off(group)
        assert [note["text"] for note in chart["layout"]["annotations"]] == ["m0"]

    def test_many_calls_are_thinned(self, fakes: ModuleType) -> None:
        chart = charts.samples(build_cells([fakes.fake_cell(calls=5000)]))
        assert chart is not None
        assert len(chart["data"][0]["x"]) <= charts.MOST_POINTS
        assert chart["data"][0]["x"][:2] == [1, 22]

    def test_nothing_gives_no_chart(self, fakes: ModuleType) -> None:
        cells = build_cells([fakes.failed_cell()])
        for draw in (
            charts.latency,
            charts.stages,
            charts.memory,
            charts.throughput,
            charts.samples,
        ):
            assert draw(cells) is None
