"""What the task does around a row, whatever the row is made of."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from candlemark import progress
from candlemark.benchmark.tasks import steps
from candlemark.execution import leases
from candlemark.hardware import conditions
from candlemark.hardware.conditions import FakeSource, Reading
from candlemark.records import Measurement, Verdict


@pytest.fixture
def events():
    seen = []
    previous = progress.set_reporter(SimpleNamespace(handle=seen.append))
    yield seen
    progress.set_reporter(previous)


def test_speed_is_measured_while_nothing_else_of_ours_loads_or_is_timed(
    tmp_path, monkeypatch, events
):
    monkeypatch.setenv(leases.ENVIRONMENT, str(tmp_path))
    trial = SimpleNamespace(config={"device": "cpu"}, row="a model")

    class Row:
        def measure(self):
            assert leases.held() == "timing"
            assert leases.holder().endswith("on cpu")
            assert [(event.kind, event.task) for event in events] == [("begin", progress.TIMING)]
            return (Measurement(name="latency_p50_ms", value=2.0),)

    (measured,) = steps.timed(trial, Row().measure)
    assert measured.value == 2
    assert leases.held() is None
    assert events[-1].kind == "end"


def test_speed_beside_another_program_is_not_to_be_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv(leases.ENVIRONMENT, str(tmp_path))
    looks = FakeSource(Reading(at_s=0, cores=2, busy_s=0), Reading(at_s=1, cores=2, busy_s=1.5))
    monkeypatch.setattr(steps, "watch", lambda device: conditions.watch(device, source=looks))
    trial = SimpleNamespace(config={"device": "cpu"}, row="a model")
    found = (
        Measurement(name="latency_p50_ms", value=1.0),
        Measurement(name="flops", value=1.0),
    )
    latency, flops = steps.timed(trial, lambda: found)
    assert latency.verdict is Verdict.CONTENDED
    assert flops.verdict is Verdict.VALID


def test_only_a_control_learns_answers_of_other_cases():
    rows = {"train": np.arange(50), "validation": np.arange(50, 60), "test": np.arange(60, 80)}
    model = SimpleNamespace(role="model", config={"seed": 0})
    own = steps.training_order(model, rows)
    assert list(own) == ["train", "validation"]
    assert own["train"].tolist() == list(range(50))
    control = SimpleNamespace(role="control", config={"seed": 0})
    shuffled = steps.training_order(control, rows)
    assert sorted(shuffled["train"]) == list(range(50)) != shuffled["train"].tolist()
    again = steps.training_order(control, rows)
    assert np.array_equal(shuffled["validation"], again["validation"])
