"""Tables of a terminal: what does not fit is left out or folded, and nothing is cut off."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from candlemark.report.tables import fitting

COSTS = {"latency": "12.5 ms", "memory": "833 MiB", "size": "1.33 M"}


def build(names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("row", overflow="fold", min_width=16)
    table.add_column("protocol", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("against the controls", min_width=12)
    for row in ("tiny:resnet", "a name that is much longer than its column"):
        cells = (COSTS[name] for name in names)
        table.add_row(row, "linear_probe", *cells, "beats all, p < 0.001; tied for best")
    return table


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(fitting(build, list(COSTS), width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", range(48, 130, 3))
def test_every_word_is_there_at_every_width(width: int) -> None:
    """rich once made the table too wide, and cut "p < 0.001" to "p 0.001"."""
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("beats", "all,", "p", "<", "0.001;", "tied", "for", "best"):
        assert text.split().count(word) >= 2, (width, word)


def test_the_last_columns_go_first() -> None:
    assert "size" in printed(120)
    narrow = printed(64)
    assert "latency" in narrow
    assert "size" not in narrow
