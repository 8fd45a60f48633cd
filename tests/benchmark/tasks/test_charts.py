"""What the task does around a row, whatever the row is made of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from candlemark import progress
from candlemark.benchmark.tasks import charts
from candlemark.execution import leases
from candlemark.records import Measurement


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
    trial = SimpleNamespace(config={"device": "cuda:1"}, row="a model")

    class Row:
        def measure(self, rows):
            assert leases.held() == "timing"
            assert leases.holder().endswith("on cuda:1")
            assert [(event.kind, event.task) for event in events] == [("begin", progress.TIMING)]
            return (Measurement(name="latency_p50_ms", value=float(len(rows))),)

    (measured,) = charts._timed(SimpleNamespace(trial=trial), Row(), [3, 4])
    assert measured.value == 2
    assert leases.held() is None
    assert events[-1].kind == "end"
