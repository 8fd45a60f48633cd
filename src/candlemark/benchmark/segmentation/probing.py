"""A probe of a work: its training cases as the trainer takes them, and the head that came of it.

    segmenter, history = build_probe(work)

A reference is read when its slices are asked for and only the last one is kept, so that training
on many volumes needs the memory of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from candlemark.benchmark.segmentation.protocols import LEARNING
from candlemark.benchmark.segmentation.scan_cases import (
    References,
    ScanCase,
    open_scan_case,
    read_reference,
)
from candlemark.benchmark.tasks.base import History

if TYPE_CHECKING:
    from candlemark.benchmark.segmentation.plan import SegmentationWork
    from candlemark.benchmark.segmentation.probe import TrainCase
    from candlemark.models.segmentation.base import Labels, Segmenter

HEAD_OF_CONTROL = "linear_probe"
"""What the control `untrained_head` has, as it is drawn."""


def build_probe(work: SegmentationWork) -> tuple[Segmenter, History]:
    """Train the head that the protocol names, or draw it where it is the control.

    Raises DatasetError: a case is learnt from and tested; ModelError: the backbone cannot be had.
    """
    from candlemark.benchmark.segmentation.probe import audit_split, train_probe

    learns = work.spec.protocol in LEARNING
    spec = work.spec if learns else replace(work.spec, protocol=HEAD_OF_CONTROL)
    held = _LastReference(work.references)
    train = [_train_case(case, held) for case in work.train] if learns else []
    if learns:
        audit_split(
            [one.case for one in train],
            [open_scan_case(case).case for case in work.test],
            contents={case.id: case.sha256 for case in (*work.train, *work.test)},
        )
    return train_probe(
        spec,
        train,
        epochs=int(work.spec.options.get("epochs", 1)),
        batch_size=work.trial.config["batch_size"],
        checkpoint_dir=work.checkpoint_dir,
        untrained=not learns,
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
    from candlemark.benchmark.segmentation.probe import TrainCase

    def slices(of: ScanCase) -> Callable[[int, int], Labels]:
        return lambda start, stop: held.of(of)[start:stop]

    opened = open_scan_case(case)
    return TrainCase(case=opened.case, reference=slices(case), release=opened.scan.release)
