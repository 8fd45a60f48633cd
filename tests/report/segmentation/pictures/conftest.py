"""Boards whose cases can be looked at; tests are no package, so they are loaded by path."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """`fake_pictures.py`."""
    name = "candlemark_test_fake_pictures"
    if name not in sys.modules:
        spec = spec_from_file_location(name, Path(__file__).with_name("fake_pictures.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def scans(fake: Any) -> list[Any]:
    return fake.phantoms(4)


@pytest.fixture(scope="session")
def board(fake: Any, scans: list[Any]) -> Any:
    """Four scans; one model misses a case, one control, one oracle, one trial that died."""
    rows = ("clinic/moved", "hub/thinner", "all foreground", "sam oracle box", "gone")
    return fake.board_of(
        scans, rows=rows, fails={"hub/thinner": [scans[1].case]}, dead=("gone",), metrics=METRICS
    )


METRICS = ("dice", "hd95", "nsd")
