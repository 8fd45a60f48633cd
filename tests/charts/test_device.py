"""Where pictures are drawn: the choice, its one line, and the device's pictures and memory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from candlemark import progress
from candlemark.candles.series import CandleSeries, Slots
from candlemark.charts.device import (
    DeviceRenderer,
    Placed,
    backend_line,
    choose_backend,
)
from candlemark.charts.render import render_windows
from candlemark.charts.style import ChartStyle, image_shape
from candlemark.errors import ChartError

JKX = ChartStyle(kind="jkx", moving_averages=(5,))
CANDLES = ChartStyle(kind="candlestick", height=40, width=61, volume=True, moving_averages=(2, 9))
OHLC4 = ChartStyle(kind="ohlc4", height=31)
every_style = pytest.mark.parametrize("style", [OHLC4, JKX, CANDLES], ids=lambda s: s.kind)
WINDOW = 12
INSTALL = "python -m pip install 'candlemark[cuda]'"


class Notes:
    """Keeps the lines that were reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def handle(self, event: progress.Event) -> None:
        assert event.kind == "note"
        self.lines.append(event.text)


@pytest.fixture
def notes() -> Iterator[Notes]:
    reporter = Notes()
    previous = progress.set_reporter(reporter)
    yield reporter
    progress.set_reporter(previous)


@pytest.fixture
def slots(make_series: Callable[..., CandleSeries]) -> Slots:
    return make_series(80, missing=(3, 20, 21, 50)).slots


def no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)


def masks(count: int) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(2).random((count, WINDOW)) < 0.6


# Without a device.


def test_without_cupy_auto_draws_on_the_cpu_and_says_so_once(
    slots: Slots, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_cupy(monkeypatch)
    renderer = DeviceRenderer(slots, JKX, window=WINDOW)
    starts = [0, 7, 68]
    pictures = renderer.draw(starts, masks(3))
    renderer.draw(starts)
    assert renderer.backend == "cpu"
    assert isinstance(pictures, np.ndarray)
    np.testing.assert_array_equal(
        pictures, render_windows(slots, JKX, starts, window=WINDOW, visible=masks(3))
    )
    assert len(notes.lines) == 1
    assert notes.lines[0].startswith("charts are drawn on the CPU: CuPy is not installed")
    assert notes.lines[0].endswith(INSTALL)
    assert backend_line() == notes.lines[0]


def test_without_cupy_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    no_cupy(monkeypatch)
    with pytest.raises(ChartError) as error:
        backend_line("cuda")
    assert "charts cannot be drawn on cuda: CuPy is not installed" in str(error.value)
    assert INSTALL in str(error.value)
    assert str(error.value).endswith('or draw on the CPU: device "cpu"')


def test_without_a_driver_the_driver_is_named(fake_cupy: Any, slots: Slots, notes: Notes) -> None:
    fake_cupy.driver_error = "cudaErrorInsufficientDriver: version is insufficient"
    with pytest.raises(ChartError, match="no NVIDIA driver or device") as error:
        DeviceRenderer(slots, JKX, window=WINDOW, device="cuda")
    assert "cudaErrorInsufficientDriver" in str(error.value)
    assert "nvidia-smi" in str(error.value)
    assert not notes.lines
    assert DeviceRenderer(slots, JKX, window=WINDOW, device="auto").backend == "cpu"
    assert "cudaErrorInsufficientDriver" in notes.lines[0]


def test_with_the_real_cupy_the_answer_fits_this_machine() -> None:
    """Whichever of the three this machine is: no CuPy, CuPy and no device, or both."""
    chosen = choose_backend("auto")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        assert "CuPy is not installed" in chosen.line
        return
    try:
        there = cupy.cuda.runtime.getDeviceCount() > 0
    except RuntimeError:
        there = False
    assert chosen.name == ("cuda:0" if there else "cpu")
    if not there:
        with pytest.raises(ChartError, match="no NVIDIA driver or device"):
            choose_backend("cuda")


def test_cpu_as_asked(slots: Slots, notes: Notes, fake_cupy: Any) -> None:
    assert DeviceRenderer(slots, JKX, window=WINDOW, device="cpu").backend == "cpu"
    assert notes.lines == ["charts are drawn on the CPU, as asked"]
    assert not fake_cupy.device_of_call


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ChartError, match=f"unknown device '{device}'") as error:
        choose_backend(device)
    assert "auto, cpu, cuda" in str(error.value)


def test_a_device_that_is_not_there_is_refused(fake_cupy: Any) -> None:
    with pytest.raises(ChartError, match=r"there is no cuda:3; CUDA devices: cuda:0"):
        choose_backend("cuda:3")


@pytest.mark.parametrize("error", [RuntimeError, OSError, "compile"])
def test_kernels_that_do_not_compile(fake_cupy: Any, error: Any) -> None:
    kind = fake_cupy.cuda.compiler.CompileException if error == "compile" else error
    fake_cupy.compile_error = kind("no libnvrtc\nand more")
    with pytest.raises(ChartError, match=r"cannot be compiled by CuPy 14.2.0 \(no libnvrtc\)"):
        choose_backend("cuda")
    assert choose_backend("auto").name == "cpu"


def test_pictures_of_the_cpu_go_to_torch_without_a_copy(slots: Slots) -> None:
    torch = pytest.importorskip("torch")
    pictures = DeviceRenderer(slots, JKX, window=WINDOW, device="cpu").draw([0, 1])
    tensor = torch.from_dlpack(pictures)
    assert tensor.data_ptr() == pictures.ctypes.data
    assert tuple(tensor.shape) == (2, *image_shape(JKX, WINDOW))


def test_no_series_is_refused() -> None:
    with pytest.raises(ChartError, match="give at least one series"):
        DeviceRenderer([], JKX, window=WINDOW, device="cpu")


# Several series on one time grid.


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@every_style
def test_windows_of_several_series_are_mixed(
    device: str, style: ChartStyle, fake_cupy: Any, make_series: Callable[..., CandleSeries]
) -> None:
    """No average sees the end of the series before: it is drawn as if alone."""
    several = [make_series(count, seed=count).slots for count in (30, 13, 50)]
    renderer = DeviceRenderer(several, style, window=WINDOW, device=device)
    series = np.array([2, 0, 1, 1, 0, 2])
    starts = np.array([0, 18, 0, 1, 0, 38])
    for visible in (None, masks(6)):
        drawn = renderer.draw(starts, visible, series=series)
        for n in range(6):
            alone = render_windows(
                several[series[n]],
                style,
                starts[n : n + 1],
                window=WINDOW,
                visible=None if visible is None else visible[n : n + 1],
            )
            np.testing.assert_array_equal(drawn[n], alone[0])


def test_windows_outside_their_series_are_refused(make_series: Callable[..., CandleSeries]) -> None:
    several = [make_series(count).slots for count in (30, 13)]
    renderer = DeviceRenderer(several, JKX, window=WINDOW, device="cpu")
    with pytest.raises(ChartError, match=r"starts\[1\] is slot 2; .* 13 slots of series 1 .* 1$"):
        renderer.draw([18, 2], series=[0, 1])
    with pytest.raises(ChartError, match=r"series\[0\] is 2; there are 2 series, 0 to 1"):
        renderer.draw([0], series=[2])
    with pytest.raises(ChartError, match="whole numbers of one shape"):
        renderer.draw([0, 1], series=[0])
    with pytest.raises(ChartError, match="whole numbers of one shape"):
        renderer.draw([0.5], series=[0])
    with pytest.raises(ChartError, match=r"starts\[0\] is slot 19"):
        renderer.draw([19])


# Windows that stay on the device.


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_placed_windows_are_checked_once_and_drawn_by_row(
    device: str, slots: Slots, fake_cupy: Any
) -> None:
    renderer = DeviceRenderer(slots, JKX, window=WINDOW, device=device)
    starts = np.array([5, 0, 68, 33])
    placed = renderer.place(starts)
    assert len(placed) == 4
    wanted = render_windows(slots, JKX, starts, window=WINDOW)
    np.testing.assert_array_equal(renderer.draw(placed), wanted)
    np.testing.assert_array_equal(renderer.draw(placed, rows=[3, 3, 0]), wanted[[3, 3, 0]])
    hidden = render_windows(slots, JKX, starts[[1]], window=WINDOW, visible=masks(1))
    np.testing.assert_array_equal(renderer.draw(placed, masks(1), rows=[1]), hidden)
    for rows in ([4], [-1], [0.5], [[1]]):
        with pytest.raises(ChartError, match=r"rows.*whole numbers \(N,\) from 0 to 3"):
            renderer.draw(placed, rows=rows)
    with pytest.raises(ChartError, match=r"starts\[0\] is slot 69"):
        renderer.place([69])
    with pytest.raises(ChartError, match="rows choose among placed windows"):
        renderer.draw([0], rows=[0])


def test_rows_and_masks_may_be_on_the_device(slots: Slots, fake_cupy: Any) -> None:
    renderer = DeviceRenderer(slots, JKX, window=WINDOW, device="cuda")
    starts = np.array([5, 0, 68, 33])
    placed = renderer.place(starts)
    rows = np.array([2, 1])
    visible = masks(2)
    np.testing.assert_array_equal(
        renderer.draw(placed, Tensor(visible), rows=Tensor(rows)),
        render_windows(slots, JKX, starts[rows], window=WINDOW, visible=visible),
    )
    with pytest.raises(ChartError, match="visible is int64 of shape"):
        renderer.draw(placed, Tensor(starts))
    with pytest.raises(ChartError, match=r"rows is float64 of shape \(1,\)"):
        renderer.draw(placed, rows=Tensor(np.zeros(1)))


def test_windows_placed_by_another_renderer_are_refused(slots: Slots, fake_cupy: Any) -> None:
    other = DeviceRenderer(slots, JKX, window=WINDOW, device="cuda").place([0])
    assert isinstance(other, Placed)
    with pytest.raises(ChartError, match="placed by another renderer"):
        DeviceRenderer(slots, JKX, window=WINDOW, device="cuda").draw(other)


# On a device that is this CPU.


@every_style
def test_a_device_draws_the_cpus_pictures(
    style: ChartStyle, slots: Slots, fake_cupy: Any, notes: Notes
) -> None:
    renderer = DeviceRenderer(slots, style, window=WINDOW)
    assert renderer.backend == "cuda:0"
    assert notes.lines == [
        "charts are drawn on cuda:0, Emulated GPU, through CuPy 14.2.0",
    ]
    starts = np.array([68, 0, 3, 3, 41])
    for visible in (None, masks(5)):
        drawn = renderer.draw(starts, visible)
        assert isinstance(drawn, fake_cupy.ndarray)
        np.testing.assert_array_equal(
            drawn, render_windows(slots, style, starts, window=WINDOW, visible=visible)
        )


def test_averages_are_computed_once_unless_candles_are_hidden(slots: Slots, fake_cupy: Any) -> None:
    renderer = DeviceRenderer(slots, JKX, window=WINDOW, device="cuda")
    assert fake_cupy.kernels == ["average_slots"]
    renderer.draw([0])
    renderer.draw([0], masks(1))
    assert fake_cupy.kernels == ["average_slots", "draw_levels", "draw_levels"]


def test_largest_prices_leave_averages_to_each_window(slots: Slots, fake_cupy: Any) -> None:
    huge = Slots(
        start_ms=0,
        interval_ms=1,
        **{name: getattr(slots, name) * 1e306 for name in ("open", "high", "low", "close")},
        volume=slots.volume,
    )
    renderer = DeviceRenderer(huge, JKX, window=WINDOW, device="cuda")
    assert fake_cupy.kernels == []
    starts = np.arange(60)
    np.testing.assert_array_equal(
        renderer.draw(starts), render_windows(huge, JKX, starts, window=WINDOW)
    )


def test_a_large_row_asks_for_more_shared_memory(
    fake_cupy: Any, make_series: Callable[..., CandleSeries]
) -> None:
    style = ChartStyle(kind="candlestick", height=8, width=16_384)
    slots = make_series(5).slots
    np.testing.assert_array_equal(
        DeviceRenderer(slots, style, window=4, device="cuda").draw([0, 1]),
        render_windows(slots, style, [0, 1], window=4),
    )


def test_no_windows_give_an_empty_array(slots: Slots, fake_cupy: Any) -> None:
    renderer = DeviceRenderer(slots, JKX, window=WINDOW, device="cuda")
    assert renderer.draw(np.empty(0, np.int64)).shape == (0, *renderer.shape)


class Tensor:
    """Memory of another library, known by DLPack alone."""

    def __init__(self, array: npt.NDArray[Any], kind: int = 2) -> None:
        self.array = array
        self.kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0


def test_pictures_go_into_memory_of_another_library(slots: Slots, fake_cupy: Any) -> None:
    renderer = DeviceRenderer(slots, JKX, window=WINDOW, device="cuda")
    tensor = Tensor(np.zeros((2, *renderer.shape), np.uint8))
    assert renderer.draw([0, 5], out=tensor) is tensor
    np.testing.assert_array_equal(tensor.array, render_windows(slots, JKX, [0, 5], window=WINDOW))


def test_an_out_that_does_not_fit_is_refused(slots: Slots, fake_cupy: Any) -> None:
    renderer = DeviceRenderer(slots, JKX, window=WINDOW, device="cuda")
    shape = (2, *renderer.shape)

    def refused(out: Any, match: str) -> None:
        with pytest.raises(ChartError, match=match) as error:
            renderer.draw([0, 5], out=out)
        assert f"contiguous uint8 array of shape {shape} on cuda:0" in str(error.value)

    refused(np.zeros(shape, np.uint8), "out is a ndarray outside the device")
    refused([1], "out is a list outside the device")
    refused(Tensor(np.zeros(shape, np.uint8), kind=1), "out is a Tensor outside the device")
    refused(Tensor(np.zeros((3, *renderer.shape), np.uint8)), r"of shape \(3, ")
    refused(Tensor(np.zeros(shape, np.int8)), "out is int8")
    refused(Tensor(np.zeros(shape, np.uint8, order="F")), "not contiguous")
    elsewhere = np.zeros(shape, np.uint8).view(fake_cupy.ndarray)
    elsewhere.index = 1
    refused(elsewhere, "out is on cuda:1")


def test_work_is_queued_on_the_stream_that_was_given(slots: Slots, fake_cupy: Any) -> None:
    renderer = DeviceRenderer(slots, JKX, window=WINDOW, device="cuda")
    renderer.draw([0])
    renderer.draw([0], stream=0)
    assert fake_cupy.streams == []
    renderer.draw([0], stream=0x7F00)
    assert fake_cupy.streams == [f"external (0, {0x7F00})"]
    assert set(fake_cupy.device_of_call) == {0}


def test_an_older_cupy_takes_the_stream_by_its_older_name(slots: Slots, fake_cupy: Any) -> None:
    from contextlib import nullcontext

    seen = []

    class Stream:
        null = nullcontext()

    def external(pointer: int, index: int) -> nullcontext[None]:
        seen.append((pointer, index))
        return nullcontext()

    fake_cupy.cuda.Stream, fake_cupy.cuda.ExternalStream = Stream, external
    DeviceRenderer(slots, JKX, window=WINDOW, device="cuda").draw([0], stream=7)
    assert seen == [(7, 0)]


# On a real device.


@pytest.fixture
def cuda_device() -> Any:
    try:
        cupy = importlib.import_module("cupy")
        count = cupy.cuda.runtime.getDeviceCount()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no CUDA device for CuPy: {error}")
    if count == 0:
        pytest.skip("no CUDA device is visible")
    return cupy


@every_style
def test_a_real_device_draws_the_cpus_pictures(
    style: ChartStyle, slots: Slots, cuda_device: Any
) -> None:
    renderer = DeviceRenderer(slots, style, window=WINDOW, device="cuda")
    starts = np.random.default_rng(0).integers(0, 69, 500)
    for visible in (None, masks(500)):
        np.testing.assert_array_equal(
            cuda_device.asnumpy(renderer.draw(starts, visible)),
            render_windows(slots, style, starts, window=WINDOW, visible=visible),
        )


def test_a_real_device_gives_torch_its_pictures(slots: Slots, cuda_device: Any) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    renderer = DeviceRenderer(slots, CANDLES, window=WINDOW, device="cuda")
    wanted = torch.from_numpy(render_windows(slots, CANDLES, [1, 2], window=WINDOW))
    with torch.cuda.stream(torch.cuda.Stream()) as stream:
        pointer = torch.cuda.current_stream().cuda_stream
        drawn = renderer.draw([1, 2], stream=pointer)
        tensor = torch.from_dlpack(drawn)
        assert tensor.data_ptr() == drawn.data.ptr
        assert torch.equal(tensor.cpu(), wanted), stream
        own = torch.zeros((2, *renderer.shape), dtype=torch.uint8, device="cuda")
        assert renderer.draw([1, 2], out=own, stream=pointer) is own
        assert torch.equal(own.cpu(), wanted)
