"""The windows of a dataset as other people's programs want them, batch by batch.

    for batch in samples(dataset, "train", caption="window"):
        batch.png, batch.text, batch.target, batch.next_close, batch.image_path

Every export is written from this one stream, so all of them hold the same samples: the windows
of a split in time order, and only those (what a purge took out belongs to no split). Pictures
are drawn or read a batch at a time and become PNG in threads; a bounded number of batches is
ahead of the reader, so the memory in use does not depend on the number of windows.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import prod

import numpy as np

from candlemark.candles.series import IntArray
from candlemark.charts.threads import core_count
from candlemark.dataset.captions import captions
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.storage.base import Images
from candlemark.dataset.storage.files import GREY, RGB, png_file
from candlemark.progress import Bar

BATCH_BYTES = 8 << 20
"""Pictures drawn at once."""

BATCHES_AHEAD = 2
"""Batches being encoded while one is written."""

PNG_LEVEL = 6
"""Of deflate. Shared pictures are downloaded more often than written, so size comes first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Some windows of one split, n of them, in time order.

    rows: int64[n], rows of the dataset
    key: names that are unique in the dataset and safe in any file system
    image_path: `images/<split>/<key>.png`
    png: pictures as 8-bit PNG, grey or RGB, exact
    text: captions
    target: class indices; label: class names
    value, next_close: None where there is none
    """

    rows: IntArray
    split: str
    key: list[str]
    image_path: list[str]
    png: list[bytes]
    text: list[str]
    target: list[int]
    label: list[str]
    value: list[float | None]
    next_close: list[float | None]
    symbol: tuple[str, ...]
    window_start_ms: list[int]

    def __len__(self) -> int:
        return len(self.rows)


def samples(
    dataset: Dataset, split: str, *, caption: str, bar: Bar | None = None
) -> Iterator[Samples]:
    """Stream a split.

    caption: a style of `captions`
    bar: advanced by every batch that the reader is done with

    Raises ConfigError: no such split or caption style.
    """
    rows = dataset.split(split)
    batch = max(1, BATCH_BYTES // prod(dataset.image_shape))
    names = safe_names(dataset.manifest.symbols)
    finish = partial(_finish, dataset, split=split, names=names, caption=caption)
    ahead: deque[tuple[IntArray, list[Future[list[bytes]]]]] = deque()
    pool = ThreadPoolExecutor(core_count(), thread_name_prefix="candlemark-png")
    try:
        for first in range(0, len(rows), batch):
            part = rows[first : first + batch]
            ahead.append((part, _encode_all(pool, dataset.images(part))))
            if len(ahead) > BATCHES_AHEAD:
                yield finish(*ahead.popleft())
                _count(bar, batch)
        while ahead:
            last = finish(*ahead.popleft())
            yield last
            _count(bar, len(last))
    finally:
        pool.shutdown(cancel_futures=True)


def _count(bar: Bar | None, amount: int) -> None:
    if bar is not None:
        bar.advance(amount)


def _encode_all(pool: ThreadPoolExecutor, images: Images) -> list[Future[list[bytes]]]:
    step = max(1, len(images) // (4 * core_count()))
    return [
        pool.submit(_encode_some, images[first : first + step])
        for first in range(0, len(images), step)
    ]


def _encode_some(images: Images) -> list[bytes]:
    return [encode_png(image) for image in images]


def _finish(
    dataset: Dataset,
    rows: IntArray,
    encoded: list[Future[list[bytes]]],
    *,
    split: str,
    names: dict[str, str],
    caption: str,
) -> Samples:
    columns = dataset.metadata(rows)
    keys = [
        f"{names[symbol]}-{_stamp(start)}"
        for symbol, start in zip(columns["symbol"], columns["window_start_ms"], strict=True)
    ]
    return Samples(
        rows=rows,
        split=split,
        key=keys,
        image_path=[f"images/{split}/{key}.png" for key in keys],
        png=[png for future in encoded for png in future.result()],
        text=captions(dataset, rows, style=caption),
        target=columns["target"],
        label=columns["label"],
        value=columns["value"],
        next_close=columns["next_close"],
        symbol=tuple(columns["symbol"]),
        window_start_ms=columns["window_start_ms"],
    )


def _stamp(time_ms: int) -> str:
    """Such as 20240105T130000, with milliseconds only where there are any."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    return f"{moment}{time_ms % 1000:03d}" if time_ms % 1000 else moment


def safe_names(symbols: tuple[str, ...]) -> dict[str, str]:
    """A name for each symbol that any file system and any archive takes, all different.

    Other signs than letters, digits and underscores become underscores; symbols that then
    differ in nothing but case are numbered.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for symbol in symbols:
        name = plain = re.sub(r"[^A-Za-z0-9_]", "_", symbol)
        number = 2
        while name.lower() in taken:
            name, number = f"{plain}_{number}", number + 1
        taken.add(name.lower())
        names[symbol] = name
    return names


def encode_png(image: Images) -> bytes:
    """A picture (H, W) or (H, W, 3) as PNG of eight bits a channel.

    Written by zlib alone, which lets other threads run and is twice as fast as Pillow. Each line
    is stored as its difference from the line above (filter 2), which charts, made of upright
    strokes, leave almost empty.
    """
    height, width = image.shape[:2]
    lines = image.reshape(height, -1)
    filtered = np.empty((height, lines.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    colour = GREY if image.ndim == 2 else RGB
    return png_file(filtered, width, depth=8, colour=colour, level=PNG_LEVEL)
