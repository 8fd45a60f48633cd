"""Pictures a second into and out of every store, next to plain h5py with gzip.

    python perf/stores.py [--pictures 1000000] [--sample 2000] [--folder DIR] [--json stores.json]

First a dataset of `ohlc4` pictures, 500 x 400 pixels of 100 bars, is built into one HDF5 file,
from candles to finished manifest: seconds, size and the most memory held. Then the same
pictures are drawn just as fast and written by plain h5py with gzip in chunks of one picture,
as many as take a few seconds. Last, every format writes a sample of two styles and reads it
back, in order and at random, in batches of 64; where a second read finds its files in memory,
as they do here, these are warm rates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from candlemark.candles.series import CandleSeries
from candlemark.charts.packed import packed_shape
from candlemark.charts.style import ChartStyle
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.drawing import Painter
from candlemark.dataset.index import Index
from candlemark.dataset.labels import LabelConfig
from candlemark.dataset.lazy import levels_of
from candlemark.dataset.select import select_windows
from candlemark.dataset.storage.base import StorageConfig, open_reader, open_writer
from candlemark.dataset.streaming import store_images
from market import walk

BATCH = 64
GZIP_SECONDS = 3.0

GOALS = {"seconds": 40.0, "share_of_raw": 0.002, "peak_bytes": 1 << 30, "times_gzip": 40.0}
"""What a million pictures are held against, on two cores."""

BARS = DatasetConfig(
    window=100, style=ChartStyle(kind="ohlc4"), label=LabelConfig(name="next_candle")
)
CANDLES = DatasetConfig(
    window=30,
    style=ChartStyle(kind="candlestick", volume=True, moving_averages=(7, 25)),
    label=LabelConfig(name="next_candle"),
)
SAMPLES = {"ohlc4 500x400": BARS, "candlestick 224x224": CANDLES}

STORES: dict[str, StorageConfig] = {
    "hdf5": StorageConfig(format="hdf5"),
    "hdf5, not packed": StorageConfig(format="hdf5", packing="none"),
    "npz": StorageConfig(format="npz"),
    "npz, packed": StorageConfig(format="npz", packing="bits"),
    "zarr": StorageConfig(format="zarr"),
    "zarr, packed": StorageConfig(format="zarr", packing="bits"),
    "png": StorageConfig(format="png"),
    "jpeg": StorageConfig(format="jpeg"),
}


def market(windows: int, window: int) -> CandleSeries:
    """Candles that give at least `windows` windows; some are purged between the splits."""
    return walk(windows + 8 * window + 200, price=1000, pull=0.0005, cents=True)


class Peak:
    """The most memory that this process held since `reset`, in bytes; None if unknown."""

    def reset(self) -> None:
        """Begin anew, where the system can."""
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def read(self) -> int | None:
        """Resident bytes at the highest."""
        if not Path("/proc/self/status").exists():
            return None
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """An empty folder that goes away."""
    path = Path(tempfile.mkdtemp(prefix="candlemark-stores-", dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def build(pictures: int, folder: Path) -> dict[str, Any]:
    """Build the large dataset and read it back."""
    config = BARS.model_copy(update={"storage": STORES["hdf5"]})
    build_dataset(config, folder / "warm", candles=[market(BATCH, 100)])
    series, peak = market(pictures, 100), Peak()
    peak.reset()
    begin = time.perf_counter()
    dataset = build_dataset(config, folder / "data", candles=[series])
    seconds = time.perf_counter() - begin
    held = peak.read()
    count, raw = len(dataset), int(np.prod(dataset.image_shape))
    sizes = {path.name: path.stat().st_size for path in dataset.path.iterdir()}
    reads = read_rates(dataset.images, count, dataset.image_shape, seconds=3.0)
    return {
        "pictures": count,
        "seconds": seconds,
        "pictures_per_s": count / seconds,
        "bytes_per_picture": sizes["images.h5"] / count,
        "share_of_raw": sizes["images.h5"] / count / raw,
        "file_bytes": sizes,
        "peak_bytes": held,
        **reads,
    }


def read_rates(
    read: Any, count: int, shape: tuple[int, ...], *, seconds: float
) -> dict[str, float]:
    """Pictures a second in order and at random into one buffer, `seconds` of each at most."""
    out = np.empty((BATCH, *shape), dtype=np.uint8)
    random = np.random.default_rng(1)
    orders = {"sequential": np.arange(count), "random": random.permutation(count)}
    rates = {}
    for name, order in orders.items():
        read(order[:BATCH], out=out[: len(order[:BATCH])])
        done, begin = 0, time.perf_counter()
        while done < count and time.perf_counter() - begin < seconds:
            rows = order[done : done + BATCH]
            done += len(read(rows, out=out[: len(rows)]))
        rates[f"read_{name}_per_s"] = done / (time.perf_counter() - begin)
    return rates


def selected(config: DatasetConfig, count: int) -> tuple[Painter, Index]:
    """A painter and the first `count` windows of a market."""
    series = [market(count, config.window)]
    return Painter(config, series), select_windows(config, series).index.take(slice(0, count))


def gzip(config: DatasetConfig, count: int, folder: Path) -> dict[str, float]:
    """Plain h5py with gzip, in chunks of one picture: the peer."""
    painter, index = selected(config, count)
    shape = config.image_shape
    batch = np.empty((BATCH, *shape), dtype=np.uint8)
    path = folder / "gzip.h5"
    with h5py.File(path, "w") as file:
        images = file.create_dataset(
            "images", (count, *shape), np.uint8, chunks=(1, *shape), compression="gzip"
        )
        done, begin = 0, time.perf_counter()
        while done < count and time.perf_counter() - begin < GZIP_SECONDS:
            part = index.take(slice(done, done + BATCH))
            images[done : done + len(part)] = painter.draw(part, out=batch[: len(part)])
            done += len(part)
        file.flush()
        seconds = time.perf_counter() - begin
    size = path.stat().st_size
    with h5py.File(path, "r") as file:
        held = file["images"]

        def read(rows: npt.NDArray[np.int64], out: npt.NDArray[np.uint8]) -> Any:
            for position, row in enumerate(rows.tolist()):
                held.read_direct(out, np.s_[row], np.s_[position])
            return out

        reads = read_rates(read, done, shape, seconds=1.0)
    return {"write_per_s": done / seconds, "bytes_per_picture": size / done, **reads}


def sample(
    config: DatasetConfig, storage: StorageConfig, count: int, folder: Path
) -> dict[str, float]:
    """Write and read `count` pictures in one format."""
    painter, index = selected(config, count)
    shape, levels = config.image_shape, levels_of(config)
    about: dict[str, Any] = {"count": count, "shape": shape, "levels": levels}
    writer = open_writer(storage, folder, **about)

    def draw(rows: slice, out: npt.NDArray[np.uint8]) -> None:
        work = painter.draw_packed if writer.packed else painter.draw
        work(index.take(rows), out=out, threads=1)

    begin = time.perf_counter()
    try:
        row_shape = packed_shape(shape) if writer.packed else shape
        store_images(writer, draw, count=count, row_shape=row_shape, folder=folder)
    finally:
        writer.close()
    seconds = time.perf_counter() - begin
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    reads = read_rates(
        open_reader(storage, folder, **about).read, count, config.image_shape, seconds=1.0
    )
    return {"write_per_s": count / seconds, "bytes_per_picture": size / count, **reads}


def measure(pictures: int, count: int, folder: Path | None = None) -> dict[str, Any]:
    """Everything, as JSON types: "build", "gzip", "times_gzip", "goals" and "formats"."""
    with scratch(folder) as place:
        built = build(pictures, place)
        peer = gzip(BARS, count, place)
    formats: dict[str, dict[str, dict[str, float]]] = {}
    for title, config in SAMPLES.items():
        rows = formats[title] = {}
        for name, storage in STORES.items():
            if storage.packing == "bits" and levels_of(config) is None:
                continue
            if name == "hdf5, not packed" and levels_of(config) is None:
                continue
            with scratch(folder) as place:
                rows[name] = sample(config, storage, count, place)
        with scratch(folder) as place:
            rows["plain h5py, gzip"] = gzip(config, count, place)
    times = built["pictures_per_s"] / peer["write_per_s"]
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "build": built,
        "gzip": peer,
        "times_gzip": times,
        "goals": GOALS,
        "formats": formats,
    }


def show(results: dict[str, Any]) -> None:
    built, peer = results["build"], results["gzip"]
    held = built["peak_bytes"]
    memory = "unknown" if held is None else f"{held / 2**20:,.0f} MiB"
    print(
        f"{built['pictures']:,} ohlc4 pictures of 500 x 400 into one HDF5 file on "
        f"{results['cores']} cores: {built['seconds']:.1f} s, "
        f"{built['pictures_per_s']:,.0f} pictures/s, "
        f"{built['bytes_per_picture']:.0f} bytes each ({built['share_of_raw']:.3%} of raw), "
        f"at most {memory} of memory"
    )
    print(
        f"plain h5py with gzip, one thread: {peer['write_per_s']:,.0f} pictures/s, "
        f"{peer['bytes_per_picture']:,.0f} bytes each; {results['times_gzip']:.0f} times slower"
    )
    print(
        f"reading the large file: {built['read_sequential_per_s']:,.0f} pictures/s in order, "
        f"{built['read_random_per_s']:,.0f} at random"
    )
    for title, rows in results["formats"].items():
        print(f"\n{title:24}{'write/s':>10}{'bytes each':>12}{'read/s':>10}{'random/s':>10}")
        for name, row in rows.items():
            print(
                f"{name:24}{row['write_per_s']:10,.0f}{row['bytes_per_picture']:12,.0f}"
                f"{row['read_sequential_per_s']:10,.0f}{row['read_random_per_s']:10,.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=1_000_000, help="of the large dataset")
    parser.add_argument("--sample", type=int, default=2000, help="pictures for each format")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    results = measure(arguments.pictures, arguments.sample, arguments.folder)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
