"""`candlemark app`: a page on which a trained model can be tried.

candlemark app models/fusion
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from candlemark.errors import ConfigError


def page(
    model: Annotated[str, typer.Argument(help="A model folder, or an id on the Hub.")],
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="0: any free one. Default: the first from 7860 on."
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", help="Where to listen; 0.0.0.0 lets other machines in."),
    ] = "127.0.0.1",
    share: Annotated[
        bool, typer.Option("--share", help="Also by a public address, through gradio's servers.")
    ] = False,
    space: Annotated[
        Path | None,
        typer.Option("--space", help="Write the page as a Hugging Face Space there, and end."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps, ...")] = "auto",
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a page: a market and a time, or a chart of one's own, and what the model says.

    It listens on 127.0.0.1 alone, loads nothing from other hosts and reports to nobody. Needs
    the extra `app`.

    - `candlemark app models/fusion`
    - `candlemark app models/fusion --port 0 --open`
    - `candlemark app models/fusion --space spaces/fusion`
    """
    if space is not None:
        from candlemark.app.space import make_space

        folder = make_space(model, space)
        typer.echo(
            f"{folder} is a Space; publish it with: candlemark hub push-model {folder} "
            "USER/NAME --space"
        )
        return
    import time

    from candlemark.app.page import build_page, check_port, serve
    from candlemark.models.fusion.predictor import Predictor

    if share and host not in {"127.0.0.1", "localhost"}:
        raise ConfigError("--share needs no --host; leave one of them out")
    check_port(host, port)
    blocks = build_page(Predictor.load(model, device), name=_name_of(model))
    try:
        with serve(blocks, host=host, port=port, share=share) as address:
            typer.echo(f"{model} answers at {address}; stop with Ctrl-C")
            if open_browser:
                typer.launch(address)
            while blocks.is_running:
                time.sleep(0.2)
    except KeyboardInterrupt:
        typer.echo("stopped")


def _name_of(model: str) -> str:
    """The last part of a folder, all of an id."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else model
