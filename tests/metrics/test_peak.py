"""A machine of known speed, and shares worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from candlemark.errors import ConfigError
from candlemark.metrics import peak as module
from candlemark.metrics.clock import ClockCheck, DeviceClock
from candlemark.metrics.measures import MEASURES
from candlemark.metrics.peak import DTYPES, SHAPES, matrix_peak, measure_matrix_peak, utilisation
from candlemark.records import Measurement, Verdict

CPU = torch.device("cpu")
SMALL = ((32, 32, 32), (64, 32, 32), (64, 64, 64))


class Machine:
    """Multiplies at a known rate by its own clock, and not at all by ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rates: Callable[[Any], float]) -> None:
        self.ns = 0.0
        self.products: list[tuple[int, int, int]] = []

        def product(_: object, precision: str, shape: Any, *, transposed: bool) -> Any:
            def work() -> None:
                self.products.append(shape)
                self.ns += 1e9 * 2 * shape[0] * shape[1] * shape[2] / rates((shape, transposed))

            return work

        monkeypatch.setattr(module, "_product", product)

    def clock(self, *, tested: bool = True) -> DeviceClock:
        check = ClockCheck(ok=True, ratios={}, detail="") if tested else None
        return DeviceClock(CPU, now_ns=lambda: int(self.ns), check=check)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    module._REMEMBERED.clear()
    yield
    module._REMEMBERED.clear()
    torch.set_num_threads(before)


def test_the_fastest_shape_and_layout_count(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = ((512, 512, 512), True)
    machine = Machine(monkeypatch, lambda asked: 8e9 if asked == fast else 5e9)
    measured = measure_matrix_peak(machine.clock(), "fp32", budget_s=600)
    assert measured.value == pytest.approx(8e9, rel=1e-5)
    assert measured.verdict is Verdict.VALID
    assert "fp32 512x512 by 512x512 transposed" in str(measured.reason)
    assert measured.sample_count == 50
    assert set(machine.products) == set(SHAPES["cpu"])
    assert (measured.name, measured.unit) == ("peak_flops_per_s", MEASURES[measured.name].unit)


def test_a_slow_machine_leaves_out_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda _: 1e9)
    measured = measure_matrix_peak(machine.clock(), "bf16", budget_s=0.5)
    assert measured.value == pytest.approx(1e9, rel=1e-5)
    assert set(machine.products) == {(128,) * 3, (256,) * 3}
    assert machine.ns < 0.6e9


def test_the_first_shape_is_timed_whatever_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda _: 1e6)
    measured = measure_matrix_peak(machine.clock(), "fp32", budget_s=0.01)
    assert measured.value == pytest.approx(1e6, rel=1e-5)


def test_a_clock_that_was_not_tested_or_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda _: 1e9)
    measured = measure_matrix_peak(machine.clock(tested=False), "fp32", budget_s=0.1)
    assert measured.verdict is Verdict.UNSTABLE
    assert "the clock was not tested" in str(measured.reason)
    machine = Machine(monkeypatch, lambda _: float("inf"))
    measured = measure_matrix_peak(machine.clock(), "fp32", budget_s=0.1)
    assert (measured.value, measured.verdict) == (None, Verdict.UNSTABLE)
    assert measured.reason == "the clock saw no time pass"


def test_memory_that_ends_leaves_the_smaller_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda _: 1e9)
    known = module._product

    def product(device: Any, precision: str, shape: Any, *, transposed: bool) -> Any:
        if shape[0] > 256:
            raise torch.OutOfMemoryError("out of memory")
        return known(device, precision, shape, transposed=transposed)

    monkeypatch.setattr(module, "_product", product)
    measured = measure_matrix_peak(machine.clock(), "fp32", budget_s=60)
    assert measured.value == pytest.approx(1e9, rel=1e-5)


@pytest.mark.parametrize("precision", [name for name in DTYPES if name != "tf32"])
def test_this_machine_multiplies_in_every_precision(precision: str) -> None:
    clock = DeviceClock(CPU)
    clock.check = ClockCheck(ok=True, ratios={}, detail="")
    measured = measure_matrix_peak(clock, precision, budget_s=0.02, shapes=SMALL)
    assert measured.value is not None
    assert measured.value > 0
    assert precision in str(measured.reason)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_right_in_both_layouts(precision: str, transposed: bool) -> None:
    product = module._product(CPU, precision, (4, 8, 16), transposed=transposed)
    out = product()
    assert isinstance(out, torch.Tensor)
    assert out.shape == (4, 16)
    assert out.dtype is (torch.int32 if precision == "int8" else DTYPES[precision])


def test_a_layout_that_a_device_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As cuBLAS does with int8 matrices of which neither is transposed."""

    def rate(asked: Any) -> float:
        if not asked[1]:
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        return 7e9

    measured = measure_matrix_peak(Machine(monkeypatch, rate).clock(), "int8", budget_s=600)
    assert measured.value == pytest.approx(7e9, rel=1e-5)
    assert "transposed" in str(measured.reason)


def test_what_a_device_has_not_is_none_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DeviceClock(CPU)
    measured = measure_matrix_peak(clock, "tf32")
    assert (measured.value, measured.reason) == (
        None,
        "tf32 is a mode of CUDA devices; cpu has none",
    )

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not implemented for 'Char'\nand more")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    measured = measure_matrix_peak(clock, "int8", shapes=SMALL)
    assert measured.reason == "cpu has no int8 product of matrices: not implemented for 'Char'"
    monkeypatch.delattr(torch, "_int_mm")
    measured = measure_matrix_peak(clock, "int8", shapes=SMALL)
    assert measured.reason == "this torch has no product of int8 matrices"


def test_remembered_by_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int]] = []

    def measure(clock: DeviceClock, precision: str, *, budget_s: float) -> Measurement:
        asked.append((str(clock.device), precision, torch.get_num_threads()))
        return Measurement(name="peak_flops_per_s", value=1.0)

    monkeypatch.setattr(module, "measure_matrix_peak", measure)
    monkeypatch.setattr(DeviceClock, "self_test", lambda self: None)
    for threads, precision in [(None, "fp32"), (1, "fp32"), (2, "fp32"), (1, "bf16")]:
        matrix_peak("cpu", precision, threads=threads)
        assert torch.get_num_threads() == 1
    assert asked == [("cpu", "fp32", 1), ("cpu", "fp32", 2), ("cpu", "bf16", 1)]


def test_a_clock_at_fault_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda _: 1e9)
    bad = ClockCheck(ok=False, ratios={}, detail="2x the work took 9x the time")
    first = matrix_peak("cpu", "fp32", budget_s=0.1, clock=replace(machine.clock(), check=bad))
    assert first.verdict is Verdict.UNSTABLE
    second = matrix_peak("cpu", "fp32", budget_s=0.1, clock=machine.clock())
    assert second.verdict is Verdict.VALID
    assert matrix_peak("cpu", "fp32", budget_s=0.1) is second


def test_settings_are_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        measure_matrix_peak(DeviceClock(CPU), "fp32", budget_s=0.001, shapes=SMALL)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_an_unknown_precision_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown precision 'fp8'; allowed: fp32, tf32, bf16"):
        matrix_peak("cpu", "fp8")


# -- utilisation -------------------------------------------------------------------------------

PEAK = Measurement(name="peak_flops_per_s", value=1e12, unit="FLOPs/s")
LATENCY = Measurement(
    name="latency_p50_ms", value=10.0, unit="ms", low=8.0, high=12.5, level=0.95, sample_count=60
)


def test_a_share_and_its_interval_by_hand() -> None:
    achieved, share = utilisation(1e9, LATENCY, 5, PEAK)
    assert (achieved.name, achieved.unit) == ("achieved_flops_per_s", "FLOPs/s")
    assert (achieved.value, achieved.low, achieved.high) == pytest.approx((5e11, 4e11, 6.25e11))
    assert (share.name, share.unit) == ("utilisation", "")
    assert (share.value, share.low, share.high) == pytest.approx((0.5, 0.4, 0.625))
    assert (share.level, share.sample_count, share.reason) == (0.95, 60, None)
    assert {achieved.name, share.name} <= MEASURES.keys()


def test_a_latency_without_an_interval_gives_none() -> None:
    latency = Measurement(name="latency_p50_ms", value=10.0, unit="ms", sample_count=5)
    for measured in utilisation(1e9, latency, 5, PEAK):
        assert (measured.low, measured.high, measured.level) == (None, None, None)


def test_more_than_the_peak_is_kept_and_explained() -> None:
    _, share = utilisation(3e9, LATENCY, 5, PEAK)
    assert share.value == pytest.approx(1.5)
    assert str(share.reason).startswith("above 1: the model does fewer operations than are counted")


def test_verdicts_are_carried_over() -> None:
    latency = Measurement(
        name="latency_p50_ms", value=10.0, verdict=Verdict.CONTENDED, reason="others ran"
    )
    peak = Measurement(name="-", value=1e12, verdict=Verdict.UNSTABLE, reason="a bad clock")
    achieved, share = utilisation(1e9, latency, 5, peak)
    assert (achieved.verdict, achieved.reason) == (Verdict.CONTENDED, "others ran")
    assert (share.verdict, share.reason) == (Verdict.CONTENDED, "others ran; the peak: a bad clock")
    assert utilisation(1e9, LATENCY, 5, peak)[1].verdict is Verdict.UNSTABLE


@pytest.mark.parametrize(
    ("flops", "latency", "peak", "reasons"),
    [
        (None, LATENCY, PEAK, ("the FLOPs are unknown",) * 2),
        (1e9, None, PEAK, ("the median latency was not measured",) * 2),
        (
            *(1e9, Measurement(name="-", value=None, reason="too few"), PEAK),
            ("the median latency is unknown: too few",) * 2,
        ),
        (1e9, Measurement(name="-", value=0.0), PEAK, ("the clock saw no time pass",) * 2),
        (1e9, LATENCY, None, (None, "the peak was not measured")),
        (
            *(1e9, LATENCY, Measurement(name="-", value=None, reason="no such product")),
            (None, "no such product"),
        ),
    ],
)
def test_what_is_missing_is_named(
    flops: float | None,
    latency: Measurement | None,
    peak: Measurement | None,
    reasons: tuple[str | None, str | None],
) -> None:
    measured = utilisation(flops, latency, 5, peak)
    assert tuple(m.reason for m in measured) == reasons
    assert tuple(m.value is None for m in measured) == tuple(bool(r) for r in reasons)
