"""One tensor, or several by name: what a batch holds, treated alike.

    inputs = {"images": uint8 (N, H, W), "input_ids": int32 (N, T)}
    module_output = call(module, prepare(on_device(inputs, device)))

A mapping is passed to a module as keywords. Every tensor has the N samples first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Tensors: TypeAlias = Tensor | dict[str, Tensor]
"""(N, ...), or several of them by name."""

Prepare: TypeAlias = Callable[[Any], Any]
"""Raw inputs on their device -> what the module takes: tensor to tensor, mapping to mapping."""


def each(values: Tensors, change: Callable[[Tensor], Tensor]) -> Tensors:
    """`change` of every tensor, in the form that came."""
    if isinstance(values, Tensor):
        return change(values)
    return {name: change(tensor) for name, tensor in values.items()}


def as_tensors(values: Any) -> Tensors:
    """Arrays, numbers or tensors as tensors; a mapping stays one."""
    if isinstance(values, Mapping):
        return {str(name): torch.as_tensor(value) for name, value in values.items()}
    return torch.as_tensor(values)


def stacked(samples: Sequence[Any]) -> Tensors:
    """Single samples, each a tensor or a mapping of tensors, as one batch."""
    if samples and isinstance(samples[0], Mapping):
        return {
            str(name): torch.stack([torch.as_tensor(sample[name]) for sample in samples])
            for name in samples[0]
        }
    return torch.stack([torch.as_tensor(sample) for sample in samples])


def on_device(values: Tensors, device: torch.device, *, non_blocking: bool = False) -> Tensors:
    """The same on `device`."""
    return each(values, lambda tensor: tensor.to(device, non_blocking=non_blocking))


def by_name(values: Any) -> dict[str, Tensor]:
    """The tensors of a mapping or of a dataclass; a tensor alone has the name ""."""
    if isinstance(values, Tensor):
        return {"": values}
    if isinstance(values, Mapping):
        found: dict[str, Any] = dict(values)
    elif is_dataclass(values):
        found = {field.name: getattr(values, field.name) for field in fields(values)}
    else:
        found = dict(vars(values))
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def shapes(values: Tensors) -> str:
    """For messages: `(4, 8, 8)`, or `images (4, 8, 8), input_ids (4, 12)`."""
    return ", ".join(
        f"{name} {tuple(tensor.shape)}".strip() for name, tensor in by_name(values).items()
    )


def call(module: nn.Module | Callable[..., Any], ready: Any) -> Any:
    """`module(ready)`, or `module(**ready)` for a mapping."""
    return module(**ready) if isinstance(ready, Mapping) else module(ready)
