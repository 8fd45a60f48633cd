"""The page on which a fusion model can be tried: a market and a time, or a chart of one's own.

    page = build_page(Predictor.load("models/fusion"), name="models/fusion")
    with serve(page) as address: ...

The page loads nothing from other hosts and reports to nobody: fonts are the reader's own,
analytics are off. It listens on 127.0.0.1 unless another address is asked for. What goes wrong
with a question is told in one sentence; files of the server cannot be asked about.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from candlemark.app.questions import (
    DEFAULT_INTERVAL,
    EXAMPLE_TEXT,
    Asked,
    Words,
    ask_given,
    ask_market,
    change_words,
    interval_words,
    known_interval,
    known_symbols,
    market_name,
    price_words,
)
from candlemark.candles.archive_files import check_symbol
from candlemark.candles.series import INTERVAL_MS
from candlemark.candles.source import SYNTHETIC
from candlemark.errors import CandlemarkError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from candlemark.models.fusion.predictor import Answer, Predictor, UInt8Array

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 7860
SHOWN_SIDE = 640
"""A chart is shown at least that large, in whole pixels of its own."""

KEPT_S = 3600
"""How long pictures that the page has made or was given stay on the disk."""

VEIL = (179, 89, 0)
"""The colour over the places that were looked at, as in the figures of reports."""

NEARLY_EVEN = 1.5
"""Times an even share below which the most looked-at place is hardly singled out."""

DARKEST = 0.7
"""Opacity of the veil where it is full: the chart stays legible under it."""

WORDS = Words(market="a symbol, on the first tab")

CSS = """
.gradio-container {max-width: 1080px !important; margin: 0 auto !important;}
#head h1 {font-size: 1.55rem; font-weight: 650; margin: .4rem 0 .1rem; letter-spacing: -.01em;}
#head p {margin: .15rem 0; color: var(--body-text-color-subdued); line-height: 1.45;}
#head .tag {display: inline-block; padding: .08rem .55rem; margin: .25rem .35rem 0 0;
  border: 1px solid var(--border-color-primary); border-radius: 99px; font-size: .82rem;
  color: var(--body-text-color);}
.answer .asked {font-size: .85rem; color: var(--body-text-color-subdued); margin: 0 0 .7rem;}
.answer .asked span {display: inline-block; color: inherit;}
.answer .row {display: grid; grid-template-columns: minmax(4.5rem, max-content) 1fr 3.6rem;
  gap: .7rem; align-items: center; margin: .4rem 0;}
.answer .track {height: .8rem; border-radius: 99px; background: var(--border-color-primary);
  overflow: hidden;}
.answer .bar {height: 100%; border-radius: 99px; background: var(--neutral-400);}
.answer .best .bar {background: var(--primary-600);}
.answer .best .name, .answer .best .share {font-weight: 650;}
.answer .share {text-align: right; font-variant-numeric: tabular-nums;}
.answer .close {margin-top: 1.1rem; padding-top: .9rem;
  border-top: 1px solid var(--border-color-primary);}
.answer .close .number {font-size: 1.7rem; font-weight: 650; line-height: 1.15;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;}
.answer .close .change {font-size: 1rem; font-weight: 500; margin-left: .5rem;
  color: var(--body-text-color-subdued); white-space: nowrap;}
.answer .small {font-size: .85rem; color: var(--body-text-color-subdued); margin: .3rem 0 0;
  line-height: 1.45;}
.answer .note {border-left: 3px solid #b35900; padding-left: .6rem;}
.answer.problem {border: 1px solid #b35900; border-left-width: 4px; border-radius: 8px;
  padding: .8rem 1rem; line-height: 1.5; overflow-wrap: anywhere;}
.answer.empty {color: var(--body-text-color-subdued); padding: 1.2rem 0;}
#looked img {image-rendering: pixelated;}
footer {display: none !important;}
"""


_EMPTY = (
    '<div class="answer empty">Ask something, and the answer stands here: how likely each class '
    "is, where the next close is expected, and where on the chart the model looked.</div>"
)


def build_page(predictor: Predictor, *, name: str) -> Any:
    """The page as gradio Blocks; start it with `serve`.

    name: what the model is called at the head of the page

    Two questions can also be asked by a program, `/market` and `/chart`: each answers with JSON
    and the picture, and raises what is wrong.

    Raises MissingExtraError: gradio is not installed.
    """
    gr = _gradio()
    with gr.Blocks(
        title=f"{name}: candlemark", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)
    ) as page:
        gr.HTML(head_of(predictor, name), elem_id="head")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320), gr.Tabs():
                with gr.Tab("A market", id="market"):
                    market = _market_boxes(gr, predictor)
                given: list[Any] = []
                if not predictor.reads_numbers:
                    with gr.Tab(_own_name(predictor), id="given"):
                        given = _given_boxes(gr, predictor)
            with gr.Column(scale=6, min_width=320):
                shown = _answer_boxes(gr)
        _connect(gr, "market", market, _market_question(predictor), shown)
        if given:
            _connect(gr, "chart", given, _given_question(predictor), shown)
    return page


def _market_boxes(gr: Any, predictor: Predictor) -> list[Any]:
    symbols, interval = known_symbols(predictor.config), known_interval(predictor.config)
    symbol = gr.Textbox(
        label="Symbol",
        value=symbols[0] if symbols else "BTCUSDT",
        info=f"As on Binance, or {', '.join(SYNTHETIC)} for a market that is made up.",
        elem_id="symbol",
    )
    at = gr.Textbox(
        label="Time (UTC)",
        placeholder="2024-05-31 13:00",
        info="Only candles closed by then are looked at. Empty: the newest there are.",
        elem_id="time",
    )
    taken = gr.Dropdown(
        list(INTERVAL_MS),
        label="Candle length",
        value=interval or DEFAULT_INTERVAL,
        info=f"The model was trained on {interval}." if interval else None,
        elem_id="interval",
    )
    return [symbol, at, taken, gr.Button("Ask", variant="primary", elem_id="ask-market")]


def _given_boxes(gr: Any, predictor: Predictor) -> list[Any]:
    size = " x ".join(str(side) for side in predictor.image_shape[1::-1])
    chart = gr.Image(
        label=f"A chart of {size} pixels",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=260,
        visible=predictor.reads_image,
        elem_id="chart",
    )
    # gradio would open the file first, and answer a damaged one with an error of its own. A
    # subclass is no way: gradio writes a .pyi beside the module of each.
    chart.preprocess = lambda given: None if given is None else given.path
    text = gr.Textbox(
        label="What the chart shows" if predictor.reads_image else "What the window shows",
        placeholder=EXAMPLE_TEXT,
        info="In the words of the captions that the model has read.",
        lines=3,
        visible=predictor.reads_text,
        elem_id="text",
    )
    last_close = gr.Textbox(
        label="Last close, if you know it",
        placeholder="94250.5",
        info="With it the next close is a price, without it a change in per cent.",
        elem_id="last-close",
    )
    return [chart, text, last_close, gr.Button("Ask", variant="primary", elem_id="ask-given")]


def _answer_boxes(gr: Any) -> list[Any]:
    answer = gr.HTML(_EMPTY, elem_id="answer")
    looked = gr.Image(
        label="Where it looked",
        interactive=False,
        format="png",
        buttons=["download", "fullscreen"],
        visible=False,
        elem_id="looked",
    )
    read = gr.Textbox(
        label="What it read",
        interactive=False,
        lines=3,
        buttons=["copy"],
        visible=False,
        elem_id="read",
    )
    return [answer, looked, read]


def _connect(
    gr: Any, name: str, boxes: list[Any], ask: Callable[..., Asked], shown: list[Any]
) -> None:
    """Ask by button or by the enter key, and by programs under `name`."""
    *inputs, button = boxes
    hidden = (gr.update(value=None, visible=False),) * 2

    def shown_if(value: Any) -> Any:
        return hidden[0] if value is None else gr.update(value=value, visible=True)

    def answer(*values: Any) -> tuple[Any, ...]:
        try:
            asked = ask(*values)
        except CandlemarkError as error:
            return problem_html(str(error)), *hidden
        return answer_html(asked), shown_if(looked_at(asked)), shown_if(asked.text)

    def serve(*values: Any) -> tuple[dict[str, Any], UInt8Array | None]:
        try:
            asked = ask(*values)
        except CandlemarkError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return asked.to_dict(), looked_at(asked)

    # Of several lines the enter key makes one more.
    lines = [box for box in inputs if isinstance(box, gr.Textbox) and box.lines == 1]
    gr.on(
        [button.click, *(box.submit for box in lines)],
        answer,
        inputs,
        shown,
        api_visibility="private",
        show_progress_on=shown[0],
        scroll_to_output=True,
        trigger_mode="once",
    )
    told, drawn = gr.JSON(visible=False), gr.Image(visible=False, format="png")
    gr.Button(visible=False).click(serve, inputs, [told, drawn], api_name=name)


def _market_question(predictor: Predictor) -> Callable[..., Asked]:
    def ask(symbol: str | None, at: str | None, interval: str | None) -> Asked:
        # A name of a file would be read where this runs, for whoever asks.
        named = market_name((symbol or "").strip())
        source = named if named in SYNTHETIC else check_symbol(named)
        return ask_market(predictor, source, interval=interval, at=(at or "").strip() or None)

    return ask


def _given_question(predictor: Predictor) -> Callable[..., Asked]:
    def ask(chart: str | None, text: str | None, last_close: str | None) -> Asked:
        return ask_given(
            predictor,
            chart=chart,
            text=(text or "").strip() or None,
            last_close=price_of(last_close),
            words=WORDS,
        )

    return ask


def price_of(text: str | None) -> float | None:
    """A price as people write it, with or without commas; ConfigError if it is none."""
    plain = (text or "").replace(",", "").replace(" ", "")
    if not plain:
        return None
    try:
        return float(plain)
    except ValueError as error:
        raise ConfigError(f"the last close '{text}' is no number; write it as 94250.5") from error


def _own_name(predictor: Predictor) -> str:
    return "A chart of your own" if predictor.reads_image else "A text of your own"


def head_of(predictor: Predictor, name: str) -> str:
    """HTML of the head: which model, and what it was trained on."""
    config = predictor.config
    origin: Mapping[str, Any] = config.origin
    reads = {
        "both": "reads a chart and its description",
        "image": "reads a chart",
        "text": "reads the description of a chart",
        "numbers": "reads candles as numbers",
    }[predictor.inputs]
    tags = [reads, f"{config.chart.get('window', '?')} candles"]
    market = " ".join(filter(None, ["+".join(known_symbols(config)), known_interval(config)]))
    tags += [f"trained on {market}"] if market else []
    if origin.get("label"):
        kind = f" ({origin['label_kind']})" if origin.get("label_kind") else ""
        tags.append(f"label {origin['label']}{kind}")
    shown = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags)
    return f"<h1>{escape(name)}</h1><div>{shown}</div>"


def answer_html(asked: Asked) -> str:
    """HTML of an answer: bars of the classes, the next close, notes."""
    answer = asked.answer
    rows = "".join(
        f'<div class="row{" best" if name == answer.label else ""}">'
        f'<span class="name">{escape(name)}</span>'
        f'<span class="track"><div class="bar" style="width:{100 * share:.2f}%"></div></span>'
        f'<span class="share">{100 * share:.1f} %</span></div>'
        for name, share in answer.probabilities.items()
    )
    # A time is not broken over two lines.
    title = " to ".join(f"<span>{escape(part)}</span>" for part in asked.title.split(" to "))
    notes = "".join(f'<p class="small note">{escape(_sentence(note))}</p>' for note in asked.notes)
    if answer.attention_reason and asked.picture is not None:
        notes += f'<p class="small">No attention is shown: {escape(answer.attention_reason)}.</p>'
    if (
        answer.attention is not None
        and answer.attention.max() < NEARLY_EVEN * answer.attention.mean()
    ):
        notes += '<p class="small">It looked everywhere nearly alike.</p>'
    return (
        f'<div class="answer" role="status"><p class="asked">{title}</p>{rows}'
        f'<div class="close">{_close_html(answer)}</div>{notes}</div>'
    )


def _close_html(answer: Answer) -> str:
    """The next close, its interval, or why there is none."""
    if answer.log_return is None:
        return f'<p class="small">No forecast: {escape(str(answer.forecast_reason))}.</p>'
    change = change_words(answer.log_return)
    number, beside = change, ""
    if answer.next_close is not None:
        number, beside = price_words(answer.next_close), f'<span class="change">{change}</span>'
    said = interval_words(answer) or f"no interval: {answer.interval_reason}"
    if answer.last_close is not None:
        said += f"; last close {price_words(answer.last_close)}"
    return (
        f'<p class="small">Next close</p><div class="number">{escape(number)}{beside}</div>'
        f'<p class="small">{escape(said)}</p>'
    )


def problem_html(message: str) -> str:
    """HTML of what went wrong, one sentence."""
    return f'<div class="answer problem" role="alert">{escape(_sentence(message))}</div>'


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    first = line[:1] if "://" in line.partition(" ")[0] else line[:1].upper()
    return first + line[1:] + ("" if line.endswith((".", "!", "?")) else ".")


def looked_at(asked: Asked) -> UInt8Array | None:
    """uint8 (H', W', 3): the chart in whole multiples of its pixels, under what was looked at.

    A veil lies where attention is above an even share, the darker the more; full where it is
    the most, or three even shares. Attention that singles out nothing leaves the chart bare.
    None without a picture.
    """
    if asked.picture is None:
        return None
    picture, attention = asked.picture, asked.answer.attention
    coloured = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    shown = coloured.astype(np.float32)
    if attention is not None:
        shares = attention / attention.mean()
        opacity = DARKEST * np.clip((shares - 1) / (max(float(shares.max()), 3.0) - 1), 0, 1)
        shown += (np.array(VEIL, dtype=np.float32) - shown) * opacity[..., None]
    times = max(1, -(-SHOWN_SIDE // max(picture.shape[:2])))
    large = np.rint(shown).astype(np.uint8).repeat(times, axis=0).repeat(times, axis=1)
    return np.ascontiguousarray(large)


@contextmanager
def serve(
    page: Any, *, host: str = LOOPBACK, port: int | None = None, share: bool = False
) -> Iterator[str]:
    """Serve the page in the background and give its address; it is closed at the end.

    port: None: the first free one from 7860 on; 0: any that is free
    share: also by a public address, through gradio's own servers

    Raises ConfigError: the port is taken, or the public address cannot be had.
    """
    check_port(host, port)
    try:
        with redirect_stdout(io.StringIO()):  # of a link that fails gradio prints ten lines
            _, address, public = page.launch(
                server_name=host,
                server_port=_free_port(host) if port == 0 else port,
                share=share,
                **LAUNCH,
                theme=theme(),
                css=CSS,
            )
    except OSError as error:
        raise ConfigError(f"no page can be served at {host}: {error}") from error
    try:
        if share and not public:
            raise ConfigError(
                "the page could not be shared: gradio's servers cannot be reached from here; "
                "leave out --share"
            )
        yield public or address
    finally:
        page.close(verbose=False)


LAUNCH: dict[str, Any] = {
    "quiet": True,
    "inline": False,
    "prevent_thread_lock": True,
    "show_error": False,
    "ssr_mode": False,
    "mcp_server": False,
    "run_history": False,
    "footer_links": [],
    "enable_monitoring": False,
    "max_file_size": "20mb",
}
"""How the page is started, wherever that is."""


def theme() -> Any:
    """The look of the page, with the reader's own fonts: none is loaded."""
    gr = _gradio()
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )


def check_port(host: str, port: int | None) -> None:
    """Raise ConfigError where a page cannot listen; before a model is loaded for it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port or 0))
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {host}, port {port or 'any'}: {error.strerror or error}; name "
                "another --port, or 0 for any that is free"
            ) from error


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise MissingExtraError("gradio", "app") from error
    return gradio
