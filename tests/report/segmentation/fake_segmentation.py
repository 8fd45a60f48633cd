"""Records of segmentation as a benchmark leaves them, made of masks whose scores are known.

Each class of a case is a row of ten voxels of which a prediction hits so many and misses the rest
by as many voxels elsewhere: its Dice is hits / 10, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from candlemark.metrics.segmentation.lesions import count_lesions
from candlemark.metrics.segmentation.measure import measure_all
from candlemark.records import Measurement, RunRecord, Status, content_id

WHEN = "2026-05-01T09:30:00+00:00"
SHAPE = (1, 16, 16)
NAMES = ("lesion", "organ", "vessel")
TIMES = {"load": 1.0, "preprocess": 2.0, "forward": 5.0, "postprocess": 1.0}
ENVIRONMENT = {"comparability_key": "5e1f0c77a9b1d2e3", "device": "cpu", "precision": "fp32"}


def masks(hits: Sequence[int | None]) -> tuple[Any, Any]:
    """Reference and prediction uint8 (1, 16, 16); None: neither has that class."""
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for place, count in enumerate(hits):
        if count is None:
            continue
        row = 5 * place
        reference[0, row, :10] = place + 1
        prediction[0, row, :count] = place + 1
        prediction[0, row + 3, : 10 - count] = place + 1
    return reference, prediction


def case_of(
    name: str,
    hits: Sequence[int | None] | int | None,
    *,
    spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0),
    times: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A case that has an answer."""
    classes = list(hits) if isinstance(hits, Sequence) else [hits]
    return case_of_masks(name, *masks(classes), len(classes), spacing=spacing, times=times)


def case_of_masks(
    name: str,
    reference: Any,
    prediction: Any,
    classes: int = 1,
    *,
    spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0),
    times: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A case with these masks, uint8 (Z, Y, X)."""
    labels = list(range(1, classes + 1))
    found = measure_all(reference, prediction, labels, spacing)
    return {
        "case": name,
        "outcome": "ok",
        "reason": None,
        "shape": list(reference.shape),
        "spacing_mm": None if spacing is None else list(spacing),
        "times_ms": None if times is None else dict(times),
        "times_reason": None if times else "not timed",
        "classes": {
            str(label): {
                "name": NAMES[label - 1],
                **found[label].to_dict(),
                "lesions": count_lesions(reference, prediction, label).to_dict(),
            }
            for label in labels
        },
    }


def failed_case(name: str, outcome: str = "crashed", *, shape: Any = SHAPE) -> dict[str, Any]:
    """A case without an answer."""
    return {
        "case": name,
        "outcome": outcome,
        "reason": "the network raised ValueError",
        "shape": None if shape is None else list(shape),
        "spacing_mm": None if shape is None else [1.0, 1.0, 1.0],
        "times_ms": None,
        "times_reason": "no answer",
        "classes": {"1": {"name": "lesion", "reference_voxels": 10}},
    }


def ids(count: int) -> list[str]:
    """Names of so many cases."""
    return [f"case_{number:02d}" for number in range(1, count + 1)]


def record(
    row: str,
    cases: Sequence[Mapping[str, Any]],
    *,
    role: str = "model",
    seed: int = 0,
    planned: Sequence[str] | None = None,
    classes: int = 1,
    status: Status = Status.OK,
    reason: str | None = None,
    measurements: Sequence[Measurement] = (),
    **facts: Any,
) -> RunRecord:
    """A trial of one row and seed."""
    trial = {"task": "segmentation", "model": row, "seed": seed, "dataset": "d1"}
    trial |= {key: facts[key] for key in ("options", "device") if key in facts}
    return RunRecord(
        trial_id=content_id(trial),
        trial=trial,
        status=status,
        reason=reason,
        started_at=WHEN,
        duration_s=1.0,
        measurements=tuple(measurements),
        cases=tuple(cases),
        facts={
            "row": row,
            "role": role,
            "model": row,
            "protocol": "own",
            "oracle": False,
            "untrained": False,
            "seed": seed,
            "weights": None,
            "dataset": "phantoms",
            "dataset_hash": "d1",
            "class_names": {str(k + 1): NAMES[k] for k in range(classes)},
            "case_counts": {"train": 0, "test": len(planned or cases)},
            "cases": list(planned or [case["case"] for case in cases]),
            "description": "",
            "notes": "",
            **facts,
        },
        environment=ENVIRONMENT,
    )


def scored(row: str, hits: Sequence[int | None], **more: Any) -> RunRecord:
    """A row of one class whose cases have Dice hits / 10."""
    spacing = more.pop("spacing", (1.0, 1.0, 1.0))
    times = more.pop("times", None)
    cases = [
        case_of(name, count, spacing=spacing, times=times)
        for name, count in zip(ids(len(hits)), hits, strict=True)
    ]
    return record(row, cases, **more)


def study() -> list[RunRecord]:
    """A model that answers, two that fail in part and altogether, a control, an oracle, a clock."""
    names = ids(6)
    broken = [case_of(name, 8) for name in names[:4]]
    broken += [failed_case(names[4]), failed_case(names[5], "wrong_shape", shape=None)]
    return [
        scored("owner/good", [9, 8, 9, 8, 9, 9], times=TIMES, protocol="native_head"),
        record("<b>|broken", broken, planned=names, description="a model of ours"),
        record("dead", [], planned=names, status=Status.CRASHED, reason="boom"),
        scored("control: Otsu", [3, 2, 4, 3, 2, 3], role="control"),
        scored("sam", [10] * 6, oracle=True, protocol="sam_oracle_box", jitter=0.1),
        scored("net", [0] * 6, protocol="none", times=TIMES),
    ]
