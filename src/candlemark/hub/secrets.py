"""What must not leave this machine with a model: refused before anything is sent.

    refuse_secrets(files, hub)         # HubError: line 3 of code/run.py holds a token
    warn_of_home(files)                # a warning: readers will see a folder of this machine

Files above `SCANNED_BYTES` are weights and vocabularies, and are not searched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from candlemark.errors import HubError
from candlemark.hub.changes import LocalFile
from candlemark.hub.client import Hub
from candlemark.progress import warning

SCANNED_BYTES = 10 << 20
NEW_LINE = b"\n"

PATTERNS: dict[str, re.Pattern[bytes]] = {
    "a token of a Hub": re.compile(rb"\bhf_[A-Za-z0-9]{30,}"),
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "a token of GitHub": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{40,})"),
    "a key of AWS": re.compile(rb"\bAKIA[0-9A-Z]{16}\b"),
}
"""How keys look whose makers gave them a form of their own."""


def refuse_secrets(files: Mapping[str, LocalFile], hub: Hub) -> None:
    """Raises HubError: a file holds a key, or the very token that this push would be made with."""
    for path, file in files.items():
        content = file.read() if file.size <= SCANNED_BYTES else b""
        found = {what: match for what, one in PATTERNS.items() if (match := one.search(content))}
        told = [
            f"line {content[: match.start()].count(NEW_LINE) + 1} of {path} holds {what}"
            for what, match in found.items()
        ]
        if hub.token_stands_in(content):
            told.append(f"{path} holds the token of this push")
        if told:
            raise HubError(
                f"{told[0]}, and whatever is published is read by others; take it out and run the "
                "same command again"
            )


def warn_of_home(files: Mapping[str, LocalFile]) -> None:
    """Say where a file names folders of this machine; it is published as it is."""
    home = str(Path.home())
    if home == "/":
        return
    for path, file in files.items():
        if path.endswith(".json") and f"{home}/".encode() in file.read():
            warning(f"{path} names a folder below {home}, and readers will see it", task="hub")
