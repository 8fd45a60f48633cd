"""`candlemark report`: figures, page, CSV and text from stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results_dir: Annotated[
        Path, typer.Option("--results-dir", help="Folder of candlemark.duckdb, or the file.")
    ] = Path("benchmarks/results"),
    reports_dir: Annotated[
        Path, typer.Option("--reports-dir", help="Folder that gets the report.")
    ] = Path("benchmarks/reports"),
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", help="Only suites whose id or export name fits this glob."),
    ] = None,
    output_prefix: Annotated[
        str, typer.Option("--output-prefix", help="First part of every file name.")
    ] = "benchmark",
    convention: Annotated[
        str | None,
        typer.Option(
            "--convention",
            help="Whose numbers of masks: candlemark, monai, metrics-reloaded, nnunet, "
            "torchmetrics or surface-distance; else as the run was asked.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the report of stored results and show its tables.

    - `candlemark report`
    - `candlemark report --pattern 'benchmark_suite_202506*' --output-prefix june`
    - `candlemark report --convention monai`
    """
    from candlemark.report.build import build_report
    from candlemark.results.query import matching
    from candlemark.results.store import open_results

    with open_results(results_dir, read_only=True) as results:
        chosen = None if pattern is None else [s.suite_id for s in matching(results, pattern)]
        files = build_report(
            results,
            reports_dir,
            prefix=output_prefix,
            suite_ids=chosen,
            convention=convention,
        )
    if json:
        from candlemark.cli.output import print_json

        print_json(files.to_dict())
        return
    if files.boards:
        from candlemark.report.text import show

        show(files.boards)
    if files.cells:
        from candlemark.report.inference.text import show_cells

        show_cells(files.cells, files.gains)
    if files.masks:
        from candlemark.cli.segment import report_console
        from candlemark.report.segmentation.terminal import show as show_masks

        for board in files.masks:
            show_masks(board, report_console())
    typer.echo(f"\nreport: {files.html}")
    if files.inference_html is not None and files.inference_html != files.html:
        typer.echo(f"inference: {files.inference_html}")
    if files.masks_html is not None and files.masks_html != files.html:
        typer.echo(f"segmentation: {files.masks_html}")
