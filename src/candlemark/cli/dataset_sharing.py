"""`candlemark dataset export` and `candlemark dataset import`: to others and from others.

candlemark dataset export datasets/btc --to folder --out shared/btc
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from candlemark.dataset.sharing.folder_import import Imported

MEGABYTE = 1_000_000


def register(app: typer.Typer) -> None:
    """Add both commands to `candlemark dataset`."""
    app.command("export")(export_dataset)
    app.command("import")(import_dataset)


def export_dataset(
    path: Annotated[Path, typer.Argument(help="A dataset directory.")],
    *,
    to: Annotated[
        str, typer.Option("--to", help="datasets, webdataset or folder.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", help="A folder that is not there yet.", show_default=False)
    ],
    caption: Annotated[
        str,
        typer.Option(
            "--caption", help="window: all that is visible; classic: the last candle's numbers."
        ),
    ] = "window",
    shard_mb: Annotated[
        int, typer.Option("--shard-mb", help="Size of a file of many samples, about.")
    ] = 500,
) -> None:
    """Write a dataset for others: images with text, label, next_close and image_path.

    - `candlemark dataset export datasets/btc --to datasets --out shared/btc`
      for `datasets.load_dataset("shared/btc")`
    - `candlemark dataset export datasets/btc --to webdataset --out shards --shard-mb 250`
    - `candlemark dataset export datasets/btc --to folder --out plain --caption classic`
    """
    from candlemark.dataset.lazy import open_dataset
    from candlemark.dataset.sharing.export import export
    from candlemark.dataset.sharing.options import ExportOptions

    dataset = open_dataset(path)
    options = ExportOptions(caption=caption, shard_bytes=shard_mb * MEGABYTE)
    export(dataset, out, to=to, options=options)
    files = [file for file in out.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / MEGABYTE
    typer.echo(f"{out}  {len(dataset):,} samples in {len(files):,} files, {size:,.1f} MB")
    if dataset.label_kind == "recognition":
        typer.echo("label is recognition: pictures show the answer, and captions may say it")
    if dataset.config.split.leaky:
        typer.echo("split is random: LEAKY, scores on it mean nothing")
    typer.echo(READ_WITH[to].format(out=out))


READ_WITH = {
    "datasets": 'read it with: datasets.load_dataset("{out}")',
    "webdataset": 'read it with: webdataset.WebDataset("{out}/train-000000.tar"); '
    "{out}/shards.json lists all",
    "folder": "read it back with: candlemark dataset import {out} --out datasets/imported",
}
"""The next thing to type, by form."""


def import_dataset(
    folder: Annotated[Path, typer.Argument(help="Pictures, and an index CSV that names them.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", help="A folder that is not there yet.", show_default=False)
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML or JSON: how the pictures are drawn from candles."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Names of the labels in order: down,up.")
    ] = None,
    purge: Annotated[
        int | None,
        typer.Option(
            "--purge", help="Pictures left out between splits that the index does not name."
        ),
    ] = None,
) -> None:
    """Import charts of others: a folder with an index CSV of image_path, text, label, next_close.

    A folder with candles, as `export --to folder` writes it, becomes a dataset: its pictures are
    drawn again and compared. One with pictures and labels alone is taken as it is.

    - `candlemark dataset import shared/btc --out datasets/btc`
    - `candlemark dataset import theirs --out datasets/theirs --classes down,up --purge 30`
    """
    from candlemark.config import load
    from candlemark.dataset.config import DatasetConfig
    from candlemark.dataset.sharing.folder_import import import_folder

    names = tuple(name.strip() for name in classes.split(",")) if classes else ()
    found = import_folder(
        folder,
        out,
        config=None if config is None else load(DatasetConfig, config),
        class_names=names,
        purge=purge,
    )
    for line in _rebuilt(found) if found.kind == "rebuilt" else _pictures(found):
        typer.echo(line)


def _rebuilt(found: Imported) -> list[str]:
    lines = [
        f"{found.path}  a dataset, built again from the folder's candles",
        f"pictures    {found.agreeing:,} of {found.count:,} are the same to the last pixel",
        f"labels      {found.same_labels:,} of {found.count:,} are the same",
    ]
    if found.identical:
        lines.append("identical   its content hash is that of the dataset that was exported")
    elif found.identical is not None:
        lines.append("identical   no: candles, windows or splits differ from what was exported")
    return [*lines, f"audit it with: candlemark dataset audit {found.path}"]


def _pictures(found: Imported) -> list[str]:
    from candlemark.dataset.sharing.pictures import open_pictures

    pictures = open_pictures(found.path)
    shape = " x ".join(str(side) for side in pictures.image_shape)
    cut = {
        "column": "as its index says",
        "time": f"by time, {pictures.manifest.purge} left out at each boundary",
        "order": f"by order of the index, {pictures.manifest.purge} left out at each boundary",
    }
    lines = [
        f"{found.path}  {len(pictures):,} pictures as they were drawn, {shape} px",
        f"splits      {cut[pictures.manifest.split_by]}",
    ]
    for name, by_class in pictures.manifest.counts.items():
        counts = ", ".join(f"{label} {count:,}" for label, count in by_class.items())
        lines.append(f"{name:<12}{sum(by_class.values()):,} ({counts})")
    lines.append("no candles are known, so nothing can be audited; open it in Python with:")
    lines.append("from candlemark.dataset.sharing.pictures import open_pictures")
    return lines
