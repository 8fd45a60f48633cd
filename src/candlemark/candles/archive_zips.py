"""The archive's zips as verified bytes: from the cache, over the network, or from a folder.

    zips = Zips(fetcher, cache)
    sha256, data = zips.read(file)
    zips.known_sha256(file)              # the same SHA-256 without reading, or None

See `candlemark.candles.archive` for what is verified when.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from candlemark.candles.archive_files import ArchiveFile
from candlemark.candles.cache import Cache, sha256_of
from candlemark.candles.fetch import Fetcher
from candlemark.errors import ChecksumError, FetchError
from candlemark.progress import note

MAX_ZIP_BYTES = 2 * 2**30

_VERIFY_ATTEMPTS = 3
_CHECKSUM = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S+)\s*")


class Zips:
    """Reads verified zips through one fetcher; several threads may.

    refresh: ask the server for the published sum of what is in the cache, too
    """

    def __init__(self, fetcher: Fetcher, cache: Cache, *, refresh: bool = False) -> None:
        self.fetcher = fetcher
        self.cache = cache
        self.refresh = refresh

    def read(self, file: ArchiveFile) -> tuple[str, bytes] | None:
        """(SHA-256, bytes that have it); None if the file is not published.

        Raises ChecksumError, FetchError, RateLimitError.
        """
        if self.fetcher.folder is not None:
            return self._read_in_folder(file, self.fetcher.folder / file.path)
        url = self.fetcher.url(file.path)
        remembered = self.cache.remembered(url)
        if remembered and not self.refresh:
            data = self.cache.read(remembered)
            if data is not None:
                return remembered, data
        # The published sum may itself be damaged on the way, so both are asked for again.
        for attempt in range(_VERIFY_ATTEMPTS):
            try:
                published = self._published_sha256(file)
            except ChecksumError:
                if attempt == _VERIFY_ATTEMPTS - 1:
                    raise
                continue
            if published is None:
                return None
            data = self._download(file, published)
            if data is not None:
                if remembered not in {None, published}:
                    note(f"{file.name} was published anew since; it is replaced in the cache")
                self.cache.remember(url, published)
                return published, data
        raise ChecksumError(
            f"{url} does not have its published SHA-256 {published} after {_VERIFY_ATTEMPTS} "
            "downloads; nothing was kept; try another mirror with --base-url"
        )

    def known_sha256(self, file: ArchiveFile) -> str | None:
        """The SHA-256 that the zip is known to have without reading it, or None."""
        if self.fetcher.folder is not None:
            path = self.fetcher.folder / file.path
            stat = _stat(path)
            seen = self.cache.seen(path, stat) if stat is not None else None
            return seen if seen is not None and seen == self._published_sha256(file) else None
        remembered = self.cache.remembered(self.fetcher.url(file.path))
        if remembered is None or not self.refresh:
            return remembered
        return remembered if remembered == self._published_sha256(file) else None

    def _read_in_folder(self, file: ArchiveFile, path: Path) -> tuple[str, bytes] | None:
        published = self._published_sha256(file)
        if published is None:
            return None
        before = _stat(path)
        answer = self.fetcher.get(file.path)
        if answer.status != 200 or before is None:
            raise FetchError(f"{self.fetcher.url(file.path)} is gone, its .CHECKSUM is there")
        if sha256_of(answer.body) != published:
            raise ChecksumError(
                f"{self.fetcher.url(file.path)} has SHA-256 {sha256_of(answer.body)}, "
                f"its .CHECKSUM says {published}; copy the file again"
            )
        self.cache.note_seen(path, before, published)
        return published, answer.body

    def _published_sha256(self, file: ArchiveFile) -> str | None:
        path = f"{file.path}.CHECKSUM"
        answer = self.fetcher.get(path)
        if answer.status == 404:
            if self.fetcher.exists(file.path):
                raise ChecksumError(
                    f"{self.fetcher.url(file.path)} has no .CHECKSUM beside it, so it cannot be "
                    "verified; read the file itself with `candlemark candles show FILE`"
                )
            return None
        text = answer.body.decode("ascii", errors="replace")
        match = _CHECKSUM.fullmatch(text)
        if answer.status != 200 or match is None or match[2] != file.name:
            raise ChecksumError(
                f"{self.fetcher.url(path)} holds {text[:100]!r}, not '<sha256>  {file.name}'"
            )
        return match[1].lower()

    def _download(self, file: ArchiveFile, sha256: str) -> bytes | None:
        """The bytes with this SHA-256, from the cache or the server; None: others came."""
        with self.cache.growing(sha256) as partial:
            # Another process may have finished it while this one waited for the lock.
            data = self.cache.read(sha256)
            if data is not None:
                return data
            if not self.fetcher.download(file.path, partial, limit_bytes=MAX_ZIP_BYTES):
                raise FetchError(f"{self.fetcher.url(file.path)} is gone, its .CHECKSUM is there")
            return self.cache.keep(partial, sha256)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None  # whoever reads it says what is wrong
