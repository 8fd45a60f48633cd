"""How work is mapped over processes: one protocol, whatever stands behind it.

    for outcome in executor.map(run_one, works):
        ...

The function and the items must pickle; every outcome comes back, failures included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class FailureKind(StrEnum):
    """Why a call gave no value."""

    REFUSED = "refused"
    """It raised a CandlemarkError: the input cannot work."""
    CRASHED = "crashed"
    """It raised anything else, or its process ended."""
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call gave no value, in one line; `details` is its traceback or last output."""

    kind: FailureKind
    reason: str
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one item: `value`, or `failure` (exactly one is set)."""

    item: Any
    value: Any = None
    failure: Failure | None = None
    started_at: str
    duration_s: float


class Executor(Protocol):
    """Maps a picklable function over picklable items."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        """Yield one outcome per item, as each ends."""
