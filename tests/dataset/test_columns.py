"""Columns on disk: the same bits back, and few of them for numbers that are short decimals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlemark.dataset.columns import compact, floats, write_columns

ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)
QUOTED = st.decimals(min_value=-(10**6), max_value=10**6, places=3).map(float)


def bits(values: np.ndarray) -> list[int]:
    """Bit patterns, so that -0.0 and 0.0 differ and NaN equals itself."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64).tolist()


@settings(deadline=None)
@given(st.one_of(st.lists(ANY), st.lists(QUOTED), st.lists(st.one_of(QUOTED, st.just(np.nan)))))
def test_every_bit_comes_back(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.float64)
    column = pa.chunked_array([compact(values)])
    assert bits(floats(column)) == bits(values)
    # Slices and chunks are read like the whole.
    parts = pa.chunked_array([column.slice(1).combine_chunks(), *column.slice(0, 1).chunks])
    assert bits(floats(parts)) == bits(np.concatenate([values[1:], values[:1]]))


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([100.25, -3.5, np.nan], "decimal128(18, 2)"),
        ([7.0, 0.0], "decimal128(18, 0)"),
        ([1e-8, 0.5], "decimal128(18, 8)"),
        ([0.1 + 0.2], "double"),
        ([-0.0], "double"),
        ([np.inf, 1.0], "double"),
        ([2.0**53], "double"),
        ([0.1] * 300 + [1 / 3], "double"),
    ],
)
def test_only_true_decimals_become_decimals(numbers: list[float], kind: str) -> None:
    assert str(compact(np.array(numbers)).type) == kind


def test_other_readers_see_the_same_numbers(tmp_path: Path) -> None:
    values = np.array([46216.93, 46731.39, np.nan, 0.01])
    write_columns(
        {"price": compact(values), "symbol": pa.array(["A", "A", "B", "B"])}, tmp_path / "x"
    )
    table = pq.read_table(tmp_path / "x")
    assert [None if v is None else float(v) for v in table.column("price").to_pylist()] == [
        46216.93,
        46731.39,
        None,
        0.01,
    ]
    assert table.column("symbol").to_pylist() == ["A", "A", "B", "B"]


def test_quoted_prices_take_a_third_of_the_bytes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    prices = np.round(50_000 * np.exp(np.cumsum(random.normal(0, 1e-3, 50_000))), 2)
    write_columns({"price": compact(prices)}, tmp_path / "new")
    pq.write_table(pa.table({"price": prices}), tmp_path / "plain", compression="zstd")
    assert (tmp_path / "new").stat().st_size * 2.5 < (tmp_path / "plain").stat().st_size
    assert (tmp_path / "new").stat().st_size < 2.5 * len(prices)


def test_columns_of_float64_are_read_as_they_are() -> None:
    column = pa.chunked_array([pa.array([1.5, None]), pa.array([2.5])])
    assert bits(floats(column)) == bits(np.array([1.5, np.nan, 2.5]))
