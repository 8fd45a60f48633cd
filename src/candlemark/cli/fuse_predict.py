"""`candlemark fuse predict`: ask a trained model about a market, or about a chart.

candlemark fuse predict models/fusion --symbol BTCUSDT --attention why.png
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from candlemark.errors import ConfigError

if TYPE_CHECKING:
    from candlemark.app.questions import Asked


def predict(
    model: Annotated[str, typer.Argument(help="A model folder, or an id on the Hub.")],
    symbol: Annotated[
        str | None,
        typer.Option(
            "--symbol",
            help="A symbol (BTCUSDT), a file of candles, or random_walk, planted or planted_pair.",
        ),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option("--interval", help="1s to 1w; by default what the model was trained on."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            help="When one looks, in UTC: only candles closed by then are seen. A day or a month "
            "means its end. Default: the newest candle.",
        ),
    ] = None,
    chart: Annotated[
        Path | None, typer.Option("--chart", help="A picture of a chart, instead of --symbol.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="What the chart shows, for models that read texts."),
    ] = None,
    last_close: Annotated[
        float | None,
        typer.Option("--last-close", help="With --chart or --text: turns the change into a price."),
    ] = None,
    attention: Annotated[
        Path | None,
        typer.Option("--attention", help="Draw where the model looked, as this PNG."),
    ] = None,
    market: Annotated[
        str | None, typer.Option("--market", help="spot (default), um or cm.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", help="A mirror of the archive; also CANDLEMARK_BINANCE_URL."),
    ] = None,
    via: Annotated[
        str | None,
        typer.Option("--via", help="archive (verified files, default) or rest (API, up to now)."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print classes, probabilities and the next close with its interval; draw the attention.

    A market is drawn and described as the model's training charts were. A picture of another
    size is resized, with a note.

    - `candlemark fuse predict models/fusion --symbol BTCUSDT`
    - `candlemark fuse predict models/fusion --symbol ETHUSDT --time "2024-05-31 13:00" --json`
    - `candlemark fuse predict models/fusion --chart chart.png --text "30 candles. ..."`
    """
    from candlemark.app.questions import Words, ask_given, ask_market
    from candlemark.models.fusion.predictor import Predictor

    of_a_market = {"interval": interval, "time": time, "market": market, "via": via}
    _check(symbol, chart, text, last_close, {**of_a_market, "base-url": base_url})
    predictor = Predictor.load(model, device)
    if attention is not None and not predictor.reads_image:
        raise ConfigError(
            f"--attention: {model} reads {predictor.inputs} and looks at no chart; leave it out"
        )
    if symbol is not None:
        asked = ask_market(
            predictor,
            symbol,
            interval=interval,
            at=time,
            market=market or "spot",
            base_url=base_url,
            via=via or "archive",
        )
    else:
        words = Words(chart="--chart FILE", text="--text TEXT", market="--symbol SYMBOL")
        asked = ask_given(predictor, chart=chart, text=text, last_close=last_close, words=words)
    drawn = None if attention is None else _draw(asked, attention)
    if as_json:
        from candlemark.cli.output import print_json

        print_json(
            {"model": model, **asked.to_dict(), "attention": None if drawn is None else str(drawn)}
        )
        return
    _print(asked, drawn)


def _check(
    symbol: str | None,
    chart: Path | None,
    text: str | None,
    last_close: float | None,
    of_a_market: Mapping[str, str | None],
) -> None:
    """ConfigError unless exactly one kind of question is asked."""
    given = {"--chart": chart, "--text": text, "--last-close": last_close}
    both = [name for name, value in given.items() if value is not None]
    if symbol is not None and both:
        raise ConfigError(
            f"--symbol brings picture, text and last close of its own; leave out {both[0]}"
        )
    if symbol is None and chart is None and text is None:
        raise ConfigError(
            "there is nothing to ask about; give --symbol BTCUSDT, or --chart FILE, with --text "
            "for models that read texts"
        )
    if symbol is None:
        for name, value in of_a_market.items():
            if value is not None:
                raise ConfigError(f"--{name} belongs to --symbol; leave it out, or name a symbol")


def _draw(asked: Asked, path: Path) -> Path:
    """The figure of where the model looked."""
    from candlemark.app.questions import forecast_words
    from candlemark.report.attention import draw_attention

    if asked.picture is None:
        raise ConfigError("--attention: there is no chart in this question; ask about --symbol")
    return draw_attention(
        asked.picture,
        asked.answer.attention,
        path,
        title=asked.title,
        probabilities=asked.answer.probabilities,
        forecast=forecast_words(asked.answer),
        note=asked.answer.attention_reason,
    )


def _print(asked: Asked, drawn: Path | None) -> None:
    from candlemark.app.questions import forecast_words

    typer.echo(asked.title)
    if asked.text is not None:
        typer.echo(f"read: {asked.text}")
    typer.echo("")
    answer = asked.answer
    width = max(len(name) for name in answer.probabilities)
    for name, share in answer.probabilities.items():
        typer.echo(
            f"  {name:<{width}}  {100 * share:5.1f} %{'  <' if name == answer.label else ''}"
        )
    typer.echo("")
    typer.echo(forecast_words(answer))
    for note in asked.notes:
        typer.echo(f"note: {note}")
    if drawn is not None:
        if answer.attention_reason is not None:
            typer.echo(f"note: no attention: {answer.attention_reason}")
        typer.echo(f"attention: {drawn}")
