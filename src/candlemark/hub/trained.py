"""What a model's folder says about itself: `config.json` and, where there is one, `training.json`.

    trained = read_trained(Path("models/btc"))
    trained.run.measurements["auroc"], trained.beside      # itself, and what it is held against

`training.json` holds the record of the trial as results are exported (trial, facts, measurements,
history, environment) and under `beside` the records of baselines and controls on the same test
cases. Whatever is missing is unknown: nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from candlemark.errors import HubError
from candlemark.records import Measurement, Verdict

CONFIG = "config.json"
TRAINING = "training.json"
_BESIDE = ("beside", "baselines", "controls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One trained row: what it is, what it scored and where."""

    row: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    trial: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    started_at: str | None = None

    @property
    def role(self) -> str:
        """model, baseline or control."""
        return str(self.facts.get("role") or "model")

    def get(self, name: str) -> Measurement | None:
        """The measurement called `name`, if its value is known."""
        found = self.measurements.get(name)
        return found if found is not None and found.value is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model's folder.

    config: of the network, as transformers keeps it
    run: how it was trained; None where the folder does not say
    beside: baselines and controls on the same test cases
    """

    folder: Path
    config: Mapping[str, Any]
    run: Run | None
    beside: tuple[Run, ...]

    def fact(self, name: str) -> Any:
        """A fact of the training, else what the network's config says of its origin."""
        found = self.run.facts.get(name) if self.run is not None else None
        if found is not None:
            return found
        origin = self.config.get("origin")
        return origin.get(name) if isinstance(origin, dict) else None


def read_trained(folder: Path) -> Trained:
    """Read both files.

    Raises HubError: the folder holds no model, or one of the files is damaged.
    """
    if not folder.is_dir():
        raise HubError(
            f"no folder {folder}; train a model with: candlemark fuse train --output {folder}"
        )
    if not (folder / CONFIG).is_file():
        raise HubError(
            f"{folder} holds no {CONFIG}, so it is no model that transformers loads; train one "
            f"with: candlemark fuse train --output {folder}-2"
        )
    config = _read(folder / CONFIG)
    if not (folder / TRAINING).is_file():
        return Trained(folder=folder, config=config, run=None, beside=())
    value = _read(folder / TRAINING)
    try:
        beside = [_run(one) for name in _BESIDE for one in value.get(name) or ()]
        return Trained(folder=folder, config=config, run=_run(value), beside=tuple(beside))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise HubError(
            f"{folder / TRAINING} is damaged ({type(error).__name__}: {error}); train the model "
            "again, or remove the file to publish without it"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HubError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(value, dict):
        raise HubError(f"{path} holds {type(value).__name__}, not keys and values")
    return value


def _run(value: Mapping[str, Any]) -> Run:
    facts = value.get("facts") or {}
    return Run(
        row=str(value.get("row") or facts.get("row") or "model"),
        facts=facts,
        trial=value.get("trial") or {},
        measurements={m.name: m for m in _measurements(value.get("measurements") or ())},
        history=tuple(value.get("history") or ()),
        environment=value.get("environment") or {},
        started_at=value.get("started_at"),
    )


_FIELDS = {one.name for one in fields(Measurement)}


def _measurements(found: Any) -> Iterable[Measurement]:
    """From a list, or from a mapping by name."""
    entries = found.values() if isinstance(found, dict) else found
    for entry in entries:
        known = {name: value for name, value in entry.items() if name in _FIELDS}
        yield Measurement(**{**known, "verdict": Verdict(known.get("verdict", Verdict.VALID))})
