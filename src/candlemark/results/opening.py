"""Opening a store file: which file is meant, and one sentence for each way it can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from candlemark.errors import ResultsError
from candlemark.results.schema import VERSION, migrate, stored_version

FILE_NAME = "candlemark.duckdb"
_HOLDER = re.compile(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_REASONS: tuple[tuple[str, str], ...] = (
    (
        "No space left|not enough space|disk full",
        "cannot grow, as the disk is full; free some space and run the command again",
    ),
    ("Could not set lock", "is in use by another process; wait until it ends"),
    ("different configuration", "is open in this process in the other mode; close it first"),
    (
        "not a valid DuckDB",
        "is not a DuckDB file; name another folder with --results-dir or --output-dir",
    ),
    (
        "newer version of DuckDB|storage version",
        (
            f"was written by another DuckDB than {duckdb.__version__}; "
            "update with: python -m pip install -U duckdb"
        ),
    ),
    (
        "corrupt|checksum|replay|deserializ|read enough bytes",
        "is damaged; restore a copy, or move it away and run the suite again",
    ),
)


_HEADER_BYTES = 3 * 4096
"""DuckDB's main header and its two database headers; a file that ends earlier holds no data."""


def store_path(path: str | Path) -> Path:
    """The file that `path` means: itself, or `candlemark.duckdb` in a folder.

    A folder that holds none but has a `results` folder means the one in there.
    """
    path = Path(path).expanduser()
    if path.suffix == ".duckdb":
        return path
    below = path / "results" / FILE_NAME
    return below if below.is_file() and not (path / FILE_NAME).is_file() else path / FILE_NAME


def connect(file: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection, or ResultsError with the reason in one line."""
    try:
        if not read_only:
            file.parent.mkdir(parents=True, exist_ok=True)
        return _open(file, read_only=read_only)
    except OSError as error:
        raise ResultsError(f"cannot make {file.parent}: {error.strerror}") from error
    except duckdb.Error as error:
        if read_only or "set lock" in str(error) or not _is_stub(file):
            raise ResultsError(_why_not_open(file, str(error))) from error
    # A full disk or a kill ended the making of this store before it could hold anything.
    file.unlink()
    try:
        return _open(file, read_only=read_only)
    except duckdb.Error as error:
        if _is_stub(file):
            file.unlink()
        raise ResultsError(_why_not_open(file, str(error))) from error


def _open(file: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        str(file),
        read_only=read_only,
        # Nothing is fetched over the network on behalf of a query.
        config={"autoinstall_known_extensions": "false"},
    )


def _is_stub(file: Path) -> bool:
    """Whether the file is the beginning of a DuckDB file, too short to hold anything."""
    if not file.is_file() or file.stat().st_size >= _HEADER_BYTES:
        return False
    with file.open("rb") as stream:
        head = stream.read(12)
    return not head or head[8:] == b"DUCK"


def _why_not_open(file: Path, message: str) -> str:
    """One sentence for what DuckDB says when a file cannot be used."""
    holder = _HOLDER.search(message)
    if holder:
        program, pid = Path(holder["program"]).name, holder["pid"]
        return (
            f"{file} is in use by {program} (process {pid}); wait until it ends, "
            f"or end it with: kill {pid}"
        )
    for pattern, reason in _REASONS:
        if re.search(pattern, message, re.IGNORECASE):
            return f"{file} {reason}"
    return f"cannot use {file}: {message.splitlines()[0]}"


def bring_up_to_date(connection: duckdb.DuckDBPyConnection, file: Path, *, read_only: bool) -> None:
    """Migrate an older store; ResultsError for a newer one or one that is not ours."""
    version = stored_version(connection)
    if version is None:
        raise ResultsError(
            f"{file} is a DuckDB file but no candlemark store; "
            "name another folder with --results-dir or --output-dir"
        )
    if version > VERSION:
        raise ResultsError(
            f"{file} has schema {version}, this candlemark reads up to {VERSION}; "
            "update with: python -m pip install -U candlemark"
        )
    if version < VERSION and read_only:
        raise ResultsError(
            f"{file} has schema {version}, this candlemark reads {VERSION}; "
            "bring it up to date with: candlemark results upgrade"
        )
    if version < VERSION:
        migrate(connection)


@contextmanager
def readable_errors(file: Path) -> Iterator[None]:
    """Turn what DuckDB raises inside into ResultsError."""
    try:
        yield
    except duckdb.Error as error:
        raise ResultsError(_why_not_open(file, str(error))) from error
