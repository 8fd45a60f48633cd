"""Counters of the system: read where they are, refused with the reason where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from candlemark.hardware import sensors as module
from candlemark.hardware.sensors import (
    ProcessLoad,
    SensorError,
    busiest,
    core_seconds,
    frequency_mhz,
    own_processes,
    process_loads,
    quota_throttled_s,
    read_number,
    thermal_events,
    usable_cores,
)

SPIN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


@pytest.fixture
def spinning():
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    yield process
    process.kill()
    process.wait()


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_number_is_read_or_refused_with_the_reason(tmp_path, monkeypatch):
    path = write(tmp_path, "number", " 17\n")
    assert read_number(path) == 17
    with pytest.raises(SensorError, match=r"this system has no .*absent"):
        read_number(tmp_path / "absent")
    with pytest.raises(SensorError, match="cannot be read: invalid literal"):
        read_number(write(tmp_path, "word", "seven"))

    def closed(*_, **__):
        raise PermissionError

    monkeypatch.setattr(module.Path, "read_text", closed)
    with pytest.raises(SensorError, match="may not be read by this user"):
        read_number(path)


def test_usable_cores_are_some_of_the_machine():
    assert 1 <= len(usable_cores()) <= os.cpu_count()


def test_busy_cores_count_forward_and_name_what_this_process_did():
    cores = usable_cores()
    busy, stolen = core_seconds(cores)
    _, own = own_processes()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    assert own_processes()[1] - own >= 0.3
    # Ticks of 10 ms, one at either end of each core.
    assert core_seconds(cores)[0] - busy >= 0.3 - 0.02 * len(cores)
    assert core_seconds(cores)[1] >= stolen


def test_children_are_ours_while_they_run_and_after(spinning):
    time.sleep(0.5)
    pids, seconds = own_processes()
    assert {os.getpid(), spinning.pid} <= pids
    spinning.kill()
    spinning.wait()
    assert own_processes()[1] >= seconds - 0.02
    assert spinning.pid not in own_processes()[0]


def test_processes_are_seen_by_id(spinning):
    assert process_loads()[spinning.pid].cpu_s >= 0


def test_cores_that_cannot_be_counted_are_refused(monkeypatch):
    import psutil

    def broken(**_):
        raise OSError("no /proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", broken)
    with pytest.raises(SensorError, match="how busy its cores are: no /proc/stat"):
        core_seconds((0,))


def load(pid, name, cpu_s, started_at=1.0):
    return ProcessLoad(pid=pid, started_at=started_at, name=name, cpu_s=cpu_s)


def test_the_busiest_are_told_by_what_they_used_in_between():
    before = {1: load(1, "init", 100), 2: load(2, "build", 5), 3: load(3, "reused", 50)}
    after = {
        1: load(1, "init", 100),  # did nothing
        2: load(2, "build", 7),
        3: load(3, "another", 1.5, started_at=9.0),  # its id was given to a new process
        4: load(4, "build", 3),  # new, and of the same name
        5: load(5, "ours", 99),
    }
    assert busiest(before, after, but=frozenset({5})) == [("build", 5), ("another", 1.5)]


def test_clocks_of_the_usable_cores_are_averaged(tmp_path):
    for core, khz in ((0, 2_000_000), (1, 3_000_000), (2, 9_000_000)):
        write(tmp_path, f"cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")
    assert frequency_mhz((0, 1), tmp_path) == 2500


@pytest.mark.parametrize("answer", [None, OSError("no file"), NotImplementedError()])
def test_clocks_that_nobody_tells_are_refused(tmp_path, monkeypatch, answer):
    import psutil

    def ask():
        if answer is not None:
            raise answer

    monkeypatch.setattr(psutil, "cpu_freq", ask)
    with pytest.raises(SensorError, match="does not tell its cores' clocks"):
        frequency_mhz((0,), tmp_path)


def test_thermal_events_are_those_of_the_usable_cores(tmp_path):
    for core, kind, count in ((0, "core", 2), (0, "package", 1), (1, "core", 4), (5, "core", 70)):
        write(tmp_path, f"cpu{core}/thermal_throttle/{kind}_throttle_count", f"{count}\n")
    assert thermal_events((0, 1), tmp_path) == 7
    with pytest.raises(SensorError, match="does not count thermal throttling"):
        thermal_events((9,), tmp_path)


def test_a_quota_is_read_from_either_version_of_control_groups(tmp_path):
    new = tmp_path / "two"
    write(new, "cpu.stat", "usage_usec 1\nnr_throttled 3\nthrottled_usec 2500000\n")
    assert quota_throttled_s(new, tmp_path / "absent") == 2.5
    old = tmp_path / "one"
    write(old, "cpu/cpu.stat", "nr_periods 3\nthrottled_time 1500000000\n")
    assert quota_throttled_s(old, tmp_path / "absent") == 1.5
    with pytest.raises(SensorError, match="no CPU quota is set"):
        quota_throttled_s(tmp_path, tmp_path / "absent")


@pytest.mark.parametrize(
    ("line", "root"), [("0::/system.slice/job", ""), ("4:cpu,cpuacct:/system.slice/job", "cpu/")]
)
def test_the_tightest_quota_above_this_process_counts(tmp_path, line, root):
    membership = write(tmp_path, "membership", f"1:name=systemd:/elsewhere\n{line}\n")
    for path, seconds in (("", 0), ("system.slice/", 3), ("system.slice/job/", 1)):
        write(tmp_path, f"{root}{path}cpu.stat", f"throttled_usec {seconds * 10**6}\n")
    write(tmp_path, "elsewhere/cpu.stat", "throttled_usec 99000000\n")
    assert quota_throttled_s(tmp_path, membership) == 3
