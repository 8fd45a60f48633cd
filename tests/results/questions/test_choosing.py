"""Which models fulfil a wish, and which none beats: nothing is dropped without a word."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ConfigError, ResultsError
from candlemark.records import Measurement, Status, Verdict
from candlemark.results.questions.candidates import Candidate
from candlemark.results.questions.choosing import Found, Point, _front, find_models, pareto
from candlemark.results.questions.conditions import parse_conditions
from candlemark.results.questions.machine import (
    Machine,
    machine_name,
    this_machine,
    why_elsewhere,
)
from candlemark.results.store import Results, open_results
from candlemark.results.units import find_quantity, in_unit_of


def _load_made() -> Any:
    """The made-up records beside this file; tests are no package, so loaded by path."""
    name = "candlemark_test_inference_records"
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).parents[1] / "inference_records.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


made = _load_made()

HERE = Machine(cpu="AMD EPYC 7B13", gpus=())


def scored(model: str, auroc: float, *, seed: int = 0, dataset: str = "BTC 1h") -> Any:
    """A record of the task charts."""
    m = Measurement(name="auroc", value=auroc, low=auroc - 0.02, high=auroc + 0.02)
    trial = {"task": "charts", "dataset": dataset, "seed": seed}
    facts = {"dataset": dataset, "label": "next_candle", "seed": seed}
    return made.make(model, trial=trial, facts=facts, measurements=(m,))


@pytest.fixture
def results(tmp_path: Path):
    with open_results(tmp_path) as store:
        yield store


def find(results: Results, *conditions: str, **words: Any) -> Found:
    return find_models(results, parse_conditions(conditions), **{"here": HERE, **words})


class TestConditions:
    @pytest.mark.parametrize(
        ("text", "name", "sign", "limit"),
        [
            ("latency_p95_ms < 20", "latency_p95_ms", "<", 20.0),
            ("latency_p95_ms<0.02s", "latency_p95_ms", "<", 20.0),
            ("peak_memory_bytes <= 500MB", "peak_memory_bytes", "<=", 5e8),
            ("peak_memory_bytes < 1.5 GiB", "peak_memory_bytes", "<", 1.5 * 2**30),
            ("peak_memory_bytes < 500M", "peak_memory_bytes", "<", 5e8),
            ("parameters < 25M", "parameters", "<", 25e6),
            ("flops > 4G", "flops", ">", 4e9),
            ("flops > 4 GFLOPs", "flops", ">", 4e9),
            ("accuracy >= 60%", "accuracy", ">=", 0.6),
            ("mase < 1", "mase", "<", 1.0),
            ("mae_percent < 0.5 %", "mae_percent", "<", 0.5),
            ("directional_accuracy > 52%", "directional_accuracy", ">", 0.52),
            ("energy_per_item_j < 20 mJ", "energy_per_item_j", "<", 0.02),
            ("throughput_items_per_s > 1k", "throughput_items_per_s", ">", 1000.0),
            ("throughput_items_per_s > 100/s", "throughput_items_per_s", ">", 100.0),
            ("load_s < 500ms", "load_s", "<", 0.5),
            ("largest_batch == 64", "largest_batch", "=", 64.0),
            ("relative_error < 1e-3", "relative_error", "<", 1e-3),
        ],
    )
    def test_the_grammar(self, text: str, name: str, sign: str, limit: float) -> None:
        (found,) = parse_conditions([text])
        assert (found.quantity.name, found.operator) == (name, sign)
        assert found.limit == pytest.approx(limit)

    def test_several_in_one_text_or_in_several(self) -> None:
        found = parse_conditions(["flops < 1G and auroc > 0.5", "mcc > 0 AND macs < 1M"])
        assert [one.quantity.name for one in found] == ["flops", "auroc", "mcc", "macs"]

    @pytest.mark.parametrize(
        ("texts", "message"),
        [
            ([], "no condition; ask like: candlemark results find"),
            (["latency_p95_ms"], "cannot read the condition 'latency_p95_ms'; write a name"),
            (["latency_p95_ms < fast"], "cannot read the condition"),
            (["flops < 1 and"], "cannot read the condition ''"),
            (["flops != 1"], "one of < <= > >= ="),
            (["latency_p95 < 3"], "unknown measure 'latency_p95'; did you mean 'latency_p95_ms'?"),
            (["acuracy < 3"], "did you mean 'accuracy'?"),
            (["zzz < 3"], "unknown measure 'zzz'; known: latency_p50_ms"),
            (["latency_p95_ms < 20 MB"], "unknown unit 'MB' of latency_p95_ms, which is in ms"),
            (["auroc < 20 ms"], "which is a number without unit; known: k, M, G, T, %"),
        ],
    )
    def test_messages(self, texts: list[str], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_conditions(texts)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    @settings(max_examples=30, deadline=None)
    @given(st.floats(1e-6, 1e6), st.sampled_from(["ns", "us", "ms", "s", "min", "h"]))
    def test_one_time_in_two_units(self, number: float, unit: str) -> None:
        in_ms = in_unit_of(find_quantity("latency_p50_ms"), number, unit)
        in_s = in_unit_of(find_quantity("load_s"), number, unit)
        assert in_ms == pytest.approx(in_s * 1000)


class TestFind:
    def test_each_cell_matches_fails_or_stands_apart(self, results: Results) -> None:
        late = Measurement(
            name="latency_p50_ms", value=1.0, verdict=Verdict.CONTENDED, reason="cron"
        )
        for record in (
            made.make("slower", p50=15.0),
            made.make("fast", p50=10.0),
            made.make("slow", p50=30.0),
            made.make("large", p50=5.0, memory=900e6),
            made.make("contended", more=(late,)),
            made.make("unmeasured", memory=None),
            made.make("dead", status=Status.OUT_OF_MEMORY, reason="8 GiB asked"),
            made.make("changed", facts={"same_answer": False}),
            made.make("far", environment={"cpu": "Other CPU"}),
            made.make("baseline: x", facts={"role": "baseline"}),
        ):
            results.append(record, "s1")
        found = find(results, "latency_p50_ms < 20", "peak_memory_bytes < 500MB")
        assert found.models == ("fast", "slower")
        assert [(one.model, c.text) for one, c in found.failing] == [
            ("slow", "latency_p50_ms < 20"),
            ("large", "peak_memory_bytes < 500MB"),
        ]
        assert {one.label: one.reason for one in found.unknown} == {
            "contended fp32 eager": "latency_p50_ms is CONTENDED: cron",
            "unmeasured fp32 eager": "peak_memory_bytes is unknown: not measured",
            "dead": "out_of_memory: 8 GiB asked",
            "changed": "its answer differs from that of fp32 eager by more than the tolerance",
            "far": "measured on Other CPU, this is AMD EPYC 7B13",
        }
        anywhere = find(results, "latency_p50_ms < 20", here=None)
        assert "far" in anywhere.models

    def test_one_trial_on_two_machines_is_two_cells(self, results: Results) -> None:
        results.append(made.make("m", p50=10.0), "s1")
        results.append(made.make("m", p50=12.0), "s1")
        results.append(made.make("m", p50=5.0, environment={"cpu": "Other CPU"}), "s1")
        failed = made.make("m", status=Status.CRASHED, reason="x", environment={})
        results.append(failed, "s1")
        found = find(results, "latency_p50_ms < 99", here=None)
        assert [(one.machine, one.known("latency_p50_ms")[0].value) for one in found.matching] == [
            ("Other CPU", 5.0),
            ("AMD EPYC 7B13", 12.0),
        ]

    def test_scores_are_joined_by_the_name_of_the_model(self, results: Results) -> None:
        results.append(made.make("a"), "s1")
        results.append(made.make("b"), "s1")
        for record in (scored("a", 0.6), scored("a", 0.7, seed=1), scored("a", 0.5, dataset="ETH")):
            results.append(record, "s1")
        found = find(results, "auroc > 0.62", task="inference")
        (one,) = found.matching
        assert (one.model, one.scored_on) == ("a", "BTC 1h: next_candle")
        assert one.known("auroc")[0].value == pytest.approx(0.65)
        assert [(x.model, x.scored_on) for x, _ in found.failing] == [("a", "ETH: next_candle")]
        assert found.unknown[0].reason == (
            "no auroc of b is stored by the tasks charts, fusion and segmentation"
        )
        alone = find(results, "auroc > 0.65", task="charts")
        assert [x.record.facts["seed"] for x in alone.matching] == [1]

    def test_fusion_is_asked_by_its_forecast_on_each_data_set(self, results: Results) -> None:
        for dataset, value in (("BTC 1h", 0.98), ("ETH 1h", 1.02)):
            trial = {"task": "fusion", "dataset": dataset}
            facts = {"dataset": dataset, "label": "direction", "role": "model"}
            m = Measurement(name="mase", value=value, low=value - 0.01, high=value + 0.01)
            record = made.make("text + image", trial=trial, facts=facts, measurements=(m,))
            results.append(record, "s1")
        found = find(results, "mase < 1", task="fusion")
        assert [one.scored_on for one in found.matching] == ["BTC 1h: direction"]
        assert [one.scored_on for one, _ in found.failing] == ["ETH 1h: direction"]

    def test_masks_are_asked_by_the_way_of_asking_and_only_what_may_be_quoted(
        self, results: Results
    ) -> None:
        for place, (protocol, dice, verdict) in enumerate(
            (
                ("linear_probe", 0.8, Verdict.VALID),
                ("native_head", 0.3, Verdict.VALID),
                ("sam_oracle_box", 0.9, Verdict.ORACLE),
                ("clip_dense", 0.9, Verdict.UNTRAINED),
                ("sam_auto", 0.9, Verdict.TOO_FEW),
            )
        ):
            trial = {"task": "segmentation", "protocol": protocol, "dataset": "f0f0f0f0"}
            facts = {
                "dataset": "liver",
                "dataset_hash": "f0f0f0f0",
                "class_names": {"1": "tumor"},
                "role": "model",
                "protocol": protocol,
                "model": "a",
                "row": "a",
            }
            value = (
                Measurement(name="dice", value=dice, verdict=verdict, reason="why"),
                Measurement(name="precision", value=0.5 + place / 100),
            )
            record = made.make("a", trial=trial, facts=facts, measurements=value)
            results.append(record, "s1")
        chart = scored("a", 0.6)
        more = (*chart.measurements, Measurement(name="precision", value=0.99))
        results.append(replace(chart, measurements=more), "s1")
        results.append(made.make("a"), "s1")
        found = find(results, "dice > 0.5", task="segmentation")
        assert [(one.label, one.scored_on) for one in found.matching] == [
            ("a linear_probe", "liver f0f0f0: tumor")
        ]
        assert found.matching[0].known("precision")[0].value == 0.5  # of masks, not of charts
        assert [one.label for one, _ in found.failing] == ["a native_head"]
        assert {one.reason for one in found.unknown} == {
            *("dice is ORACLE: why", "dice is UNTRAINED: why", "dice is TOO_FEW: why")
        }
        fast = find(results, "dice > 0.5", "latency_p50_ms < 99", task="inference")
        assert [one.scored_on for one in fast.matching] == [
            "liver f0f0f0: tumor, a as linear_probe"
        ]

    def test_a_seed_that_two_machines_ran_counts_once(self, results: Results) -> None:
        results.append(made.make("a"), "s1")
        there = scored("a", 0.9)
        for record in (
            scored("a", 0.6),
            replace(there, environment={**there.environment, "cpu": "Other CPU"}),
            scored("a", 0.8, seed=1),
        ):
            results.append(record, "s1")
        (one,) = find(results, "auroc > 0", task="inference").matching
        assert one.known("auroc")[0].value == pytest.approx((0.9 + 0.8) / 2)

    def test_higher_is_listed_first_where_it_is_better(self, results: Results) -> None:
        for model, rate in (("low", 10.0), ("high", 90.0)):
            m = Measurement(name="throughput_items_per_s", value=rate)
            results.append(made.make(model, more=(m,)), "s1")
        assert find(results, "throughput_items_per_s > 1").models == ("high", "low")

    def test_an_empty_store_has_no_answer_and_no_error(self, results: Results) -> None:
        found = find(results, "flops < 1")
        assert (found.matching, found.failing, found.unknown) == ((), (), ())


class TestPareto:
    OBJECTIVES = ("latency_p50_ms", "peak_memory_bytes")

    def test_the_front_and_who_beats_the_rest(self, results: Results) -> None:
        for model, p50, memory in (
            ("small", 20.0, 100e6),
            ("fast", 5.0, 400e6),
            ("middle", 10.0, 200e6),
            ("worse", 12.0, 300e6),
            ("nearly", 10.05, 200e6),
            ("twin", 10.0, 200e6),
        ):
            results.append(made.make(model, p50=p50, memory=memory), "s1")
        results.append(made.make("unknown", memory=None), "s1")
        answer = pareto(results, self.OBJECTIVES, here=HERE)
        (front,) = answer.fronts
        assert [point.candidate.model for point in front.best] == [
            "fast",
            "middle",
            "twin",
            "small",
        ]
        assert front.best[1].tied_with == ("twin fp32 eager",)
        beaten = {point.candidate.model: point for point in front.dominated}
        assert beaten["worse"].dominated_by == "middle fp32 eager"
        assert not beaten["worse"].within_intervals
        assert beaten["nearly"].within_intervals
        assert [one.reason for one in answer.unknown] == [
            "peak_memory_bytes is unknown: not measured"
        ]
        assert dict(front.workload)["batch_size"] == 1

    def test_only_cells_of_one_workload_are_rivals(self, results: Results) -> None:
        results.append(made.make("a", p50=5.0), "s1")
        eight = {"batch_size": 8}
        results.append(made.make("b", p50=20.0, trial=eight, facts=eight), "s1")
        results.append(
            made.make("a", p50=4.0, trial={"precision": "bf16"}, facts={"precision": "bf16"}), "s1"
        )
        answer = pareto(results, ["latency_p50_ms"], here=HERE)
        assert [[p.candidate.label for p in front.best] for front in answer.fronts] == [
            ["a bf16 eager"],
            ["b fp32 eager"],
        ]

    def test_scores_pull_the_other_way(self, results: Results) -> None:
        for model, p50, auroc in (("a", 5.0, 0.55), ("b", 10.0, 0.65), ("c", 20.0, 0.60)):
            results.append(made.make(model, p50=p50), "s1")
            results.append(scored(model, auroc), "s1")
        answer = pareto(results, ["latency_p50_ms", "auroc"], here=HERE, task="inference")
        (front,) = answer.fronts
        assert [point.candidate.model for point in front.best] == ["a", "b"]
        assert front.dominated[0].dominated_by == "b fp32 eager"

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8))
    def test_no_point_of_a_front_is_beaten_and_every_other_is(
        self, points: list[tuple[int, int]]
    ) -> None:
        rivals = []
        for place, (p50, memory) in enumerate(points):
            record = made.make(f"m{place}", p50=p50, memory=memory)
            measured = {m.name: m for m in record.measurements}
            one = Candidate(record=record, machine="x", measurements=measured, scored_on=None)
            values = tuple(measured[name] for name in self.OBJECTIVES)
            rivals.append(Point(candidate=one, values=values))
        front = _front((), rivals, [find_quantity(name) for name in self.OBJECTIVES])
        best = [tuple(m.value for m in point.values) for point in front.best]

        def beats(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
            return one != other and all(a <= b for a, b in zip(one, other, strict=True))

        assert not any(beats(one, other) for one in best for other in best)
        for point in front.dominated:
            assert any(beats(one, tuple(m.value for m in point.values)) for one in best)
        assert len(front.best) + len(front.dominated) == len(points)

    @pytest.mark.parametrize(
        ("objectives", "kind", "message"),
        [
            (["flops", "flops"], ConfigError, "objective 'flops' is named twice"),
            (["power_w"], ConfigError, "'power_w' is no objective: it only describes"),
            ([], ConfigError, "no objective; name some with"),
            (["latency"], ConfigError, "unknown measure 'latency'"),
            (["flops"], ResultsError, "holds no model; measure some with: candlemark profile"),
        ],
    )
    def test_messages(
        self, results: Results, objectives: list[str], kind: type[Exception], message: str
    ) -> None:
        with pytest.raises(kind, match=message):
            pareto(results, objectives)


class TestMachine:
    def test_it_is_read_where_the_system_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "cpuinfo").write_text(
            "processor : 0\nmodel name : My CPU @ 3\n", encoding="utf-8"
        )
        folder = tmp_path / "gpus" / "0000:01"
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA H100\nIRQ: 1\n", encoding="utf-8")
        found = this_machine(tmp_path / "cpuinfo", tmp_path / "gpus")
        assert found == Machine(cpu="My CPU @ 3", gpus=("NVIDIA H100",))

    @pytest.mark.parametrize(
        ("environment", "why"),
        [
            ({"cpu": "AMD EPYC 7B13", "gpu": None}, None),
            ({"cpu": "X"}, "measured on X, this is AMD EPYC 7B13"),
            (
                {"cpu": "AMD EPYC 7B13", "gpu": "H100"},
                "measured on H100, which is not found here",
            ),
            ({}, "the machine it was measured on is not known"),
        ],
    )
    def test_why_a_record_is_not_of_this_machine(
        self, environment: dict[str, Any], why: str | None
    ) -> None:
        assert why_elsewhere(environment, HERE) == why

    def test_its_name(self) -> None:
        assert machine_name({"cpu": "c", "gpu": "g"}) == "g"
        assert machine_name({}) == "unknown machine"
