"""The device side of learning: precision, processes, and random state kept to oneself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from candlemark.errors import ConfigError


def check_precision(precision: str, device: torch.device) -> None:
    """ConfigError where nothing can be trained on `device` in `precision`."""
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision fp16 does not train on a CPU; allowed: fp32, bf16")


def make_accelerator(precision: str, device: torch.device) -> Any:
    """An Accelerator for `device`, or for this process of `accelerate launch`.

    Raises ConfigError: as `check_precision`.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    check_precision(precision, device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # One process may train many models; accelerate keeps the first one's settings.
        AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001  # no public way
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    mixed = "no" if precision == "fp32" else precision
    return Accelerator(mixed_precision=mixed, cpu=device.type == "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context that runs a forward pass in "fp32", "bf16" or "fp16"."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    enabled = precision != "fp32"
    # Autocast refuses float32 as a target even when it is off.
    return torch.autocast(device.type, dtype=kind if enabled else torch.bfloat16, enabled=enabled)


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Seeds set while training do not reach the caller."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
        return
    index = int(device.index or 0)
    with torch.random.fork_rng(devices=[index], device_type=device.type):
        yield
