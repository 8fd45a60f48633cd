"""What else went on while something was timed, and whether the number may then be quoted.

    with watch(device) as seen:
        timing = measure_latency(...)
    seen.facts                              # foreign load, clocks, throttling, ... in JSON types
    measurements = seen.apply(timing.measurements)

The machine is looked at before and after, never during: watching costs a timed section
nothing. A foreign program that takes cores makes its timings CONTENDED; cores or a GPU that
were held back by heat, by a brake or by a container's quota make them THROTTLED. What cannot
be read is None, and `facts["unknown"]` says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from candlemark.hardware import sensors
from candlemark.hardware.nvml import SLOWED, GpuReading, NvmlGpu, open_gpu
from candlemark.hardware.sensors import ProcessLoad, SensorError
from candlemark.records import Measurement, Verdict

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

FOREIGN_SHARE = 0.05
"""Contended: other processes used more than this share of the cores that we may use, or the
hypervisor gave more of them to other machines. Below it lie the daemons of a quiet machine."""
SHORTEST_S = 0.2
"""A shorter section says nothing about load: cores are counted in ticks of 10 ms, and one tick
a core would already be FOREIGN_SHARE."""
THROTTLED_SHARE = 0.01
"""Throttled: held back for more than this share of the section."""
GPU_BUSY_PERCENT = 5.0
"""Contended: another process kept the GPU's multiprocessors busy for longer."""
NAMED = 3
"""How many of the busiest foreign processes are named."""

TIMED = frozenset(
    {
        *(f"latency_{name}_ms" for name in ("p50", "p90", "p95", "p99")),
        *(f"latency_{name}_ms" for name in ("mean", "std", "min", "max")),
        *("throughput_items_per_s", "largest_batch", "best_batch"),
        *("load_s", "first_call_ms", "preprocess_ms", "transfer_ms", "postprocess_ms"),
        *("prefill_ms", "decode_ms_per_token", "generated_tokens_per_s", "real_time_factor"),
        *("energy_per_item_j", "power_w", "idle_power_w"),
        *(
            f"{stage}_{percentile}_ms"
            for stage in ("load", "preprocess", "forward", "postprocess", "case")
            for percentile in ("p50", "p95")
        ),
    }
)
"""Measurements that other work on the machine changes: latency, throughput, stages and energy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at the machine; None is unknown, and `unknown` says why, by field.

    at_s: seconds on a clock that only moves forward
    busy_s, stolen_s: of all cores that this process may use, since the system started
    own_s: CPU seconds of this process and those below it; own_pids: their ids
    processes: every process that can be seen, by id
    thermal_events: how often the cores were slowed because they were too hot
    quota_throttled_s: for how long a CPU quota has kept its processes waiting
    """

    at_s: float
    cores: int
    busy_s: float | None = None
    stolen_s: float | None = None
    own_s: float = 0.0
    own_pids: frozenset[int] = frozenset()
    processes: Mapping[int, ProcessLoad] = field(default_factory=dict)
    cpu_mhz: float | None = None
    thermal_events: int | None = None
    quota_throttled_s: float | None = None
    gpu: GpuReading | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Looks at a machine."""

    def read(self, *, first: bool) -> Reading:
        """One look; `first` is the one before the section. Must not raise."""


class FakeSource:
    """Gives readings that were made up, one after the other, to test what follows from them."""

    def __init__(self, *readings: Reading) -> None:
        self._readings = list(readings)

    def read(self, *, first: bool) -> Reading:  # noqa: ARG002 - a fake does not care
        """The next reading."""
        return self._readings.pop(0)


class MachineSource:
    """Looks at this machine and, where `device` is an NVIDIA GPU, at that."""

    def __init__(self, device: torch.device) -> None:
        self._cores = sensors.usable_cores()
        self._gpu: NvmlGpu | None = None
        self._no_gpu: str | None = None
        if device.type != "cpu":
            try:
                self._gpu = open_gpu(device)
            except SensorError as error:
                self._no_gpu = str(error)

    def read(self, *, first: bool) -> Reading:
        """One look, the counters of time closest to the section: other looks take their own."""
        unknown = {} if self._no_gpu is None else {"gpu": self._no_gpu}
        values: dict[str, Any] = {}
        slow: list[Callable[[], None]] = [
            lambda: values.update(processes=sensors.process_loads()),
            lambda: values.update(gpu=None if self._gpu is None else self._gpu.read()),
            lambda: self._look(values, unknown, "cpu_mhz", sensors.frequency_mhz),
            lambda: self._look(values, unknown, "thermal_events", sensors.thermal_events),
            lambda: self._count_quota(values, unknown),
        ]
        counted = [lambda: self._count(values, unknown)]
        for look in slow + counted if first else counted + slow:
            look()
        return Reading(cores=len(self._cores), **values, unknown=unknown)

    def _count(self, values: dict[str, Any], unknown: dict[str, str]) -> None:
        values["own_pids"], values["own_s"] = sensors.own_processes()
        values["at_s"] = time.monotonic()
        try:
            values["busy_s"], values["stolen_s"] = sensors.core_seconds(self._cores)
        except SensorError as error:
            unknown["foreign_load_cores"] = unknown["stolen_cores"] = str(error)

    def _count_quota(self, values: dict[str, Any], unknown: dict[str, str]) -> None:
        self._look(values, unknown, "quota_throttled_s", lambda _: sensors.quota_throttled_s())

    def _look(
        self,
        values: dict[str, Any],
        unknown: dict[str, str],
        name: str,
        look: Callable[[tuple[int, ...]], object],
    ) -> None:
        try:
            values[name] = look(self._cores)
        except SensorError as error:
            unknown[name] = str(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Why what was timed may not be quoted."""

    verdict: Verdict
    reason: str


class Watch:
    """A context manager around a timed section; `facts`, `findings` and `apply` after it.

    source: looks at the machine; `FakeSource` in tests
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._before: Reading | None = None
        self._after: Reading | None = None

    def __enter__(self) -> Self:
        self._after = None
        self._before = self._source.read(first=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._after = self._source.read(first=False)

    @property
    def facts(self) -> dict[str, Any]:
        """What was seen, in JSON types; loads in cores, times in seconds of the section."""
        return _facts(*self._readings())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every reason not to quote; empty where nothing was seen."""
        return tuple(_findings(*self._readings()))

    def apply(self, measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
        """The same measurements, timings marked with what was found.

        Those that are VALID so far get its verdict. UNSTABLE ones keep theirs and are told it,
        too: it is what a longer budget would not mend.
        """
        findings = self.findings
        if not findings:
            return tuple(measurements)
        verdicts = {finding.verdict for finding in findings}
        verdict = Verdict.CONTENDED if Verdict.CONTENDED in verdicts else Verdict.THROTTLED
        found = "; ".join(finding.reason for finding in findings)
        return tuple(
            replace(
                m,
                verdict=verdict if m.verdict is Verdict.VALID else m.verdict,
                reason="; ".join(filter(None, [m.reason, found])),
            )
            if m.name in TIMED
            and m.verdict in {Verdict.VALID, Verdict.UNSTABLE}
            and m.value is not None
            else m
            for m in measurements
        )

    def _readings(self) -> tuple[Reading, Reading]:
        if self._before is None or self._after is None:
            raise RuntimeError("nothing was watched yet: read facts after `with watch(...)`")
        return self._before, self._after


def watch(device: torch.device, *, source: Source | None = None) -> Watch:
    """Watch the machine around a section timed on `device`."""
    return Watch(MachineSource(device) if source is None else source)


def _findings(before: Reading, after: Reading) -> Iterable[Finding]:
    seconds = after.at_s - before.at_s
    facts = _facts(before, after)
    foreign, stolen = facts["foreign_load_cores"], facts["stolen_cores"]
    if foreign is not None and foreign > FOREIGN_SHARE * after.cores:
        names = ", ".join(entry["name"] for entry in facts["busiest_foreign"]) or "none in sight"
        yield Finding(
            verdict=Verdict.CONTENDED,
            reason=f"other processes used {foreign:.2f} of {after.cores} cores ({names})",
        )
    if stolen is not None and stolen > FOREIGN_SHARE * after.cores:
        yield Finding(
            verdict=Verdict.CONTENDED,
            reason=f"the hypervisor took {stolen:.2f} of {after.cores} cores",
        )
    if after.gpu is not None:
        yield from _gpu_findings(before, after, seconds)
    events, quota = facts["thermal_events"], facts["quota_throttled_s"]
    if events:
        yield Finding(
            verdict=Verdict.THROTTLED,
            reason=f"the cores were slowed because they were too hot ({events} more events)",
        )
    if quota is not None and quota > THROTTLED_SHARE * seconds:
        yield Finding(
            verdict=Verdict.THROTTLED,
            reason=f"a CPU quota kept these processes waiting for {quota:.2f} s",
        )


def _gpu_findings(before: Reading, after: Reading, seconds: float) -> Iterable[Finding]:
    gpu = after.gpu
    if gpu is None:
        return
    others = _gpu_rivals(gpu, after.own_pids)
    if others:
        yield Finding(verdict=Verdict.CONTENDED, reason=others)
    earlier = before.gpu or GpuReading()
    slowed = sorted(SLOWED & {*(gpu.reasons or ()), *(earlier.reasons or ())})
    hot_s = _difference(earlier.thermal_slowdown_s, gpu.thermal_slowdown_s)
    if slowed:
        yield Finding(verdict=Verdict.THROTTLED, reason=f"the GPU was slowed: {', '.join(slowed)}")
    elif hot_s is not None and hot_s > THROTTLED_SHARE * seconds:
        yield Finding(
            verdict=Verdict.THROTTLED, reason=f"the GPU was too hot and slowed for {hot_s:.2f} s"
        )


def _gpu_rivals(gpu: GpuReading, own: frozenset[int]) -> str | None:
    """Who else computes on the GPU, in one sentence; None where nobody does or none can be seen.

    In a container the driver may count processes by the host's ids. Then one of them is this
    process, and the busiest is taken for it.
    """
    held = {process.pid: process.name for process in gpu.processes or ()}
    if gpu.utilisation is not None:
        busy = {pid: use for pid, use in gpu.utilisation.items() if use > GPU_BUSY_PERCENT}
        rivals = sorted((pid for pid in busy if pid not in own), key=lambda pid: -busy[pid])
        doing = "kept the GPU busy"
    else:
        rivals = [pid for pid in held if pid not in own]
        doing = "held a compute context on the GPU, and the driver does not say what it did there"
    if rivals and not own & {*held, *(gpu.utilisation or ())}:
        rivals = rivals[1:]
    if not rivals:
        return None
    names = ", ".join(held.get(pid) or f"process {pid}" for pid in rivals[:NAMED])
    return f"{len(rivals)} other process{'es' if len(rivals) > 1 else ''} {doing} ({names})"


def _facts(before: Reading, after: Reading) -> dict[str, Any]:
    seconds = after.at_s - before.at_s
    unknown = {**before.unknown, **after.unknown}
    own_s = max(after.own_s - before.own_s, 0.0)
    busy_s = _difference(before.busy_s, after.busy_s)
    stolen_s = _difference(before.stolen_s, after.stolen_s)
    if seconds < SHORTEST_S:
        unknown["foreign_load_cores"] = unknown["stolen_cores"] = (
            f"the section lasted {seconds:.3g} s; load is told from {SHORTEST_S} s on"
        )
        busy_s = stolen_s = None
    elif busy_s is not None and busy_s < 0.5 * own_s:
        unknown["foreign_load_cores"] = "the system counts less work than this process alone did"
        busy_s = None
    foreign = [
        {"name": name, "cores": round(used / seconds, 3)}
        for name, used in sensors.busiest(before.processes, after.processes, but=after.own_pids)
        if used > 0.01 * seconds
    ]
    facts = {
        "section_s": round(seconds, 4),
        "usable_cores": after.cores,
        "own_load_cores": _rate(own_s, seconds),
        "foreign_load_cores": None if busy_s is None else _rate(max(busy_s - own_s, 0.0), seconds),
        "busiest_foreign": foreign[:NAMED],
        "stolen_cores": _rate(stolen_s, seconds),
        "cpu_mhz_before": before.cpu_mhz,
        "cpu_mhz_after": after.cpu_mhz,
        "thermal_events": _difference(before.thermal_events, after.thermal_events),
        "quota_throttled_s": _difference(before.quota_throttled_s, after.quota_throttled_s),
        "gpu": None if after.gpu is None else _gpu_facts(before.gpu or GpuReading(), after),
    }
    return {**facts, "unknown": unknown}


def _gpu_facts(before: GpuReading, after: Reading) -> dict[str, Any]:
    now = after.gpu or GpuReading()
    foreign = [
        {"pid": process.pid, "name": process.name, "memory_bytes": process.memory_bytes}
        for process in now.processes or ()
        if process.pid not in after.own_pids
    ]
    return {
        "driver": now.driver,
        "sm_clock_mhz_before": before.sm_clock_mhz,
        "sm_clock_mhz_after": now.sm_clock_mhz,
        "memory_clock_mhz": now.memory_clock_mhz,
        "temperature_c_before": before.temperature_c,
        "temperature_c_after": now.temperature_c,
        "power_w_after": now.power_w,
        "power_cap_w": now.power_cap_w,
        "clock_reasons_after": None if now.reasons is None else list(now.reasons),
        "thermal_slowdown_s": _difference(before.thermal_slowdown_s, now.thermal_slowdown_s),
        "power_capped_s": _difference(before.power_capped_s, now.power_capped_s),
        "foreign_processes": None if now.processes is None else foreign,
        "unknown": dict(now.unknown),
    }


def _difference(before: Any, after: Any) -> Any:
    """What a counter that only rises gained; None where either look is unknown."""
    return None if before is None or after is None else max(after - before, 0)


def _rate(amount: float | None, seconds: float) -> float | None:
    return None if amount is None or seconds <= 0 else round(amount / seconds, 4)
