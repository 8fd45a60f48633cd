"""The peak of a section, and honesty where it cannot be told."""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ConfigError
from candlemark.metrics import memory
from candlemark.metrics.memory import (
    MemoryMeter,
    MemoryProfile,
    measure_memory,
    peak_of_requests,
)
from candlemark.records import Measurement

pytestmark = pytest.mark.usefixtures("pages_of_their_own")

CPU = torch.device("cpu")
LARGE = 96 * 2**20


def test_an_allocation_of_known_size_is_seen_although_it_is_freed() -> None:
    with MemoryMeter(CPU) as before:
        pass
    with MemoryMeter(CPU) as meter:
        np.ones(LARGE, dtype=np.uint8)
    if before.peak_bytes is None or meter.peak_bytes is None:
        pytest.skip("this system does not reset a process's peak")
    assert LARGE * 0.9 < meter.peak_bytes - before.peak_bytes < LARGE * 1.5
    measured = meter.measurement()
    assert (measured.name, measured.unit) == ("peak_memory_bytes", "bytes")
    assert "resident set" in str(measured.reason)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux resets peaks")
def test_a_freed_earlier_peak_does_not_leak_into_the_section() -> None:
    with MemoryMeter(CPU) as high:
        np.ones(LARGE, dtype=np.uint8)
    with MemoryMeter(CPU) as low:
        pass
    assert high.peak_bytes is not None
    assert low.peak_bytes is not None
    assert low.peak_bytes < high.peak_bytes - LARGE * 0.5


def test_without_a_reset_a_hidden_peak_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "reset_process_peak", lambda: False)
    monkeypatch.setattr(memory, "process_peak_bytes", lambda: 1000)
    with MemoryMeter(CPU) as meter:
        pass
    measured = meter.measurement()
    assert measured.value is None
    assert measured.reason == "an earlier peak of the process hides the section's"


def test_without_a_reset_a_raised_peak_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([1000, 1500])
    monkeypatch.setattr(memory, "reset_process_peak", lambda: False)
    monkeypatch.setattr(memory, "process_peak_bytes", lambda: next(peaks))
    with MemoryMeter(CPU) as meter:
        pass
    assert meter.peak_bytes == 1500


def test_a_system_that_tells_nothing_gives_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "process_peak_bytes", lambda: None)
    with MemoryMeter(CPU) as meter:
        pass
    assert meter.measurement().reason == "this system does not tell the peak of a process"
    with MemoryMeter(torch.device("mps")) as apple:
        pass
    assert apple.measurement().reason == "torch keeps no peak on mps"


class Allocates(torch.nn.Module):
    """Holds `held` bytes while it makes an output of `out` bytes."""

    def __init__(self, held: int, out: int) -> None:
        super().__init__()
        self.held, self.out = held, out

    def forward(self) -> torch.Tensor:
        first = torch.ones(self.held, dtype=torch.uint8)
        second = torch.ones(self.out, dtype=torch.uint8)
        del first
        torch.ones(self.out // 2, dtype=torch.uint8)
        return second


@pytest.fixture(scope="module")
def profiled(pages_of_their_own: None) -> MemoryProfile:
    with torch.inference_mode():
        return measure_memory(Allocates(LARGE, LARGE // 3), CPU, calls=2, interval_s=0.001)


def of(profile: MemoryProfile, name: str) -> Measurement:
    return next(m for m in profile.measurements if m.name == name)


def test_every_measure_of_memory_is_told_or_has_a_reason(profiled: MemoryProfile) -> None:
    assert [m.name for m in profiled.measurements] == [
        "peak_memory_bytes",
        "allocated_memory_bytes",
        "reserved_memory_bytes",
        "process_memory_bytes",
        "activation_memory_bytes",
    ]
    assert of(profiled, "allocated_memory_bytes").value is None
    assert of(profiled, "allocated_memory_bytes").reason == (
        "torch keeps no account of tensors on a CPU"
    )
    assert of(profiled, "reserved_memory_bytes").reason == "no pool to tell on cpu"


def test_activations_on_a_cpu_are_counted_to_the_byte(profiled: MemoryProfile) -> None:
    assert of(profiled, "activation_memory_bytes").value == LARGE + LARGE // 3


def test_the_resident_set_sees_a_known_size_within_pages(profiled: MemoryProfile) -> None:
    peak, after = of(profiled, "peak_memory_bytes"), of(profiled, "process_memory_bytes")
    assert peak.value is not None
    assert after.value is not None
    assert LARGE < peak.value - after.value < 2 * LARGE


def test_the_timeline_runs_through_the_passes(profiled: MemoryProfile) -> None:
    seconds, sizes = (profiled.samples[f"memory_timeline_{unit}"] for unit in ("s", "bytes"))
    assert len(seconds) == len(sizes) >= 4
    assert (np.diff(seconds) > 0).all()
    assert sizes.max() - sizes.min() > LARGE // 2
    assert sizes.max() <= (of(profiled, "peak_memory_bytes").value or 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 1000), max_size=20), st.randoms())
def test_the_peak_of_requests_is_the_most_held_at_once(sizes: list[int], random: Random) -> None:
    """Blocks are requested and released in any order; a slow count over time agrees."""
    changes: list[int] = []
    held: list[int] = []
    most = 0
    waiting = list(sizes)
    while waiting or held:
        if waiting and (not held or random.random() < 0.6):
            held.append(waiting.pop())
            changes.append(held[-1])
        else:
            changes.append(-held.pop(random.randrange(len(held))))
        most = max(most, sum(held))
    assert peak_of_requests(changes) == most


def test_a_runtime_with_memory_of_its_own_is_seen_in_the_resident_set() -> None:
    kept = []

    def call() -> None:
        # New pages each time: an allocator may hand out again what earlier tests gave back.
        pages = np.frombuffer(mmap.mmap(-1, LARGE // 4), dtype=np.uint8)
        pages[:] = 1
        kept.append(pages)

    grown = of(measure_memory(call, CPU, calls=2, torch_allocates=False), "activation_memory_bytes")
    assert grown.value is not None
    assert LARGE * 0.45 < grown.value < LARGE
    assert str(grown.reason).startswith("growth of: largest resident set")


def test_a_call_past_torch_has_no_activations_of_torch() -> None:
    profile = measure_memory(lambda: sum(range(100)), CPU, model_bytes=12)
    nothing = of(profile, "activation_memory_bytes")
    assert nothing.value is None
    assert "took nothing from torch's allocator" in str(nothing.reason)
    assert of(profile, "model_bytes").value == 12


def test_a_call_that_fails_stops_the_thread_that_reads() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("the model broke")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the model broke"):
        measure_memory(call, CPU)
    assert threading.active_count() == before
    with pytest.raises(ConfigError, match="memory is measured over 0 calls; allowed: 1 or more"):
        measure_memory(call, CPU, calls=0)


def test_a_long_timeline_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LONGEST_TIMELINE", 16)
    timeline = memory._Timeline(lambda: 5)
    with timeline.sampling(0.0005):
        time.sleep(0.1)
    assert 4 <= len(timeline.seconds) == len(timeline.bytes) <= 17
    assert timeline.seconds == sorted(timeline.seconds)


class FakeAccelerator:
    """The part of `torch.cuda` that is asked: a pool in which a call takes 40 and keeps 8."""

    def __init__(self) -> None:
        self.live = self.top = 100

    def call(self) -> None:
        self.top = max(self.top, self.live + 40)
        self.live = 108

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        self.top = self.live

    def max_memory_allocated(self, device: torch.device) -> int:
        return self.top

    def memory_allocated(self, device: torch.device) -> int:
        return self.live

    def memory_reserved(self, device: torch.device) -> int:
        return 512


def test_an_accelerator_is_asked_for_its_own_account(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAccelerator()
    for name in ("reset_peak_memory_stats", "max_memory_allocated", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    monkeypatch.setattr(torch.cuda, "memory_reserved", fake.memory_reserved)
    monkeypatch.setattr(memory, "synchronise", lambda device: None)
    profile = measure_memory(fake.call, torch.device("cuda:0"), interval_s=0.001)
    reasons = {measured.name: measured.reason for measured in profile.measurements}
    assert reasons["allocated_memory_bytes"] is None
    assert reasons["reserved_memory_bytes"] is None
    values = {m.name: m.value for m in profile.measurements}
    assert values["peak_memory_bytes"] == 148
    assert values["allocated_memory_bytes"] == 108
    assert values["reserved_memory_bytes"] == 512
    assert values["activation_memory_bytes"] == 40
    assert set(profile.samples["memory_timeline_bytes"]) == {108.0}


def test_a_device_without_a_peak_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100, *[100, 180, 140] * 400])
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: next(sizes))
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1024)
    monkeypatch.setattr(memory, "synchronise", lambda device: None)
    profile = measure_memory(
        lambda: time.sleep(0.01), torch.device("mps"), calls=1, interval_s=0.001
    )
    assert of(profile, "peak_memory_bytes").value == 180
    assert of(profile, "peak_memory_bytes").reason == "most seen every 0.001 s"
    assert of(profile, "activation_memory_bytes").value == 80


def test_the_profiler_writes_nothing_and_its_setting_is_put_back(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    measure_memory(lambda: torch.ones(1000), CPU, calls=1)
    assert "KINETO_LOG_LEVEL" not in os.environ
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")
