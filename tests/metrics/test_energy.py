"""Known power gives known joules; what cannot be counted is None with the reason."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.hardware.sensors import SensorError
from candlemark.metrics import energy as module
from candlemark.metrics.energy import (
    Clock,
    FakeCounter,
    NvmlEnergy,
    NvmlPower,
    Rapl,
    find_step,
    measure_energy,
    open_counter,
)
from candlemark.metrics.measures import MEASURES
from candlemark.records import Verdict

CPU = torch.device("cpu")
IDLE_W, WORK_W, CALL_S = 40.0, 100.0, 0.004


@dataclass
class Machine:
    """A clock that moves when told, and a power that depends on what is being done."""

    seconds: float = 0.0
    working: list[tuple[float, float]] = field(default_factory=list)
    call_s: float = CALL_S
    work_w: float = WORK_W

    @property
    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.seconds += seconds

        return Clock(now=lambda: self.seconds, sleep=sleep)

    def call(self) -> None:
        self.working.append((self.seconds, self.seconds + self.call_s))
        self.seconds += self.call_s

    def watts(self, at: float) -> float:
        # The middle of the step: its start may be the end of the step before.
        at += 1e-5
        while self.working and self.working[0][1] <= at:
            self.working.pop(0)
        return self.work_w if self.working and self.working[0][0] <= at else IDLE_W

    def measure(self, *, step_s: float = 0.001, items_per_call: int = 8, **options):
        counter = FakeCounter(self.watts, self.clock, step_s=step_s)
        measured = measure_energy(
            self.call,
            CPU,
            items_per_call=items_per_call,
            counter=counter,
            clock=self.clock,
            **options,
        )
        return {m.name: m for m in measured}


def test_known_power_gives_known_joules():
    measured = Machine().measure()
    joules = (WORK_W - IDLE_W) * CALL_S / 8
    assert measured["energy_per_item_j"].value == pytest.approx(joules, rel=0.02)
    assert measured["power_w"].value == pytest.approx(WORK_W, rel=0.02)
    assert measured["idle_power_w"].value == pytest.approx(IDLE_W, rel=0.02)
    per_item = measured["energy_per_item_j"]
    assert per_item.low <= joules <= per_item.high
    assert (per_item.sample_count, per_item.level) == (3, 0.95)
    assert per_item.verdict is Verdict.VALID
    assert per_item.reason.startswith("fake counter; idle 40")


def test_names_and_units_are_those_of_the_table():
    measured = Machine().measure(windows=1)
    table = {name for name, measure in MEASURES.items() if measure.group == "energy"}
    assert set(measured) == table
    assert {name: m.unit for name, m in measured.items()} == {n: MEASURES[n].unit for n in table}
    assert measured["energy_per_item_j"].low is None


def test_a_call_longer_than_the_window_fills_it_alone():
    measured = Machine(call_s=3.0).measure(items_per_call=1)
    assert measured["energy_per_item_j"].value == pytest.approx((WORK_W - IDLE_W) * 3, rel=0.01)


def test_a_window_too_short_for_the_counter_is_refused_with_the_length_it_takes():
    measured = Machine().measure(step_s=0.1, window_s=1.0)
    assert {m.value for m in measured.values()} == {None}
    assert {m.verdict for m in measured.values()} == {Verdict.TOO_FEW}
    assert measured["power_w"].reason == (
        "a window of 1 s is too short: the fake counter moves every 100 ms, so it takes 2 s"
    )


def test_a_counter_that_stands_still_counts_nothing():
    measured = Machine().measure(step_s=0.0)
    assert measured["energy_per_item_j"].reason == "the fake counter stood still for 1 s"


def test_work_that_draws_no_more_than_idling_has_no_energy():
    measured = Machine(work_w=IDLE_W - 10).measure()["energy_per_item_j"]
    assert (measured.value, measured.verdict) == (None, Verdict.UNSTABLE)
    assert "working drew no more than idling (40 W)" in measured.reason


def test_an_interval_that_holds_zero_is_unstable():
    machine = Machine()
    machine.work_w = 0.0

    def watts(at):  # a window of work draws 41, 200 or 41 W
        return IDLE_W if at < 1.1 else (300.0 if 2.0 < at < 2.5 else IDLE_W + 1)

    counter = FakeCounter(watts, machine.clock, step_s=0.001)
    measured = measure_energy(
        machine.call, CPU, items_per_call=1, counter=counter, clock=machine.clock
    )[0]
    assert measured.value > 0 > measured.low
    assert measured.verdict is Verdict.UNSTABLE
    assert measured.reason.endswith("the interval over windows holds 0")


@pytest.mark.parametrize("step_s", [0.001, 0.02, 0.1])
def test_the_step_of_a_counter_is_found(step_s):
    clock = Machine().clock
    assert find_step(FakeCounter(lambda _: 1.0, clock, step_s=step_s), clock) == pytest.approx(
        step_s, rel=0.3
    )


def domain(folder, number, name, joules, *, span=262.0):
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n", encoding="utf-8")
    (path / "energy_uj").write_text(f"{int(joules * 1e6)}\n", encoding="utf-8")
    (path / "max_energy_range_uj").write_text(f"{int(span * 1e6)}\n", encoding="utf-8")
    return path


def test_packages_are_counted_once_and_nothing_else(tmp_path):
    names = {"0": "package-0", "1": "package-1", "0:0": "core", "0:1": "dram", "2": "psys"}
    for number, name in names.items():
        domain(tmp_path, number, name, 10)
    counter = Rapl(tmp_path)
    for number, name in names.items():
        domain(tmp_path, number, name, 15)
    assert counter.joules() == pytest.approx(10)


def test_a_count_that_starts_again_is_carried_on(tmp_path):
    domain(tmp_path, "0", "package-0", 260)
    counter = Rapl(tmp_path)
    for reading, total in ((3, 5), (1, 265), (1, 265), (2, 266)):
        domain(tmp_path, "0", "package-0", reading)
        assert counter.joules() == pytest.approx(total)


@settings(max_examples=20, deadline=None)
@given(gains=st.lists(st.floats(0, 250), min_size=1, max_size=8), start=st.floats(0, 260))
def test_no_joule_is_lost_however_often_a_count_starts_again(gains, start):
    with tempfile.TemporaryDirectory() as folder:
        reading, total = start, 0.0
        domain(Path(folder), "0", "package-0", reading)
        counter = Rapl(Path(folder))
        for gain in gains:
            total += gain
            reading = (reading + gain) % 262.0
            domain(Path(folder), "0", "package-0", reading)
            assert counter.joules() == pytest.approx(total, abs=1e-4)


def test_a_machine_without_rapl_says_so(tmp_path):
    with pytest.raises(SensorError, match="this system has no RAPL counter below"):
        Rapl(tmp_path)


def test_a_counter_for_root_names_the_command_that_opens_it(tmp_path, monkeypatch):
    path = domain(tmp_path, "0", "package-0", 1)
    monkeypatch.setattr(module, "_readable", lambda _: False)  # root may read any file
    with pytest.raises(SensorError) as refused:
        Rapl(tmp_path)
    assert str(refused.value) == (
        f"{path}/energy_uj may be read by root only; to open it until the next start: "
        f"sudo chmod a+r {tmp_path}/intel-rapl:*/energy_uj"
    )


def test_a_counter_that_breaks_half_way_is_unknown_with_the_reason(tmp_path):
    path = domain(tmp_path, "0", "package-0", 1)
    clock = Machine().clock
    counter = Rapl(tmp_path)
    (path / "energy_uj").unlink()
    measured = measure_energy(lambda: None, CPU, items_per_call=1, counter=counter, clock=clock)
    assert {m.reason for m in measured} == {f"this system has no {path}/energy_uj"}


class FakeGpu:
    """A GPU with a power that rises by 10 W a second, and perhaps an energy counter."""

    def __init__(self, clock, *, counts=True):
        self.clock, self.counts = clock, counts

    def power_w(self):
        return 10 * self.clock.now()

    def energy_j(self):
        if not self.counts:
            raise SensorError("NVML: Not Supported")
        return 5 * self.clock.now() ** 2


def test_power_is_integrated_where_nothing_counts_energy(monkeypatch):
    clock = Machine().clock
    monkeypatch.setattr(module, "open_gpu", lambda _: FakeGpu(clock, counts=False))
    counter = open_counter(torch.device("cuda:0"))
    assert isinstance(counter, NvmlPower)
    counter = NvmlPower(FakeGpu(clock, counts=False), clock)
    for _ in range(10):
        clock.sleep(0.2)
        total = counter.joules()
    assert total == pytest.approx(5 * clock.now() ** 2)
    assert find_step(counter, clock) == 0.1


def test_a_gpu_that_counts_energy_is_asked_for_it(monkeypatch):
    clock = Machine().clock
    monkeypatch.setattr(module, "open_gpu", lambda _: FakeGpu(clock))
    counter = open_counter(torch.device("cuda:0"))
    assert isinstance(counter, NvmlEnergy)
    clock.sleep(2.0)
    assert counter.joules() == 20


def test_a_device_without_a_counter_is_named():
    with pytest.raises(SensorError, match="no energy counter is known for the device 'mps'"):
        open_counter(torch.device("mps"))
    measured = measure_energy(lambda: None, torch.device("mps"), items_per_call=1)
    assert {m.value for m in measured} == {None}
