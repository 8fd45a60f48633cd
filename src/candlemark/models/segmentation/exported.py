"""Networks that come as one file: ONNX and TorchScript.

    build_onnx(spec, batch_size=4)              # unet.onnx
    build_torchscript(spec, batch_size=4)       # unet.pt, as torch.jit.save wrote it

What a file takes is read from it: an ONNX file states its input's shape, and of TorchScript the
first convolution tells. Where neither does, `dimensions` (2 or 3) and `channels` (1 or 3) say it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from candlemark.errors import MissingExtraError, ModelError
from candlemark.models.building import first_line, in_words
from candlemark.models.segmentation.base import SegmenterSpec
from candlemark.models.segmentation.networks import NetworkSegmenter, OwnNetwork, first_output
from candlemark.models.segmentation.weights import weights_sha256

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""ONNX Runtime's, by kind of device."""

ELEMENTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""Input types of ONNX files that are fed."""


def build_onnx(spec: SegmenterSpec, *, batch_size: int) -> NetworkSegmenter:
    """A segmenter of an ONNX file with one input.

    Raises ModelError: no such file, no ONNX, an input that is no picture and no volume, or ONNX
    Runtime cannot use the device. MissingExtraError: ONNX Runtime is not installed.
    """
    path = _file(spec)
    session = _session(path, spec.device)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise ModelError(f"{path} takes {len(inputs)} inputs ({names}); allowed: one, the image")
    shape, element = inputs[0].shape, ELEMENTS.get(inputs[0].type)
    if len(shape) not in {4, 5} or element is None:
        raise ModelError(
            f"{path} takes {inputs[0].type} of shape {shape}; allowed: float or float16 of shape "
            "(batch, channels, Y, X) or (batch, channels, Z, Y, X)"
        )
    if isinstance(shape[0], int) and shape[0] > 1:
        raise ModelError(
            f"{path} takes {shape[0]} items at once and no other number; export it with a batch "
            "of 1, or an open one"
        )
    network = OwnNetwork(
        ask=_OnnxAsk(session, inputs[0].name, element, spec.device),
        dimensions=len(shape) - 2,
        channels=_channels(path, shape[1], spec.options),
        fixed=_fixed(path, shape[2:]),
        one_at_a_time=shape[0] == 1,
        facts={
            "model_class": "ONNX",
            "weights": str(path),
            "weights_sha256": weights_sha256(path),
            "parameters": None,
            "input": [size if isinstance(size, int) else str(size) for size in shape],
            "provider": session.get_providers()[0],
        },
    )
    return NetworkSegmenter(spec, network, batch_size=batch_size)


def build_torchscript(spec: SegmenterSpec, *, batch_size: int) -> NetworkSegmenter:
    """A segmenter of a TorchScript archive, or, where pickles are allowed, of a pickled module.

    Raises ModelError: no such file, no TorchScript archive, or a pickle that is not allowed or is
    no module.
    """
    path = _file(spec)
    module = _torch_module(path, spec).eval()
    network = of_module(
        module,
        spec,
        facts={
            "model_class": getattr(module, "original_name", type(module).__name__),
            "weights": str(path),
            "weights_sha256": weights_sha256(path),
        },
    )
    return NetworkSegmenter(spec, network, batch_size=batch_size)


def _torch_module(path: Path, spec: SegmenterSpec) -> nn.Module:
    with warnings.catch_warnings():
        # torch means to drop TorchScript; files of it are what users have.
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        try:
            module: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location=spec.device
            )
        except (RuntimeError, ValueError) as error:
            if spec.allow_pickle:
                return _pickled(path, spec)
            raise ModelError(
                f"{path} is no TorchScript archive ({first_line(error)}); a module that was "
                "pickled whole needs allow_pickle: true, for it can run any code, and a file of "
                "weights alone a function that returns its network: --model "
                "package.module:function"
            ) from error
    return module


def _pickled(path: Path, spec: SegmenterSpec) -> nn.Module:
    try:
        found = torch.load(path, map_location=spec.device, weights_only=False)
    except Exception as error:  # a pickle may run, and raise, anything
        raise ModelError(
            f"cannot unpickle {path}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(found, nn.Module):
        raise ModelError(
            f"{path} holds {in_words(found)}, no network; give a function that returns "
            "one: --model package.module:function"
        )
    return found


def of_module(module: nn.Module, spec: SegmenterSpec, *, facts: Mapping[str, Any]) -> OwnNetwork:
    """A torch module as an own network, what it takes told from its first convolution.

    Raises ModelError: it has no convolution, and the options do not say what it takes.
    """
    kernels = [each for each in module.parameters() if each.ndim in {4, 5}]
    dimensions = spec.options.get("dimensions") or (kernels[0].ndim - 2 if kernels else None)
    if dimensions not in {2, 3}:
        raise ModelError(
            f"{spec.name}: nothing in the network tells whether it reads pictures or volumes"
            f"{'' if dimensions is None else f', and dimensions is {dimensions}'}; "
            "say dimensions: 2 or dimensions: 3"
        )
    first = int(kernels[0].shape[1]) if kernels else 1
    element = kernels[0].dtype if kernels else torch.float32

    def ask(tensor: Tensor) -> Tensor:
        return first_output(module(tensor.to(element)))

    return OwnNetwork(
        ask=ask,
        dimensions=int(dimensions),
        channels=_channels(spec.name, spec.options.get("channels", first), spec.options),
        facts={
            **facts,
            "parameters": sum(each.numel() for each in module.parameters()),
        },
    )


class _OnnxAsk:
    """A session as a function of tensors.

    Values cross to NumPy and back, also on a GPU: that is part of what asking a file costs.
    """

    def __init__(self, session: Any, name: str, element: Any, device: str) -> None:
        self._session = session
        self._name = name
        self._element = element
        self._device = device
        self._output = session.get_outputs()[0].name

    def __call__(self, tensor: Tensor) -> Tensor:
        given = tensor.cpu().numpy().astype(self._element, copy=False)
        made = self._session.run([self._output], {self._name: given})[0]
        return torch.from_numpy(np.asarray(made)).to(self._device)


def _session(path: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx") from error

    kind, _, index = device.partition(":")
    provider = PROVIDERS.get(kind)
    if provider not in onnxruntime.get_available_providers():
        raise ModelError(
            f"this ONNX Runtime has nothing for {device} (it has "
            f"{', '.join(onnxruntime.get_available_providers())}); use --device cpu, or install "
            "onnxruntime-gpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    arguments = {"device_id": int(index or 0)} if kind == "cuda" else {}
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[(provider, arguments)]
        )
    except Exception as error:  # its errors have no common class of their own
        raise ModelError(f"{path} is no ONNX model that can be run: {first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise ModelError(
            f"ONNX Runtime could not start its {provider} and took {session.get_providers()[0]} "
            f"for {device}; the CUDA and cuDNN that it was built for are missing"
        )
    return session


def _channels(what: object, stated: Any, options: Mapping[str, Any]) -> int:
    """Channels of the input: as the options say, as stated, or one where the file leaves it open.

    Raises ModelError: neither 1 nor 3.
    """
    asked = options.get("channels", stated)
    channels = asked if isinstance(asked, int) else 1
    if channels not in {1, 3}:
        raise ModelError(
            f"{what} takes {channels} channels; a scan gives 1 (grey), or 3 (colour, or grey "
            "three times)"
        )
    return channels


def _fixed(path: Path, sizes: Sequence[Any]) -> tuple[int, ...] | None:
    """The only size that a file takes; None: any, where every length is open.

    Raises ModelError: some lengths are open and others are not.
    """
    known = [size for size in sizes if isinstance(size, int)]
    if known and len(known) < len(sizes):
        raise ModelError(
            f"{path} takes items of {list(sizes)}: some lengths are fixed and others open; export "
            "it with all of them open, or all fixed"
        )
    return tuple(known) or None


def _file(spec: SegmenterSpec) -> Path:
    path = Path(spec.source).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no model file {spec.source}")
    return path
