"""A model made ready to be measured: loaded, in its precision, behind its backend, called once.

    with open_session(work) as session:
        session.call()                     # one forward pass of a batch
        session.clock.stamp()              # when the device has done it

In a process that several cells share, the model of the last one is kept and used again where
only device, batch, precision or backend differ.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from candlemark.benchmark.inference.backends import BACKENDS, Runner, Setting
from candlemark.benchmark.inference.plan import InferenceWork
from candlemark.benchmark.inference.precision import cast, convert, set_flags
from candlemark.errors import ConfigError
from candlemark.execution import leases
from candlemark.metrics.clock import ClockCheck, DeviceClock
from candlemark.metrics.flops import ModelCost, count_flops
from candlemark.models.inference.base import InferenceModel, InputShape
from candlemark.models.inference.describe import describe
from candlemark.models.inference.loading import load_model

Tensors = dict[str, Tensor]


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One cell's model on its device.

    raw: items as a user has them; host_inputs: their tensors on the CPU, in the cell's precision
    inputs: the same on the device
    load_s: from the name to a model on the device, imports apart
    first_call_ms: the first forward pass, with compilation where there is any
    reused: the model was loaded by an earlier cell of this process
    earlier: how many cells this process has opened before
    reference: main output of the same items in fp32 by torch eager, on the CPU; None where
        numerics are not asked for, or the cell is itself the reference
    cost: arithmetic of one item, where it had to be counted before the precision hid it
    facts: JSON types only
    """

    work: InferenceWork
    model: InferenceModel
    device: torch.device
    clock: DeviceClock
    raw: Any
    host_inputs: Tensors
    inputs: Tensors
    runner: Runner
    load_s: float
    first_call_ms: float
    reused: bool
    earlier: int = 0
    reference: Tensor | None = None
    cost: ModelCost | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    pristine: _Pristine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def test_clock(self) -> None:
        """Scale known work and see whether time follows; once a process where it does."""
        name = str(self.device)
        if name not in _tested:
            check = self.clock.self_test()
            if not check.ok:
                return
            _tested[name] = check
        self.clock.check = _tested[name]

    @property
    def parameters(self) -> int | None:
        """Numbers that were learnt, as counted when the model was loaded."""
        found = self.model.facts.get("parameters")
        return int(found) if found else None

    @property
    def items_per_call(self) -> int:
        """Items of one forward pass."""
        return int(self.work.trial.config["batch_size"])

    def call(self) -> None:
        """One forward pass; on a GPU it may still be running when this returns."""
        self.call_with(self.inputs)

    def call_with(self, inputs: Tensors) -> None:
        """The same for other inputs, such as those of `batch_of`."""
        with torch.inference_mode():
            self.runner.call(inputs)

    def outputs(self) -> Tensors:
        """The outputs of one forward pass, on the CPU."""
        with torch.inference_mode():
            return self.runner.read(self.runner.call(self.inputs))

    def batch_of(self, count: int) -> Tensors:
        """Inputs of `count` items on the device."""
        config = self.work.trial.config
        raw = self.model.make_raw(count, config["seed"])
        host = cast(self.model.preprocess(raw), config["precision"])
        return to_device(host, self.device)

    def release(self) -> None:
        """Give memory that is free and kept for later back to the device."""
        _release(self.device)

    def close(self) -> None:
        """Give back what the backend holds, and undo what was done to a model that is kept."""
        self.runner.close()
        _give_back(self.model, self.pristine, self.device)


def open_session(work: InferenceWork) -> Session:
    """Load, convert, compile and call once, while nothing of ours is being timed.

    Raises ModelError: the model, its weights, its precision or its export cannot be had;
    ConfigError: the plan had refused the cell.
    """
    if work.refusal is not None:
        raise ConfigError(work.refusal)
    with leases.loading():
        session = _open(work)
    session.earlier = next(_opened)
    return session


_opened = count()


def _open(work: InferenceWork) -> Session:
    config = work.trial.config
    device = torch.device(config["device"])
    torch.set_num_threads(config["threads"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    set_flags("fp32")
    _import_libraries(work)
    model, load_s, reused = _model(work)
    pristine = _Pristine.of(model.module) if config["isolation"] != "cell" else None
    try:
        return _prepare(work, model, device, pristine=pristine, load_s=load_s, reused=reused)
    except BaseException:
        _give_back(model, pristine, device)
        raise


def _prepare(
    work: InferenceWork,
    model: InferenceModel,
    device: torch.device,
    *,
    pristine: _Pristine | None,
    load_s: float,
    reused: bool,
) -> Session:
    config = work.trial.config
    precision = config["precision"]
    clock = DeviceClock(device)
    raw = model.make_raw(config["batch_size"], config["seed"])
    plain = model.preprocess(raw)
    started = clock.stamp()
    model.module.to(device)
    load_s += (clock.stamp() - started) / 1e9
    names, reference, cost = _before_conversion(work, model, to_device(plain, device))
    started = clock.stamp()
    set_flags(precision)
    converted = convert(model.module, precision) if not _by_onnx(config) else {}
    load_s += (clock.stamp() - started) / 1e9
    host_inputs = cast(plain, precision)
    inputs = to_device(host_inputs, device)
    setting = Setting(device=device, precision=precision, threads=config["threads"], outputs=names)
    with torch.inference_mode():
        started = clock.stamp()
        runner = BACKENDS[config["backend"]](model.module, inputs, setting)
        runner.call(inputs)
        first_call_ms = (clock.stamp() - started) / 1e6
    return Session(
        work=work,
        model=model,
        device=device,
        clock=clock,
        raw=raw,
        host_inputs=host_inputs,
        inputs=inputs,
        runner=runner,
        load_s=load_s,
        first_call_ms=first_call_ms,
        reused=reused,
        reference=reference,
        cost=cost,
        facts={**converted, **runner.facts},
        pristine=pristine,
    )


def _by_onnx(config: Mapping[str, Any]) -> bool:
    """ONNX Runtime quantises the exported file itself."""
    return bool(config["backend"] == "onnxruntime" and config["precision"] == "int8")


def _before_conversion(
    work: InferenceWork, model: InferenceModel, inputs: Tensors
) -> tuple[tuple[str, ...], Tensor | None, ModelCost | None]:
    """What only the model in fp32 can tell: names of outputs, the reference, its arithmetic.

    Only cells that need it pay a pass for it, so that elsewhere the first call is the first.
    """
    config = work.trial.config
    exports = config["backend"] == "onnxruntime"
    compares = "numerics" in config["metrics"] and not is_reference(config)
    names: tuple[str, ...] = ()
    reference: Tensor | None = None
    if exports or compares:
        with torch.inference_mode():
            outputs = model.module(**inputs)
        names = tuple(outputs)
        reference = outputs[names[0]].float().cpu() if compares else None
    hidden = config["precision"] == "int8" and not exports
    cost = _count(model, inputs) if hidden and "flops" in config["metrics"] else None
    return names, reference, cost


def is_reference(config: Mapping[str, Any]) -> bool:
    """Whether a cell is what others are compared with: fp32 by torch eager."""
    return bool(config["precision"] == "fp32" and config["backend"] == "eager")


def _count(model: InferenceModel, inputs: Tensors) -> ModelCost:
    return count_flops(model.module, inputs, items=len(next(iter(inputs.values()))))


def to_device(tensors: Tensors, device: torch.device) -> Tensors:
    """The tensors on `device`."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}


_tested: dict[str, ClockCheck] = {}
"""By device, what its clock showed when it passed its test."""


# The model of the last cell, for the next one of a process that cells share.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    key: tuple[Any, ...]
    model: InferenceModel
    load_s: float


_kept: list[_Kept] = []
"""None or one: two models at once may be more than there is room for."""


def _model(work: InferenceWork) -> tuple[InferenceModel, float, bool]:
    """The model in fp32 on the CPU, the seconds it took to load, and whether it was kept."""
    config = work.trial.config
    shape = InputShape(
        sequence_length=config["sequence_length"],
        image_size=config["image_size"],
        audio_s=config["audio_s"],
        **({} if config["new_tokens"] is None else {"new_tokens": config["new_tokens"]}),
    )
    key = (config["model"], work.weights, config["weights_sha256"], shape, config["seed"])
    for kept in _kept:
        if kept.key == key:
            return kept.model, kept.load_s, True
    _kept.clear()
    started = time.perf_counter()
    model = load_model(
        config["model"],
        weights=work.weights,
        shape=shape,
        seed=config["seed"],
        allow_pickle=work.allow_pickle,
    )
    load_s = time.perf_counter() - started
    if config["isolation"] != "cell":
        _kept.append(_Kept(key=key, model=model, load_s=load_s))
    return model, load_s, False


def _give_back(model: InferenceModel, pristine: _Pristine | None, device: torch.device) -> None:
    if pristine is not None:
        pristine.restore(model.module)
    set_flags("fp32")
    _release(device)


def _release(device: torch.device) -> None:
    if device.type in {"cuda", "xpu", "mps"}:
        getattr(torch, device.type).empty_cache()


class _Pristine:
    """A module's own tensors and layers, so that whatever is done to it can be undone.

    Nothing is copied: moving or converting a module gives it new tensors, and the first ones
    live as long as this does.
    """

    def __init__(self, layers: list[tuple[nn.Module, dict[str, Any]]]) -> None:
        self._layers = layers

    @classmethod
    def of(cls, module: nn.Module) -> _Pristine:
        """Remember every layer of `module` as it is now."""
        return cls([(layer, _contents(layer)) for layer in module.modules()])

    def restore(self, module: nn.Module) -> None:
        """Put every layer back."""
        for layer, contents in self._layers:
            for name, child in contents["modules"].items():
                layer._modules[name] = child  # noqa: SLF001 - the only place of a replaced layer
            for name, (parameter, data) in contents["parameters"].items():
                if parameter is not None:
                    parameter.data = data
                layer._parameters[name] = parameter  # noqa: SLF001
            for name, buffer in contents["buffers"].items():
                layer._buffers[name] = buffer  # noqa: SLF001
        module.eval()


def _contents(layer: nn.Module) -> dict[str, Any]:
    return {
        "modules": dict(layer._modules),  # noqa: SLF001
        "parameters": {
            name: (parameter, None if parameter is None else parameter.data)
            for name, parameter in layer._parameters.items()  # noqa: SLF001
        },
        "buffers": dict(layer._buffers),  # noqa: SLF001
    }


def _import_libraries(work: InferenceWork) -> None:
    """Load the code that builds the model, which is not the model's own cost."""
    config = work.trial.config
    described = describe(config["model"], weights=work.weights)
    if described.library == "timm":
        import_module("timm")
    elif described.library == "transformers":
        # Its modules load at the first use of a name.
        getattr(import_module("transformers"), described.model_class, None)
    if config["backend"] == "onnxruntime":
        import_module("onnxruntime")
    elif config["precision"] == "int8":
        import_module("torchao.quantization")
