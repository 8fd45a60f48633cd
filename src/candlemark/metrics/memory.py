"""Memory of a section of work, and of a forward pass.

    with MemoryMeter(device) as memory:
        fit(...)
    memory.measurement("peak_memory_bytes")

    profile = measure_memory(lambda: module(images), device)     # never while anything is timed
    profile.measurements          # peak, allocated, reserved, process, activations
    profile.samples               # memory_timeline_s, memory_timeline_bytes

On CUDA and XPU a peak is the most that torch had allocated on the device. On a CPU it is the
largest resident set of the whole process, code and libraries included. `reason` says which,
because the two are not comparable. Lower is better.

A resident set is counted in pages, and memory that was freed before is used again without its
growing: it cannot tell what a small model's activations take. On a CPU these are therefore
counted where torch allocates them, every request and release of its allocator during one call,
to the byte. What a kernel library allocates past torch (oneDNN's scratch) is only in the
resident set.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from candlemark.errors import ConfigError
from candlemark.hardware.device import synchronise
from candlemark.records import Measurement

if TYPE_CHECKING:
    import torch

LONGEST_TIMELINE = 4096
"""Points of a timeline; a longer one is thinned, and sampled half as often from there on."""

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_PAGES = Path("/proc/self/statm")


class MemoryMeter:
    """A context manager; `peak_bytes` and `method` are set when it closes.

    peak_bytes is None where the peak cannot be told apart from an earlier one; `method`
    then says why.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak_bytes: int | None = None
        self.method = "the section has not ended"
        self._reset = False
        self._before: int | None = None

    def __enter__(self) -> Self:
        if self.device.type in {"cuda", "xpu"}:
            self._accelerator().reset_peak_memory_stats(self.device)
        elif self.device.type == "cpu":
            self._reset = reset_process_peak()
            self._before = process_peak_bytes()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.device.type in {"cuda", "xpu"}:
            self.peak_bytes = int(self._accelerator().max_memory_allocated(self.device))
            self.method = f"most memory torch had allocated on the {self.device.type} device"
        elif self.device.type == "cpu":
            self._close_cpu()
        else:
            self.method = f"torch keeps no peak on {self.device.type}"

    def measurement(self, name: str = "peak_memory_bytes") -> Measurement:
        """The peak with its method as `reason`; value None where it is unknown."""
        return Measurement(
            name=name,
            value=None if self.peak_bytes is None else float(self.peak_bytes),
            unit="bytes",
            sample_count=None if self.peak_bytes is None else 1,
            reason=self.method,
        )

    def _accelerator(self) -> Any:
        import torch

        return getattr(torch, self.device.type)

    def _close_cpu(self) -> None:
        after = process_peak_bytes()
        if after is None or self._before is None:
            self.method = "this system does not tell the peak of a process"
        elif self._reset or after > self._before:
            self.peak_bytes = after
            self.method = "largest resident set of the process during the section"
        else:
            # Without a reset the peak can only be seen when the section raised it.
            self.method = "an earlier peak of the process hides the section's"


def process_memory_bytes() -> int:
    """Resident set of this process now, in bytes."""
    if _PAGES.is_file():
        return int(_PAGES.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import psutil

    return int(psutil.Process().memory_info().rss)


def reset_process_peak() -> bool:
    """Ask Linux to start the process's peak anew; False where it cannot."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def process_peak_bytes() -> int | None:
    """Largest resident set since the last reset, in bytes."""
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    # Kibibytes on Linux, bytes on macOS (getrusage(2) of each).
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryProfile:
    """What forward passes took.

    samples: float64[n] each: "memory_timeline_s" since the first pass began, and
        "memory_timeline_bytes" of the device, on a CPU of the process
    """

    measurements: tuple[Measurement, ...]
    samples: Mapping[str, npt.NDArray[np.float64]]


def measure_memory(
    call: Callable[[], object],
    device: torch.device,
    *,
    calls: int = 3,
    model_bytes: int | None = None,
    interval_s: float = 0.002,
    torch_allocates: bool = True,
) -> MemoryProfile:
    """Memory of `calls` forward passes after one that is not counted.

    Gives peak_memory_bytes, allocated_memory_bytes, reserved_memory_bytes,
    process_memory_bytes and activation_memory_bytes, those that the device does not know
    without a value and with the reason; model_bytes too where it is given. A thread reads the
    memory every `interval_s` seconds, so nothing may be timed meanwhile.

    torch_allocates: False for a runtime with memory of its own (ONNX Runtime): activations on
        a CPU are then what the resident set grew by, and unknown where it did not grow
    """
    if calls < 1:
        raise ConfigError(f"memory is measured over {calls} calls; allowed: 1 or more")
    call()
    synchronise(device)
    before, process_before = _device_bytes(device), process_memory_bytes()
    timeline = _Timeline(lambda: _first_known(_device_bytes(device), process_memory_bytes))
    with MemoryMeter(device) as meter, timeline.sampling(interval_s):
        for _ in range(calls):
            call()
            synchronise(device)
    after, process_after = _device_bytes(device), process_memory_bytes()
    peak = _highest(meter.measurement("peak_memory_bytes"), device, timeline, interval_s)
    if device.type != "cpu":
        activations = _above(peak, before)
    elif torch_allocates:
        activations = _allocated_by_torch(call)
    else:
        activations = _above(peak, process_before)
    measured = [
        peak,
        _told("allocated_memory_bytes", after, "torch keeps no account of tensors on a CPU"),
        _told("reserved_memory_bytes", _reserved(device), f"no pool to tell on {device.type}"),
        _known("process_memory_bytes", process_after, "resident set"),
        activations,
    ]
    if model_bytes is not None:
        measured.append(_known("model_bytes", model_bytes, None))
    return MemoryProfile(
        measurements=tuple(measured),
        samples={
            "memory_timeline_s": np.asarray(timeline.seconds),
            "memory_timeline_bytes": np.asarray(timeline.bytes, dtype=np.float64),
        },
    )


def _highest(
    peak: Measurement, device: torch.device, timeline: _Timeline, interval_s: float
) -> Measurement:
    """The peak that the device told, or the largest reading where it tells less or nothing."""
    if peak.value is None and device.type != "cpu":
        return _known(peak.name, timeline.most(), f"most seen every {interval_s:g} s")
    if peak.value is not None and device.type == "cpu":
        return _known(peak.name, max(int(peak.value), timeline.most()), peak.reason)
    return peak


def peak_of_requests(changes: list[int]) -> int:
    """Most bytes held at once, from requests (positive) and releases (negative) in order."""
    return max(0, int(np.max(np.cumsum(changes)))) if changes else 0


def _allocated_by_torch(call: Callable[[], object]) -> Measurement:
    """activation_memory_bytes on a CPU, from what torch's allocator gave out during one call."""
    from torch.profiler import ProfilerActivity, profile

    with (
        _quiet_profiler(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen,
    ):
        call()
    results = seen.profiler.kineto_results if seen.profiler is not None else None
    events = [] if results is None else results.events()
    requests = sorted(
        ((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"),
        key=lambda request: request[0],
    )
    name = "activation_memory_bytes"
    if not requests:
        return Measurement(
            name=name,
            value=None,
            unit="bytes",
            reason="the call took nothing from torch's allocator: it keeps its memory elsewhere",
        )
    peak = peak_of_requests([size for _, size in requests])
    return _known(name, peak, "most that torch's CPU allocator had given out during one call")


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """The profiler's library tells its stages, and that there is no GPU, on the error stream."""
    name = "KINETO_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ[name] = before or "99"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)


class _Timeline:
    """Bytes over time, read by a thread of its own."""

    def __init__(self, read: Callable[[], int]) -> None:
        self.read = read
        self.seconds: list[float] = []
        self.bytes: list[int] = []
        self._started = 0.0

    def note(self) -> None:
        """One more point, now."""
        self.seconds.append(time.perf_counter() - self._started)
        self.bytes.append(self.read())

    def most(self) -> int:
        """The largest reading."""
        return max(self.bytes)

    @contextmanager
    def sampling(self, interval_s: float) -> Iterator[None]:
        """Read at once, every `interval_s` seconds, and at the end."""
        ended = threading.Event()
        self._started = time.perf_counter()
        self.note()
        thread = threading.Thread(target=self._watch, args=(ended, interval_s), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.note()

    def _watch(self, ended: threading.Event, interval_s: float) -> None:
        while not ended.wait(interval_s):
            self.note()
            if len(self.seconds) >= LONGEST_TIMELINE:
                self.seconds, self.bytes = self.seconds[::2], self.bytes[::2]
                interval_s *= 2


def _device_bytes(device: torch.device) -> int | None:
    """Bytes of live tensors on an accelerator; None on a CPU."""
    import torch

    if device.type in {"cuda", "xpu"}:
        return int(getattr(torch, device.type).memory_allocated(device))
    return int(torch.mps.current_allocated_memory()) if device.type == "mps" else None


def _reserved(device: torch.device) -> int | None:
    """Bytes that the allocator of an accelerator holds; None on a CPU."""
    import torch

    if device.type in {"cuda", "xpu"}:
        return int(getattr(torch, device.type).memory_reserved(device))
    return int(torch.mps.driver_allocated_memory()) if device.type == "mps" else None


def _first_known(known: int | None, otherwise: Callable[[], int]) -> int:
    return otherwise() if known is None else known


def _above(peak: Measurement, before: int | None) -> Measurement:
    """activation_memory_bytes as the growth of a peak; unknown where nothing grew."""
    name = "activation_memory_bytes"
    if peak.value is None or before is None:
        return Measurement(name=name, value=None, unit="bytes", reason=peak.reason or "unknown")
    grown = int(peak.value) - before
    if grown <= 0:
        reason = "memory that was freed before was used again: nothing grew"
        return Measurement(name=name, value=None, unit="bytes", reason=reason)
    return _known(name, grown, f"growth of: {peak.reason}")


def _told(name: str, value: int | None, otherwise: str) -> Measurement:
    """What a device says of itself, or why it says nothing."""
    return _known(name, value, otherwise if value is None else None)


def _known(name: str, value: int | None, reason: str | None) -> Measurement:
    return Measurement(
        name=name,
        value=None if value is None else float(value),
        unit="bytes",
        sample_count=None if value is None else 1,
        reason=reason,
    )
