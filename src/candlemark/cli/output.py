"""What every command does the same way on standard output."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

UNCUT_WIDTH = 1000


def print_json(value: Any) -> None:
    """One strict JSON object: unknown is null, NaN is a defect, and no letter is lost."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    typer.echo(text)


def table_console(**options: Any) -> Console:
    """Where a table goes: as wide as the terminal, and uncut into a file or a pipe."""
    from rich.console import Console

    console = Console(**options)
    if console.is_terminal or os.environ.get("COLUMNS"):
        return console
    return Console(width=UNCUT_WIDTH, **options)
