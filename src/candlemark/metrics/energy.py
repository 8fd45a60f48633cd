"""Joules an item, from a counter of the hardware, idle power subtracted.

    measured = measure_energy(lambda: module(images), device, items_per_call=64)
    # energy_per_item_j, power_w, idle_power_w; each says where it comes from

Counters: NVML's total energy of a GPU, else its power integrated over time; RAPL's packages for
a CPU. A counter moves in steps, so a window must hold many of them: the step is measured first,
and where the window is too short the value is None with the length that it would take. Energy
is of the whole GPU or of all CPU packages: what else runs there is in it.

Sources: NVML API reference (nvmlDeviceGetTotalEnergyConsumption); Linux, Documentation/power/
powercap; for the steps of GPU sensors Yang, Adamek and Armour, arXiv:2312.02741.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from candlemark.hardware.device import synchronise
from candlemark.hardware.nvml import NvmlGpu, open_gpu
from candlemark.hardware.sensors import SensorError, read_number
from candlemark.records import Measurement, Verdict

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
STEPS_A_WINDOW = 20
"""A window holds at least so many steps of its counter: both its ends are uncertain by less than
one step, its energy so by 5 % at most."""
STANDSTILL_S = 1.0
"""A counter that does not move for so long does not count."""
QUEUED_S = 0.02
"""Calls are queued for about so long before the device is waited for."""

UNITS = {"energy_per_item_j": "J", "power_w": "W", "idle_power_w": "W"}


class Counter(Protocol):
    """Counts joules from some moment on.

    origin: what it is, for a record
    step_s: how often it moves; None: to be found out
    polled: it adds up what it is shown, so it must be read while it counts
    """

    origin: str
    step_s: float | None
    polled: bool

    def joules(self) -> float:
        """The count now; never less than before. Raises SensorError."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds, and a way to let them pass."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


class NvmlEnergy:
    """The energy counter of an NVIDIA GPU, Volta and later."""

    origin = "NVML total energy counter of the GPU"
    step_s: float | None = None
    polled = False

    def __init__(self, gpu: NvmlGpu) -> None:
        self._gpu = gpu
        gpu.energy_j()  # raises where this GPU has none

    def joules(self) -> float:
        """Since the driver was loaded."""
        return self._gpu.energy_j()


class NvmlPower:
    """Power of an older NVIDIA GPU, taken as constant from one reading to the next."""

    origin = "NVML power of the GPU, integrated"
    step_s: float | None = 0.1
    """No change can be polled for, as power may stand still; sensors refresh in 10 to 100 ms."""
    polled = True

    def __init__(self, gpu: NvmlGpu, clock: Clock = Clock()) -> None:
        self._gpu = gpu
        self._clock = clock
        self._total = 0.0
        self._power, self._at = gpu.power_w(), clock.now()

    def joules(self) -> float:
        """Since this object was made."""
        power, now = self._gpu.power_w(), self._clock.now()
        self._total += (self._power + power) / 2 * (now - self._at)
        self._power, self._at = power, now
        return self._total


class Rapl:
    """All CPU packages; AMD's, too, are listed under Intel's name. Memory is not in it.

    Parts of a package (cores, uncore) and the whole platform (psys) are left out: they would
    count the same joules again. A count that passes its range starts at 0 again, which is seen
    as long as it is read once a round: some minutes at least.

    Raises SensorError: there are no packages, or this user may not read them.
    """

    origin = "RAPL counters of the CPU packages"
    step_s: float | None = None
    polled = False

    def __init__(self, folder: Path = POWERCAP) -> None:
        self._files = [domain / "energy_uj" for domain in _packages(folder)]
        if not self._files:
            raise SensorError(f"this system has no RAPL counter below {folder}")
        self._ranges = [read_number(file.parent / "max_energy_range_uj") for file in self._files]
        self._last = self._read()
        self._total_uj = 0

    def joules(self) -> float:
        """Since this object was made."""
        now = self._read()
        for before, after, span in zip(self._last, now, self._ranges, strict=True):
            self._total_uj += after - before if after >= before else after - before + span
        self._last = now
        return self._total_uj / 1e6

    def _read(self) -> list[int]:
        for file in self._files:
            if file.exists() and not _readable(file):
                raise SensorError(
                    f"{file} may be read by root only; to open it until the next start: "
                    f"sudo chmod a+r {file.parent.parent}/intel-rapl:*/energy_uj"
                )
        return [read_number(file) for file in self._files]


def _readable(file: Path) -> bool:
    try:
        file.open("rb").close()
    except PermissionError:
        return False
    except OSError:
        return True  # the read says what is wrong
    return True


def _packages(folder: Path) -> list[Path]:
    """Domains of whole packages: `intel-rapl:0` is one, `intel-rapl:0:1` is a part of it."""
    found = []
    for domain in sorted(folder.glob("intel-rapl:*")):
        try:
            name = (domain / "name").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if domain.name.count(":") == 1 and name.startswith("package"):
            found.append(domain)
    return found


class FakeCounter:
    """A counter of a known power that moves once in `step_s`, to test what is made of it."""

    def __init__(
        self, power_w: Callable[[float], float], clock: Clock, *, step_s: float = 0.0
    ) -> None:
        """power_w: watts at a time of the clock, read once a step."""
        self.origin = "fake counter"
        self.step_s: float | None = None
        self.polled = False
        self._power, self._clock, self._step = power_w, clock, step_s
        self._total, self._at = 0.0, clock.now()

    def joules(self) -> float:
        """Since this object was made, up to the last whole step."""
        now = self._clock.now()
        while self._step and self._at + self._step <= now:
            self._total += self._power(self._at) * self._step
            self._at += self._step
        return self._total


def open_counter(device: torch.device) -> Counter:
    """The counter that holds the energy of `device`. Raises SensorError where there is none."""
    if device.type == "cpu":
        return Rapl()
    if device.type != "cuda":
        raise SensorError(f"no energy counter is known for the device '{device}'")
    gpu = open_gpu(device)
    try:
        return NvmlEnergy(gpu)
    except SensorError:
        return NvmlPower(gpu)


def find_step(counter: Counter, clock: Clock = Clock(), *, moves: int = 4) -> float:
    """Seconds from one move of a counter to the next, the mean of some.

    Raises SensorError for one that stands still.
    """
    if counter.step_s is not None:
        return counter.step_s
    seen: list[float] = []
    last, since = counter.joules(), clock.now()
    while len(seen) <= moves:
        clock.sleep(0.0005)
        value, now = counter.joules(), clock.now()
        if value != last:
            seen.append(now)
            last, since = value, now
        elif now - since > STANDSTILL_S:
            raise SensorError(f"the {counter.origin} stood still for {STANDSTILL_S:g} s")
    return (seen[-1] - seen[0]) / moves


class _Window(NamedTuple):
    """What a counter gained while something was done."""

    joules: float
    seconds: float
    calls: int

    @property
    def watts(self) -> float:
        return self.joules / self.seconds


def measure_energy(
    call: Callable[[], object],
    device: torch.device,
    *,
    items_per_call: int,
    window_s: float = 1.0,
    windows: int = 3,
    counter: Counter | None = None,
    wait: Callable[[torch.device], None] = synchronise,
    clock: Clock = Clock(),
) -> tuple[Measurement, ...]:
    """energy_per_item_j, power_w and idle_power_w of repeating `call`.

    Idle power is measured first, over one window, with the model where it is and the device
    doing nothing; then `call` is repeated for each of `windows` windows of `window_s` seconds.
    The interval is Student's over windows, from two on, and one step of the counter wider.
    Lower energy is better.

    counter, clock: the device's counter and the real clock, or others in tests

    None with a reason: there is no counter, it may not be read, it stands still, or `window_s`
    holds too few of its steps (TOO_FEW). UNSTABLE: what was drawn cannot be told from idle power.
    """
    try:
        source = open_counter(device) if counter is None else counter
        step_s = find_step(source, clock)
        if window_s < STEPS_A_WINDOW * step_s:
            return _unknown(
                f"a window of {window_s:g} s is too short: the {source.origin} moves every "
                f"{step_s * 1000:.3g} ms, so it takes {STEPS_A_WINDOW * step_s:.2g} s",
                Verdict.TOO_FEW,
            )
        meter = _Meter(counter=source, clock=clock, window_s=window_s)
        queue, calls = _queued(call, device, wait, clock)
        idle = meter.idle()
        done = [meter.work(queue, calls) for _ in range(windows)]
    except SensorError as error:
        return _unknown(str(error))
    return _summary(idle, done, items_per_call, source.origin, step_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meter:
    """A counter and a clock that watch a device."""

    counter: Counter
    clock: Clock
    window_s: float

    def idle(self) -> _Window:
        """Let a window pass."""
        return self._watch(lambda: self.clock.sleep(min(0.05, self.window_s)), 0)

    def work(self, queue: Callable[[], None], calls: int) -> _Window:
        """Repeat a queue of so many calls for a window."""
        return self._watch(queue, calls)

    def _watch(self, step: Callable[[], None], calls: int) -> _Window:
        before, started, steps = self.counter.joules(), self.clock.now(), 0
        while self.clock.now() - started < self.window_s:
            step()
            steps += 1
            if self.counter.polled:
                self.counter.joules()
        # The clock first: reading a counter may take longer than reading a clock.
        seconds = self.clock.now() - started
        return _Window(self.counter.joules() - before, seconds, steps * calls)


def _queued(
    call: Callable[[], object],
    device: torch.device,
    wait: Callable[[torch.device], None],
    clock: Clock,
) -> tuple[Callable[[], None], int]:
    """As many calls as last about QUEUED_S before the device is waited for, and their number."""
    call()
    wait(device)
    started = clock.now()
    call()
    wait(device)
    calls = max(1, int(QUEUED_S / max(clock.now() - started, 1e-6)))

    def queue() -> None:
        for _ in range(calls):
            call()
        wait(device)

    return queue, calls


def _summary(
    idle: _Window, done: Sequence[_Window], items_per_call: int, origin: str, step_s: float
) -> tuple[Measurement, ...]:
    items = [window.calls * items_per_call for window in done]
    energy = [
        (window.joules - idle.watts * window.seconds) / count
        for window, count in zip(done, items, strict=True)
    ]
    watts = [window.watts for window in done]
    # What a counter shows is up to one step old at both ends of a window, which no spread
    # between windows tells, as it is the same in each.
    late_j = step_s * (max(watts) + idle.watts)
    told = f"{origin}; idle {idle.watts:.3g} W subtracted"
    per_item = _mean("energy_per_item_j", energy, late_j / min(items), told)
    if per_item.value is not None and per_item.value <= 0:
        reason = f"{origin}: working drew no more than idling ({idle.watts:.3g} W)"
        per_item = _none("energy_per_item_j", reason, Verdict.UNSTABLE)
    elif per_item.low is not None and per_item.low <= 0:
        reason = f"{told}; the interval over windows holds 0"
        per_item = replace(per_item, verdict=Verdict.UNSTABLE, reason=reason)
    late_w = late_j / min(window.seconds for window in done)
    return (
        per_item,
        _mean("power_w", watts, late_w, origin),
        _mean("idle_power_w", [idle.watts], 0.0, origin),
    )


def _mean(name: str, values: Sequence[float], margin: float, reason: str) -> Measurement:
    """The mean of windows with Student's interval, widened by `margin`; none for one window."""
    import numpy as np
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    half = None
    if count > 1:
        half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)) + margin
    return Measurement(
        name=name,
        value=mean,
        unit=UNITS[name],
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        level=None if half is None else 0.95,
        sample_count=count,
        reason=reason,
    )


def _none(name: str, reason: str, verdict: Verdict = Verdict.VALID) -> Measurement:
    return Measurement(name=name, value=None, unit=UNITS[name], verdict=verdict, reason=reason)


def _unknown(reason: str, verdict: Verdict = Verdict.VALID) -> tuple[Measurement, ...]:
    return tuple(_none(name, reason, verdict) for name in UNITS)
