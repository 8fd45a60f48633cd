"""Xet storage for the double, kept by the real `hf_xet` in a folder.

The Hub answers a client's question for a Xet token with the address of a content store. Where
that address is `local://FOLDER`, hf_xet keeps its pieces in the folder instead of asking a
server, so the whole of the real client is at work, and a test can count what it stored.

A shard, the store's note of what a file is made of, is read as xet-core's documents lay it
out: a head of 48 bytes, then for each file a head, its segments, one check for each segment
(flag 31) and its SHA-256 (flag 30), all of 48 bytes, up to a head of 0xff.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD = 48
CHECKS, SHA256 = 1 << 31, 1 << 30
END = b"\xff" * 32


class XetStore:
    """A folder that hf_xet writes to and reads from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"local://{folder}"
        folder.mkdir(parents=True)

    @property
    def stored_bytes(self) -> int:
        """What all pieces take that have arrived."""
        return sum(path.stat().st_size for path in self.folder.rglob("xorbs/xorbs/default.*")
                   if path.suffix != ".tagset")  # fmt: skip

    def token(self) -> dict[str, str]:
        """The answer to who asks for a token, as headers."""
        return {
            "X-Xet-Cas-Url": self.address,
            "X-Xet-Access-Token": "a short-lived token for the store alone",
            "X-Xet-Token-Expiration": str(int(time.time()) + 3600),
        }

    def hash_of(self, sha256: str) -> str | None:
        """The store's own name of the file with this SHA-256."""
        for shard in self.folder.rglob("*.mdb"):
            for name, held in _files(shard.read_bytes()):
                if held == sha256:
                    return name
        return None

    def take(self, sha256: str, size: int, target: Path) -> bool:
        """Put a file together from its pieces; False where they have not arrived."""
        import hf_xet

        name = self.hash_of(sha256)
        if name is None:
            return False
        session: Any = hf_xet.XetSession()
        with session.new_file_download_group(
            endpoint=self.address, token="", token_expiry_unix_secs=2**40
        ) as group:
            group.start_download_file(hf_xet.XetFileInfo(name, size), str(target))
        return hashlib.sha256(target.read_bytes()).hexdigest() == sha256


def _files(shard: bytes) -> Iterator[tuple[str, str | None]]:
    """The store's name and the SHA-256 of every file in a shard."""
    at = RECORD
    while (name := shard[at : at + 32]) != END:
        flags, segments = struct.unpack("<II", shard[at + 32 : at + 40])
        at += RECORD * (1 + segments * (2 if flags & CHECKS else 1))
        sha256 = None
        if flags & SHA256:
            sha256 = _hex(shard[at : at + 32])
            at += RECORD
        yield _hex(name), sha256


def _hex(raw: bytes) -> str:
    """A hash is kept as four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))
