"""A leaderboard as one HTML page that opens with no network.

write_page(board, Path("leaderboard.html"))
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from candlemark.report.leaderboard.board import LEVEL_WORDS, LEVELS, Board, Section, Standing
from candlemark.report.leaderboard.trend import trend_chart, why_none
from candlemark.report.leaderboard.words import (
    NONE_CLAIMED,
    claim_text,
    count,
    day,
    gated_cell,
    query_names,
    since_line,
    size_cell,
    source_line,
    trend_cell,
    trending_cell,
)
from candlemark.report.page import Chart, chart, document
from candlemark.results.files import write_text
from candlemark.results.own_scores import OwnScore

_NUMBERS = ("Parameters", "30 days", "Since", "All time", "Likes", "Trending")
_LEVEL_CLASS = {"ready": "good", "elsewhere": "good", "no": "failed"}


def write_page(board: Board, path: Path) -> Path:
    """Write the page. Raises ResultsError: the file cannot be written."""
    return write_text(path, page(board))


def page(board: Board) -> str:
    """The whole page."""
    drawn: dict[str, Chart] = {}
    body = [
        _header(board),
        '<main class="wide">',
        *(_section(section, board, place) for place, section in enumerate(board.found)),
        _empty(board),
        _trend(board, drawn),
        _changes(board),
        _asked(board),
        "</main>",
        _footer(),
    ]
    return document("models of the Hub", body, drawn)


def _header(board: Board) -> str:
    links = "".join(
        f'<a href="#task-{place}">{escape(section.title)}</a>'
        for place, section in enumerate(board.found)
    )
    first = next((one for section in board.sections for one in section.recommended), None)
    answer = "None of these models can be recommended by what is known."
    if first is not None:
        section = next(s for s in board.sections if first in s.recommended)
        answer = f"Look first at {first.model.id} for {section.title}."
    old = " This is the last snapshot, and what the Hub said then." if board.offline else ""
    return (
        '<header class="wide"><div><p class="asked">Which models of the Hub can do the task, and '
        f"which are worth a measurement?</p><h1>{escape(answer)}</h1>"
        f'<p class="note">{escape(source_line(board))}. As of {escape(board.taken_at)}.'
        f"{old} {escape(since_line(board).capitalize())}</p>"
        f'<nav aria-label="Sections">{links}<a href="#trend">Trend</a>'
        '<a href="#changes">Changes</a><a href="#queries">Queries</a>'
        '<button class="theme" type="button" aria-label="Change colours">dark</button>'
        "</nav></div></header>"
    )


def _section(section: Section, board: Board, place: int) -> str:
    head = f'<section id="task-{place}"><h2>{escape(section.title)}</h2>'
    advice = "".join(
        f"<li><b>{_link(one, board.endpoint)}</b><span>{escape(one.why)}</span></li>"
        for one in section.recommended
    )
    if not advice:
        advice = "<li><b>none</b><span>No model can be recommended by what is known.</span></li>"
    step = ""
    if section.next_step is not None:
        step = f'<p class="note">Measure them: <code>{escape(section.next_step)}</code></p>'
    columns = "".join(
        f'<th class="number"><button type="button">{title}</button></th>' for title in _NUMBERS
    )
    words = "".join(
        f'<th><button type="button">{title}</button></th>'
        for title in ("Licence", "Access", "Changed", "Found by")
    )
    lines = "\n".join(_line(one, board.endpoint) for one in section.standings)
    return (
        f'{head}<ul class="advice models">{advice}</ul>{step}'
        '<div class="scroll"><table><thead><tr>'
        '<th class="number"><button type="button">#</button></th>'
        '<th><button type="button">Model</button></th>'
        '<th><button type="button">Can do it</button></th>'
        '<th><button type="button">Measured here</button></th>'
        f'<th><button type="button">Claims</button></th>{columns}{words}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></section>"
    )


def _empty(board: Board) -> str:
    if not board.empty:
        return ""
    return f'<p class="note">No public model was found for: {escape(", ".join(board.empty))}.</p>'


def _line(one: Standing, endpoint: str) -> str:
    model = one.model
    unread = ""
    if model.problems:
        told = escape("; ".join(model.problems))
        unread = f'<small><abbr class="verdict" title="{told}">unreadable metadata</abbr></small>'
    change = one.trend.change if one.trend is not None else None
    numbers = (
        (model.parameters, size_cell(model)),
        (model.downloads, count(model.downloads)),
        (change, trend_cell(one.trend)),
        (model.downloads_all_time, count(model.downloads_all_time)),
        (model.likes, count(model.likes)),
        (model.trending, trending_cell(model)),
    )
    cells = [
        f'<td class="number" data-value="{one.place}">{one.place}</td>',
        f'<td class="name">{_link(one, endpoint)}{unread}</td>',
        _can(one),
        _measured(one.measured),
        _claims(one),
        *(
            f'<td class="number" data-value="{"" if value is None else value}">{escape(text)}</td>'
            for value, text in numbers
        ),
        f"<td>{escape(model.license or 'none stated')}</td>",
        f"<td>{escape(gated_cell(model))}</td>",
        f'<td class="date">{escape(day(model.last_modified))}</td>',
        _found_by(model.found_by),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _can(one: Standing) -> str:
    """Whether it can do the task, and why; sorted from yes to no."""
    level, protocol = one.capability.level, one.capability.protocol
    asked = f" Asked by {protocol}." if protocol else ""
    return (
        f'<td class="reason" data-value="{LEVELS.index(level)}">'
        f'<b class="{_LEVEL_CLASS.get(level, "")}">{escape(LEVEL_WORDS[level])}</b>'
        f"<small>{escape(one.capability.reason)}.{escape(asked)}</small></td>"
    )


def _measured(scores: tuple[OwnScore, ...]) -> str:
    if not scores:
        return '<td data-value=""><small>not measured</small></td>'
    best = max(score.value for score in scores)
    parts = []
    for score in scores:
        verdict = "" if score.quotable else f' <abbr class="verdict">{escape(score.verdict)}</abbr>'
        interval = (
            ""
            if score.low is None or score.high is None
            else f" [{score.low:.3f}, {score.high:.3f}]"
        )
        about = f"{score.about}, {score.protocol}" if score.protocol else score.about
        parts.append(
            f"{escape(score.metric)} {score.value:.3f}{interval}{verdict}"
            f"<small>{escape(about)}</small>"
        )
    return f'<td data-value="{best!r}">{"".join(parts)}</td>'


def _claims(one: Standing) -> str:
    claims = one.model.claims
    if not claims:
        return f'<td data-value=""><small>{NONE_CLAIMED}</small></td>'
    texts = []
    for claim in claims:
        text = escape(claim_text(claim))
        named = f" by {claim.source_name}" if claim.source_name else ""
        if claim.source is not None and claim.source.startswith(("https://", "http://")):
            link = f'<a href="{escape(claim.source)}" rel="noreferrer nofollow">source</a>'
            text += f" ({link}{escape(named)})"
        texts.append(f"{text} <small>{escape(claim.origin)}</small>")
    first, rest = texts[0], texts[1:]
    more = ""
    if rest:
        more = f"<details><summary>{len(rest)} more</summary>{'<br>'.join(rest)}</details>"
    return f'<td class="reason" data-value="{len(claims)}">{first}{more}</td>'


def _found_by(asked: tuple[str, ...]) -> str:
    """The query that found it, or how many did, to be opened."""
    if len(asked) == 1:
        return f"<td><small>{escape(query_names(asked))}</small></td>"
    names = "<br>".join(escape(query_names((text,))) for text in asked)
    return f"<td><details><summary>{len(asked)} queries</summary>{names}</details></td>"


def _link(one: Standing, endpoint: str) -> str:
    name = escape(one.model.id)
    return f'<a href="{escape(endpoint)}/{name}" rel="noreferrer">{name}</a>'


def _trend(board: Board, drawn: dict[str, Chart]) -> str:
    drawing = trend_chart(board)
    if drawing is None:
        shown = f'<p class="note">{escape(why_none(board))}</p>'
    else:
        shown = chart("trend-chart", drawing, drawn)
    return f'<section id="trend"><h2>Trend</h2>{shown}</section>'


def _changes(board: Board) -> str:
    head = '<section id="changes"><h2>Changes</h2>'
    if board.changes is None:
        first = len(board.snapshots) < 2 and not board.offline
        why = "This is the first snapshot." if first else "Nothing was learned since the last one."
        return f'{head}<p class="note">{why}</p></section>'
    changes = board.changes
    between = f"Between {escape(changes.before)} and {escape(changes.after)}"
    if not changes.items:
        return f'{head}<p class="note">{between}: nothing.</p></section>'
    lines = "".join(
        f"<tr><td>{escape(item.kind)}</td>"
        f'<td class="name">{escape(item.model)}</td><td>{escape(item.text)}</td></tr>'
        for item in sorted(changes.items, key=lambda item: not item.news)
    )
    return (
        f'{head}<p class="note">{between}.</p><div class="scroll"><table><thead><tr><th>What</th>'
        f"<th>Model</th><th>Change</th></tr></thead><tbody>{lines}</tbody></table></div></section>"
    )


def _asked(board: Board) -> str:
    queries = "\n".join(board.asked)
    times = "\n".join(board.snapshots)
    return (
        f'<section id="queries"><h2>Queries</h2><pre>{escape(queries)}</pre>'
        f"<details><summary>Snapshots: {len(board.snapshots)}</summary><pre>{escape(times)}</pre>"
        "</details></section>"
    )


def _footer() -> str:
    return (
        "<footer>Ranked by what a model can do, as its repository tells; then by what was measured "
        "here and what is claimed; by downloads last: they say how much a model is used, not how "
        "good it is. Claims are the word of whoever is named; verified ones were checked by the "
        "Hub. What nobody told is n/a. Made by candlemark.</footer>"
    )
