"""`candlemark dataset`: build, list, show and audit datasets.

candlemark dataset build --symbol BTCUSDT --period 90days --label next_candle
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from candlemark.errors import ConfigError

if TYPE_CHECKING:
    from candlemark.dataset.config import DatasetConfig
    from candlemark.dataset.lazy import Dataset

app = typer.Typer(
    help="Build datasets of chart images, look at them, audit them for leaks.",
    no_args_is_help=True,
)

PathArgument = Annotated[Path, typer.Argument(help="A dataset directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def build(
    *,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML or JSON; flags given beside it win over the file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Its directory; default: datasets/<name>.")
    ] = None,
    symbol: Annotated[
        list[str] | None,
        typer.Option(
            "--symbol", help="BTCUSDT, random_walk or planted; repeat or separate by commas."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Candles from CSV, Parquet or Feather instead.")
    ] = None,
    interval: Annotated[str | None, typer.Option("--interval", help="1m, 1h, 1d, ...")] = None,
    start: Annotated[str | None, typer.Option("--start", help="2024-01, 2024-01-05, ...")] = None,
    end: Annotated[str | None, typer.Option("--end", help="As --start; default: newest.")] = None,
    period: Annotated[
        str | None, typer.Option("--period", help="That long up to --end: 7days, 14days, ...")
    ] = None,
    market: Annotated[str | None, typer.Option("--market", help="spot, um or cm.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", help="A mirror: http://127.0.0.1:PORT or file:///FOLDER."),
    ] = None,
    window_size: Annotated[
        int | None, typer.Option("--window-size", help="Candles in a picture; default 30.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Candles between windows; default 1.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="regular, fullimage or irregular.")
    ] = None,
    missing_share: Annotated[
        float | None,
        typer.Option("--missing-share", help="What irregular hides: 0.6 (default), 0.8, 0.95."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            help="Recognition: last_candle (default), window_trend. Forecast: next_candle, "
            "forward_return, triple_barrier, next_close.",
        ),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option("--horizon", help="Candles ahead, for the last forecasts.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Return between classes: 0.005 is 0.5 %.")
    ] = None,
    classes: Annotated[int | None, typer.Option("--classes", help="2, or 3 with flat.")] = None,
    style: Annotated[
        str | None, typer.Option("--style", help="candlestick (default), ohlc4 or jkx.")
    ] = None,
    height: Annotated[int | None, typer.Option("--height", help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option("--width", help="Pixels.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="time, walk_forward, random (leaky), or shares by time such as 72/8/20.",
        ),
    ] = None,
    embargo: Annotated[
        int | None, typer.Option("--embargo", help="Candles left out after each boundary.")
    ] = None,
    max_samples: Annotated[
        int | None, typer.Option("--max-samples", help="Evenly over time; 0 for all.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="none (drawn when read, default) or hdf5.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of hidden candles and random splits.")
    ] = None,
) -> None:
    """Build a dataset, or open it if it is there already.

    - `candlemark dataset build --symbol BTCUSDT --interval 1h --period 90days`
    - `candlemark dataset build --symbol BTCUSDT,ETHUSDT --start 2024-01 --label forward_return`
    - `candlemark dataset build --file prices.csv --style ohlc4 --storage hdf5 --out datasets/mine`
    - `candlemark dataset build --config dataset.yaml --window-size 60`
    """
    from candlemark.config import parse, read_mapping
    from candlemark.dataset.build import build_dataset
    from candlemark.dataset.config import DatasetConfig

    values = read_mapping(config) if config is not None else {}
    _put(values, "candles", _candles(symbol, file, values.get("candles")))
    _put(values, "candles", {"interval": interval, "start": start, "end": end, "period": period})
    _drop_overruled(values, start=start, period=period)
    _put(values, "candles", {"market": market, "base_url": base_url})
    _put(values, "label", {"name": label, "horizon": horizon, "threshold": threshold})
    _put(values, "label", {"classes": classes})
    _put(values, "style", {"kind": style, "height": height, "width": width})
    _put(values, "split", {**_split(split), "embargo": embargo, "seed": seed})
    _put(values, "storage", {"format": storage})
    plain = {
        "window": window_size,
        "stride": stride,
        "experiment": experiment,
        "missing_share": missing_share,
        "max_samples": max_samples,
        "seed": seed,
    }
    values.update({name: value for name, value in plain.items() if value is not None})
    # Parsed first: a key that the file misspells is the likelier reason for naming no candles.
    complete = parse(DatasetConfig, values, where=str(config) if config is not None else "dataset")
    if not values.get("candles"):
        raise ConfigError("no candles are named; give --symbol BTCUSDT, --file PATH or --config")
    dataset = build_dataset(complete, out)
    for line in _summary(dataset):
        typer.echo(line)
    typer.echo(f"audit it with: candlemark dataset audit {dataset.path}")


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

    found = _found(folder)
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
    for line in _summary(dataset):
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


def _put(values: dict[str, Any], section: str, changes: dict[str, Any]) -> None:
    """Lay the flags that were given over a section of the config."""
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        return
    current = values.get(section, {})
    if isinstance(current, str):  # a style by name
        current = {"kind": current}
    if section == "style":
        current = {"kind": "candlestick", **current}
    values[section] = {**current, **given}


def _drop_overruled(values: dict[str, Any], *, start: str | None, period: str | None) -> None:
    """A --start given takes the place of the file's period, and the other way round."""
    candles = values.get("candles", {})
    if start is not None and period is None:
        candles.pop("period", None)
    if period is not None and start is None:
        candles.pop("start", None)


def _candles(
    symbols: list[str] | None, file: Path | None, configured: dict[str, Any] | None
) -> dict[str, Any]:
    """What --symbol and --file say about the source, which the config may have named already."""
    if symbols and file is not None:
        raise ConfigError("--symbol and --file are both given; a dataset has one source, name one")
    if file is not None:
        return {"kind": "file", "path": str(file)}
    names = [name.strip() for text in symbols or [] for name in text.split(",") if name.strip()]
    if not names:
        return {}
    if names[0] in {"random_walk", "planted"}:
        if len(names) > 1:
            raise ConfigError(f"--symbol {names[0]} is a market of its own; name it alone")
        return {"kind": names[0]}
    via = "rest" if (configured or {}).get("kind") == "rest" else "archive"
    return {"kind": via, "symbols": tuple(name.upper() for name in names)}


def _split(text: str | None) -> dict[str, Any]:
    """A method, or shares by time such as 72/8/20."""
    if text is None:
        return {}
    parts = text.split("/")
    if len(parts) == 1:
        return {"method": text}
    try:
        shares = [float(part) for part in parts]
    except ValueError:
        shares = []
    if len(shares) != 3 or sum(shares) <= 0:
        raise ConfigError(
            f"--split '{text}' is not understood; allowed: time, walk_forward, random, "
            "or three shares such as 72/8/20"
        )
    total = sum(shares)
    names = ("train", "validation", "test")
    return {name: share / total for name, share in zip(names, shares, strict=True)}


def _summary(dataset: Dataset) -> list[str]:
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


def _found(folder: Path) -> list[dict[str, Any]]:
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
