"""Progress on a terminal: a bar with rate and time left for each running task.

On anything that is no terminal, a log file say, notes and warnings are written, and of a task that
takes long a line now and then. While a section is timed, in whatever process, the bars stand
still: drawing would take time from it.
"""

from __future__ import annotations

import threading
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from candlemark.progress import TIMING, Event

REDRAW_S = 0.2
LOG_EVERY_S = 30.0
"""Between two lines of progress where there is no terminal."""


class _Rate(ProgressColumn):
    """Units a second, as long as there is something to count."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:,.1f} {task.fields['unit']}/s", style="cyan")


class _Ticker:
    """Redraws bars again and again; at rest it sleeps in the kernel."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._awake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._redraw, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._awake.set()

    def rest(self) -> None:
        self._awake.clear()

    def end(self) -> None:
        self._ended = True
        self._awake.set()
        self._thread.join()

    def _redraw(self) -> None:
        pause = threading.Event()
        while True:
            self._awake.wait()
            if self._ended:
                return
            self._bars.refresh()
            pause.wait(REDRAW_S)


class TerminalReporter:
    """Draws events on standard error, so that standard output stays clean for results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[text]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            auto_refresh=False,
        )
        self._ticker: _Ticker | None = None
        self._last_line = time.monotonic()
        # Several workers may run tasks of one name; which of them a word is about does not show.
        self._running: dict[str, list[TaskID]] = {}

    def handle(self, event: Event) -> None:
        """Draw one event."""
        match event.kind:
            case "begin":
                self._begin(event)
            case "advance" if event.task in self._running:
                task = self._running[event.task][-1]
                self._progress.update(task, advance=event.amount or 0)
                if event.text:
                    self._progress.update(task, text=event.text)
                self._log(task)
            case "end" if event.task in self._running:
                self._end(event)
            case "note":
                self._print(event.text, "dim")
            case "warning":
                self._print(f"warning: {event.text}", "yellow")

    def _log(self, number: TaskID) -> None:
        """Say in a log how far a task is, if the last line is long ago."""
        if self.console.is_terminal or time.monotonic() - self._last_line < LOG_EVERY_S:
            return
        self._last_line = time.monotonic()
        task = next(task for task in self._progress.tasks if task.id == number)
        total = "" if task.total is None else f" of {task.total:,.0f}"
        unit = f" {task.fields['unit']}" if task.fields["unit"] else ""
        left = "" if task.time_remaining is None else f", about {task.time_remaining:,.0f} s left"
        self._print(f"{task.description}: {task.completed:,.0f}{total}{unit}{left}", "dim")

    def _print(self, text: str, style: str) -> None:
        """Print a line as one line: what is no terminal has no width to break it at."""
        whole = not self.console.is_terminal
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=whole)

    def _begin(self, event: Event) -> None:
        if not self._running:
            self._last_line = time.monotonic()
            self._progress.start()
        task = self._progress.add_task(
            event.task, total=event.amount, unit=event.unit, text=event.text
        )
        self._running.setdefault(event.task, []).append(task)
        self._rest_or_go_on()

    def _end(self, event: Event) -> None:
        tasks = self._running[event.task]
        self._progress.remove_task(tasks.pop())
        if not tasks:
            del self._running[event.task]
        self._rest_or_go_on()

    def _rest_or_go_on(self) -> None:
        """Redraw by the clock while anything runs, but not while it is timed."""
        if not self._running:
            self.close()
        elif TIMING in self._running:
            if self._ticker is not None:
                self._ticker.rest()
            self._progress.refresh()
        elif self.console.is_terminal:
            self._ticker = self._ticker or _Ticker(self._progress)
            self._ticker.wake()

    def close(self) -> None:
        """Give the terminal back."""
        if self._ticker is not None:
            self._ticker.end()
            self._ticker = None
        self._progress.stop()
