"""`candlemark dataset`: build, list, show and audit datasets.

candlemark dataset build --symbol BTCUSDT --period 90days --label next_candle
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from candlemark.cli import dataset_sharing
from candlemark.cli.dataset_build import build
from candlemark.cli.dataset_summary import found_in, summary

app = typer.Typer(
    help="Build datasets of chart images, audit, export, import them.",
    no_args_is_help=True,
)
app.command()(build)

PathArgument = Annotated[Path, typer.Argument(help="A dataset directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command(name="list")
def list_datasets(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("datasets"),
    as_json: JsonOption = False,
) -> None:
    """List the datasets in a folder, one line each.

    - `candlemark dataset list`
    - `candlemark dataset list benchmarks/datasets --json`
    """
    from candlemark.cli.output import print_json

    found = found_in(folder)
    if as_json:
        print_json({"folder": str(folder), "datasets": found})
        return
    if not found:
        typer.echo(
            f"no datasets in {folder}; build one with: candlemark dataset build --symbol ..."
        )
    for entry in found:
        if "problem" in entry:
            typer.echo(f"{entry['path']}  {entry['problem']}")
        elif "pictures" in entry:
            classes = " / ".join(entry["class_names"])
            typer.echo(f"{entry['path']}  {entry['pictures']:,} pictures ({classes}), no candles")
        else:
            market = f"{'+'.join(entry['symbols'])} {entry['interval']}"
            label = f"{entry['label']} ({entry['label_kind']})"
            look = f"{entry['experiment']} {entry['style']}, storage {entry['storage']}"
            windows = f"{entry['windows']:,} windows of {entry['window']}"
            typer.echo(f"{entry['path']}  {market}  {label}  {windows}  {look}")


@app.command()
def show(
    path: PathArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the PNG goes; default: beside the dataset.")
    ] = None,
    per_split: Annotated[int, typer.Option("--per-split", help="Pictures of each split.")] = 12,
    columns: Annotated[int, typer.Option("--columns", help="Pictures in a row.")] = 6,
) -> None:
    """Draw a contact sheet PNG with labels, and print what the dataset holds.

    - `candlemark dataset show datasets/btc`
    - `candlemark dataset show datasets/btc --out sheet.png --per-split 24`
    """
    from candlemark.dataset.lazy import open_dataset
    from candlemark.dataset.sheet import contact_sheet

    dataset = open_dataset(path)
    folder = dataset.path.absolute()
    target = out if out is not None else folder.with_name(f"{folder.name}-sheet.png")
    contact_sheet(dataset, target, per_split=per_split, columns=columns)
    for line in summary(dataset):
        typer.echo(line)
    typer.echo(f"contact sheet: {target}")


@app.command()
def audit(path: PathArgument, as_json: JsonOption = False) -> None:
    """Prove that nothing leaks between splits; exit with status 1 if anything does.

    Looks at boundaries and purge, shared candles, equal pictures, labels and their balance,
    what rules that see only the picture score, gaps, and the hash of every file.

    - `candlemark dataset audit datasets/btc`
    - `candlemark dataset audit datasets/btc --json`
    """
    from candlemark.cli.output import print_json
    from candlemark.dataset.audit import audit as look_for_leaks

    found = look_for_leaks(path)
    if as_json:
        print_json(found.to_dict())
    else:
        typer.echo(found.as_text())
    if not found.ok:
        raise typer.Exit(1)


dataset_sharing.register(app)
