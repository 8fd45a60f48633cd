"""Which device runs the work.

device = resolve_device("auto")      # the fastest there is: CUDA, XPU, MPS, else the CPU
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from candlemark.errors import ConfigError

if TYPE_CHECKING:
    import torch

KINDS = ("cuda", "xpu", "mps", "cpu")
"""Fastest first; "auto" takes the first that is there."""


def available_devices() -> tuple[str, ...]:
    """Every device by name, fastest kind first, e.g. ("cuda:0", "cuda:1", "cpu")."""
    import torch

    found: list[str] = []
    if torch.cuda.is_available():
        found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.xpu.is_available():
        found += [f"xpu:{index}" for index in range(torch.xpu.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def resolve_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto", "cpu", "mps", "cuda", "cuda:1", "xpu:0".

    A kind without a number means its first device. Raises ConfigError: not a device's name,
    or a device that is not there; the message names those that are.
    """
    import torch

    available = available_devices()
    if name == "auto":
        return torch.device(available[0])
    kind, _, index = name.partition(":")
    if kind not in KINDS or (index and not index.isdigit()):
        raise ConfigError(
            f"unknown device '{name}'; allowed: auto, {', '.join(KINDS)}, "
            "with a number as in cuda:1"
        )
    wanted = kind if kind in {"cpu", "mps"} and int(index or 0) == 0 else f"{kind}:{index or 0}"
    if wanted not in available:
        raise ConfigError(
            f"device '{name}' is not here; available: {', '.join(available)}; "
            "use --device auto, or run: candlemark doctor"
        )
    return torch.device(wanted)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given; at once on a CPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "xpu":
        torch.xpu.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
