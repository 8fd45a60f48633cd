"""How much arithmetic one image costs, and how large a model is.

    cost = count_flops(module, example)      # example: float32 (1, 3, H, W)
    cost.flops                               # forward; one multiply-add is 2 FLOPs (1 MAC)

Counted by torch's own counter from operator shapes, so it depends on no clock. Lower is
cheaper. Attention is forced into matrix products while counting: fused kernels have been
known to count as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from candlemark.records import Measurement

_ARITHMETIC = (
    *("add", "sub", "mul", "div", "pow", "exp", "log", "sqrt", "rsqrt", "sum", "mean", "var"),
    *("relu", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh", "erf"),
    *("softmax", "_softmax", "_log_softmax", "native_batch_norm", "native_layer_norm"),
    *("native_group_norm", "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d"),
    *("upsample_bicubic2d", "upsample_bilinear2d", "leaky_relu", "elu", "clamp", "maximum"),
    *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "var_mean", "neg"),
    *("cudnn_batch_norm", "_batch_norm_no_update", "_batch_norm_with_update", "linalg_vector_norm"),
)
"""Operators that compute; what is neither here nor counted only moves or shapes memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """flops: forward, per image; None where nothing could be counted (`reason` says why).

    parameters and model_bytes: of every parameter; buffers count into the bytes only
    uncounted: operators that do arithmetic and that the counter has no formula for; they
        are element by element and small beside convolutions and matrix products
    """

    flops: int | None
    parameters: int
    model_bytes: int
    uncounted: tuple[str, ...]
    reason: str | None = None

    def measurements(self) -> tuple[Measurement, ...]:
        """flops, parameters and model_bytes as measurements."""
        note = f"not counted: {', '.join(self.uncounted)}" if self.uncounted else None
        flops = None if self.flops is None else float(self.flops)
        return (
            Measurement(name="flops", value=flops, unit="FLOPs", reason=self.reason or note),
            Measurement(name="parameters", value=float(self.parameters), unit=""),
            Measurement(name="model_bytes", value=float(self.model_bytes), unit="bytes"),
        )


class _SeenOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Remembers every operator that ran."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.packets: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.packets.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))


def count_flops(module: nn.Module, example: Tensor) -> ModelCost:
    """Cost of one forward pass of `module` in evaluation mode, per image of `example`.

    example: (N, ...) on the module's device; the meta device works too, and allocates
    nothing. The module's mode is put back.
    """
    parameters, model_bytes = model_size(module)
    was_training = module.training
    seen, counter = _SeenOperators(), FlopCounterMode(display=False)
    module.eval()
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, seen:
            module(example)
    finally:
        module.train(was_training)
    uncounted = tuple(
        sorted(
            {
                name
                for packet in seen.packets - set(flop_registry)
                if (name := str(packet).rpartition(".")[2]).removesuffix("_") in _ARITHMETIC
            }
        )
    )
    total = int(counter.get_total_flops())
    return ModelCost(
        flops=total // len(example) if total else None,
        parameters=parameters,
        model_bytes=model_bytes,
        uncounted=uncounted,
        reason=None if total else "the counter has a formula for none of its operators",
    )


def model_size(module: nn.Module) -> tuple[int, int]:
    """(parameters, bytes of parameters and buffers); shared tensors count once."""
    parameters = list(module.parameters())
    tensors = [*parameters, *module.buffers()]
    return (
        sum(parameter.numel() for parameter in parameters),
        sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )
