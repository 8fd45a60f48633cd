"""What a number was measured on.

    here = snapshot(device, precision="fp32")

Unknown is None, never a guess. `hardware.comparability` says which fields two numbers must
share to be compared.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "timm", "numpy", "accelerate")


def snapshot(device: torch.device, **conditions: Any) -> dict[str, Any]:
    """Machine, device, versions and precision flags, in JSON types.

    conditions: what else a number depends on and this machine cannot know: precision,
        attention, channels_last, input_shape, batch_size. They become fields.
    """
    import psutil
    import torch

    return {
        "device": device.type,
        "cpu": _cpu_name(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(logical=True),
        "usable_cores": _usable_cores(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        **_gpu(device),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        **conditions,
    }


def _usable_cores() -> int | None:
    """Cores this process may use: a container often gets fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_name() -> str | None:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or None


def _gpu(device: torch.device) -> dict[str, Any]:
    import torch

    fields: dict[str, Any] = dict.fromkeys(
        ("gpu", "gpu_memory_bytes", "driver", "cuda", "cudnn"), None
    )
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        fields |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "driver": _nvidia_driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    elif device.type == "xpu":
        xpu = torch.xpu.get_device_properties(device)
        fields |= {"gpu": xpu.name, "gpu_memory_bytes": xpu.total_memory}
    elif device.type == "mps":
        fields |= {"gpu": platform.processor() or None}
    return fields


def _nvidia_driver() -> str | None:
    """The kernel module's version, read where the driver publishes it."""
    path = Path("/proc/driver/nvidia/version")
    if not path.is_file():
        return None
    words = path.read_text(encoding="utf-8").split()
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
