"""Pictures drawn where they are used: on a CUDA device through CuPy, else on the CPU.

    renderer = DeviceRenderer(series.slots, "jkx", window=20)          # the device, if any
    pictures = renderer.draw(starts)                                   # uint8 (N, 64, 60)
    tensor = torch.from_dlpack(pictures)                               # no copy

The pictures are those of `render_windows`, bit for bit. Candles are brought to the device
once; a call takes 8 bytes a picture there and nothing back. What `draw` gives has `__dlpack__`:
a `cupy.ndarray` on CUDA, a numpy array on the CPU. An index that stays there too spares even
those bytes, and the check of every start:

    placed = renderer.place(starts)                  # once, all windows of a dataset
    pictures = renderer.draw(placed, rows=batch)     # by row number, of either memory

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from candlemark import progress
from candlemark.charts.canvas import Canvas, checked_rows, compiled, import_cupy
from candlemark.charts.render import render_windows
from candlemark.charts.style import ChartStyle, history_slots, image_shape, resolve_style
from candlemark.charts.windows import checked_starts
from candlemark.errors import ChartError

if TYPE_CHECKING:
    from candlemark.candles.series import Slots


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
                f'charts cannot be drawn on {device}: {error}; or draw on the CPU: device "cpu"'
            ) from error
        return Backend(name="cpu", line=f"charts are drawn on the CPU: {error}")


def backend_line(device: str = "auto") -> str:
    """One line that names what draws for `device`, and where that is the CPU, why.

    Raises ChartError as `choose_backend` does.
    """
    return choose_backend(device).line


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """Windows that a renderer has checked and keeps beside its candles; see `place`."""

    renderer: DeviceRenderer
    first_slots: Any

    def __len__(self) -> int:
        return len(self.first_slots)


class DeviceRenderer:
    """Draws windows of some candles, which stay on the device between calls.

    slots: a series on its time grid, or several; windows of several are mixed at will
    style, window, height, width: as in `render_windows`
    device: as in `choose_backend`, which also says what is raised

    `backend` is "cpu" or "cuda:0", `shape` that of one picture. On CUDA a renderer belongs to
    the process that made it: a forked worker cannot use the device, so draw in the main process.
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
            else Canvas(self._slots, self._style, window, self.shape, chosen.cuda_index)
        )
        progress.note(chosen.line, task="charts")

    def place(self, starts: npt.ArrayLike, *, series: npt.ArrayLike | None = None) -> Placed:
        """Check windows once and keep them where the backend is, for any number of draws.

        starts, series: as in `draw`, which also says what is raised
        """
        first_slots = self._first_slots(starts, series)
        if self._canvas is not None:
            return Placed(renderer=self, first_slots=self._canvas.place(first_slots))
        return Placed(renderer=self, first_slots=first_slots)

    def draw(
        self,
        starts: npt.ArrayLike | Placed,
        visible: Any = None,
        out: Any = None,
        *,
        rows: Any = None,
        series: npt.ArrayLike | None = None,
        stream: int | None = None,
    ) -> Any:
        """uint8 (N, H, W) or (N, H, W, 3) where the backend is, in the order of `starts`.

        starts: whole numbers [N] in host memory, the first slots; or placed windows
        visible: bool[N, window] in host memory or on the device; False is drawn as a missing slot
        out: what to fill and return instead of a new array: on CUDA a contiguous uint8 array of
            that device by DLPack (a CuPy array, a torch tensor), on the CPU a numpy array
        rows: whole numbers [N], which of the placed windows, in host memory or on the device.
            Those on the device are not checked, which would mean waiting for it: numbers outside
            are taken modulo the number of placed windows.
        series: whole numbers [N], which of several series each start counts in; None is the first
        stream: a cudaStream_t as a number (0 is the default stream); None is CuPy's current one.
            The CPU knows no streams and ignores it.

        Raises ChartError for windows outside their series and for an `out` that does not fit.
        """
        if isinstance(starts, Placed):
            if starts.renderer is not self:
                raise ChartError(
                    "these windows were placed by another renderer; place them by this one"
                )
            first_slots = starts.first_slots
        else:
            if rows is not None:
                raise ChartError("rows choose among placed windows; call place(starts) first")
            first_slots = self._first_slots(starts, series)
        if self._canvas is not None:
            return self._canvas.draw(first_slots, rows, visible, out, stream)
        if rows is not None:
            first_slots = first_slots[checked_rows(rows, len(first_slots))]
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


def _cuda_backend(index: int) -> Backend:
    """CUDA device `index`; ChartError says what is missing."""
    cupy = import_cupy()
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
        compiled(cupy)
    return Backend(
        name=f"cuda:{index}",
        line=f"charts are drawn on cuda:{index}, {name}, through CuPy {cupy.__version__}",
    )


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
