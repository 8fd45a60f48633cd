"""The tables of segmentation boards as HTML, and the page that `candlemark report` writes of them.

    page(boards, suites, title="demo")         # the text of report.html
    section(board, place=0, drawn=drawn)       # one board's part of it

The page with the slices of each scan is written by the run itself, which has the scans; this one
is made of stored numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.records import Measurement, Verdict
from candlemark.report.format import p_value, quantity, short
from candlemark.report.page import Chart, chart, configs, document, environments
from candlemark.report.segmentation.board import STAGES, Board, Row
from candlemark.report.segmentation.contests import Duel
from candlemark.report.segmentation.text import (
    answer,
    bar_lines,
    failure_lines,
    head,
    note_lines,
    plain,
    prompt_of,
    standing,
)
from candlemark.results.store import Suite

FOOTER = (
    "<footer>Intervals: bootstrap of whole cases, 95 %. Paired tests draw the same cases for both "
    "rows; p-values are corrected by Holm. A case without an answer scores the worst there is and "
    "stays in every mean. Made by candlemark.</footer>"
)

Heads = Sequence[tuple[str, bool]]
"""Title of a column, and whether it holds numbers."""


def page(
    boards: Sequence[Board], suites: Sequence[Suite], *, title: str, beside: str | None = None
) -> str:
    """The whole page; `beside` is the file that reports trials of other tasks."""
    drawn: dict[str, Chart] = {}
    body = [
        _header(boards, title, beside),
        "<main>",
        *(section(board, place=place, drawn=drawn) for place, board in enumerate(boards)),
        environments(
            record.environment
            for board in boards
            for row in board.everyone
            for record in row.records
        ),
        configs(suites),
        "</main>",
        FOOTER,
    ]
    return document(title, body, drawn)


def _header(boards: Sequence[Board], title: str, beside: str | None) -> str:
    links = "".join(
        f'<a href="#masks-{place}">{escape(board.title)}</a>' for place, board in enumerate(boards)
    )
    other = "" if beside is None else f'<a href="{escape(beside)}">Other tasks</a>'
    return (
        f'<header><div><p class="asked">{escape(title)}: which model segments these scans best, '
        "and can the answer be trusted?</p>"
        f"<h1>{escape(' '.join(answer(board) for board in boards))}</h1>"
        f'<nav aria-label="Sections">{links}{other}<a href="#environment">Environment</a>'
        '<a href="#config">Config</a>'
        '<button class="theme" type="button" aria-label="Change colours">dark</button>'
        "</nav></div></header>"
    )


def section(board: Board, *, place: int, drawn: dict[str, Chart]) -> str:
    """Badges, chart and tables of one board."""
    convention = CONVENTIONS[board.settings.convention].title
    badges = [f'<span class="badge forecast">{escape(convention)} convention</span>']
    if len(board.cases) < 6:
        badges.append('<span class="badge random">too few cases</span>')
    lines = (*bar_lines(board), *board.stability.sentences(), *note_lines(board))
    parts = [
        f'<section id="masks-{place}"><h2>{escape(board.title)}</h2>',
        f"<div>{''.join(badges)}</div>",
        chart(f"masks-forest-{place}", forest(board), drawn),
        scores_table(board, board.rows, last="against the controls"),
    ]
    if board.oracles:
        parts.append("<h3>Oracles: the prompt comes from the reference</h3>")
        parts.append(scores_table(board, board.oracles, last="prompt"))
    if len(board.class_names) > 1:
        parts += ["<h3>By class</h3>", class_table(board)]
    if any(row.times for row in board.everyone):
        parts += ["<h3>Time of a case</h3>", times_table(board)]
    parts += [f'<p class="note">{escape(line)}</p>' for line in lines]
    parts += [f'<p class="note failed">{escape(line)}</p>' for line in failure_lines(board)]
    return "\n".join([*parts, pairs_table(board), "</section>"])


def scores_table(board: Board, rows: Sequence[Row], *, last: str) -> str:
    """Every metric of every row, with intervals and verdicts; it sorts."""
    first, *others = board.settings.metrics
    heads = [("row", False), ("protocol", False), (head(board, first), True), (last, False)]
    heads += [("failed cases", True), *((head(board, metric), True) for metric in others)]
    lines = []
    for row in rows:
        notes = [row.role, *([f"weights {row.weights}"] if row.weights else [])]
        notes += [f"mean of {len(row.seeds)} seeds"] if len(row.seeds) > 1 else []
        told = prompt_of(row) if last == "prompt" else standing(row, board)
        failed = f"{row.failed_cases} of {len(row.cases)}"
        about = f"<small>{escape(', '.join(notes))}</small>"
        cells = [
            f'<td class="name">{escape(short(row.name))}{about}</td>',
            f"<td>{escape(row.protocol)}</td>",
            _score(row.scores[first]),
            f"<td>{escape(told)}</td>",
            f'<td class="number" data-value="{row.failed_cases}">{failed}</td>',
            *(_score(row.scores[metric]) for metric in others),
        ]
        lines.append(f'<tr class="{escape(row.role)}">{"".join(cells)}</tr>')
    return _table(heads, lines)


def class_table(board: Board) -> str:
    """Every metric of every row and class."""
    metrics = board.settings.metrics
    heads = [("row", False), ("class", False), *((head(board, m), True) for m in metrics)]
    lines = [
        f'<tr class="{escape(row.role)}"><td class="name">{escape(short(row.name))}</td>'
        f"<td>{escape(board.class_names.get(label, label))}</td>"
        f"{''.join(_score(scores[metric]) for metric in metrics)}</tr>"
        for row in (*board.rows, *board.oracles)
        for label, scores in row.by_class.items()
    ]
    return _table(heads, lines)


def times_table(board: Board) -> str:
    """p50 and p95 of each stage, and peak memory, of every row that was timed."""
    rows = [row for row in board.everyone if row.times]
    stages = [s for s in STAGES if any(time.stage == s for row in rows for time in row.times)]
    heads: list[tuple[str, bool]] = [("row", False)]
    for stage in stages:
        name = "all stages" if stage == "case" else stage
        heads += [(f"{name} p50", True), (f"{name} p95", True)]
    lines = []
    for row in rows:
        found = {time.stage: time for time in row.times}
        cells = "".join(
            _time(m)
            for stage in stages
            for m in ((found[stage].p50, found[stage].p95) if stage in found else (None, None))
        )
        lines.append(
            f'<tr class="{escape(row.role)}"><td class="name">{escape(short(row.name))}</td>'
            f"{cells}{_time(row.peak_memory)}</tr>"
        )
    return _table([*heads, ("peak memory", True)], lines)


def pairs_table(board: Board) -> str:
    """Every two models, and each model against its hardest control."""
    contest = board.contest
    duels = [*contest.beats_controls.values(), *contest.pairs]
    if not duels:
        return ""
    title = SEGMENTATION_METRICS[contest.metric].title
    lines = [_duel(duel) for duel in duels]
    heads = [("first", False), ("second", False), (f"difference of {title}, 95 %", False)]
    return (
        "<details><summary>Paired tests: against the hardest control, and every two models"
        f"</summary>{_table([*heads, ('p, corrected', False)], lines)}</details>"
    )


def _duel(duel: Duel) -> str:
    d = duel.difference
    told = d.reason or "unknown"
    if d.value is not None and d.low is not None and d.high is not None:
        told = f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
    return (
        f'<tr><td class="name">{escape(short(duel.model))}</td><td>{escape(short(duel.other))}</td>'
        f"<td>{escape(told)}</td><td>{escape(p_value(duel.p_value))}</td></tr>"
    )


def forest(board: Board) -> Chart | None:
    """The primary score of every row: its interval, and each of its cases as a dot."""
    primary = board.settings.primary
    rows = [
        row
        for row in reversed((*board.rows, *board.oracles))
        if row.value(primary.name) is not None
    ]
    if not rows:
        return None
    names = [escape(short(row.name)) for row in rows]
    dots = [
        (name, value, escape(case.case))
        for name, row in zip(names, rows, strict=True)
        for case in row.cases
        if (value := case.scores.get(primary.name)) is not None
    ]
    means = [
        _mean(name, row, row.scores[primary.name]) for name, row in zip(names, rows, strict=True)
    ]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [value for _, value, _ in dots],
            "y": [name for name, _, _ in dots],
            "text": [case for _, _, case in dots],
            "marker": {"size": 5, "color": "@muted", "opacity": 0.45},
            "hovertemplate": "%{text}: %{x:.3f}<extra></extra>",
            "showlegend": False,
        },
        *means,
    ]
    return {
        "data": traces,
        "layout": {
            "height": 110 + 30 * len(rows),
            "xaxis": {
                "title": {"text": f"{head(board, primary.name)}: mean with 95 %; dots are cases"}
            },
            "yaxis": {"categoryorder": "array", "categoryarray": names, "showgrid": False},
        },
    }


def _mean(name: str, row: Row, m: Measurement) -> Chart:
    colour = "@warn" if m.verdict is not Verdict.VALID else f"@{row.role}"
    trace: Chart = {
        "type": "scatter",
        "mode": "markers",
        "x": [m.value],
        "y": [name],
        "marker": {"color": colour, "size": 10, "line": {"color": "@paper", "width": 1.5}},
        "hovertemplate": f"<b>%{{y}}</b><br>{escape(plain(m))}<extra></extra>",
        "showlegend": False,
    }
    if m.value is not None and m.low is not None and m.high is not None:
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [m.high - m.value],
            "arrayminus": [m.value - m.low],
            "color": colour,
            "thickness": 4,
            "width": 0,
        }
    return trace


def _score(m: Measurement) -> str:
    value = "" if m.value is None else repr(float(m.value))
    hint = f' title="{escape(m.reason)}"' if m.reason else ""
    shown = escape(plain(m))
    if m.low is not None and m.high is not None:
        shown += f"<small>{m.low:.3f} to {m.high:.3f}</small>"
    if m.verdict is not Verdict.VALID:
        shown += (
            f'<small><abbr class="verdict" tabindex="0"{hint}>{escape(m.verdict)}</abbr></small>'
        )
    return f'<td class="number" data-value="{value}"{hint}>{shown}</td>'


def _time(m: Measurement | None) -> str:
    if m is None:
        return '<td class="number" data-value=""></td>'
    value = "" if m.value is None else repr(float(m.value))
    hint = f' title="{escape(m.reason)}"' if m.reason else ""
    shown = "" if m.value is None else escape(quantity(m.name, m.value))
    if m.verdict is not Verdict.VALID:
        shown += (
            f'<small><abbr class="verdict" tabindex="0"{hint}>{escape(m.verdict)}</abbr></small>'
        )
    return f'<td class="number" data-value="{value}"{hint}>{shown}</td>'


def _table(heads: Heads, lines: Sequence[str]) -> str:
    cells = "".join(
        f"<th{' class=number' if number else ''}>"
        f'<button type="button">{escape(title[:1].upper() + title[1:])}</button></th>'
        for title, number in heads
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
