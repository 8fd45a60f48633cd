"""The made-up records of this folder; tests are no package, so they are loaded by path."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


def loaded(path: Path) -> ModuleType:
    name = f"candlemark_test_{path.stem}_of_masks"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """`fake_segmentation.py`."""
    return loaded(Path(__file__).with_name("fake_segmentation.py"))


@pytest.fixture(scope="session")
def charts() -> ModuleType:
    """`fake_records.py` of the folder above: records of the task `charts`."""
    return loaded(Path(__file__).parents[1] / "fake_records.py")
