"""From a config and its scans to trials: which rows run, each with an id of its own.

    works = plan(prepared, device="cpu", folder=Path("benchmarks"))

Controls come first, then the user's own models, then those of the Hub. A row whose answer does
not depend on chance runs once, whatever the seeds; what learns, is random, or moves a prompt by
chance runs once a seed. What the config says of a row and its protocol never reads is refused by
name: no key is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from candlemark.benchmark.segmentation.config import (
    HubModelConfig,
    OwnModelConfig,
    SegmentationConfig,
)
from candlemark.benchmark.segmentation.finished import find_predictions
from candlemark.benchmark.segmentation.folds import Fold
from candlemark.benchmark.segmentation.identity import identity_of
from candlemark.benchmark.segmentation.prepare import Prepared
from candlemark.benchmark.segmentation.protocols import (
    LEARNING,
    PROMPTED_BY_REFERENCE,
    kind_of_source,
    protocol_of_type,
)
from candlemark.benchmark.segmentation.scan_cases import References, ScanCase
from candlemark.benchmark.segmentation.stated import check_stated
from candlemark.benchmark.trial import Trial
from candlemark.errors import ConfigError
from candlemark.models.segmentation.base import ORACLES, PROTOCOLS, SegmenterSpec

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
class SegmentationWork:
    """A trial with what it reads and writes; pickles.

    spec: what the segmenter is built from
    test, train: the cases, the second for protocols that learn
    folds: which of them each head learns from, and which it answers for
    references: what their values mean
    predictions: the folder of its masks
    checkpoint_dir: where a killed training goes on
    files: the mask of each case that has one, where the predictions are finished
    """

    trial: Trial
    spec: SegmenterSpec
    test: tuple[ScanCase, ...]
    train: tuple[ScanCase, ...]
    references: References
    predictions: Path
    checkpoint_dir: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()


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


def plan(
    prepared: Prepared, rows: Iterable[Row], *, device: str, folder: Path
) -> list[SegmentationWork]:
    """Every trial once, in the order of the rows.

    folder: gets `predictions/` and, while trials run, `checkpoints/`

    Raises ModelError: weights that a row needs cannot be had, or a class map or prompts that
    nobody stated.
    """
    rows = list(rows)
    for row in rows:  # before the first of them has its weights downloaded
        check_stated(replace(row.spec, classes=dict(prepared.classes)))
    works: dict[str, SegmentationWork] = {}
    for row in rows:
        files = (
            find_predictions(Path(row.spec.source), prepared.matches)
            if row.spec.kind == "predictions"
            else {}
        )
        identity = identity_of(row.spec, files)
        seeds = prepared.config.seeds if row.by_chance else prepared.config.seeds[:1]
        for seed in seeds:
            spec = replace(row.spec, seed=seed, device=device, classes=dict(prepared.classes))
            trial = _trial(prepared, replace(row, spec=spec), identity)
            works[trial.id] = SegmentationWork(
                trial=trial,
                spec=spec,
                test=prepared.test,
                train=prepared.train if row.spec.protocol in LEARNING else (),
                folds=prepared.folds if row.spec.protocol in LEARNING else (),
                references=prepared.references,
                files=files,
                predictions=folder / "predictions" / trial.id,
                checkpoint_dir=folder / "checkpoints" / trial.id,
            )
    return list(works.values())


def rows_of(config: SegmentationConfig) -> list[Row]:
    """The rows that a config asks for: controls, own models, models of the Hub.

    Raises ConfigError: an option that the row's protocol does not read, a source or type that
    nobody understands, or the same row twice. ModelError: nobody knows a model.
    """
    hub = [row for model in config.huggingface_models for row in _hub_rows(model)]
    own = [_own_row(model, config) for model in config.models]
    rows = [*_control_rows(config, hub), *own, *_told_apart(hub)]
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


def _trial(prepared: Prepared, row: Row, identity: str) -> Trial:
    config, spec = prepared.config, row.spec
    learns = spec.protocol in LEARNING
    deciding = {
        "task": "segmentation",
        "dataset": prepared.content_hash,
        "train": prepared.train_hash if learns else None,
        "model": spec.source,
        "kind": spec.kind,
        "protocol": spec.protocol,
        "options": dict(spec.options),
        "weights_sha256": identity,
        "classes": {str(label): name for label, name in prepared.classes.items()},
        "seed": spec.seed,
        "device": spec.device,
        "batch_size": config.performance.batch_size,
        "repeats": config.performance.repeats,
        "threads": config.performance.threads,
        "isolate": config.isolate,
    }
    facts = {
        "row": row.name,
        "role": row.role,
        "model": spec.source,
        "kind": spec.kind,
        "protocol": "control" if row.role == "control" else spec.protocol,
        "protocol_reason": row.why,
        "oracle": spec.protocol in ORACLES,
        "untrained": spec.protocol == "untrained_head",
        "jitter": row.jitter,
        "seed": spec.seed,
        "weights": spec.weights or None,
        "device": spec.device,
        "dataset": prepared.name,
        "dataset_hash": prepared.content_hash,
        "class_names": {str(label): name for label, name in prepared.classes.items()},
        "case_counts": {
            # Of the head that has the fewest.
            "train": min(len(fold.train) for fold in prepared.folds) if learns else 0,
            "test": len(prepared.test),
        },
        "folds": [fold.to_dict() for fold in prepared.folds] if learns else [],
        "cases": [case.id for case in prepared.test],
        "description": row.description,
        "notes": row.notes,
    }
    return Trial(role=row.role, row=row.name, model=spec.source, config=deciding, facts=facts)


def shares_process(isolate: bool) -> Callable[[SegmentationWork], Any]:
    """The key of the process that a trial may share: controls need none of their own."""

    def share(work: SegmentationWork) -> Any:
        if not isolate:
            return "all"
        return "controls" if work.spec.kind == "control" else None

    return share
