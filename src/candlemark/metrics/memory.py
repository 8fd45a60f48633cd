"""Peak memory of a section of work.

    with MemoryMeter(device) as memory:
        fit(...)
    memory.measurement("peak_memory_bytes")

On CUDA and XPU: the most that torch had allocated on the device. On a CPU: the largest
resident set of the whole process during the section, code and libraries included. `reason`
says which, because the two are not comparable. Lower is better.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from candlemark.records import Measurement

if TYPE_CHECKING:
    import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


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
            self._reset = _reset_peak()
            self._before = _process_peak()
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
        after = _process_peak()
        if after is None or self._before is None:
            self.method = "this system does not tell the peak of a process"
        elif self._reset or after > self._before:
            self.peak_bytes = after
            self.method = "largest resident set of the process during the section"
        else:
            # Without a reset the peak can only be seen when the section raised it.
            self.method = "an earlier peak of the process hides the section's"


def _reset_peak() -> bool:
    """Ask Linux to start the process's peak anew; False where it cannot."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _process_peak() -> int | None:
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
