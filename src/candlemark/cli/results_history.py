"""`candlemark results history`: how a measure developed, and where it changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from candlemark.cli.results_options import DEFAULT_DIR, Json, ResultsDir

if TYPE_CHECKING:
    from rich.text import Text

    from candlemark.results.questions.change_points import Change
    from candlemark.results.questions.history import History, NewEnvironment, Series

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60  # newest attempts that a line shows


def history(
    model: Annotated[str, typer.Option("--model", help="Models or rows that fit a glob.")] = "*",
    measure: Annotated[
        str, typer.Option("--measure", help="A measure or score.")
    ] = "latency_p50_ms",
    alpha: Annotated[
        float,
        typer.Option("--alpha", min=1e-6, max=0.5, help="Chance of any false alarm in all."),
    ] = 0.05,
    results_dir: ResultsDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Show how a measure developed over all attempts, and where it changed its level.

    - `candlemark results history --model "gpt2*"`
    - `candlemark results history --measure peak_memory_bytes --json`

    Attempts in different environments are different series: a new driver is no change of the
    model, and the fields that differ are named. Changes are found by ranks, with all series
    together raising a false alarm with a chance of --alpha at most.
    """
    from candlemark.results.questions.history import read_history
    from candlemark.results.store import open_results

    with open_results(results_dir, read_only=True) as results:
        told = read_history(results, model=model, measure=measure, alpha=alpha)
    if json:
        from candlemark.cli.output import print_json

        print_json(history_to_dict(told))
    else:
        _print(told)


def history_to_dict(told: History) -> dict[str, Any]:
    """A history as JSON types."""
    return {
        "alpha": told.alpha,
        "alpha_each": told.alpha_each,
        "series": [
            {
                "trial_id": one.trial_id,
                "model": one.model,
                "label": one.label,
                "measure": one.quantity.name,
                "unit": one.quantity.unit,
                "comparability_key": one.environment_key,
                "machine": one.machine,
                "moments": [
                    {
                        "attempt": moment.attempt,
                        "run": moment.run,
                        "started_at": moment.started_at,
                        "value": moment.value,
                        "low": moment.measurement.low,
                        "high": moment.measurement.high,
                    }
                    for moment in one.moments
                ],
                "withheld": dict(one.withheld),
                "changes": [_change_to_dict(one, change) for change in one.changes],
                "untested": one.untested,
            }
            for one in told.series
        ],
        "new_environments": [
            {
                "trial_id": one.trial_id,
                "label": one.label,
                "attempt": one.attempt,
                "started_at": one.started_at,
                "differing": {name: list(pair) for name, pair in one.differing.items()},
            }
            for one in told.new_environments
        ],
    }


def _change_to_dict(series: Series, change: Change) -> dict[str, Any]:
    moment = series.moments[change.index]
    return {
        "index": change.index,
        "attempt": moment.attempt,
        "run": moment.run,
        "started_at": moment.started_at,
        "before": change.before,
        "after": change.after,
        "ratio": change.ratio,
        "p_value": change.p_value,
        "worse": series.is_worse(change),
    }


def _print(told: History) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for one in told.series:
        console.print(Text(f"{one.label}: {one.quantity.title} on {one.machine}", style="bold"))
        if one.moments:
            console.print(Text("  ").append_text(spark_line(one)))
        for change in one.changes:
            console.print(Text(f"  {_change_line(one, change)}", style=_style(one, change)))
        if one.moments and not one.changes:
            console.print(Text(f"  {one.untested or 'no change found'}", style="dim"))
        for line in _withheld_lines(one):
            console.print(Text(f"  {line}", style="dim"))
    for new in told.new_environments:
        console.print(Text(_environment_line(new), style="yellow"))


def _withheld_lines(series: Series) -> list[str]:
    """One line a verdict: reasons hold numbers, and would be a line an attempt."""
    counts: dict[str, int] = {}
    newest: dict[str, str] = {}
    for why, count in series.withheld.items():
        verdict = why.split(":", maxsplit=1)[0]
        counts[verdict] = counts.get(verdict, 0) + count
        newest[verdict] = why
    return [
        f"{count} left out, {'the newest ' if count > 1 else ''}{newest[verdict]}"
        for verdict, count in counts.items()
    ]


def spark_line(series: Series) -> Text:
    """Values as bars between the smallest and the largest, each level in its own shade."""
    from rich.text import Text

    from candlemark.report.format import quantity

    first = max(0, len(series.values) - _WIDTH)
    bars = _bars(series.values[first:])
    line = Text("…" if first else "")
    styles = ["cyan"] * len(bars)
    for change in series.changes:
        for place in range(max(0, change.index - first), len(bars)):
            styles[place] = _style(series, change)
    for bar, style in zip(bars, styles, strict=True):
        line.append(bar, style=style)
    low, high = min(series.values), max(series.values)
    name = series.quantity.name
    written = quantity(name, low)
    if high > low:
        written += f" to {quantity(name, high)}"
    return line.append(f"  {written}, {len(series.values)} attempts")


def _bars(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    if high == low:
        return _BARS[0] * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value - low) / (high - low) * top)] for value in values)


def _style(series: Series, change: Change) -> str:
    worse = series.is_worse(change)
    return "cyan" if worse is None else "red" if worse else "green"


def _change_line(series: Series, change: Change) -> str:
    from candlemark.report.format import p_value, quantity

    moment, name = series.moments[change.index], series.quantity.name
    size = "" if change.ratio is None else f", {(change.ratio - 1) * 100:+.1f} %"
    worse = series.is_worse(change)
    word = "changed" if worse is None else "worse" if worse else "better"
    where = f"attempt {moment.attempt}" + (f", run {moment.run}" if moment.run else "")
    return (
        f"{word} from {moment.started_at} ({where}): {quantity(name, change.before)} to "
        f"{quantity(name, change.after)}{size}, {p_value(change.p_value)}"
    )


def _environment_line(new: NewEnvironment) -> str:
    fields = [f"{name} {before} to {after}" for name, (before, after) in new.differing.items()]
    return (
        f"{new.label}: another environment from {new.started_at} (attempt {new.attempt}), no "
        f"change of the model: {', '.join(fields)}"
    )
