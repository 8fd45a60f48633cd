"""The public names: sorted, real, documented, and free of heavy imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import candlemark


def test_exported_names_are_sorted_and_real():
    assert candlemark.__all__ == sorted(candlemark.__all__)
    for name in candlemark.__all__:
        assert getattr(candlemark, name).__doc__, f"{name} has no docstring"
        assert name in dir(candlemark)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'candlemark' has no attribute 'nonsense'"):
        candlemark.nonsense  # noqa: B018 - the access is the test


@pytest.mark.parametrize("module", ["candlemark", "candlemark.cli.main"])
def test_importing_it_loads_nothing_heavy(module):
    heavy = "torch numpy pandas pyarrow numba duckdb matplotlib plotly transformers timm httpx"
    program = (
        f"import sys, {module}\nprint(*[name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout.strip() == ""
