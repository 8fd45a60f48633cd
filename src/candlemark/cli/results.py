"""`candlemark results`: look into the store and copy it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from candlemark.cli import compare, results_copies, results_history, results_questions
from candlemark.cli.results_options import DEFAULT_DIR, Json, ResultsDir

if TYPE_CHECKING:
    from candlemark.results.query import SuiteSummary
    from candlemark.results.store import Run

app = typer.Typer(help="List, show, query, export and import stored results.", no_args_is_help=True)


@app.command("list")
def list_suites(results_dir: ResultsDir = DEFAULT_DIR, json: Json = False) -> None:
    """List suites and named runs: when they started and how far they are.

    - `candlemark results list`
    """
    from dataclasses import asdict

    from candlemark.cli.output import print_json
    from candlemark.results.query import summaries
    from candlemark.results.store import open_results

    with open_results(results_dir, read_only=True) as results:
        found = summaries(results)
        runs = results.runs()
    if json:
        print_json(
            {
                "suites": [asdict(line) for line in found],
                "runs": [asdict(run) for run in runs],
            }
        )
        return
    _print_suites(found)
    if runs:
        _print_runs(runs)


def _print_suites(found: list[SuiteSummary]) -> None:
    from rich import box
    from rich.table import Table

    from candlemark.cli.output import table_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("suite", "started", "planned", "finished", "failed"):
        table.add_column(head, justify="left" if head in {"suite", "started"} else "right")
    for line in found:
        planned = "" if line.planned is None else str(line.planned)
        failed = f"[red]{line.failed}[/]" if line.failed else "0"
        table.add_row(line.suite_id, line.started_at, planned, str(line.finished), failed)
    table_console().print(table)


def _print_runs(runs: list[Run]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from candlemark.cli.output import table_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("run", "started", "suites", "finished", "failed"):
        table.add_column(head, justify="right" if head in {"finished", "failed"} else "left")
    for run in runs:
        failed = f"[red]{run.failed}[/]" if run.failed else "0"
        suites = ", ".join(run.suite_ids)
        table.add_row(escape(run.name), run.started_at, suites, str(run.finished), failed)
    table_console().print(table)


@app.command()
def show(
    suite: Annotated[str, typer.Argument(help="Suite id or a glob over ids.")] = "*",
    results_dir: ResultsDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Show the tables of stored suites without writing a report.

    - `candlemark results show`
    - `candlemark results show 3f2a* --json`
    """
    from candlemark.cli.output import print_json
    from candlemark.report.build import board_to_dict, inference_to_dict
    from candlemark.report.comparison import speedups
    from candlemark.report.inference.cells import all_attempts, build_cells
    from candlemark.report.inference.text import show_cells
    from candlemark.report.recommendations import answer
    from candlemark.report.segmentation.board import asked_of
    from candlemark.report.segmentation.board import build_boards as build_mask_boards
    from candlemark.report.segmentation.export import board_to_dict as masks_to_dict
    from candlemark.report.segmentation.terminal import show as show_masks
    from candlemark.report.statistics import build_boards
    from candlemark.results.naming import SCORED_TASKS, task_of
    from candlemark.results.query import matching
    from candlemark.results.store import open_results

    with open_results(results_dir, read_only=True) as results:
        suites = list(matching(results, suite))
        records = {
            record.trial_id: record
            for found in suites
            for record in results.records(found.suite_id)
        }
        attempts = all_attempts(results, records.values())
    boards = build_boards([r for r in records.values() if task_of(r) in SCORED_TASKS])
    cells, gains = build_cells(records.values()), speedups(attempts)
    masks = build_mask_boards(records.values(), **asked_of(suites))
    if json:
        shown = [board_to_dict(board) for board in boards]
        inference = inference_to_dict(cells, gains) if cells else None
        print_json(
            {
                "answer": answer(boards),
                "boards": shown,
                "inference": inference,
                "segmentation": [masks_to_dict(board) for board in masks],
            }
        )
        return
    if boards or not (cells or masks):
        from candlemark.report.text import show as show_boards

        show_boards(boards)
    if cells:
        show_cells(cells, gains)
    for board in masks:
        show_masks(board)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="A SELECT; the tables are in the docs.")],
    results_dir: ResultsDir = DEFAULT_DIR,
    json: Json = False,
) -> None:
    """Answer an SQL query; the store is opened for reading only. Prints CSV.

    - `candlemark results sql "SELECT row_name, value FROM scores WHERE name = 'auroc'"`
    - `candlemark results sql "SELECT run, row_name, value FROM history WHERE name = 'flops'"`
    - `candlemark results sql "SELECT trial_id, list_median(values) FROM samples"`

    The view `scores` holds the numbers that count, `history` those of every attempt with its
    run and machine; `samples` holds each sample as taken. `DESCRIBE scores` names the columns.
    """
    from candlemark.cli.output import print_json
    from candlemark.results.sharing.suites import to_csv
    from candlemark.results.store import open_results

    with open_results(results_dir, read_only=True) as results:
        table = results.sql(query)
    rows = table.to_pylist()
    if json:
        print_json({"rows": rows})
    else:
        lines = (list(row.values()) for row in rows)
        typer.echo(to_csv(table.column_names, lines), nl=False)


app.command("compare")(compare.compare)
app.command("find")(results_questions.find)
app.command("pareto")(results_questions.pareto)
app.command("history")(results_history.history)
app.command("export")(results_copies.export)
app.command("import")(results_copies.import_)


@app.command()
def upgrade(results_dir: ResultsDir = DEFAULT_DIR) -> None:
    """Bring a store of an earlier candlemark up to date.

    - `candlemark results upgrade`
    """
    from candlemark.errors import ResultsError
    from candlemark.results.opening import store_path
    from candlemark.results.schema import VERSION
    from candlemark.results.store import open_results

    file = store_path(results_dir)
    if not file.is_file():
        raise ResultsError(f"no results at {file}; name the folder with --results-dir")
    open_results(file).close()
    typer.echo(f"{file} has schema {VERSION}")
