"""Options that commands share, and how what is typed after them is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutputDir = Annotated[
    Path, typer.Option("--output-dir", help="Folder for datasets, results and reports.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Resume = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Keep finished trials, or run them all again."),
]


def words(values: list[str] | None) -> list[str]:
    """`["a,b", "c"]` as a, b, c."""
    return [word.strip() for value in values or [] for word in value.split(",") if word.strip()]


def whole_numbers(text: str) -> tuple[int, ...]:
    """`--seeds 0,1` as 0, 1; ConfigError for anything else."""
    from candlemark.errors import ConfigError

    found = words([text])
    if not found or not all(word.isascii() and word.isdigit() for word in found):
        raise ConfigError(
            f"--seeds '{text}' is not understood; write whole numbers from 0, separated by "
            "commas, e.g. 0,1,2"
        )
    return tuple(int(word) for word in found)
