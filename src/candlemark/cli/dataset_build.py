"""`candlemark dataset build`: flags and files become one complete config, which is built."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from candlemark import __version__
from candlemark.cli.dataset_summary import summary
from candlemark.errors import ConfigError

if TYPE_CHECKING:
    from candlemark.dataset.config import DatasetConfig
    from candlemark.dataset.lazy import Dataset
    from candlemark.dataset.pipeline_config import PipelineConfig


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
            "--symbol",
            help="BTCUSDT, or random_walk, planted or planted_pair; repeat or separate by commas.",
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
            "forward_return, triple_barrier, next_close, direction.",
        ),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option("--horizon", help="Candles ahead, for the last forecasts.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Return between classes: 0.005 is 0.5 %.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", help="2, or 3 with flat; direction has 3.")
    ] = None,
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
        str | None,
        typer.Option(
            "--storage",
            help="none (drawn when read, default), hdf5, npz, zarr, png or jpeg.",
        ),
    ] = None,
    storage_mode: Annotated[
        str | None,
        typer.Option("--storage-mode", help="single (a file a picture) or batch (many in each)."),
    ] = None,
    images_per_file: Annotated[
        int | None,
        typer.Option("--images-per-file", help="Pictures of an npz file or a zarr shard."),
    ] = None,
    packing: Annotated[
        str | None,
        typer.Option(
            "--packing", help="Pictures of two levels as bits: auto (in hdf5, default), bits, none."
        ),
    ] = None,
    jpeg_quality: Annotated[
        int | None, typer.Option("--jpeg-quality", help="1 to 100; default 95.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of hidden candles and random splits.")
    ] = None,
    upload_to_hf: Annotated[
        bool, typer.Option("--upload-to-hf", help="Publish it on the Hugging Face Hub as well.")
    ] = False,
    hf_repo_id: Annotated[
        str | None, typer.Option("--hf-repo-id", help="USER/NAME, or a NAME of your own.")
    ] = None,
    hf_private: Annotated[
        bool, typer.Option("--hf-private", help="A new repository is seen by you alone.")
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", help="Better in HF_TOKEN: an option can be read by others on this machine."
        ),
    ] = None,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Publish as a pull request.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build, and show what an upload would change.")
    ] = False,
) -> None:
    """Build a dataset, or open it if it is there already.

    --config takes a complete config (`candles:`, `window:`, `style:`, `storage:`, ...) or a
    pipeline's file (`data:`, `image:`, `paths:`), which also writes `logs/pipeline_TIME.log`.

    - `candlemark dataset build --symbol BTCUSDT --interval 1h --period 90days`
    - `candlemark dataset build --symbol BTCUSDT,ETHUSDT --start 2024-01 --label forward_return`
    - `candlemark dataset build --file prices.csv --style ohlc4 --storage hdf5 --out datasets/mine`
    - `candlemark dataset build --symbol BTCUSDT --storage npz --images-per-file 5000`
    - `candlemark dataset build --symbol BTCUSDT --storage jpeg --jpeg-quality 90`
    - `candlemark dataset build --config dataset.yaml --window-size 60`
    - `candlemark dataset build --symbol BTCUSDT --upload-to-hf --hf-repo-id me/btc --hf-private`
    """
    from candlemark.config import parse, read_mapping
    from candlemark.dataset.config import DatasetConfig
    from candlemark.dataset.pipeline_config import read_pipeline

    where = str(config) if config is not None else "dataset"
    values = read_mapping(config) if config is not None else {}
    pipeline = read_pipeline(values, where=where)
    if pipeline is not None:
        values = pipeline.dataset_values()
    _put(values, "candles", _candles(symbol, file, values.get("candles")))
    _put(values, "candles", {"interval": interval, "start": start, "end": end, "period": period})
    _drop_overruled(values, start=start, period=period)
    _put(values, "candles", {"market": market, "base_url": base_url})
    _put(values, "label", {"name": label, "horizon": horizon, "threshold": threshold})
    _put(values, "label", {"classes": classes})
    _put(values, "style", {"kind": style, "height": height, "width": width})
    _put(values, "split", {**_split(split), "embargo": embargo, "seed": seed})
    _put(
        values,
        "storage",
        {
            "format": storage,
            "mode": storage_mode,
            "images_per_file": images_per_file,
            "packing": packing,
            "quality": jpeg_quality,
        },
    )
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
    complete = parse(DatasetConfig, values, where=where)
    if not values.get("candles"):
        raise ConfigError("no candles are named; give --symbol BTCUSDT, --file PATH or --config")
    options = {"--hf-repo-id": hf_repo_id, "--hf-private": hf_private, "--token": token}
    options |= {"--create-pr": create_pr, "--dry-run": dry_run}
    push = _pusher(options, asked=upload_to_hf)
    if pipeline is None:
        push(_build(complete, out, typer.echo))
    else:
        push(_build_logged(complete, out, pipeline))


def _pusher(options: dict[str, Any], *, asked: bool) -> Callable[[Dataset], None]:
    """What is done with the dataset when it is built; what stands in the way is said before."""
    if not asked:
        stray = next((name for name, value in options.items() if value), None)
        if stray is not None:
            raise ConfigError(f"{stray} is about publishing; add --upload-to-hf, or leave it out")
        return lambda _: None
    repo_id = options["--hf-repo-id"]
    if repo_id is None:
        raise ConfigError("--upload-to-hf needs a name; add --hf-repo-id USER/NAME")
    from candlemark.hub.client import Hub

    hub = Hub(token=options["--token"])
    repo_id = hub.full_id(repo_id)
    if not options["--dry-run"]:
        hub.user()

    def push(dataset: Dataset) -> None:
        from candlemark.cli.hub import tell
        from candlemark.hub.publish import push_dataset

        pushed = push_dataset(
            dataset,
            repo_id,
            hub=hub,
            private=options["--hf-private"],
            create_pr=options["--create-pr"],
            dry_run=options["--dry-run"],
        )
        tell(pushed)

    return push


def _build(
    config: DatasetConfig, out: Path | None, say: Callable[[str], None], *, root: Path | None = None
) -> Dataset:
    from candlemark.charts.threads import core_count
    from candlemark.dataset.build import DEFAULT_FOLDER, build_dataset
    from candlemark.progress import note

    cores = core_count()
    note(f"drawing with numba on {cores} CPU thread{'s' if cores > 1 else ''}")
    dataset = build_dataset(config, out, root=root or DEFAULT_FOLDER)
    for line in summary(dataset):
        say(line)
    say(f"audit it with: candlemark dataset audit {dataset.path}")
    return dataset


def _build_logged(config: DatasetConfig, out: Path | None, pipeline: PipelineConfig) -> Dataset:
    """As the file's `paths` say: where candles are kept, where the dataset goes, with a log."""
    import yaml

    from candlemark.candles.cache import kept_in
    from candlemark.cli.pipeline_log import PipelineLog
    from candlemark.progress import note

    paths = pipeline.paths
    with PipelineLog(paths.logs) as log, kept_in(paths.raw_data):
        log.record("command", shlex.join(["candlemark", *_without_token(sys.argv[1:])]))
        log.record("candlemark", __version__)
        for title, part in (("as written", pipeline), ("as built", config)):
            plain = part.model_dump(mode="json", exclude_none=True)
            log.record(title, yaml.safe_dump(plain, sort_keys=False))
        # Of what flags have overruled nothing is said.
        if config.storage.format == pipeline.image.storage.format:
            for line in pipeline.idle_storage():
                note(line)
        if config.candles.kind == pipeline.data.symbol[0]:
            for line in pipeline.idle_dates():
                note(line)
        dataset = _build(config, out, log.say, root=paths.processed_data)
        log.say(f"models go to {paths.models}: candlemark models list --store {paths.models}")
        log.say(f"log         {log.path}")
    return dataset


def _without_token(words: list[str]) -> list[str]:
    """The words of the command with stars for the token: a log is read by others."""
    kept = []
    for word, before in zip(words, ["", *words], strict=False):
        name = word.partition("=")[0]
        hidden = "***" if before == "--token" else word
        kept.append("--token=***" if name == "--token" and "=" in word else hidden)
    return kept


def _put(values: dict[str, Any], section: str, changes: dict[str, Any]) -> None:
    """Lay the flags that were given over a section of the config."""
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        return
    current = values.get(section) or {}
    if isinstance(current, str):  # a style by name
        current = {"kind": current}
    if section == "style":
        current = {"kind": "candlestick", **current}
    if section == "storage" and given.get("format", current.get("format")) != current.get("format"):
        current = {}  # the other keys were meant for the other format
    values[section] = {**current, **given}


def _drop_overruled(values: dict[str, Any], *, start: str | None, period: str | None) -> None:
    """A --start given takes the place of the file's period, and the other way round."""
    candles = values.get("candles") or {}
    if start is not None and period is None:
        candles.pop("period", None)
    if period is not None and start is None:
        candles.pop("start", None)


def _candles(
    symbols: list[str] | None, file: Path | None, configured: dict[str, Any] | None
) -> dict[str, Any]:
    """What --symbol and --file say about the source, which the config may have named already."""
    from candlemark.candles.source import SYNTHETIC

    if symbols and file is not None:
        raise ConfigError("--symbol and --file are both given; a dataset has one source, name one")
    if file is not None:
        return {"kind": "file", "path": str(file)}
    names = [name.strip() for text in symbols or [] for name in text.split(",") if name.strip()]
    if not names:
        return {}
    if names[0] in SYNTHETIC:
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
