"""What the system tells about its processors: files and counters, each of which may be missing.

    temperature = read_number(Path("/sys/class/thermal/thermal_zone0/temp"))

A sensor that cannot be read raises SensorError, which says why in words; whoever asked turns
it into "unknown, because". It never ends a run.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
CPU_FOLDER = Path("/sys/devices/system/cpu")
CGROUP_FOLDER = Path("/sys/fs/cgroup")


class SensorError(Exception):
    """A sensor is missing, closed to us or broken; the message is the reason, for a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLoad:
    """One process: CPU seconds since it was started."""

    pid: int
    started_at: float
    name: str
    cpu_s: float


def read_number(path: Path) -> int:
    """The integer that a file of the kernel holds."""
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise SensorError(f"this system has no {path}") from None
    except PermissionError:
        raise SensorError(f"{path} may not be read by this user") from None
    except (OSError, ValueError) as error:
        raise SensorError(f"{path} cannot be read: {error}") from error


def cpu_name(cpu_info: Path = CPU_INFO) -> str | None:
    """The processor's model; None where the system names none."""
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or None


def usable_cores() -> tuple[int, ...]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def core_seconds(cores: Iterable[int]) -> tuple[float, float]:
    """(busy, stolen) seconds of these cores since the system started, counted in ticks.

    Stolen: the hypervisor ran something else although we were ready.
    """
    import psutil

    try:
        times = psutil.cpu_times(percpu=True)
    except (OSError, RuntimeError, NotImplementedError) as error:
        raise SensorError(f"the system does not say how busy its cores are: {error}") from error
    chosen = [times[core] for core in cores if core < len(times)] or times
    busy = sum(
        core.user + core.system + sum(getattr(core, name, 0.0) for name in _BUSY) for core in chosen
    )
    return busy, sum(getattr(core, "steal", 0.0) for core in chosen)


_BUSY = ("nice", "irq", "softirq")


def own_processes() -> tuple[frozenset[int], float]:
    """Process ids of this process and all below it, and the CPU seconds that they used so far.

    Children that ended count too, once they have been waited for.
    """
    import psutil

    ended = os.times()
    seconds = time.process_time() + ended.children_user + ended.children_system
    pids = {os.getpid()}
    try:
        children = psutil.Process().children(recursive=True)
    except psutil.Error:
        children = []
    for child in children:
        try:
            used = child.cpu_times()
        except psutil.Error:
            continue
        pids.add(child.pid)
        seconds += used.user + used.system + used.children_user + used.children_system
    return frozenset(pids), seconds


def process_loads() -> dict[int, ProcessLoad]:
    """Every process that this one can see, by id."""
    import psutil

    found = {}
    for process in psutil.process_iter(["name", "cpu_times", "create_time"]):
        info = process.info
        if info["cpu_times"] is not None:
            found[process.pid] = ProcessLoad(
                pid=process.pid,
                started_at=info["create_time"] or 0.0,
                name=info["name"] or str(process.pid),
                cpu_s=info["cpu_times"].user + info["cpu_times"].system,
            )
    return found


def busiest(
    before: Mapping[int, ProcessLoad], after: Mapping[int, ProcessLoad], *, but: frozenset[int]
) -> list[tuple[str, float]]:
    """(name, CPU seconds between two looks) of all processes but those, the busiest first."""
    used: dict[str, float] = {}
    for pid, load in after.items():
        earlier = before.get(pid)
        same = earlier is not None and earlier.started_at == load.started_at
        seconds = load.cpu_s - (earlier.cpu_s if earlier is not None and same else 0.0)
        if pid not in but and seconds > 0:
            used[load.name] = used.get(load.name, 0.0) + seconds
    return sorted(used.items(), key=lambda entry: -entry[1])


def frequency_mhz(cores: Iterable[int], folder: Path = CPU_FOLDER) -> float:
    """Mean clock of these cores now."""
    files = [folder / f"cpu{core}" / "cpufreq" / "scaling_cur_freq" for core in cores]
    if files and all(file.exists() for file in files):
        return sum(read_number(file) for file in files) / len(files) / 1000
    import psutil

    try:
        frequency = psutil.cpu_freq()
    except (OSError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise SensorError(f"the system does not tell its cores' clocks: {error}") from error
    if frequency is None or not frequency.current:
        raise SensorError("the system does not tell its cores' clocks")
    return float(frequency.current)


def thermal_events(cores: Iterable[int], folder: Path = CPU_FOLDER) -> int:
    """How often these cores or their package were slowed down because they were too hot."""
    files = [
        folder / f"cpu{core}" / "thermal_throttle" / name
        for core in cores
        for name in ("core_throttle_count", "package_throttle_count")
    ]
    present = [file for file in files if file.exists()]
    if not present:
        raise SensorError("this system does not count thermal throttling of its cores")
    return sum(read_number(file) for file in present)


def quota_throttled_s(
    folder: Path = CGROUP_FOLDER, membership: Path = Path("/proc/self/cgroup")
) -> float:
    """Seconds for which a CPU quota, of a container or a service, has kept its processes waiting.

    Quotas nest; that of the group that waited longest is told.
    """
    found = []
    for group in _control_groups(folder, membership):
        try:
            lines = (group / "cpu.stat").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            word, _, value = line.partition(" ")
            if word in _THROTTLED:
                found.append(int(value) * _THROTTLED[word])
    if not found:
        raise SensorError("no CPU quota is set, or the system does not say what it cost")
    return max(found)


_THROTTLED = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
"""Names in the two versions of control groups, and their units in seconds."""


def _control_groups(folder: Path, membership: Path) -> list[Path]:
    """Folders of this process's groups and all above them, in either version."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    groups = [folder, folder / "cpu"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in {"", "cpu", "cpu,cpuacct"}:
            root = folder / "cpu" if controllers else folder
            parts = [part for part in path.split("/") if part not in {"", ".."}]
            groups += [root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return groups
