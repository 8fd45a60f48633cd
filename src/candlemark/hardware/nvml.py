"""What NVIDIA's driver tells about a GPU, through NVML; the only door to `pynvml`.

    gpu = open_gpu(torch.device("cuda:0"))
    gpu.read().power_cap_w
    gpu.energy_j()

Needs the package nvidia-ml-py (extra `cuda`). Everything that a driver or a GPU does not offer
is None with a reason; a GPU that cannot be asked at all raises SensorError with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from candlemark.hardware.sensors import SensorError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

REASONS = {
    0x001: "idle",
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "power brake",
    0x100: "display clocks",
}
"""Why clocks are not at their highest (nvml.h, nvmlClocksEventReasons)."""

SLOWED = frozenset(
    {"hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "power brake"}
)
"""Those under which a number is not this GPU's. A power cap is a setting: it is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process with a compute context on the GPU."""

    pid: int
    name: str | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One look at a GPU; None is unknown, and `unknown` says why, by field.

    reasons: why its clocks are not at their highest at this instant
    thermal_slowdown_s, power_capped_s: seconds held below application clocks by heat and by the
        power cap, since the driver was loaded
    utilisation: percent of the multiprocessors' time by process id, since the last look
    """

    driver: str | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_cap_w: float | None = None
    reasons: tuple[str, ...] | None = None
    thermal_slowdown_s: float | None = None
    power_capped_s: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    utilisation: Mapping[int, float] | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)


class NvmlGpu:
    """One GPU by its NVML handle."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._nvml = library
        self._handle = handle
        self._seen_us = int(time.time() * 1e6)

    def read(self) -> GpuReading:
        """Everything at once; costs some milliseconds, so never inside a timed section."""
        nvml, handle = self._nvml, self._handle
        asked: dict[str, Callable[[], Any]] = {
            "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
            "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(
                handle, nvml.NVML_TEMPERATURE_GPU
            ),
            "power_w": self.power_w,
            "power_cap_w": self._power_cap_w,
            "reasons": self._reasons,
            "thermal_slowdown_s": lambda: self._violation_s(nvml.NVML_PERF_POLICY_THERMAL),
            "power_capped_s": lambda: self._violation_s(nvml.NVML_PERF_POLICY_POWER),
            "processes": self._processes,
            "utilisation": self._utilisation,
        }
        values, unknown = self._ask_all(asked)
        return GpuReading(**values, unknown=unknown)

    def settings(self) -> dict[str, Any]:
        """driver, power_cap_w, sm_clock_max_mhz and memory_clock_max_mhz; None where unknown."""
        nvml, handle = self._nvml, self._handle
        asked: dict[str, Callable[[], Any]] = {
            "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
            "power_cap_w": self._power_cap_w,
            "sm_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(
                handle, nvml.NVML_CLOCK_MEM
            ),
        }
        values, _ = self._ask_all(asked)
        return {name: values.get(name) for name in asked}

    def energy_j(self) -> float:
        """Joules since the driver was loaded (Volta and later). Raises SensorError."""
        millijoules = self._ask(
            lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        )
        return float(millijoules) / 1000

    def power_w(self) -> float:
        """Power of the board now, or its mean over the last second, as the GPU has it."""
        return float(self._ask(lambda: self._nvml.nvmlDeviceGetPowerUsage(self._handle))) / 1000

    def _ask_all(
        self, asked: Mapping[str, Callable[[], Any]]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """(answers, reasons for those that did not come)."""
        values: dict[str, Any] = {}
        unknown: dict[str, str] = {}
        for name, ask in asked.items():
            try:
                values[name] = self._ask(ask)
            except SensorError as error:
                unknown[name] = str(error)
        return values, unknown

    def _power_cap_w(self) -> float:
        return float(self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle)) / 1000

    def _ask(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except self._nvml.NVMLError as error:
            raise SensorError(f"NVML: {error}") from error

    def _reasons(self) -> tuple[str, ...]:
        try:
            bits = self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        except (AttributeError, self._nvml.NVMLError):  # the name before driver 535
            bits = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        return tuple(name for bit, name in REASONS.items() if bits & bit)

    def _violation_s(self, policy: int) -> float:
        return float(
            self._nvml.nvmlDeviceGetViolationStatus(self._handle, policy).violationTime * 1e-9
        )

    def _processes(self) -> tuple[GpuProcess, ...]:
        return tuple(
            GpuProcess(pid=found.pid, name=_process_name(found.pid), memory_bytes=memory)
            for found in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
            for memory in [getattr(found, "usedGpuMemory", None)]
        )

    def _utilisation(self) -> dict[int, float]:
        since, self._seen_us = self._seen_us, int(time.time() * 1e6)
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, since)
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_NOT_FOUND:  # nothing ran since
                return {}
            raise
        by_pid: dict[int, list[float]] = {}
        for sample in samples:
            if sample.timeStamp > since:
                by_pid.setdefault(sample.pid, []).append(float(sample.smUtil))
        return {pid: sum(shares) / len(shares) for pid, shares in by_pid.items()}


def open_gpu(device: torch.device, library: Any = None) -> NvmlGpu:
    """The GPU that torch calls `device`, found by its UUID: the driver counts GPUs differently.

    library: instead of `pynvml`, for tests

    Raises SensorError: the package or the driver is missing, or NVML does not know this GPU.
    """
    if device.type != "cuda":
        raise SensorError(f"NVML knows NVIDIA GPUs, not the device '{device}'")
    nvml = _pynvml() if library is None else library
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(_uuid(device))
    except nvml.NVMLError as error:
        raise SensorError(f"NVML: {error}") from error
    return NvmlGpu(nvml, handle)


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError:
        raise SensorError(
            "nvidia-ml-py is not installed; install it with: "
            "python -m pip install 'candlemark[cuda]'"
        ) from None
    return pynvml


def _uuid(device: torch.device) -> str:
    import torch

    try:
        uuid = str(torch.cuda.get_device_properties(device).uuid)
    except (AttributeError, RuntimeError, AssertionError) as error:
        raise SensorError(f"torch does not know the GPU's UUID: {error}") from error
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _process_name(pid: int) -> str | None:
    """None: it runs in another container, or has ended."""
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except (psutil.Error, ValueError):
        return None
