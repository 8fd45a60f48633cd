"""Options that the commands of `candlemark results` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ResultsDir = Annotated[
    Path, typer.Option("--results-dir", help="Folder of candlemark.duckdb, or the file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Here = Annotated[
    bool,
    typer.Option("--here/--anywhere", help="Only what was measured on this machine, or all."),
]
Task = Annotated[str | None, typer.Option("--task", help="Only this task: inference or charts.")]
DEFAULT_DIR = Path("benchmarks/results")
