"""The task `segmentation`: one segmenter over every test case, each measured as it answers.

    result = run(work)          # in a worker process

A case that fails is a case with an outcome and its reason; the next one is asked all the same.
What is kept of a case is free of any convention: counts, both directed distances, lesions. Only
the loading of a model, or its training, can fail the whole trial.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from candlemark import progress
from candlemark.benchmark.segmentation.building import Built, build
from candlemark.benchmark.segmentation.scan_cases import (
    OpenScan,
    ScanCase,
    keep_mask,
    labels_in,
    open_scan_case,
    read_reference,
    require_unchanged,
)
from candlemark.benchmark.segmentation.scoring import measured, scores_of, unanswered
from candlemark.benchmark.segmentation.timing import CaseTimes
from candlemark.benchmark.segmentation.work import SegmentationWork
from candlemark.benchmark.tasks.base import TaskResult
from candlemark.benchmark.tasks.steps import environment_of
from candlemark.errors import CandlemarkError
from candlemark.hardware.conditions import watch
from candlemark.models.segmentation.base import Labels, Stopwatch
from candlemark.models.segmentation.failures import CaseError, outcome_of
from candlemark.records import Measurement, Verdict

SHARED_PROCESS = "earlier rows in this process have left memory behind"


@dataclass(slots=True)
class _Ran:
    """How many rows this process has run."""

    count: int = 0


_ran = _Ran()

ACCELERATOR_LOST = ("cuda error", "device-side assert", "hip error")
"""After one of these nothing more can be asked of the device in this process."""


def run(work: SegmentationWork) -> TaskResult:
    """Build the segmenter, ask it for every test case, and measure each answer.

    Raises ModelError: the model cannot be had, its head was never trained, or no class map is
    given; ScanError: a reference changed since the trial was planned.
    """
    device = _device(work)
    earlier = _ran.count
    _ran.count += 1
    built = build(work)
    times = CaseTimes.begin(device, repeats=work.trial.config["repeats"], unseen=built.unseen)
    cases = []
    with watch(device) as seen, progress.track(_title(work), total=len(work.test)) as bar:
        for case in work.test:
            cases.append(_case(work, built, case, times))
            bar.advance(1, case.id)
    scores = scores_of(
        cases,
        work.spec.classes,
        oracle=built.is_oracle,
        untrained=bool(built.facts["untrained"]),
        timed_only=not built.scored,
    )
    facts = {**built.facts, "conditions": seen.facts, "clock": times.clock.fault()}
    return TaskResult(
        measurements=(
            *scores,
            *seen.apply((*_sizes(built), *_judged(times, shared=earlier > 0))),
        ),
        history=built.history,
        samples=times.samples(),
        cases=tuple(cases),
        facts=facts,
        environment=_environment(work, built),
    )


def _title(work: SegmentationWork) -> str:
    return f"cases of {work.trial.row}"


def _device(work: SegmentationWork) -> Any:
    """The device of the trial, torch on as many threads as were asked for."""
    import torch

    threads = work.trial.config["threads"]
    if threads:
        torch.set_num_threads(threads)
    return torch.device(work.trial.config["device"])


def _case(work: SegmentationWork, built: Built, case: ScanCase, times: CaseTimes) -> dict[str, Any]:
    """Ask for one case and measure the answer; a failure is an outcome."""
    require_unchanged(case)
    scan = open_scan_case(case)
    reference = read_reference(case, scan, work.references)
    told = {
        "case": case.id,
        "shape": list(scan.case.shape),
        "spacing_mm": None if scan.case.spacing_mm is None else list(scan.case.spacing_mm),
    }
    try:
        check = partial(_check, scan=scan, classes=work.spec.classes, scored=built.scored)
        labels, stages = _ask(built, case, reference, times, check)
    except (Exception, SystemExit) as error:  # a model of anyone's fails in its own way
        if any(word in str(error).lower() for word in ACCELERATOR_LOST):
            raise  # the process is of no use any more; its record says so
        return {**told, **_failed(error), "classes": unanswered(reference, work.spec.classes)}
    # A disk that is full is no fault of the model: it ends the trial, not the case.
    keep_mask(labels.astype(np.uint8, copy=False), scan, work.predictions, case.id)
    found = {**told, "outcome": "ok", "reason": None, "times_ms": stages}
    found["times_reason"] = None if stages is not None else built.unseen
    if not built.scored:
        return {**found, "classes": unanswered(reference, work.spec.classes)}
    kept = measured(reference, labels, work.spec.classes, scan.case.spacing_mm)
    return {**found, "classes": kept}


def _ask(
    built: Built,
    case: ScanCase,
    reference: Labels,
    times: CaseTimes,
    check: Callable[[Labels], None],
) -> tuple[Labels, Mapping[str, float] | None]:
    # Which head a case belongs to is found out off the clock.
    asked = built.segmenter(case.id)

    def segment(watch: Stopwatch) -> Labels:
        with watch("load"):
            scan = open_scan_case(case)
        if built.oracle is not None:
            return built.oracle.segment_with(scan.case, reference, watch)
        return asked.segment(scan.case, watch)

    with progress.timing(case.id):
        return times.ask(segment, check)


def _check(labels: Labels, scan: OpenScan, classes: Mapping[int, str], *, scored: bool) -> None:
    """CaseError for an answer that cannot be held against the reference."""
    if labels.shape != scan.case.shape:
        raise CaseError(
            "wrong_shape",
            f"the answer has the shape {labels.shape}; the scan has {scan.case.shape}",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise CaseError("wrong_labels", f"the answer is {labels.dtype}; labels are integers")
    if not scored:
        return
    unknown = sorted(labels_in(labels) - {0, *classes})
    if unknown:
        known = ", ".join(f"{label} ({name})" for label, name in classes.items())
        raise CaseError(
            "wrong_labels",
            f"the answer holds label {unknown[0]}; the references have {known}: give the model a "
            "class_map in the config",
        )


def _failed(error: Exception | SystemExit) -> dict[str, Any]:
    outcome = outcome_of(error)
    first = str(error).strip().partition("\n")[0] or "no message"
    named = isinstance(error, CandlemarkError)
    if outcome == "crashed" and named and not isinstance(error, CaseError):
        outcome = "refused"  # on purpose, and in its own words
    return {
        "outcome": outcome,
        "reason": first if named else f"{type(error).__name__}: {first}{_where(error)}",
        "times_ms": None,
        "times_reason": "the case failed",
    }


def _where(error: BaseException) -> str:
    """The line that raised it, which a user's own model wants to know."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _judged(times: CaseTimes, *, shared: bool) -> tuple[Measurement, ...]:
    """Times, and memory as it may be quoted: of a shared process it is also that of others."""
    return tuple(
        replace(
            one,
            verdict=Verdict.CONTENDED,
            reason="; ".join(filter(None, (one.reason, SHARED_PROCESS))),
        )
        if shared
        and one.name == "peak_memory_bytes"
        and one.value is not None
        and times.device.type == "cpu"
        else one
        for one in times.measurements()
    )


def _sizes(built: Built) -> tuple[Measurement, ...]:
    """How large the model is, where it said so."""
    parameters = built.facts.get("parameters")
    found = [
        Measurement(
            name="load_s", value=built.load_s, unit="s", sample_count=1, reason=built.load_reason
        )
    ]
    if isinstance(parameters, int):
        found.append(Measurement(name="parameters", value=float(parameters)))
    return tuple(found)


def _environment(work: SegmentationWork, built: Built) -> dict[str, Any]:
    config = work.trial.config
    precision = "fp32"
    with suppress(KeyError):
        precision = str(built.facts["precision"])
    return environment_of(
        config["device"],
        {
            "precision": precision,
            "backend": str(built.facts.get("backend", "eager")),
            "batch_size": config["batch_size"],
        },
    )
