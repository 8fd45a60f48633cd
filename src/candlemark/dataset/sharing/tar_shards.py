"""WebDataset shards: tar files that a training loop streams, the one file that writes tar.

    train-000000.tar        BTCUSDT-20240105T130000.png     the chart
                            BTCUSDT-20240105T130000.cls     class index
                            BTCUSDT-20240105T130000.txt     caption
                            BTCUSDT-20240105T130000.json    label, next_close, symbol, time, ...
                            BTCUSDT-20240106T010000.png     the next sample
    train-000001.tar
    shards.json             every shard with its samples and bytes, by split

Samples stand in time order; whoever trains shuffles. The same dataset gives the same bytes:
no clock, user or machine goes into a file. The layout is that of the `webdataset` library,
which is not needed to write it:

    webdataset.WebDataset("train-{000000..000003}.tar").decode("pil").to_tuple("png", "cls")
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing.card import describe, write_description
from candlemark.dataset.sharing.options import ExportOptions
from candlemark.dataset.sharing.samples import Samples, samples
from candlemark.progress import track

LIST = "shards.json"
TAR_BLOCK = 512


def write(dataset: Dataset, folder: Path, options: ExportOptions) -> None:
    """Write the shards of every split, their list and the card.

    Raises OSError: the disk is full.
    """
    listed = {}
    with track("exporting", total=len(dataset), unit="samples") as bar:
        for split in dataset.split_names:
            shards = _Shards(folder, split, options.shard_bytes)
            try:
                for batch in samples(dataset, split, caption=options.caption, bar=bar):
                    shards.write(batch)
            finally:
                shards.close()
            listed[split] = shards.entries
    (folder / LIST).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    write_description(describe(dataset, caption=options.caption, form="webdataset"), folder)


class _Shards:
    """Tar files of one split, each about `limit` bytes large at most."""

    def __init__(self, folder: Path, split: str, limit: int) -> None:
        self.entries: list[dict[str, Any]] = []
        self._folder = folder
        self._split = split
        self._limit = limit
        self._tar: tarfile.TarFile | None = None
        self._size = 0

    def write(self, batch: Samples) -> None:
        """Write some samples, beginning a new shard when the current one is full."""
        for number, key in enumerate(batch.key):
            members = _members(batch, number)
            # Each member has a header and fills whole blocks; a tar ends with two empty ones.
            size = sum(2 * TAR_BLOCK + len(data) for data in members.values())
            if self._tar is None or self._size + size > self._limit - 2 * TAR_BLOCK:
                self.close()
                tar = self._tar = self._open()
            else:
                tar = self._tar
            for suffix, data in members.items():
                header = tarfile.TarInfo(f"{key}.{suffix}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
            self._size += size
            self.entries[-1]["samples"] += 1

    def close(self) -> None:
        """End the current shard, if there is one."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None
            name = self.entries[-1]["name"]
            self.entries[-1]["size_bytes"] = (self._folder / name).stat().st_size

    def _open(self) -> tarfile.TarFile:
        name = f"{self._split}-{len(self.entries):06d}.tar"
        self.entries.append({"name": name, "samples": 0})
        self._size = 0
        return tarfile.open(self._folder / name, "w", format=tarfile.USTAR_FORMAT)


def _members(batch: Samples, number: int) -> dict[str, bytes]:
    """What the files of one sample hold, by suffix; WebDataset tells samples by their stem."""
    facts = {
        "label": batch.label[number],
        "next_close": batch.next_close[number],
        "value": batch.value[number],
        "symbol": batch.symbol[number],
        "window_start_ms": batch.window_start_ms[number],
        "split": batch.split,
        "image_path": batch.image_path[number],
    }
    return {
        "png": batch.png[number],
        "cls": str(batch.target[number]).encode(),
        "txt": batch.text[number].encode(),
        "json": json.dumps(facts, allow_nan=False).encode(),
    }
