"""The made-up records of the folder above; tests are no package, so they are loaded by path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from candlemark.records import RunRecord
from candlemark.report.statistics import Board, build_boards


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """`fake_fusion.py`."""
    name = "candlemark_test_fake_fusion"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "fake_fusion.py"
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def board(fakes: ModuleType) -> Callable[..., Board]:
    """The board of these rows; `failing` are rows that ran out of memory."""

    @cache
    def record(row: Any, **options: Any) -> RunRecord:
        made: RunRecord = fakes.fusion_record(row, **options)
        return made

    @cache
    def make(*rows: Any, failing: tuple[Any, ...] = (), **options: Any) -> Board:
        records = [record(row, **options) for row in rows]
        (found,) = build_boards([*records, *(fakes.failed(row, **options) for row in failing)])
        return found

    return make
