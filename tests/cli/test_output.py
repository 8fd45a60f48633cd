"""Tables keep every column where nobody looks at a terminal."""

from __future__ import annotations

import json
import sys
from io import BytesIO, TextIOWrapper

import pytest
from rich.table import Table

from candlemark.cli import main as command
from candlemark.cli.output import print_json, table_console


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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_standard_output_cannot_take_end_nothing(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    said = "Größe ★ \udce9"

    def show(**_: object) -> int:
        table_console().print(said)
        print_json({"row": said})
        return 0

    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["candlemark"])
    monkeypatch.setattr(command, "app", show)
    with pytest.raises(SystemExit, match="0"):
        command.main()
    sys.stdout.flush()
    line, _, rest = written.getvalue().decode(encoding).partition("\n")
    assert line == said.encode(encoding, "replace").decode(encoding)
    assert json.loads(rest) == {"row": said}
