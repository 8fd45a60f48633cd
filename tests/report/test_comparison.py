"""Stored runs side by side: what may be said of two processes, and what may not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from candlemark.errors import ConfigError
from candlemark.hardware.comparability import comparability_key
from candlemark.metrics.contrast import Change
from candlemark.records import Measurement, RunRecord, Status, Verdict, content_id
from candlemark.report.attempts import _median_error, contrast_attempts
from candlemark.report.comparison import compare, speedups

WHEN = "2026-01-31T12:00:"


def attempt(
    median_ms: float, *, number: int = 0, noise: float = 0.02, threads: int = 2, **trial: Any
) -> RunRecord:
    """One process at a cell: 200 calls around a median, with memory of the call before."""
    config = {
        "task": "inference",
        "model": "tiny:bert",
        "weights_sha256": "w",
        "device": "cpu",
        "precision": "fp32",
        "backend": "eager",
        "batch_size": 1,
        "sequence_length": 16,
        "tolerance": 0.05,
        "metrics": ["latency"],
        "seed": 0,
        **trial,
    }
    random = np.random.default_rng([number, round(median_ms * 1000)])
    steps = random.normal(0, noise, 200)
    walk = np.convolve(steps, 0.7 ** np.arange(12))[:200]
    samples = median_ms * np.exp(walk - np.median(walk))
    facts = {"row": config["model"], "model": config["model"]}
    environment = {
        "device": str(config["device"]).partition(":")[0],
        "threads": threads,
        "precision": config["precision"],
        "batch_size": config["batch_size"],
    }
    measurements = [
        Measurement(name="latency_p50_ms", value=float(np.median(samples)), unit="ms"),
        Measurement(name="parameters", value=1000.0),
    ]
    if config["precision"] != "fp32":
        error = config.pop("error", 0.01)
        measurements.append(Measurement(name="relative_error", value=error))
        facts["same_answer"] = error <= config["tolerance"]
    return RunRecord(
        trial_id=content_id(config),
        trial=config,
        status=Status.OK,
        started_at=f"{WHEN}{number:02d}.{round(median_ms * 1000):06d}+00:00",
        duration_s=1.0,
        measurements=tuple(measurements),
        samples={"latency_ms": samples},
        facts=facts,
        environment={**environment, "comparability_key": comparability_key(environment)},
    )


def attempts(median_ms: float, count: int = 5, *, spread: float = 0.01, **trial: Any):
    random = np.random.default_rng(round(median_ms * 1000))
    factors = np.exp(random.normal(0, spread, count))
    return [attempt(median_ms * f, number=n, **trial) for n, f in enumerate(factors)]


def contended(record: RunRecord) -> RunRecord:
    spoiled = [
        replace(m, verdict=Verdict.CONTENDED, reason="another process ran")
        for m in record.measurements
    ]
    return replace(record, measurements=tuple(spoiled))


class TestTwoRuns:
    def test_repeats_tell_a_slow_down_from_noise(self):
        (row,) = compare(
            attempts(20.0), attempts(22.0), names=("main", "mine"), measures=["latency_p50_ms"]
        )
        assert row.change is Change.SLOWER
        assert row.label == "tiny:bert cpu fp32 eager batch 1 length 16"
        assert (row.first, row.second) == ("main", "mine")
        assert row.low is not None
        assert row.high is not None
        assert row.low < 1.1 < row.high
        assert row.floor is not None
        assert row.floor < 0.05

    def test_the_same_again_is_the_same(self):
        (row,) = compare(attempts(20.0, 8), attempts(20.04, 8), measures=["latency_p50_ms"])
        assert row.change is Change.SAME

    def test_one_process_each_is_never_told_apart_and_names_the_command(self):
        (row,) = compare([attempt(20.0)], [attempt(30.0)], measures=["latency_p50_ms"])
        assert row.change is Change.UNSURE
        assert row.floor is None
        assert row.ratio == pytest.approx(1.5, rel=0.01)
        assert row.low is not None
        assert row.low > 1.4
        assert row.grounds.endswith("run it again: candlemark profile tiny:bert --rerun")

    def test_repeats_elsewhere_in_the_store_give_the_floor(self):
        a, b, others = [attempt(20.0)], [attempt(26.0, number=1)], attempts(20.1, 6)
        assert a[0].trial_id == others[0].trial_id
        (row,) = compare(a, b, measures=["latency_p50_ms"], repeats=[*a, *b, *others])
        assert row.floor is not None
        assert row.change is Change.SLOWER

    def test_counted_measures_need_no_repeat(self):
        (row,) = compare([attempt(20.0)], [attempt(20.0, number=1)], measures=["parameters"])
        assert row.change is Change.SAME
        assert row.low == row.high == 1.0

    def test_unlike_machines_name_the_field_instead_of_a_winner(self):
        (row,) = compare(attempts(20.0), attempts(30.0, threads=4), measures=["latency_p50_ms"])
        assert row.change is Change.UNSURE
        assert row.ratio is None
        assert row.grounds == "not comparable: threads 2 against 4"

    def test_attempts_of_several_environments_are_compared_where_they_agree(self):
        a = [*attempts(20.0), *attempts(10.0, threads=4)]
        (row,) = compare(a, attempts(22.0), measures=["latency_p50_ms"])
        assert row.change is Change.SLOWER
        assert row.value_a == pytest.approx(20, rel=0.02)
        assert row.grounds.endswith("; left out: 5 attempts in other environments")

    def test_numbers_that_may_not_be_quoted_take_no_part(self):
        spoiled = [contended(record) for record in attempts(40.0)]
        mixed = [*attempts(20.0), *spoiled]
        (row,) = compare(mixed, attempts(22.0), measures=["latency_p50_ms"])
        assert row.change is Change.SLOWER
        assert row.value_a == pytest.approx(20, rel=0.02)
        (row,) = compare(spoiled, attempts(22.0), measures=["latency_p50_ms"])
        assert row.change is Change.UNSURE
        assert row.grounds == (
            "A: latency_p50_ms is CONTENDED: another process ran; "
            "run it again: candlemark profile tiny:bert --rerun"
        )

    def test_runs_without_a_common_cell_say_what_differs(self):
        with pytest.raises(ConfigError, match=r"no cell in common; .* differ in precision; to "):
            compare([attempt(20.0)], [attempt(20.0, precision="bf16")])

    def test_a_run_without_a_finished_cell_says_so(self):
        with pytest.raises(ConfigError, match="'B' has no finished cell"):
            compare([attempt(20.0)], [])

    def test_an_unknown_measure_is_refused(self):
        with pytest.raises(ConfigError, match="unknown measure 'latency'"):
            compare([attempt(20.0)], [attempt(21.0)], measures=["latency"])


class TestAcross:
    def test_precisions_of_one_run(self):
        records = [*attempts(20.0), *attempts(10.0, precision="bf16")]
        (row,) = compare(records, records, across="precision", measures=["latency_p50_ms"])
        assert (row.first, row.second, row.change) == ("fp32", "bf16", Change.FASTER)
        assert row.offered

    def test_a_faster_row_that_changed_the_answer_is_no_speed_up(self):
        records = [*attempts(20.0), *attempts(10.0, precision="int8", error=0.3)]
        (row,) = compare(records, records, across="precision", measures=["latency_p50_ms"])
        assert row.change is Change.FASTER
        assert not row.offered
        assert "the answer changed: error 0.3, tolerated 0.05" in row.grounds
        (gain,) = speedups(records)
        assert not gain.offered
        assert gain.same_answer is False

    def test_two_runs_are_compared_in_all_pairs(self):
        ours, theirs = attempts(20.0, precision="fp16"), attempts(10.0, precision="bf16")
        (row,) = compare(ours, theirs, across="precision", measures=["latency_p50_ms"])
        assert (row.first, row.second) == ("fp16 of A", "bf16 of B")
        assert row.change is Change.FASTER

    def test_a_graphics_card_brings_settings_that_a_processor_has_not(self):
        card = {"gpu": "NVIDIA H100", "driver": "580.1", "cuda": "13.0", "power_cap_w": 700.0}
        there = [
            replace(one, environment={**one.environment, **card})
            for one in attempts(4.0, device="cuda:0")
        ]
        (gain,) = speedups([*attempts(20.0), *there])
        assert gain.times == pytest.approx(5, rel=0.05)
        assert gain.offered

    def test_gains_outlive_a_new_driver(self):
        old = [*attempts(40.0, threads=4), *attempts(39.0, threads=4, precision="bf16")]
        new = [
            replace(one, started_at=one.started_at.replace("2026-01", "2026-02"))
            for one in (*attempts(20.0), *attempts(10.0, precision="bf16"))
        ]
        (gain,) = speedups([*new, *old])
        assert gain.times == pytest.approx(2, rel=0.05)
        assert gain.offered

    def test_models_are_compared_with_the_first(self):
        records = [*attempts(20.0), *attempts(25.0, model="tiny:gpt2")]
        (row,) = compare(records, records, across="model", measures=["latency_p50_ms"])
        assert (row.first, row.second, row.change) == ("tiny:bert", "tiny:gpt2", Change.SLOWER)

    def test_speed_ups_are_pairs_that_differ_in_one_thing(self):
        records = [
            *attempts(20.0),
            *attempts(4.0, device="cuda:0"),
            *attempts(2.0, device="cuda:0", precision="bf16"),
        ]
        found = {(one.dimension, one.first, one.second): one for one in speedups(records)}
        assert set(found) == {("device", "cpu", "cuda:0"), ("precision", "fp32", "bf16")}
        gain = found["device", "cpu", "cuda:0"]
        assert gain.offered
        assert gain.times == pytest.approx(5, rel=0.05)
        assert gain.low is not None
        assert gain.high is not None
        assert gain.low < 5 < gain.high


class TestStatistics:
    def test_neighbours_that_are_alike_widen_the_error(self):
        random = np.random.default_rng(0)
        free = np.exp(random.normal(0, 0.02, 2000))
        bound = np.exp(np.convolve(random.normal(0, 0.02, 2000), 0.9 ** np.arange(40))[:2000])
        bound = np.exp(np.log(bound) * np.std(np.log(free)) / np.std(np.log(bound)))
        assert _median_error(bound) > 2 * _median_error(free)
        # asymptotic: sqrt(pi / 2n) standard deviations
        assert _median_error(free) == pytest.approx(0.02 * math.sqrt(math.pi / 4000), rel=0.35)

    def test_a_rerun_lies_outside_the_floor_as_rarely_as_it_says(self):
        outside = 0
        for seed in range(30):
            random = np.random.default_rng(seed)
            a, b = (
                [
                    attempt(20 * math.exp(random.normal(0, 0.01)), number=seed * 8 + side * 4 + n)
                    for n in range(4)
                ]
                for side in (0, 1)
            )
            found = contrast_attempts(a, b, "latency_p50_ms")
            assert found.floor is not None
            assert found.ratio is not None
            outside += abs(math.log(found.ratio)) > math.log1p(found.floor)
        assert outside <= 5
