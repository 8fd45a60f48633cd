"""Progress on a terminal: a bar with rate and time left for each running task.

On anything that is no terminal, a log file say, only notes and warnings are written.
"""

from __future__ import annotations

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

from candlemark.progress import Event


class _Rate(ProgressColumn):
    """Units a second, as long as there is something to count."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:,.1f} {task.fields['unit']}/s", style="cyan")


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
        )
        self._running: dict[str, TaskID] = {}

    def handle(self, event: Event) -> None:
        """Draw one event."""
        match event.kind:
            case "begin":
                self._begin(event)
            case "advance" if event.task in self._running:
                task = self._running[event.task]
                self._progress.update(task, advance=event.amount or 0)
                if event.text:
                    self._progress.update(task, text=event.text)
            case "end" if event.task in self._running:
                self._progress.remove_task(self._running.pop(event.task))
                if not self._running:
                    self._progress.stop()
            case "note":
                self._print(event.text, "dim")
            case "warning":
                self._print(f"warning: {event.text}", "yellow")

    def _print(self, text: str, style: str) -> None:
        """Print a line as one line: what is no terminal has no width to break it at."""
        whole = not self.console.is_terminal
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=whole)

    def _begin(self, event: Event) -> None:
        if not self._running:
            self._progress.start()
        self._running[event.task] = self._progress.add_task(
            event.task, total=event.amount, unit=event.unit, text=event.text
        )

    def close(self) -> None:
        """Give the terminal back."""
        self._progress.stop()
