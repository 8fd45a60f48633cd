"""What stands around a forward pass, timed apart: preprocess, transfer, postprocess, generation.

    passed = measure_stages(session, TimingConfig())
    passed.measurements            # preprocess_ms, transfer_ms, prefill_ms, real_time_factor, ...

All values are medians with order-statistic intervals. Lower is better, but for tokens a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from candlemark.benchmark.inference.config import TimingConfig
from candlemark.benchmark.inference.precision import cast
from candlemark.benchmark.inference.session import Session, to_device
from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.latency import SAMPLES_NEEDED, measure_quantile
from candlemark.metrics.measures import find_measure
from candlemark.metrics.timing import measure_stage
from candlemark.models.inference.base import Generator
from candlemark.records import Measurement, Verdict

Samples = Mapping[str, npt.NDArray[np.float64]]

STAGE_SHARE = 0.1
"""Of the budget for latency: what each stage gets."""
FEWEST = SAMPLES_NEEDED["p50"]
"""Samples of each stage, and generations, however long they take: a median needs so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What one pass over a cell gave; samples as in `RunRecord`, facts in JSON types."""

    measurements: tuple[Measurement, ...] = ()
    samples: Samples = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def join(passes: Sequence[Passed]) -> Passed:
    """Several as one, in order."""
    return Passed(
        measurements=tuple(m for one in passes for m in one.measurements),
        samples={name: values for one in passes for name, values in one.samples.items()},
        facts={name: value for one in passes for name, value in one.facts.items()},
    )


def unknown(name: str, reason: str) -> Measurement:
    """A measurement that could not be had, and why."""
    return Measurement(name=name, value=None, unit=find_measure(name).unit, reason=reason)


def measure_stages(session: Session, timing: TimingConfig) -> Passed:
    """Every stage that this model has."""
    host = _host_clock(session)
    budget_s = timing.budget_s * STAGE_SHARE
    outputs = session.outputs()
    precision = session.work.trial.config["precision"]
    passes = [
        _stage(
            "preprocess_ms",
            lambda: cast(session.model.preprocess(session.raw), precision),
            host,
            budget_s,
        ),
        _transfer(session, budget_s),
        _stage("postprocess_ms", lambda: session.model.postprocess(outputs), host, budget_s),
    ]
    if session.model.generator is not None:
        passes.append(_generation(session, session.model.generator, budget_s))
    if session.model.modality == "speech":
        passes.append(_real_time(session, join(passes).samples, budget_s))
    done = join(passes)
    return replace(done, samples={n: v for n, v in done.samples.items() if n != _WHOLE})


_WHOLE = "generation_ms"


def _host_clock(session: Session) -> DeviceClock:
    """A tested clock for what runs on the CPU, whatever device the model is on."""
    if session.device.type == "cpu":
        return session.clock
    clock = DeviceClock(torch.device("cpu"))
    clock.self_test()
    return clock


def _stage(name: str, call: Callable[[], object], clock: DeviceClock, budget_s: float) -> Passed:
    timed = measure_stage(name, call, clock, budget_s=budget_s, minimum_samples=FEWEST)
    return Passed(measurements=timed.measurements, samples={name: timed.samples_ms})


def _transfer(session: Session, budget_s: float) -> Passed:
    if session.device.type == "cpu":
        reason = "the model reads the tensors where they are: nothing is transferred on a CPU"
        return Passed(measurements=(unknown("transfer_ms", reason),))
    return _stage(
        "transfer_ms",
        lambda: to_device(session.host_inputs, session.device),
        session.clock,
        budget_s,
    )


def _generation(session: Session, generator: Generator, budget_s: float) -> Passed:
    """Prefill and one step for each further token, the device waited for after each."""
    names = ("prefill_ms", "decode_ms_per_token", "generated_tokens_per_s")
    backend = session.work.trial.config["backend"]
    if backend != "eager":
        reason = f"generation runs eager; backend '{backend}' runs the forward pass only"
        return Passed(measurements=tuple(unknown(name, reason) for name in names))
    prefill, decode, whole = _generate(session, generator, budget_s)
    count, fault = session.model.shape.new_tokens, session.clock.fault()
    rate = count * session.items_per_call * 1000 / np.maximum(whole, 1e-9)
    return Passed(
        measurements=(
            measure_quantile("prefill_ms", prefill, "p50", fault=fault),
            measure_quantile("decode_ms_per_token", decode, "p50", fault=fault)
            if count > 1
            else unknown("decode_ms_per_token", "one new token was asked for: prefill makes it"),
            replace(
                measure_quantile("generated_tokens_per_s", rate, "p50", fault=fault),
                unit=find_measure("generated_tokens_per_s").unit,
            ),
        ),
        samples={"prefill_ms": prefill, "decode_ms": decode, _WHOLE: whole},
        facts={"new_tokens": count},
    )


def _generate(
    session: Session, generator: Generator, budget_s: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(prefill, each step, whole generations) in ms: at least 5, and as many as the budget bears.

    The first generation warms up and is not counted.
    """
    clock = session.clock
    prefills: list[float] = []
    steps: list[float] = []
    whole: list[float] = []
    deadline: float | None = None
    with torch.inference_mode():
        while deadline is None or len(whole) < FEWEST or clock.stamp() < deadline:
            began = before = clock.stamp()
            state = generator.prefill(session.inputs)
            after = clock.stamp()
            made, taken = (after - before) / 1e6, []
            for _ in range(session.model.shape.new_tokens - 1):
                before = after
                state = generator.step(state)
                after = clock.stamp()
                taken.append((after - before) / 1e6)
            if deadline is None:
                deadline = after + budget_s * 1e9
                continue
            prefills.append(made)
            steps += taken
            whole.append((after - began) / 1e6)
    return np.asarray(prefills), np.asarray(steps), np.asarray(whole)


def _real_time(session: Session, samples: Samples, budget_s: float) -> Passed:
    """Preprocess, transfer, forward pass or whole generation, and postprocess over the sound.

    Medians are added, which is no median of the sum: there is no interval.
    """
    audio_s = session.model.shape.audio_s
    parts = {
        name: samples[name]
        for name in ("preprocess_ms", "transfer_ms", "postprocess_ms")
        if name in samples
    }
    if _WHOLE in samples:
        parts["generation"] = samples[_WHOLE]
    else:
        forward = _stage("forward_ms", session.call, session.clock, budget_s)
        parts["forward pass"] = forward.samples["forward_ms"]
    if not audio_s:
        return Passed(measurements=(unknown("real_time_factor", "its sound has no known length"),))
    total_s = sum(float(np.median(values)) for values in parts.values()) / 1000
    shown = ", ".join(name.removesuffix("_ms") for name in parts)
    fault = session.clock.fault()
    return Passed(
        measurements=(
            Measurement(
                name="real_time_factor",
                value=total_s / (audio_s * session.items_per_call),
                sample_count=min(len(values) for values in parts.values()),
                verdict=Verdict.VALID if fault is None else Verdict.UNSTABLE,
                reason=fault or f"medians of {shown} over {audio_s:g} s of sound an item",
            ),
        )
    )
