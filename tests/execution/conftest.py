"""Leases of tests are their own: they neither wait for a benchmark on this machine nor stop one."""

from __future__ import annotations

import pytest

from candlemark.execution import leases


@pytest.fixture(autouse=True)
def own_leases(tmp_path, monkeypatch):
    monkeypatch.setenv(leases.ENVIRONMENT, str(tmp_path / "leases"))
    return tmp_path / "leases"
