"""What a number was measured on, and whether two numbers may be compared.

    here = snapshot(device, precision="fp32")
    comparability_key(here)             # equal keys: the same machine in all that matters
    differing_fields(here, there)       # {"gpu": ("NVIDIA H100", "NVIDIA A100")}

Unknown is None, never a guess.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlemark.records import content_id

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "timm", "numpy", "accelerate")

COMPARED = (
    *("device", "cpu", "physical_cores", "usable_cores", "threads", "interop_threads", "gpu"),
    *("gpu_memory_bytes", "driver", "cuda", "cudnn", "system", "machine", "python", "packages"),
    *("precision", "matmul_precision", "cudnn_tf32", "cudnn_benchmark", "deterministic"),
    *("attention", "channels_last", "input_shape", "batch_size"),
)
"""Fields of the comparability key. Host name, kernel build and free memory are left out: they
change from day to day and move no number by themselves. Total memory decides what fits, not
how fast it is."""


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


def comparability_key(environment: Mapping[str, Any]) -> str:
    """16 hex digits; equal for two environments exactly where `differing_fields` is empty."""
    return content_id({name: environment.get(name) for name in COMPARED})


def differing_fields(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """The fields that forbid a comparison, each with both values; packages one by one."""
    different: dict[str, tuple[Any, Any]] = {}
    for name in COMPARED:
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            for key in sorted(one.keys() | other.keys()):
                if one.get(key) != other.get(key):
                    different[f"{name}.{key}"] = (one.get(key), other.get(key))
        elif one != other:
            different[name] = (one, other)
    return different


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
