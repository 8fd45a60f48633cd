"""Progress without printing: the library reports events, whoever runs it decides what to do.

The default reporter is silent. The command line installs one that draws bars; a worker
process installs one that sends its events to the parent.

    with track("drawing", total=1000, unit="images") as bar:
        bar.advance(64)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened; picklable, so it can cross a process boundary.

    `amount` is the total for "begin" (None: unknown) and the increment for "advance".
    """

    kind: Literal["begin", "advance", "end", "note", "warning"]
    task: str
    amount: float | None = None
    unit: str = ""
    text: str = ""


class Reporter(Protocol):
    """Receives events."""

    def handle(self, event: Event) -> None:
        """React to one event; must return quickly and must not raise."""


class Silent:
    """Drops every event."""

    def handle(self, event: Event) -> None:
        """Drop it."""


_reporter: Reporter = Silent()


def set_reporter(reporter: Reporter) -> Reporter:
    """Install `reporter` for this process and return the one it replaces."""
    global _reporter
    previous, _reporter = _reporter, reporter
    return previous


def note(text: str, *, task: str = "") -> None:
    """Report a line worth reading."""
    _reporter.handle(Event(kind="note", task=task, text=text))


def warning(text: str, *, task: str = "") -> None:
    """Report a line that must not be missed."""
    _reporter.handle(Event(kind="warning", task=task, text=text))


def forward(event: Event) -> None:
    """Hand on an event that came from another process."""
    _reporter.handle(event)


@dataclass(frozen=True, slots=True)
class Bar:
    """A running task."""

    task: str

    def advance(self, amount: float = 1, text: str = "") -> None:
        """Count `amount` more units as done; `text` is shown beside the bar."""
        _reporter.handle(Event(kind="advance", task=self.task, amount=amount, text=text))


TIMING = "timing"
"""The task during which nobody may draw: a clock is running, and drawing takes time of its own."""


@contextmanager
def timing(text: str = "") -> Iterator[None]:
    """Report that `text` is being timed; whoever draws rests until it has ended."""
    _reporter.handle(Event(kind="begin", task=TIMING, text=text))
    try:
        yield
    finally:
        _reporter.handle(Event(kind="end", task=TIMING))


@contextmanager
def track(task: str, *, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """Report the life of a task of `total` units (None: unknown)."""
    _reporter.handle(Event(kind="begin", task=task, amount=total, unit=unit))
    try:
        yield Bar(task)
    finally:
        _reporter.handle(Event(kind="end", task=task))
