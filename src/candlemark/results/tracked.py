"""A model of the Hub as the tracker knows it at one moment, and what it claims of itself.

    model = TrackedModel(id="nvidia/mit-b0", found_by=("image-segmentation",), downloads=120_000)
    TrackedModel.from_dict(model.to_dict()) == model

Whatever the Hub did not say is None; a model that claims no result has no claims, which is not
the same as one that claims 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

Verification = Literal["verified", "signed", "claimed"]
"""verified: the Hub says that it checked; signed: a token to check it by stands beside it, which
nobody here has checked; claimed: the author's word."""


UNNAMED_DATA = frozenset(
    {
        "imagefolder", "audiofolder", "videofolder", "csv", "json", "text", "parquet", "arrow",
        "pandas", "webdataset", "generator", "custom", "private", "unknown", "none", "null",
        "dataset", "image_folder", "audio_folder",
    }
)  # fmt: skip
"""What cards call a data set that has no name: how its files were read. Two of them are not one."""


def utc(text: str) -> str:
    """A time as snapshots write it: `2026-01-31T12:00:00Z`; without a zone it is UTC already.

    Raises ValueError: it is none, or in UTC it is before the year 1 or after 9999.
    """
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        told = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is out of range") from error
    return f"{told.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One result that a repository states.

    origin: "model-index" (of the card) or ".eval_results" (files of their own)
    value: as a number; None where what is written is none
    told: as it is written
    source: address of what it is taken from; source_name: its title or who
    """

    origin: str
    task: str | None
    dataset: str | None
    metric: str | None
    value: float | None
    told: str
    verification: Verification = "claimed"
    config: str | None = None
    split: str | None = None
    source: str | None = None
    source_name: str | None = None
    date: str | None = None
    notes: str | None = None

    @property
    def names_data(self) -> bool:
        """Whether another model can have been measured on the same data."""
        return self.dataset is not None and self.dataset.casefold() not in UNNAMED_DATA

    @property
    def about(self) -> tuple[str | None, ...]:
        """What must be the same, but for capitals, for two claims to be about the same thing."""
        words = (self.task, self.dataset, self.config, self.split, self.metric)
        return tuple(None if word is None else word.casefold() for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedModel:
    """What the Hub said of a model.

    found_by: the queries that found it
    task: the task its author gave it (pipeline tag)
    downloads: of the last 30 days; downloads_all_time: since the repository was made
    trending: the Hub's own score
    gated: "auto" or "manual" where access has to be asked for, "no" where it has not
    parameters: as counted in its weights; parameters_from: in which ("safetensors", "gguf")
    files: names that tell what can be done with it; None: the Hub listed none
    file_count: of all its files
    problems: what of its metadata could not be read, in words
    """

    id: str
    found_by: tuple[str, ...] = ()
    task: str | None = None
    library: str | None = None
    architectures: tuple[str, ...] = ()
    model_type: str | None = None
    auto_class: str | None = None
    tags: tuple[str, ...] = ()
    downloads: int | None = None
    downloads_all_time: int | None = None
    likes: int | None = None
    trending: float | None = None
    license: str | None = None
    gated: str | None = None
    disabled: bool = False
    parameters: int | None = None
    parameters_from: str | None = None
    created_at: str | None = None
    last_modified: str | None = None
    commit: str | None = None
    files: tuple[str, ...] | None = None
    file_count: int | None = None
    claims: tuple[Claim, ...] = ()
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> TrackedModel:
        """The inverse of `to_dict`; keys that a newer version added are left out."""
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in told.items()
            if name in known
        }
        values["claims"] = tuple(_claim(item) for item in told.get("claims", ()))
        return cls(**values)


def _claim(told: Mapping[str, Any]) -> Claim:
    known = {field.name for field in fields(Claim)}
    return Claim(**{name: value for name, value in told.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a set of queries found at one moment.

    number: in its tracker, from 1; 0: not kept yet
    taken_at: UTC, as 2026-01-31T12:00:00Z
    asked: the queries, as they are typed
    """

    taken_at: str
    endpoint: str
    asked: tuple[str, ...]
    models: tuple[TrackedModel, ...]
    number: int = 0

    def model(self, model_id: str) -> TrackedModel | None:
        """The model of that name, if it was found."""
        return next((model for model in self.models if model.id == model_id), None)
