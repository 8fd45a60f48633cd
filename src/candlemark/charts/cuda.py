"""How pictures are cut into work for a CUDA device: everything about it but the device.

    plan = plan_pictures(resolve_style("jkx"), 20, (64, 60))
    launch = plan_launch(plan, count=4096, multiprocessors=132)
    launch.kernel, launch.grid, launch.threads      # "draw_levels", 4096, 32

A `Plan` is a style at one window and size as the kernels of `kernels/charts.cu` take it: a
table of columns, a table of colours, the height of a band and the memory of a block. Nothing
here imports CuPy, so that plan and kernels are tested where no device is.

Sizes are chosen for writing memory. A band is small enough for several blocks to share a
multiprocessor, so that one writes while another draws, and large enough to be written by
whole warps. Small pictures get a block of one warp, whose barriers cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.charts.candlestick import PALETTES, candle_columns, colors
from candlemark.charts.style import SLOT_PIXELS, ChartStyle, history_slots

OPTIONS = ("-std=c++17", "-fmad=false")
"""For the compiler. A fused multiply-add rounds once where the specification rounds twice."""

BAND_BYTES = 24 * 1024
"""A band of rows in shared memory; one row may be larger."""

SHARED_BYTES = 60 * 1024
"""Most shared memory of a block; every device that CUDA 12 or later knows has 64 KiB."""

PLAIN_SHARED_BYTES = 48 * 1024
"""Above this a kernel must be told, see cudaFuncSetAttribute."""

SCRATCH_BYTES = 64 * 1024 * 1024
"""Most device memory for the tables of windows too long for shared memory."""

BLOCK_OVERHEAD_BYTES = 1024
"""Shared memory that the driver keeps for each block."""

THREADS_RESIDENT = 1024
"""Threads of a multiprocessor at 64 registers each, the bound set in the kernels."""

PLANES = 6
NOTHING, OPEN_TICK, BAR, CLOSE_TICK, BODY, BODY_AND_WICK = range(6)
MISSING = -1

LARGEST_PLAIN_CLOSE = 2.0**960
"""Above this a window's averages are scaled, see `indicators`, and depend on the window."""


def kernel_source() -> str:
    """The CUDA C++ text of the kernels."""
    return files("candlemark.charts").joinpath("kernels/charts.cu").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A style at one window and size, as the kernels take it.

    shape: (H, W) or (H, W, 3)
    columns: int32[W, 4], see `Column` in the kernels; the last is a float's bits
    colors: uint32[13], red + 256 green + 65536 blue; two-level pictures use the first
    lengths: int32[K], lengths of the averages; history: slots read before the window
    threads, band_rows, shared_bytes: of a block; `in_scratch` where tables lie outside it
    """

    shape: tuple[int, ...]
    window: int
    history: int
    lengths: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    colors: npt.NDArray[np.uint32]
    background: int
    price_rows: int
    volume_rows: int
    thick: int
    threads: int
    band_rows: int
    shared_bytes: int
    in_scratch: bool

    @property
    def channels(self) -> int:
        """Bytes of a pixel."""
        return 3 if len(self.shape) == 3 else 1

    @property
    def bands(self) -> int:
        """Bands of a picture."""
        return -(-self.shape[0] // self.band_rows)

    @property
    def table_size(self) -> int:
        """Numbers in a block's tables."""
        return (PLANES + len(self.lengths)) * self.window


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One call of a kernel: its name, blocks, threads a block and shared memory.

    shares: blocks that share one picture, band by band, where there are few pictures
    scratch_size: int32 numbers of scratch, 0 where tables fit in shared memory
    """

    kernel: str
    grid: int
    threads: int
    shared_bytes: int
    shares: int
    scratch_size: int


def plan_pictures(style: ChartStyle, window: int, shape: tuple[int, ...]) -> Plan:
    """Plan pictures of `shape`, which `image_shape` gave for this style and window."""
    height, width = shape[:2]
    slot = width // window
    volume_rows = height // 5 if style.draws_volume else 0
    lengths = np.array(style.average_lengths(window), dtype=np.int32)
    if style.kind == "candlestick":
        palette = PALETTES["dark" if style.is_dark else "light"]
        candle = candle_columns(slot)
        wick = (candle.body - candle.wick) // 2
        parts = np.full(slot, NOTHING)
        parts[candle.offset : candle.offset + candle.body] = BODY
        parts[candle.offset + wick : candle.offset + wick + candle.wick] = BODY_AND_WICK
        centre, spacer = candle.offset + (candle.body - 1) // 2, max(1, height // 50)
        thick, background = max(1, min(height, width) // 256), palette.background
        table = colors(palette, candle).astype(np.uint32)
    else:
        unit = slot // SLOT_PIXELS[style.kind]
        parts = np.full(slot, NOTHING)
        parts[: 3 * unit] = np.repeat([OPEN_TICK, BAR, CLOSE_TICK], unit)
        centre, spacer, thick = unit + (unit - 1) // 2, 1, 1
        background, ink = (0, 255) if style.is_dark else (255, 0)
        table = np.full((13, 3), ink, dtype=np.uint32)
    pitch = width * (3 if len(shape) == 3 else 1)
    threads = _threads(height * pitch)
    band_rows = _band_rows(height, pitch)
    shared = -(-band_rows * pitch // 16) * 16 + 16 + 4 * 8 * threads
    tables = (PLANES + len(lengths)) * window * 4
    in_scratch = shared + tables > SHARED_BYTES
    return Plan(
        shape=shape,
        window=window,
        history=history_slots(style, window),
        lengths=lengths,
        columns=_columns(window, width, parts, centre),
        colors=(table @ np.array([1, 1 << 8, 1 << 16], dtype=np.uint32)).astype(np.uint32),
        background=background,
        price_rows=height - volume_rows - spacer if volume_rows else height,
        volume_rows=volume_rows,
        thick=thick,
        threads=threads,
        band_rows=band_rows,
        shared_bytes=shared if in_scratch else shared + tables,
        in_scratch=in_scratch,
    )


def plan_launch(
    plan: Plan, *, count: int, multiprocessors: int, shared_bytes: int = 96 * 1024
) -> Launch:
    """How `count` pictures, at least 1, are drawn by that many multiprocessors.

    shared_bytes: shared memory of a multiprocessor
    """
    fitting = shared_bytes // (plan.shared_bytes + BLOCK_OVERHEAD_BYTES)
    resident = max(1, min(THREADS_RESIDENT // plan.threads, fitting))
    blocks = multiprocessors * resident
    if plan.in_scratch:
        blocks = max(1, min(blocks, SCRATCH_BYTES // (4 * plan.table_size)))
    shares = max(1, min(plan.bands, blocks // count))
    grid = min(blocks, count * shares)
    name = "draw_colors" if plan.channels == 3 else "draw_levels"
    return Launch(
        kernel=f"{name}_scratch" if plan.in_scratch else name,
        grid=grid,
        threads=plan.threads,
        shared_bytes=plan.shared_bytes,
        shares=shares,
        scratch_size=grid * plan.table_size if plan.in_scratch else 0,
    )


def draw_arguments(  # noqa: PLR0917 -- as many as the kernel has
    plan: Plan,
    launch: Launch,
    market: tuple[Any, ...],
    tables: tuple[Any, ...],
    starts: Any,
    visible: Any,
    scratch: Any,
    out: Any,
) -> tuple[Any, ...]:
    """The arguments of the four drawing kernels, in their order.

    market: open, high, low, close, volume, and the averages of every slot or None
    tables: lengths, columns and colors of the plan
    Arrays are on the device; None is a null pointer. Numbers have the kernel's own width.
    """
    height, width = plan.shape[:2]
    numbers = (
        launch.shares,
        plan.history,
        plan.window,
        height,
        width,
        plan.price_rows,
        plan.volume_rows,
        len(plan.lengths),
        plan.thick,
        plan.band_rows,
    )
    return (
        *market,
        *tables,
        starts,
        visible,
        scratch,
        out,
        np.int64(len(market[3])),
        np.int64(len(starts)),
        *(np.int32(number) for number in numbers),
        np.uint32(plan.background * 0x01010101),
    )


def _threads(picture_bytes: int) -> int:
    if picture_bytes <= 8 * 1024:
        return 32
    return 128 if picture_bytes <= 32 * 1024 else 256


def _band_rows(height: int, pitch: int) -> int:
    """Rows of a band, all bands alike but the last."""
    fitting = max(1, min(height, BAND_BYTES // pitch))
    return -(-height // -(-height // fitting))


def _columns(
    window: int, width: int, parts: npt.NDArray[np.int64], centre: int
) -> npt.NDArray[np.int32]:
    """int32[width, 4]: slot | part << 16, line, step | reach << 16, bits of 1 / (2 reach)."""
    left = np.arange(window, dtype=np.int64) * width // window
    column = np.arange(width, dtype=np.int64)
    slot = np.searchsorted(left, column, side="right") - 1
    inside = column - left[slot]
    part = np.where(inside < len(parts), parts[np.minimum(inside, len(parts) - 1)], NOTHING)
    centres = left + centre
    line = np.searchsorted(centres, column, side="left")
    crossed = (line < window) & (column >= centres[0])
    end = np.minimum(line, window - 1)
    # The first centre ends no line: one step on a line of one column, and no slot before it.
    begin = np.where(end > 0, centres[np.maximum(end - 1, 0)], centres[0] - 1)
    step = np.where(crossed, column - begin, 0)
    reach = np.where(crossed, centres[end] - begin, 1)
    table = np.empty((width, 4), dtype=np.int32)
    table[:, 0] = slot | part << 16
    table[:, 1] = np.where(crossed, line, MISSING)
    table[:, 2] = step | reach << 16
    table[:, 3] = (1 / (2 * reach)).astype(np.float32).view(np.int32)
    return table
