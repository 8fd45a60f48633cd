"""Progress: one line each where nobody looks at a terminal, and stillness while a clock runs."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from candlemark import progress
from candlemark.cli import terminal
from candlemark.cli.terminal import TerminalReporter
from candlemark.progress import Event


@pytest.mark.parametrize(("kind", "head"), [("note", ""), ("warning", "warning: ")])
def test_a_long_line_stays_one_line_in_a_log(
    capsys: pytest.CaptureFixture[str], kind: str, head: str
) -> None:
    text = "candles " * 40 + "[end]"
    TerminalReporter().handle(Event(kind=kind, task="", text=text))  # type: ignore[arg-type]
    assert capsys.readouterr().err == f"{head}{text}\n"


def test_a_log_says_now_and_then_how_far_a_long_task_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    reporter = TerminalReporter()
    reporter.handle(Event(kind="begin", task="trials", amount=9, unit="trials"))
    for _ in range(5):
        now[0] += 20
        reporter.handle(Event(kind="advance", task="trials", amount=1))
    lines = capsys.readouterr().err.splitlines()
    reporter.close()
    assert [line.partition(",")[0] for line in lines] == [
        "trials: 2 of 9 trials",
        "trials: 4 of 9 trials",
    ]


class _Screen(io.StringIO):
    """A terminal that counts what is written to it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch):
    written = _Screen()
    console = Console(file=written, force_terminal=True, width=100)
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    monkeypatch.setattr(terminal, "REDRAW_S", 0.01)
    reporter = TerminalReporter()
    before = progress.set_reporter(reporter)
    yield written
    progress.set_reporter(before)
    reporter.close()


def _written_within(screen: _Screen, seconds: float) -> int:
    before = len(screen.getvalue())
    time.sleep(seconds)
    return len(screen.getvalue()) - before


def test_bars_stand_still_while_a_clock_runs_and_go_on_after(screen: _Screen) -> None:
    with progress.track("trials", total=2, unit="trials"):
        assert _written_within(screen, 0.3) > 0
        with progress.timing("tiny:bert"):
            time.sleep(0.1)  # a picture that had been begun is finished
            assert _written_within(screen, 0.5) == 0
            assert "tiny:bert" in screen.getvalue()
        assert _written_within(screen, 0.3) > 0
    assert _written_within(screen, 0.2) == 0


def test_bars_stand_still_until_the_last_of_several_clocks_has_stopped(screen: _Screen) -> None:
    """The next worker may begin before the parent has heard that another one died."""
    with progress.track("trials", total=2, unit="trials"):
        with progress.timing("tiny:bert"):
            with progress.timing("tiny:vit"):
                pass
            time.sleep(0.1)
            assert _written_within(screen, 0.3) == 0
        assert _written_within(screen, 0.3) > 0
    assert _written_within(screen, 0.2) == 0
