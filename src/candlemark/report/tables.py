"""Tables of a terminal: a narrow one gets fewer columns, never fewer rows or half a column.

table = fitting(lambda names: leaderboard(rows, names), ["latency", "memory"], width=80)
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ROLE_STYLES = {"model": "bold cyan", "baseline": "default", "control": "dim"}
"""How the names of rows are written, by role."""

_NARROWEST = 10  # of a folding column, where nothing more can be left out


def fitting(build: Callable[[Sequence[str]], Table], names: Sequence[str], width: int) -> Table:
    """The table with as many of the columns `names` as there is room for, the last left out first.

    Its first and its last column hold words and are folded, down to their `min_width`.
    """
    return fitted(build, names, width)[0]


def fitted(
    build: Callable[[Sequence[str]], Table], names: Sequence[str], width: int
) -> tuple[Table, list[str]]:
    """The table as `fitting` makes it, and which of `names` it has."""
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=1000, file=io.StringIO())
    kept = list(names)
    while True:
        table = build(kept)
        folding = (table.columns[0], table.columns[-1])
        for column in folding:
            column.width = column.min_width
        needed = Measurement.get(console, console.options, table).maximum
        if needed <= width:
            _share(table, console, width - needed)
            return table, kept
        if not kept:
            for column in folding:
                column.width, column.min_width = None, _NARROWEST
            return table, kept
        kept = kept[:-1]


def _share(table: Table, console: Console, spare: int) -> None:
    """Give the folding columns the room that is left, the last one first, as far as they need it.

    Left to itself, rich makes such a table a little too wide and cuts its last column off.
    """
    from rich.measure import Measurement

    for column in (table.columns[-1], table.columns[0]):
        cells = [column.header, *column.cells]
        needs = max(Measurement.get(console, console.options, cell).maximum for cell in cells)
        least = column.min_width or 0
        column.width = min(max(needs, least), least + spare)
        spare -= column.width - least
