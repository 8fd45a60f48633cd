"""The log of one build: what the console says, with the time of each line, and more.

    with PipelineLog(Path("logs")) as log:
        log.record("config", yaml_text)     # to the file alone
        log.say("2,000 windows")            # to standard output as well

`logs/pipeline_20240105_130000.log`, times in UTC. Notes and warnings of the library are
written as they come, a task when it begins and when it ends with its count and duration, and
an error with its traceback, of which the console shows one line.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import typer

from candlemark import progress
from candlemark.errors import ConfigError
from candlemark.progress import Event, Reporter


class PipelineLog:
    """A reporter that writes a file and hands every event on; use it in a `with`.

    Raises ConfigError where the file cannot be made. A disk that fills up later ends the log
    with a warning, not the build.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        self._before: Reporter | None = None
        self._begun_s = 0.0
        self._tasks: dict[str, tuple[float, float, str]] = {}
        self.path = folder

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.path, self._file = _new_file(self._folder)
        except OSError as error:
            raise ConfigError(
                f"cannot write a log in {self._folder}: {error.strerror or error}; "
                "name another folder under paths.logs"
            ) from error
        self._begun_s = time.monotonic()
        self._before = progress.set_reporter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            progress.set_reporter(self._before)
        took = f"after {time.monotonic() - self._begun_s:.1f} s"
        if error is None:
            self._write("info", f"finished {took}")
        elif isinstance(error, KeyboardInterrupt):
            self._write("error", f"interrupted {took}")
        else:
            self._write("error", f"{type(error).__name__}: {error}")
            self._write("error", "".join(traceback.format_exception(error)))
            self._write("error", f"failed {took}")
        if self._file is not None:
            self._file.close()
            self._file = None

    def say(self, text: str) -> None:
        """Print a line and log it."""
        typer.echo(text)
        self._write("info", text)

    def record(self, title: str, text: str) -> None:
        """Log some lines that are too many for the console."""
        self._write("info", f"{title}:\n{text}")

    def handle(self, event: Event) -> None:
        """Log one event and hand it on."""
        if self._before is not None:
            self._before.handle(event)
        match event.kind:
            case "note":
                self._write("info", event.text)
            case "warning":
                self._write("warning", event.text)
            case "begin":
                self._tasks[event.task] = (time.monotonic(), 0.0, event.unit)
                count = "" if event.amount is None else f", {event.amount:,.0f} {event.unit}"
                self._write("info", f"{event.task}: begun{count}")
            case "advance":
                self._advance(event)
            case "end":
                begun_s, done, unit = self._tasks.pop(event.task, (time.monotonic(), 0.0, ""))
                took_s = time.monotonic() - begun_s
                self._write("info", f"{event.task}: {done:,.0f} {unit} in {took_s:.1f} s")

    def _advance(self, event: Event) -> None:
        with self._lock:
            if event.task in self._tasks:
                begun_s, done, unit = self._tasks[event.task]
                self._tasks[event.task] = (begun_s, done + (event.amount or 0), unit)

    def _write(self, level: str, text: str) -> None:
        """Each line with the time and a level, so that the file can be searched by either."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = "".join(f"{stamp} {level:<7} {line}\n" for line in text.rstrip().splitlines())
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(lines)
                self._file.flush()
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None
                if self._before is not None:
                    problem = f"the log {self.path} ends here: {error.strerror or error}"
                    self._before.handle(Event(kind="warning", task="", text=problem))


def _new_file(folder: Path) -> tuple[Path, TextIO]:
    """A file named after this second, or numbered where another build took the name."""
    stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    number = 1
    while True:
        suffix = "" if number == 1 else f"-{number}"
        path = folder / f"pipeline_{stamp}{suffix}.log"
        try:
            return path, path.open("x", encoding="utf-8")
        except FileExistsError:
            number += 1
