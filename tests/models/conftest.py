"""A place for models, and what the library says meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from candlemark import progress
from candlemark.progress import Event


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def told() -> Iterator[list[Event]]:
    """What the library reports while a test runs."""
    events: list[Event] = []

    class Listener:
        def handle(self, event: Event) -> None:
            events.append(event)

    before = progress.set_reporter(Listener())
    yield events
    progress.set_reporter(before)
