"""The plain folder people know: candles, one PNG a chart, and an index that names them.

    candles/BTCUSDT.csv         open_time_ms,open,high,low,close,volume
    images/train/BTCUSDT-20240105T130000.png
    index.csv                   image_path,text,label,next_close,split,symbol,window_start
    dataset.json, README.md     what it is, and the config to draw it again

`image_path` is relative to the folder. `window_start` is the UTC open time of the window's
first candle, and an empty `next_close` is one that is not known. Numbers are written so that
they read back the same to the last bit: `candlemark dataset import` draws every picture again
from the candles and says how many agree.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from candlemark.candles.dates import to_iso
from candlemark.candles.export import write as write_candles
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing.card import describe, write_description
from candlemark.dataset.sharing.options import ExportOptions
from candlemark.dataset.sharing.samples import safe_names, samples
from candlemark.progress import track

INDEX = "index.csv"
COLUMNS = ("image_path", "text", "label", "next_close", "split", "symbol", "window_start")
CANDLES = "candles"


def write(dataset: Dataset, folder: Path, options: ExportOptions) -> None:
    """Write candles, pictures, index and card.

    Raises OSError: the disk is full.
    """
    names = safe_names(dataset.manifest.symbols)
    files = {symbol: f"{CANDLES}/{name}.csv" for symbol, name in names.items()}
    (folder / CANDLES).mkdir()
    for one in dataset.series:
        write_candles(one, folder / files[one.symbol])
    with (
        track("exporting", total=len(dataset), unit="samples") as bar,
        (folder / INDEX).open("w", encoding="utf-8", newline="") as file,
    ):
        index = csv.writer(file)
        index.writerow(COLUMNS)
        for split in dataset.split_names:
            (folder / "images" / split).mkdir(parents=True)
            for batch in samples(dataset, split, caption=options.caption, bar=bar):
                for path, png in zip(batch.image_path, batch.png, strict=True):
                    (folder / path).write_bytes(png)
                index.writerows(
                    zip(
                        batch.image_path,
                        batch.text,
                        batch.label,
                        map(_number, batch.next_close),
                        [split] * len(batch),
                        batch.symbol,
                        map(to_iso, batch.window_start_ms),
                        strict=True,
                    )
                )
    description = describe(dataset, caption=options.caption, form="folder", files=files)
    write_description(description, folder)


def _number(value: Any) -> str:
    return "" if value is None else repr(value)
