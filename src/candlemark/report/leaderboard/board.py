"""What a leaderboard of the Hub says: the one source of its text, JSON, Markdown and page.

board.sections[0].standings[0].why
board.to_dict()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from candlemark.results.own_scores import OwnScore
from candlemark.results.tracked import TrackedModel

LEVELS = ("ready", "elsewhere", "prompted", "backbone", "unknown", "no")
"""What a model can do of a task, the best first."""

LEVEL_WORDS = {
    "ready": "yes",
    "elsewhere": "by its own library",
    "prompted": "when prompted",
    "backbone": "once trained",
    "unknown": "not told",
    "no": "no",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Whether a model can do a task, and why.

    level: one of LEVELS
    protocol: how `candlemark segment` asks it, where the task is segmentation
    """

    level: str
    reason: str
    protocol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How downloads of 30 days have changed between two snapshots."""

    since: str
    before: int
    now: int

    @property
    def change(self) -> float | None:
        """As a share of what it was; None: there were none."""
        return None if self.before == 0 else self.now / self.before - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A model's place in a section.

    place: from 1
    measured: scores of it in the results that were joined
    why: why it stands there, in one line
    recommended: whether anybody should be sent to it
    """

    place: int
    model: TrackedModel
    capability: Capability
    why: str
    recommended: bool
    measured: tuple[OwnScore, ...] = ()
    trend: Trend | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The models that were looked for for one task, ranked."""

    task: str | None
    standings: tuple[Standing, ...]

    @property
    def title(self) -> str:
        """The task."""
        return self.task or "no task asked for"

    @property
    def next_step(self) -> str | None:
        """What to type to measure those that can be; None: nothing here can."""
        asked = [
            f"{one.model.id}={one.capability.protocol}"
            for one in self.recommended
            if one.capability.protocol is not None
        ]
        if not asked:
            return None
        words = " ".join(f"--hf-models {text}" for text in asked)
        # Which of a head's own classes is which of the user's, only the user can say.
        mapped = " --config CLASS_MAPS.yaml" if "=native_head" in words else ""
        return f"candlemark segment --image-dir IMAGES --seg-dir MASKS{mapped} {words}"

    @property
    def recommended(self) -> tuple[Standing, ...]:
        """The three to look at first."""
        return tuple(one for one in self.standings if one.recommended)[:3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two snapshots.

    kind: "first" (who is recommended first), "new", "gone", "claims", "licence", "gated", "files",
        "task", "size" or "numbers"
    """

    model: str
    kind: str
    text: str

    @property
    def news(self) -> bool:
        """Whether it is more than counts that move every day."""
        return self.kind != "numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is different between two snapshots of the same queries."""

    before: str
    after: str
    items: tuple[Change, ...]

    @property
    def news(self) -> tuple[Change, ...]:
        """What is more than counts."""
        return tuple(item for item in self.items if item.news)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A leaderboard.

    taken_at: UTC, when the Hub said so; of the oldest page
    source: where it is from, in words
    requests: how many it took
    snapshots: when there were any of these queries, the oldest first
    history: downloads of 30 days by model: (when, how many), the oldest first
    """

    endpoint: str
    taken_at: str
    source: str
    asked: tuple[str, ...]
    sections: tuple[Section, ...]
    requests: int = 0
    offline: bool = False
    snapshots: tuple[str, ...] = ()
    history: Mapping[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    changes: Changes | None = None

    @property
    def found(self) -> tuple[Section, ...]:
        """The sections with a model."""
        return tuple(section for section in self.sections if section.standings)

    @property
    def empty(self) -> tuple[str, ...]:
        """Tasks for which no public model was found."""
        return tuple(
            section.task or "queries without a task"
            for section in self.sections
            if not section.standings
        )

    @property
    def trends_since(self) -> str | None:
        """The day that trends go back to; None: there are none."""
        found = (one.trend for section in self.sections for one in section.standings)
        return next((trend.since[:10] for trend in found if trend is not None), None)

    @property
    def models(self) -> dict[str, TrackedModel]:
        """Every model by name, in the order of the sections."""
        return {one.model.id: one.model for section in self.sections for one in section.standings}

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "endpoint": self.endpoint,
            "taken_at": self.taken_at,
            "source": self.source,
            "offline": self.offline,
            "requests": self.requests,
            "queries": list(self.asked),
            "snapshots": list(self.snapshots),
            "sections": [
                {
                    "task": section.task,
                    "recommended": [one.model.id for one in section.recommended],
                    "models": [_standing(one, self.endpoint) for one in section.standings],
                }
                for section in self.sections
            ],
            "changes": None if self.changes is None else changes_dict(self.changes),
        }


def _standing(one: Standing, endpoint: str) -> dict[str, Any]:
    trend = one.trend
    return {
        "place": one.place,
        "url": f"{endpoint}/{one.model.id}",
        **one.model.to_dict(),
        "capability": {
            "level": one.capability.level,
            "reason": one.capability.reason,
            "protocol": one.capability.protocol,
        },
        "measured": [score.to_dict() for score in one.measured],
        "trend": None
        if trend is None
        else {
            "since": trend.since,
            "before": trend.before,
            "now": trend.now,
            "change": trend.change,
        },
        "recommended": one.recommended,
        "why": one.why,
    }


def changes_dict(changes: Changes) -> dict[str, Any]:
    """JSON types."""
    return {
        "before": changes.before,
        "after": changes.after,
        "news": len(changes.news),
        "items": [
            {"model": item.model, "kind": item.kind, "text": item.text} for item in changes.items
        ],
    }
