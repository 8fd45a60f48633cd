"""What runs a forward pass: torch as it stands, torch compiled, or ONNX Runtime.

    runner = BACKENDS["compile"](module, inputs, Setting(...))
    outputs = runner.read(runner.call(inputs))       # {"logits": float (N, ...)} on the CPU
    runner.close()

`call` is what gets timed: it leaves the outputs where the backend makes them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from candlemark.benchmark.inference.precision import PROVIDERS
from candlemark.errors import ModelError

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a backend must know beside the module.

    outputs: names of the module's outputs, in order
    """

    device: torch.device
    precision: str
    threads: int
    outputs: tuple[str, ...]


class Runner(Protocol):
    """A module made ready by a backend."""

    facts: Mapping[str, Any]

    def call(self, inputs: Tensors) -> Any:
        """One forward pass of tensors on the device; gives a handle on the outputs."""

    def read(self, handle: Any) -> Tensors:
        """The outputs behind a handle, on the CPU."""

    def close(self) -> None:
        """Give back what the backend holds."""


@dataclass(slots=True, kw_only=True, eq=False)
class TorchRunner:
    """Torch, eager or compiled."""

    module: Callable[..., Tensors]
    release: Callable[[], None] = lambda: None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def call(self, inputs: Tensors) -> Tensors:
        """Run the module; its outputs stay on the device."""
        return self.module(**inputs)

    def read(self, handle: Tensors) -> Tensors:
        """The outputs on the CPU."""
        return {name: tensor.cpu() for name, tensor in handle.items()}

    def close(self) -> None:
        """Forget compiled code."""
        self.release()


def _eager(module: nn.Module, inputs: Tensors, setting: Setting) -> Runner:
    del inputs, setting
    return TorchRunner(module=module)


def _compiled(module: nn.Module, inputs: Tensors, setting: Setting) -> Runner:
    """Inductor for exactly these shapes; it compiles at the first call."""
    del inputs, setting
    torch.compiler.reset()
    return TorchRunner(
        module=torch.compile(module, backend="inductor", dynamic=False),
        release=torch.compiler.reset,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class OnnxRunner:
    """An ONNX Runtime session. Inputs are read and outputs made on its own device."""

    session: Any
    device: torch.device
    outputs: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def call(self, inputs: Tensors) -> Any:
        """Run the session; the outputs stay on the device."""
        binding = self.session.io_binding()
        kind, index = self.device.type, self.device.index or 0
        for one in self.session.get_inputs():  # an input that no operator reads is not there
            tensor = inputs[one.name].contiguous()
            binding.bind_input(
                one.name, kind, index, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr()
            )
        for one in self.session.get_outputs():
            binding.bind_output(one.name, kind, index)
        self.session.run_with_iobinding(binding)
        return binding

    def read(self, handle: Any) -> Tensors:
        """The outputs as torch tensors on the CPU."""
        arrays = handle.copy_outputs_to_cpu()
        return {
            name: torch.from_numpy(array) for name, array in zip(self.outputs, arrays, strict=True)
        }

    def close(self) -> None:
        """Free the session's memory."""
        self.session = None


def _onnxruntime(module: nn.Module, inputs: Tensors, setting: Setting) -> Runner:
    """Export, quantise where int8 is asked for, and open a session with as many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    kind = setting.device.type
    arguments = (
        {"device_id": setting.device.index or 0, "use_tf32": int(setting.precision == "tf32")}
        if kind == "cuda"
        else {}
    )
    with tempfile.TemporaryDirectory(prefix="candlemark-onnx-") as folder:
        path = export(module, inputs, Path(folder) / "model.onnx", setting)
        if setting.precision == "int8":
            path = _quantised(path)
        size = sum(file.stat().st_size for file in Path(folder).glob(f"{path.name}*"))
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[(PROVIDERS[kind], arguments)]
        )
    check_provider(session.get_providers(), setting.device)
    return OnnxRunner(
        session=session,
        device=setting.device,
        outputs=setting.outputs,
        facts={
            "onnxruntime": onnxruntime.__version__,
            "provider": session.get_providers()[0],
            "onnx_bytes": size,
        },
    )


def check_provider(providers: Sequence[str], device: torch.device) -> None:
    """Raise ModelError where ONNX Runtime went back to the CPU, which it does without an error."""
    if providers[0] != PROVIDERS[device.type]:
        raise ModelError(
            f"ONNX Runtime could not start its {PROVIDERS[device.type]} and took "
            f"{providers[0]} for {device}; the CUDA and cuDNN that it was built for are missing"
        )


def export(module: nn.Module, inputs: Tensors, path: Path, setting: Setting) -> Path:
    """Write the module as ONNX for exactly these shapes; returns `path`.

    Raises ModelError: torch cannot express the model in ONNX.
    """
    with _quiet():
        try:
            torch.onnx.export(
                module,
                (),
                path,
                kwargs=dict(inputs),
                # The exporter calls what an operator gives by its name, such as "embedding".
                output_names=[f"output:{name}" for name in setting.outputs],
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"torch cannot export this model to ONNX: {first_line}") from error
    return path


def _quantised(path: Path) -> Path:
    """The file with matrix products in int8, inputs quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    # The quantiser turns weights round and then stumbles over the shapes noted for them.
    del model.graph.value_info[:]
    target = path.with_name("int8.onnx")
    with _quiet():
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            # Sums of signed weights overflow on x86 without VNNI, and the answer is another.
            weight_type=QuantType.QUInt8,
        )
    kinds = {node.op_type for node in onnx.load(target, load_external_data=False).graph.node}
    if not any("Integer" in kind for kind in kinds):
        raise ModelError(
            "int8 quantises linear layers, and this model has none; use fp16 or fp32 for it"
        )
    return target


@contextlib.contextmanager
def _quiet() -> Any:
    """Exporters speak of their own plans at length; their errors are raised all the same."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


_NUMPY: dict[torch.dtype, Any] = {
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
}

BACKENDS: dict[str, Callable[[nn.Module, Tensors, Setting], Runner]] = {
    "eager": _eager,
    "compile": _compiled,
    "onnxruntime": _onnxruntime,
}
"""Backend by name: a module in evaluation mode and example inputs on the device -> a runner."""
