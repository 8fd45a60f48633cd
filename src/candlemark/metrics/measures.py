"""The table of what is measured beside scores: name, unit, direction and meaning.

    measure = find_measure("latency_p95_ms")
    measure.higher_is_better                  # False

A name ends in its unit. This file needs no torch, so results and reports read it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from candlemark.errors import ConfigError

Group = Literal[
    "latency", "throughput", "stages", "memory", "flops", "energy", "numerics", "size", "scans"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One quantity. `higher_is_better` is None where it only describes."""

    name: str
    title: str
    unit: str
    group: Group
    higher_is_better: bool | None
    meaning: str


def _latency(statistic: str, title: str, meaning: str) -> Measure:
    return Measure(
        name=f"latency_{statistic}_ms",
        title=title,
        unit="ms",
        group="latency",
        higher_is_better=False,
        meaning=meaning,
    )


def _case(stage: str, percentile: str, what: str) -> Measure:
    share = {"p50": "half of", "p95": "19 in 20 of"}[percentile]
    return Measure(
        name=f"{stage}_{percentile}_ms",
        title=f"{stage} {percentile}",
        unit="ms",
        group="scans",
        higher_is_better=False,
        meaning=f"{what}; {share} the scans took no longer",
    )


_STAGES_OF_A_SCAN = {
    "load": "reading a scan from its file",
    "preprocess": "a scan to tensors",
    "forward": "passes of the network through a scan, the device waited for",
    "postprocess": "outputs to labels of a scan",
    "case": "all stages of a scan together",
}

_TABLE = (
    _latency("p50", "latency p50", "median time of one call, the device waited for after each"),
    _latency("p90", "latency p90", "nine calls in ten took no longer"),
    _latency("p95", "latency p95", "nineteen calls in twenty took no longer"),
    _latency("p99", "latency p99", "99 calls in 100 took no longer"),
    _latency("mean", "latency mean", "mean time of one call"),
    _latency("std", "latency std", "standard deviation of the time of one call"),
    _latency("min", "latency min", "fastest call"),
    _latency("max", "latency max", "slowest call"),
    Measure(
        name="throughput_items_per_s",
        title="throughput",
        unit="items/s",
        group="throughput",
        higher_is_better=True,
        meaning="items a second when calls are queued and the device is waited for once a round",
    ),
    Measure(
        name="largest_batch",
        title="largest batch",
        unit="items",
        group="throughput",
        higher_is_better=True,
        meaning="largest batch that ran before memory ended, or the limit of the search",
    ),
    Measure(
        name="best_batch",
        title="best batch",
        unit="items",
        group="throughput",
        higher_is_better=None,
        meaning="batch with the highest throughput of those tried",
    ),
    Measure(
        name="load_s",
        title="load",
        unit="s",
        group="stages",
        higher_is_better=False,
        meaning="from the name to a model on the device, imports apart",
    ),
    Measure(
        name="first_call_ms",
        title="first call",
        unit="ms",
        group="stages",
        higher_is_better=False,
        meaning="the first forward pass, with compilation where there is any",
    ),
    Measure(
        name="preprocess_ms",
        title="preprocess",
        unit="ms",
        group="stages",
        higher_is_better=False,
        meaning="raw items to tensors on the host, a batch, median",
    ),
    Measure(
        name="transfer_ms",
        title="transfer",
        unit="ms",
        group="stages",
        higher_is_better=False,
        meaning="tensors from host to device, a batch, median",
    ),
    Measure(
        name="postprocess_ms",
        title="postprocess",
        unit="ms",
        group="stages",
        higher_is_better=False,
        meaning="outputs to answers on the host, a batch, median",
    ),
    Measure(
        name="prefill_ms",
        title="prefill",
        unit="ms",
        group="stages",
        higher_is_better=False,
        meaning="from the prompt to the first new token, a batch, median",
    ),
    Measure(
        name="decode_ms_per_token",
        title="decode",
        unit="ms",
        group="stages",
        higher_is_better=False,
        meaning="one further token for each sequence of the batch, median",
    ),
    Measure(
        name="generated_tokens_per_s",
        title="tokens",
        unit="tokens/s",
        group="stages",
        higher_is_better=True,
        meaning="new tokens a second over the batch, prefill included",
    ),
    Measure(
        name="real_time_factor",
        title="real-time factor",
        unit="",
        group="stages",
        higher_is_better=False,
        meaning="seconds of work a second of sound; below 1 keeps up with speech",
    ),
    Measure(
        name="peak_memory_bytes",
        title="peak memory",
        unit="bytes",
        group="memory",
        higher_is_better=False,
        meaning="most memory during forward passes: of the device, on a CPU of the process",
    ),
    Measure(
        name="allocated_memory_bytes",
        title="allocated",
        unit="bytes",
        group="memory",
        higher_is_better=False,
        meaning="memory of live tensors on the device after the passes",
    ),
    Measure(
        name="reserved_memory_bytes",
        title="reserved",
        unit="bytes",
        group="memory",
        higher_is_better=False,
        meaning="memory that the device's allocator holds after the passes",
    ),
    Measure(
        name="process_memory_bytes",
        title="process",
        unit="bytes",
        group="memory",
        higher_is_better=False,
        meaning="resident set of the process after the passes",
    ),
    Measure(
        name="activation_memory_bytes",
        title="activations",
        unit="bytes",
        group="memory",
        higher_is_better=False,
        meaning="peak during a forward pass above what was there before it",
    ),
    Measure(
        name="model_bytes",
        title="model",
        unit="bytes",
        group="memory",
        higher_is_better=False,
        meaning="parameters and buffers",
    ),
    Measure(
        name="parameters",
        title="parameters",
        unit="",
        group="size",
        higher_is_better=False,
        meaning="numbers that were learnt, shared ones once",
    ),
    Measure(
        name="flops",
        title="FLOPs",
        unit="FLOPs",
        group="flops",
        higher_is_better=False,
        meaning="floating-point operations of one item's forward pass; a multiply-add is two",
    ),
    Measure(
        name="macs",
        title="MACs",
        unit="MACs",
        group="flops",
        higher_is_better=False,
        meaning="multiply-adds of one item's forward pass, half its FLOPs",
    ),
    Measure(
        name="achieved_flops_per_s",
        title="achieved",
        unit="FLOPs/s",
        group="flops",
        higher_is_better=True,
        meaning="FLOPs of a batch over its median latency",
    ),
    Measure(
        name="peak_flops_per_s",
        title="peak",
        unit="FLOPs/s",
        group="flops",
        higher_is_better=None,
        meaning="the fastest matrix product of this machine in the same precision and threads",
    ),
    Measure(
        name="utilisation",
        title="utilisation",
        unit="",
        group="flops",
        higher_is_better=True,
        meaning="achieved FLOPs/s over the measured peak of matrix products",
    ),
    Measure(
        name="energy_per_item_j",
        title="energy",
        unit="J",
        group="energy",
        higher_is_better=False,
        meaning="joules an item, idle power subtracted",
    ),
    Measure(
        name="power_w",
        title="power",
        unit="W",
        group="energy",
        higher_is_better=None,
        meaning="mean power while working, idle power included",
    ),
    Measure(
        name="idle_power_w",
        title="idle power",
        unit="W",
        group="energy",
        higher_is_better=None,
        meaning="mean power before the work",
    ),
    Measure(
        name="relative_error",
        title="error",
        unit="",
        group="numerics",
        higher_is_better=False,
        meaning="L2 distance of the main output from fp32 eager's, over its L2 norm",
    ),
    Measure(
        name="answer_agreement",
        title="same answer",
        unit="",
        group="numerics",
        higher_is_better=True,
        meaning="share of positions whose largest output is fp32 eager's",
    ),
    *(
        _case(stage, percentile, what)
        for stage, what in _STAGES_OF_A_SCAN.items()
        for percentile in ("p50", "p95")
    ),
)

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _TABLE}
"""Every measure by name, in the order of tables."""


def find_measure(name: str) -> Measure:
    """The measure called `name`; ConfigError names the nearest one."""
    if name in MEASURES:
        return MEASURES[name]
    begun = [known for known in MEASURES if known.startswith(f"{name}_")]
    near = begun or difflib.get_close_matches(name, MEASURES, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(MEASURES)}"
    raise ConfigError(f"unknown measure '{name}'; {hint}")
