"""What an objective measures on data it does not learn from."""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any

import torch
from torch import nn

from candlemark.errors import ModelError
from candlemark.training.batches import MapDataset, fetched, ordered_batches
from candlemark.training.devices import autocast
from candlemark.training.objectives import Objective
from candlemark.training.tensors import Prepare, call

Columns = dict[str, float | None]


def validate(
    module: nn.Module,
    prepare: Prepare,
    data: MapDataset,
    objective: Objective,
    *,
    device: torch.device,
    batch_size: int,
    precision: str,
    epoch: int,
) -> Columns:
    """The objective's columns over all of `data`; None where nothing was there to average.

    epoch: 1-based, for messages

    Raises ModelError: one is not a number.
    """
    module.eval()
    sums = dict.fromkeys(objective.columns, 0.0)
    weights = dict.fromkeys(objective.columns, 0.0)
    order = ordered_batches(len(data), batch_size)
    with torch.inference_mode(), closing(fetched(data, order, device)) as batches:
        for inputs, targets in batches:
            with autocast(device, precision):
                output = call(module, prepare(inputs))
            for name, (total, weight) in objective.measure(output, targets).items():
                sums[name] += total
                weights[name] += weight
    columns: Columns = {}
    for name, total in sums.items():
        # A class never seen in training has no weight; alone it leaves nothing to average.
        columns[name] = total / weights[name] if weights[name] else None
        if not math.isfinite(total):
            raise ModelError(
                f"the {name.replace('_', ' ')} became {total} after epoch {epoch}; "
                "try a lower learning rate or precision fp32"
            )
    return columns


def agreed(columns: Columns, accelerator: Any, device: torch.device) -> Columns:
    """The first process's columns, in all: every process validates alone, and one decides."""
    if accelerator.num_processes == 1:
        return columns
    from accelerate.utils import broadcast

    values = [math.nan if value is None else value for value in columns.values()]
    found = broadcast(torch.tensor(values, device=device)).tolist()
    return {
        name: None if math.isnan(value) else value
        for name, value in zip(columns, found, strict=True)
    }
