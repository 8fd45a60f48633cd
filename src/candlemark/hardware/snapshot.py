"""What a number was measured on.

    here = snapshot(device, precision="fp32")

Unknown is None, never a guess. `hardware.comparability` says which fields two numbers must
share to be compared.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candlemark.hardware.nvml import open_gpu
from candlemark.hardware.sensors import CPU_FOLDER, SensorError, cpu_name, usable_cores

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "timm", "numpy", "accelerate")


def snapshot(device: torch.device, **conditions: Any) -> dict[str, Any]:
    """Machine, device, versions and precision flags, in JSON types.

    conditions: what else a number depends on and this machine cannot know: precision, backend,
        attention, channels_last, input_shape, batch_size. They become fields.
    """
    import psutil
    import torch

    return {
        "device": device.type,
        "cpu": cpu_name(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(logical=True),
        "usable_cores": len(usable_cores()),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        **_gpu(device),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        **_float32_flags(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "attention_backends": _attention_backends(),
        "cpu_governor": _cpu_governor(),
        **conditions,
    }


def attention_kernel(
    device: torch.device,
    dtype: torch.dtype,
    *,
    heads: int = 8,
    length: int = 128,
    head_size: int = 64,
    causal: bool = False,
) -> str | None:
    """The kernel that scaled dot-product attention takes for queries like these.

    "flash", "memory-efficient", "cudnn" or "math" (plain products; nothing is fused); None
    where torch does not tell. Masks and gradients can change the choice: none is assumed.
    """
    import torch
    from torch.nn.attention import SDPBackend

    # torch has no public way to ask; the private one has been there since 2.0.
    choose = getattr(torch, "_fused_sdp_choice", None)
    if choose is None:
        return None
    try:
        query = torch.zeros(1, heads, length, head_size, device=device, dtype=dtype)
        chosen = int(choose(query, query, query, is_causal=causal))
    except (RuntimeError, TypeError):
        return None
    names = {int(getattr(SDPBackend, name)): short for name, (short, _) in _ATTENTION.items()}
    return names.get(chosen)


_ATTENTION = {
    "FLASH_ATTENTION": ("flash", "flash_sdp_enabled"),
    "EFFICIENT_ATTENTION": ("memory-efficient", "mem_efficient_sdp_enabled"),
    "CUDNN_ATTENTION": ("cudnn", "cudnn_sdp_enabled"),
    "MATH": ("math", "math_sdp_enabled"),
}
"""torch's name of each kernel of attention: ours, and the flag that allows it."""


def _attention_backends() -> list[str]:
    """Kernels that attention may choose from; which it takes depends on the inputs."""
    import torch

    return [short for short, flag in _ATTENTION.values() if getattr(torch.backends.cuda, flag)()]


def _float32_flags() -> dict[str, Any]:
    """Whether products of float32 may be rounded to TF32, in matrices and convolutions."""
    import torch

    matmul = torch.backends.cuda.matmul.fp32_precision
    try:
        precision = torch.get_float32_matmul_precision()
        cudnn = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        # torch refuses the old questions once something has set the new flags.
        precision = {"tf32": "high", "bf16": "medium"}.get(matmul, "highest")
        convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
        cudnn = convolutions.fp32_precision == "tf32"
    return {
        "matmul_precision": precision,
        "matmul_tf32": matmul == "tf32",
        "cudnn_tf32": cudnn,
    }


def _cpu_governor() -> str | None:
    """How the system chooses the cores' clocks: "performance", "powersave", ..."""
    try:
        text = (CPU_FOLDER / "cpu0/cpufreq/scaling_governor").read_text(encoding="ascii")
    except OSError:
        return None
    return text.strip() or None


def _gpu(device: torch.device) -> dict[str, Any]:
    import torch

    fields: dict[str, Any] = dict.fromkeys(
        (
            *("gpu", "gpu_memory_bytes", "driver", "cuda", "cudnn"),
            *("power_cap_w", "sm_clock_max_mhz", "memory_clock_max_mhz"),
        )
    )
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        fields |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            **_nvidia_settings(device),
        }
        fields["driver"] = _nvidia_driver() or fields["driver"]
    elif device.type == "xpu":
        xpu = torch.xpu.get_device_properties(device)
        fields |= {"gpu": xpu.name, "gpu_memory_bytes": xpu.total_memory}
    elif device.type == "mps":
        fields |= {"gpu": platform.processor() or None}
    return fields


def _nvidia_settings(device: torch.device) -> dict[str, Any]:
    """What the driver was set to, where it can be asked."""
    try:
        return open_gpu(device).settings()
    except SensorError:
        return {}


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
