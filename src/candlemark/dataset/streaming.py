"""Drawing into a store: threads draw and compress parts, one writer puts them on disk.

    store_images(writer, draw, count=1_000_000, row_shape=(63, 400), folder=folder)

Memory stays bounded however many pictures there are: each thread draws into a buffer of its
own, and only a few compressed parts wait for the writer, which takes them in order. Parts that
an earlier build left are skipped. Drawing and compressing release the interpreter lock.

The disk is watched while it fills: what cannot fit is refused when the first parts have shown
how large the store will be, long before the disk is full.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np

from candlemark.charts.threads import core_count
from candlemark.dataset.storage.base import Encoded, Images, ImageWriter, part_count
from candlemark.errors import DatasetError
from candlemark.progress import note, track

Draw = Callable[[slice, Images], object]
"""Draws some rows of the index into a buffer uint8 (n, ...) as the writer wants them."""

WAITING_PARTS = 2
"""Parts beyond one a thread that may be under way, so that no thread waits for the writer."""

MEMORY_BYTES = 512 << 20
"""What all parts under way may take together; threads are fewer where parts are large."""

SPARE_BYTES = 16 << 20
"""Disk space that is never used up."""

LOOK_BYTES = SPARE_BYTES // 4
"""The disk is looked at again after that many bytes."""

CERTAIN = 0.5
"""Share of the projected size that must fit: markets change, so a projection may be twice off."""


def store_images(
    writer: ImageWriter,
    draw: Draw,
    *,
    count: int,
    row_shape: tuple[int, ...],
    folder: Path,
    threads: int | None = None,
) -> int:
    """Draw, encode and write all parts that are missing, then finish the store.

    row_shape: of one picture as `draw` makes it and `writer.encode` takes it
    folder: where the store is, to see what room there is
    threads: None takes one a core

    Returns the bytes written. Raises what drawing and writing raise, and DatasetError where
    the disk is too small; the writer is left open, with what it has.
    """
    finished = writer.finished_parts()
    missing = [part for part in range(part_count(writer, count)) if part not in finished]
    rows = _Rows(count, writer.part_rows)
    left = sum(rows.size(part) for part in missing)
    if finished and missing:
        note(f"going on with an earlier build: {count - left:,} of {count:,} pictures are there")
    written, done = 0, 0
    room = _Room(folder)
    workers = _workers(writer.part_rows * prod(row_shape), threads)
    buffers = threading.local()

    def encode(part: int) -> Encoded:
        if not hasattr(buffers, "images"):
            buffers.images = np.empty((min(writer.part_rows, count), *row_shape), dtype=np.uint8)
        images = buffers.images[: rows.size(part)]
        draw(rows.of(part), images)
        return writer.encode(part, images)

    with track("drawing", total=left, unit="images") as bar:
        for part, encoded in _in_order(encode, missing, workers):
            room.check(sum(map(len, encoded)), seen=(written, done), left=left - done)
            written += writer.write(part, encoded)
            done += rows.size(part)
            bar.advance(rows.size(part), text=f"{written / 1e6:,.1f} MB")
    writer.finish()
    return written


def _in_order(
    encode: Callable[[int], Encoded], parts: list[int], workers: int
) -> Iterator[tuple[int, Encoded]]:
    """Encoded parts in order, a few of them under way at any time."""
    under_way: deque[tuple[int, Future[Encoded]]] = deque()
    waiting = iter(parts)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="candlemark-store")
    try:
        for part in waiting:
            under_way.append((part, pool.submit(encode, part)))
            if len(under_way) == workers + WAITING_PARTS:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        # Also after an error or Ctrl-C: nothing new begins, what is at work ends in a moment.
        pool.shutdown(cancel_futures=True)


class _Rows:
    """Which rows of the index a part holds."""

    def __init__(self, count: int, part_rows: int) -> None:
        self._count, self._part_rows = count, part_rows

    def of(self, part: int) -> slice:
        first = part * self._part_rows
        return slice(first, min(first + self._part_rows, self._count))

    def size(self, part: int) -> int:
        rows = self.of(part)
        return int(rows.stop - rows.start)


class _Room:
    """Free disk space, compared with what is still to come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unseen = LOOK_BYTES
        self._projected = False

    def check(self, upcoming: int, *, seen: tuple[int, int], left: int) -> None:
        """OSError (no space) if the next part does not fit, DatasetError if the rest cannot."""
        self._unseen += upcoming
        first_known = seen[1] > 0 and not self._projected
        if self._unseen < LOOK_BYTES and not first_known:
            return
        self._unseen, self._projected = 0, seen[1] > 0
        free = shutil.disk_usage(self._folder).free
        if free < upcoming + SPARE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        written, done = seen
        if not done:
            return
        needed = written / done * left
        if needed * CERTAIN > free:
            raise DatasetError(
                f"{left:,} pictures more need about {_size(needed)} (a picture takes "
                f"{written / done:,.0f} bytes), and {self._folder.parent} has {_size(free)} free; "
                "free some space, build elsewhere with --out, take fewer with --max-samples, "
                "or keep no pictures with --storage none"
            )


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _workers(part_bytes: int, threads: int | None) -> int:
    """Threads: one a core, fewer where their parts would take too much memory."""
    # A part is there twice, drawn and encoded.
    return max(1, min(threads or core_count(), MEMORY_BYTES // (2 * part_bytes)))
