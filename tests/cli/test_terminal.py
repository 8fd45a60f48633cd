"""What is written of progress where nobody looks at a terminal."""

from __future__ import annotations

import pytest

from candlemark.cli.terminal import TerminalReporter
from candlemark.progress import Event


@pytest.mark.parametrize(("kind", "head"), [("note", ""), ("warning", "warning: ")])
def test_a_long_line_stays_one_line_in_a_log(
    capsys: pytest.CaptureFixture[str], kind: str, head: str
) -> None:
    text = "candles " * 40 + "[end]"
    TerminalReporter().handle(Event(kind=kind, task="", text=text))  # type: ignore[arg-type]
    assert capsys.readouterr().err == f"{head}{text}\n"
