"""A clock that waits for its device, and that is held against known work before it is believed.

clock = DeviceClock(device)
check = clock.self_test()               # 1x, 2x and 4x the work: does time follow?
clock.fault()                           # None, or why nothing it says may be quoted
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from candlemark.hardware.device import synchronise

if TYPE_CHECKING:
    import torch

TIMES_TOLERATED = {2: (1.5, 2.7), 4: (2.8, 5.6)}
"""How far 2x and 4x the work may lie from 2x and 4x the time: other programs share the
machine, and the fastest of several tries is still a little late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCheck:
    """Did the clock follow known work?

    ratios: time of 2x and 4x the work over the time of 1x; None for a clock that stood still
    """

    ok: bool
    ratios: dict[int, float | None]
    detail: str


@dataclass(slots=True)
class DeviceClock:
    """Nanoseconds on the host, read after the device has finished.

    `now_ns` and `wait` can be replaced, to test what a bad clock does. A clock that has not
    passed `self_test`, or was not asked, marks what it measures UNSTABLE.
    """

    device: torch.device
    now_ns: Callable[[], int] = time.perf_counter_ns
    wait: Callable[[torch.device], None] = synchronise
    check: ClockCheck | None = None

    def bound_wait(self) -> Callable[[], object]:
        """`wait` for this device, as cheap as it can be; a CPU never runs ahead."""
        if self.wait is synchronise:
            if self.device.type == "cpu":
                return lambda: None
            if self.device.type == "cuda":
                import torch

                return partial(torch.cuda.synchronize, self.device)
        return partial(self.wait, self.device)

    def stamp(self) -> int:
        """The time when everything given to the device so far is done."""
        self.wait(self.device)
        return self.now_ns()

    def self_test(
        self, work: Callable[[int], None] | None = None, *, rounds: int = 5, tries: int = 3
    ) -> ClockCheck:
        """Time `work(1)`, `work(2)` and `work(4)` and see whether time follows.

        work: does that many units; by default matrix products of about a millisecond, on one
        thread. The fastest of `rounds` counts, and a busy machine gets `tries` chances.
        """
        if work is None:
            # Several threads wait for each other: on a busy machine that is hardly ever fast.
            with _one_thread():
                return self.self_test(_matrix_work(self.device), rounds=rounds, tries=tries)
        work(1)
        for _ in range(tries):
            fastest = {
                scale: min(self._once(work, scale) for _ in range(rounds)) for scale in (1, 2, 4)
            }
            ratios = {
                scale: fastest[scale] / fastest[1] if fastest[1] > 0 else None for scale in (2, 4)
            }
            ok = all(
                ratio is not None and low <= ratio <= high
                for (low, high), ratio in zip(
                    TIMES_TOLERATED.values(), ratios.values(), strict=True
                )
            )
            if ok:
                break
        shown = ", ".join(
            f"{scale}x the work took "
            + ("no measurable time" if ratio is None else f"{ratio:.2f}x the time")
            for scale, ratio in ratios.items()
        )
        self.check = ClockCheck(ok=ok, ratios=ratios, detail=shown)
        return self.check

    def _once(self, job: Callable[[int], None], scale: int) -> int:
        started = self.stamp()
        job(scale)
        return self.stamp() - started

    def fault(self) -> str | None:
        """Why nothing this clock says may be quoted; None for a tested clock."""
        if self.check is None:
            return "the clock was not tested"
        return None if self.check.ok else f"the clock does not follow work: {self.check.detail}"


def _matrix_work(device: torch.device) -> Callable[[int], None]:
    """Matrix products: one unit is long enough to be seen, and four fit in a slice of time.

    Schedulers let a program run for some milliseconds before another one has its turn.
    """
    import torch

    side, repeats = (128, 8) if device.type == "cpu" else (2048, 8)
    matrix = torch.rand(side, side, device=device)

    def work(scale: int) -> None:
        for _ in range(repeats * scale):
            torch.mm(matrix, matrix)

    return work


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch computes on one thread of the CPU, and then on as many as before."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
