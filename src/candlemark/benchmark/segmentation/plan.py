"""From rows and scans to trials: which rows run how often, each with an id of its own.

    works = plan(prepared, rows_of(config), device="cpu", folder=Path("benchmarks"))

A row whose answer does not depend on chance runs once, whatever the seeds; what learns, is
random, or moves a prompt by chance runs once a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from candlemark.benchmark.segmentation.finished import find_predictions
from candlemark.benchmark.segmentation.identity import identity_of
from candlemark.benchmark.segmentation.prepare import Prepared
from candlemark.benchmark.segmentation.protocols import LEARNING
from candlemark.benchmark.segmentation.rows import Row
from candlemark.benchmark.segmentation.stated import check_stated
from candlemark.benchmark.segmentation.work import SegmentationWork
from candlemark.benchmark.trial import Trial
from candlemark.models.segmentation.base import ORACLES


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
