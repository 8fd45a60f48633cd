"""The tables of segmentation boards as HTML, and the page that `candlemark report` writes of them.

    page(boards, suites, title="demo")         # the text of report.html
    section(board, place=0, drawn=drawn)       # one board's part of it

The page with the slices of each scan is written by the run itself, which has the scans; this one
is made of stored numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from candlemark.metrics.segmentation.catalog import SEGMENTATION_METRICS
from candlemark.metrics.segmentation.conventions import CONVENTIONS
from candlemark.records import Measurement, Verdict
from candlemark.report.format import p_value, quantity, short
from candlemark.report.page import Chart, chart, configs, document, environments
from candlemark.report.segmentation.board import Board, Row
from candlemark.report.segmentation.contests import Duel
from candlemark.report.segmentation.text import (
    ORACLES,
    answer,
    bar_lines,
    ends,
    failure_lines,
    head,
    note_lines,
    plain,
    prompt_of,
    standing,
    written,
)
from candlemark.report.segmentation.times import (
    middle,
    shared_verdict,
    time_reason,
    time_stages,
    time_verdict,
    timed_rows,
)
from candlemark.results.store import Suite

FOOTER = (
    "<footer>Intervals: bootstrap of whole cases, 95 %. Paired tests draw the same cases for both "
    "rows; p-values are corrected by Holm. A case without an answer scores the worst there is and "
    "stays in every mean. Made by candlemark.</footer>"
)

_SHOWN = "<b>shown the reference:</b>"
"""Above the oracles of the chart, in place of a row's name."""

Heads = Sequence[tuple[str, bool]]
"""Title of a column, and whether it holds numbers."""


def page(
    boards: Sequence[Board], suites: Sequence[Suite], *, title: str, beside: str | None = None
) -> str:
    """The whole page; `beside` is the file that reports trials of other tasks."""
    drawn: dict[str, Chart] = {}
    body = [
        _header(boards, title, beside),
        '<main class="masks wide">',
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
        '<header class="wide"><div>'
        f'<p class="asked">{escape(title)}: which model segments these scans best, '
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
        parts.append(f"<h3>{ORACLES}</h3>")
        parts.append(scores_table(board, board.oracles, last="prompt"))
    if len(board.class_names) > 1:
        parts += ["<h3>By class</h3>", class_table(board)]
    if timed_rows(board):
        shared = shared_verdict(board)
        mark = f" {_abbr(shared, time_reason(timed_rows(board)[0]))}" if shared else ""
        parts += [f"<h3>Time of a case{mark}</h3>", times_table(board)]
    parts += [f'<p class="note">{escape(line)}</p>' for line in lines]
    parts += [f'<p class="note failed">{escape(line)}</p>' for line in failure_lines(board)]
    return "\n".join([*parts, pairs_table(board), "</section>"])


def scores_table(board: Board, rows: Sequence[Row], *, last: str) -> str:
    """Every metric of every row, with intervals and verdicts; it sorts."""
    first, *others = board.settings.metrics
    heads = [("row", False), ("protocol", False), (head(board, first), True)]
    tells = [prompt_of(row) if last == "prompt" else standing(row, board) for row in rows]
    heads += [(last, False)] if any(tells) else []
    heads += [("failed cases", True), *((head(board, metric), True) for metric in others)]
    lines = []
    for row, told in zip(rows, tells, strict=True):
        notes = [row.role, *([f"weights {row.weights}"] if row.weights else [])]
        notes += [f"mean of {len(row.seeds)} seeds"] if len(row.seeds) > 1 else []
        failed = f"{row.failed_cases} of {len(row.cases)}"
        shared = row.scores[first].verdict
        cells = [
            _name(row, _verdict(row.scores[first]), ", ".join(notes)),
            f"<td>{escape(row.protocol)}</td>",
            _score(row.scores[first], shared),
            *([f"<td>{escape(told)}</td>"] if any(tells) else []),
            f'<td class="number" data-value="{row.failed_cases}">{failed}</td>',
            *(_score(row.scores[metric], shared) for metric in others),
        ]
        lines.append(f'<tr class="{escape(row.role)}">{"".join(cells)}</tr>')
    return _table(heads, lines)


def _name(row: Row, verdict: str, about: str = "") -> str:
    """A row's name, and once what keeps its numbers from being quoted."""
    below = "; ".join(filter(None, (verdict, escape(about))))
    small = f"<small>{below}</small>" if below else ""
    return f'<td class="name">{escape(short(row.name))}{small}</td>'


def _verdict(m: Measurement) -> str:
    return "" if m.verdict is Verdict.VALID else _abbr(str(m.verdict), m.reason or "")


def _abbr(verdict: str, reason: str) -> str:
    hint = f' title="{escape(reason)}"' if reason else ""
    return f'<abbr class="verdict" tabindex="0"{hint}>{escape(verdict)}</abbr>'


def class_table(board: Board) -> str:
    """Every metric of every row and class."""
    metrics = board.settings.metrics
    heads = [("row", False), ("class", False), *((head(board, m), True) for m in metrics)]
    lines = [
        f'<tr class="{escape(row.role)}"><td class="name">{escape(short(row.name))}</td>'
        f"<td>{escape(board.class_names.get(label, label))}</td>"
        f"{''.join(_score(scores[m], row.scores[m].verdict) for m in metrics)}</tr>"
        for row in (*board.rows, *board.oracles)
        for label, scores in row.by_class.items()
    ]
    return _table(heads, lines)


def times_table(board: Board) -> str:
    """The percentiles that are known of each stage, else what was seen, and the peak of memory."""
    stages = time_stages(board)
    heads: list[tuple[str, bool]] = [("row", False)]
    for stage, percentiles in stages.items():
        name = "all stages" if stage == "case" else stage
        heads += [(f"{name} {p}".strip(), True) for p in percentiles or ("",)]
    lines = []
    for row in timed_rows(board):
        verdict = "" if shared_verdict(board) else time_verdict(row)
        cells = "".join(
            _time(row, stage, p or "p50")
            for stage, percentiles in stages.items()
            for p in percentiles or ("",)
        )
        lines.append(
            f'<tr class="{escape(row.role)}">'
            f"{_name(row, _abbr(verdict, time_reason(row)) if verdict else '')}"
            f"{cells}{_memory(row.peak_memory)}</tr>"
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
    """The primary score of every row, its interval and its cases as dots; oracles stand apart."""
    primary = board.settings.primary
    above, below = (
        [row for row in reversed(rows) if row.value(primary.name) is not None]
        for rows in (board.rows, board.oracles)
    )
    rows = [*below, *above]
    if not rows:
        return None
    names = [escape(short(row.name)) for row in rows]
    order = [*names[: len(below)], *([_SHOWN] if above and below else []), *names[len(below) :]]
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
    return {"data": traces, "layout": _layout(board, order)}


def _layout(board: Board, names: Sequence[str]) -> Chart:
    primary = board.settings.primary
    title = f"{head(board, primary.name)}: mean with 95 %; dots: cases; open: not to be quoted"
    # Without its ends a share of 0.001 looks like much.
    unbounded = CONVENTIONS[board.settings.convention].unbounded
    endless = math.isinf(primary.high) or primary.name in unbounded
    axis = {} if endless else {"range": [primary.low - 0.02, primary.high + 0.02]}
    return {
        "height": 110 + 30 * len(names),
        "xaxis": {"title": {"text": title}, **axis},
        "yaxis": {"categoryorder": "array", "categoryarray": list(names), "showgrid": False},
    }


def _mean(name: str, row: Row, m: Measurement) -> Chart:
    colour = "@warn" if row.oracle else f"@{row.role}"
    shape = "diamond" if row.oracle else "circle"
    quoted = m.verdict is Verdict.VALID
    trace: Chart = {
        "type": "scatter",
        "mode": "markers",
        "x": [m.value],
        "y": [name],
        "marker": {
            "color": colour,
            "size": 10,
            "symbol": shape if quoted else f"{shape}-open",
            "line": {"color": "@paper" if quoted else colour, "width": 1.5 if quoted else 2},
        },
        "hovertemplate": f"<b>%{{y}}</b><br>{escape(written(m))}<extra></extra>",
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


def _score(m: Measurement, shared: Verdict) -> str:
    """A score with its interval; its verdict where it is not the one that the row shows."""
    shown = escape(plain(m))
    if m.low is not None and m.high is not None:
        shown += f"<small>{escape(ends(m))}</small>"
    if m.verdict is not shared:
        shown += f"<small>{_verdict(m)}</small>"
    return _cell(m.value, shown, m.reason)


def _time(row: Row, stage: str, percentile: str) -> str:
    time = next((one for one in row.times if one.stage == stage), None)
    if time is None:
        return _cell(None, "", None)
    m = time.p50 if percentile == "p50" else time.p95
    if percentile == "p50":
        value = time.seen_ms if m.value is None else m.value
        return _cell(value, escape(middle(time)), m.reason)
    return _cell(m.value, "" if m.value is None else escape(quantity(m.name, m.value)), m.reason)


def _memory(m: Measurement | None) -> str:
    if m is None or m.value is None:
        return _cell(None, "", None if m is None else m.reason)
    return _cell(m.value, escape(quantity(m.name, m.value)), m.reason)


def _cell(value: float | None, shown: str, reason: str | None) -> str:
    """A cell of numbers, which sorts by `value`."""
    number = "" if value is None else repr(float(value))
    hint = f' title="{escape(reason)}"' if reason else ""
    return f'<td class="number" data-value="{number}"{hint}>{shown}</td>'


def _table(heads: Heads, lines: Sequence[str]) -> str:
    cells = "".join(
        f'<th scope="col"{" class=number" if number else ""}>'
        f'<button type="button">{escape(title[:1].upper() + title[1:])}</button></th>'
        for title, number in heads
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
