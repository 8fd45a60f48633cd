"""The CUDA source: run on this CPU, bit for bit the CPU's pictures; compiled for real devices."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
import subprocess
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlemark.candles.series import Slots
from candlemark.charts import geometry
from candlemark.charts.candlestick import candle_columns
from candlemark.charts.cuda import (
    OPTIONS,
    PLANES,
    SHARED_BYTES,
    Launch,
    Plan,
    draw_arguments,
    kernel_source,
    plan_launch,
    plan_pictures,
)
from candlemark.charts.indicators import moving_average
from candlemark.charts.render import render_windows
from candlemark.charts.style import MAX_SIDE, ChartStyle, image_shape

UInt8Array = npt.NDArray[np.uint8]
GARBAGE = 0xA5
shared_fixtures = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def market_of(prices: npt.NDArray[np.float64], volume: npt.NDArray[np.float64]) -> Slots:
    """Slots from float64[S, 4], any four prices a slot; the middle two open and close."""
    ordered = np.sort(prices, axis=1)
    even = np.arange(len(prices)) % 2 == 0
    return Slots(
        start_ms=0,
        interval_ms=1000,
        open=np.where(even, ordered[:, 1], ordered[:, 2]),
        high=ordered[:, 3].copy(),
        low=ordered[:, 0].copy(),
        close=np.where(even, ordered[:, 2], ordered[:, 1]),
        volume=volume,
    )


def walk(count: int, seed: int = 0, missing: float = 0.1) -> Slots:
    """A random walk with holes."""
    random = np.random.default_rng(seed)
    centre = 100 * np.exp(np.cumsum(random.normal(0, 0.02, count)))[:, None]
    prices = centre * (1 + random.normal(0, 0.01, (count, 4)))
    prices[random.random(count) < missing] = np.nan
    volume = np.where(np.isnan(prices[:, 0]), np.nan, random.lognormal(0, 2, count))
    return market_of(prices, volume)


def calls_of(
    slots: Slots,
    style: ChartStyle,
    starts: npt.NDArray[np.int64],
    window: int,
    *,
    visible: npt.NDArray[np.bool_] | None = None,
    plan: Plan | None = None,
    processors: int = 1,
    whole_means: bool = False,
    offset: int = 0,
) -> tuple[Launch, tuple[Any, ...], UInt8Array, UInt8Array]:
    """A launch, its arguments, the pictures they fill, and the memory around those pictures."""
    plan = plan or plan_pictures(style, window, image_shape(style, window))
    launch = plan_launch(plan, count=len(starts), multiprocessors=processors)
    size = len(starts) * int(np.prod(plan.shape))
    memory = np.full(size + 96, GARBAGE, dtype=np.uint8)
    begin = 32 - memory.ctypes.data % 16 + offset
    out = memory[begin : begin + size].reshape(len(starts), *plan.shape)
    means = None
    if whole_means and len(plan.lengths):
        means = np.stack([moving_average(slots.close, int(k)) for k in plan.lengths])
    arguments = draw_arguments(
        plan,
        launch,
        (slots.open, slots.high, slots.low, slots.close, slots.volume, means),
        (plan.lengths, plan.columns, plan.colors),
        starts,
        visible,
        np.empty(launch.scratch_size, np.int32) if launch.scratch_size else None,
        out,
    )
    return launch, arguments, out, memory


def assert_same(
    emulator: Any,
    slots: Slots,
    style: ChartStyle,
    starts: Sequence[int] | npt.NDArray[np.int64],
    window: int,
    *,
    visible: npt.NDArray[np.bool_] | None = None,
    threads: int = 1,
    **options: Any,
) -> None:
    first = np.asarray(starts, dtype=np.int64)
    launch, arguments, out, memory = calls_of(
        slots, style, first, window, visible=visible, **options
    )
    emulator.launch(launch.kernel, launch.grid, threads, launch.shared_bytes, arguments)
    wanted = render_windows(slots, style, first, window=window, visible=visible)
    np.testing.assert_array_equal(out, wanted)
    begin = out.ctypes.data - memory.ctypes.data
    around = np.delete(memory, np.s_[begin : begin + out.size])
    assert (around == GARBAGE).all(), "wrote outside the pictures"


@st.composite
def styles(draw: st.DrawFn, window: int) -> ChartStyle:
    kind = draw(st.sampled_from(["ohlc4", "jkx", "candlestick"]))
    least = {"ohlc4": 4, "jkx": 3, "candlestick": 1}[kind] * window
    lengths = st.lists(st.integers(1, 12), max_size=4).map(tuple)
    bars = kind == "ohlc4"
    return ChartStyle(
        kind=kind,
        height=draw(st.integers(2 if bars else 8, 90) | st.just(300)),
        width=draw(st.integers(least, 3 * least + 7) | st.just(least + 300)),
        volume=None if bars else draw(st.booleans()),
        moving_averages=None if bars else draw(st.none() | lengths),
        theme=draw(st.sampled_from([None, "light", "dark"])),
    )


PRICES = [
    st.floats(90, 110),
    st.integers(1, 6).map(float),
    st.just(7.0),
    st.floats(0, 1e-320),
    st.floats(-1.7e308, 1.7e308),
    st.sampled_from([1e-300, 1.0, 1e300]),
    st.sampled_from([0.0, -0.0, 5e-324, -1.0]),
]


@st.composite
def markets(draw: st.DrawFn, window: int) -> Slots:
    count = window + draw(st.integers(0, 8))
    price = draw(st.sampled_from(PRICES))
    rows = draw(st.lists(st.tuples(price, price, price, price), min_size=count, max_size=count))
    prices = np.array(rows, dtype=np.float64)
    volumes = st.floats(0, 1e308) | st.integers(0, 3).map(float) | st.just(5e-324)
    volume = np.array(draw(st.lists(volumes, min_size=count, max_size=count)))
    gone = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    prices[gone], volume[gone] = np.nan, np.nan
    slots = market_of(prices, volume)
    for name, value in draw(st.lists(st.sampled_from(BROKEN), max_size=2)):
        getattr(slots, name)[draw(st.integers(0, count - 1))] = value
    return slots


BROKEN = [
    ("high", -1e9),
    ("open", np.inf),
    ("low", np.nan),
    ("volume", -1.0),
    ("volume", np.inf),
    ("volume", np.nan),
]


@settings(shared_fixtures, max_examples=150)
@given(data=st.data())
def test_every_picture_is_the_cpus(emulator: Any, data: st.DataObject) -> None:
    window = data.draw(st.integers(1, 10), label="window")
    style = data.draw(styles(window), label="style")
    slots = data.draw(markets(window), label="slots")
    starts = data.draw(
        st.lists(st.integers(0, len(slots) - window), min_size=1, max_size=5), label="starts"
    )
    visible = None
    if data.draw(st.booleans(), label="hide"):
        flags = st.lists(st.booleans(), min_size=window, max_size=window)
        visible = np.array(data.draw(st.lists(flags, min_size=len(starts), max_size=len(starts))))
    assert_same(
        emulator,
        slots,
        style,
        starts,
        window,
        visible=visible,
        processors=data.draw(st.integers(1, 3)),
        offset=data.draw(st.integers(0, 15)),
    )


@settings(shared_fixtures, max_examples=25)
@given(data=st.data(), threads=st.sampled_from([2, 8, 32]))
def test_threads_of_a_block_meet_where_they_must(
    emulator: Any, data: st.DataObject, threads: int
) -> None:
    window = data.draw(st.integers(1, 10))
    style = data.draw(styles(window))
    slots = data.draw(markets(window))
    visible = np.array([data.draw(st.lists(st.booleans(), min_size=window, max_size=window))] * 2)
    starts = [0, len(slots) - window]
    assert_same(emulator, slots, style, starts, window, visible=visible, threads=threads, offset=5)


REAL_SIZES = [
    (ChartStyle(kind="ohlc4"), 100),
    (ChartStyle(kind="jkx"), 20),
    (ChartStyle(kind="jkx", height=33, width=61), 20),
    (ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25)), 30),
    (ChartStyle(kind="candlestick", height=301, width=1111, moving_averages=(3, 5)), 64),
    (
        ChartStyle(kind="candlestick", height=700, width=700, volume=True, moving_averages=(2, 90)),
        350,
    ),
]


@pytest.mark.parametrize(("style", "window"), REAL_SIZES)
@pytest.mark.parametrize("whole_means", [False, True])
def test_the_sizes_that_people_draw(
    emulator: Any, style: ChartStyle, window: int, whole_means: bool
) -> None:
    slots = walk(window + 60)
    starts = np.random.default_rng(1).integers(0, 61, 7)
    for threads, processors in ((1, 1), (32, 2)):
        assert_same(
            emulator,
            slots,
            style,
            starts,
            window,
            threads=threads,
            processors=processors,
            whole_means=whole_means,
            offset=3,
        )


@pytest.mark.parametrize("reach", [3, 6, 7, 10, 11, 12, 49, 100, 340])
def test_lines_of_every_slope(emulator: Any, reach: int) -> None:
    """A line's rows come from a float's quotient that is put right."""
    style = ChartStyle(
        kind="candlestick", height=601, width=48 * reach, moving_averages=(1, 2, 3, 5)
    )
    assert_same(emulator, walk(100, seed=reach, missing=0.02), style, [0, 13, 52], 48)


@pytest.mark.parametrize("reach", [82, 94, 110])
def test_a_quotient_that_a_float_puts_below_a_whole_number(emulator: Any, reach: int) -> None:
    """Half-way along, a rise of 2^m - 1 rows is 2^(m-1) exactly; below it floats are denser."""
    rises = np.array([1, -1, 3, -3, 7, -7, 15, -15, 31, -31, 63, -63, 127, -127, 255, -255])
    close = np.concatenate([[100.0], 100.0 + np.cumsum(rises)])
    slots = Slots(
        start_ms=0,
        interval_ms=1000,
        open=np.full(17, 50.0),
        high=np.full(17, 600.0),
        low=np.zeros(17),
        close=close,
        volume=np.ones(17),
    )
    style = ChartStyle(kind="candlestick", height=601, width=17 * reach, moving_averages=(1,))
    assert_same(emulator, slots, style, [0], 17)


@pytest.mark.parametrize("kind", ["ohlc4", "jkx", "candlestick"])
def test_tables_of_a_long_window_lie_in_device_memory(emulator: Any, kind: Any) -> None:
    averages = None if kind == "ohlc4" else (1, 2, 40)
    style = ChartStyle(kind=kind, height=9, width=16_384, moving_averages=averages)
    slots = walk(4100)
    plan = plan_pictures(style, 4096, image_shape(style, 4096))
    assert plan.in_scratch
    launch = plan_launch(plan, count=2, multiprocessors=1)
    assert launch.kernel.endswith("_scratch")
    assert launch.scratch_size == launch.grid * plan.table_size
    assert_same(emulator, slots, style, [0, 3], 4096)


def test_few_large_pictures_are_shared_by_blocks(emulator: Any) -> None:
    style, window = ChartStyle(kind="ohlc4"), 100
    plan = plan_pictures(style, window, (500, 400))
    launch = plan_launch(plan, count=2, multiprocessors=3)
    assert launch.shares == 3
    assert launch.grid == 6
    assert_same(emulator, walk(120), style, [3, 17], window, processors=3)
    many = plan_launch(plan, count=100, multiprocessors=3)
    assert (many.shares, many.grid) == (1, 6)


def test_no_plan_outgrows_a_block() -> None:
    """Shared memory, 16-bit halves of the tables and 32-bit sums hold at the largest sizes."""
    for kind, least in (("ohlc4", 4), ("jkx", 3), ("candlestick", 1)):
        for width in (least, 64, 1000, MAX_SIDE):
            for window in {1, width // least, max(1, width // least // 7)}:
                for height in (8, 500, MAX_SIDE):
                    averages = None if kind == "ohlc4" else (1, 2, 3, 4)
                    style = ChartStyle(
                        kind=kind, height=height, width=width, moving_averages=averages
                    )
                    plan = plan_pictures(style, window, image_shape(style, window))
                    assert plan.shared_bytes <= SHARED_BYTES
                    assert (plan.bands - 1) * plan.band_rows < height
                    launch = plan_launch(plan, count=3, multiprocessors=132)
                    assert launch.shares <= plan.bands
                    assert launch.scratch_size * 4 <= 1 << 26
                    reach = int((plan.columns[:, 2] >> 16).max())
                    assert 2 * reach * 3 * height + reach < 2**31


@pytest.mark.parametrize(("width", "window"), [(60, 20), (64, 20), (224, 30), (7, 7), (50, 1)])
def test_columns_say_what_the_specification_says(width: int, window: int) -> None:
    style = ChartStyle(kind="candlestick", height=40, width=width, moving_averages=(2,))
    columns = plan_pictures(style, window, (40, width, 3)).columns
    slot_width = width // window
    candle = candle_columns(slot_width)
    left = [i * width // window + candle.offset for i in range(window)]
    centres = [x + (candle.body - 1) // 2 for x in left]
    inset = (candle.body - candle.wick) // 2
    for x in range(width):
        slot = max(i for i in range(window) if i * width // window <= x)
        inside = x - left[slot]
        in_body = 0 <= inside < candle.body
        in_wick = inset <= inside < inset + candle.wick
        assert columns[x, 0] & 0xFFFF == slot
        assert columns[x, 0] >> 16 == (5 if in_wick else 4 if in_body else 0)
        ends = [i for i in range(window) if centres[i] >= x >= centres[0]]
        assert columns[x, 1] == (ends[0] if ends else -1)
        if ends and ends[0] > 0:
            begin = centres[ends[0] - 1]
            assert columns[x, 2] & 0xFFFF == x - begin
            assert columns[x, 2] >> 16 == centres[ends[0]] - begin


def test_planes_are_those_of_the_cpu() -> None:
    assert PLANES == geometry.PLANES
    text = kernel_source()
    assert "enum { OPEN, HIGH, LOW, CLOSE, VOLUME, DIRECTION, PLANES };" in text
    assert (geometry.OPEN, geometry.HIGH, geometry.LOW) == (0, 1, 2)
    assert (geometry.CLOSE, geometry.VOLUME, geometry.DIRECTION) == (3, 4, 5)


def test_averages_of_all_slots_are_those_of_the_indicators(emulator: Any) -> None:
    close = walk(400).close
    lengths = np.array([1, 7, 50], dtype=np.int32)
    means = np.empty((3, len(close)))
    arguments = (close, lengths, means, np.int64(len(close)), np.int32(3))
    emulator.launch("average_slots", 2, 4, 0, arguments)
    for row, length in zip(means, lengths, strict=True):
        np.testing.assert_array_equal(row, moving_average(close, int(length)))


# What a sanitizer sees that pictures do not: races without harm, reads past an array's end.


def packed_call(launch: Launch, arguments: Sequence[Any], threads: int) -> bytes:
    """One call in the file format of cuda_on_cpu.cpp."""
    name = launch.kernel.encode()
    head = (launch.grid, threads, launch.shared_bytes, len(arguments), len(name))
    parts = [struct.pack("<5q", *head), name]
    for one in arguments:
        if one is None or isinstance(one, np.generic):
            value = np.uint64(0) if one is None else one
            parts += [struct.pack("<2q", 0, value.nbytes), value.tobytes()]
        else:
            parts += [struct.pack("<2q", 1, one.nbytes), one.tobytes()]
    return b"".join(parts)


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_a_sanitizer_finds_nothing(
    sanitizer: str, build_kernels: Callable[..., Path], tmp_path: Path
) -> None:
    program = build_kernels(
        tmp_path / "program", "-O1", "-g", f"-fsanitize={sanitizer}", "-DPROGRAM"
    )
    random = np.random.default_rng(3)
    calls = []
    for style, window in REAL_SIZES[:5]:
        slots = walk(window + 9)
        visible = random.random((3, window)) < 0.7
        for shown in (None, visible):
            launch, arguments, _, _ = calls_of(
                slots, style, np.array([0, 4, 9]), window, visible=shown, offset=0
            )
            calls.append(packed_call(launch, arguments, 8))
    recorded = tmp_path / "calls.bin"
    recorded.write_bytes(struct.pack("<q", len(calls)) + b"".join(calls))
    done = subprocess.run([program, recorded], capture_output=True, encoding="utf-8", check=False)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this kernel's address layout is unknown to the sanitizer")
    assert done.returncode == 0, done.stderr[:4000]
    assert not done.stderr


# Compiled for devices, which needs the compiler of CUDA but no device.


def nvrtc() -> ctypes.CDLL:
    """NVIDIA's run-time compiler, or a skip that names what is missing."""
    found = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (found.submodule_search_locations or [])] if found else []
    if toolkit := os.environ.get("CUDA_PATH"):
        roots.append(Path(toolkit))
    libraries = sorted(
        library
        for root in roots
        for library in root.rglob("libnvrtc.so*")
        if "builtins" not in library.name and ".alt." not in library.name
    )
    if not libraries:
        pytest.skip("no libnvrtc; to compile the kernels: pip install nvidia-cuda-nvrtc")
    return ctypes.CDLL(str(libraries[0]))


def compile_for(library: ctypes.CDLL, architecture: str) -> str:
    """PTX of the kernels; AssertionError with the compiler's log."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = kernel_source().encode()
    library.nvrtcCreateProgram(ctypes.byref(program), source, b"charts.cu", 0, None, None)
    # CuPy adds -ftz=true, which concerns single precision alone.
    flags = [*OPTIONS, "-ftz=true", f"--gpu-architecture={architecture}"]
    options = (ctypes.c_char_p * len(flags))(*[flag.encode() for flag in flags])
    status = library.nvrtcCompileProgram(program, len(flags), options)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    assert not log.value.strip(), log.value.decode()
    library.nvrtcGetPTXSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    library.nvrtcGetPTX(program, text)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return text.value.decode()


@pytest.mark.parametrize("architecture", ["compute_80", "compute_90"])
def test_the_kernels_compile_for_devices(architecture: str) -> None:
    text = compile_for(nvrtc(), architecture)
    for name in ("draw_levels", "draw_colors", "draw_levels_scratch", "draw_colors_scratch"):
        assert f".visible .entry {name}(" in text
    assert ".visible .entry average_slots(" in text
    assert "fma.rn.f64" not in text, "a fused multiply-add rounds once, the CPU rounds twice"
    assert "div.rn.f64" in text
    assert "st.global.v4" in text or "st.v4" in text, "pictures are stored 16 bytes at a time"


def test_the_source_is_shipped_and_includes_nothing() -> None:
    assert files("candlemark.charts").joinpath("kernels/charts.cu").is_file()
    assert "#include" not in kernel_source()
