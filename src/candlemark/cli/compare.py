"""`candlemark results compare`: two stored runs side by side, or the cells of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from candlemark.records import RunRecord
    from candlemark.report.comparison import Across, Compared
    from candlemark.results.store import Results

_COLOURS = {"FASTER": "green", "LESS": "green", "SLOWER": "red", "MORE": "red", "UNSURE": "yellow"}


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run, a suite id, or a file.")],
    second: Annotated[
        str | None,
        typer.Argument(metavar="B", help="The same; by default A, to compare --across its cells."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="By default latency_p50_ms, throughput_items_per_s, peak_memory_bytes."),
    ] = None,
    across: Annotated[
        str | None,
        typer.Option(help="precision, backend, device, batch_size or model: compare its values."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, max=0.5, help="A difference within this share is none.")
    ] = 0.01,
    results_dir: Annotated[
        Path, typer.Option("--results-dir", help="Folder of candlemark.duckdb, or the file.")
    ] = Path("benchmarks/results"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which cells became faster, with an interval, or why that cannot be said.

    - `candlemark results compare main feature`
    - `candlemark results compare main --across precision`
    - `candlemark results compare main there/benchmark_suite_20260131T120000Z.json --json`
    """
    from dataclasses import asdict

    from candlemark.cli.output import print_json
    from candlemark.errors import ConfigError
    from candlemark.report.comparison import COMPARED
    from candlemark.report.comparison import compare as compare_records

    other = second or first
    dimension = _across(across)
    if other == first and dimension is None:
        raise ConfigError(
            "a run compared with itself says nothing; name a second one, or compare its cells: "
            "--across precision"
        )
    a, repeats = _records(first, results_dir)
    b, more = (a, []) if other == first else _records(other, results_dir)
    found = compare_records(
        a,
        b,
        names=(first, other),
        measures=_words(measure) or COMPARED,
        across=dimension,
        repeats=[*repeats, *more],
        margin=margin,
    )
    if json:
        rows = [{**asdict(row), "change": str(row.change), "offered": row.offered} for row in found]
        print_json({"first": first, "second": other, "across": across, "rows": rows})
    else:
        show(found)


def _across(name: str | None) -> Across | None:
    from typing import get_args

    from candlemark.errors import ConfigError
    from candlemark.report.comparison import Across

    if name is not None and name not in get_args(Across):
        raise ConfigError(f"cannot compare across '{name}'; allowed: {', '.join(get_args(Across))}")
    return name  # type: ignore[return-value]  # one of them


def _words(values: Sequence[str] | None) -> list[str]:
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def _records(name: str, results_dir: Path) -> tuple[list[RunRecord], list[RunRecord]]:
    """Attempts of what is named, and all further attempts beside them.

    A file of results, or a folder with a store in it, is taken before a run, and a run before a
    suite. Raises ResultsError: there is none of them.
    """
    from candlemark.errors import ResultsError
    from candlemark.results.opening import store_path
    from candlemark.results.store import open_results

    path = Path(name).expanduser()
    if path.is_file() and path.suffix.lower() != ".duckdb":
        return _imported(path)
    if path.is_file() or store_path(path).is_file():
        with open_results(path, read_only=True) as store:
            everything = [attempt.record for attempt in store.attempts()]
        return everything, []
    if not store_path(results_dir).is_file():
        raise ResultsError(
            f"'{name}' is no file, and there are no results at {store_path(results_dir)}; name "
            "their folder with --results-dir"
        )
    with open_results(results_dir, read_only=True) as store:
        return _named(store, name)


def _imported(path: Path) -> tuple[list[RunRecord], list[RunRecord]]:
    import tempfile

    from candlemark.results.sharing.imports import import_files
    from candlemark.results.store import open_results

    with tempfile.TemporaryDirectory() as folder, open_results(folder) as store:
        import_files(store, [path])
        return [attempt.record for attempt in store.attempts()], []


def _named(store: Results, name: str) -> tuple[list[RunRecord], list[RunRecord]]:
    from candlemark.errors import ResultsError

    attempts = store.attempts()
    everything = [attempt.record for attempt in attempts]
    of_run = [attempt.record for attempt in attempts if attempt.run == name]
    if of_run:
        return of_run, everything
    if name in {suite.suite_id for suite in store.suites()}:
        trials = {record.trial_id for record in store.records(name)}
        return [record for record in everything if record.trial_id in trials], []
    runs = ", ".join(run.name for run in store.runs()[-5:]) or "none yet"
    raise ResultsError(
        f"'{name}' is no run, suite or file; newest runs in {store.path}: {runs}; see: "
        "candlemark results list"
    )


def show(found: Sequence[Compared]) -> None:
    """A table, and below it the grounds of every verdict."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from candlemark.cli.output import table_console

    console = table_console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("cell", "measure", "A", "B", "B / A, 95 %", "floor", "verdict"):
        right = head in {"A", "B", "B / A, 95 %", "floor"}
        table.add_column(head, justify="right" if right else "left", no_wrap=head == "B / A, 95 %")
    for row in found:
        word = str(row.change)
        if row.same_answer is False:
            word += ", other answer"
        table.add_row(
            row.label,
            row.measure,
            f"{row.first} {_number(row.measure, row.value_a)}",
            f"{row.second} {_number(row.measure, row.value_b)}",
            _ratio(row),
            "n/a" if row.floor is None else f"{row.floor:.1%}",
            Text(word, style=_COLOURS.get(str(row.change), "default")),
        )
    console.print(table)
    options: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    for row in found:
        console.print(f"{row.label}, {row.measure}: {row.grounds}", **options)


def _number(measure: str, value: float | None) -> str:
    from candlemark.report.format import quantity

    return quantity(measure, value)


def _ratio(row: Compared) -> str:
    if row.ratio is None:
        return "n/a"
    low, high = ("?" if bound is None else f"{bound:.3f}" for bound in (row.low, row.high))
    return f"{row.ratio:.3f} [{low}, {high}]"
