"""A leaderboard on a terminal: a table a task, who to look at first and why, what changed.

show(board)
show_changes(changes)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

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
from candlemark.report.tables import fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN = 10
"""Models a section on a terminal; JSON, Markdown and page hold all."""

_LEVEL_STYLES = {
    "ready": "green",
    "elsewhere": "green",
    "prompted": "yellow",
    "backbone": "yellow",
    "unknown": "dim",
    "no": "red",
}
_COLUMNS: dict[str, Callable[[Standing], str]] = {
    "30 days": lambda one: count(one.model.downloads),
    "size": lambda one: size_cell(one.model),
    "licence": lambda one: one.model.license or "none stated",
    "likes": lambda one: count(one.model.likes),
    "access": lambda one: gated_cell(one.model),
    "changed": lambda one: day(one.model.last_modified),
    "all time": lambda one: count(one.model.downloads_all_time),
    "trending": lambda one: trending_cell(one.model),
    "since": lambda one: trend_cell(one.trend),
    "measured here": lambda one: measured_cell(one.measured),
    "found by": lambda one: query_names(one.model.found_by),
}
"""The first ones stay longest where the terminal is narrow."""


def show(board: Board, console: Console | None = None, *, shown: int = SHOWN) -> None:
    """Print the board; `shown` models a section, 0: all."""
    from rich.console import Console
    from rich.text import Text

    target = console or Console()
    target.print(Text(f"Models of the Hub: {source_line(board)}", style="bold"))
    if board.offline:
        target.print(Text(f"this is what the Hub said at {board.taken_at}", "yellow"))
    if board.trends_since is not None:
        target.print(Text(since_line(board), style="dim"))
    for section in board.found:
        target.print()
        _show_section(section, target, shown)
    if board.empty:
        target.print(Text(f"\nno public model found for: {', '.join(board.empty)}", style="dim"))
    if board.changes is not None:
        target.print()
        show_changes(board.changes, target)


def _show_section(section: Section, target: Console, shown: int) -> None:
    from rich.text import Text

    count_text = "1 model" if len(section.standings) == 1 else f"{len(section.standings)} models"
    target.print(Text.assemble((section.title, "bold"), f"  {count_text}"))
    chosen = section.standings[: shown or None]
    columns = [
        name
        for name in _COLUMNS
        if name not in {"since", "measured here"}
        or any(_COLUMNS[name](one) not in {"n/a", ""} for one in chosen)
    ]
    target.print(fitting(lambda names: _table(chosen, names, target.width), columns, target.width))
    if len(chosen) < len(section.standings):
        rest = len(section.standings) - len(chosen)
        target.print(Text(f"{rest} more: --show 0, --json, --markdown or --html", style="dim"))
    for place, one in enumerate(section.recommended, start=1):
        target.print(Text.assemble((f"{place}. {one.model.id}: ", "bold"), one.why))
    if section.next_step is not None:
        target.print(Text(f"measure them: {section.next_step}", style="dim"), soft_wrap=True)
    if not section.recommended:
        target.print(Text("none can be recommended for this task by what is known", style="dim"))


def _table(standings: Sequence[Standing], names: Sequence[str], width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    # Names are typed again by whoever reads them: whole before there is another column.
    longest = max((len(one.model.id) for one in standings), default=0)
    table.add_column("model", overflow="fold", min_width=max(20, min(longest, width // 3)))
    table.add_column("can do it", no_wrap=True)
    for name in names:
        words = name in {"licence", "access", "found by", "measured here"}
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    table.add_column("claims", overflow="fold", min_width=14)
    for one in standings:
        level = one.capability.level
        table.add_row(
            Text(one.model.id),
            Text(LEVEL_WORDS[level], style=_LEVEL_STYLES[level]),
            *(Text(_COLUMNS[name](one)) for name in names),
            Text(claims_cell(one.model)),
        )
    return table


def show_changes(changes: Changes, console: Console | None = None) -> None:
    """Print what changed, news first."""
    from rich.console import Console
    from rich.text import Text

    target = console or Console()
    target.print(Text(f"changed between {changes.before} and {changes.after}", style="bold"))
    if not changes.items:
        target.print(Text("nothing", style="dim"))
    for item in sorted(changes.items, key=lambda item: not item.news):
        style = "default" if item.news else "dim"
        target.print(Text(f"{item.kind:8} {item.model}: {item.text}", style=style))
