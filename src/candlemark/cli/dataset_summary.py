"""What a dataset holds, in the words that `candlemark dataset` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from candlemark.dataset.config import DatasetConfig
    from candlemark.dataset.lazy import Dataset


def summary(dataset: Dataset) -> list[str]:
    """What a dataset holds, in a few lines."""
    from candlemark.candles.series import format_time

    config, manifest = dataset.config, dataset.manifest
    shape = " x ".join(str(side) for side in dataset.image_shape)
    kept = "drawn when read" if config.storage.format == "none" else config.storage.format
    count = sum(entry.candle_count for entry in manifest.series)
    missing = sum(entry.missing_candles for entry in manifest.series)
    market = f"{', '.join(manifest.symbols)} {manifest.interval}"
    look = f"{config.experiment} {config.style.kind}, {config.window} candles"
    classes = " / ".join(manifest.class_names)
    lines = [
        str(dataset.path),
        f"candles     {market}, {count:,} candles, {missing:,} missing",
        f"label       {config.label.name}: {dataset.label_kind}, {classes}",
        f"pictures    {look}, {shape} px, {kept}",
    ]
    for name in dataset.split_names:
        rows = dataset.split(name)
        times = dataset.window_start_ms(rows)
        by_class = ", ".join(f"{label} {n:,}" for label, n in manifest.counts[name].items())
        lines.append(
            f"{name:<12}{len(rows):,} windows ({by_class}) starting "
            f"{format_time(int(times[0]))} to {format_time(int(times[-1]))}"
        )
    dropped = ", ".join(f"{count:,} {why}" for why, count in manifest.dropped.items() if count)
    lines.append(f"left out    {dropped or 'nothing'}")
    if config.split.leaky:
        lines.append("split       random: LEAKY, scores on it mean nothing")
    return lines


def found_in(folder: Path) -> list[dict[str, Any]]:
    """One entry a dataset in `folder`, damaged ones with their problem."""
    from candlemark.dataset import manifest as manifest_file
    from candlemark.errors import DatasetError

    entries: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*/{manifest_file.FILE}")):
        try:
            manifest = manifest_file.read_manifest(path.parent)
        except DatasetError as error:
            entries.append({"path": str(path.parent), "problem": str(error)})
            continue
        entries.append(
            _entry(path.parent, manifest.config)
            | {
                "symbols": list(manifest.symbols),
                "interval": manifest.interval,
                "label_kind": manifest.label_kind,
                "windows": manifest.sample_count,
                "content_hash": manifest.content_hash,
            }
        )
    return sorted(entries + _pictures_in(folder), key=lambda entry: str(entry["path"]))


def _pictures_in(folder: Path) -> list[dict[str, Any]]:
    """One entry a folder of pictures that were imported without candles."""
    from candlemark.dataset.manifest import PICTURES_FILE
    from candlemark.errors import DatasetError

    entries: list[dict[str, Any]] = []
    for path in folder.glob(f"*/{PICTURES_FILE}"):
        from candlemark.dataset.sharing.pictures import open_pictures

        try:
            manifest = open_pictures(path.parent).manifest
        except DatasetError as error:
            entries.append({"path": str(path.parent), "problem": str(error)})
            continue
        found = {"pictures": manifest.sample_count, "class_names": list(manifest.class_names)}
        entries.append({"path": str(path.parent)} | found)
    return entries


def _entry(path: Path, config: DatasetConfig) -> dict[str, Any]:
    return {
        "path": str(path),
        "label": config.label.name,
        "experiment": config.experiment,
        "style": config.style.kind,
        "window": config.window,
        "storage": config.storage.format,
    }
