"""What a board of segmentation models holds of one row: scores, cases, times and bars.

row.scores["dice"]                    # Measurement over classes and cases
row.telling_cases("dice")["worst"]    # the case whose picture is worth a look
row.outcomes                          # Counter({"ok": 19, "crashed": 1})
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from candlemark.metrics.segmentation.aggregate import Sampled
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS, SegmentationMetric
from candlemark.metrics.segmentation.scores import CaseResult
from candlemark.records import Measurement, RunRecord

DEFAULT_METRICS = ("dice", "iou", "sensitivity", "precision", "hd95", "assd", "nsd")
STAGES = ("load", "preprocess", "forward", "postprocess", "case")
"""What is timed of a case; "case" is all of it."""

BarState = Literal["clears", "misses", "undecided", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a board is made.

    convention: whose numbers; metrics: the columns, the first decides the order
    thresholds: bar by metric; tolerance_mm: of the normalised surface Dice
    """

    convention: str = "candlemark"
    metrics: tuple[str, ...] = DEFAULT_METRICS
    thresholds: Mapping[str, float] = field(default_factory=dict)
    tolerance_mm: float = 1.0

    @property
    def primary(self) -> SegmentationMetric:
        """What rows are ordered and compared by."""
        return SEGMENTATION_METRICS[self.metrics[0]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseScore:
    """One case of one row and seed.

    outcome: "ok" or how it failed; a failed case scores the worst there is
    scores: by metric, means over classes; None where the convention leaves them undefined
    by_class: by label and metric
    volume_bias: by label, predicted minus reference volume over their mean, -2..2
    times_ms: by stage, None where the case was not timed
    """

    case: str
    outcome: str
    reason: str | None
    trial_id: str
    seed: int | None
    scores: Mapping[str, float | None]
    by_class: Mapping[str, Mapping[str, float | None]]
    volume_bias: Mapping[str, float | None] = field(default_factory=dict)
    times_ms: Mapping[str, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None

    @property
    def failed(self) -> bool:
        """Whether there was no answer to score."""
        return self.outcome != "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A threshold and how a row stands to it.

    state: "clears" or "misses" it with its whole interval, "undecided" where the interval holds
        the bar, "unknown" where there is no interval or the score may not be quoted
    """

    metric: str
    bar: float
    state: BarState


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """How long one stage of a case takes.

    seen_ms: the median over the cases that were timed, however few; None where none was
    """

    stage: str
    p50: Measurement
    p95: Measurement
    seen_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One line of a board: a model or a control, as it was asked, over all its seeds.

    jitter: share of the box by which an oracle's prompt was moved, None where there is none
    scores: by metric, over classes; by_class: by label and metric
    cases: every case of every seed, in the order of the board's cases
    results: what is stored of each case, by seed, to be scored by any convention
    sampled: by metric, for paired comparisons
    failed: trials that failed as a whole; their cases count as failed
    """

    name: str
    role: str
    protocol: str
    model: str
    oracle: bool
    untrained: bool
    timed_only: bool
    jitter: float | None
    weights: str | None
    description: str
    notes: str
    records: tuple[RunRecord, ...]
    failed: tuple[RunRecord, ...]
    scores: Mapping[str, Measurement]
    by_class: Mapping[str, Mapping[str, Measurement]]
    cases: tuple[CaseScore, ...]
    results: tuple[tuple[CaseResult, ...], ...]
    sampled: Mapping[str, Sampled]
    times: tuple[StageTime, ...] = ()
    peak_memory: Measurement | None = None
    bars: tuple[Bar, ...] = ()

    @property
    def is_model(self) -> bool:
        """Whether the row is no control; controls are the yardstick of models."""
        return self.role == "model"

    @property
    def contests(self) -> bool:
        """Whether the row may be best: a model that was trained and never saw the reference."""
        return self.is_model and not (self.untrained or self.oracle or self.timed_only)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its trials, failed ones too."""
        found = [r.facts.get("seed") for r in (*self.records, *self.failed)]
        return tuple(sorted({int(seed) for seed in found if seed is not None}))

    @property
    def outcomes(self) -> Counter[str]:
        """How many of its cases ended in which way, over all seeds."""
        return Counter(case.outcome for case in self.cases)

    @property
    def failed_cases(self) -> int:
        """Cases without an answer, over all seeds."""
        return sum(case.failed for case in self.cases)

    def value(self, metric: str) -> float | None:
        """A score over classes, None where it is unknown."""
        found = self.scores.get(metric)
        return None if found is None else found.value

    def ordered_cases(self, metric: str) -> tuple[CaseScore, ...]:
        """Cases of the first seed, best first; those without a score are left out."""
        sign = -1 if SEGMENTATION_METRICS[metric].higher_is_better else 1
        first = self.cases[0].trial_id if self.cases else None
        known = [
            (value, case)
            for case in self.cases
            if case.trial_id == first and (value := case.scores.get(metric)) is not None
        ]
        return tuple(c for _, c in sorted(known, key=lambda one: (sign * one[0], one[1].case)))

    def telling_cases(self, metric: str) -> dict[str, CaseScore]:
        """The "best", "median" and "worst" case that has an answer to be drawn."""
        drawn = [case for case in self.ordered_cases(metric) if not case.failed]
        if not drawn:
            return {}
        return {"best": drawn[0], "median": drawn[len(drawn) // 2], "worst": drawn[-1]}
