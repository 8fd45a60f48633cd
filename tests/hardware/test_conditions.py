"""What else ran is found out, and decides whether a number may be quoted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from candlemark.hardware.conditions import (
    FOREIGN_SHARE,
    SHORTEST_S,
    TIMED,
    FakeSource,
    MachineSource,
    Reading,
    watch,
)
from candlemark.hardware.nvml import GpuProcess, GpuReading
from candlemark.hardware.sensors import ProcessLoad, SensorError, usable_cores
from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement, Verdict

CPU = torch.device("cpu")
QUIET = Reading(
    at_s=100.0,
    cores=4,
    busy_s=1000.0,
    stolen_s=5.0,
    own_s=50.0,
    own_pids=frozenset({7}),
    thermal_events=3,
    quota_throttled_s=1.0,
)
GPU = GpuReading(
    sm_clock_mhz=1980,
    reasons=(),
    thermal_slowdown_s=4.0,
    processes=(GpuProcess(pid=7, name="python", memory_bytes=1),),
    utilisation={7: 95.0},
)


def after(reading=QUIET, *, seconds=2.0, own=4.0, foreign=0.0, stolen=0.0, **changes):
    return replace(
        reading,
        at_s=reading.at_s + seconds,
        busy_s=reading.busy_s + own + foreign,
        stolen_s=reading.stolen_s + stolen,
        own_s=reading.own_s + own,
        **changes,
    )


def watched(first, last):
    with watch(CPU, source=FakeSource(first, last)) as seen:
        pass
    return seen


def found(first, last):
    return [(f.verdict, f.reason) for f in watched(first, last).findings]


def latency(value=3.0, verdict=Verdict.VALID, reason=None, name="latency_p50_ms"):
    return Measurement(name=name, value=value, unit="ms", verdict=verdict, reason=reason)


def test_a_quiet_machine_changes_nothing():
    seen = watched(QUIET, after())
    assert seen.findings == ()
    assert seen.apply([latency()]) == (latency(),)
    facts = seen.facts
    assert (facts["section_s"], facts["own_load_cores"], facts["foreign_load_cores"]) == (2, 2, 0)
    assert (facts["stolen_cores"], facts["thermal_events"]) == (0, 0)


def test_foreign_load_is_contention_above_its_share_of_the_cores():
    allowed = FOREIGN_SHARE * 4 * 2.0  # of four cores for two seconds
    assert found(QUIET, after(foreign=allowed * 0.99)) == []
    ((verdict, reason),) = found(QUIET, after(foreign=allowed * 1.1))
    assert verdict is Verdict.CONTENDED
    assert reason == "other processes used 0.22 of 4 cores (none in sight)"


def test_the_busiest_foreign_processes_are_named_and_ours_is_not():
    before = {pid: ProcessLoad(pid=pid, started_at=1, name=name, cpu_s=10) for pid, name in NAMES}
    used = {pid: replace(load, cpu_s=10 + pid / 2) for pid, load in before.items()}
    last = after(replace(QUIET, processes=before), foreign=8.0, processes=used)
    ((_, reason),) = found(replace(QUIET, processes=before), last)
    assert reason == "other processes used 4.00 of 4 cores (compiler, browser, indexer)"


NAMES = [(7, "ours"), (6, "compiler"), (5, "browser"), (4, "indexer"), (3, "player")]


def test_stolen_time_is_contention():
    ((verdict, reason),) = found(QUIET, after(stolen=0.6))
    assert (verdict, reason) == (Verdict.CONTENDED, "the hypervisor took 0.30 of 4 cores")


def test_hot_cores_and_a_quota_are_throttling():
    ((verdict, reason),) = found(QUIET, after(thermal_events=5))
    assert (verdict, reason) == (
        Verdict.THROTTLED,
        "the cores were slowed because they were too hot (2 more events)",
    )
    ((verdict, reason),) = found(QUIET, after(quota_throttled_s=1.5))
    assert verdict is Verdict.THROTTLED
    assert reason == "a CPU quota kept these processes waiting for 0.50 s"


def test_a_section_too_short_for_ticks_says_nothing_about_load():
    short = SHORTEST_S / 2
    seen = watched(QUIET, after(seconds=short, own=0.1, foreign=0.4, stolen=0.2))
    assert seen.findings == ()
    assert seen.facts["foreign_load_cores"] is None
    assert seen.facts["unknown"]["foreign_load_cores"] == (
        "the section lasted 0.1 s; load is told from 0.2 s on"
    )


def test_a_system_that_does_not_count_is_not_believed():
    seen = watched(QUIET, replace(after(), busy_s=QUIET.busy_s))
    assert seen.facts["foreign_load_cores"] is None
    assert "less work than this process" in seen.facts["unknown"]["foreign_load_cores"]


def test_unknown_stays_unknown_with_its_reason():
    nothing = Reading(at_s=1.0, cores=2, unknown={"cpu_mhz": "no such file"})
    seen = watched(nothing, replace(nothing, at_s=2.0))
    assert seen.findings == ()
    assert seen.facts["foreign_load_cores"] is None
    assert seen.facts["thermal_events"] is None
    assert seen.facts["unknown"] == {"cpu_mhz": "no such file"}


def on_gpu(**changes):
    return replace(QUIET, gpu=GPU), after(replace(QUIET, gpu=replace(GPU, **changes)))


def test_a_gpu_of_our_own_changes_nothing():
    assert found(*on_gpu()) == []


OURS, OTHER = GPU.processes[0], GpuProcess(pid=9, name="trainer", memory_bytes=2)


def test_another_process_at_work_on_the_gpu_is_contention():
    ((verdict, reason),) = found(*on_gpu(processes=(OURS, OTHER), utilisation={7: 50.0, 9: 40.0}))
    assert verdict is Verdict.CONTENDED
    assert reason == "1 other process kept the GPU busy (trainer)"


def test_another_process_that_idles_on_the_gpu_is_not():
    assert found(*on_gpu(processes=(OURS, OTHER), utilisation={7: 95.0, 9: 1.0})) == []


def test_where_the_driver_tells_no_work_a_context_counts():
    ((_, reason),) = found(*on_gpu(processes=(OURS, OTHER), utilisation=None))
    assert reason == (
        "1 other process held a compute context on the GPU, and the driver does not say what it "
        "did there (trainer)"
    )


def test_in_a_container_one_unknown_process_is_this_one():
    hidden = GpuProcess(pid=30_007, name=None, memory_bytes=1)
    assert found(*on_gpu(processes=(hidden,), utilisation=None)) == []
    assert found(*on_gpu(processes=(hidden,), utilisation={30_007: 90.0})) == []
    ((_, reason),) = found(*on_gpu(processes=(hidden, OTHER), utilisation={30_007: 60.0, 9: 30.0}))
    assert reason == "1 other process kept the GPU busy (trainer)"


def test_a_gpu_held_back_is_throttled_and_a_power_cap_is_a_setting():
    ((verdict, reason),) = found(*on_gpu(reasons=("power cap", "hardware thermal slowdown")))
    assert (verdict, reason) == (
        Verdict.THROTTLED,
        "the GPU was slowed: hardware thermal slowdown",
    )
    ((verdict, reason),) = found(*on_gpu(thermal_slowdown_s=4.5))
    assert (verdict, reason) == (
        Verdict.THROTTLED,
        "the GPU was too hot and slowed for 0.50 s",
    )
    assert found(*on_gpu(reasons=("power cap",), power_capped_s=1.0)) == []


def test_timings_are_marked_and_what_is_unstable_is_told_why():
    seen = watched(QUIET, after(foreign=4.0, thermal_events=4))
    measurements = [
        latency(reason="the time budget ended"),
        latency(verdict=Verdict.UNSTABLE, reason="the clock stood still"),
        latency(value=None, verdict=Verdict.VALID, reason="not asked"),
        latency(name="flops"),
        latency(name="peak_memory_bytes"),
    ]
    marked, unstable, *rest = seen.apply(measurements)
    assert rest == measurements[2:]
    assert unstable.verdict is Verdict.UNSTABLE
    assert str(unstable.reason).startswith("the clock stood still; other processes used 2.00 of 4")
    assert marked.verdict is Verdict.CONTENDED
    assert marked.reason == (
        "the time budget ended; other processes used 2.00 of 4 cores (none in sight); "
        "the cores were slowed because they were too hot (1 more events)"
    )
    (only_hot,) = watched(QUIET, after(thermal_events=4)).apply([latency()])
    assert only_hot.verdict is Verdict.THROTTLED


def test_what_is_timed_are_the_groups_of_the_table():
    groups = {"latency", "throughput", "stages", "energy", "scans"}
    assert {name for name, m in MEASURES.items() if m.group in groups} == TIMED


def test_facts_come_after_the_section():
    seen = watch(CPU, source=FakeSource(QUIET, after()))
    with pytest.raises(RuntimeError, match="nothing was watched yet"):
        _ = seen.facts
    with seen, pytest.raises(RuntimeError, match="nothing was watched yet"):
        seen.apply([])
    assert seen.facts["usable_cores"] == 4


def test_an_error_inside_is_not_hidden():
    seen = watch(CPU, source=FakeSource(QUIET, after()))
    with pytest.raises(ValueError, match="of the section"), seen:
        raise ValueError("of the section")


SPIN = "import time; end = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
ORPHANS = """
import subprocess, sys
spin = [sys.executable, "-c", sys.argv[1]]
for _ in range(int(sys.argv[2])):
    print(subprocess.Popen(spin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
"""


@pytest.fixture
def spinning_on_every_core():
    """Programs that are nobody's children, because the one that started them has ended."""
    import psutil

    count = str(len(usable_cores()))
    command = [sys.executable, "-c", ORPHANS, SPIN, count]
    started = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    processes = [psutil.Process(int(pid)) for pid in started.stdout.split()]
    yield processes
    for process in processes:
        process.kill()


def test_programs_that_spin_on_every_core_are_contention(spinning_on_every_core):
    with watch(CPU) as seen:
        time.sleep(1.0)
    assert all(process.is_running() for process in spinning_on_every_core)
    (marked,) = seen.apply([latency()])
    assert marked.verdict is Verdict.CONTENDED
    assert "other processes used" in marked.reason
    # Whatever else runs on this machine can only add to the load.
    assert seen.facts["foreign_load_cores"] > 0.5 * len(usable_cores())
    assert seen.facts["busiest_foreign"]


def test_facts_of_this_machine_are_plain_json():
    with watch(CPU) as seen:
        time.sleep(0.25)
    assert json.loads(json.dumps(seen.facts)) == seen.facts
    assert seen.facts["section_s"] >= 0.25
    assert seen.facts["usable_cores"] == len(usable_cores())


def test_a_machine_without_any_sensor_is_watched_all_the_same(monkeypatch):
    from candlemark.hardware import conditions, sensors

    def absent(*_):
        raise SensorError("nothing here")

    names = ("core_seconds", "frequency_mhz", "thermal_events", "quota_throttled_s")
    for name in names:
        monkeypatch.setattr(sensors, name, absent)
    monkeypatch.setattr(conditions, "open_gpu", absent)
    with watch(torch.device("cuda:0")) as seen:
        pass
    assert seen.findings == ()
    assert set(seen.facts["unknown"]) >= {
        *("gpu", "cpu_mhz", "thermal_events", "quota_throttled_s", "foreign_load_cores"),
    }


def test_a_gpu_is_read_before_and_after(monkeypatch):
    from candlemark.hardware import conditions

    class Hot:
        clocks = iter([1980, 1200])

        def read(self):
            return replace(GPU, sm_clock_mhz=next(self.clocks), reasons=("power brake",))

    monkeypatch.setattr(conditions, "open_gpu", lambda _: Hot())
    with watch(torch.device("cuda:0"), source=MachineSource(torch.device("cuda:0"))) as seen:
        pass
    gpu = seen.facts["gpu"]
    assert (gpu["sm_clock_mhz_before"], gpu["sm_clock_mhz_after"]) == (1980, 1200)
    assert [f.verdict for f in seen.findings if "GPU" in f.reason][-1] is Verdict.THROTTLED
