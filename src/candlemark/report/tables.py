"""Tables of a terminal: a narrow one gets fewer columns, never fewer rows or half a column.

table = fitting(lambda names: leaderboard(rows, names), ["latency", "memory"], width=80)
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

ROLE_STYLES = {"model": "bold cyan", "baseline": "default", "control": "dim"}
"""How the names of rows are written, by role."""

_NARROWEST = 10  # of a folding column, where nothing more can be left out


def fitting(build: Callable[[Sequence[str]], Table], names: Sequence[str], width: int) -> Table:
    """The table with as many of the columns `names` as there is room for, the last left out first.

    Its first and its last column hold words and are folded, down to their `min_width`.
    """
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
        for column in folding:
            column.width = None
            column.min_width = column.min_width if needed <= width else _NARROWEST
        if needed <= width or not kept:
            return table
        kept = kept[:-1]
