"""How large a batch can be, and how large it should be.

    search = find_largest_batch(run, limit=1024, guard=HostGuard())     # run(8): a batch of 8
    search.measurement()                       # largest_batch, and what ended the search
    curve = measure_batches(make_call, clock, batch_sizes=(1, 8, 64))
    curve.best                                 # best_batch, by throughput

The search doubles the batch until one does not fit and then halves the gap. An accelerator
says when its memory ends. A host does not: it swaps or kills, so there the next batch's memory
is foretold from those before it, and a batch that would not fit is not tried.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from candlemark.errors import ConfigError
from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.intervals import Samples
from candlemark.metrics.memory import process_memory_bytes, process_peak_bytes, reset_process_peak
from candlemark.metrics.timing import measure_throughput
from candlemark.records import Measurement

Ended = Literal["memory", "room", "limit", "budget", "error"]
GIB = 2**30

SIGNS_OF_MEMORY = (
    "out of memory",  # CUDA, XPU, MPS
    "defaultcpuallocator",  # torch on a CPU: can't allocate, not enough memory
    "alloc_failed",  # cuBLAS and cuDNN workspaces
    "bad_alloc",
    "out_of_device_memory",  # Level Zero, under XPU
    "failed to allocate memory",  # ONNX Runtime
    "invalid buffer size",  # one tensor beyond what MPS allows
)
"""Parts of messages (in lower case) by which libraries say that memory ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTry:
    """One batch that was run, how long it took and why it did not end well."""

    batch: int
    duration_s: float
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSearch:
    """largest: items of the largest batch that ran; 0 where not even one item did.

    ended_by: "memory" (a larger one ran out of it), "room" (a larger one was foretold to),
        "limit" (of the search), "budget" (of time) or "error" (a larger one failed otherwise)
    """

    largest: int
    ended_by: Ended
    detail: str
    tried: tuple[BatchTry, ...]

    def measurement(self) -> Measurement:
        """largest_batch, with what ended the search as its reason."""
        return Measurement(
            name="largest_batch",
            value=float(self.largest) if self.largest else None,
            unit="items",
            sample_count=len(self.tried),
            reason=self.detail,
        )


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ended, of a device or of the host."""
    if isinstance(error, MemoryError):
        return True
    told = str(error).lower()
    return any(sign in told for sign in SIGNS_OF_MEMORY)


@dataclass(slots=True)
class HostGuard:
    """Foretells the memory of a batch on a CPU from that of the batches before it.

    A straight line through the process's peaks by batch size; where the last two batches rise
    steeper than all together, their slope counts. A batch may take `share` of what is free:
    the machine must not swap, and the kernel must not choose what to kill.

    available: bytes that are free now; by default the smaller of the machine's and of what the
        control group still allows
    used, peak: resident bytes of this process, now and at most since the last `restart`
    """

    share: float = 0.8
    available: Callable[[], int] = field(default_factory=lambda: available_bytes)
    used: Callable[[], int] = process_memory_bytes
    peak: Callable[[], int | None] = process_peak_bytes
    restart: Callable[[], bool] = reset_process_peak
    peaks: dict[int, int] = field(default_factory=dict)
    _base: int | None = None

    def begin(self) -> None:
        """Note what is there before a batch."""
        if self._base is None:
            self._base = self.used()
        # Without a reset the peak is one of an earlier batch at worst: too high, never too low.
        self.restart()

    def end(self, batch: int) -> None:
        """Note the peak of a batch that ran."""
        reached = self.peak()
        self.peaks[batch] = max(self.used(), reached or 0)

    def predict(self, batch: int) -> int | None:
        """Peak of the process in bytes for a batch; None before the first one ran."""
        if not self.peaks or self._base is None:
            return None
        sizes = sorted(self.peaks)
        last = sizes[-1]
        if len(sizes) == 1:
            slope = (self.peaks[last] - self._base) / last
        else:
            heights = np.array([self.peaks[size] for size in sizes], dtype=float)
            newest = (heights[-1] - heights[-2]) / (sizes[-1] - sizes[-2])
            slope = max(float(np.polyfit(sizes, heights, 1)[0]), float(newest))
        return int(self.peaks[last] + max(slope, 0.0) * (batch - last))

    def refuses(self, batch: int) -> str | None:
        """Why a batch must not be tried; None where it may be."""
        expected = self.predict(batch)
        if expected is None:
            return None
        more, free = expected - self.used(), self.available()
        if more <= self.share * free:
            return None
        return (
            f"batch {batch} would take about {more / GIB:.1f} GiB more, beyond {self.share:.0%} of "
            f"the {free / GIB:.1f} GiB that are free here"
        )


def find_largest_batch(
    run: Callable[[int], None],
    *,
    limit: int = 1024,
    is_out_of_memory: Callable[[BaseException], bool] = ran_out_of_memory,
    release: Callable[[], None] | None = None,
    guard: HostGuard | None = None,
    budget_s: float | None = None,
    resolution: float = 0.05,
) -> BatchSearch:
    """The largest batch that runs, at most `limit`.

    run: makes inputs for that many items, runs them and waits for the device
    release: gives cached memory back after a batch that failed (`torch.cuda.empty_cache`)
    guard: on a host, what keeps a batch from being tried
    budget_s: a batch that would pass it, by the time of the one before, is not tried
    resolution: the search ends when the gap is at most this share of what ran; 0 finds the
        largest exactly

    A failure that is not of memory ends the search with its message; of the first batch, it is
    raised.
    """
    if limit < 1:
        raise ConfigError(f"limit of the batch search is {limit}; allowed: 1 or more")
    search = _Search(run, is_out_of_memory, release, guard)
    started = time.perf_counter()
    low, high, ended, batch = 0, limit + 1, "limit", 1
    detail = f"limit of the search: a batch of {limit} still ran"
    while high - low > max(1, int(low * resolution)) and low < limit:
        refused = None if guard is None else guard.refuses(batch)
        if refused is not None:
            high, ended, detail = batch, "room", refused
        elif budget_s is not None and _late(search.tried, batch, started, budget_s):
            ended = "budget"
            detail = f"the search's {budget_s:g} s ended before memory did; {low} still ran"
            break
        else:
            outcome, failure = search.attempt(batch)
            if outcome == "ran":
                low = batch
            else:
                high, ended, detail = batch, outcome, str(failure)
                if outcome == "error":
                    break
        batch = min(low * 2, limit) if high > limit else (low + high) // 2
    return BatchSearch(
        largest=low,
        ended_by=ended,  # type: ignore[arg-type]  # one of the literals above
        detail=detail if low else f"not even one item: {detail}",
        tried=tuple(search.tried),
    )


class _Search:
    """Runs batches and keeps account of them."""

    def __init__(
        self,
        run: Callable[[int], None],
        is_out_of_memory: Callable[[BaseException], bool],
        release: Callable[[], None] | None,
        guard: HostGuard | None,
    ) -> None:
        self.run, self.is_out_of_memory, self.release = run, is_out_of_memory, release
        self.guard = guard
        self.tried: list[BatchTry] = []

    def attempt(self, batch: int) -> tuple[Literal["ran", "memory", "error"], str | None]:
        outcome: Literal["ran", "memory", "error"] = "ran"
        failure = None
        started = time.perf_counter()
        if self.guard is not None:
            self.guard.begin()
        try:
            self.run(batch)
        except Exception as error:
            told = (str(error).strip().splitlines() or [""])[0]
            if self.is_out_of_memory(error):
                outcome, failure = "memory", f"batch {batch} ran out of memory: {told}"
            elif not self.tried:
                raise
            else:
                outcome, failure = "error", f"batch {batch} failed: {type(error).__name__}: {told}"
        self.tried.append(
            BatchTry(batch=batch, duration_s=time.perf_counter() - started, failure=failure)
        )
        if failure is None:
            if self.guard is not None:
                self.guard.end(batch)
        else:
            # Only here has the exception let go of the frames that hold the tensors.
            gc.collect()
            if self.release is not None:
                self.release()
        return outcome, failure


def _late(tried: list[BatchTry], batch: int, started: float, budget_s: float) -> bool:
    if not tried:
        return False
    last = max(tried, key=lambda one: one.batch if one.failure is None else 0)
    expected = last.duration_s * batch / last.batch
    return time.perf_counter() - started + expected > budget_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchCurve:
    """Throughput by batch size, and the batch to use.

    throughput: a measurement for each size; without a value where memory ended
    samples_ms: float64[n] by size, milliseconds of each round, in order
    """

    throughput: Mapping[int, Measurement]
    samples_ms: Mapping[int, Samples]
    best: Measurement


def measure_batches(
    make_call: Callable[[int], Callable[[], object]],
    clock: DeviceClock,
    *,
    batch_sizes: Iterable[int],
    budget_s: float = 2.0,
    warmup_s: float = 0.2,
    is_out_of_memory: Callable[[BaseException], bool] = ran_out_of_memory,
    release: Callable[[], None] | None = None,
) -> BatchCurve:
    """Throughput at each batch size, smallest first, `budget_s` each.

    make_call: prepares inputs of that many items and returns what runs them; dropped before
        the next. A size at which memory ends, and all larger ones, have no value but a reason.
    """
    throughput: dict[int, Measurement] = {}
    samples: dict[int, Samples] = {}
    failure: str | None = None
    for batch in sorted(set(batch_sizes)):
        if failure is None:
            try:
                timed = measure_throughput(
                    make_call(batch),
                    clock,
                    items_per_call=batch,
                    budget_s=budget_s,
                    warmup_s=warmup_s,
                )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                failure = f"batch {batch} ran out of memory"
            else:
                throughput[batch], samples[batch] = timed.measurements[0], timed.samples_ms
                continue
            gc.collect()
            if release is not None:
                release()
        throughput[batch] = Measurement(
            name="throughput_items_per_s", value=None, unit="items/s", reason=failure
        )
    return BatchCurve(throughput=throughput, samples_ms=samples, best=_best_batch(throughput))


def _best_batch(throughput: Mapping[int, Measurement]) -> Measurement:
    """best_batch; its reason names the sizes that are as fast within their intervals."""
    known = {batch: m for batch, m in throughput.items() if m.value is not None}
    if not known:
        reasons = [m.reason for m in throughput.values() if m.reason]
        reason = reasons[0] if reasons else "no batch size was tried"
        return Measurement(name="best_batch", value=None, unit="items", reason=reason)
    best = max(known, key=lambda batch: known[batch].value or 0.0)
    bound = known[best].low
    alike = [
        str(batch)
        for batch, measured in known.items()
        if batch != best and bound is not None and (measured.high or 0.0) >= bound
    ]
    tried = ", ".join(str(batch) for batch in throughput)
    reason = f"of {tried}"
    if alike:
        reason += f"; as fast within their intervals: {', '.join(alike)}"
    return Measurement(
        name="best_batch",
        value=float(best),
        unit="items",
        sample_count=len(known),
        verdict=known[best].verdict,
        reason=reason,
    )


def available_bytes() -> int:
    """Memory that this process may still take without swapping.

    The smaller of what the machine has free and what the control groups above this process
    still allow; their page cache counts as free, since the kernel gives it up first.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    return min([free, *_allowed_by_groups()])


def _allowed_by_groups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """Bytes that each control group (version 2) from this process's upwards still allows."""
    if not own.is_file():
        return []
    line = next((x for x in own.read_text(encoding="ascii").splitlines() if x[:3] == "0::"), "")
    folder = root / line[3:].lstrip("/")
    allowed = []
    while folder == root or root in folder.parents:
        try:
            most = (folder / "memory.max").read_text(encoding="ascii").strip()
            current = int((folder / "memory.current").read_text(encoding="ascii"))
            stats = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        except OSError:
            # The root group has no such files, and a container may hide those above it.
            most = "max"
        if most != "max":
            cache = next((int(x.split()[1]) for x in stats if x.startswith("inactive_file ")), 0)
            allowed.append(max(0, int(most) - current + cache))
        folder = folder.parent
    return allowed
