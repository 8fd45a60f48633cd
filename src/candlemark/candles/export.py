"""Candles written to a file that `candlemark.candles.files` reads back unchanged.

write(series, Path("btc.parquet"))
"""

from __future__ import annotations

from pathlib import Path

from candlemark.candles.series import CandleSeries
from candlemark.errors import CandlemarkError, ConfigError

SUFFIXES = (".parquet", ".feather", ".csv")


def check_suffix(path: Path) -> None:
    """Refuse a form that cannot be written, before anything is fetched for it."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"cannot write '{path.name}'; name a file ending in {', '.join(SUFFIXES)}"
        )


def write(series: CandleSeries, path: Path) -> None:
    """Write open_time_ms, open, high, low, close, volume; the file appears whole or not at all.

    Raises ConfigError: unknown suffix. CandlemarkError: the folder cannot be written.
    """
    check_suffix(path)
    from pyarrow import csv, feather, parquet

    table = series.to_arrow()
    temporary = path.with_name(f".{path.name}.partial")
    try:
        if path.suffix.lower() == ".parquet":
            parquet.write_table(table, temporary)
        elif path.suffix.lower() == ".feather":
            feather.write_feather(table, str(temporary))
        else:
            csv.write_csv(table, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CandlemarkError(f"cannot write {path}: {error.strerror or error}") from error
