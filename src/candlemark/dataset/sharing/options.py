"""What an export can be told, and which exports there are."""

from __future__ import annotations

from dataclasses import dataclass

SHARD_BYTES = 500_000_000
"""Pictures of a shard unless told otherwise: what the Hub recommends for Parquet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How an export is written.

    caption: style of the texts, see `dataset.captions`
    shard_bytes: about how large a file of many samples gets; a folder has one file a picture
    """

    caption: str = "window"
    shard_bytes: int = SHARD_BYTES
