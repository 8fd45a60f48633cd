"""Write docs/cli.md from the program itself, or check that it is up to date.

python docs/make_cli_reference.py [--check]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REFERENCE = Path(__file__).with_name("cli.md")


def generate() -> str:
    """The reference as typer's own documentation command writes it."""
    command = [sys.executable, "-m", "typer", "candlemark.cli.main", "utils", "docs"]
    command += ["--name", "candlemark", "--title", "The candlemark command"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def main() -> int:
    """Write the file; with --check only compare, and exit with status 1 where it differs."""
    text = generate()
    if "--check" not in sys.argv[1:]:
        REFERENCE.write_text(text, encoding="utf-8")
        return 0
    if REFERENCE.exists() and REFERENCE.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("docs/cli.md is out of date; run: python docs/make_cli_reference.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
