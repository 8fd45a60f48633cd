"""What one cell leaves: every metric in its pass, and one that cannot be had loses no other."""

from __future__ import annotations

import numpy as np
import pytest

from candlemark.benchmark.inference import passes, stages, task
from candlemark.benchmark.inference.config import InferenceConfig
from candlemark.benchmark.inference.session import open_session
from candlemark.benchmark.runner import run_one
from candlemark.errors import ConfigError
from candlemark.execution import leases
from candlemark.metrics.measures import MEASURES
from candlemark.records import Verdict

ALL = (*InferenceConfig.model_fields["metrics"].default, "largest_batch")
MACS = 32 * 64 + 64 * 64 + 64 * 10


def values(record):
    return {measured.name: measured.value for measured in record.measurements}


@pytest.fixture
def small_search(monkeypatch):
    monkeypatch.setattr(passes, "LARGEST_BATCH", 16)


def test_a_cell_leaves_every_measure_once_with_facts_samples_and_environment(
    make_works, small_search
):
    (work,) = make_works(batch_sizes=(2,), precisions=("bf16",), metrics=ALL)
    record = run_one(work)
    names = [measured.name for measured in record.measurements]
    assert len(set(names)) == len(names)
    assert set(names) <= MEASURES.keys()
    absent = {"prefill_ms", "decode_ms_per_token", "generated_tokens_per_s", "real_time_factor"}
    of_models = {name for name, measure in MEASURES.items() if measure.group != "scans"}
    assert of_models - set(names) == absent  # it neither writes nor hears
    for measured in record.measurements:
        assert measured.unit == MEASURES[measured.name].unit, measured.name
        assert measured.value is not None or measured.reason
    found = values(record)
    assert found["macs"] == MACS
    assert found["flops"] == 2 * MACS
    assert found["parameters"] == MACS + 64 + 64 + 10
    assert found["model_bytes"] == 2 * found["parameters"]
    assert found["largest_batch"] == 16
    assert found["transfer_ms"] is None
    latency = record.measurement("latency_p50_ms")
    assert record.samples["latency_ms"].dtype == np.float64
    assert latency.value == np.median(record.samples["latency_ms"])
    assert found["achieved_flops_per_s"] == pytest.approx(4 * MACS * 1000 / latency.value)
    assert record.facts["same_answer"] is True
    assert 0 < found["relative_error"] < 0.05
    assert record.facts["stopped"] in {"precise", "budget", "limit"}
    assert record.facts["row"] == "python:gadgets:linear"
    assert record.facts["input_shape"] == {"features": [2, 32]}
    assert record.environment["comparability_key"]
    assert record.environment["precision"] == "bf16"
    assert record.environment["conditions"]["usable_cores"] >= 1


def test_only_what_is_asked_for_is_measured(make_works):
    (work,) = make_works(metrics=("flops",))
    asked = {"flops", "macs", "peak_flops_per_s", "achieved_flops_per_s", "utilisation"}
    opening = {"load_s", "first_call_ms", "parameters", "model_bytes"}
    record = run_one(work)
    assert values(record).keys() == asked | opening
    assert record.measurement("utilisation").reason == "the median latency was not measured"


def test_the_reference_is_its_own_answer(make_works):
    (work,) = make_works(metrics=("numerics",))
    record = run_one(work)
    assert record.facts["same_answer"] is True
    assert record.measurement("relative_error") is None


def test_an_answer_beyond_its_tolerance_is_another_answer(make_works):
    (work,) = make_works(metrics=("numerics",), precisions=("bf16",), tolerances={"bf16": 1e-9})
    assert run_one(work).facts["same_answer"] is False


def test_without_numerics_nobody_knows_whether_the_answer_is_the_same(make_works):
    (work,) = make_works(metrics=("memory",), precisions=("bf16",))
    record = run_one(work)
    assert record.facts["same_answer"] is None
    assert record.measurement("first_call_ms").reason is None


def test_a_model_that_writes_is_timed_token_by_token(make_works):
    (work,) = make_works(
        models=("tiny:gpt2",), sequence_lengths=(8,), new_tokens=3, metrics=("stages",)
    )
    record = run_one(work)
    generations = len(record.samples["prefill_ms"])
    assert generations >= stages.FEWEST
    assert len(record.samples["decode_ms"]) == 2 * generations
    found = values(record)
    assert found["decode_ms_per_token"] == np.median(record.samples["decode_ms"])
    assert 0 < found["generated_tokens_per_s"] < 3000 / record.samples["prefill_ms"].min()
    assert record.facts["new_tokens"] == 3
    assert set(record.samples) == {"preprocess_ms", "postprocess_ms", "prefill_ms", "decode_ms"}


def test_one_new_token_has_no_time_for_the_next(make_works):
    (work,) = make_works(
        models=("tiny:gpt2",), sequence_lengths=(8,), new_tokens=1, metrics=("stages",)
    )
    measured = run_one(work).measurement("decode_ms_per_token")
    assert measured.value is None
    assert measured.reason == "one new token was asked for: prefill makes it"


def test_generation_does_not_go_through_other_backends(make_works):
    (work,) = make_works(models=("tiny:gpt2",), sequence_lengths=(8,), metrics=("stages",))
    with open_session(work) as session:
        session.work.trial.config["backend"] = "compile"
        passed = stages.measure_stages(session, InferenceConfig(models=("m",)).timing)
    reason = next(m for m in passed.measurements if m.name == "prefill_ms").reason
    assert reason == "generation runs eager; backend 'compile' runs the forward pass only"


def test_speech_is_held_against_its_own_length(make_works):
    (work,) = make_works(
        models=("tiny:wav2vec2",), audio_s=0.5, metrics=("stages",), timing={"budget_s": 2.0}
    )
    record = run_one(work)
    factor = record.measurement("real_time_factor")
    assert factor.value > 0
    assert "forward pass over 0.5 s of sound an item" in factor.reason or "clock" in factor.reason


def test_a_clock_that_does_not_follow_work_makes_times_unstable(make_works, monkeypatch):
    monkeypatch.setattr(
        "candlemark.metrics.clock.TIMES_TOLERATED", {2: (100.0, 101.0), 4: (100.0, 101.0)}
    )
    (work,) = make_works(metrics=("latency", "throughput"))
    record = run_one(work)
    for name in ("latency_p50_ms", "throughput_items_per_s"):
        measured = record.measurement(name)
        assert measured.verdict is Verdict.UNSTABLE
        assert "the clock does not follow work" in measured.reason


def test_a_pass_that_cannot_be_had_loses_no_other(make_works, monkeypatch):
    def refuse(session, timing):
        raise ConfigError("no counter today")

    monkeypatch.setitem(passes.TIMED, "energy", (refuse,))
    monkeypatch.setitem(passes.GIVES, refuse, ("energy_per_item_j", "power_w"))
    (work,) = make_works(metrics=("latency", "energy", "memory"))
    record = run_one(work)
    assert record.measurement("energy_per_item_j").reason == "no counter today"
    assert record.measurement("power_w").value is None
    assert record.measurement("latency_p50_ms") is not None
    assert record.measurement("peak_memory_bytes").value > 0


def test_what_stops_the_forward_pass_stops_the_cell(make_works):
    (work,) = make_works(models=("python:gadgets:raising",))
    with pytest.raises(ValueError, match="this model always fails"):
        run_one(work)


def test_memory_of_a_process_that_had_other_cells_is_contended(make_works):
    first, second = make_works(
        models=("python:gadgets:linear", "tiny:bert"), metrics=("memory",), isolation="none"
    )
    run_one(first)
    record = run_one(second)
    for name in ("peak_memory_bytes", "process_memory_bytes"):
        assert record.measurement(name).verdict is Verdict.CONTENDED
        assert "earlier cells in this process" in record.measurement(name).reason
    assert record.measurement("activation_memory_bytes").verdict is Verdict.VALID


def test_loads_beside_other_loads_are_contended(make_works):
    (work,) = make_works(workers=2, metrics=("memory",))
    measured = run_one(work).measurement("load_s")
    assert measured.verdict is Verdict.CONTENDED
    assert measured.reason == "other cells may have loaded at the same time"


def test_batches_are_searched_in_eager_only(make_works, monkeypatch):
    (work,) = make_works()
    with open_session(work) as session:
        session.work.trial.config["backend"] = "compile"
        passed = passes.search_largest_batch(session, InferenceConfig(models=("m",)).timing)
    assert [m.value for m in passed.measurements] == [None, None]
    assert "backend 'compile' is made for one shape" in passed.measurements[0].reason


def test_timed_passes_have_the_machine_alone_and_others_do_not_hold_it(make_works, monkeypatch):
    held = {}

    def note(name):
        def look(session, timing):
            held[name] = getattr(leases._held, "kind", None)
            return stages.Passed()

        return look

    monkeypatch.setattr(task, "BEFORE", {"numerics": (note("numerics"),)})
    monkeypatch.setattr(task, "TIMED", {"latency": (note("latency"),)})
    monkeypatch.setattr(task, "AFTER", {"memory": (note("memory"),)})
    monkeypatch.setattr(task, "LAST", {"largest_batch": (note("largest_batch"),)})
    (work,) = make_works(metrics=("numerics", "latency", "memory", "largest_batch"))
    run_one(work)
    assert held == {
        "numerics": "loading",
        "latency": "timing",
        "memory": "loading",
        "largest_batch": "timing",
    }


@pytest.mark.parametrize(
    ("name", "dimensions", "expected"),
    [
        ("logits", 2, -1),
        ("logits_per_image", 2, -1),
        ("logits", 4, 1),
        ("last_hidden_state", 3, None),
    ],
)
def test_choices_are_found_by_the_name_of_an_output(name, dimensions, expected):
    assert passes.class_dimension(name, dimensions) == expected


def test_every_pass_says_what_it_would_have_given():
    tables = (passes.BEFORE, passes.TIMED, passes.AFTER, passes.LAST)
    used = {function for table in tables for functions in table.values() for function in functions}
    assert used == passes.GIVES.keys()
    assert {name for table in tables for name in table} == set(ALL)
    for names in passes.GIVES.values():
        assert set(names) <= MEASURES.keys()
