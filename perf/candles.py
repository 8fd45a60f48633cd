"""Years of minute candles from zips: the first load, every later one, and pandas for scale.

    python perf/candles.py [--months 48] [--repeats 5] [--json candles.json]

Generates an archive in the layout of data.binance.vision in a temporary folder: one zip a month
of 1m klines with numbers of a real look (eight decimals, twelve columns), deflated, each with
its `.CHECKSUM`. Then, each in turn and each the median of `--repeats`:

- `first`: candlemark with an empty cache and the files dropped from the system's own cache;
  every SHA-256 checked, every candle validated, the parsed columns kept.
- `cached`: the same call again.
- `pandas`: `read_csv` of each zip with the same six columns, joined. Nothing is checked.

Libraries are imported before the clock starts.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from candlemark.candles.archive import Archive
from candlemark.candles.archive_files import ArchiveFile, months
from candlemark.candles.cache import Cache
from candlemark.candles.dates import parse_date
from candlemark.candles.fetch import Fetcher
from candlemark.candles.series import CandleSeries, interval_ms

SYMBOL, INTERVAL = "BTCUSDT", "1m"
START = "2020-01"
COLUMNS = ("open_time", "open", "high", "low", "close", "volume")


def generate(folder: Path, count: int) -> list[ArchiveFile]:
    """Write `count` months from 2020-01 on, as large and as compressible as real ones."""
    start = parse_date(START).start_ms
    files = months("spot", SYMBOL, INTERVAL, start, start + count * 32 * 86_400_000)[:count]
    random, price = np.random.default_rng(0), 9000.0
    for file in files:
        csv, price = month_csv(random, price, file.start_ms, file.end_ms)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr(file.name.replace(".zip", ".csv"), csv)
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path.with_name(f"{file.name}.CHECKSUM").write_text(
            f"{digest}  {file.name}\n", encoding="utf-8"
        )
        # As if it had lain there for an hour: what changed just now is hashed again.
        os.utime(path, (time.time() - 3600,) * 2)
    return files


def month_csv(
    random: np.random.Generator, price: float, start_ms: int, end_ms: int
) -> tuple[bytes, float]:
    """(klines of one month, its last price): a random walk in cents."""
    step = interval_ms(INTERVAL)
    opened = np.arange(start_ms, end_ms, step)
    count = len(opened)
    close = np.round(price * np.exp(np.cumsum(random.normal(0, 8e-4, count))), 2)
    first = np.concatenate([[price], close[:-1]])
    high = np.round(np.maximum(first, close) * (1 + random.exponential(3e-4, count)), 2)
    low = np.round(np.minimum(first, close) * (1 - random.exponential(3e-4, count)), 2)
    volume = np.round(random.lognormal(3, 1.2, count), 6)
    bought = np.round(volume * random.uniform(0.2, 0.8, count), 6)
    trades = (volume * 12 + 1).astype(int)
    rows = zip(
        *(opened, first, high, low, close, volume, opened + step - 1, volume * close),
        *(trades, bought, bought * close),
        strict=True,
    )
    row = "%d,%.8f,%.8f,%.8f,%.8f,%.8f,%d,%.8f,%d,%.8f,%.8f,0\n"
    return "".join(row % values for values in rows).encode(), float(close[-1])


def load(folder: Path, cache: Path, files: list[ArchiveFile]) -> CandleSeries:
    """The series, as `load_candles` makes it."""
    archive = Archive(Fetcher(folder.as_uri()), cache=Cache(cache))
    raw = archive.load(SYMBOL, INTERVAL, start_ms=files[0].start_ms, end_ms=files[-1].end_ms)
    return raw.to_series(symbol=SYMBOL, interval=INTERVAL)


def load_with_pandas(folder: Path, files: list[ArchiveFile]) -> pd.DataFrame:
    return pd.concat(
        pd.read_csv(folder / file.path, header=None, usecols=range(6), names=COLUMNS)
        for file in files
    )


def drop_from_memory(folder: Path) -> None:
    """Ask the system to forget every file's pages, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    os.sync()
    for path in folder.rglob("*.zip*"):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    result = work()
    took = time.perf_counter() - begin
    del result
    return took


def measure(*, month_count: int = 48, repeats: int = 5) -> dict[str, Any]:
    """Medians in seconds, and what was loaded; a plain dict."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "archive"
        files = generate(folder, month_count)
        # The first caller of a library pays for its import; here a month does.
        load(folder, Path(temporary) / "warm", files[:1])
        load_with_pandas(folder, files[:1])
        first, cached, peer = [], [], []
        for turn in range(repeats):
            cache = Path(temporary) / f"cache-{turn}"
            ours = functools.partial(load, folder, cache, files)
            drop_from_memory(folder)
            first.append(seconds(ours))
            cached += [seconds(ours) for _ in range(3)]
            drop_from_memory(folder)
            peer.append(seconds(functools.partial(load_with_pandas, folder, files)))
        series, frame = load(folder, cache, files), load_with_pandas(folder, files)
        assert np.array_equal(series.close, frame["close"].to_numpy())
        assert np.array_equal(series.open_time_ms, frame["open_time"].to_numpy())
        zips = [folder / file.path for file in files]
        parsed = sum(path.stat().st_size for path in cache.rglob("*.candles"))
        return {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "rows": len(series),
            "zips": len(zips),
            "zip_bytes": sum(path.stat().st_size for path in zips),
            "parsed_bytes": parsed,
            "first_s": statistics.median(first),
            "cached_s": statistics.median(cached),
            "pandas_s": statistics.median(peer),
        }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['rows']:,} candles in {found['zips']} zips, {found['zip_bytes'] / 1e6:,.0f} MB; "
        f"{found['cores']} cores"
    )
    for name, what in (("first", "checked"), ("cached", "checked"), ("pandas", "unchecked")):
        took = found[f"{name}_s"]
        print(f"{name:8}{took:8.3f} s  {found['rows'] / took / 1e6:7.2f} M candles/s  ({what})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    found = measure(month_count=arguments.months, repeats=arguments.repeats)
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
