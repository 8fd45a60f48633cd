"""`candlemark demo`, `bench` and `run`: config -> run -> report -> table.

The reading order of the whole program starts here and goes on in `benchmark/runner.py`,
`training/loop.py` and `records.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from candlemark.cli.options import AsJson, OutputDir, Resume, whole_numbers, words

if TYPE_CHECKING:
    from candlemark.benchmark.config import BenchmarkConfig
    from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
    from candlemark.launch.suite import FinishedRun

DEFAULT_PERIOD = "365days"
SHORT_PERIOD_DAYS = 31
"""Up to this long a period is read in 1m candles by default, beyond it in 1h candles."""


def demo(
    output_dir: OutputDir = Path("benchmarks"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of markets, models and training.")] = 0,
    resume: Resume = True,
    json: AsJson = False,
) -> None:
    """Run the whole job on synthetic markets, with no network: under two minutes on 2 cores.

    A planted signal that can be found, a random walk where nothing can, and a label that is
    visible in the picture: the table shows whether this machine tells them apart.

    - `candlemark demo --output-dir /tmp/demo`
    """
    from candlemark.benchmark import suites

    _run_and_report(suites.demo(seed), output_dir, prefix="demo", resume=resume, json=json)


def bench(
    coin: Annotated[
        str | None,
        typer.Option("--coin", "--symbol", help="Symbol on the exchange, e.g. BTCUSDT."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Candles from a CSV, Parquet or Feather file instead.")
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(help="Candle interval; by default 1m up to 31 days, 1h beyond."),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(help="That long up to --end, e.g. 7days; by default 365days."),
    ] = None,
    start: Annotated[str | None, typer.Option(help="First day, e.g. 2024-01.")] = None,
    end: Annotated[
        str | None,
        typer.Option(help="A month or day is all of it; by default the newest candle there is."),
    ] = None,
    market: Annotated[str, typer.Option(help="spot, um or cm (futures).")] = "spot",
    base_url: Annotated[
        str | None,
        typer.Option(help="Archive mirror: http://127.0.0.1:PORT or file:///FOLDER."),
    ] = None,
    model_set: Annotated[
        str | None,
        typer.Option(
            help="quick_test (default), lightweight, balanced, full_benchmark, "
            "transformers_only or cnns_only."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Any Hub or timm id, or a local folder; repeat it or separate by commas."
        ),
    ] = None,
    window_size: Annotated[int, typer.Option(help="Candles in a picture.")] = 30,
    experiment_type: Annotated[str, typer.Option(help="regular, fullimage or irregular.")] = (
        "regular"
    ),
    missing_share: Annotated[
        float, typer.Option(help="Share of hidden candles in `irregular`: 0.6, 0.8, 0.95.")
    ] = 0.6,
    label: Annotated[
        str,
        typer.Option(
            help="Forecasts: next_candle, forward_return, triple_barrier, next_close, direction. "
            "Recognition: last_candle, window_trend."
        ),
    ] = "next_candle",
    horizon: Annotated[
        int, typer.Option(help="Candles ahead, for forward_return, triple_barrier, direction.")
    ] = 1,
    classes: Annotated[
        int | None,
        typer.Option(help="2 (default) or 3 for forward_return, triple_barrier; direction has 3."),
    ] = None,
    style: Annotated[str, typer.Option(help="candlestick, ohlc4 or jkx.")] = "candlestick",
    max_samples: Annotated[
        int, typer.Option(help="At most so many windows, evenly spaced in time; 0 for all.")
    ] = 2000,
    epochs: Annotated[int, typer.Option(help="Epochs at most; training stops early.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images a training step.")] = 32,
    weights: Annotated[
        str, typer.Option(help="pretrained, random, or a local path.")
    ] = "pretrained",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load weights that are no safetensors.")
    ] = False,
    mode: Annotated[str, typer.Option(help="full (fine-tuning) or frozen (head only).")] = "full",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    seeds: Annotated[str, typer.Option(help="One training each, e.g. 0,1,2.")] = "0",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps or xpu.")] = "auto",
    timeout: Annotated[
        float | None, typer.Option(help="Seconds a trial may take; by default no limit.")
    ] = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep what is trained in OUTPUT_DIR/models.")
    ] = False,
    output_dir: OutputDir = Path("benchmarks"),
    resume: Resume = True,
    list_data: Annotated[
        bool, typer.Option("--list-data", help="List the candles that are there, then stop.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Benchmark models on real candles, beside baselines and controls.

    - `candlemark bench --coin BTCUSDT --period 7days`
    - `candlemark bench --coin BTCUSDT --interval 1h --start 2024-01 --end 2024-12
      --model-set lightweight --epochs 5`
    - `candlemark bench --file candles.csv --models timm/resnet18.a1_in1k --weights random`
    """
    from candlemark.benchmark import suites
    from candlemark.candles.source import CandlesConfig
    from candlemark.config import parse
    from candlemark.errors import ConfigError
    from candlemark.training.config import TrainingConfig

    if list_data:
        _list_data(base_url, json=json)
        return
    if (coin is None) == (file is None):
        given = "both are given" if coin is not None else "neither is given"
        raise ConfigError(
            f"name the candles: --coin BTCUSDT or --file candles.csv, one of the two; {given}"
        )
    if model_set is not None and models:
        raise ConfigError(
            f"--model-set {model_set} and --models {','.join(models)} are both given; name one"
        )
    if period is None and start is None and file is None:
        period = DEFAULT_PERIOD
    candles = {
        "kind": "file" if coin is None else "archive",
        "symbols": tuple(symbol.upper() for symbol in words([coin or ""])),
        "path": str(file) if file else None,
        "interval": interval or (_default_interval(period, start, end) if coin else None),
        "period": period,
        "start": start,
        "end": end,
        "market": market,
        "base_url": base_url,
    }
    dataset = {
        "candles": parse(
            CandlesConfig, {k: v for k, v in candles.items() if v is not None}, where="candles"
        ),
        "window": window_size,
        "experiment": experiment_type,
        "missing_share": missing_share,
        "label": {
            "name": label,
            "horizon": horizon,
            **({} if classes is None else {"classes": classes}),
        },
        "style": {"kind": style},
        "max_samples": max_samples,
    }
    config = suites.bench(
        dataset,
        models=tuple(words(models)) or suites.models_of(model_set or "quick_test"),
        training=parse(
            TrainingConfig,
            {"epochs": epochs, "batch_size": batch_size, "precision": precision, "mode": mode},
        ),
        weights=weights,
        allow_pickle=allow_pickle,
        seeds=whole_numbers(seeds),
        device=device,
        timeout_s=timeout,
        keep_models=keep_models,
    )
    _run_and_report(config, output_dir, prefix="bench", resume=resume, json=json)


def run(
    config: Annotated[Path, typer.Argument(help="A YAML or JSON file.")],
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", help="By default what the config names, else benchmarks."),
    ] = None,
    resume: Resume = True,
    json: AsJson = False,
) -> None:
    """Run a benchmark from a config file, for example one saved beside earlier results.

    - `candlemark run benchmarks/results/suite_0123456789abcdef.yaml`
    """
    from candlemark.benchmark.inference.config import InferenceConfig
    from candlemark.benchmark.segmentation.config import SegmentationConfig
    from candlemark.cli.profile import measure_and_show
    from candlemark.cli.segment import segment_and_show
    from candlemark.launch.run import as_config

    complete = as_config(config)
    if isinstance(complete, SegmentationConfig):
        segment_and_show(complete, output_dir, resume=resume, json=json)
        return
    folder = output_dir or Path("benchmarks")
    if isinstance(complete, InferenceConfig):
        measure_and_show(complete, folder, rerun=not resume, json=json, again="--no-resume")
        return
    _run_and_report(complete, folder, prefix=config.stem, resume=resume, json=json)


def _run_and_report(
    config: BenchmarkConfig | FusionBenchmarkConfig,
    output_dir: Path,
    *,
    prefix: str,
    resume: bool,
    json: bool,
) -> None:
    """Run, then show: the part that demo, bench and run share."""
    from candlemark.launch import run as launch

    finished = launch.run(config, output_dir=output_dir, resume=resume)
    lines = []
    if config.keep_models and config.task == "charts":
        lines = [f"models:  candlemark models list --store {output_dir / 'models'}"]
    elif config.keep_models:
        lines = [f"models:  {output_dir / 'models'}"]
    show_finished(finished, output_dir, prefix=prefix, json=json, lines=lines)


def show_finished(
    finished: FinishedRun,
    output_dir: Path,
    *,
    prefix: str,
    json: bool,
    lines: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of a suite, then print its tables or one JSON object.

    lines: printed below the tables; more: further keys of the object
    """
    from candlemark.cli.output import print_json
    from candlemark.report.build import build_report
    from candlemark.report.text import show
    from candlemark.results.store import open_results

    with open_results(finished.results_dir, read_only=True) as results:
        report = build_report(
            results, output_dir / "reports", prefix=prefix, suite_id=finished.suite_id
        )
    if json:
        print_json(
            {
                "suite_id": finished.suite_id,
                "trained": finished.ran,
                "results": str(finished.results_dir),
                **(more or {}),
                **report.to_dict(),
            }
        )
        return
    show(report.boards)
    typer.echo(f"\nreport:  {report.html}\nresults: {finished.results_dir}")
    for line in lines:
        typer.echo(line)
    if not finished.ran:
        typer.echo("every trial had been finished before; --no-resume runs them again")


def _default_interval(period: str | None, start: str | None, end: str | None) -> str:
    """1m for what is short, 1h for what is long, up to now where no end is named."""
    from datetime import UTC, datetime

    from candlemark.candles.dates import parse_period, parse_range

    if period is not None:
        length_ms = parse_period(period)
    else:
        first_ms, end_ms = parse_range(start, end)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        length_ms = (end_ms or now_ms) - (first_ms or 0)
    return "1m" if length_ms <= SHORT_PERIOD_DAYS * 86_400_000 else "1h"


def _list_data(base_url: str | None, *, json: bool) -> None:
    """What --list-data shows."""
    import os

    from candlemark.candles.archive import PUBLIC_URL
    from candlemark.candles.listing import list_candles
    from candlemark.candles.source import URL_ENVIRONMENT
    from candlemark.cli.output import print_json

    place = base_url or os.environ.get(URL_ENVIRONMENT) or PUBLIC_URL
    listings = list_candles(place)
    if json:
        print_json({"base_url": place, "candles": [listing.to_dict() for listing in listings]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("market", "symbol", "interval", "first", "last", "files", box=None)
    for one in listings:
        table.add_row(one.market, one.symbol, one.interval, one.first, one.last, str(one.files))
    Console().print(table)
    if not listings:
        typer.echo(
            f"nothing fetched from {place} yet; try: candlemark bench --coin BTCUSDT --period 7days"
        )
