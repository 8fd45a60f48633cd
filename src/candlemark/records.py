"""What a trial leaves behind: measurements with verdicts, predictions, curves, or a reason.

    Measurement(name="auroc", value=0.74, low=0.69, high=0.79, unit="", sample_count=400)

A record is complete in itself: it can be stored, sent between processes and compared
without the code that made it. Unknown is `None` with a reason, never 0 or NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt


class Verdict(StrEnum):
    """Why a number may, or may not, be quoted."""

    VALID = "VALID"
    TOO_FEW = "TOO_FEW"
    UNSTABLE = "UNSTABLE"
    CONTENDED = "CONTENDED"
    THROTTLED = "THROTTLED"
    UNTRAINED = "UNTRAINED"
    ORACLE = "ORACLE"


class Status(StrEnum):
    """How a trial ended. Everything but OK carries a reason, and is still a row."""

    OK = "ok"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number with its unit, interval, sample count and verdict.

    `low` and `high` bound the value at `level` (0.95: a 95 % interval); both are None
    where no interval exists. `value` is None where the number is unknown, and `reason`
    then says why.
    """

    name: str
    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    level: float | None = None
    sample_count: int | None = None
    verdict: Verdict = Verdict.VALID
    reason: str | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.name}.{name} is {number}; unknown is None with a reason")
        if self.value is None and not self.reason:
            raise ValueError(f"{self.name} has no value and no reason")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What a model said about each test case, so that any score can be computed again.

    window_start_ms: int64[N], UTC open time of the window's first slot
    target: int64[N], the class that came true
    probability: float64[N, C], rows sum to 1
    series: the symbol of each case, N long
    """

    window_start_ms: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    series: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunRecord:
    """Everything one trial produced, failures included.

    trial: the trial's complete config (JSON types only); `trial_id` is its hash.
    facts: what was found out while running and is no measurement (JSON types only):
        label kind ("recognition" | "forecast"), class names, model class, weights,
        controls, dataset hash, bootstrap block length.
    environment: machine, device, driver, versions, threads, precision (JSON types only).
    history: one mapping an epoch (epoch, train_loss, validation_loss, learning_rate, ...).
    samples: float64[n] by name, as they were taken and in that order: what the measurements
        were summarised from, the unit at the end of the name (`latency_ms`).
    cases: one mapping a test case of a task whose cases are more than a class each (JSON types
        only), so that any score can be computed again; failures are cases too.
    """

    trial_id: str
    trial: Mapping[str, Any]
    status: Status
    reason: str | None = None
    started_at: str
    duration_s: float
    measurements: tuple[Measurement, ...] = ()
    predictions: Predictions | None = None
    history: tuple[Mapping[str, float | int | None], ...] = ()
    samples: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    cases: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status is not Status.OK and not self.reason:
            raise ValueError(f"trial {self.trial_id} is {self.status} without a reason")

    def measurement(self, name: str) -> Measurement | None:
        """The measurement called `name`, or None."""
        return next((m for m in self.measurements if m.name == name), None)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_id(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
