"""Import a folder of charts: drawn again from its candles, or taken as the pictures they are.

    found = import_folder(Path("shared/btc"), Path("datasets/btc"))
    found.kind                         # "rebuilt" or "pictures"
    found.agreeing, found.count        # pictures that are the same to the last pixel

A folder with candles, window starts and the config of its pictures (`dataset.json`, which
candlemark's own export writes, or a config given beside it) becomes a real dataset: labels and
splits are worked out again from the candles, pictures are drawn again, and both are compared
with what the folder says. What differs is counted and named, and the candles win.

A folder with nothing but pictures and labels becomes a `PictureDataset`. Its splits are those
of the index, or else stretches of its order: of time where the index has a time, of its lines
otherwise, 72/8/20, with some pictures left out at each boundary, and never drawn at random,
because charts of neighbouring windows share their candles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from candlemark.candles.series import IntArray
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.manifest import describe_files
from candlemark.dataset.sharing.card import FILE as DESCRIPTION
from candlemark.dataset.sharing.card import Description, read_description
from candlemark.dataset.sharing.folder import CANDLES
from candlemark.dataset.sharing.folder_index import FolderIndex, leads_outside, read_index
from candlemark.dataset.sharing.picture_files import decode_rows, look_at
from candlemark.dataset.sharing.pictures import (
    INDEX,
    STORAGE,
    PicturesManifest,
    write_pictures,
)
from candlemark.dataset.sharing.place import appearing_whole, refuse_occupied
from candlemark.dataset.sharing.rebuild import AUTO, Plan, rebuild
from candlemark.dataset.splits import OUTSIDE, SPLITS, Codes, SplitConfig, assign
from candlemark.dataset.storage.base import Images
from candlemark.errors import ConfigError, DatasetError
from candlemark.progress import note

DEFAULT_PURGE = 60
"""Pictures left out at each boundary where nothing is known of the windows: the longest common
window, drawn for every candle."""

USUAL_CLASSES = ("down", "flat", "up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a folder.

    kind: "rebuilt" is a dataset for `open_dataset`, "pictures" one for `open_pictures`
    count: pictures that the index names
    found: of those, windows that the rebuilt dataset has too
    agreeing: of those, pictures that are the same to the last pixel
    same_labels: of those, labels that are the same
    identical: the rebuilt dataset is the very one that was exported, by its content hash;
        None where the folder does not say
    """

    path: Path
    kind: Literal["rebuilt", "pictures"]
    count: int
    found: int | None = None
    agreeing: int | None = None
    same_labels: int | None = None
    identical: bool | None = None


def import_folder(
    folder: str | Path,
    out: str | Path,
    *,
    config: DatasetConfig | None = None,
    class_names: Sequence[str] = (),
    purge: int | None = None,
) -> Imported:
    """Import `folder` to `out`, which appears whole or not at all.

    config: how the pictures are drawn from the folder's candles, for a folder that does not
        say; its own `candles` are not looked at
    class_names: of pictures, by target; none: found in the index (down, flat, up in this
        order, numbers by size, others by name)
    purge: pictures left out at each boundary where the index names no splits; None:
        `DEFAULT_PURGE`

    Raises DatasetError naming file and line: a picture is missing, unreadable, named twice or
    of another size; a label is unknown; nothing can be split. CandleError: the candles break a
    rule.
    """
    source, place = Path(folder), Path(out)
    refuse_occupied(place)
    description = read_description(source)
    if description is not None and description.form != "folder":
        raise DatasetError(
            f"{source} is an export of the form '{description.form}', which other libraries read; "
            "import takes the form 'folder': candlemark dataset export PATH --to folder"
        )
    index = read_index(source)
    plan = _plan(source, index, description, config)
    if plan is not None:
        if class_names or purge is not None:
            raise ConfigError(
                f"classes and purge are for pictures alone; {source} holds candles, from which "
                "labels and splits are worked out: leave --classes and --purge out"
            )
        rebuilt = rebuild(source, place, index, plan)
        return Imported(
            path=place,
            kind="rebuilt",
            count=len(index),
            found=rebuilt.found,
            agreeing=rebuilt.agreeing,
            same_labels=rebuilt.same_labels,
            identical=None
            if description is None
            else rebuilt.content_hash == description.content_hash,
        )
    known = tuple(class_names) or (description.class_names if description is not None else ())
    _take_pictures(source, place, index, known, purge)
    return Imported(path=place, kind="pictures", count=len(index))


def _plan(
    folder: Path,
    index: FolderIndex,
    description: Description | None,
    config: DatasetConfig | None,
) -> Plan | None:
    """How the pictures can be drawn again; None where the folder does not hold enough for it."""
    if description is None:
        files = {path.stem: path for path in sorted((folder / CANDLES).glob("*.csv"))}
    else:
        files = {symbol: folder / name for symbol, name in description.files.items()}
        for symbol, name in description.files.items():
            if leads_outside(name):
                raise DatasetError(
                    f"{folder / DESCRIPTION}: candles of {symbol} are said to be in '{name}', "
                    f"which is no path inside of {folder}; correct it, or remove the file to "
                    "import the pictures as they are"
                )
    lacking = [symbol for symbol, path in files.items() if not path.is_file()]
    chosen = config or (description.config if description is not None else None)
    if files and not lacking and index.window_start_ms is not None and chosen is not None:
        if len(files) > 1 and index.symbol is None:
            raise DatasetError(
                f"{folder} holds candles of {len(files)} symbols, and {index.name} has no column "
                "symbol; add one, or leave the candles of one symbol"
            )
        return Plan(
            config=chosen,
            files=files,
            interval=AUTO if description is None else description.interval,
        )
    if config is not None:
        raise DatasetError(
            f"{folder} cannot be drawn again with a config: that needs {CANDLES}/SYMBOL.csv and a "
            f"column window_start in {index.name}; leave the config out to take its pictures as "
            "they are"
        )
    if lacking:
        note(
            f"{folder} lacks the candles of {', '.join(lacking)}; "
            "its pictures are taken as they are"
        )
    elif files:
        note(
            f"{folder} holds candles but does not say how its pictures were drawn; they are taken "
            "as they are (--config draws them again)"
        )
    return None


def _take_pictures(
    folder: Path,
    out: Path,
    index: FolderIndex,
    class_names: tuple[str, ...],
    purge: int | None,
) -> None:
    look = look_at(folder, index)
    classes = class_names or _class_names(index)
    targets = _targets(index, classes)
    codes, split_by, left_out = _split(index, purge)
    # In the order of time, so that rows of a split are, as those of any dataset.
    order = np.arange(len(index))
    if index.window_start_ms is not None:
        order = np.argsort(index.window_start_ms, kind="stable")
    order = order[codes[order] != OUTSIDE]

    def read(first: int, last: int) -> Images:
        return decode_rows(folder, index, order[first:last].tolist(), look)

    with appearing_whole(out, what="import") as scratch:
        pq.write_table(_table(index, order, codes, targets), scratch / INDEX, compression="zstd")
        manifest = PicturesManifest(
            source=str(folder),
            class_names=classes,
            image_shape=look.shape,
            split_by=split_by,
            purge=left_out,
            counts=_counts(codes[order], targets[order], classes),
            storage=STORAGE,
            index=describe_files(scratch, [INDEX])[INDEX],
        )
        write_pictures(scratch, manifest, read)


def _table(index: FolderIndex, order: IntArray, codes: Codes, targets: IntArray) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "image_path": pa.array(index.image_path),
        "label": pa.array(index.label),
        "target": pa.array(targets),
        "split": pa.array([SPLITS[code] if code >= 0 else None for code in codes.tolist()]),
        "split_code": pa.array(codes),
    }
    known: dict[str, Any] = {
        "text": index.text,
        "next_close": index.next_close,
        "symbol": index.symbol,
        "window_start_ms": index.window_start_ms,
    }
    columns |= {
        name: pa.array(values, from_pandas=True)
        for name, values in known.items()
        if values is not None
    }
    return pa.table(columns).take(order)


def _counts(codes: Codes, targets: IntArray, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    return {
        split: {
            name: int(((codes == code) & (targets == target)).sum())
            for target, name in enumerate(classes)
        }
        for code, split in enumerate(SPLITS)
        if (codes == code).any()
    }


def _class_names(index: FolderIndex) -> tuple[str, ...]:
    names = set(index.label)
    if len(names) < 2:
        raise DatasetError(
            f"every label of {index.name} is '{index.label[0]}'; a classifier needs two classes "
            "(--classes down,up names those that may occur)"
        )
    if names <= set(USUAL_CLASSES):
        return tuple(name for name in USUAL_CLASSES if name in names)
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _targets(index: FolderIndex, classes: Sequence[str]) -> IntArray:
    if len(set(classes)) < len(classes):
        raise ConfigError(f"classes {', '.join(classes)} name one twice")
    known = {name: target for target, name in enumerate(classes)}
    for number, label in enumerate(index.label):
        if label not in known:
            raise DatasetError(
                f"{index.line(number)}: label '{label}' is none of the classes: "
                f"{', '.join(classes)}; correct it, or name all with --classes"
            )
    return np.array([known[label] for label in index.label], dtype=np.int64)


def _split(
    index: FolderIndex, purge: int | None
) -> tuple[Codes, Literal["column", "time", "order"], int | None]:
    """Split codes, what decided them, and how many pictures are left out at a boundary."""
    if purge is not None and purge < 0:
        raise ConfigError(f"purge is {purge}; it must be 0 or more pictures")
    if index.codes is not None:
        if purge is not None:
            raise ConfigError(
                f"--purge {purge} is for a folder without splits; {index.name} has a column split"
            )
        return index.codes, "column", None
    left_out = DEFAULT_PURGE if purge is None else purge
    times = index.window_start_ms
    # Pictures of one time, of several symbols, stay together.
    place = np.arange(len(index)) if times is None else np.unique(times, return_inverse=True)[1]
    try:
        placed = assign(place, place + left_out + 1, SplitConfig(), interval_ms=1)
    except DatasetError as error:
        raise DatasetError(
            f"{len(index)} pictures at {int(place.max()) + 1} different "
            f"{'places' if times is None else 'times'} are too few to split 72/8/20 with "
            f"{left_out} left out at each of two boundaries; name the splits in a column 'split', "
            "or give a smaller --purge (window + horizon - 1 candles, over the stride, is enough)"
        ) from error
    by: Literal["time", "order"] = "order" if times is None else "time"
    note(
        f"{index.name} names no splits: they are cut 72/8/20 by {by}, with {left_out} left out at "
        "each boundary"
    )
    return placed.codes, by, left_out
