"""How fast this machine multiplies matrices, and what share of that a model reaches.

    peak = matrix_peak(device, "bf16")                      # FLOPs/s, measured once a process
    achieved, share = utilisation(cost.flops, p50, 8, peak)

The peak is measured rather than read from a data sheet: it is what this machine, at its clock,
its power cap and its threads, gives to the products that models are made of. Its shapes are
squares and tall matrices of growing size, the second factor plain or transposed as in a linear
layer; the fastest counts. Higher is better for the share; the peak only describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from candlemark.errors import ConfigError
from candlemark.metrics.clock import DeviceClock
from candlemark.records import Measurement, Verdict

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
}
"""What the factors of a product hold, by precision."""

Shape = tuple[int, int, int]
"""Rows, columns of the first factor, columns of the second."""

SHAPES: dict[str, tuple[Shape, ...]] = {
    "cpu": (
        *((128, 128, 128), (256, 256, 256), (512, 512, 512), (2048, 512, 512)),
        *((1024, 1024, 1024), (4096, 1024, 1024), (2048, 2048, 2048)),
    ),
    "accelerator": (
        *((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (8192, 2048, 2048)),
        *((4096, 4096, 4096), (16384, 4096, 4096), (8192, 8192, 8192)),
    ),
}
"""From least to most work, so that a slow machine can stop early."""

ROUND_NS = 2_000_000
"""Products are queued until a round lasts this long: starting one is not what is measured."""
MOST_ROUNDS = 50

ABOVE_ONE = (
    "above 1: the model does fewer operations than are counted (Winograd or FFT convolutions, "
    "masked blocks that attention skips), computes in a faster precision than its name says, or "
    "the peak was measured while the machine was slower"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    rate: float
    shape: Shape
    transposed: bool
    rounds: int


def matrix_peak(
    device: torch.device | str,
    precision: str,
    *,
    threads: int | None = None,
    budget_s: float = 1.0,
    clock: DeviceClock | None = None,
) -> Measurement:
    """peak_flops_per_s of `device` in `precision`: fp32, tf32, bf16, fp16 or int8.

    threads: of torch on a CPU; None: as many as are set now. They are put back.
    budget_s: about how long it may take; a shape that would not fit is left out
    clock: one of this device that has been tested; None: a new one, tested first

    Measured once in a process for the same device, precision, threads and budget, and
    remembered unless it was UNSTABLE: call it where nothing else runs. int8 is torch's product
    of int8 matrices with int32 sums. The value is None, with the reason, where a device has no
    such product. Raises ConfigError: unknown precision.
    """
    if precision not in DTYPES:
        raise ConfigError(f"unknown precision '{precision}'; allowed: {', '.join(DTYPES)}")
    place = torch.device(device)
    used = (threads or torch.get_num_threads()) if place.type == "cpu" else None
    key = (str(place), precision, used, budget_s)
    if key in _REMEMBERED:
        return _REMEMBERED[key]
    with _threads(used):
        timer = clock or DeviceClock(place)
        if timer.check is None:
            timer.self_test()
        measured = measure_matrix_peak(timer, precision, budget_s=budget_s)
    if measured.verdict is Verdict.VALID:
        _REMEMBERED[key] = measured
    return measured


_REMEMBERED: dict[tuple[str, str, int | None, float], Measurement] = {}
"""By device, precision, threads and budget."""


def measure_matrix_peak(
    clock: DeviceClock,
    precision: str,
    *,
    budget_s: float = 1.0,
    shapes: tuple[Shape, ...] | None = None,
) -> Measurement:
    """The same on the clock's device with the threads that are set, and not remembered."""
    device = clock.device
    if precision == "tf32" and device.type != "cuda":
        return _unknown(f"tf32 is a mode of CUDA devices; {device} has none")
    if precision == "int8" and not hasattr(torch, "_int_mm"):
        return _unknown("this torch has no product of int8 matrices")
    kind = "cpu" if device.type == "cpu" else "accelerator"
    try:
        with _float32_products("high" if precision == "tf32" else "highest"):
            best = _fastest(clock, precision, shapes or SHAPES[kind], budget_s)
    except (RuntimeError, NotImplementedError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return _unknown(f"{device} has no {precision} product of matrices: {first}")
    finally:
        _give_back(device)
    if best is None:
        return _unknown("the clock saw no time pass", Verdict.UNSTABLE)
    rows, inner, columns = best.shape
    turned = " transposed" if best.transposed else ""
    with_threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    shown = f"{precision} {rows}x{inner} by {inner}x{columns}{turned}{with_threads}"
    fault = clock.fault()
    return Measurement(
        name="peak_flops_per_s",
        value=best.rate,
        unit="FLOPs/s",
        sample_count=best.rounds,
        verdict=Verdict.VALID if fault is None else Verdict.UNSTABLE,
        reason=f"fastest of {best.rounds} rounds, {shown}" + (f"; {fault}" if fault else ""),
    )


def utilisation(
    flops: float | None, latency_p50_ms: Measurement | None, items: int, peak: Measurement | None
) -> tuple[Measurement, Measurement]:
    """(achieved_flops_per_s, utilisation) of a call on `items` items.

    flops: of one item; latency_p50_ms: of the whole call. Intervals and verdicts are those of
    the latency, as the count is exact; one of the peak that is no VALID number is taken over.
    A share above 1 is kept and explained, since it is a fact about the count or the machine.
    """
    missing = _missing(flops, latency_p50_ms)
    if missing or flops is None or latency_p50_ms is None or latency_p50_ms.value is None:
        reason = missing or "unknown"
        return (
            Measurement(name="achieved_flops_per_s", value=None, unit="FLOPs/s", reason=reason),
            Measurement(name="utilisation", value=None, reason=reason),
        )
    work = flops * items * 1000
    latency = latency_p50_ms
    achieved = _over(work, latency, name="achieved_flops_per_s", unit="FLOPs/s")
    if peak is None or not peak.value:
        reason = (peak.reason if peak is not None else None) or "the peak was not measured"
        return achieved, Measurement(name="utilisation", value=None, reason=reason)
    share = _over(work / peak.value, latency, name="utilisation", unit="", peak=peak)
    return achieved, share


def _missing(flops: float | None, latency: Measurement | None) -> str | None:
    if flops is None:
        return "the FLOPs are unknown"
    if latency is None:
        return "the median latency was not measured"
    if latency.value is None:
        return f"the median latency is unknown: {latency.reason}"
    return None if latency.value > 0 else "the clock saw no time pass"


def _over(
    work: float, latency: Measurement, *, name: str, unit: str, peak: Measurement | None = None
) -> Measurement:
    """`work` over a latency in ms; a long call gives the low end of the interval."""
    value = work / (latency.value or math.inf)
    notes = [latency.reason]
    verdict = latency.verdict
    if peak is not None and peak.verdict is not Verdict.VALID:
        verdict = peak.verdict if verdict is Verdict.VALID else verdict
        notes.append(f"the peak: {peak.reason}")
    if peak is not None and value > 1:
        notes.append(ABOVE_ONE)
    return Measurement(
        name=name,
        value=value,
        unit=unit,
        low=work / latency.high if latency.high else None,
        high=work / latency.low if latency.low else None,
        level=latency.level if latency.low and latency.high else None,
        sample_count=latency.sample_count,
        verdict=verdict,
        reason="; ".join(note for note in notes if note) or None,
    )


# -- the products ------------------------------------------------------------------------------


def _fastest(
    clock: DeviceClock, precision: str, shapes: tuple[Shape, ...], budget_s: float
) -> _Best | None:
    """The fastest shape; larger ones are tried while the budget lasts and memory holds them.

    A layout that the device refuses is left out: cuBLAS has no product of int8 matrices of
    which neither is transposed before compute capability 9.0. Raises what the last one raised
    where it refuses them all.
    """
    deadline = clock.stamp() + budget_s * 1e9
    best: _Best | None = None
    refusal: Exception | None = None
    for place, shape in enumerate(shapes):
        left = deadline - clock.stamp()
        # Two layouts, each with one product to warm up and two to time.
        if best is not None and 6e9 * _work(shape) / best.rate > left:
            break
        share = left / (len(shapes) - place) / 2
        for transposed in (False, True):
            try:
                product = _product(clock.device, precision, shape, transposed=transposed)
                fastest_ns, rounds = _time(clock, product, share)
            except torch.OutOfMemoryError:
                return best  # the larger ones would not fit either
            except (RuntimeError, NotImplementedError) as error:
                refusal = error
                continue
            rate = 1e9 * _work(shape) / fastest_ns if fastest_ns > 0 else 0.0
            if rate > (best.rate if best else 0.0):
                best = _Best(rate=rate, shape=shape, transposed=transposed, rounds=rounds)
    if best is None and refusal is not None:
        raise refusal
    return best


def _work(shape: Shape) -> int:
    return 2 * math.prod(shape)


def _product(
    device: torch.device, precision: str, shape: Shape, *, transposed: bool
) -> Callable[[], object]:
    """A product into memory of its own, so that no time goes into allocating."""
    rows, inner, columns = shape
    dtype = DTYPES[precision]
    left = _filled((rows, inner), dtype, device)
    right = _filled((inner, columns), dtype, device)
    if transposed:  # as a linear layer keeps its weight: the same numbers, columns first
        right = right.t().contiguous().t()
    whole = precision == "int8"
    out = torch.empty(rows, columns, dtype=torch.int32 if whole else dtype, device=device)
    multiply: Any = torch._int_mm if whole else torch.mm  # noqa: SLF001 - has no public name
    return lambda: multiply(left, right, out=out)


def _filled(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random numbers: zeros draw less power, and a capped device then runs faster."""
    if dtype is torch.int8:
        return torch.randint(-100, 100, shape, dtype=dtype, device=device)
    return torch.randn(shape, device=device).to(dtype)


def _time(clock: DeviceClock, product: Callable[[], object], share_ns: float) -> tuple[float, int]:
    """(fastest time of one product in ns, rounds): at least two rounds, then for `share_ns`."""
    product()
    started = clock.stamp()
    product()
    first = clock.stamp()
    once = first - started
    calls = max(1, min(1000, math.ceil(ROUND_NS / once))) if once > 0 else 1
    fastest, rounds, before = math.inf, 0, first
    while rounds < 2 or (before - started < share_ns and rounds < MOST_ROUNDS):
        for _ in range(calls):
            product()
        after = clock.stamp()
        fastest = min(fastest, (after - before) / calls)
        before, rounds = after, rounds + 1
    return fastest, rounds


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _float32_products(precision: str) -> Iterator[None]:
    """Whether float32 products may run as tf32; put back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _give_back(device: torch.device) -> None:
    """Let go of the matrices, so that no later reading of memory holds them."""
    if device.type in {"cuda", "xpu", "mps"}:
        getattr(torch, device.type).empty_cache()


def _unknown(reason: str, verdict: Verdict = Verdict.VALID) -> Measurement:
    return Measurement(
        name="peak_flops_per_s", value=None, unit="FLOPs/s", verdict=verdict, reason=reason
    )
