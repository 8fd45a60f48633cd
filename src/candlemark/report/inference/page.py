"""The report of an inference benchmark as one HTML page.

page(cells, gains, suites, title="profile")      # the text of report.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from candlemark.metrics.measures import MEASURES
from candlemark.records import Measurement, Verdict
from candlemark.report.comparison import Speedup
from candlemark.report.inference import charts
from candlemark.report.inference.cells import LATENCY, Cell, Family, answer, families
from candlemark.report.inference.figures import ON_CPU, any_on_cpu
from candlemark.report.inference.gains import kind_of, named, same_answer, settled_by, times
from candlemark.report.inference.notes import notes
from candlemark.report.inference.numbers import figures, interval, measured, unit_of
from candlemark.report.inference.parts import trade_offs
from candlemark.report.inference.text import note_text
from candlemark.report.page import Chart, chart, configs, document
from candlemark.report.settings import flatten
from candlemark.results.store import Suite

_COLUMNS = (
    *(LATENCY, "latency_p95_ms", "latency_p99_ms", "throughput_items_per_s"),
    *("decode_ms_per_token", "generated_tokens_per_s", "real_time_factor"),
    *("peak_memory_bytes", "activation_memory_bytes", "model_bytes", "parameters", "macs"),
    *("utilisation", "energy_per_item_j", "relative_error", "answer_agreement"),
    *("first_call_ms", "load_s", "largest_batch", "best_batch"),
)
_OF_CELLS = frozenset(
    {
        *("precision", "backend", "attention", "input_shape", "batch_size", "channels_last"),
        *("comparability_key", "conditions", "sequence_length", "image_size", "audio_s"),
        *("new_tokens", "matmul_precision", "matmul_tf32", "cudnn_tf32"),
    }
)
"""Fields of an environment that belong to a cell, not to its machine."""

_FACTS = (
    *("model_class", "model_task", "weights", "inputs", "attention", "stopped", "clock"),
    *("uncounted", "batch_search", "input_shape"),
)
"""Facts of a cell that are shown with its conditions."""


def page(
    cells: Sequence[Cell],
    gains: Sequence[Speedup],
    suites: Sequence[Suite],
    *,
    title: str,
    boards: str | None = None,
) -> str:
    """The whole page; `boards` is the file beside it that reports trials of other tasks."""
    drawn: dict[str, Chart] = {}
    found = families(cells)
    body = [
        _header(cells, found, title, boards),
        "<main>",
        *(_family(family, place) for place, family in enumerate(found)),
        _notes(cells),
        _charts(cells, drawn),
        _gains(named(gains, cells)),
        _failed(cells),
        _conditions(cells),
        _machines(cells),
        configs(suites),
        "</main>",
        _footer(),
    ]
    return document(title, body, drawn)


def _header(cells: Sequence[Cell], found: Sequence[Family], title: str, boards: str | None) -> str:
    links = "".join(
        f'<a href="#family-{place}">{escape(family.modality)}</a>'
        for place, family in enumerate(found)
    )
    other = "" if boards is None else f'<a href="{escape(boards)}">Accuracy</a>'
    failed = '<a href="#failed">Failed</a>' if any(not cell.finished for cell in cells) else ""
    return (
        f'<header><div><p class="asked">{escape(title)}: how fast, how heavy, how sure?</p>'
        f"<h1>{escape(answer(cells))}</h1>"
        f'<nav aria-label="Sections">{links}<a href="#charts-of-cells">Charts</a>'
        f'<a href="#gains">Gains</a>{failed}<a href="#environment">Environment</a>'
        '<a href="#config">Config</a>'
        f"{other}"
        '<button class="theme" type="button" aria-label="Change colours">dark</button>'
        "</nav></div></header>"
    )


def _family(family: Family, place: int) -> str:
    names = [name for name in _COLUMNS if family.has(name)]
    names = names if LATENCY in names else [LATENCY, *names]
    head = "".join(
        [
            _sorter("Model"),
            *(_sorter(_capital(dimension.head)) for dimension in family.varying),
            *(_sorter(_head(name, family), number=True) for name in names),
        ]
    )
    lines = "\n".join(_line(cell, family, names) for cell in family.cells)
    return (
        f'<section id="family-{place}"><h2>{escape(_capital(family.modality))}</h2>'
        f'<p class="note">{escape(", ".join(family.shared))}</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></section>"
    )


def _sorter(text: str, *, number: bool = False) -> str:
    kind = ' class="number"' if number else ""
    return f'<th{kind}><button type="button">{escape(text)}</button></th>'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_HEADS = {
    LATENCY: "p50, ms",
    "latency_p95_ms": "p95, ms",
    "latency_p99_ms": "p99, ms",
    "decode_ms_per_token": "Decode, ms/token",
    "generated_tokens_per_s": "Tokens/s",
    "peak_memory_bytes": "Peak, MB",
    "macs": "GMACs",
    "utilisation": "Of peak FLOPs/s",
}


def _head(name: str, family: Family) -> str:
    if name == "throughput_items_per_s":
        return f"{_capital(family.item)}/s"
    unit = unit_of(name)[1]
    title = _capital(MEASURES[name].title)
    return _HEADS.get(name) or (f"{title}, {unit}" if unit else title)


def _line(cell: Cell, family: Family, names: Sequence[str]) -> str:
    facts = cell.record.facts
    known = [facts.get("model_task"), facts.get("model_class")]
    small = ", ".join(str(text) for text in known if text)
    values = [dimension.of(cell.record) for dimension in family.varying]
    return "".join(
        [
            f'<tr class="model"><td class="name">{escape(cell.name)}',
            f"<small>{escape(small)}</small></td>",
            *(f"<td>{escape('-' if value is None else str(value))}</td>" for value in values),
            *(_number(cell, name) for name in names),
            "</tr>",
        ]
    )


def _number(cell: Cell, name: str) -> str:
    """One number: its interval below it, its verdict as a mark, its reason on hover."""
    m = cell.get(name)
    if m is None:
        return '<td class="number" data-value="" title="not measured">-</td>'
    hint = f' title="{escape(m.reason)}"' if m.reason else ""
    if m.value is None:
        lacking = cell.lacking(name.split("_")[1]) if name.startswith("latency_p") else None
        shown = f"<small>{lacking} more calls</small>" if lacking else "n/a"
        return f'<td class="number" data-value=""{hint}>{shown}</td>'
    shown = escape(_bare(m))
    if ends := interval(m):
        shown += f"<small>{escape(ends)}</small>"
    if m.verdict is not Verdict.VALID:
        shown += (
            f'<small><abbr class="verdict" tabindex="0"{hint}>{escape(m.verdict)}</abbr></small>'
        )
    if cell.changed_answer and name in {LATENCY, "relative_error"}:
        shown += '<small class="failed">other answer</small>'
    return f'<td class="number" data-value="{m.value!r}"{hint}>{shown}</td>'


def _bare(m: Measurement) -> str:
    """The value without interval and unit: those stand below it and above the column."""
    if m.value is None:
        return "n/a"
    if m.name in {"utilisation", "answer_agreement", "relative_error", "parameters"}:
        return measured(m)
    return figures(m.value / unit_of(m.name)[0], 4 if m.low is not None else 3)


def _notes(cells: Sequence[Cell]) -> str:
    finished = [cell for cell in cells if cell.finished]
    lines = [
        f"<li><b>{escape(str(note.verdict or 'Unknown'))}</b>"
        f"<span>{escape(', '.join(note.measures))}: "
        f"{escape(note_text(note, len(finished)))}</span></li>"
        for note in notes(finished)
    ]
    if not lines:
        return ""
    return (
        '<section id="notes"><h2>What may not be quoted, and why</h2>'
        f'<ul class="advice">{"".join(lines)}</ul></section>'
    )


def _charts(cells: Sequence[Cell], drawn: dict[str, Chart]) -> str:
    parts = ['<section id="charts-of-cells">']
    for name, title, drawing in (
        ("latency", "How fast: latency of one call", charts.latency(cells)),
        ("stages", "Where the time goes", charts.stages(cells)),
        ("memory", "How heavy: peak memory", charts.memory(cells)),
        ("throughput", "Throughput by batch size", charts.throughput(cells)),
        ("samples", "How steady: each call in its order", charts.samples(cells)),
    ):
        if drawing is not None:
            hint = ON_CPU if name == "memory" and any_on_cpu(cells) else ""
            note = f'<p class="note">{_capital(hint)}.</p>' if hint else ""
            parts.append(f"<h2>{title}</h2>{note}{chart(name, drawing, drawn)}")
    if groups := trade_offs(cells):
        parts.append(
            "<h2>Fast or light</h2>"
            '<p class="note">Lower left is better; the line joins what no cell beats in both. '
            'Hollow: may not be quoted, or the answer changed.</p><div class="pair">'
        )
        for place, group in enumerate(groups):
            parts.append(chart(f"trade-off-{place}", charts.trade_off(group), drawn))
        parts.append("</div>")
    return "\n".join([*parts, "</section>"])


_KINDS = {
    "gain": "FASTER",
    "changed": "NO GAIN",
    "loss": "SLOWER",
    "same": "SAME",
    "unsure": "UNSURE",
}


def _gains(gains: Sequence[Speedup]) -> str:
    lines = []
    for gain in gains:
        kind = kind_of(gain)
        grounds = settled_by(gain) if kind == "unsure" else gain.grounds
        colour = {"changed": ' class="failed"'}.get(kind, "")
        number = "" if gain.times is None else repr(gain.times)
        lines.append(
            f'<tr><td class="name">{escape(gain.label)}</td>'
            f"<td>{escape(f'{gain.second} against {gain.first}')}</td>"
            f'<td class="number" data-value="{number}">{escape(times(gain))}</td>'
            f"<td{colour}>{_KINDS[kind]}</td><td>{escape(same_answer(gain))}</td>"
            f"<td>{escape(grounds)}</td></tr>"
        )
    if not lines:
        shown = '<p class="note">No two cells differ in device, precision or backend alone.</p>'
    else:
        head = "".join(
            [
                *map(_sorter, ("Cell", "Change")),
                _sorter("Times as fast", number=True),
                *map(_sorter, ("Verdict", "Answer", "Grounds")),
            ]
        )
        shown = (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )
    return f'<section id="gains"><h2>Gains in latency</h2>{shown}</section>'


def _failed(cells: Sequence[Cell]) -> str:
    lines = [
        f'<tr><td class="name">{escape(cell.label)}</td><td>{escape(cell.modality)}</td>'
        f'<td class="failed">{escape(str(cell.record.status).replace("_", " "))}</td>'
        f"<td>{escape(cell.record.reason or '')}</td></tr>"
        for cell in cells
        if not cell.finished
    ]
    if not lines:
        return ""
    return (
        '<section id="failed"><h2>Failed cells</h2><div class="scroll"><table><thead><tr>'
        "<th>Cell</th><th>Modality</th><th>Status</th><th>Reason</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _conditions(cells: Sequence[Cell]) -> str:
    """What each number was measured under, to be opened."""
    parts = []
    for cell in cells:
        if not cell.finished:
            continue
        environment = cell.record.environment
        told: dict[str, Any] = {
            name: cell.record.facts[name]
            for name in _FACTS
            if cell.record.facts.get(name) is not None
        }
        told |= {name: environment[name] for name in sorted(_OF_CELLS) if name in environment}
        items = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(_value(value))}</dd>"
            for name, value in flatten(told).items()
        )
        parts.append(f"<details><summary>{escape(cell.label)}</summary><dl>{items}</dl></details>")
    if not parts:
        return ""
    return (
        '<section id="conditions"><h2>Conditions of each cell</h2>'
        '<p class="note">Timings compare only where comparability_key is the same.</p>'
        f"{''.join(parts)}</section>"
    )


def _value(value: Any) -> str:
    """A value in words; a list of mappings, such as of processes, one after the other."""
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    if isinstance(value, list):
        nested = any(isinstance(one, Mapping) for one in value)
        return ("; " if nested else ", ").join(map(_value, value)) or "none"
    return str(value)


def _machines(cells: Sequence[Cell]) -> str:
    """Every machine once: the first in full, of the others what differs."""
    seen: dict[str, Mapping[str, Any]] = {}
    for cell in cells:
        fields = {k: v for k, v in cell.record.environment.items() if k not in _OF_CELLS}
        if fields:
            seen.setdefault(json.dumps(fields, sort_keys=True), fields)
    machines = [flatten(fields) for fields in seen.values()]
    parts = []
    for place, fields in enumerate(machines):
        first = machines[0]
        shown = (
            fields if place == 0 else {k: v for k, v in fields.items() if v != first.get(k, ...)}
        )
        items = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(_value(value))}</dd>"
            for name, value in shown.items()
        )
        also = "" if place == 0 else '<p class="note">Another, as the first but for:</p>'
        parts.append(f"{also}<dl>{items}</dl>")
    shown_all = "".join(parts) or '<p class="note">No cell has said what it ran on.</p>'
    return f'<section id="environment"><h2>Environment</h2>{shown_all}</section>'


def _footer() -> str:
    return (
        "<footer>Intervals hold with 95 %: of a latency from the order of its samples, of a gain "
        "from the spread between processes. A percentile is withheld until enough calls bear it. "
        "MB are millions of bytes, MACs half the FLOPs. Unknown numbers say why on hover. "
        "Made by candlemark.</footer>"
    )
