"""The task `inference`: one model, one shape, one precision and backend, measured pass by pass.

    result = run(work)          # in a worker process

Each metric has a pass of its own, so that none disturbs another: numerics; then, with nothing
else of ours at work on the machine, clock, latency, throughput, stages, peak and energy; then
memory, arithmetic, and the largest batch, which may end in an error on purpose, last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from candlemark import progress
from candlemark.benchmark.inference.config import TimingConfig
from candlemark.benchmark.inference.passes import AFTER, BEFORE, GIVES, LAST, TIMED, Pass
from candlemark.benchmark.inference.plan import InferenceWork
from candlemark.benchmark.inference.session import Session, open_session
from candlemark.benchmark.inference.stages import Passed, join, unknown
from candlemark.benchmark.tasks.base import TaskResult
from candlemark.config import parse
from candlemark.errors import CandlemarkError
from candlemark.execution import leases
from candlemark.hardware.comparability import comparability_key
from candlemark.hardware.conditions import watch
from candlemark.hardware.snapshot import snapshot
from candlemark.metrics.flops import model_size
from candlemark.metrics.peak import utilisation
from candlemark.records import Measurement, Verdict

SHARED_PROCESS = "earlier cells in this process have left memory behind"
LOADS_BESIDE = "other cells may have loaded at the same time"


def run(work: InferenceWork) -> TaskResult:
    """Measure one cell.

    Raises ModelError: the model, its precision or its backend cannot be had; ConfigError: the
    cell was refused; and whatever a forward pass raises.
    """
    timing = parse(TimingConfig, work.trial.config["timing"])
    with open_session(work) as session:
        passed = join(list(_passes(session, timing)))
        measurements = _judged(session, passed.measurements)
        return TaskResult(
            measurements=measurements,
            samples=passed.samples,
            facts={**_facts(session), **passed.facts},
            environment=_environment(session, passed.facts),
        )


def _passes(session: Session, timing: TimingConfig) -> Iterable[Passed]:
    config = session.work.trial.config
    yield _opening(session)
    with leases.loading():
        yield from _attempts(session, timing, BEFORE)
    if any(metric in config["metrics"] for metric in TIMED):
        with leases.timing(session.device):
            yield _timed(session, timing, TIMED)
    with leases.loading():
        yield from _attempts(session, timing, AFTER)
    if any(metric in config["metrics"] for metric in LAST):
        with leases.timing(session.device):
            yield _timed(session, timing, LAST)


def _opening(session: Session) -> Passed:
    """What was measured while the session opened, and how large its model is."""
    alone = session.work.alone
    parameters, model_bytes = model_size(session.model.module)
    on_disk = session.facts.get("onnx_bytes")
    stored = "size of the exported file" if on_disk else "parameters and buffers as stored"
    warmed = "after a pass in fp32, for reference" if session.reference is not None else None
    return Passed(
        measurements=(
            Measurement(
                name="load_s",
                value=session.load_s,
                unit="s",
                sample_count=1,
                verdict=Verdict.VALID if alone else Verdict.CONTENDED,
                reason=_both(
                    "loaded by an earlier cell of this process" if session.reused else None,
                    None if alone else LOADS_BESIDE,
                ),
            ),
            Measurement(
                name="first_call_ms",
                value=session.first_call_ms,
                unit="ms",
                sample_count=1,
                verdict=Verdict.VALID if alone else Verdict.CONTENDED,
                reason=_both(warmed, None if alone else LOADS_BESIDE),
            ),
            Measurement(name="parameters", value=float(session.parameters or parameters)),
            Measurement(
                name="model_bytes",
                value=float(on_disk or model_bytes),
                unit="bytes",
                reason=stored,
            ),
        )
    )


def _timed(
    session: Session, timing: TimingConfig, passes: Mapping[str, tuple[Pass, ...]]
) -> Passed:
    """Passes with the machine alone; what else happened on it marks what they measured."""
    name = str(session.work.trial.row)
    with progress.timing(name), watch(session.device) as seen:
        session.test_clock()
        done = join(list(_attempts(session, timing, passes)))
    check = session.clock.check
    conditions = {"conditions": seen.facts} if passes is TIMED else {}
    return replace(
        done,
        measurements=seen.apply(done.measurements),
        facts={**done.facts, **conditions, "clock": check.detail if check else None},
    )


def _attempts(
    session: Session, timing: TimingConfig, passes: Mapping[str, tuple[Pass, ...]]
) -> Iterable[Passed]:
    """The passes that were asked for; one that cannot be had says why and loses no other."""
    asked = session.work.trial.config["metrics"]
    for metric, functions in passes.items():
        if metric in asked:
            for function in functions:
                yield _attempt(function, session, timing)


def _attempt(function: Pass, session: Session, timing: TimingConfig) -> Passed:
    try:
        return function(session, timing)
    except (CandlemarkError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Passed(measurements=tuple(unknown(name, reason) for name in GIVES[function]))


def _judged(session: Session, measured: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    """All measurements, with what follows from several of them, and memory as it may be quoted."""
    known = {m.name: m for m in measured}
    flops = known.get("flops")
    derived = (
        utilisation(
            flops.value,
            known.get("latency_p50_ms"),
            session.items_per_call,
            known.get("peak_flops_per_s"),
        )
        if flops is not None
        else ()
    )
    shared = session.earlier > 0
    return tuple(
        replace(m, verdict=Verdict.CONTENDED, reason=_both(m.reason, SHARED_PROCESS))
        if shared
        and m.name in _OF_THE_PROCESS
        and m.value is not None
        and session.device.type == "cpu"
        else m
        for m in (*measured, *derived)
    )


_OF_THE_PROCESS = frozenset({"peak_memory_bytes", "process_memory_bytes"})


def _facts(session: Session) -> dict[str, Any]:
    """What was found out about the model and its inputs, JSON types only."""
    shape = session.model.shape
    return {
        **session.model.facts,
        **session.facts,
        "input_shape": _shapes(session),
        "shape": {
            "sequence_length": shape.sequence_length,
            "image_size": shape.image_size,
            "audio_s": shape.audio_s,
            "new_tokens": shape.new_tokens if session.model.generator is not None else None,
        },
        "reused": session.reused,
        "same_answer": None,
    }


def _shapes(session: Session) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in session.inputs.items()}


def _environment(session: Session, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The machine, what the numbers depend on, and their key."""
    config = session.work.trial.config
    fields = snapshot(
        session.device,
        precision=config["precision"],
        backend=config["backend"],
        attention=session.model.facts.get("attention"),
        input_shape=_shapes(session),
        batch_size=config["batch_size"],
    )
    return {
        **fields,
        "comparability_key": comparability_key(fields),
        "conditions": facts.get("conditions"),
    }


def _both(*reasons: str | None) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None
