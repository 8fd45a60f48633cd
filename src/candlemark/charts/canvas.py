"""Candles on a CUDA device and the kernels that draw them, through CuPy.

    canvas = Canvas(slots, resolve_style("jkx"), 20, (64, 60), index=0)
    canvas.draw(starts, None, None, None, None)      # cupy.ndarray, uint8 (N, 64, 60)

The one place that talks to CuPy, which is imported at use. `device` decides whether it is used
and is what callers see.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark.charts.cuda import (
    LARGEST_PLAIN_CLOSE,
    OPTIONS,
    PLAIN_SHARED_BYTES,
    draw_arguments,
    kernel_source,
    plan_launch,
    plan_pictures,
)
from candlemark.charts.style import ChartStyle
from candlemark.charts.windows import checked_visible
from candlemark.errors import ChartError

if TYPE_CHECKING:
    from candlemark.candles.series import Slots

INSTALL_HINT = "python -m pip install 'candlemark[cuda]'"


class Canvas:
    """Candles and tables on one CUDA device, and the kernels compiled for it."""

    def __init__(
        self, slots: Slots, style: ChartStyle, window: int, shape: tuple[int, ...], index: int
    ) -> None:
        self._cupy = import_cupy()
        self._index = index
        self._plan = plan_pictures(style, window, shape)
        with self._cupy.cuda.Device(index):
            facts = self._cupy.cuda.runtime.getDeviceProperties(index)
            self._multiprocessors = int(facts["multiProcessorCount"])
            self._shared_bytes = int(facts["sharedMemPerMultiprocessor"])
            self._module = compiled(self._cupy)
            self._kernels: dict[str, Any] = {}
            columns = (slots.open, slots.high, slots.low, slots.close, slots.volume)
            self._columns = tuple(self._on_device(column, np.float64) for column in columns)
            self._tables = (
                self._on_device(self._plan.lengths, np.int32),
                self._on_device(self._plan.columns, np.int32),
                self._on_device(self._plan.colors, np.uint32),
            )
            self._means = self._average_slots(slots.close)
            # Later calls may come on any stream; none may overtake what was queued here.
            self._cupy.cuda.get_current_stream().synchronize()

    def place(self, starts: npt.NDArray[np.int64]) -> Any:
        """Bring checked starts to the device, ready for any stream."""
        with self._cupy.cuda.Device(self._index):
            placed = self._on_device(starts, np.int64)
            self._cupy.cuda.get_current_stream().synchronize()
        return placed

    def draw(self, starts: Any, rows: Any, visible: Any, out: Any, stream: int | None) -> Any:
        """Queue the drawing of windows; see `DeviceRenderer.draw`."""
        plan, cupy = self._plan, self._cupy
        with ExitStack() as entered:
            entered.enter_context(cupy.cuda.Device(self._index))
            entered.enter_context(self._on_stream(stream))
            first_slots = self._chosen(starts, rows)
            count = len(first_slots)
            shown = None if visible is None else self._checked_visible(visible, count)
            pictures = self._checked_out(out, (count, *plan.shape))
            if count == 0:
                return pictures if out is None else out
            launch = plan_launch(
                plan,
                count=count,
                multiprocessors=self._multiprocessors,
                shared_bytes=self._shared_bytes,
            )
            arguments = draw_arguments(
                plan,
                launch,
                # Averages of all candles would betray a hidden one.
                (*self._columns, None if shown is not None else self._means),
                self._tables,
                first_slots,
                shown,
                cupy.empty(launch.scratch_size, dtype=np.int32) if launch.scratch_size else None,
                pictures,
            )
            self._kernel(launch.kernel, launch.shared_bytes)(
                (launch.grid,), (launch.threads,), arguments, shared_mem=launch.shared_bytes
            )
        return pictures if out is None else out

    def _chosen(self, starts: Any, rows: Any) -> Any:
        """int64[N] on the device, all inside their series."""
        placed = (
            starts if isinstance(starts, self._cupy.ndarray) else self._on_device(starts, np.int64)
        )
        if rows is None:
            return placed
        if not self._is_on_device(rows):
            return placed[self._on_device(checked_rows(rows, len(placed)), np.int64)]
        chosen = self._from_device(rows)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(placed):
            raise ChartError(_rows_message(chosen, len(placed)))
        return placed[chosen % len(placed)]

    def _checked_visible(self, visible: Any, count: int) -> Any:
        if not self._is_on_device(visible):
            return self._on_device(checked_visible(visible, count, self._plan.window), np.bool_)
        shown = self._from_device(visible)
        if shown.dtype != np.bool_ or shown.shape != (count, self._plan.window):
            raise ChartError(
                f"visible is {shown.dtype} of shape {shown.shape}; "
                f"it must be bool of shape ({count}, {self._plan.window})"
            )
        return self._cupy.ascontiguousarray(shown)

    def _kernel(self, name: str, shared_bytes: int) -> Any:
        if name not in self._kernels:
            kernel = self._module.get_function(name)
            if shared_bytes > PLAIN_SHARED_BYTES:
                kernel.max_dynamic_shared_size_bytes = shared_bytes
            self._kernels[name] = kernel
        return self._kernels[name]

    def _average_slots(self, close: npt.NDArray[np.float64]) -> Any:
        """float64[K, slots] on the device, or None where each window needs its own."""
        lengths = self._plan.lengths
        if not len(lengths) or np.nanmax(np.abs(close), initial=0.0) > LARGEST_PLAIN_CLOSE:
            return None
        means = self._cupy.empty((len(lengths), len(close)), dtype=np.float64)
        threads = 256
        blocks = max(1, min(-(-means.size // threads), 32 * self._multiprocessors))
        self._module.get_function("average_slots")(
            (blocks,),
            (threads,),
            (
                self._columns[3],
                self._tables[0],
                means,
                np.int64(len(close)),
                np.int32(len(lengths)),
            ),
        )
        return means

    def _on_device(self, array: npt.NDArray[Any], dtype: type) -> Any:
        return self._cupy.asarray(np.ascontiguousarray(array, dtype=dtype))

    def _is_on_device(self, array: Any) -> bool:
        """Whether an array is on some CUDA device, by DLPack; 2 is kDLCUDA there."""
        if isinstance(array, self._cupy.ndarray):
            return True
        return hasattr(array, "__dlpack_device__") and int(array.__dlpack_device__()[0]) == 2

    def _from_device(self, array: Any) -> Any:
        return array if isinstance(array, self._cupy.ndarray) else self._cupy.from_dlpack(array)

    def _on_stream(self, stream: int | None) -> AbstractContextManager[Any]:
        streams = self._cupy.cuda
        if stream is None:
            return nullcontext()
        if stream == 0:
            null: AbstractContextManager[Any] = streams.Stream.null
            return null
        if hasattr(streams.Stream, "from_external"):
            external: AbstractContextManager[Any] = streams.Stream.from_external(_Stream(stream))
            return external
        # CuPy 13 and before.
        older: AbstractContextManager[Any] = streams.ExternalStream(stream, self._index)
        return older

    def _checked_out(self, out: Any, shape: tuple[int, ...]) -> Any:
        cupy = self._cupy
        if out is None:
            return cupy.empty(shape, dtype=np.uint8)
        wanted = f"it must be a contiguous uint8 array of shape {shape} on cuda:{self._index}"
        if not self._is_on_device(out):
            raise ChartError(f"out is a {type(out).__name__} outside the device; {wanted}")
        out = self._from_device(out)
        if out.device.id != self._index:
            raise ChartError(f"out is on cuda:{out.device.id}; {wanted}")
        if out.dtype != np.uint8 or out.shape != shape or not out.flags.c_contiguous:
            order = "" if out.flags.c_contiguous else ", not contiguous"
            raise ChartError(f"out is {out.dtype} of shape {out.shape}{order}; {wanted}")
        return out


@dataclass(frozen=True, slots=True)
class _Stream:
    """A stream of someone else, by the CUDA stream protocol: (version, cudaStream_t)."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def _rows_message(rows: Any, count: int) -> str:
    return (
        f"rows is {rows.dtype} of shape {rows.shape}; "
        f"it must be whole numbers (N,) from 0 to {count - 1}"
    )


def checked_rows(rows: Any, count: int) -> npt.NDArray[np.int64]:
    """`rows` as int64[N]; ChartError unless all are of 0 .. count - 1."""
    array = np.asarray(rows)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ChartError(_rows_message(array, count))
    outside = (array < 0) | (array >= count)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ChartError(
            f"rows[{row}] is {array[row]}; it must be whole numbers (N,) from 0 to {count - 1}"
        )
    return array.astype(np.int64)


def import_cupy() -> Any:
    """CuPy, or ChartError with the command that installs it."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ChartError(f"CuPy is not installed ({error}); install it: {INSTALL_HINT}") from error


def compiled(cupy: Any) -> Any:
    """The kernels for the current device. CuPy keeps what it compiled on disk."""
    module = cupy.RawModule(code=kernel_source(), options=OPTIONS, backend="nvrtc")
    try:
        module.compile()
    except (RuntimeError, OSError, ImportError, cupy.cuda.compiler.CompileException) as error:
        reason = str(error).strip().splitlines()
        raise ChartError(
            f"the kernels cannot be compiled by CuPy {cupy.__version__} "
            f"({reason[0] if reason else type(error).__name__}); reinstall it: {INSTALL_HINT}"
        ) from error
    return module
