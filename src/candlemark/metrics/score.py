"""What is known of a score, whatever it is a score of: a classifier, a forecast, a mask.

The tables of scores (`candlemark.metrics.catalog`, `candlemark.metrics.segmentation.catalog`) are
made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What is known of a score, whatever it is a score of.

    low, high: the range of the score, both reachable; high is infinite for errors.
    chance: class count -> what a blind guess scores, None where that depends on the cases.
    degenerate: when the score is undefined, as the end of "... is undefined: ".
    """

    name: str
    title: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True
    chance: Callable[[int], float | None] = lambda _classes: None
    degenerate: str
