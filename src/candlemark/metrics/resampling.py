"""Block resampling of cases in time order, as counts, so that scores can be vectorised.

    for weight in resample_counts(case_count=800, block_length=31, replicates=2000, seed=0):
        auroc(target, probability, weight)

Neighbouring windows share candles, so cases are not independent; whole blocks of
neighbours are drawn instead of cases. Two schemes, both on a circle so that every case is
drawn equally often:

- circular: blocks of exactly `block_length` (Politis and Romano 1992, "A circular
  block-resampling procedure for stationary data");
- stationary: blocks of geometric length with that mean (Politis and Romano 1994, JASA 89).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from candlemark.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
Scheme = Literal["circular", "stationary"]

_CHUNK_CELLS = 4_000_000  # 32 MB of float64 for each intermediate


def resample_counts(
    *,
    case_count: int,
    block_length: int,
    replicates: int,
    seed: int,
    scheme: Scheme = "circular",
) -> Iterator[FloatArray]:
    """How often each case is drawn, float64[chunk, case_count], `replicates` rows in all.

    Every row sums to case_count. The same arguments give the same rows, which is what makes
    a comparison of two models on the same cases a paired one.

    Raises ConfigError: a count is below 1 or the block is longer than the sample.
    """
    if min(case_count, block_length, replicates) < 1:
        raise ConfigError(
            f"case_count = {case_count}, block_length = {block_length}, "
            f"replicates = {replicates}: each must be at least 1"
        )
    if block_length > case_count:
        raise ConfigError(
            f"block_length = {block_length} is longer than the sample of {case_count} cases; "
            "use more test cases"
        )
    random = np.random.default_rng(seed)
    draw = _circular if scheme == "circular" else _stationary
    size = max(1, _CHUNK_CELLS // case_count)
    for first in range(0, replicates, size):
        yield draw(random, case_count, block_length, min(size, replicates - first))


def _circular(
    random: np.random.Generator, case_count: int, block_length: int, rows: int
) -> FloatArray:
    """Counts from block starts: +1 where a block starts, -1 where it ends, summed up."""
    blocks = -(-case_count // block_length)
    start = random.integers(0, case_count, (rows, blocks))
    length = np.full(blocks, block_length)
    length[-1] = case_count - block_length * (blocks - 1)  # the last is cut to keep N cases
    edges = np.zeros((rows, 2 * case_count + 1))
    row = np.arange(rows)[:, None]
    np.add.at(edges, (row, start), 1.0)
    np.add.at(edges, (row, start + length), -1.0)
    running = np.cumsum(edges, axis=1)
    counts: FloatArray = running[:, :case_count] + running[:, case_count : 2 * case_count]
    return counts


def _stationary(
    random: np.random.Generator, case_count: int, block_length: int, rows: int
) -> FloatArray:
    """Counts from a walk that steps to the next case or, with 1 / block_length, jumps."""
    position = np.arange(case_count)
    jumps = random.random((rows, case_count)) < 1 / block_length
    jumps[:, 0] = True
    target = random.integers(0, case_count, (rows, case_count))
    last_jump = np.maximum.accumulate(np.where(jumps, position, 0), axis=1)
    drawn = (np.take_along_axis(target, last_jump, axis=1) + position - last_jump) % case_count
    flat = drawn + case_count * np.arange(rows)[:, None]
    counts = np.bincount(flat.ravel(), minlength=rows * case_count)
    return counts.reshape(rows, case_count).astype(np.float64)
