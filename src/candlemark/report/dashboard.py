"""The report of chart benchmarks as one HTML page.

page(boards, suites, title="demo")      # the text of report.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from candlemark.report import charts
from candlemark.report.contests import Contest, hold
from candlemark.report.format import p_value, short, title_of
from candlemark.report.fusion.questions import ask
from candlemark.report.fusion.section import section as fusion_section
from candlemark.report.page import Chart, chart, configs, document, environments, score_cell
from candlemark.report.recommendations import RECOGNITION, answer, recommendations
from candlemark.report.statistics import PRIMARY, Board, Row
from candlemark.report.text import standing
from candlemark.results.store import Suite

_COLUMNS = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "mcc",
    "brier",
    "ece",
    "training_time_s",
    "latency_p50_ms",
    "throughput_items_per_s",
    "peak_memory_bytes",
    "parameters",
    "flops",
)


def page(
    boards: Sequence[Board],
    suites: Sequence[Suite],
    *,
    title: str,
    inference: str | None = None,
    segmentation: str | None = None,
) -> str:
    """The whole page; `inference`, `segmentation`: files beside it that report those tasks."""
    drawn: dict[str, Chart] = {}
    contests = [hold(board) for board in boards]
    sections = [
        _board_section(board, contest, place, drawn)
        for place, (board, contest) in enumerate(zip(boards, contests, strict=True))
    ]
    body = [
        _header(boards, title, {"Inference": inference, "Segmentation": segmentation}),
        "<main>",
        *sections,
        _failures(boards),
        _audits(boards),
        environments(
            record.environment for board in boards for row in board.rows for record in row.records
        ),
        configs(suites),
        "</main>",
        _footer(),
    ]
    return document(title, body, drawn)


def _header(boards: Sequence[Board], title: str, others: Mapping[str, str | None]) -> str:
    links = "".join(
        f'<a href="#board-{place}">{escape(board.title)}</a>' for place, board in enumerate(boards)
    )
    return (
        f'<header><div><p class="asked">{escape(title)}: which model is worth using on this data, '
        "how right is it, what does it cost, and can the answer be trusted?</p>"
        f"<h1>{escape(answer(boards))}</h1>"
        f'<nav aria-label="Sections">{links}{_beside(others)}<a href="#audit">Audit</a>'
        '<a href="#environment">Environment</a><a href="#config">Config</a>'
        '<button class="theme" type="button" aria-label="Change colours">dark</button>'
        "</nav></div></header>"
    )


def _beside(others: Mapping[str, str | None]) -> str:
    return "".join(
        f'<a href="{escape(file)}">{name}</a>' for name, file in others.items() if file is not None
    )


def _badges(board: Board) -> str:
    badges = [("recognition", RECOGNITION) if board.is_recognition else ("forecast", "forecast")]
    if any(row.random_weights for row in board.rows):
        badges.append(("random", "random weights"))
    if board.leaky_split:
        badges.append(("leaky", "random split: leaky"))
    return "".join(f'<span class="badge {kind}">{escape(text)}</span>' for kind, text in badges)


def _board_section(board: Board, contest: Contest, place: int, drawn: dict[str, Chart]) -> str:
    parts = [
        f'<section id="board-{place}"><h2>{escape(board.title)}</h2>',
        f"<div>{_badges(board)}</div>",
    ]
    if board.attainable_auroc is not None:
        parts.append(
            f'<p class="note">The best that can be reached here is an AUROC of '
            f"{board.attainable_auroc:.3f}.</p>"
        )
    parts.append('<ul class="advice">')
    parts += [
        f"<li><b>{escape(item.title)}</b><span>{escape(item.text)}</span></li>"
        for item in recommendations(board, contest)
    ]
    parts += ["</ul>", chart(f"forest-{place}", charts.forest(board), drawn)]
    parts.append(_leaderboard(board, contest))
    if board.is_fusion:
        parts.append(fusion_section(board, ask(board), place=place, drawn=drawn))
    if board.market != "random_walk" and not board.is_recognition:
        parts.append('<div class="pair">')
        for cost in ("parameters", "latency_p50_ms", "peak_memory_bytes"):
            parts.append(chart(f"{cost}-{place}", charts.trade_off(board, cost), drawn))
        parts.append(chart(f"curves-{place}", charts.curves(board), drawn))
        parts.append(chart(f"calibration-{place}", charts.calibration(board), drawn))
        parts += ["</div>", _duels(contest)]
    return "\n".join([*parts, "</section>"])


def _leaderboard(board: Board, contest: Contest) -> str:
    columns = [name for name in _COLUMNS if any(row.value(name) is not None for row in board.rows)]
    head = "".join(
        f'<th class="number"><button type="button">{escape(_head(name))}</button></th>'
        for name in columns
    )
    lines = "\n".join(_line(row, board, contest, columns) for row in board.rows if row.records)
    return (
        '<div class="scroll"><table><thead><tr><th><button type="button">Row</button></th>'
        '<th class="number"><button type="button">AUROC</button></th>'
        f'<th><button type="button">{_standing_head(board)}</button></th>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _standing_head(board: Board) -> str:
    if board.is_recognition:
        return "Kind"
    return "Against chance" if board.market == "random_walk" else "Against the controls"


def _head(name: str) -> str:
    title = title_of(name)
    return title[:1].upper() + title[1:]


def _line(row: Row, board: Board, contest: Contest, columns: Sequence[str]) -> str:
    notes = [row.role] + ([f"{row.weights} weights"] if row.weights else [])
    if len(row.seeds) > 1:
        notes.append(f"mean of {len(row.seeds)} seeds")
    cells = [
        f'<td class="name">{escape(short(row.name))}<small>{escape(", ".join(notes))}</small></td>',
        score_cell(PRIMARY, row.scores.get(PRIMARY)),
        f"<td>{escape(standing(row, board, contest))}</td>",
        *(score_cell(name, row.scores.get(name)) for name in columns),
    ]
    return f'<tr class="{escape(row.role)}">{"".join(cells)}</tr>'


def _duels(contest: Contest) -> str:
    lines = []
    for duel in contest.beats_controls.values():
        d = duel.difference
        found = d.reason or "unknown"
        if d.value is not None and d.low is not None and d.high is not None:
            found = f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        lines.append(
            f'<tr><td class="name">{escape(short(duel.model))}</td>'
            f"<td>{escape(short(duel.other))}</td><td>{escape(found)}</td>"
            f"<td>{escape(p_value(duel.p_value))}</td></tr>"
        )
    if not lines:
        return ""
    return (
        "<details><summary>Each model against the control it is hardest to tell from</summary>"
        '<div class="scroll"><table><thead><tr><th>Model</th><th>Control</th>'
        "<th>Difference of AUROC, 95 %</th><th>p, corrected over all controls and models</th>"
        f"</tr></thead><tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _failures(boards: Sequence[Board]) -> str:
    lines = [
        f'<tr><td class="name">{escape(short(row.name))}</td><td>{escape(board.title)}</td>'
        f'<td class="failed">{escape(str(record.status))}</td>'
        f"<td>{escape(record.reason or '')}</td></tr>"
        for board in boards
        for row in board.rows
        for record in row.failed
    ]
    if not lines:
        return ""
    return (
        '<section id="failed"><h2>Failed trials</h2><div class="scroll"><table><thead><tr>'
        "<th>Row</th><th>Board</th><th>Status</th><th>Reason</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _audits(boards: Sequence[Board]) -> str:
    parts = []
    for board in boards:
        audit = next(
            (r.facts["audit"] for row in board.rows for r in row.records if r.facts.get("audit")),
            None,
        )
        if audit is None:
            continue
        ok = "passed" if audit.get("ok") else "FAILED"
        checks = "".join(
            f"<tr><td>{'ok' if check.get('ok') else '<b class=failed>FAILED</b>'}</td>"
            f"<td>{escape(str(check.get('name', '')))}</td>"
            f"<td>{escape(str(check.get('detail', '')))}</td></tr>"
            for check in audit.get("checks", ())
        )
        parts.append(
            f"<details><summary>{escape(board.title)}: {ok}</summary>"
            f'<div class="scroll"><table><tbody>{checks}</tbody></table></div></details>'
        )
    shown = "".join(parts) or '<p class="note">No audit is stored with these trials.</p>'
    return f'<section id="audit"><h2>Audit</h2>{shown}</section>'


def _footer() -> str:
    return (
        "<footer>Intervals: block bootstrap, 95 %. Thin lines hold for all rows of a "
        "board together (Bonferroni), with 95 %, and with 99 % on a random walk, where one "
        "interval without 0.5 is an alarm. Paired tests use the same resamples for both "
        "rows; p-values are corrected by Holm. Unknown numbers are left empty with a reason. "
        "Made by candlemark.</footer>"
    )
