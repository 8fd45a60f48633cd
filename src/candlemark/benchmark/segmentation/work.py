"""One trial of a segmentation benchmark with all that it reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from candlemark.benchmark.segmentation.folds import Fold
from candlemark.benchmark.segmentation.scan_cases import References, ScanCase
from candlemark.benchmark.trial import Trial
from candlemark.models.segmentation.base import SegmenterSpec


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
