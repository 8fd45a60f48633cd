"""How long a scan takes a segmenter, stage by stage, from the clock of the inference benchmark.

    times = CaseTimes(device, repeats=3)
    labels = times.ask(lambda watch: segmenter.segment(open_case(scan, watch), watch))
    times.measurements()          # load_p50_ms, ..., case_p95_ms, peak_memory_bytes

Each pass has the machine to itself, and opens its scan anew: what an earlier pass has left in
memory makes no later one faster. A percentile is withheld until the sample can bear it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from candlemark.execution import leases
from candlemark.metrics.clock import DeviceClock
from candlemark.metrics.latency import measure_quantile, stood_still
from candlemark.metrics.memory import MemoryMeter
from candlemark.models.segmentation.base import STAGES, Labels, Stopwatch
from candlemark.records import Measurement, Verdict

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

PERCENTILES = ("p50", "p95")
WHOLE = "case"
"""All stages of a scan together."""

FINISHED_BEFORE = "the masks were finished before; nobody saw them being made"
NO_CASE = "no case came to a good end"


@dataclass(slots=True, kw_only=True)
class CaseTimes:
    """The times of every case of one row.

    repeats: counted passes after the scored one, which then warms up; 0: the scored pass counts
    unseen: why nothing can be said of times; None where it can
    """

    device: torch.device
    clock: DeviceClock
    repeats: int = 0
    unseen: str | None = None
    samples_ms: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: int | None = None
    peak_method: str = NO_CASE

    @classmethod
    def begin(cls, device: torch.device, *, repeats: int, unseen: str | None = None) -> CaseTimes:
        """With a clock that has been held against known work."""
        clock = DeviceClock(device)
        with leases.timing(device):
            clock.self_test()
        return cls(device=device, clock=clock, repeats=repeats, unseen=unseen)

    def ask(
        self,
        segment: Callable[[Stopwatch], Labels],
        check: Callable[[Labels], None] = lambda _: None,
    ) -> tuple[Labels, Mapping[str, float] | None]:
        """The labels of the scored pass, and the median milliseconds of each stage.

        check: raises where the labels are no answer

        Raises whatever `segment` or `check` raises; such a pass leaves no time.
        """
        labels, scored = self._pass(segment)
        check(labels)
        counted = [scored]
        if self.repeats:
            counted = [self._pass(segment)[1] for _ in range(self.repeats)]
        if self.unseen is not None:
            return labels, None
        for one in counted:
            for name, value in one.items():
                self.samples_ms.setdefault(name, []).append(value)
        stages: dict[str, float] = {
            name: float(np.median([one[name] for one in counted])) for name in STAGES
        }
        return labels, stages

    def _pass(self, segment: Callable[[Stopwatch], Labels]) -> tuple[Labels, dict[str, float]]:
        """One pass alone on the machine; Python's collector has a turn before, off the clock."""
        gc.collect(1)  # what a pass before left; a full collection takes longer than a small scan
        watch = Stopwatch(self.clock.stamp)
        memory = MemoryMeter(self.device)
        with leases.timing(self.device), memory:
            began = self.clock.stamp()
            labels = segment(watch)
            took = (self.clock.stamp() - began) / 1e6
        if memory.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, memory.peak_bytes)
        self.peak_method = memory.method
        return labels, {
            **{name: watch.totals_ms.get(name, 0.0) for name in STAGES},
            WHOLE: took,
        }

    def samples(self) -> dict[str, npt.NDArray[np.float64]]:
        """Every counted pass, in the order of the cases: `load_ms`, ..., `case_ms`."""
        return {
            f"{name}_ms": np.asarray(values, dtype=np.float64)
            for name, values in self.samples_ms.items()
        }

    def measurements(self) -> tuple[Measurement, ...]:
        """Percentiles of each stage and of the whole, and the largest peak of memory."""
        found = [
            self._percentile(name, percentile)
            for name in (*STAGES, WHOLE)
            for percentile in PERCENTILES
        ]
        return (*found, self._peak())

    def _percentile(self, name: str, percentile: str) -> Measurement:
        title = f"{name}_{percentile}_ms"
        samples = np.asarray(self.samples_ms.get(name, ()), dtype=np.float64)
        if self.unseen is not None or not len(samples):
            return Measurement(
                name=title,
                value=None,
                unit="ms",
                sample_count=0,
                verdict=Verdict.VALID if self.unseen else Verdict.TOO_FEW,
                reason=self.unseen or NO_CASE,
            )
        # A stage that a segmenter does not have takes no time; the whole always takes some.
        still = stood_still(samples) if name == WHOLE else None
        return measure_quantile(title, samples, percentile, fault=self.clock.fault() or still)

    def _peak(self) -> Measurement:
        known = self.peak_bytes is not None and self.unseen is None
        return Measurement(
            name="peak_memory_bytes",
            value=float(self.peak_bytes or 0) if known else None,
            unit="bytes",
            sample_count=len(self.samples_ms.get(WHOLE, ())) or None,
            reason=self.peak_method if self.unseen is None else self.unseen,
        )
