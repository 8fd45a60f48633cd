"""Results as tables in GitHub's Markdown, to be pasted into an issue or a README.

    export_markdown(selections, Path("copies"))        # benchmark_suite_<time>.md

One table a task; a trial is a line, a measure a column, its unit in the head. A cell holds
the value and its interval; what may not be quoted carries its verdict and a footnote with
the reason, what is unknown is `n/a` with the same. A trial that failed keeps its line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from candlemark.metrics.catalog import all_scores
from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement, RunRecord, Status, Verdict
from candlemark.results.files import write_text
from candlemark.results.naming import fact, row_name, task_of
from candlemark.results.selection import Selection

_CONDITIONS = (
    *("dataset", "label", "device", "precision", "backend", "batch_size", "sequence_length"),
    "seed",
)
_SHOWN: dict[str, tuple[float, str]] = {
    "bytes": (2**20, "MiB"),
    "FLOPs": (1e9, "GFLOPs"),
    "MACs": (1e9, "GMACs"),
    "FLOPs/s": (1e9, "GFLOPs/s"),
}
"""Units that are too small for a table: how many make one that is not, and its name."""


def export_markdown(selections: Sequence[Selection], folder: Path) -> list[Path]:
    """One file a suite."""
    return [
        write_text(folder / f"{selection.name}.md", markdown(selection)) for selection in selections
    ]


def markdown(selection: Selection) -> str:
    """The page of one suite."""
    of = f", run {_escaped(selection.run)}" if selection.run else ""
    lines = [
        f"# Suite {_escaped(selection.suite.suite_id)}{of}",
        "",
        f"Started {_escaped(selection.suite.started_at)}. Intervals are in brackets.",
    ]
    notes: dict[str, int] = {}
    for task in dict.fromkeys(map(task_of, selection.records)):
        records = [record for record in selection.records if task_of(record) == task]
        lines += ["", f"## {_escaped(task)}", "", *_table(records, notes)]
    if notes:
        lines += ["", *(f"[^{number}]: {_escaped(note)}" for note, number in notes.items())]
    return "\n".join(lines) + "\n"


def _table(records: Sequence[RunRecord], notes: dict[str, int]) -> list[str]:
    conditions = [
        name for name in _CONDITIONS if any(fact(record, name) is not None for record in records)
    ]
    measured = {m.name: m.unit for record in records for m in record.measurements}
    order = [*all_scores(), *MEASURES]
    names = sorted(measured, key=lambda name: order.index(name) if name in order else len(order))
    head = ["row", *(name.replace("_", " ") for name in conditions), "status"]
    head += [_title(name, measured[name]) for name in names]
    lines = [_line(head), _line(["---"] * (len(conditions) + 2) + ["---:"] * len(names))]
    for record in records:
        cells = [row_name(record), *(_text(fact(record, name)) for name in conditions)]
        cells = [*map(_escaped, cells), _status(record, notes)]
        cells += [_cell(record.measurement(name), notes) for name in names]
        lines.append(_line(cells))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _title(name: str, unit: str) -> str:
    titles = {**{m.name: m.title for m in MEASURES.values()}}
    titles |= {score.name: score.title for score in all_scores().values()}
    shown = _SHOWN.get(unit, (1.0, unit))[1]
    return _escaped(f"{titles.get(name, name)}, {shown}" if shown else titles.get(name, name))


def _status(record: RunRecord, notes: dict[str, int]) -> str:
    if record.status is Status.OK:
        return "ok"
    return f"{record.status}{_mark(f'{record.status}: {record.reason}', notes)}"


def _cell(m: Measurement | None, notes: dict[str, int]) -> str:
    if m is None:
        return ""
    size = _SHOWN.get(m.unit, (1.0, ""))[0]
    text = "n/a" if m.value is None else _number(m.value / size)
    if m.value is not None and m.low is not None and m.high is not None:
        text += f" [{_number(m.low / size)}, {_number(m.high / size)}]"
    if m.verdict is Verdict.VALID and m.value is not None:
        return text
    if m.verdict is Verdict.VALID:
        return f"{text}{_mark(str(m.reason), notes)}"
    why = f"{m.verdict}: {m.reason}" if m.reason else str(m.verdict)
    return f"{text} {m.verdict}{_mark(why, notes)}"


def _number(value: float) -> str:
    """Four digits, and no exponent where a table can do without."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _mark(note: str, notes: dict[str, int]) -> str:
    """The mark of a footnote; the same reason is one note."""
    return f"[^{notes.setdefault(note, len(notes) + 1)}]"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _escaped(text: str) -> str:
    r"""Text that Markdown shows as it is: `a|b_c` becomes `a\|b\_c`, a line end a space."""
    return re.sub(r"([\\|`*_<>\[\]#~])", r"\\\1", " ".join(text.split()))
