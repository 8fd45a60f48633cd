"""Small models with known behaviour for whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest

GADGETS = Path(__file__).parents[1] / "benchmark" / "inference"


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GADGETS))
    monkeypatch.setenv("CANDLEMARK_LEASES", str(tmp_path / "leases"))
