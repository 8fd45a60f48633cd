"""Candles from a file: CSV, Parquet, Feather, or a Binance kline zip.

    raw = read_file(Path("prices.csv"))
    raw = read_file(Path("odd.csv"), columns={"open_time_ms": "when", "close": "last"})

Columns are found by their usual names in any case (`Date`, `Open Time`, `unix`, `High`,
`Vol`, ...), or named by the caller. Stamps may be text, timestamps (naive means UTC) or
numbers, whose unit (seconds to nanoseconds) is decided by value. A CSV without a header line
is read as the 12 Binance columns, or as time, open, high, low, close, volume.

Rows keep their order, except that a file that runs strictly backwards in time (newest first)
is turned round, with a note.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from candlemark.candles.dates import parse_date
from candlemark.candles.klines import KLINE_COLUMNS, VOLUME_COLUMN, arrow_reader, parse_csv, unzip
from candlemark.candles.raw import RawCandles, stamps_to_ms
from candlemark.candles.series import COLUMNS, FloatArray, IntArray
from candlemark.errors import CandleError, ConfigError, NotFoundError
from candlemark.progress import note

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".txt", ".parquet", ".feather", ".arrow", ".zip")

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "open_time_ms": (
        *("opentimems", "opentime", "timestampms", "timestamp", "unixtimestamp", "unix"),
        *("unixtime", "datetime", "date", "time", "startdate", "starttime", "start", "ts", "t"),
    ),
    "open": ("open", "openprice", "o"),
    "high": ("high", "highprice", "max", "h"),
    "low": ("low", "lowprice", "min", "l"),
    "close": ("close", "closeprice", "closelast", "last", "price", "c"),
    "volume": ("volume", "vol", "basevolume", "volumebase", "tickvolume", "v"),
}
"""Names that are recognised, best first, without case, spaces and signs."""

NO_VOLUME = "none"
"""`columns={"volume": "none"}`: the file has no volume, and every candle gets 0."""

_MAX_UNZIPPED_BYTES = 2**30
_HEADER_LINES = 10
_DAY_NUMBERS = 10**8
"""Whole numbers below this are days such as 20240105; seconds since 1973 are above it."""
_SYMBOL_IN_NAME = re.compile(r"[A-Z0-9]+(?:_PERP)?")


def is_file_name(source: str) -> bool:
    """Whether a source names a file: it has a known suffix, starts as a path, or exists."""
    path_like = source.startswith(("/", "./", "../", "~", ".\\", "..\\"))
    # Not of pathlib: that raises where no file can have such a name.
    there = os.path.isfile(source)  # noqa: PTH113
    return path_like or source.lower().endswith(SUFFIXES) or there


def symbol_of(path: Path) -> str:
    """The symbol a file name starts with (`BTCUSDT-1h-2024-01.zip`), else its stem."""
    stem = path.name.split(".")[0].upper()
    match = _SYMBOL_IN_NAME.match(stem)
    return match[0] if match else stem or "FILE"


def read_file(
    path: Path, *, columns: Mapping[str, str] | None = None, market: str = "spot"
) -> RawCandles:
    """Read the candles of one file, unchecked but for their types.

    columns: open_time_ms, open, high, low, close, volume -> the file's own column name
    market: only for kline files: which column holds base volume

    Raises NotFoundError: no such file. CandleError: its form, columns or stamps are not
    understood. ConfigError: `columns` names what candles do not have.
    """
    named = dict(columns or {})
    if unknown := sorted(set(named) - set(USUAL_NAMES)):
        raise ConfigError(f"columns names '{unknown[0]}'; known: {', '.join(USUAL_NAMES)}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise NotFoundError(f"{path} {what}; name a file ending in {', '.join(SUFFIXES)}")
    name = path.name.lower()
    try:
        if name.endswith(".zip"):
            text = unzip(path.read_bytes(), limit_bytes=_MAX_UNZIPPED_BYTES, where=path.name)
            return _newest_last(_read_text(text, path, named, market), path)
        if name.endswith((".parquet", ".feather", ".arrow")):
            table = _read_binary(path)
        elif name.endswith((".csv", ".csv.gz", ".tsv", ".txt")):
            return _newest_last(_read_text(_text(path), path, named, market), path)
        else:
            raise CandleError(f"{path.name}: unknown form; known: {', '.join(SUFFIXES)}")
    except OSError as error:
        raise CandleError(f"cannot read {path}: {error.strerror or error}") from error
    return _newest_last(_from_table(table, named, path.name), path)


def _text(path: Path) -> bytes:
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        return bytes(stream.read())


def _read_binary(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import feather, parquet

    try:
        if path.suffix.lower() == ".parquet":
            return parquet.read_table(path)
        return feather.read_table(path)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise CandleError(f"{path.name} is damaged or of another form: {reason}") from error


def _read_text(data: bytes, path: Path, named: dict[str, str], market: str) -> RawCandles:
    import pyarrow as pa
    from pyarrow import csv

    data = data.removeprefix(b"\xef\xbb\xbf")
    skipped, delimiter, fields = _first_row(data, path.name)
    headerless = all(_is_number(field) for field in fields if field)
    kline_names = [field.strip().lower() for field in fields] == list(KLINE_COLUMNS)
    if not named and len(fields) == 12 and (headerless or kline_names) and delimiter == ",":
        rows = data.split(b"\n", skipped)[-1]
        return parse_csv(rows, market=market, where=path.name)
    if kline_names and "volume" not in named:
        named = {**named, "volume": VOLUME_COLUMN[market]}
    names: list[str] | None = None
    if headerless:
        if len(fields) not in {6, 12}:
            raise CandleError(
                f"{path.name} has no header line and {len(fields)} columns; 6 (time, open, high, "
                "low, close, volume) or 12 (Binance) are understood; add a header line"
            )
        names = ["open_time_ms", *COLUMNS] if len(fields) == 6 else list(KLINE_COLUMNS)
    try:
        table = csv.read_csv(
            arrow_reader(data),
            read_options=csv.ReadOptions(skip_rows=skipped, column_names=names),
            parse_options=csv.ParseOptions(delimiter=delimiter),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise CandleError(f"{path.name} is not readable as CSV: {reason}") from error
    return _from_table(table, named, path.name)


def _first_row(data: bytes, where: str) -> tuple[int, str, list[str]]:
    """(lines before it, delimiter, fields) of the first line that is no title or comment."""
    for skipped, line in enumerate(data.splitlines()[:_HEADER_LINES]):
        text = line.decode("utf-8", errors="replace")
        delimiter = max(",;\t", key=text.count)
        if text.count(delimiter) >= 4:
            return skipped, delimiter, [field.strip(' "\r') for field in text.split(delimiter)]
    if not data.strip():
        raise CandleError(f"{where} is empty; it holds no candles")
    raise CandleError(
        f"{where}: no line of at least 5 columns among its first {_HEADER_LINES}; "
        "columns are separated by a comma, semicolon or tab"
    )


def _from_table(table: pa.Table, named: dict[str, str], where: str) -> RawCandles:
    if table.num_rows == 0:
        raise CandleError(f"{where} holds no candles")
    table = _with_index_columns(table)
    found = find_columns(table.column_names, named, where=where)
    values = {
        name: _numbers(table.column(found[name]), found[name], where)
        if found[name] != NO_VOLUME
        else np.zeros(table.num_rows)
        for name in COLUMNS
    }
    name = found["open_time_ms"]
    clock = None if "open_time_ms" in named else _clock_column(table, name)
    column = table.column(name)
    stamps = (
        _stamps(column, name, where)
        if clock is None
        else _text_stamps(_joined(column, table.column(clock)), name, where)
    )
    return RawCandles(open_time_ms=stamps, **values)


def _with_index_columns(table: pa.Table) -> pa.Table:
    """The index that pandas stores under `__index_level_0__`, called by its likely meaning."""
    names = ["open_time_ms" if name == "__index_level_0__" else name for name in table.column_names]
    return table.rename_columns(names)


def find_columns(names: Sequence[str], named: Mapping[str, str], *, where: str) -> dict[str, str]:
    """Which column holds what; CandleError lists the columns there are."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(re.sub(r"[^a-z0-9]", "", name.lower()), name)
    found: dict[str, str] = {}
    for wanted, usual in USUAL_NAMES.items():
        if wanted in named:
            if named[wanted] not in names and not (wanted, named[wanted]) == ("volume", NO_VOLUME):
                raise CandleError(
                    f"{where} has no column '{named[wanted]}'; it has: {_list(names)}"
                )
            found[wanted] = named[wanted]
            continue
        match = next((plain[name] for name in usual if name in plain), None)
        if match is None and wanted == "volume":
            # Exchanges' downloads call it after the coin: "Volume BTC", "Volume USDT".
            match = next((plain[key] for key in plain if key.startswith("volume")), None)
        if match is None:
            hint = ", or --column volume=none if it has none" if wanted == "volume" else ""
            raise CandleError(
                f"{where}: no column is called like {wanted}; it has: {_list(names)}; "
                f"name it with --column {wanted}=NAME{hint}"
            )
        found[wanted] = match
    return found


def _clock_column(table: pa.Table, stamp_name: str) -> str | None:
    """The column with the time of day, where date and time stand apart (`<DATE>`, `<TIME>`)."""
    from pyarrow import types

    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in table.column_names}
    clock = plain.get("time") if plain.get("date") == stamp_name else None
    if clock is None:
        return None
    kind = table.column(clock).type
    # A numeric "time" beside a date is a stamp of its own, not a time of day.
    return clock if types.is_time(kind) or types.is_string(kind) else None


def _joined(dates: Any, clocks: Any) -> list[str]:
    """Dates and times of day as one text a row."""
    import pyarrow as pa
    from pyarrow import compute

    texts = [compute.cast(column, pa.string()).to_pylist() for column in (dates, clocks)]
    return [f"{date or ''} {clock or ''}" for date, clock in zip(*texts, strict=True)]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _numbers(column: Any, name: str, where: str) -> FloatArray:
    """float64 values of a column, NaN where it is empty."""
    import pyarrow as pa
    from pyarrow import compute

    try:
        values = compute.cast(column, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise CandleError(f"{where}: column '{name}' holds no numbers: {reason}") from error
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _stamps(column: Any, name: str, where: str) -> IntArray:
    """Open times in UTC milliseconds from numbers, timestamps, dates or text."""
    import pyarrow as pa
    from pyarrow import compute, types

    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise CandleError(f"{where}: the stamp in row {row} ('{name}') is missing; remove the row")
    kind = column.type
    if types.is_timestamp(kind) or types.is_date(kind):
        try:
            column = compute.cast(column, pa.timestamp("ms", tz=getattr(kind, "tz", None)))
        except pa.ArrowInvalid as error:
            raise CandleError(
                f"{where}: a stamp in '{name}' is no whole number of milliseconds"
            ) from error
        return np.asarray(compute.cast(column, pa.int64()).to_numpy(), dtype=np.int64)
    if types.is_string(kind) or types.is_large_string(kind):
        return _text_stamps(column.to_pylist(), name, where)
    if types.is_integer(kind) and compute.min_max(column).as_py()["max"] < _DAY_NUMBERS:
        return _text_stamps([str(day) for day in column.to_pylist()], name, where)
    if types.is_integer(kind) or types.is_floating(kind):
        units = ("s", "ms", "us", "ns")
        return stamps_to_ms(column.to_numpy(), where=where, units=units)
    raise CandleError(f"{where}: column '{name}' is of type {kind}, which is no time")


def _text_stamps(texts: Sequence[str], name: str, where: str) -> IntArray:
    if all(len(text) > 8 and _is_number(text) for text in texts):
        numbers = np.array([float(text) for text in texts])
        return stamps_to_ms(numbers, where=where, units=("s", "ms", "us", "ns"))
    stamps = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        try:
            stamps[row] = parse_date(text).start_ms
        except ConfigError as error:
            raise CandleError(f"{where}: row {row} of '{name}': {error}") from error
    return stamps


def _newest_last(raw: RawCandles, path: Path) -> RawCandles:
    steps = np.diff(raw.open_time_ms)
    if len(steps) and (steps < 0).all():
        note(f"{path.name} runs from new to old; it was turned round")
        return raw.take(slice(None, None, -1))
    return raw


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
