"""What is measured of every network that was trained: its training, and its forward pass.

of_training = training_cost(result, memory, config, device)
of_forward = forward_cost(module, one, batch, plan=config["measure"], device=device,
                          precision="fp32")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.flops import count_flops
from candlemark.metrics.memory import MemoryMeter
from candlemark.metrics.timing import measure_latency, measure_throughput
from candlemark.records import Measurement, Verdict
from candlemark.training.devices import autocast
from candlemark.training.loop import FitResult

Inputs = Tensor | Mapping[str, Tensor]


def training_cost(
    result: FitResult, meter: MemoryMeter, config: Mapping[str, Any], device: torch.device
) -> tuple[Measurement, ...]:
    """Time and peak memory of training, with what keeps them from being quoted."""
    return (
        Measurement(name="training_time_s", value=result.duration_s, unit="s", sample_count=1),
        _memory(meter, config, device, resumed=result.resumed_at_step > 0),
    )


def training_facts(result: FitResult) -> dict[str, Any]:
    """What training did and is no measurement."""
    return {
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "resumed_at_step": result.resumed_at_step,
    }


def _memory(
    meter: MemoryMeter, config: Mapping[str, Any], device: torch.device, *, resumed: bool
) -> Measurement:
    measured = meter.measurement()
    if resumed:
        reason = f"{measured.reason}; training was resumed, and only its last part was seen"
        return replace(measured, verdict=Verdict.UNSTABLE, reason=reason)
    if config["isolate"] or device.type != "cpu":
        return measured
    reason = f"{measured.reason}; earlier trials used the same process"
    return replace(measured, verdict=Verdict.CONTENDED, reason=reason)


def forward_cost(
    module: nn.Module,
    one: Inputs,
    batch: Inputs,
    *,
    plan: Mapping[str, Any],
    device: torch.device,
    precision: str,
) -> tuple[Measurement, ...]:
    """Latency of `one` prepared item, throughput of `batch`, FLOPs and size of the module.

    plan: the config's `measure`, as JSON types
    """
    module = module.eval()
    clock = DeviceClock(device)
    clock.self_test()
    with torch.inference_mode(), autocast(device, precision):
        latency = measure_latency(
            lambda: _ask(module, one),
            clock,
            budget_s=plan["latency_budget_s"],
            minimum_samples=299,
        )
        throughput = measure_throughput(
            lambda: _ask(module, batch),
            clock,
            items_per_call=_count(batch),
            budget_s=plan["latency_budget_s"],
        )
    cost = count_flops(module, one)
    return (*latency.measurements, *throughput.measurements, *cost.measurements())


def _ask(module: nn.Module, inputs: Inputs) -> object:
    return module(inputs) if isinstance(inputs, Tensor) else module(**inputs)


def _count(inputs: Inputs) -> int:
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))
