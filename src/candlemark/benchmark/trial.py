"""One cell of a benchmark, whatever its task: what decides it, and what tables need of it.

trial = Trial(role="model", row="microsoft/resnet-50", model="microsoft/resnet-50", ...)
trial.id                                  # the hash of everything that decides the outcome
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from candlemark.records import content_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One cell of a benchmark.

    role: "model" (an image classifier), "baseline" (the same windows as numbers) or
        "control" (what must not succeed)
    row: the name it goes by in tables
    model: model id, or name of the baseline
    config: everything that decides the outcome, JSON types only; `id` is its hash
    facts: what tables need to show the trial even where it fails
    """

    role: str
    row: str
    model: str
    config: dict[str, Any]
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        """16 hex digits that change whenever the outcome could."""
        return content_id(self.config)


class Work(Protocol):
    """A trial with the places it reads and writes; pickles. Each task has its own kind."""

    @property
    def trial(self) -> Trial:
        """What runs."""


class TrainedWork(Work, Protocol):
    """A trial that learns from a dataset on disk; a dataclass, so that a copy can carry more."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def dataset_path(self) -> Path:
        """Where the dataset lies that the trial's config names by content."""

    @property
    def checkpoint_dir(self) -> Path:
        """Where a killed training goes on."""
