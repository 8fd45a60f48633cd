"""Where a described model's weights lie, and the hash by which they are told apart.

    file = weights_path(described, allow_pickle=False)      # None: random
    weights_sha256(file)

Needs no torch: a benchmark asks while it is planned, so that what cannot be had is known at once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from candlemark.models.inference.base import Described
from candlemark.models.weights import (
    SHARDED_NAME,
    check_file,
    find_weights,
    shard_names,
    weights_file,
)


def weights_path(described: Described, *, allow_pickle: bool) -> Path | None:
    """The file, brought here if need be; the index of shards; None where weights are no file.

    Raises ModelError: there are no weights, they are a pickle and that is not allowed, or the
    network cannot be reached.
    """
    if described.library == "python" or described.weights == "random":
        return None
    if described.spec is not None:
        return weights_file(described.spec, described.weights, allow_pickle=allow_pickle)
    if described.weights == "pretrained":
        return find_weights(described.id, allow_pickle=allow_pickle)
    path = check_file(Path(described.weights), allow_pickle=allow_pickle)
    return find_weights(str(path), allow_pickle=allow_pickle) if path.is_dir() else path


def weights_sha256(file: Path) -> str:
    """SHA-256 of the file; of shards, that of the hashes of their index and of each in order."""
    if file.name != SHARDED_NAME:
        return _sha256(file)
    parts = [_sha256(file), *(_sha256(file.parent / shard) for shard in shard_names(file))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
