"""The peak of a section, and honesty where it cannot be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from candlemark.metrics import memory
from candlemark.metrics.memory import MemoryMeter

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
