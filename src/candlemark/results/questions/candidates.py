"""The cells that questions are asked of: a model under conditions on a machine, and its scores.

    for one in candidates(results, here=this_machine()):
        one.label, one.known("latency_p50_ms"), one.known("auroc")

A cell is what one trial measured on one machine, from the newest attempt there that ended
well. Scores come from the tasks `charts`, `fusion` and `segmentation`: a cell of another task is
joined by the name of its model with the scores stored for that model, the mean over seeds, once
for each data set and label it was scored on, and of scans for each way it was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from candlemark.metrics.catalog import all_scores
from candlemark.records import Measurement, RunRecord, Status, Verdict
from candlemark.results.naming import SCORED_TASKS, SEGMENTATION, fact, row_name, task_of
from candlemark.results.questions.machine import Machine, machine_name, why_elsewhere
from candlemark.results.store import Results

_GIVEN = ("modality", "model_task", "device", "batch_size", "sequence_length", "image_size")
_CHOSEN = ("precision", "backend")
WITH_SCORES = (*SCORED_TASKS, SEGMENTATION)
"""Tasks whose trials carry scores of their own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One cell, joined with the scores of its model on one data set, if any were stored.

    scored_on: data set and label of the scores, None where there are none
    workload: what is given and not chosen: only cells of one workload are rivals
    """

    record: RunRecord
    machine: str
    measurements: Mapping[str, Measurement]
    scored_on: str | None

    @property
    def model(self) -> str:
        """The model, as it is called everywhere."""
        return str(fact(self.record, "model") or row_name(self.record))

    @property
    def label(self) -> str:
        """Model and what was chosen for it: `gpt2 fp16 compile`, `nvidia/mit-b0 linear_probe`."""
        chosen = [fact(self.record, name) for name in _CHOSEN]
        if task_of(self.record) == SEGMENTATION:
            chosen = [fact(self.record, "protocol")]
        return " ".join([row_name(self.record), *(str(value) for value in chosen if value)])

    @property
    def workload(self) -> tuple[tuple[str, Any], ...]:
        """What all rivals share, by name."""
        given: dict[str, Any] = {"task": task_of(self.record), "machine": self.machine}
        given |= {name: fact(self.record, name) for name in _GIVEN}
        given["scored_on"] = self.scored_on
        return tuple((name, value) for name, value in given.items() if value is not None)

    def known(self, name: str) -> tuple[Measurement | None, str | None]:
        """A measurement that may be quoted and None, or None and why there is no such one."""
        m = self.measurements.get(name)
        if m is None:
            why = f"{name} was not measured"
            if name in all_scores() and task_of(self.record) not in WITH_SCORES:
                *others, last = WITH_SCORES
                tasks = f"{', '.join(others)} and {last}"
                why = f"no {name} of {self.model} is stored by the tasks {tasks}"
            return None, why
        if m.verdict is not Verdict.VALID:
            return None, f"{name} is {m.verdict}" + (f": {m.reason}" if m.reason else "")
        if m.value is None:
            return None, f"{name} is unknown: {m.reason}"
        return m, None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """The candidates, and the records that are none, each with the reason."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[tuple[RunRecord, str], ...]


def find_candidates(
    results: Results,
    *,
    task: str | None = None,
    here: Machine | None = None,
    with_scores: bool = False,
) -> Asked:
    """Every model cell of a task (of all tasks for None), of one machine or of all (None).

    with_scores: join cells of other tasks with the scores of the tasks that have test cases

    Trials that failed, changed the model's answer or were measured elsewhere are left out with
    the reason; baselines and controls are no models and are not asked.
    """
    newest = _newest(attempt.record for attempt in results.attempts(bulk=False))
    scores = _scores(newest) if with_scores else {}
    found: list[Candidate] = []
    left_out: list[tuple[RunRecord, str]] = []
    for record in newest:
        if task not in (None, task_of(record)) or fact(record, "role") not in (None, "model"):
            continue
        why = _why_not(record, here)
        if why is not None:
            left_out.append((record, why))
        else:
            found += _joined(record, scores)
    return Asked(candidates=tuple(found), left_out=tuple(left_out))


def _newest(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The attempt that counts of each trial on each machine: the newest that ended well."""
    kept: dict[tuple[str, str], RunRecord] = {}
    for record in records:
        # A crash leaves no environment: it belongs to every machine that has no answer.
        key = (record.trial_id, machine_name(record.environment) if record.environment else "")
        before = kept.get(key)
        if before is None or record.status is Status.OK or before.status is not Status.OK:
            kept[key] = record
    answered = {trial for (trial, _), record in kept.items() if record.status is Status.OK}
    return [
        record
        for (trial, _), record in kept.items()
        if record.status is Status.OK or trial not in answered
    ]


def _why_not(record: RunRecord, here: Machine | None) -> str | None:
    if record.status is not Status.OK:
        return f"{record.status}: {record.reason}"
    if record.facts.get("same_answer") is False:
        return "its answer differs from that of fp32 eager by more than the tolerance"
    return None if here is None else why_elsewhere(record.environment, here)


def _joined(
    record: RunRecord, scores: Mapping[str, Mapping[str, dict[str, Measurement]]]
) -> list[Candidate]:
    """The cell itself, or, where its model was scored, the cell with each set of scores."""
    bare = Candidate(
        record=record,
        machine=machine_name(record.environment),
        measurements={m.name: m for m in record.measurements},
        scored_on=_scored_on(record) if task_of(record) in WITH_SCORES else None,
    )
    found = scores.get(bare.model, {})
    if task_of(record) in WITH_SCORES or not found:
        return [bare]
    return [
        replace(bare, measurements={**bare.measurements, **values}, scored_on=name)
        for name, values in found.items()
    ]


def _scored_on(record: RunRecord) -> str:
    """Data set and label. Scans of one name are told apart by their content: a folder changes."""
    if task_of(record) == SEGMENTATION:
        classes = ", ".join((fact(record, "class_names") or {}).values())
        content = str(fact(record, "dataset_hash") or "")[:6]
        return f"{fact(record, 'dataset')} {content}: {classes}"
    return f"{record.facts.get('dataset', 'data')}: {record.facts.get('label', 'label')}"


def _scores(records: Sequence[RunRecord]) -> dict[str, dict[str, dict[str, Measurement]]]:
    """Mean scores over seeds, by model, by what they were scored on, by name.

    A trial that several machines ran is one seed: the newest made here, else the newest.
    """
    ours_last = sorted(records, key=lambda record: "imported_from" not in record.facts)
    once = {record.trial_id: record for record in ours_last if record.status is Status.OK}
    groups: dict[tuple[str, str, str], list[Measurement]] = {}
    for record in once.values():
        if task_of(record) in WITH_SCORES and fact(record, "role") == "model":
            for m in record.measurements:
                if m.name in all_scores():
                    model = str(fact(record, "model") or row_name(record))
                    scored_on = _scored_on(record)
                    if task_of(record) == SEGMENTATION:  # one model may be asked in several ways
                        scored_on += f", {row_name(record)} as {fact(record, 'protocol')}"
                    groups.setdefault((model, scored_on, m.name), []).append(m)
    found: dict[str, dict[str, dict[str, Measurement]]] = {}
    for (model, scored_on, name), seeds in groups.items():
        found.setdefault(model, {}).setdefault(scored_on, {})[name] = _mean(seeds)
    return found


def _mean(seeds: Sequence[Measurement]) -> Measurement:
    """The mean over seeds; one seed keeps its interval, and a verdict spoils the mean."""
    spoiled = [m for m in seeds if m.verdict is not Verdict.VALID or m.value is None]
    if spoiled or len(seeds) == 1:
        return spoiled[0] if spoiled else seeds[0]
    value = fmean(m.value for m in seeds if m.value is not None)
    return Measurement(name=seeds[0].name, value=value, unit=seeds[0].unit)
