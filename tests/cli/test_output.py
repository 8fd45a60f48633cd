"""Tables keep every column where nobody looks at a terminal."""

from __future__ import annotations

import pytest
from rich.table import Table

from candlemark.cli.output import table_console


def test_a_table_into_a_pipe_is_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name", "value")
    table.add_row("long " * 30, "wide" * 30)
    table_console().print(table)
    out = capsys.readouterr().out
    assert ("long " * 30).strip() in out
    assert "wide" * 30 in out


def test_a_width_that_was_asked_for_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    table_console().rule()
    assert max(map(len, capsys.readouterr().out.splitlines())) == 40
