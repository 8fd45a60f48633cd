"""What tells rows of one name apart: how a model is made and how it learns.

    setting_of(record)              # {"model.text_encoder": "tiny:bert", "training.epochs": 5}
    names_apart(name, settings)     # ["both, epochs 5", "both, epochs 9"]

A store keeps every study that was run into it. Two of them may train the same model in two ways:
these are two rows, never two seeds of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from candlemark.records import RunRecord

Setting = Mapping[str, Any]

_OF_THE_ROW = ("model.inputs", "model.fusion")
"""What rows of one study differ in, and are named by."""


def setting_of(record: RunRecord) -> dict[str, Any]:
    """The config of the model and of its training, by dotted name, and its weights.

    A model that is given by its name alone has no config of its own, and a baseline no training.
    """
    parts = {name: record.trial.get(name) for name in ("model", "training")}
    made = {name: part for name, part in parts.items() if isinstance(part, Mapping)}
    return {**flatten(made), "weights": record.facts.get("weights")}


def names_apart(name: str, settings: Sequence[Setting]) -> list[str]:
    """`name` for each setting, with all in which it differs from one of the others."""
    keys = dict.fromkeys(key for setting in settings for key in setting)
    told = [key for key in keys if any(s.get(key) != settings[0].get(key) for s in settings)]
    told = [key for key in told if key != "weights" or "model.weights" not in keys]
    return [
        ", ".join([name, *(_written(key, setting[key]) for key in told if key in setting)])
        for setting in settings
    ]


def made_alike(first: Setting, second: Setting) -> bool:
    """Whether two rows agree in all that both of them have, bar what they are shown."""
    shared = first.keys() & second.keys() - set(_OF_THE_ROW)
    return all(first[key] == second[key] for key in shared)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"device": {"name": "cpu"}}` as `{"device.name": "cpu"}`."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat.update(flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


_HASH = re.compile(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")
"""A SHA-256, of which a name takes the first letters."""


def _written(key: str, value: Any) -> str:
    if isinstance(value, str):
        value = _HASH.sub(r"\1", value)
    return f"{key.rsplit('.', 1)[-1].replace('_', ' ')} {'none' if value is None else value}"
