"""Whatever a row is asked through, ready to be asked: loaded, trained, or pointed at files.

    built = build(work)
    built.segmenter(case.id).segment(case, watch)
    built.oracle.segment_with(case, reference, watch)       # where it is shown the reference

Loading happens beside other loads and never beside a timed section; training holds no lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from candlemark.benchmark.segmentation.protocols import LEARNING
from candlemark.benchmark.segmentation.timing import FINISHED_BEFORE
from candlemark.benchmark.segmentation.work import SegmentationWork
from candlemark.benchmark.tasks.base import History
from candlemark.execution import leases
from candlemark.models.segmentation.base import ORACLES, ByCase

if TYPE_CHECKING:
    from candlemark.models.segmentation.base import OracleSegmenter, Segmenter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Built:
    """What answers, and what is known of it.

    asked: the segmenter; where it is an oracle it is asked by another name
    load_s: seconds until it stood; unseen: why its passes cannot be timed
    scored: False where its answers are timed and mean nothing
    """

    asked: Segmenter | OracleSegmenter
    is_oracle: bool
    load_s: float
    load_reason: str | None = None
    unseen: str | None = None
    scored: bool = True
    history: History = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def segmenter(self, case_id: str) -> Segmenter:
        """What is asked for the case without the reference; of heads by fold, the case's own.

        Raises ModelError: no head is of the case's fold.
        """
        if isinstance(self.asked, ByCase):
            return self.asked.of(case_id)
        return cast("Segmenter", self.asked)

    @property
    def oracle(self) -> OracleSegmenter | None:
        """What is shown the reference; None where nothing is."""
        return cast("OracleSegmenter", self.asked) if self.is_oracle else None


def build(work: SegmentationWork) -> Built:
    """What the work's spec names.

    Raises ModelError: its model, weights, head, class map or function cannot be had.
    """
    began = time.monotonic()
    builder = BUILDERS.get(_key(work), _ready)
    asked, history = builder(work)
    facts = {key: value for key, value in asked.facts.items() if key != "protocol"}
    return Built(
        asked=asked,
        is_oracle=work.spec.protocol in ORACLES,
        load_s=time.monotonic() - began,
        load_reason="training and loading" if _key(work) in LEARNING else None,
        unseen=FINISHED_BEFORE if work.spec.kind == "predictions" else None,
        scored=work.spec.protocol != "none",
        history=history,
        facts={
            **facts,
            "untrained": bool(facts.get("untrained") or work.trial.facts["untrained"]),
        },
    )


def _key(work: SegmentationWork) -> str:
    return work.spec.protocol if work.spec.kind == "hub" else work.spec.kind


Made = tuple["Segmenter | OracleSegmenter", History]


def _ready(work: SegmentationWork) -> Made:
    """What needs no training and no file of masks."""
    from candlemark.models.segmentation.loading import build_segmenter

    with leases.loading():
        return build_segmenter(work.spec, batch_size=work.trial.config["batch_size"]), ()


def _finished(work: SegmentationWork) -> Made:
    from candlemark.benchmark.segmentation.finished import FinishedPredictions

    return FinishedPredictions(work), ()


def _command(work: SegmentationWork) -> Made:
    from candlemark.benchmark.segmentation.command import CommandSegmenter

    return CommandSegmenter(work), ()


def _probe(work: SegmentationWork) -> Made:
    from candlemark.benchmark.segmentation.probing import build_probe

    return build_probe(work)


BUILDERS: dict[str, Callable[[SegmentationWork], Made]] = {
    "predictions": _finished,
    "command": _command,
    "linear_probe": _probe,
    "upernet_frozen": _probe,
    "untrained_head": _probe,
}
"""What the benchmark builds itself, by kind and, of the Hub, by protocol."""
