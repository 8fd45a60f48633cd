"""Pictures a second into a training loop, and their bytes: drawn on request or read from files.

    python perf/loading.py [--pictures 10000] [--seconds 3] [--folder DIR] [--json loading.json]

The same shuffled pictures come in batches of 256 uint8 tensors, in turn from this package's
lazy dataset and from the formats that people use, each written and read by its own library as
its documentation shows: HDF5 (gzip, a picture a chunk), npz (savez_compressed, a picture a
file), Zarr (default codec, a picture a chunk), PNG and JPEG files, WebDataset shards, Parquet
with PNG bytes through `datasets`. Each of those is given torch's DataLoader without workers
and with two, and the faster counts.

cold: the files are put out of the page cache (fsync, then POSIX_FADV_DONTNEED on each), and
    time runs from opening the dataset, over one epoch at most. Names and inodes may stay in the
    kernel's caches, and what lies below a virtual disk keeps its own.
warm: everything was read before; time runs from the first batch, over as many epochs as fit.
bytes: the sum of file sizes (`allocated`: what the file system sets aside for them). Ours are
    candles.parquet and index.parquet, all that is needed to draw every picture.

Prices and volumes are a seeded random walk, quoted as an exchange quotes them: two and five
decimal places. One window begins at each candle.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from candlemark.charts.style import ChartStyle
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.labels import LabelConfig
from candlemark.dataset.lazy import Dataset, open_dataset
from candlemark.dataset.loader import ChartLoader, EpochBatches
from candlemark.dataset.torch_dataset import ChartDataset, whole_batch
from formats import BATCH, FORMATS, Batches, Format
from market import walk

WORKERS = (0, 2)

CASES: dict[str, tuple[ChartStyle, int]] = {
    "jkx 64x60": (ChartStyle(kind="jkx"), 20),
    "candlestick 224x224": (
        ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25)),
        30,
    ),
}


def build(style: ChartStyle, window: int, pictures: int, folder: Path) -> Dataset:
    """A lazy dataset of about `pictures` windows; the splits take a few for their gaps."""
    config = DatasetConfig(window=window, style=style, label=LabelConfig(name="next_candle"))
    history = config.history
    count = pictures + 3 * (window + history) + 1
    return build_dataset(
        config, folder, candles=[walk(count, price=50_000, step=0.005, volume=6, cents=True)]
    )


def forget(folder: Path) -> None:
    """Put the files of a folder out of the page cache."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def cold_rate(open_batches: Callable[[], Batches], seconds: float) -> float:
    """Pictures a second from opening on, over one epoch or `seconds`."""
    begin, count = time.perf_counter(), 0
    for images, _ in open_batches():
        count += len(images)
        if time.perf_counter() - begin >= seconds:
            break
    return count / (time.perf_counter() - begin)


def warm_rate(open_batches: Callable[[], Batches], seconds: float) -> float:
    """Pictures a second after the first batch, over as many epochs as fit into `seconds`."""
    batches = open_batches()
    count, begin = 0, None
    while True:
        for images, _ in batches:
            if begin is None:
                begin = time.perf_counter()
                continue
            count += len(images)
            if time.perf_counter() - begin >= seconds and count >= BATCH:
                return count / (time.perf_counter() - begin)


def both_rates(folder: Path, open_batches: Callable[[], Batches], seconds: float) -> dict[str, Any]:
    """Cold and warm pictures a second of one reader."""
    # Compiled code and library imports are no part of reading.
    next(iter(open_batches()))
    forget(folder)
    return {
        "cold_pictures_per_s": cold_rate(open_batches, seconds),
        "warm_pictures_per_s": warm_rate(open_batches, seconds),
    }


def sizes(paths: Iterable[Path]) -> dict[str, int]:
    """Bytes in files, and bytes that the file system sets aside for them."""
    found = [path.stat() for path in paths if path.is_file()]
    return {
        "bytes": sum(one.st_size for one in found),
        "allocated_bytes": sum(one.st_blocks * 512 for one in found),
    }


def measure_lazy(folder: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Our loader on one thread and on all cores, and torch's DataLoader."""
    cores = len(os.sched_getaffinity(0))

    def chart_data() -> ChartDataset:
        dataset = open_dataset(folder)
        return ChartDataset(dataset, np.arange(len(dataset)))

    def own(threads: int) -> Callable[[], Batches]:
        return lambda: ChartLoader(chart_data(), batch_size=BATCH, threads=threads)

    def torchs(workers: int) -> Callable[[], Batches]:
        def opened() -> Batches:
            data = chart_data()
            return DataLoader(
                data,
                batch_sampler=EpochBatches(len(data), batch_size=BATCH),
                collate_fn=whole_batch,
                num_workers=workers,
                persistent_workers=workers > 0,
            )

        return opened

    readers = {"lazy, 1 thread": own(1), f"lazy, {cores} threads": own(cores)}
    readers |= {f"lazy, DataLoader, {count} workers": torchs(count) for count in WORKERS}
    own_sizes = sizes(folder / name for name in ("candles.parquet", "index.parquet"))
    return {
        name: {"ours": True, **both_rates(folder, reader, seconds), **own_sizes}
        for name, reader in readers.items()
    }


def measure_format(one: Format, folder: Path, dataset: Dataset, seconds: float) -> dict[str, Any]:
    """Write all pictures in a format, and read them with the better number of workers."""
    folder.mkdir()
    rows = np.arange(len(dataset))
    labels = dataset.targets(rows)
    blocks = (dataset.images(rows[first : first + BATCH]) for first in range(0, len(rows), BATCH))
    begin = time.perf_counter()
    one.write(folder, (picture for block in blocks for picture in block), labels)
    written = time.perf_counter() - begin
    found = {
        workers: both_rates(folder, functools.partial(one.open, folder, labels, workers), seconds)
        for workers in WORKERS
    }
    best: dict[str, Any] = {"ours": False, "write_s": written, **sizes(folder.rglob("*"))}
    for name in ("cold_pictures_per_s", "warm_pictures_per_s"):
        workers = max(WORKERS, key=lambda count: float(found[count][name]))
        best[name] = found[workers][name]
        best[name.replace("pictures_per_s", "workers")] = workers
    return best


def measure_case(
    style: ChartStyle, window: int, pictures: int, seconds: float, folder: Path
) -> dict[str, Any]:
    """All readers of one kind of picture, and ours beside the best of the others."""
    dataset = build(style, window, pictures, folder / "lazy")
    rows = measure_lazy(dataset.path, seconds)
    missing = []
    for name, one in FORMATS.items():
        try:
            importlib.import_module(one.library)
        except ImportError:
            missing.append(name)
            continue
        place = folder / "format"
        rows[name] = measure_format(one, place, dataset, seconds)
        shutil.rmtree(place)
        shutil.rmtree(folder / "parquet-cache", ignore_errors=True)
    return {
        "pictures": len(dataset),
        "image_shape": list(dataset.image_shape),
        "rows": rows,
        "not_installed": missing,
        **compare(rows),
    }


def compare(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Our fastest reader beside the fastest, and beside the smallest, of the formats."""
    ours = {name: row for name, row in rows.items() if row["ours"]}
    others = {name: row for name, row in rows.items() if not row["ours"]}
    found: dict[str, Any] = {}
    for kind in ("cold", "warm"):
        key = f"{kind}_pictures_per_s"
        best = max(others, key=lambda name: float(others[name][key]))
        found[f"{kind}_best_format"] = best
        found[f"{kind}_ratio"] = max(row[key] for row in ours.values()) / others[best][key]
    own = next(iter(ours.values()))
    for key in ("bytes", "allocated_bytes"):
        found[f"share_of_{key}"] = {name: own[key] / row[key] for name, row in others.items()}
    return found


def measure(
    pictures: int = 10_000, seconds: float = 3.0, folder: Path | None = None
) -> dict[str, Any]:
    """Every case; a plain dict that can be written as JSON.

    folder: where the formats are written, on the disk that is to be measured
    """
    results: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "batch": BATCH,
        "cases": {},
    }
    # Fewer cores than workers, and forking beside threads, are part of what is measured.
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir=folder) as scratch:
        warnings.simplefilter("ignore")
        for number, (name, (style, window)) in enumerate(CASES.items()):
            place = Path(scratch) / str(number)
            place.mkdir()
            results["cases"][name] = measure_case(style, window, pictures, seconds, place)
            shutil.rmtree(place)
    return results


def show(results: dict[str, Any]) -> None:
    for name, case in results["cases"].items():
        print(f"{name}: {case['pictures']:,} pictures, batches of {results['batch']}")
        print(
            f"  {'':32}{'cold/s':>12}{'warm/s':>12}{'bytes each':>12}{'ours of it':>12}"
            f"{'on disk':>10}{'ours of it':>12}"
        )
        for reader, row in case["rows"].items():
            line = f"  {reader:32}{row['cold_pictures_per_s']:12,.0f}"
            line += f"{row['warm_pictures_per_s']:12,.0f}"
            for key, width in (("bytes", 12), ("allocated_bytes", 10)):
                share = case[f"share_of_{key}"].get(reader)
                line += f"{row[key] / case['pictures']:{width},.1f}"
                line += f"{'' if share is None else f'{share:.2%}':>12}"
            print(line)
        for kind in ("cold", "warm"):
            best = case[f"{kind}_best_format"]
            print(f"  {kind}: {case[f'{kind}_ratio']:.1f}x the fastest format, {best}")
        for absent in case["not_installed"]:
            print(f"  {absent}: not installed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000, help="windows of each case")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each reading")
    parser.add_argument("--folder", type=Path, help="where to write, on the disk to measure")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    results = measure(arguments.pictures, arguments.seconds, arguments.folder)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
