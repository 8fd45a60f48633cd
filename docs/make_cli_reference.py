"""Write docs/cli.md from the program itself, or check that it is up to date.

python docs/make_cli_reference.py [--check]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from generated import write_or_check

REFERENCE = Path(__file__).with_name("cli.md")


def generate() -> str:
    """The reference as typer's own documentation command writes it."""
    command = [sys.executable, "-m", "typer", "candlemark.cli.main", "utils", "docs"]
    command += ["--name", "candlemark", "--title", "The candlemark command"]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout  # noqa: S603


if __name__ == "__main__":
    sys.exit(write_or_check(REFERENCE, generate()))
