"""One pass a metric over an open session: each measures one thing, and only that.

    passed = PASSES["latency"](session, TimingConfig())
    passed.measurements, passed.samples, passed.facts

A pass that cannot be had (no counter for energy, an operator that nobody can count) gives
measurements without a value and with the reason. What stops the forward pass itself stops the
cell: that is raised.
"""

from __future__ import annotations

from collections.abc import Callable

from candlemark.benchmark.inference.config import TimingConfig
from candlemark.benchmark.inference.session import Session
from candlemark.benchmark.inference.stages import STAGE_SHARE, Passed, measure_stages, unknown
from candlemark.metrics.flops import count_flops
from candlemark.metrics.timing import measure_latency, measure_throughput

THROUGHPUT_SHARE = 0.5
"""Of the budget for latency: what throughput gets."""
ENERGY_SHARE = 0.2
"""Of the budget for latency: what each window of energy gets."""
PEAK_SHARE = 0.1
"""Of the budget for latency: what the matrix products of the peak get."""


def class_dimension(name: str, dimensions: int) -> int | None:
    """Where an output holds its choices, by its name: None for features, boxes and masks.

    Logits (N, ..., C) choose along the last dimension, maps of them (N, C, H, W) along the
    second.
    """
    if "logits" not in name:
        return None
    return 1 if dimensions == _MAP_DIMENSIONS else -1


_MAP_DIMENSIONS = 4


def measure_numerics(session: Session, _: TimingConfig) -> Passed:
    """The main output beside that of fp32 eager, for the same items and weights."""
    from candlemark.metrics.numerics import compare_outputs, same_answer

    tolerance = session.work.trial.config["tolerance"]
    if session.reference is None:
        return Passed(facts={"same_answer": True})  # this cell is what others are compared with
    name, main = next(iter(session.outputs().items()))
    measured = compare_outputs(
        session.reference, main, class_dimension=class_dimension(name, main.dim())
    )
    return Passed(
        measurements=measured,
        facts={"same_answer": same_answer(measured, tolerance), "tolerance": tolerance},
    )


def measure_session_latency(session: Session, timing: TimingConfig) -> Passed:
    """Single forward passes, the device waited for after each."""
    timed = measure_latency(
        session.call,
        session.clock,
        budget_s=timing.budget_s,
        warmup_s=timing.warmup_s,
        warmup_calls=timing.warmup_calls,
        width=timing.width,
        minimum_samples=timing.minimum_samples,
    )
    return Passed(
        measurements=timed.measurements,
        samples={"latency_ms": timed.samples_ms},
        facts={"stopped": timed.stopped, "warmup_calls": timed.warmup_calls},
    )


def measure_session_throughput(session: Session, timing: TimingConfig) -> Passed:
    """Forward passes queued one behind the other, the device waited for once a round."""
    timed = measure_throughput(
        session.call,
        session.clock,
        items_per_call=session.items_per_call,
        budget_s=timing.budget_s * THROUGHPUT_SHARE,
        warmup_s=timing.warmup_s * THROUGHPUT_SHARE,
    )
    return Passed(
        measurements=timed.measurements, samples={"throughput_round_ms": timed.samples_ms}
    )


def count_session_flops(session: Session, _: TimingConfig) -> Passed:
    """Arithmetic of one item's forward pass, from the shapes of its operators."""
    cost = session.cost or count_flops(
        session.model.module, session.inputs, items=session.items_per_call
    )
    kept = tuple(m for m in cost.measurements() if m.name in {"flops", "macs"})
    return Passed(measurements=kept, facts=cost.facts())


def measure_peak(session: Session, timing: TimingConfig) -> Passed:
    """The fastest matrix product of this machine, in the precision and threads of the cell."""
    from candlemark.metrics.peak import matrix_peak

    peak = matrix_peak(
        session.device,
        session.work.trial.config["precision"],
        budget_s=timing.budget_s * PEAK_SHARE,
        clock=session.clock,
    )
    return Passed(measurements=(peak,))


def measure_session_energy(session: Session, timing: TimingConfig) -> Passed:
    """Joules an item from a counter of the hardware, where there is one."""
    from candlemark.metrics.energy import measure_energy

    measured = measure_energy(
        session.call,
        session.device,
        items_per_call=session.items_per_call,
        window_s=timing.budget_s * ENERGY_SHARE,
    )
    return Passed(measurements=tuple(measured))


def measure_session_memory(session: Session, _: TimingConfig) -> Passed:
    """What forward passes take, of the device or of the process."""
    from candlemark.metrics.memory import measure_memory

    by_torch = session.work.trial.config["backend"] != "onnxruntime"
    profile = measure_memory(session.call, session.device, torch_allocates=by_torch)
    if by_torch or session.device.type == "cpu":
        return Passed(measurements=profile.measurements, samples=profile.samples)
    reason = "ONNX Runtime allocates on the device past torch, which keeps the only account"
    return Passed(
        measurements=tuple(
            m if m.name == "process_memory_bytes" else unknown(m.name, reason)
            for m in profile.measurements
        )
    )


def search_largest_batch(session: Session, timing: TimingConfig) -> Passed:
    """The largest batch before memory ends, and the one with the highest throughput up to it."""
    from candlemark.metrics.batches import HostGuard, find_largest_batch, measure_batches

    backend = session.work.trial.config["backend"]
    if backend != "eager":
        reason = f"batches are searched in eager: backend '{backend}' is made for one shape"
        return Passed(measurements=tuple(unknown(name, reason) for name in _BATCHES))

    def make_call(count: int) -> Callable[[], object]:
        inputs = session.batch_of(count)
        return lambda: session.call_with(inputs)

    def run(count: int) -> None:
        make_call(count)()
        session.clock.stamp()

    search = find_largest_batch(
        run,
        limit=LARGEST_BATCH,
        release=session.release,
        guard=HostGuard() if session.device.type == "cpu" else None,
        budget_s=timing.budget_s * SEARCH_SHARE,
    )
    sizes = [size for size in _POWERS if size <= search.largest]
    curve = measure_batches(
        make_call,
        session.clock,
        batch_sizes=sizes,
        budget_s=timing.budget_s * STAGE_SHARE,
        warmup_s=timing.budget_s * STAGE_SHARE / 4,
        release=session.release,
    )
    return Passed(
        measurements=(search.measurement(), curve.best),
        facts={
            "batch_search": search.ended_by,
            "throughput_by_batch": {str(n): m.value for n, m in curve.throughput.items()},
        },
    )


_BATCHES = ("largest_batch", "best_batch")
_POWERS = tuple(4**exponent for exponent in range(6))
LARGEST_BATCH = _POWERS[-1]
SEARCH_SHARE = 2.0
"""Of the budget for latency: what the search for the largest batch gets, its throughputs apart."""

Pass = Callable[[Session, TimingConfig], Passed]

BEFORE: dict[str, tuple[Pass, ...]] = {
    "numerics": (measure_numerics,),
}
"""Passes by metric, in the order in which they run: what is seen before anything is timed,"""

TIMED: dict[str, tuple[Pass, ...]] = {
    "latency": (measure_session_latency,),
    "throughput": (measure_session_throughput,),
    "stages": (measure_stages,),
    "flops": (measure_peak,),
    "energy": (measure_session_energy,),
}
"""what needs the machine alone,"""

AFTER: dict[str, tuple[Pass, ...]] = {
    "memory": (measure_session_memory,),
    "flops": (count_session_flops,),
}
"""what reads no clock,"""

LAST: dict[str, tuple[Pass, ...]] = {"largest_batch": (search_largest_batch,)}
"""and what goes on until memory ends."""

GIVES: dict[Pass, tuple[str, ...]] = {
    measure_numerics: ("relative_error", "answer_agreement"),
    measure_session_latency: ("latency_p50_ms",),
    measure_session_throughput: ("throughput_items_per_s",),
    measure_stages: ("preprocess_ms", "transfer_ms", "postprocess_ms"),
    measure_peak: ("peak_flops_per_s",),
    measure_session_energy: ("energy_per_item_j", "power_w", "idle_power_w"),
    measure_session_memory: ("peak_memory_bytes", "activation_memory_bytes"),
    search_largest_batch: _BATCHES,
    count_session_flops: ("flops", "macs"),
}
"""What a pass leaves unknown where it cannot be had."""
