"""`candlemark gate`: is this version slower than that one? Exit status 0, 1 or 3 says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from candlemark.benchmark.inference.config import InferenceConfig
    from candlemark.launch.gate import GateResult, GateRow

Words = list[str] | None
_COLOURS = {"PASS": "green", "FAIL": "bold red", "UNDECIDED": "yellow"}


def gate(
    models: Annotated[
        Words,
        typer.Argument(
            metavar="MODEL...",
            help="As of `candlemark profile`; without models, --suite or --config: what the newest "
            "stored inference benchmark measured.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="A git revision (A is checked out beside), else a stored run."),
    ] = None,
    fail_on: Annotated[
        Words,
        typer.Option(
            help='What is too much, e.g. "latency_p50_ms>+5%", "throughput_items_per_s<-5%", '
            '"peak_memory_bytes>+10%"; repeat it or separate by commas.'
        ),
    ] = None,
    suite: Annotated[str | None, typer.Option(help="As of `candlemark profile`.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML or JSON file.")] = None,
    device: Annotated[Words, typer.Option(help="auto, cpu, cuda, mps, xpu.")] = None,
    batch_size: Annotated[Words, typer.Option(help="Items a call, e.g. 1,8.")] = None,
    precision: Annotated[Words, typer.Option(help="fp32, tf32, fp16, bf16, int8.")] = None,
    backend: Annotated[Words, typer.Option(help="eager, compile, onnxruntime.")] = None,
    weights: Annotated[str | None, typer.Option(help="pretrained, random, or a path.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of torch on the CPU.")] = None,
    rounds: Annotated[
        int, typer.Option(help="Fresh processes of each side a cell; more tell finer changes.")
    ] = 8,
    passes: Annotated[int, typer.Option(help="How often a round goes there and back.")] = 3,
    burst: Annotated[float, typer.Option(help="Seconds a process works before the next.")] = 0.2,
    margin: Annotated[
        str, typer.Option(help="A change within this is the same for every purpose.")
    ] = "1%",
    baseline_python: Annotated[
        Path | None,
        typer.Option(help="Interpreter of A, to compare library versions."),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a process may take.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the order of turns; by default the system's.")
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Folder for results.")] = Path(
        "benchmarks"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fail where this version is slower than the baseline, beyond a limit and beyond noise.

    Exit status: 0 all limits hold; 1 regressed; 3 could not measure (a process crashed, or the
    noise was too large to tell); 2 a wrong option.

    - `candlemark gate --config inference.yaml --baseline main --fail-on "latency_p50_ms>+5%"`
    - `candlemark gate python:mymodel:make --baseline HEAD~1 --fail-on "latency_p50_ms>+2%"`
    - `candlemark gate gpt2 --weights random --baseline-python ../old/bin/python
      --fail-on "latency_p50_ms>+3%,peak_memory_bytes>+10%"`
    """
    from candlemark.cli.output import print_json
    from candlemark.launch.gate import run_gate
    from candlemark.launch.interleave import Rounds
    from candlemark.metrics.limits import parse_limits

    parse_limits(fail_on or [])
    flags = {
        "models": _words(models),
        "devices": _words(device),
        "batch_sizes": _words(batch_size),
        "precisions": _words(precision),
        "backends": _words(backend),
        "weights": weights,
        "threads": threads,
        "timeout_s": timeout,
    }
    complete = _config(flags, suite=suite, config=config, output_dir=output_dir)
    with _defects_apart():
        result = run_gate(
            complete,
            baseline=baseline,
            fail_on=fail_on or [],
            rounds=Rounds(rounds=rounds, passes=passes, burst_s=burst),
            baseline_python=baseline_python,
            output_dir=output_dir,
            margin=_share(margin),
            seed=seed,
        )
    _summarise(result)
    if json:
        print_json(result.to_dict())
    else:
        _show(result)
    raise typer.Exit(result.exit_status)


def _config(
    flags: dict[str, Any], *, suite: str | None, config: Path | None, output_dir: Path
) -> InferenceConfig:
    """From a file, a suite, models, or else what the newest stored benchmark measured."""
    from candlemark.benchmark.inference.config import InferenceConfig
    from candlemark.cli.profile import resolve
    from candlemark.config import parse
    from candlemark.errors import ConfigError
    from candlemark.results.opening import store_path
    from candlemark.results.store import open_results

    if config is not None or suite is not None or flags["models"]:
        return resolve(flags, {}, suite=suite, config=config)
    results = output_dir / "results"
    stored: list[dict[str, Any]] = []
    if store_path(results).is_file():
        with open_results(results, read_only=True) as store:
            suites = store.suites()
        stored = [dict(one.config) for one in suites if one.config.get("task") == "inference"]
    if not stored:
        raise ConfigError(
            "nothing says what to measure; name models, --suite or --config, such as: "
            "candlemark gate --config inference.yaml --baseline main "
            '--fail-on "latency_p50_ms>+5%"'
        )
    given = {name: value for name, value in flags.items() if value is not None}
    return parse(InferenceConfig, {**stored[-1], **given}, where=str(store_path(results)))


@contextmanager
def _defects_apart() -> Iterator[None]:
    """A defect of candlemark must not look like a regression: Python would leave with 1, too."""
    import traceback

    from candlemark.errors import CandlemarkError
    from candlemark.launch.gate import EXIT_STATUS

    try:
        yield
    except (CandlemarkError, OSError):
        raise
    except Exception as error:
        traceback.print_exc()
        raise typer.Exit(EXIT_STATUS["could not measure"]) from error


def _words(values: Words) -> list[str] | None:
    parts = [part.strip() for value in values or () for part in value.split(",") if part.strip()]
    return parts or None


def _share(text: str) -> float:
    """`1%` or `0.01`."""
    from candlemark.errors import ConfigError

    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise ConfigError(f"--margin '{text}' is no share below 1; write it as 1% or 0.01")
    return value


def _show(result: GateResult) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from candlemark.cli.output import table_console

    console = table_console()
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("cell", "limit", "B / A, 95 %", "floor", "change", "limit holds"):
        right = head in {"B / A, 95 %", "floor"}
        whole = right or head == "limit"
        table.add_column(head, justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for row in result.rows:
        decision = Text(str(row.decision), style=_COLOURS[str(row.decision)])
        table.add_row(row.cell, row.limit, ratio(row), floor(row), row.change, decision)
    if result.rows:
        console.print(table)
    for row in result.rows:
        console.print(f"{row.cell}, {row.measure}: {row.grounds}", **plain)
    for cell, reason in result.failures.items():
        console.print(f"{cell}: could not be measured: {reason}", style="red", **plain)
    for line in result.notes:
        console.print(f"note: {line}", **plain)
    style = {0: "bold green", 1: "bold red"}.get(result.exit_status, "bold yellow")
    console.print(f"{result.outcome} (exit status {result.exit_status})", style=style, **plain)
    console.print(f"result: {result.path}", **plain)


def ratio(row: GateRow) -> str:
    """The ratio of B to A with its interval."""
    if row.ratio is None:
        return "n/a"
    low, high = ("?" if bound is None else f"{bound:.3f}" for bound in (row.low, row.high))
    return f"{row.ratio:.3f} [{low}, {high}]"


def floor(row: GateRow) -> str:
    """The noise floor in per cent."""
    return "n/a" if row.floor is None else f"{row.floor:.1%}"


def markdown(result: GateResult) -> str:
    """The result as a page of GitHub's Markdown."""
    detail = _escaped(result.baseline.detail)
    opening = f"{detail[:1].upper()}{detail[1:]}; {result.rounds} rounds."
    lines = [f"## Inference gate: {result.outcome}", "", opening, ""]
    if result.rows:
        lines += [
            "| cell | limit | B / A, 95 % | noise floor | change | limit holds | why |",
            "|---|---|---:|---:|---|---|---|",
        ]
    for row in result.rows:
        cells = (
            *(row.cell, f"`{row.limit}`", ratio(row), floor(row), row.change),
            *(f"**{row.decision}**", row.grounds),
        )
        lines.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
    lines += [
        f"- {_escaped(cell)}: could not be measured: {_escaped(reason)}"
        for cell, reason in result.failures.items()
    ]
    lines += [f"- {_escaped(line)}" for line in result.notes]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _summarise(result: GateResult) -> None:
    """Append to the page of the job, where GitHub Actions names one."""
    import os

    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if named:
        with Path(named).open("a", encoding="utf-8") as page:
            page.write(markdown(result))
