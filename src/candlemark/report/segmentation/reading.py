"""From the records of one set of cases to the rows of its board.

rows, units = build_rows(records, cases=ids, labels=("1",), settings=settings, sizes=sizes)

A trial that died leaves every case as a failed one, and so does a case that is not stored: each
row is scored on all of `cases`. Only seeds of one config share a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from candlemark.metrics.latency import measure_quantile
from candlemark.metrics.segmentation.aggregate import Sampled, measurement, over_seeds, sample
from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS, Extent
from candlemark.metrics.segmentation.conventions import CONVENTIONS, Convention
from candlemark.metrics.segmentation.scores import (
    CaseResult,
    FloatArray,
    complete,
    read_case,
    tabulate,
    unit_of,
)
from candlemark.records import Measurement, RunRecord, Status, Verdict, canonical_json
from candlemark.report.segmentation.rows import (
    STAGES,
    Bar,
    BarState,
    CaseScore,
    Row,
    Settings,
    StageTime,
)
from candlemark.report.settings import flatten, names_apart
from candlemark.results.naming import fact, row_name

NO_SCORES = "timed only: the protocol none asks for no mask"
OF_AN_ORACLE = "the prompt is taken from the reference"
OF_NO_TRAINING = "what answers was never trained"

Results = tuple[tuple[CaseResult, ...], ...]


def case_ids(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The test cases of these records, in the order of the plan."""
    planned = next((r.facts["cases"] for r in records if r.facts.get("cases")), None)
    if planned is None:
        planned = dict.fromkeys(case["case"] for record in records for case in record.cases)
    return tuple(str(case) for case in planned)


def classes_of(records: Sequence[RunRecord]) -> dict[str, str]:
    """Names of the classes by label."""
    planned = next((r.facts["class_names"] for r in records if r.facts.get("class_names")), None)
    if planned is not None:
        return {str(label): str(name) for label, name in planned.items()}
    return {
        str(label): str(kept.get("name", label))
        for record in records
        for case in record.cases
        for label, kept in case.get("classes", {}).items()
    }


def sizes_of(records: Sequence[RunRecord]) -> dict[str, Extent]:
    """The size of every scan: one that no row could open is as large as the largest of the rest.

    A failed case scores the diagonal of its scan, which somebody must know.
    """
    found: dict[str, Extent] = {}
    for record in records:
        for case in record.cases:
            if case.get("shape") is not None and str(case["case"]) not in found:
                extent = read_case({**case, "classes": {}}).extent
                if extent is not None:
                    found[str(case["case"])] = extent
    if found:
        largest = max(found.values(), key=lambda extent: extent.diagonal)
        found |= {case: largest for case in case_ids(records) if case not in found}
    return found


def references_of(records: Sequence[RunRecord]) -> dict[str, dict[str, int]]:
    """Voxels of every reference by case and label, as far as any row knows."""
    found: dict[str, dict[str, int]] = {}
    for record in records:
        for case in record.cases:
            known = found.setdefault(str(case["case"]), {})
            for label, kept in case.get("classes", {}).items():
                if "true_positive" in kept:
                    known[str(label)] = kept["true_positive"] + kept["false_negative"]
                elif kept.get("reference_voxels") is not None:
                    known[str(label)] = int(kept["reference_voxels"])
    return found


def build_rows(
    records: Sequence[RunRecord],
    *,
    cases: Sequence[str],
    labels: Sequence[str],
    settings: Settings,
    sizes: Mapping[str, Extent],
) -> tuple[list[Row], dict[str, str]]:
    """Every row, and the unit of every metric."""
    lines = _lines(records)
    known_of = {"extents": sizes, "references": references_of(records)}
    results = {name: _results(group, cases, known_of) for name, group in lines}
    known = [one for seeds in results.values() for seed in seeds for one in seed]
    metrics = tuple(dict.fromkeys((*settings.metrics, *settings.thresholds)))
    units = {metric: unit_of(metric, known) for metric in metrics}
    rows = [
        _row(name, group, results[name], labels=labels, settings=settings, units=units)
        for name, group in lines
    ]
    named = {
        metric: SEGMENTATION_METRICS[metric].unit if unit is None else unit
        for metric, unit in units.items()
    }
    return rows, named


def rescored(
    records: Sequence[RunRecord],
    rows: Sequence[Row],
    *,
    labels: Sequence[str],
    settings: Settings,
) -> list[RunRecord]:
    """The records, those of `rows` with every score of masks as a board of `settings` takes it.

    What a record carries from its run follows candlemark's convention and a tolerance of 1 mm. A
    trial that failed as a whole carries none, and none is made for it.
    """
    seeds = {
        trial: (row, seed)
        for row in rows
        if row.cases
        for trial, seed in zip(
            dict.fromkeys(case.trial_id for case in row.cases), row.results, strict=True
        )
    }

    def scored(m: Measurement, row: Row, seed: Sequence[CaseResult]) -> Measurement:
        if m.name not in SEGMENTATION_METRICS:
            return m
        sampled = _sampled((tuple(seed),), labels, m.name, None, settings)
        found = measurement(m.name, sampled, unit=unit_of(m.name, seed))
        return _marked(found, row.oracle, row.untrained)

    return [
        replace(
            record,
            measurements=tuple(scored(m, *seeds[record.trial_id]) for m in record.measurements),
        )
        if record.trial_id in seeds
        else record
        for record in records
    ]


def _lines(records: Sequence[RunRecord]) -> list[tuple[str, list[RunRecord]]]:
    """The records of each row under its name; only seeds of one config share a row."""
    named: dict[tuple[str, str], dict[str, list[RunRecord]]] = {}
    for record in records:
        alike = named.setdefault((row_name(record), str(fact(record, "role"))), {})
        alike.setdefault(canonical_json(_setting(record)), []).append(record)
    return [
        line
        for (name, _), alike in named.items()
        for line in zip(
            names_apart(name, [_setting(group[0]) for group in alike.values()]),
            alike.values(),
            strict=True,
        )
    ]


def _setting(record: RunRecord) -> dict[str, Any]:
    return flatten({key: value for key, value in record.trial.items() if key != "seed"})


def _results(
    records: Sequence[RunRecord], cases: Sequence[str], known_of: Mapping[str, Any]
) -> Results:
    """The cases of each seed; those of a trial that failed as a whole failed as it did."""
    return tuple(
        complete(record.cases, cases, **known_of)
        if record.status is Status.OK
        else complete(
            record.cases, cases, outcome=str(record.status), reason=record.reason, **known_of
        )
        for record in records
    )


def _row(
    name: str,
    records: Sequence[RunRecord],
    results: Results,
    *,
    labels: Sequence[str],
    settings: Settings,
    units: Mapping[str, str | None],
) -> Row:
    first = records[0]
    protocol = str(fact(first, "protocol") or "own")
    oracle, untrained = (any(fact(r, key) for r in records) for key in ("oracle", "untrained"))
    timed_only = protocol == "none"
    marked = (oracle, untrained)
    drawn = {
        (metric, label): _sampled(results, labels, metric, label, settings)
        for metric in units
        for label in (None, *labels)
    }

    def measured(metric: str, label: str | None) -> Measurement:
        if timed_only:
            unit = SEGMENTATION_METRICS[metric].unit
            return Measurement(name=metric, value=None, unit=unit, reason=NO_SCORES)
        found = measurement(metric, drawn[metric, label], unit=units[metric])
        return _marked(found, *marked)

    scores = {metric: measured(metric, None) for metric in units}
    return Row(
        name=name,
        role=str(fact(first, "role") or "model"),
        protocol=protocol,
        model=str(fact(first, "model") or name),
        oracle=oracle,
        untrained=untrained,
        timed_only=timed_only,
        jitter=fact(first, "jitter"),
        weights=fact(first, "weights"),
        description=str(fact(first, "description") or ""),
        notes=str(fact(first, "notes") or ""),
        records=tuple(record for record in records if record.status is Status.OK),
        failed=tuple(record for record in records if record.status is not Status.OK),
        scores=scores,
        by_class={label: {metric: measured(metric, label) for metric in units} for label in labels},
        cases=() if timed_only else _case_scores(records, results, labels, tuple(units), settings),
        results=results,
        sampled={metric: drawn[metric, None] for metric in units},
        times=_times(records, results),
        peak_memory=_most([record.measurement("peak_memory_bytes") for record in records]),
        bars=tuple(_bar(scores[metric], bar) for metric, bar in settings.thresholds.items()),
    )


def _sampled(
    results: Results, labels: Sequence[str], metric: str, label: str | None, settings: Settings
) -> Sampled:
    return over_seeds(
        [
            sample(
                seed,
                labels=labels,
                metric=metric,
                label=label,
                convention=CONVENTIONS[settings.convention],
                tolerance_mm=settings.tolerance_mm,
            )
            for seed in results
        ]
    )


def _marked(m: Measurement, oracle: bool, untrained: bool) -> Measurement:
    """The measurement with the verdict of its row, which weighs more than too few cases."""
    if m.value is None or not (oracle or untrained):
        return m
    why = OF_AN_ORACLE if oracle else OF_NO_TRAINING
    return replace(
        m,
        verdict=Verdict.ORACLE if oracle else Verdict.UNTRAINED,
        reason=f"{why}; {m.reason}" if m.reason else why,
    )


def _case_scores(
    records: Sequence[RunRecord],
    results: Results,
    labels: Sequence[str],
    metrics: Sequence[str],
    settings: Settings,
) -> tuple[CaseScore, ...]:
    convention = CONVENTIONS[settings.convention]
    found: list[CaseScore] = []
    for record, seed in zip(records, results, strict=True):
        means = {
            metric: _per_case(seed, labels, metric, convention, settings) for metric in metrics
        }
        for place, one in enumerate(seed):
            found.append(
                CaseScore(
                    case=one.case,
                    outcome=one.outcome,
                    reason=one.reason,
                    trial_id=record.trial_id,
                    seed=fact(record, "seed"),
                    scores={metric: means[metric][None][place] for metric in metrics},
                    by_class={
                        label: {metric: means[metric][label][place] for metric in metrics}
                        for label in labels
                    },
                    volume_bias={label: one.volume_bias(label) for label in labels},
                    times_ms=one.times_ms,
                    spacing_mm=None if one.extent is None else one.extent.spacing_mm,
                )
            )
    return tuple(found)


def _per_case(
    results: Sequence[CaseResult],
    labels: Sequence[str],
    metric: str,
    convention: Convention,
    settings: Settings,
) -> dict[str | None, list[float | None]]:
    """Scores of each case: of every class, and under None their mean."""
    table = tabulate(
        results,
        labels=labels,
        metric=metric,
        convention=convention,
        tolerance_mm=settings.tolerance_mm,
    )
    if table is None:
        return {label: [None] * len(results) for label in (None, *labels)}
    columns: dict[str | None, FloatArray] = {None: table.per_case()}
    columns |= {label: table.scores[:, place] for place, label in enumerate(labels)}
    return {
        label: [float(x) if np.isfinite(x) else None for x in column]
        for label, column in columns.items()
    }


def _times(records: Sequence[RunRecord], results: Results) -> tuple[StageTime, ...]:
    """As the trial measured them, else from the times that are stored with its cases."""
    timed = [one.times_ms for seed in results for one in seed if one.times_ms]
    found = []
    for stage in STAGES:
        samples = np.asarray(
            [
                sum(t.values()) if stage == "case" else t[stage]
                for t in timed
                if stage in {*t, "case"}
            ]
        )
        both = []
        for percentile in ("p50", "p95"):
            name = f"{stage}_{percentile}_ms"
            stored = _over_passes(records, name, percentile)
            if stored is None and len(samples):
                stored = measure_quantile(name, samples, percentile, fault=None)
            both.append(stored)
        if both[0] is not None and both[1] is not None:
            seen = float(np.median(samples)) if len(samples) else None
            found.append(StageTime(stage=stage, p50=both[0], p95=both[1], seen_ms=seen))
    return tuple(found)


def _over_passes(records: Sequence[RunRecord], name: str, percentile: str) -> Measurement | None:
    """A percentile of the passes of all seeds together, to be quoted as the worst of theirs is."""
    found = [(record, m) for record in records if (m := record.measurement(name)) is not None]
    key = name.replace(f"_{percentile}", "")
    passes = [record.samples[key] for record, _ in found if key in record.samples]
    if len(found) < 2 or len(passes) < len(found):
        return found[0][1] if found else None
    measured = measure_quantile(name, np.concatenate(passes), percentile, fault=None)
    # A percentile that was withheld bears no mark of the machine; the time of loading does.
    marks = [
        mark
        for record, own in found
        for mark in (own, record.measurement("load_s"))
        if mark is not None and mark.verdict not in {Verdict.VALID, Verdict.TOO_FEW}
    ]
    if measured.value is None or not marks:
        return measured
    return replace(measured, verdict=marks[0].verdict, reason=marks[0].reason)


def _most(found: Sequence[Measurement | None]) -> Measurement | None:
    """The largest of what seeds measured, an unknown one where none has a value."""
    known = [m for m in found if m is not None]
    return max(known, key=lambda m: -1.0 if m.value is None else m.value, default=None)


def _bar(m: Measurement, bar: float) -> Bar:
    return Bar(metric=m.name, bar=bar, state=_state(m, bar))


def _state(m: Measurement, bar: float) -> BarState:
    if m.value is None or m.verdict is not Verdict.VALID or m.low is None or m.high is None:
        return "unknown"
    if SEGMENTATION_METRICS[m.name].higher_is_better:
        return "clears" if m.low >= bar else "misses" if m.high < bar else "undecided"
    return "clears" if m.high <= bar else "misses" if m.low > bar else "undecided"
