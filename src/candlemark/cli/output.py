"""What every command does the same way on standard output."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(value: Any) -> None:
    """One strict JSON object: unknown is null, NaN is a defect."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))
