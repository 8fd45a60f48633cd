"""Asking a trained module: one number or many of each sample, in the data's order.

probability = predict(module, prepare, data, device=device, class_count=2)     # float64 (N, C)

def read(output):
    return {"probability": output.logits.softmax(dim=1), "forecast": output.forecast}

answers = infer(module, prepare, data, device=device, read=read)               # arrays by name
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from candlemark import progress
from candlemark.errors import ModelError
from candlemark.training.batches import MapDataset, fetched, ordered_batches
from candlemark.training.devices import autocast
from candlemark.training.objectives import class_logits
from candlemark.training.tensors import Prepare, call

Precision = Literal["fp32", "bf16", "fp16"]


def infer(
    module: nn.Module,
    prepare: Prepare,
    data: MapDataset,
    *,
    device: torch.device,
    read: Callable[[Any], Mapping[str, Tensor]],
    batch_size: int = 64,
    precision: Precision = "fp32",
) -> dict[str, npt.NDArray[Any]]:
    """What `read` takes from the module's output, of all samples in the data's order.

    prepare: raw inputs of the data, on `device` -> what the module takes; a mapping is passed
        as keywords
    read: output of one batch -> tensors (n, ...) by name; called outside of autocast. What it
        gives in half precision comes back as float32, all else as it is.

    Returns arrays (N, ...) by name; none for data without samples.

    Raises ModelError: an answer has another number of rows than the batch, or is not a number.
    """
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    module.to(device).eval()
    order = list(ordered_batches(len(data), batch_size))
    with (
        torch.inference_mode(),
        progress.track("predicting", total=len(data)) as bar,
        closing(fetched(data, order, device)) as batches,
    ):
        for indices, (inputs, _) in zip(order, batches, strict=True):
            with autocast(device, precision):
                output = call(module, prepare(inputs))
            for name, tensor in read(output).items():
                parts.setdefault(name, []).append(_answers(name, tensor, len(indices)))
            bar.advance(len(indices))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _answers(name: str, tensor: Tensor, count: int) -> npt.NDArray[Any]:
    """The tensor as an array, of a type that NumPy has."""
    if tensor.dtype in {torch.bfloat16, torch.float16}:
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.cpu().numpy()
    if array.ndim == 0 or len(array) != count:
        raise ModelError(f"the model's {name} has shape {array.shape} for {count} samples")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"the model's {name} holds values that are not numbers")
    return array


def predict(
    module: nn.Module,
    prepare: Prepare,
    data: MapDataset,
    *,
    device: torch.device,
    class_count: int,
    batch_size: int = 64,
    precision: Precision = "fp32",
) -> npt.NDArray[np.float64]:
    """Class probabilities float64[N, C] in the data's order; rows sum to 1.

    The module gives logits (N, C), or an output with `.logits`.

    Raises ModelError: the module gave a number of classes other than `class_count`, or
    logits that are not numbers.
    """

    def read(output: Any) -> dict[str, Tensor]:
        # float64 only after the move: some devices have none.
        logits = class_logits(output).cpu().double()
        probability = logits.softmax(dim=1)
        if probability.shape[1] != class_count or not probability.isfinite().all():
            raise ModelError(
                f"the model gave logits of shape {tuple(logits.shape)} for {class_count} "
                "classes, or logits that are not numbers"
            )
        return {"probability": probability}

    found = infer(
        module,
        prepare,
        data,
        device=device,
        read=read,
        batch_size=batch_size,
        precision=precision,
    )
    return found.get("probability", np.empty((0, class_count)))
