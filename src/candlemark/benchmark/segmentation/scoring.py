"""What is kept of an answer, and the scores that a record carries by itself.

    kept = measured(reference, labels, {1: "lesion"}, spacing_mm)
    measurements = scores_of(cases, {1: "lesion"}, oracle=False, untrained=False)

What is kept is free of any convention: counts of voxels, both directed distances, lesions. The
scores beside it follow candlemark's own conventions, for whoever reads the store without scoring
the cases again; tables and pages always do score them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from candlemark.metrics.segmentation.aggregate import aggregate
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.lesions import count_lesions
from candlemark.metrics.segmentation.measure import measure_all
from candlemark.metrics.segmentation.scores import read_case
from candlemark.models.segmentation.base import Labels
from candlemark.records import Measurement, Verdict

TOLERANCE_MM = 1.0
"""Of the surface Dice that a record carries; a table scores the cases by its own."""

ORACLE = "its prompt comes from the reference"
UNTRAINED = "what answers was never trained"
TIME_ONLY = "it was asked for time only: what it answers has no meaning here"


def measured(
    reference: Labels,
    labels: Labels,
    classes: Mapping[int, str],
    spacing_mm: tuple[float, float, float] | None,
) -> dict[str, Any]:
    """Counts, both directed distances and lesions of each class, in JSON types, by label."""
    found = measure_all(reference, labels, tuple(classes), spacing_mm)
    return {
        str(label): {
            "name": name,
            "reference_voxels": found[label].reference,
            **found[label].to_dict(),
            "lesions": count_lesions(reference, labels, label).to_dict(),
        }
        for label, name in classes.items()
    }


def unanswered(reference: Labels, classes: Mapping[int, str]) -> dict[str, Any]:
    """What is known of each class without an answer, by label."""
    return {
        str(label): {"name": name, "reference_voxels": int(np.count_nonzero(reference == label))}
        for label, name in classes.items()
    }


def scores_of(
    cases: Sequence[Mapping[str, Any]],
    classes: Mapping[int, str],
    *,
    oracle: bool,
    untrained: bool,
    timed_only: bool = False,
) -> tuple[Measurement, ...]:
    """Every score over classes and cases, a failed case as the worst, with its interval.

    An oracle's and an untrained head's carry that as their verdict; what was only timed has none.
    """
    if timed_only:
        return tuple(
            Measurement(name=name, value=None, unit=metric.unit, reason=TIME_ONLY)
            for name, metric in SEGMENTATION_METRICS.items()
        )
    found = aggregate(
        [read_case(case) for case in cases],
        labels=[str(label) for label in classes],
        metrics=tuple(SEGMENTATION_METRICS),
        tolerance_mm=TOLERANCE_MM,
    )
    return tuple(_judged(one, oracle=oracle, untrained=untrained) for one in found.overall.values())


def _judged(one: Measurement, *, oracle: bool, untrained: bool) -> Measurement:
    if one.value is None or not (oracle or untrained):
        return one
    verdict, why = (Verdict.ORACLE, ORACLE) if oracle else (Verdict.UNTRAINED, UNTRAINED)
    return replace(one, verdict=verdict, reason="; ".join(filter(None, (why, one.reason))))
