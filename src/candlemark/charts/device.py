"""Pictures drawn where they are used: on a CUDA device through CuPy, else on the CPU.

    renderer = DeviceRenderer(series.slots, "jkx", window=20)          # the device, if any
    pictures = renderer.draw(starts)                                   # uint8 (N, 64, 60)
    tensor = torch.from_dlpack(pictures)                               # no copy

The pictures are those of `render_windows`, bit for bit. Candles are brought to the device
once; a call takes 8 bytes a picture there and nothing back. What `draw` gives has `__dlpack__`:
a `cupy.ndarray` on CUDA, a numpy array on the CPU.

**Streams.** Drawing is queued and `draw` returns at once. Give the stream on which the
pictures will be used, and no waiting is needed anywhere:

    stream = torch.cuda.current_stream().cuda_stream
    tensor = torch.from_dlpack(renderer.draw(starts, stream=stream))

Without `stream` the work is queued on CuPy's current stream, and `torch.from_dlpack` makes
torch's current stream wait for it. Pictures that CuPy allocated may be overwritten by a later
`draw` on the same stream once they are dropped; use them on that stream alone, or draw into
memory of your own with `out`, which may be a torch tensor on the device.

Which backend is in use, and why, is one line: `backend_line("auto")`. It is reported by
`candlemark.progress.note` when a renderer is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark import progress
from candlemark.charts.cuda import (
    LARGEST_PLAIN_CLOSE,
    OPTIONS,
    PLAIN_SHARED_BYTES,
    Launch,
    draw_arguments,
    kernel_source,
    plan_launch,
    plan_pictures,
)
from candlemark.charts.render import render_windows
from candlemark.charts.style import ChartStyle, history_slots, image_shape, resolve_style
from candlemark.charts.windows import checked_starts, checked_visible
from candlemark.errors import ChartError

if TYPE_CHECKING:
    from candlemark.candles.series import Slots

INSTALL_HINT = "python -m pip install 'candlemark[cuda]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What draws: `name` is "cpu" or "cuda:0", `line` says it with the device or the reason."""

    name: str
    line: str

    @property
    def cuda_index(self) -> int | None:
        """The device's number, None on the CPU."""
        kind, _, index = self.name.partition(":")
        return int(index) if kind == "cuda" else None


def choose_backend(device: str = "auto") -> Backend:
    """What draws for `device`: "auto" (CUDA where it can, else the CPU), "cpu", "cuda", "cuda:1".

    Raises ChartError for another name, and for "cuda" where something it needs is missing; the
    message says what. "auto" says it in the line and takes the CPU.
    """
    kind, _, number = device.partition(":")
    known = kind == "cuda" and (not number or number.isdecimal()) and device != "cuda:"
    if not known and device not in {"auto", "cpu"}:
        raise ChartError(
            f"unknown device '{device}' for drawing charts; allowed: auto, cpu, cuda, "
            "or one of several as in cuda:1"
        )
    if device == "cpu":
        return Backend(name="cpu", line="charts are drawn on the CPU, as asked")
    try:
        return _cuda_backend(int(number or 0))
    except ChartError as error:
        if kind == "cuda":
            raise ChartError(
                f"charts cannot be drawn on {device}: {error}; or draw on the CPU: --device cpu"
            ) from error
        return Backend(name="cpu", line=f"charts are drawn on the CPU: {error}")


def backend_line(device: str = "auto") -> str:
    """One line that names what draws for `device`, and where that is the CPU, why.

    Raises ChartError as `choose_backend` does.
    """
    return choose_backend(device).line


class DeviceRenderer:
    """Draws windows of some candles, which stay on the device between calls.

    slots: a series on its time grid, or several; windows of several are mixed at will
    style, window, height, width: as in `render_windows`
    device: as in `choose_backend`, which also says what is raised

    `backend` is "cpu" or "cuda:0", `shape` that of one picture.
    """

    def __init__(
        self,
        slots: Slots | Sequence[Slots],
        style: ChartStyle | str,
        *,
        window: int,
        height: int | None = None,
        width: int | None = None,
        device: str = "auto",
    ) -> None:
        self._style = resolve_style(style)
        self.shape = image_shape(self._style, window, height, width)
        self._window = window
        several = slots if isinstance(slots, Sequence) else (slots,)
        self._lengths = np.array([len(one) for one in several], dtype=np.int64)
        self._slots, self._offsets = _joined(several, history_slots(self._style, window))
        chosen = choose_backend(device)
        self.backend = chosen.name
        self._canvas = (
            None
            if chosen.cuda_index is None
            else _Canvas(self._slots, self._style, window, self.shape, chosen.cuda_index)
        )
        progress.note(chosen.line, task="charts")

    def draw(
        self,
        starts: npt.ArrayLike,
        visible: npt.NDArray[np.bool_] | None = None,
        out: Any = None,
        *,
        series: npt.ArrayLike | None = None,
        stream: int | None = None,
    ) -> Any:
        """uint8 (N, H, W) or (N, H, W, 3) where the backend is, in the order of `starts`.

        starts: whole numbers [N] in host memory, the first slots
        visible: bool[N, window] in host memory; False is drawn as a missing slot
        out: what to fill and return instead of a new array: on CUDA a contiguous uint8 array of
            that device by DLPack (a CuPy array, a torch tensor), on the CPU a numpy array
        series: whole numbers [N], which of several series each start counts in; None is the first
        stream: a cudaStream_t as a number (0 is the default stream); None is CuPy's current one.
            The CPU knows no streams and ignores it.

        Raises ChartError for windows outside their series and for an `out` that does not fit.
        """
        first_slots = self._first_slots(starts, series)
        if self._canvas is not None:
            return self._canvas.draw(first_slots, visible, out, stream)
        return render_windows(
            self._slots,
            self._style,
            first_slots,
            window=self._window,
            visible=visible,
            height=self.shape[0],
            width=self.shape[1],
            out=out,
        )

    def _first_slots(
        self, starts: npt.ArrayLike, series: npt.ArrayLike | None
    ) -> npt.NDArray[np.int64]:
        """int64[N], first slots among the joined ones."""
        if series is None:
            return checked_starts(starts, int(self._lengths[0]), self._window)
        array, number = np.asarray(starts), np.asarray(series)
        whole = array.dtype.kind in "iu" and number.dtype.kind in "iu"
        if array.ndim != 1 or array.shape != number.shape or (array.size and not whole):
            raise ChartError(
                f"starts is {array.dtype} of shape {array.shape} and series {number.dtype} of "
                f"shape {number.shape}; both must be whole numbers of one shape (N,)"
            )
        unknown = (number < 0) | (number >= len(self._lengths))
        if unknown.any():
            row = int(np.flatnonzero(unknown)[0])
            raise ChartError(
                f"series[{row}] is {number[row]}; there are {len(self._lengths)} series, "
                f"0 to {len(self._lengths) - 1}"
            )
        number = number.astype(np.int64)
        last = self._lengths[number] - self._window
        outside = (array < 0) | (array > last)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise ChartError(
                f"starts[{row}] is slot {array[row]}; windows of {self._window} in the "
                f"{self._lengths[number[row]]} slots of series {number[row]} start at 0 to "
                f"{last[row]}"
            )
        joined: npt.NDArray[np.int64] = array.astype(np.int64) + self._offsets[number]
        return joined


class _Canvas:
    """Candles and tables on one CUDA device, and the kernels compiled for it."""

    def __init__(
        self, slots: Slots, style: ChartStyle, window: int, shape: tuple[int, ...], index: int
    ) -> None:
        self._cupy = _import_cupy()
        self._index = index
        self._plan = plan_pictures(style, window, shape)
        with self._cupy.cuda.Device(index):
            facts = self._cupy.cuda.runtime.getDeviceProperties(index)
            self._multiprocessors = int(facts["multiProcessorCount"])
            self._shared_bytes = int(facts["sharedMemPerMultiprocessor"])
            self._module = _compiled(self._cupy)
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

    def draw(
        self,
        starts: npt.NDArray[np.int64],
        visible: npt.NDArray[np.bool_] | None,
        out: Any,
        stream: int | None,
    ) -> Any:
        """Queue the drawing of windows; see `DeviceRenderer.draw`."""
        count, plan, cupy = len(starts), self._plan, self._cupy
        shown = checked_visible(visible, count, plan.window)
        with ExitStack() as entered:
            entered.enter_context(cupy.cuda.Device(self._index))
            entered.enter_context(self._on_stream(stream))
            pictures = self._checked_out(out, (count, *plan.shape))
            if count == 0:
                return pictures if out is None else out
            launch = plan_launch(
                plan,
                count=count,
                multiprocessors=self._multiprocessors,
                shared_bytes=self._shared_bytes,
            )
            hides = visible is not None
            arguments = draw_arguments(
                plan,
                launch,
                (*self._columns, None if hides else self._means),
                self._tables,
                self._on_device(starts, np.int64),
                self._on_device(shown, np.bool_) if hides else None,
                cupy.empty(launch.scratch_size, dtype=np.int32) if launch.scratch_size else None,
                pictures,
            )
            self._kernel(launch)(
                (launch.grid,), (launch.threads,), arguments, shared_mem=launch.shared_bytes
            )
        return pictures if out is None else out

    def _kernel(self, launch: Launch) -> Any:
        kernel = self._module.get_function(launch.kernel)
        if (
            launch.shared_bytes > PLAIN_SHARED_BYTES
            and kernel.max_dynamic_shared_size_bytes < launch.shared_bytes
        ):
            kernel.max_dynamic_shared_size_bytes = launch.shared_bytes
        return kernel

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
        if not isinstance(out, cupy.ndarray):
            # 2 is kDLCUDA in dlpack.h.
            place = out.__dlpack_device__() if hasattr(out, "__dlpack_device__") else None
            if place is None or int(place[0]) != 2:
                raise ChartError(f"out is a {type(out).__name__} outside the device; {wanted}")
            out = cupy.from_dlpack(out)
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


def _import_cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ChartError(f"CuPy is not installed ({error}); install it: {INSTALL_HINT}") from error


def _cuda_backend(index: int) -> Backend:
    """CUDA device `index`; ChartError says what is missing."""
    cupy = _import_cupy()
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except RuntimeError as error:
        raise ChartError(
            f"no NVIDIA driver or device that CuPy {cupy.__version__} can use ({error}); "
            "see what there is: nvidia-smi"
        ) from error
    if index >= count:
        there = ", ".join(f"cuda:{number}" for number in range(count)) or "none"
        raise ChartError(f"there is no cuda:{index}; CUDA devices: {there}")
    name = cupy.cuda.runtime.getDeviceProperties(index)["name"].decode()
    with cupy.cuda.Device(index):
        _compiled(cupy)
    return Backend(
        name=f"cuda:{index}",
        line=f"charts are drawn on cuda:{index}, {name}, through CuPy {cupy.__version__}",
    )


def _compiled(cupy: Any) -> Any:
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


def _joined(several: Sequence[Slots], history: int) -> tuple[Slots, npt.NDArray[np.int64]]:
    """One time grid of all series and where each begins on it.

    Between two lie as many empty slots as an average looks back, so that none sees another's
    candles.
    """
    if not several:
        raise ChartError("no candles to draw; give at least one series")
    if len(several) == 1:
        return several[0], np.zeros(1, dtype=np.int64)
    lengths = np.array([len(one) for one in several], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths[:-1] + history)])
    gap = np.full(history, np.nan)
    columns = {}
    for name in ("open", "high", "low", "close", "volume"):
        pieces = [piece for one in several for piece in (getattr(one, name), gap)]
        columns[name] = np.concatenate(pieces[:-1])
    first = several[0]
    joined = type(first)(start_ms=first.start_ms, interval_ms=first.interval_ms, **columns)
    return joined, offsets
