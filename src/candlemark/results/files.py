"""Files that are whole or absent: written beside their place and renamed.

    write_json(folder / f"{file_stem('timm/resnet18.a1')}_results.json", value)

JSON is strict: a number that is not finite is refused, never written as NaN.
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

from candlemark.errors import ResultsError

_NUMBER = r"(?:-?[\d.eE+-]+|null)"
_NUMBERS = re.compile(rf"\[\n\s*({_NUMBER}(?:,\n\s*{_NUMBER})*)\n\s*\]")


def write_json(path: Path, value: Any) -> Path:
    """Write strict JSON; ResultsError if the value holds NaN or an unknown type."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{path.name} cannot be written as strict JSON: {error}") from error
    # A list of numbers is one line: samples would fill most of the file with line ends.
    text = _NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text)
    return write_text(path, text + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a whole file or none: beside its place, then renamed."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a whole file or none: beside its place, then renamed.

    Raises ResultsError: the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        if beside.exists():  # not so where a file stands in the place of the folder
            beside.unlink()
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = "; free some space and run the command again" if full else ""
        raise ResultsError(f"cannot write {path}: {error.strerror}{hint}") from error
    return path


def file_stem(name: str) -> str:
    """A name as part of a file name: `timm/resnet18.a1` becomes `timm_resnet18.a1`."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._") or "row"
