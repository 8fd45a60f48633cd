r"""Results in Prometheus' text exposition format 0.0.4, as a node's textfile collector reads it.

    # HELP candlemark_latency_p50_seconds median time of one call, ...
    # TYPE candlemark_latency_p50_seconds gauge
    candlemark_latency_p50_seconds{trial="3f2a",row="gpt2",verdict="VALID"} 0.00231

Names and values are in base units, as Prometheus asks: seconds, bytes, joules, watts; so
`latency_p50_ms` of 2.31 is `candlemark_latency_p50_seconds` of 0.00231. The bounds of an
interval are families of their own, `..._low` and `..._high`. Every number carries its verdict
as a label, so that a rule can ask for `verdict="VALID"`. The format has no unknown: a
measure without a value is a sample of `candlemark_unknown`, and how a trial ended one of
`candlemark_trial`, so that neither is a hole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from candlemark.metrics.catalog import all_scores
from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement
from candlemark.results.files import write_text
from candlemark.results.naming import fact, row_name
from candlemark.results.selection import Selection
from candlemark.results.store import Attempt

PREFIX = "candlemark_"
_LABELS = (
    *("task", "model", "dataset", "label", "device", "precision", "backend", "batch_size"),
    *("sequence_length", "seed"),
)
_BASE_UNITS: tuple[tuple[str, str, float], ...] = (
    (r"_ms_per_", "_seconds_per_", 1e-3),
    (r"_ms$", "_seconds", 1e-3),
    (r"_per_s$", "_per_second", 1.0),
    (r"_s$", "_seconds", 1.0),
    (r"_j$", "_joules", 1.0),
    (r"_w$", "_watts", 1.0),
)
"""How a name ends, how it ends in base units, and what a value is multiplied by."""

Family = dict[str, list[str]]


def export_prometheus(selections: Sequence[Selection], folder: Path) -> list[Path]:
    """One file a suite."""
    return [
        write_text(folder / f"{selection.name}.prom", exposition(selection))
        for selection in selections
    ]


def exposition(selection: Selection) -> str:
    """The text of one suite; the samples of a family stand together, as the format demands."""
    families: dict[tuple[str, str], list[str]] = {}

    def add(name: str, help_text: str, labels: Mapping[str, str], value: float) -> None:
        families.setdefault((name, help_text), []).append(f"{name}{_set(labels)} {value!r}")

    for attempt in selection.attempts:
        labels = _labels(attempt, selection.suite.suite_id)
        status = {"status": str(attempt.record.status)}
        add(f"{PREFIX}trial", "a trial, and how it ended", {**labels, **status}, 1.0)
        for m in attempt.record.measurements:
            judged = {**labels, "verdict": str(m.verdict)}
            if m.value is None:
                unknown = {**judged, "measure": m.name}
                add(f"{PREFIX}unknown", "a measure that has no value", unknown, 1.0)
                continue
            for name, help_text, value in _numbers(m):
                add(name, help_text, judged, value)
    return "".join(
        f"# HELP {name} {_escaped_help(text)}\n# TYPE {name} gauge\n" + "\n".join(lines) + "\n"
        for (name, text), lines in families.items()
    )


def base_unit_name(name: str) -> tuple[str, float]:
    """The family of a measure, and what its values are multiplied by."""
    for ending, written, factor in _BASE_UNITS:
        changed, count = re.subn(ending, written, name)
        if count:
            return f"{PREFIX}{_legal(changed)}", factor
    return f"{PREFIX}{_legal(name)}", 1.0


def _numbers(m: Measurement) -> Iterable[tuple[str, str, float]]:
    """Value and bounds, each with its family and help."""
    family, factor = base_unit_name(m.name)
    meaning = _meaning(m.name)
    for ending, said, value in (
        ("", meaning, m.value),
        ("_low", f"lower bound of: {meaning}", m.low),
        ("_high", f"upper bound of: {meaning}", m.high),
    ):
        if value is not None:
            yield f"{family}{ending}", said, float(value) * factor


def _meaning(name: str) -> str:
    if name in MEASURES:
        return MEASURES[name].meaning
    score = all_scores().get(name)
    return name.replace("_", " ") if score is None else score.title


def _labels(attempt: Attempt, suite_id: str) -> dict[str, str]:
    """What tells series apart; a trial of two suites is in the files of both, as two series."""
    record = attempt.record
    labels = {"trial": record.trial_id, "suite": suite_id, "row": row_name(record)}
    if attempt.run is not None:
        labels["run"] = attempt.run
    for name in _LABELS:
        value = fact(record, name)
        if value is not None:
            labels[name] = str(value)
    return labels


def _set(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}"


def _legal(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _escaped(value: str) -> str:
    return _escaped_help(value).replace('"', r"\"")


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
