"""`candlemark candles`: look at candles, bring them here, serve a folder of them.

candlemark candles show BTCUSDT --interval 1h --period 7days
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from candlemark.errors import CandlemarkError, ConfigError

if TYPE_CHECKING:
    from candlemark.candles.raw import RawCandles
    from candlemark.candles.series import CandleSeries, Gap
    from candlemark.candles.source import CandlesConfig
    from candlemark.candles.summary import CandleSummary

app = typer.Typer(
    help="Look at candles, bring them here, serve a folder of them.", no_args_is_help=True
)

SourceArgument = Annotated[
    str,
    typer.Argument(
        help="A symbol (BTCUSDT), a file (CSV, Parquet, Feather, zip), or random_walk, planted "
        "or planted_pair."
    ),
]
IntervalOption = Annotated[
    str | None,
    typer.Option("--interval", help="1s to 1w; 1h by default, told from the stamps of a file."),
]
StartOption = Annotated[
    str | None, typer.Option("--start", help="2024-01, 2024-01-05, '1 Jan, 2024', ... in UTC.")
]
EndOption = Annotated[
    str | None,
    typer.Option("--end", help="As --start; a month or day is all of it. Default: the newest."),
]
PeriodOption = Annotated[
    str | None, typer.Option("--period", help="That long up to --end: 7days, 2weeks, 12h.")
]
MarketOption = Annotated[str, typer.Option("--market", help="spot, um or cm.")]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="A mirror: https://..., http://127.0.0.1:PORT or file:///FOLDER; "
        "also CANDLEMARK_BINANCE_URL.",
    ),
]
ViaOption = Annotated[str, typer.Option("--via", help="archive (verified files) or rest (API).")]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", help="What a file calls a column, as close=LAST; volume=none: it has none."
    ),
]

_MOST_LISTED = 5


@app.command()
def show(
    *,
    source: SourceArgument,
    interval: IntervalOption = None,
    start: StartOption = None,
    end: EndOption = None,
    period: PeriodOption = None,
    market: MarketOption = "spot",
    base_url: BaseUrlOption = None,
    via: ViaOption = "archive",
    column: ColumnOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print range, count, gaps, duplicates, zero-volume runs and a small chart.

    Exits with status 1 if the candles break a rule.

    - `candlemark candles show BTCUSDT --interval 1h --period 7days`
    - `candlemark candles show prices.csv --column close=last`
    - `candlemark candles show BTCUSDT --base-url file:///data/binance --start 2024-01 --json`
    """
    from candlemark.candles.summary import summarise

    config = _config(
        source,
        interval=interval,
        start=start,
        end=end,
        period=period,
        market=market,
        base_url=base_url,
        via=via,
        column=column,
    )
    candles, symbol, interval = _look(config)
    report = summarise(candles, symbol=symbol, interval=interval)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        _print(report, candles)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def fetch(
    *,
    sources: Annotated[
        list[str], typer.Argument(help="Symbols, loaded all at once, or one file or market.")
    ],
    interval: IntervalOption = None,
    start: StartOption = None,
    end: EndOption = None,
    period: PeriodOption = None,
    market: MarketOption = "spot",
    base_url: BaseUrlOption = None,
    via: ViaOption = "archive",
    column: ColumnOption = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Read every published checksum again, and fetch what was published anew since.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Also write FILE.parquet, .feather or .csv, of one source."),
    ] = None,
) -> None:
    """Bring candles into the cache, verified, and write them to a file if asked.

    - `candlemark candles fetch BTCUSDT --interval 1h --start 2024-01 --end 2024-06`
    - `candlemark candles fetch BTCUSDT ETHUSDT SOLUSDT --interval 1m --start 2022 --end 2024`
    - `candlemark candles fetch ETHUSDT --period 14days --out eth.parquet`
    - `candlemark candles fetch BTCUSDT --start 2020 --end 2023 --refresh`
    """
    from candlemark.candles.export import check_suffix, write
    from candlemark.candles.series import format_time
    from candlemark.candles.source import load

    if out is not None:
        check_suffix(out)
    if out is not None and len(sources) > 1:
        raise ConfigError(
            f"--out {out} is one file and {len(sources)} sources are named; fetch them without "
            "--out first, then write each with a command of its own, which finds it in the cache"
        )
    config = _several(
        sources,
        interval=interval,
        start=start,
        end=end,
        period=period,
        market=market,
        base_url=base_url,
        via=via,
        column=column,
    )
    if refresh and config.kind != "archive":
        raise ConfigError(
            f"--refresh asks the archive again; {config.kind} keeps nothing to refresh"
        )
    for series in load(config, refresh=refresh):
        first, last = (format_time(int(series.open_time_ms[at])) for at in (0, -1))
        line = f"{series.symbol} {series.interval}: {len(series):,} candles, {first} to {last} UTC"
        if out is not None:
            write(series, out)
            line += f", written to {out}"
        typer.echo(line)


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="A folder laid out as the Binance archive.")],
    port: Annotated[int, typer.Option("--port", help="0 picks a free one.")] = 8765,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="KIND[:match=TEXT][:times=N][:seconds=N][:at=N]"),
    ] = None,
) -> None:
    """Serve a folder on 127.0.0.1 as the archive and its API, with faults if asked.

    Fault kinds: 403 404 418 429 500 503 cut flip checksum slow norange weight.

    - `candlemark candles serve data/binance`
    - `candlemark candles serve data/binance --fault 429:times=3:seconds=1 --fault cut:at=1000`
    """
    from candlemark.candles.mirror import Fault, Mirror

    mirror = Mirror(folder, port=port, faults=[Fault.parse(text) for text in fault or []])
    typer.echo(f"serving {folder} at {mirror.url}; stop with Ctrl-C")
    try:
        mirror.serve_forever()
    except KeyboardInterrupt:
        typer.echo("stopped")


def parse_columns(texts: list[str] | None) -> dict[str, str]:
    """`["close=LAST"]` as a mapping; `time` and `timestamp` mean open_time_ms."""
    columns: dict[str, str] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not value:
            raise ConfigError(f"--column '{text}' is not understood; write it as close=LAST")
        key = "open_time_ms" if name in {"time", "timestamp", "date", "open_time"} else name
        columns[key] = value
    return columns


def _config(
    source: str,
    *,
    interval: str | None,
    start: str | None,
    end: str | None,
    period: str | None,
    market: str,
    base_url: str | None,
    via: str,
    column: list[str] | None,
) -> CandlesConfig:
    from candlemark.candles.source import describe

    if via not in {"archive", "rest"}:
        raise ConfigError(f"--via '{via}' is unknown; known: archive, rest")
    return describe(
        source,
        interval=interval,
        start=start,
        end=end,
        period=period,
        market=market,
        base_url=base_url,
        via=via,
        columns=parse_columns(column),
    )


def _several(sources: list[str], **options: Any) -> CandlesConfig:
    """The config of one source, or of several symbols."""
    configs = [_config(source, **options) for source in sources]
    first = configs[0]
    if len(configs) == 1:
        return first
    for source, config in zip(sources, configs, strict=True):
        if config.kind not in {"archive", "rest"}:
            raise ConfigError(
                f"'{source}' is no symbol; several are symbols, as in BTCUSDT ETHUSDT"
            )
    # A symbol named twice is one.
    symbols = tuple(dict.fromkeys(symbol for config in configs for symbol in config.symbols))
    return first.model_copy(update={"symbols": symbols})


def _look(config: CandlesConfig) -> tuple[CandleSeries | RawCandles, str, str]:
    """The candles, validated unless they come from a file, where damage is to be shown."""
    from candlemark.candles.source import load, read_raw

    if config.kind == "file":
        raw, symbol, interval = read_raw(config)
        try:
            return raw.to_series(symbol=symbol, interval=interval), symbol, interval
        except CandlemarkError:
            return raw, symbol, interval
    series = load(config)[0]
    return series, series.symbol, series.interval


def _print(report: CandleSummary, candles: CandleSeries | RawCandles) -> None:
    from candlemark.candles.series import CandleSeries

    for name, text in _lines(report):
        typer.echo(f"{name:<12}{text}")
    if isinstance(candles, CandleSeries):
        from candlemark.candles.terminal import draw

        typer.echo("")
        for line in draw(candles, width=72, height=12):
            typer.echo(_printable(line))


def _printable(line: str) -> str:
    """The line as the terminal can show it: block characters need a Unicode encoding."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(str.maketrans("│█░┤", "|#o|"))
    return line


def _lines(report: CandleSummary) -> list[tuple[str, str]]:
    from candlemark.candles.series import format_time

    if report.start_ms is None or report.end_ms is None:
        return [("candles", "none")]
    lines: list[tuple[str, str]] = [
        ("series", f"{report.symbol} {report.interval}"),
        ("range", f"{format_time(report.start_ms)} to {format_time(report.end_ms)} UTC"),
        ("candles", f"{report.count:,} in {report.slot_count:,} slots"),
        ("gaps", _runs(report.gaps, report.missing_count, "slots missing")),
        ("duplicates", f"{report.duplicate_count:,}" if report.duplicate_count else "none"),
        ("zero volume", _runs(report.zero_volume_runs, None, "candles")),
    ]
    if report.low is not None and report.high is not None:
        lines.append(("price", f"{report.low:,.8g} to {report.high:,.8g}"))
    lines.append(("volume", f"{report.volume:,.8g}"))
    damage: dict[str, Any] = dict(report.broken)
    if report.unordered_count:
        damage["stamp is earlier than the row before"] = report.unordered_count
    if report.off_grid_count:
        damage[f"stamp is not on the {report.interval} grid"] = report.off_grid_count
    lines += [("broken", f"{rule}: {count:,} rows") for rule, count in damage.items()]
    return lines


def _runs(runs: tuple[Gap, ...], total: int | None, noun: str) -> str:
    from candlemark.candles.series import format_time

    if not runs:
        return "none"
    count = sum(run.slot_count for run in runs) if total is None else total
    longest = sorted(runs, key=lambda run: -run.slot_count)[:_MOST_LISTED]
    listed = ", ".join(f"{run.slot_count:,} from {format_time(run.start_ms)}" for run in longest)
    more = f", and {len(runs) - len(longest)} more" if len(runs) > len(longest) else ""
    return f"{count:,} {noun} in {len(runs):,} run(s): {listed}{more}"
