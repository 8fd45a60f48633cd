"""What a task hands back; a task is a function from work to one of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from candlemark.records import Measurement, Predictions

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
History = tuple[Mapping[str, float | int | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskResult:
    """The outcome of a trial that ran to its end; fields as in `RunRecord`."""

    measurements: tuple[Measurement, ...]
    predictions: Predictions | None = None
    history: History = ()
    samples: Mapping[str, FloatArray] = field(default_factory=dict)
    cases: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
