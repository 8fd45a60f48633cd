"""Binance klines: twelve columns, in a zipped CSV of the archive or as JSON from the API.

    raw = parse_csv(unzip(data, limit_bytes=10**6, where="x.zip"), market="spot", where="x.zip")

What the twelve columns hold (counted from 1): open time, open, high, low, close, volume,
close time, quote volume, trades, taker buy volume, taker buy quote volume, ignored. Spot
files have no header line, newer futures files have one. Stamps are milliseconds, and in spot
files from 2025 on microseconds: decided by value.

In COIN-M files ("cm") column 6 counts contracts, and columns 8 and 11 hold volume in the
*base* coin, whatever the header says. `volume` is the base coin's in every market here, so
for "cm" it is read from column 8.

Close times are not read: on outage days they are odd, and the interval says the same.
"""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from candlemark.candles.raw import RawCandles, stamps_to_ms
from candlemark.errors import CandleError, FetchError

if TYPE_CHECKING:
    import pyarrow as pa

KLINE_COLUMNS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
VOLUME_COLUMN = {"spot": "volume", "um": "volume", "cm": "quote_volume"}
"""The column that holds base volume, by market."""

# Real klines compress three- to twentyfold; deflate itself cannot pass 1032.
MAX_RATIO = 200

_HEAD_BYTES = 4096
_BOM = b"\xef\xbb\xbf"
_GZIP_HEADER = b"\x1f\x8b\x08" + bytes(7)
_LOCAL_HEADER = struct.Struct("<26sHH")

# What `zipfile` raises for damaged archives, found by flipping every bit of one.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def arrow_reader(data: bytes) -> pa.BufferReader:
    """A file of `data` in Arrow's own memory, see `_arrow_buffer`."""
    import pyarrow as pa

    return pa.BufferReader(_arrow_buffer(data))


def _arrow_buffer(data: bytes) -> pa.Buffer:
    """A copy of `data` in Arrow's own memory.

    Arrow's threads take the interpreter's lock to read or free anything of Python's. One that
    is late for the end of the program then aborts it: exit status 134 after a finished command.
    """
    import pyarrow as pa

    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return buffer


def parse_zip(data: bytes, *, limit_bytes: int, market: str, where: str) -> RawCandles | None:
    """The candles of a zipped CSV; None if the CSV is empty. Errors as `unzip`, `parse_csv`.

    The same as both, one after the other, but the text never leaves Arrow's memory.
    """
    text = _unzip_to_arrow(data, limit_bytes=limit_bytes, where=where)
    return None if _is_blank(text, 0) else _parse_csv(text, market=market, where=where)


def parse_csv(data: bytes, *, market: str, where: str) -> RawCandles:
    """Read kline CSV with or without a header line; read-only columns.

    Raises CandleError: empty, not twelve columns, something that is no number, or stamps of
    mixed units.
    """
    return _parse_csv(_arrow_buffer(data), market=market, where=where)


def _parse_csv(text: pa.Buffer, *, market: str, where: str) -> RawCandles:
    import pyarrow as pa
    from pyarrow import csv

    if text.slice(0, min(len(_BOM), len(text))).to_pybytes() == _BOM:
        text = text.slice(len(_BOM))
    head = text.slice(0, min(_HEAD_BYTES, len(text))).to_pybytes()
    first_line = head.split(b"\n", 1)[0]
    has_header = not _is_number(first_line.split(b",")[0])
    if _is_blank(text, len(first_line) if has_header else 0):
        raise CandleError(f"{where}: holds no candles")
    volume = VOLUME_COLUMN[market]
    wanted = (*KLINE_COLUMNS[:5], volume)
    types = {name: pa.float64() for name in wanted[1:]}
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(
                column_names=list(KLINE_COLUMNS),
                skip_rows=int(has_header),
                use_threads=False,
                # One block gives columns in one piece, which are handed on without a copy.
                block_size=len(text) + 1,
            ),
            convert_options=csv.ConvertOptions(
                column_types={"open_time": pa.int64(), **types},
                include_columns=list(wanted),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise CandleError(f"{where}: not a kline file of 12 columns: {reason}") from error
    columns = {name: table.column(name).to_numpy() for name in wanted}
    return _assemble(columns, volume, where)


def _is_blank(text: pa.Buffer, start: int) -> bool:
    """Whether nothing but white space stands from `start` on; a look at a little often tells."""
    for size in (_HEAD_BYTES, len(text)):
        part = text.slice(start, max(0, min(size, len(text)) - start)).to_pybytes()
        if part and not part.isspace():
            return False
    return True


def parse_json(rows: Sequence[Sequence[Any]], *, market: str, where: str) -> RawCandles:
    """Read the rows of the klines API; the errors of `parse_csv`. No rows give no candles."""
    volume = VOLUME_COLUMN[market]
    wanted = (*KLINE_COLUMNS[:5], volume)
    if any(not isinstance(row, list) or len(row) != len(KLINE_COLUMNS) for row in rows):
        raise CandleError(f"{where}: a row does not have the 12 columns of a kline")
    try:
        columns = {
            name: np.array(
                [row[KLINE_COLUMNS.index(name)] for row in rows],
                dtype=np.int64 if name == "open_time" else np.float64,
            )
            for name in wanted
        }
    except (ValueError, TypeError, OverflowError) as error:
        raise CandleError(f"{where}: a kline holds something that is no number: {error}") from error
    return _assemble(columns, volume, where)


def _assemble(columns: dict[str, np.ndarray], volume: str, where: str) -> RawCandles:
    stamps = columns["open_time"]
    return RawCandles(
        open_time_ms=stamps_to_ms(stamps, where=where) if len(stamps) else stamps,
        open=columns["open"],
        high=columns["high"],
        low=columns["low"],
        close=columns["close"],
        volume=columns[volume],
    )


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def unzip(data: bytes, *, limit_bytes: int, where: str) -> bytes:
    """The one CSV member of a zip archive, its CRC checked.

    Raises FetchError: not a zip, not exactly one member, a name with a path in it, encrypted,
    unpacks to more than `limit_bytes` or more than 200 times its size, or damaged.
    """
    return bytes(_unzip_to_arrow(data, limit_bytes=limit_bytes, where=where).to_pybytes())


def _unzip_to_arrow(data: bytes, *, limit_bytes: int, where: str) -> pa.Buffer:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = _only_member(archive, where)
            if member.file_size > limit_bytes:
                raise FetchError(
                    f"{where}: unpacks to {member.file_size:,} bytes, over the limit of "
                    f"{limit_bytes:,} for its interval and length; refused as a zip bomb"
                )
            if member.file_size > MAX_RATIO * max(member.compress_size, 1):
                raise FetchError(
                    f"{where}: unpacks to over {MAX_RATIO} times its size; refused as a zip bomb"
                )
            if member.compress_type == zipfile.ZIP_DEFLATED and member.file_size:
                return _inflate(data, member)
            with archive.open(member) as stream:
                # A header can lie about the size; reading one byte more than it may hold
                # finds out without unpacking the rest.
                text = stream.read(limit_bytes + 1)
    except _DAMAGE as error:
        raise FetchError(f"{where}: not a readable zip archive: {error}") from error
    if len(text) > limit_bytes:
        raise FetchError(f"{where}: unpacks to over {limit_bytes:,} bytes; refused as a zip bomb")
    return _arrow_buffer(text)


def _inflate(data: bytes, member: zipfile.ZipInfo) -> pa.Buffer:
    """Inflate a member into exactly the bytes that its header promises, and check their CRC.

    `zipfile` does the same in growing pieces that it joins, which takes half as long again. A
    gzip file is the same stream between a header and the same CRC and size, and Arrow's
    decoder refuses whatever does not fit all three.
    """
    import pyarrow as pa

    local = data[member.header_offset : member.header_offset + _LOCAL_HEADER.size]
    if len(local) != _LOCAL_HEADER.size or not local.startswith(b"PK\3\4"):
        raise zipfile.BadZipFile("the member has no header of its own")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(local)
    start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    stream = data[start : start + member.compress_size]
    proof = struct.pack("<II", member.CRC, member.file_size & 0xFFFFFFFF)
    return pa.Codec("gzip").decompress(_GZIP_HEADER + stream + proof, member.file_size)


def _only_member(archive: zipfile.ZipFile, where: str) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) != 1:
        raise FetchError(f"{where}: holds {len(members)} members; a kline archive holds one CSV")
    member = members[0]
    name = member.orig_filename
    if any(mark in name for mark in ("/", "\\", "\0", ":")) or name in {"", ".", ".."}:
        raise FetchError(f"{where}: its member is called {name!r}, a path; refused")
    if member.flag_bits & 0x1:
        raise FetchError(f"{where}: its member is encrypted; refused")
    return member
