"""The `candlemark` command: subcommands are mounted here, errors become one line here.

Nothing heavy is imported before a command runs: `candlemark --help` is instant.
"""

from __future__ import annotations

import logging
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from candlemark import __version__, progress
from candlemark.cli import (
    bench,
    candles,
    dataset,
    doctor,
    fuse,
    gate,
    hub,
    models,
    profile,
    report,
    results,
    segment,
)
from candlemark.cli.app import page
from candlemark.errors import CandlemarkError
from candlemark.progress import Event

if TYPE_CHECKING:
    from candlemark.cli.terminal import TerminalReporter

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

INTERRUPTED = "what is finished is kept, the same command goes on"
INTERRUPTED_BY_COMMAND = {
    ("dataset", "export"): "the folder was not made, the same command makes it",
    ("dataset", "import"): "the folder was not made, the same command makes it",
    ("gate",): "nothing was decided, the same command begins again",
}
"""What is said instead of INTERRUPTED of commands that keep nothing."""

_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
"""Root of what typer raises for words it cannot parse; it has no public name."""


class _PlainGroup(TyperGroup):
    """The first help as plain text: Rich and its Markdown take longer to load than all else."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.rich_markup_mode = None


app = typer.Typer(
    name="candlemark",
    cls=_PlainGroup,
    help="From market candles to chart images to benchmarks of Hugging Face models "
    "that can be trusted.",
    epilog="Start with: candlemark demo",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("demo", short_help="Run the whole job on synthetic markets, with no network.")(
    bench.demo
)
app.command("bench")(bench.bench)
app.command(
    "profile", short_help="Measure how fast, how heavy and how sure models are at inference."
)(profile.profile)
app.command(
    "segment",
    cls=segment.SeveralWords,
    short_help="Hold segmentation models against your own scans and masks.",
)(segment.segment)
app.command("gate", short_help="Fail where this version is slower than a baseline.")(gate.gate)
app.command("run", short_help="Run a benchmark from a config file, such as a saved one.")(bench.run)
app.add_typer(candles.app, name="candles")
app.add_typer(dataset.app, name="dataset")
app.add_typer(fuse.app, name="fuse", short_help="Train, compare and ask models of text and chart.")
app.add_typer(models.app, name="models")
app.add_typer(results.app, name="results")
app.add_typer(
    hub.app, name="hub", short_help="Publish datasets, models and results; pull them; find models."
)
app.command("report")(report.report)
app.command("app", short_help="Serve a page on which a trained model can be tried.")(page)
app.command("doctor", short_help="Check Python, packages, devices, cache, disk and network.")(
    doctor.doctor
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"candlemark {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Options of every command; `main` reads --debug wherever it stands."""


class _Terminal:
    """Loads the drawing of progress when there is something to draw."""

    def __init__(self) -> None:
        self._reporter: TerminalReporter | None = None

    def handle(self, event: Event) -> None:
        if self._reporter is None:
            from candlemark.cli.terminal import TerminalReporter

            self._reporter = TerminalReporter()
        self._reporter.handle(event)

    def close(self) -> None:
        if self._reporter is not None:
            self._reporter.close()


def _is_news(record: logging.LogRecord) -> bool:
    """False for what torch says of torchao's enums when transformers imports it, twice.

    torchao 0.18 registers them for older torch as well; nothing is wrong and nobody here can
    change it. Whatever else torch says there is shown.
    """
    return "Enum subclass and is now natively supported" not in str(record.msg)


def main() -> None:
    """Run the command line; user errors leave one line and exit status 2."""
    if isinstance(sys.stdout, TextIOWrapper):  # None of a process without one
        # A letter that a terminal or a log cannot take is no reason to lose a table.
        sys.stdout.reconfigure(errors="replace")
    logging.getLogger("torch.utils._pytree").addFilter(_is_news)
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    terminal = _Terminal()
    progress.set_reporter(terminal)
    try:
        status = app(args=arguments, prog_name="candlemark", standalone_mode=False)
    except (CandlemarkError, OSError, _UsageProblem) as error:
        if debug and not isinstance(error, _UsageProblem):
            raise
        terminal.close()
        _complain(error)
        status = EXIT_USER_ERROR
    finally:
        terminal.close()
    if status == EXIT_INTERRUPTED:
        known = (tuple(arguments[:words]) for words in (2, 1))
        said = (INTERRUPTED_BY_COMMAND[one] for one in known if one in INTERRUPTED_BY_COMMAND)
        typer.echo(f"interrupted; {next(said, INTERRUPTED)}", err=True)
    sys.exit(status)


def _complain(error: Exception) -> None:
    """One line on standard error; a command group without a command shows its help instead."""
    if type(error).__name__ == "NoArgsIsHelpError":
        help_text = str(error)  # empty where Rich has printed it already
        if help_text:
            typer.echo(help_text)
        return
    line = _usage_line(error) if isinstance(error, _UsageProblem) else _one_line(error)
    typer.secho(f"error: {line}", fg=typer.colors.RED, err=True)


def _usage_line(error: Any) -> str:
    message = str(error.format_message()).strip()
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message.rstrip('.')}; see: {context.command_path} --help"


def _one_line(error: Exception) -> str:
    """The message; of the system's refusals (a full disk, a read-only folder) also the place."""
    if not isinstance(error, OSError):
        return str(error)
    place = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{place}"
