"""Times of a scan from a clock that counts what the test says, and nothing quoted of too few."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from candlemark.benchmark.segmentation.timing import FINISHED_BEFORE, CaseTimes
from candlemark.metrics.clock import ClockCheck, DeviceClock
from candlemark.records import Verdict

LABELS = np.zeros((1, 2, 2), np.uint8)


class Ticks:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def pass_ms(self, amount: float) -> None:
        self.now += int(amount * 1e6)


def times_with(ticks: Ticks, *, ok: bool = True, **fields) -> CaseTimes:
    clock = DeviceClock(torch.device("cpu"), now_ns=ticks, wait=lambda _: None)
    clock.check = ClockCheck(ok=ok, ratios={}, detail="2x the work took no time")
    return CaseTimes(device=torch.device("cpu"), clock=clock, **fields)


def asked(ticks: Ticks, load: float, forward: float):
    def segment(watch):
        with watch("load"):
            ticks.pass_ms(load)
        with watch("forward"):
            ticks.pass_ms(forward)
        ticks.pass_ms(1)
        return LABELS

    return segment


def test_stages_and_the_whole_are_told_apart():
    ticks = Ticks()
    times = times_with(ticks)
    for _ in range(5):
        _, stages = times.ask(asked(ticks, 2, 5))
    assert stages == {"load": 2.0, "preprocess": 0.0, "forward": 5.0, "postprocess": 0.0}
    found = {one.name: one for one in times.measurements()}
    assert (found["load_p50_ms"].value, found["case_p50_ms"].value) == (2.0, 8.0)
    assert found["case_p95_ms"].verdict is Verdict.TOO_FEW
    assert "59 samples, 54 more" in str(found["case_p95_ms"].reason)


def test_the_scored_pass_warms_up_where_others_follow():
    ticks = Ticks()
    times = times_with(ticks, repeats=2)
    amounts = iter((90, 10, 20))

    def segment(watch):
        with watch("forward"):
            ticks.pass_ms(next(amounts))
        return LABELS

    _, stages = times.ask(segment)
    assert stages["forward"] == 15.0
    assert times.samples()["forward_ms"].tolist() == [10.0, 20.0]


def test_a_clock_that_does_not_follow_work_is_not_quoted():
    ticks = Ticks()
    times = times_with(ticks, ok=False)
    for _ in range(5):
        times.ask(asked(ticks, 1, 1))
    found = {one.name: one for one in times.measurements()}
    assert found["case_p50_ms"].verdict is Verdict.UNSTABLE
    assert "does not follow work" in str(found["case_p50_ms"].reason)


def test_a_clock_that_stands_still_is_not_quoted():
    ticks = Ticks()
    times = times_with(ticks)
    for _ in range(5):
        times.ask(lambda _: LABELS)
    found = {one.name: one for one in times.measurements()}
    assert "no time pass" in str(found["case_p50_ms"].reason)


def test_a_pass_that_fails_leaves_no_time():
    ticks = Ticks()
    times = times_with(ticks)

    def fails(_):
        ticks.pass_ms(3)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        times.ask(fails)
    assert times.samples() == {}
    assert {one.value for one in times.measurements() if one.unit == "ms"} == {None}


def test_an_answer_that_is_none_leaves_no_time():
    """Else a row whose every case has failed would stand in the table of times."""
    ticks = Ticks()
    times = times_with(ticks, repeats=2)
    passes = []

    def wrong(watch):
        passes.append(watch)
        ticks.pass_ms(3)
        return LABELS

    def check(_):
        raise ValueError("label 9")

    with pytest.raises(ValueError, match="label 9"):
        times.ask(wrong, check)
    assert times.samples() == {}
    assert len(passes) == 1


def test_what_was_finished_before_has_no_times():
    times = times_with(Ticks(), unseen=FINISHED_BEFORE)
    _, stages = times.ask(lambda _: LABELS)
    assert stages is None
    assert {one.reason for one in times.measurements()} == {FINISHED_BEFORE}
