"""What may be combined, and how a model in float32 becomes one of another precision.

    obstacle("tf32", "eager", "cpu")          # "tf32 is a mode of CUDA devices; cpu has none"
    convert(module, "bf16")                   # in place
    cast(inputs, "bf16")                      # float tensors only

`obstacle` and `require` need no model: a benchmark that cannot run is refused before it loads
anything.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from candlemark.errors import ConfigError, MissingExtraError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

DTYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Torch's name of the numbers of a precision; int8 keeps float32 between its linear layers."""

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""ONNX Runtime's name of a kind of device."""


def obstacle(precision: str, backend: str, device: str) -> str | None:
    """Why no model can run in this combination here; None where it can be tried."""
    kind = device.partition(":")[0]
    if precision == "tf32" and kind != "cuda":
        return f"tf32 is a mode of CUDA devices; {device} has none"
    if precision == "int8" and kind not in {"cpu", "cuda"}:
        return f"int8 runs on cpu and cuda, not on {device}"
    if precision == "bf16" and not _has_bfloat16(device):
        return f"{device} does not compute in bfloat16; use fp16"
    if backend == "onnxruntime":
        return _onnx_obstacle(precision, device)
    return None


def _onnx_obstacle(precision: str, device: str) -> str | None:
    kind = device.partition(":")[0]
    if kind not in PROVIDERS:
        return f"ONNX Runtime runs on cpu and cuda here, not on {device}"
    if precision == "bf16":
        return "ONNX Runtime takes no bfloat16 inputs; use fp16 or fp32"
    if precision == "int8" and kind != "cpu":
        return f"ONNX Runtime's int8 operators run on the CPU only, not on {device}"
    import onnxruntime

    found = onnxruntime.get_available_providers()
    if PROVIDERS[kind] not in found:
        return (
            f"ONNX Runtime has no {PROVIDERS[kind]} here (it has {', '.join(found)}); "
            "install onnxruntime-gpu instead of onnxruntime"
        )
    return None


def _has_bfloat16(device: str) -> bool:
    """Whether the hardware does; what torch only emulates would measure the emulation.

    Asked while planning, in a process that must not make a CUDA device its current one: that
    would give it a context, and take memory from the cells.
    """
    import torch

    kind = device.partition(":")[0]
    if kind == "cuda":
        major = torch.cuda.get_device_properties(device).major
        return torch.version.hip is not None or major >= _AMPERE
    if kind == "xpu":
        return bool(torch.xpu.is_bf16_supported(including_emulation=False))
    return kind != "mps" or bool(torch.backends.mps.is_macos_or_newer(14, 0))


_AMPERE = 8
"""Major compute capability of NVIDIA's first GPUs with bfloat16."""


def require(precision: str, backend: str, device: str) -> None:
    """Raise where a part that the combination needs is not installed.

    Raises MissingExtraError: onnxruntime, its exporter or torchao; ConfigError: a compiler.
    """
    if backend == "onnxruntime":
        for package in ("onnxruntime", "onnx", "onnxscript"):
            _installed(package, "onnx")
    elif precision == "int8":
        _installed("torchao", "int8")
    if backend == "compile":
        _compiler(device)


def _installed(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise MissingExtraError(package, extra)


def _compiler(device: str) -> None:
    """torch.compile writes C++ for a CPU; for a GPU it needs Triton, which builds with C."""
    usual = ("clang++", "g++") if sys.platform == "darwin" else ("g++", "clang++", "cl")
    names = (os.environ["CXX"],) if os.environ.get("CXX") else usual
    if not any(shutil.which(name) for name in names):
        raise ConfigError(
            f"backend 'compile' needs a C++ compiler, and {' or '.join(names)} is not here; "
            "install one, name it in CXX, or use --backend eager"
        )
    if (
        not device.startswith("cpu")
        and not device.startswith("mps")
        and find_spec("triton") is None
    ):
        raise ConfigError(
            f"backend 'compile' needs triton on {device}, which is not installed; "
            "use --backend eager"
        )


def set_flags(precision: str) -> None:
    """Let float32 products run as tf32 for that precision, and for no other."""
    import torch

    tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def convert(module: nn.Module, precision: str) -> dict[str, Any]:
    """Turn a float32 module into one of `precision`, in place; returns facts.

    int8: linear layers get int8 weights, one scale a row, and quantise their inputs as they
    come (torchao's dynamic quantisation); everything else stays in float32.

    Raises ModelError: int8 was asked for and there is no linear layer.
    """
    import torch

    if precision == "int8":
        return _quantise(module)
    module.to(getattr(torch, DTYPES[precision]))
    return {}


def _quantise(module: nn.Module) -> dict[str, Any]:
    from torch import nn

    linear = sum(isinstance(layer, nn.Linear) for layer in module.modules())
    if not linear:
        raise ModelError(
            "int8 quantises linear layers, and this model has none; use fp16 or bf16 for it"
        )
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(module, Int8DynamicActivationInt8WeightConfig())
    return {"quantised": f"{linear} linear layers, weights and inputs, by torchao"}


def cast(inputs: dict[str, Tensor], precision: str) -> dict[str, Tensor]:
    """The tensors with floats in the numbers of `precision`; ids and masks stay as they are."""
    import torch

    if precision in {"fp32", "tf32", "int8"}:
        return inputs
    dtype: torch.dtype = getattr(torch, DTYPES[precision])
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in inputs.items()
    }
