"""What an export says about itself: `dataset.json` for programs, `README.md` for people.

    description = describe(dataset, caption="window", form="folder")
    write_description(description, folder)
    read_description(folder)                 # None where the folder has none

Both say where the candles come from and what is missing in them, whether the label is
recognition or a forecast, and what the splits are: whoever gets the folder and nothing else can
tell what a score on it would mean. The description holds the complete config, so an export of
the form `folder` can be drawn again from its candles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from candlemark.candles.series import format_time
from candlemark.config import Config, parse
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.manifest import SeriesEntry
from candlemark.errors import ConfigError, DatasetError

FILE = "dataset.json"
README = "README.md"
FORMAT: Literal["candlemark export"] = "candlemark export"
FORMAT_VERSION = 1


class Description(Config):
    """Everything about an export but its samples.

    form: datasets, webdataset or folder
    content_hash: of the dataset it was made from
    candles_given: the candles were handed in, and are not those that the config names
    caption: style of the texts
    counts: windows by split and class
    files: CSV of candles by symbol; only in a folder
    """

    format: Literal["candlemark export"] = FORMAT
    format_version: int = FORMAT_VERSION
    candlemark_version: str
    form: str
    content_hash: str
    config: DatasetConfig
    candles_given: bool
    caption: str
    interval: str
    label_kind: Literal["recognition", "forecast"]
    class_names: tuple[str, ...]
    image_shape: tuple[int, ...]
    counts: dict[str, dict[str, int]]
    boundaries_ms: dict[str, tuple[int, int]]
    dropped: dict[str, int]
    series: tuple[SeriesEntry, ...]
    files: dict[str, str]


def describe(
    dataset: Dataset, *, caption: str, form: str, files: dict[str, str] | None = None
) -> Description:
    """What an export of `dataset` says about itself."""
    manifest = dataset.manifest
    return Description(
        candlemark_version=manifest.candlemark_version,
        form=form,
        content_hash=manifest.content_hash,
        config=manifest.config,
        candles_given=manifest.candles_given,
        caption=caption,
        interval=manifest.interval,
        label_kind=manifest.label_kind,
        class_names=manifest.class_names,
        image_shape=manifest.image_shape,
        counts={name: manifest.counts[name] for name in dataset.split_names},
        boundaries_ms=manifest.boundaries_ms,
        dropped=manifest.dropped,
        series=manifest.series,
        files=files or {},
    )


def write_description(description: Description, folder: Path, *, front_matter: str = "") -> None:
    """Write both files.

    front_matter: YAML that readers of the README look for, without its fences
    """
    value = description.model_dump(mode="json")
    text = json.dumps(value, indent=2, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    head = f"---\n{front_matter}---\n\n" if front_matter else ""
    (folder / README).write_text(head + readme(description), encoding="utf-8")


def read_description(folder: Path) -> Description | None:
    """What an export says about itself, None where it says nothing.

    Raises DatasetError: `dataset.json` is damaged or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _damaged(path, f"it does not say that it is a {FORMAT}")
    if value.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format {value.get('format_version')!r}; this candlemark reads format "
            f"{FORMAT_VERSION}: python -m pip install --upgrade candlemark, or remove the file to "
            "import the pictures as they are"
        )
    try:
        return parse(Description, value, where=FILE)
    except ConfigError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> DatasetError:
    return DatasetError(
        f"{path} is damaged ({reason}); export the dataset again, or remove the file to import "
        "the pictures as they are"
    )


def readme(description: Description) -> str:
    """The card, in Markdown."""
    config = description.config
    shape = " x ".join(str(side) for side in description.image_shape)
    total = sum(sum(by_class.values()) for by_class in description.counts.values())
    symbols = ", ".join(entry.symbol for entry in description.series)
    what = (
        f"{total:,} chart images of {config.window} candles each, with captions and labels, made "
        f"with candlemark {description.candlemark_version}. Style {config.drawn_style.kind}, "
        f"{shape} pixels, experiment {config.experiment}."
    )
    sections = [
        f"# Chart images of {symbols}, {description.interval}",
        what,
        "## What the label is",
        _label(description),
        "## Splits",
        _splits(description),
        "## Candles",
        _candles(description),
        "## Fields",
        _fields(description),
    ]
    return "\n\n".join(sections) + "\n"


def _label(description: Description) -> str:
    config = description.config
    classes = ", ".join(f"{code} {name}" for code, name in enumerate(description.class_names))
    text = f"`{config.label.name}`, classes {classes}. "
    if description.label_kind == "forecast":
        return text + (
            "**Forecast**: the answer lies after the last candle of the picture, and neither "
            "picture nor caption shows it."
        )
    return text + (
        "**Recognition**: the answer is visible in the picture, and a caption may say it in "
        "words. A score on this label says whether a model can read a chart, not whether it can "
        "foresee one."
    )


def _splits(description: Description) -> str:
    if description.config.split.leaky:
        how = (
            "Split at **random**: neighbouring windows of different splits share candles, so "
            "scores on it are inflated and mean nothing."
        )
    else:
        split = description.config.split
        fold = (
            f", walking forward, fold {split.fold} of {split.folds} (counted from 0)"
            if split.method == "walk_forward"
            else ""
        )
        how = (
            f"Split by time, across all symbols at once{fold}. Windows whose picture or label "
            "would reach over a boundary are left out, so no candle is shared between splits."
        )
    lines = ["| split | windows | classes | from | to (UTC) |", "|---|---|---|---|---|"]
    for name, by_class in description.counts.items():
        begin, end = description.boundaries_ms.get(name, (None, None))
        times = [format_time(time) if time is not None else "" for time in (begin, end)]
        counts = ", ".join(f"{label} {count:,}" for label, count in by_class.items())
        lines.append(f"| {name} | {sum(by_class.values()):,} | {counts} | {' | '.join(times)} |")
    left_out = ", ".join(f"{count:,} {why}" for why, count in description.dropped.items() if count)
    return "\n\n".join([how, "\n".join(lines), f"Left out: {left_out or 'nothing'}."])


def _candles(description: Description) -> str:
    source = description.config.candles
    origin = {"archive": "Binance public archive", "rest": "Binance REST API", "file": "a file"}
    market = f", {source.market} market" if source.kind in ("archive", "rest") else ""
    named = origin.get(source.kind, f"synthetic ({source.kind})") + market
    lines = [
        f"Source: handed to the build; its config names {named}."
        if description.candles_given
        else f"Source: {named}.",
        "",
        "| symbol | candles | first | last (UTC) | gaps | missing candles | longest gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in description.series:
        longest = max((gap.slot_count for gap in entry.largest_gaps), default=0)
        lines.append(
            f"| {entry.symbol} | {entry.candle_count:,} | {format_time(entry.first_open_ms)} | "
            f"{format_time(entry.last_open_ms)} | {entry.gap_count:,} | "
            f"{entry.missing_candles:,} | {longest:,} |"
        )
    return "\n".join(lines)


def _fields(description: Description) -> str:
    fields = {
        "image": "the chart",
        "text": f"caption (`{description.caption}`), read from what the picture shows",
        "label": "the class",
        "next_close": "close of the first candle after the window, empty where unknown; the "
        "picture does not show it, so it is something to foresee and never an input",
        "image_path": "a name for the picture, unique in this dataset",
    }
    return "\n".join(f"- `{name}`: {meaning}" for name, meaning in fields.items())
