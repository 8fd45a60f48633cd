"""What tests of the leaderboard share: a Hub with models, a cache and a tracker of their own."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # for hub_models.py


@pytest.fixture
def hub_with_models(hub_double: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The double with `several` models; `lists()` are its requests for them."""
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN")
    from hub_models import several

    hub_double.models = several()
    # huggingface_hub asks for more than models: who calls it, for one.
    hub_double.lists = lambda: hub_double.asked("GET", r"^/api/models\?")
    return hub_double


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock of the search and its cache that a test may set forward."""
    from candlemark.hub.leaderboard import cache, search

    held = SimpleNamespace(ahead_s=0.0)
    told = SimpleNamespace(time=lambda: time.time() + held.ahead_s)
    monkeypatch.setattr(cache, "time", told)
    monkeypatch.setattr(search, "time", told)
    return held
