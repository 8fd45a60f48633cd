"""Which machine results were measured on, and whether that is the one in front of you.

    here = this_machine()
    why_elsewhere(record.environment, here)        # None: measured here; else the reason

A machine is told by its processor and graphics card as the records name them. No driver is
loaded for that: processors are read where the system publishes them, graphics cards where
NVIDIA's kernel module does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candlemark.hardware.sensors import CPU_INFO, cpu_name

GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Processor and graphics cards by name; None and empty where the system names none."""

    cpu: str | None
    gpus: tuple[str, ...]


def this_machine(cpu_info: Path = CPU_INFO, gpu_folder: Path = GPU_FOLDER) -> Machine:
    """What this machine is made of."""
    named = (_model(file) for file in sorted(gpu_folder.glob("*/information")))
    return Machine(cpu=cpu_name(cpu_info), gpus=tuple(name for name in named if name))


def _model(file: Path) -> str | None:
    """The value of the line `Model: ...` of a card's file."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "Model":
            return value.strip() or None
    return None


def machine_name(environment: Mapping[str, Any]) -> str:
    """The device that a record was measured on: graphics card, else processor."""
    return str(environment.get("gpu") or environment.get("cpu") or "unknown machine")


def why_elsewhere(environment: Mapping[str, Any], here: Machine) -> str | None:
    """Why a record is not of this machine; None where it is."""
    cpu, gpu = environment.get("cpu"), environment.get("gpu")
    if cpu is None and gpu is None:
        return "the machine it was measured on is not known"
    if cpu is not None and here.cpu is not None and cpu != here.cpu:
        return f"measured on {cpu}, this is {here.cpu}"
    if gpu is not None and gpu not in here.gpus:
        return f"measured on {gpu}, which is not found here"
    return None
