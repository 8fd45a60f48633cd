"""What every row of a study of fusion can do, and what comes of its forecasts.

row.fit(rows, targets, returns)
answer = row.predict(rows["test"])            # class probabilities and log returns
interval = conformal(returns["validation"], row.predict(rows["validation"]).log_return)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from candlemark.benchmark.tasks.base import FloatArray, History, IntArray
from candlemark.records import Measurement

LEVEL = 0.9
"""Share of next closes that the interval of a forecast is to hold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a row says of N windows.

    probability: float64[N, C], rows sum to 1
    log_return: float64[N], the next close against the last visible one
    """

    probability: FloatArray
    log_return: FloatArray


class Row(Protocol):
    """A row of the table, whatever it is made of."""

    history: History

    def fit(
        self,
        rows: Mapping[str, IntArray],
        targets: Mapping[str, IntArray],
        returns: Mapping[str, FloatArray],
    ) -> None:
        """Train on the split "train", watching "validation"; unknown returns are NaN."""

    def predict(self, rows: IntArray) -> Answer:
        """Probabilities and forecasts of the windows at `rows`."""

    def measure(self, rows: IntArray) -> tuple[Measurement, ...]:
        """Speed, memory and size, on windows at `rows`."""

    def conditions(self) -> Mapping[str, Any]:
        """What speed depends on beyond the machine: precision, input shapes, batch size."""

    def facts(self) -> Mapping[str, Any]:
        """What was found out and is no measurement."""

    def keep(self, folder: Path, residuals: Residuals, training: Mapping[str, Any]) -> None:
        """Save what was trained as `folder`, with the interval of its forecasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnScale:
    """Mean and standard deviation of the training returns, in which a network forecasts."""

    mean: float
    std: float

    @classmethod
    def of(cls, log_return: FloatArray) -> ReturnScale:
        """The scale of the known returns; 0 and 1 where they do not tell one."""
        known = log_return[np.isfinite(log_return)]
        if not len(known):
            return cls(mean=0.0, std=1.0)
        spread = float(known.std())
        return cls(mean=float(known.mean()), std=spread if spread > 0 else 1.0)

    def standardise(self, log_return: FloatArray) -> FloatArray:
        """Log returns in standard deviations from the mean; NaN stays NaN."""
        standard: FloatArray = (log_return - self.mean) / self.std
        return standard

    def turn_back(self, forecast: FloatArray) -> FloatArray:
        """A network's forecasts as log returns."""
        log_return: FloatArray = self.mean + self.std * forecast
        return log_return


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """How far forecasts missed where nothing was learnt from: what makes an interval.

    residual_low, residual_high: added to a forecast they bound the log return at `level`;
        None where there are too few cases (`reason` says so)
    """

    level: float
    residual_low: float | None
    residual_high: float | None
    residual_count: int
    reason: str | None = None

    def coverage(self, log_return: FloatArray, forecast: FloatArray) -> float | None:
        """Share of known returns inside the interval; None without one, or without returns."""
        missed = log_return - forecast
        missed = missed[np.isfinite(missed)]
        if self.residual_low is None or self.residual_high is None or not len(missed):
            return None
        inside = (missed >= self.residual_low) & (missed <= self.residual_high)
        return float(inside.mean())

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def conformal(log_return: FloatArray, forecast: FloatArray, *, level: float = LEVEL) -> Residuals:
    """The split-conformal interval of forecasts on cases that nothing was learnt from.

    log_return: float64[N], NaN where unknown; forecast: float64[N]

    Each end is the order statistic that leaves (1 - level) / 2 beyond it, counted over n + 1:
    were cases exchangeable, the interval would hold the next return with probability `level` or
    more (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Romano,
    Patterson and Candes, 2019, for the two ends apart). Markets change, so they are not quite,
    and validation chose the epoch: what the interval held of the test split stands beside it.
    """
    missed = np.sort((log_return - forecast)[np.isfinite(log_return)])
    count = len(missed)
    beyond = (1 - level) / 2
    # Rounded, as (n + 1) * 0.05 of 19 cases is 1 and not a little less.
    rank = math.floor(round((count + 1) * beyond, 9))
    if rank < 1:
        needed = math.ceil(round(1 / beyond, 9)) - 1
        return Residuals(
            level=level,
            residual_low=None,
            residual_high=None,
            residual_count=count,
            reason=f"{count} validation cases have a known next close; an interval at "
            f"{level:.0%} needs {needed}",
        )
    return Residuals(
        level=level,
        residual_low=float(missed[rank - 1]),
        residual_high=float(missed[count - rank]),
        residual_count=count,
    )
