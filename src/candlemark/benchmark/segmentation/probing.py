"""A probe of a work: its cases as the trainer takes them, and the heads that came of it.

    segmenter, history = build_probe(work)

A reference is read when its slices are asked for and only the last one is kept, so that training
on many volumes needs the memory of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from candlemark.benchmark.segmentation.folds import audit_split
from candlemark.benchmark.segmentation.protocols import LEARNING
from candlemark.benchmark.segmentation.scan_cases import (
    References,
    ScanCase,
    open_scan_case,
    read_reference,
)
from candlemark.benchmark.tasks.base import History

if TYPE_CHECKING:
    from candlemark.benchmark.segmentation.seen import TrainCase
    from candlemark.benchmark.segmentation.work import SegmentationWork
    from candlemark.models.segmentation.base import Labels, Segmenter

HEAD_OF_CONTROL = "linear_probe"
"""What the control `untrained_head` has, as it is drawn."""


def build_probe(work: SegmentationWork) -> tuple[Segmenter, History]:
    """Train the heads that the protocol names, one a fold, or draw one where it is the control.

    Raises DatasetError: a head would learn from a case that it answers for; ModelError: the
    backbone cannot be had.
    """
    from candlemark.benchmark.segmentation.probe import draw_probe, train_probe

    size = work.trial.config["batch_size"]
    if work.spec.protocol not in LEARNING:
        return draw_probe(replace(work.spec, protocol=HEAD_OF_CONTROL), batch_size=size), ()
    _audit(work)
    held = _LastReference(work.references)
    return train_probe(
        work.spec,
        [_train_case(case, held) for case in sorted(work.train, key=lambda one: one.id)],
        work.folds,
        epochs=int(work.spec.options["epochs"]),
        batch_size=size,
        checkpoint_dir=work.checkpoint_dir,
    )


def _audit(work: SegmentationWork) -> None:
    """Hold the two sides of every fold against each other, by id, file and content."""
    both = {case.id: case for case in (*work.train, *work.test)}
    seen = {name: open_scan_case(case).case for name, case in both.items()}
    for fold in work.folds:
        audit_split(
            [seen[one] for one in fold.train],
            [seen[one] for one in fold.test],
            contents={name: case.image_sha256 or case.sha256 for name, case in both.items()},
        )


class _LastReference:
    """References by case; the last one stays in memory."""

    def __init__(self, references: References) -> None:
        self.references = references
        self.held: tuple[str, Labels] | None = None

    def of(self, case: ScanCase) -> Labels:
        if self.held is None or self.held[0] != case.id:
            self.held = None  # the old one goes before the new one comes
            self.held = (case.id, read_reference(case, open_scan_case(case), self.references))
        return self.held[1]


def _train_case(case: ScanCase, held: _LastReference) -> TrainCase:
    from candlemark.benchmark.segmentation.seen import TrainCase

    def slices(of: ScanCase) -> Callable[[int, int], Labels]:
        return lambda start, stop: held.of(of)[start:stop]

    opened = open_scan_case(case)
    return TrainCase(case=opened.case, reference=slices(case), release=opened.scan.release)
