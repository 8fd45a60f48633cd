"""The index of a folder of pictures, as anybody's script may have written it.

    index = read_index(Path("shared/btc"))
    index.image_path, index.label            # list[str], one a picture
    index.line(7)                            # "index.csv line 9"

A folder has one CSV at its top with a column of picture paths and a column of labels; columns
are found by their usual names in any case (see `USUAL_NAMES`). Text, next close, split, symbol
and window start are read where they are there. Every problem is one line that names the file
and the line in it, as the spreadsheet or editor counts it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from candlemark.candles.dates import parse_date
from candlemark.candles.series import FloatArray, IntArray
from candlemark.dataset.splits import SPLITS, Codes
from candlemark.errors import ConfigError, DatasetError

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "image_path": ("image_path", "image", "file_name", "filename", "path", "file"),
    "label": ("label", "target", "class"),
    "text": ("text", "caption"),
    "next_close": ("next_close",),
    "split": ("split",),
    "symbol": ("symbol", "ticker"),
    "window_start": ("window_start", "window_start_ms", "timestamp", "datetime", "date", "time"),
}
"""Names that are recognised, best first, in any case."""

REQUIRED = ("image_path", "label")

SPLIT_NAMES: dict[str, str] = {
    **{name: name for name in SPLITS},
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
}
"""What splits are called elsewhere."""

_MAX_STAMP_DIGITS = 14


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FolderIndex:
    """Columns of the index, N pictures in the order of the file; None for a column not there.

    name: of the file
    lines: line of the file that each picture stands in
    image_path: as written, relative to the folder
    next_close: NaN where empty
    codes: int8[N], see SPLITS
    window_start_ms: UTC
    """

    name: str
    lines: list[int]
    image_path: list[str]
    label: list[str]
    text: list[str] | None
    next_close: FloatArray | None
    codes: Codes | None
    symbol: list[str] | None
    window_start_ms: IntArray | None

    def __len__(self) -> int:
        return len(self.image_path)

    def line(self, number: int) -> str:
        """Where picture `number` stands, for a message."""
        return f"{self.name} line {self.lines[number]}"


def read_index(folder: Path) -> FolderIndex:
    """Read and check the index of `folder`.

    Raises DatasetError: there is no index or more than one, a column is missing, a line is
    short, a picture is named twice, is not there or lies outside of the folder, a label is
    empty, a number, split or time is none.
    """
    path, found = _find(folder)
    lines, columns = _read(path, found)
    if not lines:
        raise DatasetError(f"{path} names no picture; it has a header and nothing else")
    where = _Lines(path.name, lines)
    _check_paths(folder, columns["image_path"], where)
    for number, label in enumerate(columns["label"]):
        if not label:
            raise DatasetError(f"{where.at(number)}: the label is empty; give one or remove it")
    return FolderIndex(
        name=path.name,
        lines=lines,
        image_path=[str(_plain(name)) for name in columns["image_path"]],
        label=columns["label"],
        text=columns.get("text"),
        next_close=_numbers(columns.get("next_close"), where),
        codes=_codes(columns.get("split"), where),
        symbol=columns.get("symbol"),
        window_start_ms=_times(columns.get("window_start"), where),
    )


@dataclass(frozen=True, slots=True)
class _Lines:
    name: str
    lines: list[int]

    def at(self, number: int) -> str:
        return f"{self.name} line {self.lines[number]}"


def _find(folder: Path) -> tuple[Path, dict[str, str]]:
    """The index, and which of its columns holds what."""
    if not folder.is_dir():
        raise DatasetError(f"no folder at {folder}; name one that holds pictures and an index CSV")
    candidates = {}
    for path in sorted(folder.glob("*.csv")):
        columns = _columns(_header(path))
        if "image_path" in columns:
            candidates[path] = columns
    if not candidates:
        raise DatasetError(
            f"{folder} holds no index: a CSV at its top with columns image_path and label "
            "(text, next_close, split, symbol and window_start are read too)"
        )
    if len(candidates) > 1:
        names = ", ".join(path.name for path in candidates)
        raise DatasetError(f"{folder} holds {len(candidates)} indexes ({names}); leave one there")
    path, columns = candidates.popitem()
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise DatasetError(
            f"{path}: no column is called {' or '.join(USUAL_NAMES[missing[0]])}; "
            f"it has: {', '.join(_header(path))}"
        )
    return path, columns


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV: {error}") from error


def _columns(header: Iterable[str]) -> dict[str, str]:
    plain = {name.strip().lower(): name for name in reversed(list(header))}
    return {
        wanted: next(plain[name] for name in usual if name in plain)
        for wanted, usual in USUAL_NAMES.items()
        if any(name in plain for name in usual)
    }


def _read(path: Path, found: Mapping[str, str]) -> tuple[list[int], dict[str, list[str]]]:
    """Line numbers and the columns asked for, without blanks around the values."""
    lines: list[int] = []
    columns: dict[str, list[str]] = {name: [] for name in found}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader)
            places = {name: header.index(column) for name, column in found.items()}
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DatasetError(
                        f"{path.name} line {reader.line_num}: {len(row)} values, the header names "
                        f"{len(header)} columns; put texts that hold a comma in quotes"
                    )
                lines.append(reader.line_num)
                for name, place in places.items():
                    columns[name].append(row[place].strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV: {error}") from error
    return lines, columns


def _check_paths(folder: Path, paths: list[str], where: _Lines) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(paths):
        if leads_outside(name):
            raise DatasetError(
                f"{where.at(number)}: '{name}' is no path inside of {folder}; write it relative "
                "to the folder, such as images/1.png"
            )
        plain = _plain(name)
        first = seen.setdefault(str(plain), number)
        if first != number:
            raise DatasetError(
                f"{where.at(number)}: {name} is named before, in line {where.lines[first]}; "
                "a picture has one line"
            )
        if not (folder / plain).is_file():
            raise DatasetError(f"{where.at(number)}: there is no file {folder / plain}")


def leads_outside(name: str) -> bool:
    """Whether a path, as any system wrote it, names nothing below its folder."""
    plain = _plain(name)
    absolute = plain.is_absolute() or PureWindowsPath(name).drive != ""
    return absolute or ".." in plain.parts or not plain.parts


def _plain(name: str) -> PurePosixPath:
    """A path as any system wrote it."""
    return PurePosixPath(name.replace("\\", "/"))


def _numbers(texts: list[str] | None, where: _Lines) -> FloatArray | None:
    if texts is None:
        return None
    found = np.full(len(texts), np.nan)
    for number, text in enumerate(texts):
        try:
            found[number] = float(text) if text else np.nan
        except ValueError as error:
            raise DatasetError(
                f"{where.at(number)}: next_close '{text}' is no number; leave it empty where it "
                "is not known"
            ) from error
    return found


def _codes(texts: list[str] | None, where: _Lines) -> Codes | None:
    if texts is None:
        return None
    for number, text in enumerate(texts):
        if text.lower() not in SPLIT_NAMES:
            raise DatasetError(
                f"{where.at(number)}: split '{text}' is unknown; known: {', '.join(SPLIT_NAMES)}"
            )
    return np.array([SPLITS.index(SPLIT_NAMES[text.lower()]) for text in texts], dtype=np.int8)


def _times(texts: list[str] | None, where: _Lines) -> IntArray | None:
    """UTC milliseconds from dates, or from numbers of seconds or milliseconds."""
    if texts is None:
        return None
    found = np.empty(len(texts), dtype=np.int64)
    for number, text in enumerate(texts):
        try:
            found[number] = _time(text)
        except ConfigError as error:
            raise DatasetError(f"{where.at(number)}: {error}") from error
    return found


def _time(text: str) -> int:
    digits = text.removesuffix(".0")
    if digits.isdigit() and 8 < len(digits) <= _MAX_STAMP_DIGITS:
        # Seconds reach eleven digits in the year 5138; milliseconds passed twelve in 2001.
        return int(digits) * (1000 if len(digits) < 12 else 1)
    return parse_date(text, name="window_start").start_ms
