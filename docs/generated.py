"""Pages that are made by a script: written, or compared with what they should be."""

from __future__ import annotations

import sys
from pathlib import Path


def write_or_check(page: Path, text: str) -> int:
    """Write the page; with --check on the command line only compare. The exit status.

    1, with one line that names the script to run, where the page differs or is missing.
    """
    if "--check" not in sys.argv[1:]:
        page.write_text(text, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == text:
        return 0
    script = Path(sys.argv[0]).name
    sys.stderr.write(f"docs/{page.name} is out of date; run: python docs/{script}\n")
    return 1
