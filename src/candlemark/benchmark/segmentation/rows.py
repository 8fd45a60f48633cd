"""The rows that a config asks for: controls, the user's own models, models of the Hub.

    rows = rows_of(config)
    rows[0].name, rows[0].spec.protocol         # "control: all background", "all_background"

A row is a line of the table before it is a trial: no scan has been looked at, and no weights.
What the config says of a row and its protocol never reads is refused by name: no key is dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from candlemark.benchmark.segmentation.config import (
    HubModelConfig,
    OwnModelConfig,
    SegmentationConfig,
)
from candlemark.benchmark.segmentation.protocols import (
    LEARNING,
    PROMPTED_BY_REFERENCE,
    kind_of_source,
    protocol_of_type,
)
from candlemark.errors import ConfigError
from candlemark.models.segmentation.base import PROTOCOLS, SegmenterSpec

READ_BY: dict[str, frozenset[str]] = {
    "class_map": frozenset(
        {"native_head", "python", "onnx", "torchscript", "predictions", "command"}
    ),
    "prompts": frozenset({"clip_dense"}),
    "jitter": PROMPTED_BY_REFERENCE,
    "epochs": LEARNING,
    "image_size": frozenset(PROTOCOLS) - {"own"},
    "patch": frozenset({"onnx", "torchscript", "python"}),
    "overlap": frozenset({"onnx", "torchscript", "python"}),
    "threshold": frozenset({"onnx", "torchscript", "python"}),
    "intensity": frozenset({"onnx", "torchscript", "python"}),
    "activation": frozenset({"onnx", "torchscript", "python"}),
    "dimensions": frozenset({"torchscript", "python"}),
    "channels": frozenset({"onnx", "torchscript", "python"}),
    "allow_pickle": frozenset({"torchscript", *PROTOCOLS} - {"own"}),
}
"""Which protocols (of the Hub) and kinds (of own models) read an option; others refuse it."""

CONTROL_TITLES: dict[str, str] = {
    "all_background": "control: all background",
    "all_foreground": "control: all foreground",
    "otsu": "control: Otsu threshold",
    "oracle_box": "control: oracle box as mask",
    "untrained_head": "control: untrained head",
}
"""How controls are called in tables."""

UNTRAINED_BACKBONE = "tiny:vit"
"""What the untrained head stands on where the config names no backbone of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table before it is a trial.

    spec: its classes, seed and device are filled in with the cases
    jitter: share of the box's size by which an oracle's prompt is moved; None where there is none
    by_chance: whether it runs once a seed
    why: its protocol was chosen, where nobody said one
    """

    name: str
    role: str
    spec: SegmenterSpec
    description: str = ""
    notes: str = ""
    jitter: float | None = None
    by_chance: bool = False
    why: str | None = None


def rows_of(config: SegmentationConfig) -> list[Row]:
    """The rows that a config asks for: controls, own models, models of the Hub.

    Raises ConfigError: an option that the row's protocol does not read, a source or type that
    nobody understands, the same row twice, or no row at all. ModelError: nobody knows a model.
    """
    hub = [row for model in config.huggingface_models for row in _hub_rows(model)]
    own = [_own_row(model, config) for model in config.models]
    rows = [*_control_rows(config, hub), *own, *_told_apart(hub)]
    if not rows:
        raise ConfigError(
            "no model is named and no control, so nothing would be asked; name one with "
            "--hf-models or --model, or leave the controls in"
        )
    names = [row.name for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{', '.join(twice)} is named twice; name each model once")
    return rows


def _told_apart(rows: list[Row]) -> list[Row]:
    """A model that is asked in several ways carries the way in its name."""
    ways: dict[str, set[str]] = {}
    for row in rows:
        ways.setdefault(row.spec.source, set()).add(row.spec.protocol)
    return [
        replace(
            row,
            name=row.name.replace(row.spec.source, f"{row.spec.source} ({row.spec.protocol})", 1),
        )
        if len(ways[row.spec.source]) > 1
        else row
        for row in rows
    ]


def _control_rows(config: SegmentationConfig, hub: list[Row]) -> Iterator[Row]:
    for name in dict.fromkeys(config.controls):
        if name == "untrained_head":
            yield _untrained(hub)
            continue
        yield Row(
            name=CONTROL_TITLES[name],
            role="control",
            spec=SegmenterSpec(
                name=CONTROL_TITLES[name],
                source=name,
                kind="control",
                protocol=name,
                classes={},
                options={},
                weights="",
            ),
        )


def _untrained(hub: list[Row]) -> Row:
    """A head as it is drawn, on the first backbone that a probe of this study stands on."""
    probe = next((row.spec for row in hub if row.spec.protocol in LEARNING), None)
    title = CONTROL_TITLES["untrained_head"]
    source = UNTRAINED_BACKBONE if probe is None else probe.source
    side = None if probe is None else probe.options.get("image_size")
    return Row(
        name=title,
        role="control",
        spec=SegmenterSpec(
            name=title,
            source=source,
            kind="hub",
            protocol="untrained_head",
            classes={},
            options={} if side is None else {"image_size": side},
            weights="pretrained" if probe is None else probe.weights,
            allow_pickle=probe is not None and probe.allow_pickle,
        ),
        description=f"a linear head with random weights on {source}",
        by_chance=True,
    )


def _own_row(model: OwnModelConfig, config: SegmentationConfig) -> Row:
    kind = kind_of_source(model.source)
    name = model.name or model.source
    given = _given(model)
    options: dict[str, Any] = {
        key: value
        for key, value in {
            "class_map": model.class_map,
            "patch": None if model.patch is None else list(model.patch),
            "overlap": model.overlap,
            "threshold": model.threshold,
            "intensity": model.intensity,
            "activation": model.activation,
            "dimensions": model.dimensions,
            "channels": model.channels,
        }.items()
        if value is not None
        and kind in READ_BY[key]
        # A function gets the whole volume and refuses what only a network would read, and a
        # network refuses an overlap where it reads no patches.
        and ((kind != "python" and key != "overlap") or key in given)
    }
    _refuse_unread(name, kind, given, "models")
    if kind == "command":
        options["timeout_s"] = config.performance.timeout_s
    return Row(
        name=name,
        role="model",
        spec=SegmenterSpec(
            name=name,
            source=model.source,
            kind=kind,
            protocol="own",
            classes={},
            options=options,
            allow_pickle=model.allow_pickle,
        ),
        description=model.description,
        notes=model.notes,
    )


def _hub_rows(model: HubModelConfig) -> Iterator[Row]:
    protocol, why = _protocol(model)
    _refuse_unread(model.model_id, protocol, _given(model), "huggingface_models")
    options: dict[str, Any] = {
        key: value
        for key, value in {
            "class_map": model.class_map,
            "prompts": model.prompts,
            "epochs": model.epochs,
            "image_size": model.image_size,
        }.items()
        if value is not None and protocol in READ_BY[key]
    }
    for jitter in model.jitter if protocol in PROMPTED_BY_REFERENCE else (None,):
        name = model.model_id if not jitter else f"{model.model_id}, prompt moved by {jitter:.0%}"
        yield Row(
            name=name,
            role="model",
            spec=SegmenterSpec(
                name=name,
                source=model.model_id,
                kind="hub",
                protocol=protocol,
                classes={},
                options=options if jitter is None else {**options, "jitter": jitter},
                weights=model.weights,
                allow_pickle=model.allow_pickle,
            ),
            description=model.description,
            notes=model.notes,
            jitter=jitter,
            by_chance=protocol in LEARNING or model.weights == "random" or bool(jitter),
            why=why,
        )


def _protocol(model: HubModelConfig) -> tuple[str, str | None]:
    """How the model is asked, and why that way where nobody said it."""
    if model.protocol != "auto":
        return model.protocol, None
    if model.type is not None and (meant := protocol_of_type(model.type)) != "auto":
        return meant, f"type: {model.type}"
    from candlemark.models.segmentation.choose import choose_protocol

    return choose_protocol(model.model_id, weights=model.weights)


def _given(model: HubModelConfig | OwnModelConfig) -> list[str]:
    """Fields that say something: a saved config names all of them, most by their default."""
    fields = type(model).model_fields
    return [key for key in fields if getattr(model, key) != fields[key].get_default()]


def _refuse_unread(name: str, asked: str, given: Iterable[str], section: str) -> None:
    for key in given:
        if key in READ_BY and asked not in READ_BY[key]:
            raise ConfigError(
                f"{section}: {name} is asked as {asked}, which reads no {key}; take {key} out "
                f"(read by: {', '.join(sorted(READ_BY[key]))})"
            )
