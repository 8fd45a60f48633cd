"""Build a dataset: candles in, a directory of windows with labels, splits and pictures out.

    dataset = build_dataset(config, Path("datasets/btc"))
    dataset = build_dataset(config, candles=[series])       # your own candles

The directory appears whole or not at all. It is built beside its place under a hidden name,
the manifest last, and renamed when everything is on disk; a build that was killed leaves a
hidden folder that the next build of the same dataset removes. A directory that holds the
same dataset already is opened and nothing is done; one that holds anything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from candlemark.candles.series import CandleSeries
from candlemark.candles.source import load, resolve
from candlemark.charts.packed import packed_shape
from candlemark.dataset import index as index_file
from candlemark.dataset import manifest as manifest_file
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.drawing import Painter
from candlemark.dataset.index import Index, write_index
from candlemark.dataset.labels import make_label
from candlemark.dataset.lazy import CANDLES_FILE, Dataset, levels_of, open_dataset, write_candles
from candlemark.dataset.manifest import (
    Manifest,
    SeriesEntry,
    describe_files,
    hash_arrays,
    hash_candles,
    hash_file,
    read_manifest,
    write_manifest,
)
from candlemark.dataset.scratch import alone, appearing_whole, sync
from candlemark.dataset.select import Selection, count_by_class, select_windows
from candlemark.dataset.storage.base import Images, open_writer
from candlemark.dataset.streaming import store_images
from candlemark.errors import ConfigError, DatasetError
from candlemark.progress import note, warning
from candlemark.records import content_id

__all__ = ["DEFAULT_FOLDER", "DatasetConfig", "build_dataset"]

DEFAULT_FOLDER = Path("datasets")
"""Where datasets go, below the current directory, unless they are told otherwise."""


def build_dataset(
    config: DatasetConfig,
    out: str | Path | None = None,
    *,
    candles: Sequence[CandleSeries] | None = None,
    root: str | Path = DEFAULT_FOLDER,
) -> Dataset:
    """Build the dataset that `config` describes, or open it if it is there already.

    out: its directory; None: a folder in `root` named after config and content
    candles: series to use instead of those that `config.candles` names

    Raises ConfigError: there is no such label. FetchError and CandleError: the candles cannot
    be had. DatasetError: the directory holds something else, no window is left, a split would
    be empty, the disk is full. Whatever was in `out` is untouched then.
    """
    make_label(config.label)  # a misspelt label is told before anything is downloaded
    config.storage.packs(levels_of(config))  # and so are bits of pictures that have colours
    if candles is None:
        if "candles" not in config.model_fields_set:
            raise ConfigError(
                "the config names no candles and none were handed in; name some "
                "(candles: {symbols: [BTCUSDT]}, --symbol BTCUSDT) or pass candles=[series]"
            )
        config = config.model_copy(update={"candles": resolve(config.candles)})
    key = _config_hash(config, candles)
    folder = Path(root) / _folder_name(config, key, candles) if out is None else Path(out)
    if _is_built(folder, key):
        note(f"{folder} holds this dataset already")
        return open_dataset(folder)

    series = _checked(load(config.candles) if candles is None else list(candles))
    selection = select_windows(config, series)
    content = _content_hash(config, series, selection.index)
    work = content_id({"config": key, "content": content, "candlemark": version("candlemark")})
    with alone(folder):
        if _is_built(folder, key):
            note(f"{folder} was built by another process meanwhile")
            return open_dataset(folder)
        with appearing_whole(
            folder,
            work,
            keep=config.storage.format != "none",
            is_built=lambda: _is_built(folder, key),
        ) as scratch:
            _write(
                config,
                series,
                selection,
                scratch,
                key=key,
                content=content,
                given=candles is not None,
            )
    _report(folder, selection)
    return open_dataset(folder)


def _write(
    config: DatasetConfig,
    series: Sequence[CandleSeries],
    selection: Selection,
    folder: Path,
    *,
    key: str,
    content: str,
    given: bool,
) -> None:
    """Write every file, the manifest last."""
    label = make_label(config.label)
    index, reach = selection.index, label.reach(config.window)
    write_candles(series, folder / CANDLES_FILE)
    write_index(
        index,
        folder / index_file.FILE,
        symbols=[one.symbol for one in series],
        class_names=label.class_names,
    )
    names = [CANDLES_FILE, index_file.FILE, *_write_images(config, series, index, folder)]
    manifest = Manifest(
        candlemark_version=version("candlemark"),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config,
        config_hash=key,
        candles_given=given,
        content_hash=content,
        interval=series[0].interval,
        label_kind=label.kind(config.window),
        label_first_slot=reach.first,
        label_last_slot=reach.last,
        class_names=label.class_names,
        image_shape=config.image_shape,
        counts=count_by_class(index, label.class_names),
        boundaries_ms=dict(selection.boundaries_ms),
        dropped=dict(selection.dropped),
        series=tuple(SeriesEntry.of(one) for one in series),
        files=describe_files(folder, names),
    )
    for name in (CANDLES_FILE, index_file.FILE):  # stores see to their own
        sync(folder / name)
    write_manifest(manifest, folder)


def _write_images(
    config: DatasetConfig, series: Sequence[CandleSeries], index: Index, folder: Path
) -> tuple[str, ...]:
    """Draw and store all pictures; the names of the files written."""
    if config.storage.format == "none":
        return ()
    painter, shape, levels = Painter(config, series), config.image_shape, levels_of(config)
    writer = open_writer(config.storage, folder, count=len(index), shape=shape, levels=levels)

    def draw(rows: slice, out: Images) -> None:
        part = index.take(rows)
        if writer.packed:
            painter.draw_packed(part, out=out, threads=1)
        else:
            painter.draw(part, out=out, threads=1)

    try:
        row_shape = packed_shape(shape) if writer.packed else shape
        store_images(writer, draw, count=len(index), row_shape=row_shape, folder=folder)
    finally:
        writer.close()
    return writer.files


def _is_built(folder: Path, key: str) -> bool:
    """True if `folder` holds exactly this dataset; DatasetError if it holds another one."""
    if not (folder / manifest_file.FILE).is_file():
        return False
    found = read_manifest(folder)
    if found.config_hash == key:
        return True
    label, style = found.config.label.name, found.config.style.kind
    raise DatasetError(
        f"{folder} holds another dataset ({', '.join(found.symbols)} {found.interval}, {label}, "
        f"{style}, config {found.config_hash}; asked for {key}); give another --out, "
        "or remove that folder first"
    )


def _checked(series: Sequence[CandleSeries]) -> list[CandleSeries]:
    """One interval, symbols unique."""
    if not series:
        raise ConfigError("no candles were given; name a symbol: --symbol BTCUSDT")
    intervals = sorted({one.interval for one in series})
    if len(intervals) > 1:
        raise DatasetError(
            f"candles have intervals {', '.join(intervals)}; a dataset has one: build one each"
        )
    symbols = [one.symbol for one in series]
    twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
    if twice:
        raise DatasetError(
            f"symbol {twice[0]} is there {symbols.count(twice[0])} times; name each symbol once"
        )
    return list(series)


def _config_hash(config: DatasetConfig, candles: Sequence[CandleSeries] | None) -> str:
    """Hash of all that decides the result: the config, and candles that it does not name."""
    given: str | None = None
    if candles is not None:
        given = hash_candles(candles)
    elif config.candles.path is not None:
        # A file may change under the same name.
        given = hash_file(Path(config.candles.path).expanduser())
    settings = config.model_dump(mode="json") | {"storage": config.storage.identity()}
    return content_id({"config": settings, "candles": given})


def _content_hash(config: DatasetConfig, series: Sequence[CandleSeries], index: Index) -> str:
    look = config.model_dump(mode="json", exclude={"candles", "storage"})
    return content_id(
        {
            "look": look,
            "candles": hash_candles(series),
            "index": hash_arrays(index.columns()),
        }
    )


def _folder_name(config: DatasetConfig, key: str, candles: Sequence[CandleSeries] | None) -> str:
    """Such as `BTCUSDT-1h-regular-candlestick-next_candle-1a2b3c4d`."""
    if candles:
        symbols, interval = [one.symbol for one in candles], candles[0].interval
    else:
        symbols = list(config.candles.symbols) or [config.candles.kind]
        interval = config.candles.interval
    market = "+".join(symbols[:3])
    if len(symbols) > 3:
        market += f"+{len(symbols) - 3}"
    parts = (market, interval, config.experiment, config.style.kind, config.label.name, key[:8])
    return "-".join("".join(c if c.isalnum() or c in "+_" else "_" for c in p) for p in parts)


def _report(folder: Path, selection: Selection) -> None:
    left_out = [f"{count} {reason}" for reason, count in selection.dropped.items() if count]
    text = f"{folder}: {len(selection.index)} windows"
    note(f"{text}; left out: {', '.join(left_out)}" if left_out else text)
    if not selection.boundaries_ms:
        warning(f"{folder} is split at random: windows of different splits share candles (leaky)")
