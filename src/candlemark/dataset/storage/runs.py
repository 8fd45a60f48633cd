"""Which pictures to take from which chunk, so that each chunk is unpacked once.

list(runs(np.array([7, 0, 1, 6]), 4))
# [Run(chunk=0, first=0, position=1, count=2),
#  Run(chunk=1, first=2, position=3, count=1), Run(chunk=1, first=3, position=0, count=1)]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Run:
    """Pictures that follow one another both in a chunk and in what was asked for.

    first: of the pictures, within the chunk
    position: where the first of them goes
    """

    chunk: int
    first: int
    position: int
    count: int


def runs(rows: npt.NDArray[np.int64], chunk: int) -> Iterator[Run]:
    """Runs that cover `rows`, in the order of chunks of `chunk` pictures each."""
    if not len(rows):
        return
    order = np.argsort(rows, kind="stable")
    wanted, numbers = rows[order], rows[order] // chunk
    breaks = (np.diff(wanted) != 1) | (np.diff(order) != 1) | (np.diff(numbers) != 0)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.append(starts, len(rows)))
    table = (numbers[starts], wanted[starts] % chunk, order[starts], counts)
    for number, first, position, count in zip(*(column.tolist() for column in table), strict=True):
        yield Run(number, first, position, count)
