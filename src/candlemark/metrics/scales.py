"""The line that a score's range is stretched to, so that an interval never leaves the range.

    scale = scale_of(METRICS["auroc"], 0.74, 500)
    scale.backward(scale.forward(np.array(0.74)) + 0.1)        # below 1, whatever is added

Scores between two bounds are put on a logit, errors, which have no upper bound, on a logarithm.
Both keep their ends half a case away: a resample that is all right is as good as one case too
few can show, not infinitely good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from candlemark.metrics.score import Score

FloatArray = npt.NDArray[np.float64]


class Scale(Protocol):
    """A score's range as the whole line, and back."""

    def forward(self, value: FloatArray) -> FloatArray:
        """Scores float64[B] as places on the line."""

    def slope(self, value: float) -> float:
        """How far the place moves when the score does."""

    def backward(self, line: float) -> float:
        """A place as a score."""


def scale_of(metric: Score, value: float, case_count: int) -> Scale:
    """The scale for bounds around `value`, a score of `case_count` cases."""
    if np.isinf(metric.high):
        return _Log(low=metric.low, floor=(value - metric.low) * 0.5 / (case_count + 1))
    return _Logit(low=metric.low, high=metric.high, edge=0.5 / (case_count + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logit:
    """For scores between `low` and `high`."""

    low: float
    high: float
    edge: float

    def _share(self, value: FloatArray) -> FloatArray:
        inside = (value - self.low) / (self.high - self.low)
        share: FloatArray = self.edge + (1 - 2 * self.edge) * np.clip(inside, 0, 1)
        return share

    def forward(self, value: FloatArray) -> FloatArray:
        share = self._share(value)
        return np.log(share / (1 - share))

    def slope(self, value: float) -> float:
        share = float(self._share(np.asarray(value)))
        return 1 / (share * (1 - share)) / (self.high - self.low)

    def backward(self, line: float) -> float:
        share = 1 / (1 + np.exp(-line))
        inside = np.clip((share - self.edge) / (1 - 2 * self.edge), 0, 1)
        return float(self.low + inside * (self.high - self.low))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """For errors from `low` up; `floor` is the least that a resample counts for."""

    low: float
    floor: float

    def forward(self, value: FloatArray) -> FloatArray:
        return np.log(np.maximum(value - self.low, self.floor))

    def slope(self, value: float) -> float:
        return 1 / max(value - self.low, self.floor)

    def backward(self, line: float) -> float:
        return float(self.low + np.exp(line))
