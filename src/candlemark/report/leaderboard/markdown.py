"""A leaderboard as Markdown, for a README or a wiki.

write_markdown(board, Path("leaderboard.md"))
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from candlemark.report.leaderboard.board import LEVEL_WORDS, Board, Changes, Section, Standing
from candlemark.report.leaderboard.words import (
    claims_cell,
    count,
    day,
    gated_cell,
    measured_cell,
    query_names,
    since_line,
    size_cell,
    source_line,
    trend_cell,
    trending_cell,
)
from candlemark.results.files import write_text

_HEAD = (
    "#", "model", "can do it", "measured here", "claims", "parameters", "downloads, 30 days",
    "since", "all time", "likes", "trending", "licence", "access", "changed", "found by",
)  # fmt: skip

_RANKED = (
    "Ranked by what a model can do, then by what was measured here and what is claimed, and by "
    "downloads last: they say how much a model is used, not how good it is."
)


def write_markdown(board: Board, path: Path) -> Path:
    """Write the report. Raises ResultsError: the file cannot be written."""
    return write_text(path, markdown(board))


def markdown(board: Board) -> str:
    """The whole report."""
    lines = [
        "# Models of the Hub",
        "",
        f"{_text(source_line(board))}. As of {board.taken_at}.",
        "",
        _RANKED,
        "",
        *([f"{since_line(board)}.".capitalize(), ""] if board.trends_since else []),
    ]
    for section in board.found:
        lines += _section(section, board.endpoint)
    if board.empty:
        lines += [f"No public model was found for: {_text(', '.join(board.empty))}.", ""]
    if board.changes is not None:
        lines += _changes(board.changes)
    lines += ["## Queries", "", *(f"- `{_code(text)}`" for text in board.asked), ""]
    return "\n".join(lines)


def _section(section: Section, endpoint: str) -> Iterator[str]:
    yield f"## {_text(section.title)}"
    yield ""
    for place, one in enumerate(section.recommended, start=1):
        yield f"{place}. **{_link(one, endpoint)}**: {_text(one.why)}"
    if not section.recommended:
        yield "None can be recommended for this task by what is known."
    if section.next_step is not None:
        yield ""
        yield f"Measure them: `{_code(section.next_step)}`"
    yield ""
    yield _row(_HEAD)
    yield _row(["---"] * len(_HEAD))
    for one in section.standings:
        yield _row(_cells(one, endpoint))
    yield ""
    unread = [(one.model.id, one.model.problems) for one in section.standings if one.model.problems]
    if unread:
        yield "Metadata that could not be read:"
        yield ""
        yield from (f"- {_text(name)}: {_text('; '.join(told))}" for name, told in unread)
        yield ""


def _cells(one: Standing, endpoint: str) -> list[str]:
    model = one.model
    return [
        str(one.place),
        _link(one, endpoint),
        _text(f"{LEVEL_WORDS[one.capability.level]}: {one.capability.reason}"),
        _text(measured_cell(one.measured)),
        _text(claims_cell(model)),
        size_cell(model),
        count(model.downloads),
        trend_cell(one.trend),
        count(model.downloads_all_time),
        count(model.likes),
        trending_cell(model),
        _text(model.license or "none stated"),
        gated_cell(model),
        day(model.last_modified),
        _text(query_names(model.found_by)),
    ]


def _changes(changes: Changes) -> Iterator[str]:
    yield f"## Changed between {changes.before} and {changes.after}"
    yield ""
    if not changes.items:
        yield "Nothing."
    for item in changes.items:
        yield f"- {item.kind}: {_text(item.model)}: {_text(item.text)}"
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _link(one: Standing, endpoint: str) -> str:
    return f"[{_text(one.model.id)}]({endpoint}/{one.model.id})"


def _text(text: str) -> str:
    """What strangers wrote, as text: no cell, link, emphasis or element of theirs is one here."""
    # A bare address would become a link.
    text = re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", text)
    return re.sub(r"(?i)(://|\bwww\.)", lambda found: found[0][:-1] + "\\" + found[0][-1], text)


def _code(text: str) -> str:
    return text.replace("`", "'")
