"""`candlemark results export` and `import`: results out of the store, and results into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from candlemark.cli.results_options import DEFAULT_DIR, Json, ResultsDir


def export(
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="json, csv, markdown, prometheus, lm-eval or duckdb; again or by comma for "
            "several.  [default: json,csv]",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; beside the store.")] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="Only this suite.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Only what this run measured.")] = None,
    results_dir: ResultsDir = DEFAULT_DIR,
) -> None:
    """Write copies of the store that others read.

    - `candlemark results export --out copies`
    - `candlemark results export --format markdown,prometheus --run main --out copies`

    `markdown` is a table in GitHub's flavour, `prometheus` a file for a node's textfile
    collector in base units, `lm-eval` one line a trial in the shape of lm-evaluation-harness,
    `duckdb` a store with every attempt, sample and prediction in one file.
    """
    from candlemark.results.sharing.formats import DEFAULT, copy_out
    from candlemark.results.store import open_results

    formats = [name.strip() for text in format_ or () for name in text.split(",")]
    with open_results(results_dir, read_only=True) as results:
        written = copy_out(
            results,
            out or results.path.parent,
            formats=formats or DEFAULT,
            suite_id=suite,
            run=run,
        )
    for path in written:
        typer.echo(str(path))


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="Suites as JSON, stores, or tables of measurements.")
    ],
    results_dir: ResultsDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Bring results from elsewhere into the store, all of them or none.

    - `candlemark results import benchmark_suite_20250131T120000Z.json`
    - `candlemark results import laptop/candlemark.duckdb theirs.csv`

    A suite exported as JSON holds all but the predictions, which it only counts. A table is CSV
    or JSON lines with one measurement a line: `model`, `name` and `value`, and where known
    `unit`, `device`, `precision`, `batch_size`, `sequence_length`, `low`, `high`, `verdict`,
    `started_at`, `run`, `cpu`, `gpu` and others. What is in the store already is not added
    again. What came from elsewhere says so (`imported_from`) and is still measured here when
    asked for.
    """
    from dataclasses import asdict

    from candlemark.cli.output import print_json
    from candlemark.results.sharing.imports import import_into

    done = import_into(results_dir, files)
    if json:
        print_json({"files": [asdict(one) for one in done]})
        return
    for one in done:
        typer.echo(f"{one.file}: {one.added} added, {one.present} in the store already")
