"""The largest batch is found by back-off where memory says when it ends, and foretold elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.errors import ConfigError
from candlemark.metrics import batches
from candlemark.metrics.batches import (
    HostGuard,
    available_bytes,
    find_largest_batch,
    measure_batches,
    ran_out_of_memory,
)
from candlemark.metrics.clock import ClockCheck, DeviceClock
from candlemark.records import Verdict

pytestmark = pytest.mark.usefixtures("pages_of_their_own")

MIB = 2**20


@pytest.fixture(autouse=True, scope="module")
def _quick_collection() -> Iterator[None]:
    """A full collection takes 50 ms where torch is loaded; hundreds of searches run here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "gc", SimpleNamespace(collect=lambda: 0))
        yield


class FakeDevice:
    """An accelerator with so much memory, of which a model takes some and each item some."""

    def __init__(self, memory: int, *, model: int = 0, item: int = 1) -> None:
        self.memory, self.model, self.item = memory, model, item
        self.held = 0
        self.tried: list[int] = []

    def run(self, batch: int) -> None:
        assert self.held == 0, "the batch before was not released"
        self.tried.append(batch)
        wanted = self.model + batch * self.item
        if wanted > self.memory:
            self.held = self.memory
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {wanted} bytes")

    def release(self) -> None:
        self.held = 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 50), st.integers(1, 9), st.integers(1, 600))
def test_the_largest_batch_is_found_exactly(room: int, model: int, item: int, limit: int) -> None:
    device = FakeDevice(model + room * item, model=model, item=item)
    search = find_largest_batch(device.run, limit=limit, release=device.release, resolution=0)
    assert search.largest == min(room, limit)
    assert search.ended_by == ("limit" if room >= limit else "memory")
    assert len(device.tried) == len(set(device.tried)) <= 2 * limit.bit_length() + 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000))
def test_a_coarse_search_stays_within_its_resolution(room: int) -> None:
    device = FakeDevice(room)
    search = find_largest_batch(device.run, limit=4096, release=device.release, resolution=0.1)
    assert room - max(1, 0.1 * room) <= search.largest <= room


def test_the_end_of_memory_and_the_limit_of_the_search_are_told_apart() -> None:
    device = FakeDevice(100)
    ended = find_largest_batch(device.run, release=device.release, resolution=0).measurement()
    assert (ended.name, ended.value, ended.unit) == ("largest_batch", 100.0, "items")
    assert str(ended.reason).startswith("batch 101 ran out of memory: CUDA out of memory.")
    roomy = FakeDevice(10_000)
    limited = find_largest_batch(roomy.run, limit=48).measurement()
    assert (limited.value, limited.reason) == (
        48.0,
        "limit of the search: a batch of 48 still ran",
    )


def test_a_failed_batch_is_let_go_before_memory_is_given_back() -> None:
    seen: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def run(batch: int) -> None:
        large = torch.ones(8)
        seen.append(weakref.ref(large))
        if batch > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    find_largest_batch(run, release=lambda: alive.append(seen[-1]() is not None))
    assert alive == [False]


def test_not_even_one_item_is_no_number() -> None:
    device = FakeDevice(5, model=6)
    search = find_largest_batch(device.run, release=device.release)
    measured = search.measurement()
    assert (measured.value, search.ended_by) == (None, "memory")
    assert str(measured.reason).startswith("not even one item: batch 1 ran out of memory")


def test_a_failure_that_is_not_of_memory_ends_the_search_with_its_message() -> None:
    def run(batch: int) -> None:
        if batch > 20:
            raise RuntimeError("offset does not fit 32 bits")

    search = find_largest_batch(run, limit=64)
    assert (search.largest, search.ended_by) == (16, "error")
    assert search.detail == "batch 32 failed: RuntimeError: offset does not fit 32 bits"


def test_a_first_batch_that_fails_is_raised() -> None:
    def run(batch: int) -> None:
        raise ValueError("wrong shape")

    with pytest.raises(ValueError, match="wrong shape"):
        find_largest_batch(run)
    with pytest.raises(ConfigError, match="limit of the batch search is 0; allowed: 1 or more"):
        find_largest_batch(run, limit=0)


def test_time_ends_the_search_before_a_batch_that_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(batches.time, "perf_counter", lambda: now[0])

    def run(batch: int) -> None:
        now[0] += batch

    search = find_largest_batch(run, budget_s=40.0)
    # 1 + 2 + 4 + 8 = 15 s are gone; 16 more would be 31 and are tried, 32 more are not.
    assert (search.largest, search.ended_by) == (16, "budget")
    assert search.detail == "the search's 40 s ended before memory did; 16 still ran"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("std::bad_alloc"),
        RuntimeError(
            "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
        ),
        RuntimeError("Failed to allocate memory for requested buffer of size 4096"),
    ],
)
def test_every_way_to_say_that_memory_ended_is_understood(error: Exception) -> None:
    assert ran_out_of_memory(error)


def test_other_errors_are_not_taken_for_memory() -> None:
    assert not ran_out_of_memory(RuntimeError("shapes do not match: 3 and 4"))
    assert not ran_out_of_memory(ValueError("memory"))


class FakeHost:
    """A process whose peak is a known line of the batch; what is free is known too."""

    def __init__(self, *, free: int, model: int, item: int, bend: float = 0.0) -> None:
        self.free, self.model, self.item, self.bend = free, model, item, bend
        self.top = self.most = model

    def run(self, batch: int) -> None:
        self.top = self.model + int(batch * self.item + self.bend * batch**2)
        self.most = max(self.most, self.top)
        assert self.top - self.model <= self.free, "the machine would swap"

    def guard(self, share: float = 0.8) -> HostGuard:
        return HostGuard(
            share=share,
            available=lambda: self.free,
            used=lambda: self.model,
            peak=lambda: self.top,
            restart=lambda: True,
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(2 * MIB, 4000 * MIB), st.integers(0, 10**9), st.integers(10_000, 10**8))
def test_a_host_is_never_driven_past_its_share(free: int, model: int, item: int) -> None:
    if item > free * 0.8:
        return
    host = FakeHost(free=free, model=model, item=item)
    search = find_largest_batch(host.run, limit=500, guard=host.guard(), resolution=0)
    assert host.most - model <= 0.8 * free + 1
    assert search.largest == min(500, int(0.8 * free / item)) or search.ended_by == "room"
    assert search.largest >= min(500, 0.8 * free / item) * 0.9 - 1


def test_memory_that_grows_faster_than_the_batch_is_foretold_by_its_newest_slope() -> None:
    host = FakeHost(free=1000 * MIB, model=MIB, item=MIB, bend=0.002 * MIB)
    search = find_largest_batch(host.run, limit=4096, guard=host.guard(0.6))
    assert search.ended_by == "room"
    assert "GiB more, beyond 60% of the 1.0 GiB that are free here" in search.detail


def test_the_guard_says_nothing_before_it_has_seen_a_batch() -> None:
    guard = HostGuard(available=lambda: 0)
    assert guard.predict(8) is None
    assert guard.refuses(8) is None


def test_the_guard_sees_real_memory() -> None:
    guard = HostGuard()
    # Beyond 32 MiB an allocator maps anew what it is asked for, whatever was freed before.
    for batch in (40, 160):
        guard.begin()
        torch.ones(batch * MIB, dtype=torch.uint8)
        guard.end(batch)
    grown = guard.peaks[160] - guard.peaks[40]
    assert 100 * MIB < grown < 200 * MIB
    foretold = guard.predict(320)
    assert foretold is not None
    assert 125 * MIB < foretold - guard.peaks[160] < 300 * MIB


def test_available_memory_is_bounded_by_every_control_group(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    inner = root / "job" / "step"
    inner.mkdir(parents=True)
    own.write_text("1:name=x:/other\n0::/job/step\n", encoding="utf-8")
    for folder, most in ((inner, "max"), (root / "job", str(900 * MIB))):
        (folder / "memory.max").write_text(most + "\n", encoding="utf-8")
        (folder / "memory.current").write_text(str(500 * MIB), encoding="utf-8")
        (folder / "memory.stat").write_text(
            f"anon 5\ninactive_file {100 * MIB}\n", encoding="utf-8"
        )
    assert batches._allowed_by_groups(root, own) == [500 * MIB]
    assert batches._allowed_by_groups(root, tmp_path / "absent") == []
    own.write_text("4:memory:/old\n", encoding="utf-8")
    assert batches._allowed_by_groups(root, own) == []
    assert available_bytes() > 0


LIMITED = """
import json, resource, sys
import torch
from candlemark.metrics.batches import find_largest_batch
torch.set_num_threads(1)
torch.ones(8).sum()
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 300 * 2**20,) * 2)

def run(batch):
    torch.ones(batch, 2**20, dtype=torch.uint8)

search = find_largest_batch(run, limit=4096, resolution=0)
print(json.dumps([search.largest, search.ended_by, search.detail]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps RLIMIT_AS")
def test_a_real_limit_of_memory_ends_the_search_and_not_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=120,
    )
    largest, ended_by, detail = json.loads(done.stdout.splitlines()[-1])
    assert ended_by == "memory"
    assert 200 <= largest <= 300
    assert "ran out of memory" in detail


class FakeMachine:
    """A device on which a batch takes a fixed time and each item some, in fake nanoseconds."""

    def __init__(self, *, memory: int = 10**9) -> None:
        self.host, self.memory = 0, memory

    def make_call(self, batch: int) -> Callable[[], object]:
        if batch > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        # Past 64 items the caches are full and each further item costs three times as much.
        taken = 1_000_000 + 100_000 * min(batch, 64) + 300_000 * max(0, batch - 64)

        def call() -> None:
            self.host += taken

        return call

    def clock(self) -> DeviceClock:
        return DeviceClock(
            torch.device("cpu"),
            now_ns=lambda: self.host,
            check=ClockCheck(ok=True, ratios={}, detail=""),
        )


def test_the_best_batch_is_the_one_with_the_highest_throughput() -> None:
    machine = FakeMachine()
    curve = measure_batches(machine.make_call, machine.clock(), batch_sizes=(128, 1, 16, 64))
    assert list(curve.throughput) == [1, 16, 64, 128]
    assert curve.throughput[64].value == pytest.approx(64 / 7.4e-3, rel=0.01)
    assert (curve.best.name, curve.best.value, curve.best.verdict) == (
        "best_batch",
        64.0,
        Verdict.VALID,
    )
    assert curve.best.reason == "of 1, 16, 64, 128"
    assert len(curve.samples_ms[64]) == 16


def test_sizes_beyond_memory_are_rows_without_a_value() -> None:
    machine, released = FakeMachine(memory=20), []
    curve = measure_batches(
        machine.make_call,
        machine.clock(),
        batch_sizes=(8, 16, 32, 64),
        release=lambda: released.append(1),
    )
    assert [m.value is None for m in curve.throughput.values()] == [False, False, True, True]
    assert curve.throughput[64].reason == "batch 32 ran out of memory"
    assert curve.best.value == 16
    assert released == [1]
    with pytest.raises(ValueError, match="no such item"):
        measure_batches(_broken, machine.clock(), batch_sizes=(1,))


def test_no_best_batch_without_one_that_ran() -> None:
    machine = FakeMachine(memory=0)
    curve = measure_batches(machine.make_call, machine.clock(), batch_sizes=(4,))
    assert (curve.best.value, curve.best.reason) == (None, "batch 4 ran out of memory")
    nothing = measure_batches(machine.make_call, machine.clock(), batch_sizes=())
    assert nothing.best.reason == "no batch size was tried"


def _broken(batch: int) -> Callable[[], object]:
    raise ValueError("no such item")
