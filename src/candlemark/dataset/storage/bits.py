"""Stand-in until the charts pack pictures themselves."""

from __future__ import annotations

import numpy as np

from candlemark.dataset.storage.base import Images


def packed_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(G, W) of packed pictures of (H, W)."""
    return -(-shape[0] // 8), shape[1]


def pack(images: Images, ink: int) -> Images:
    """uint8 (N, G, W)."""
    return np.packbits(images == ink, axis=1, bitorder="little")


def unpack(
    packed: Images, height: int, *, paper: int, ink: int, out: Images, threads: int
) -> Images:
    """uint8 (N, H, W)."""
    del threads
    bits = np.unpackbits(packed, axis=1, count=height, bitorder="little")
    out[:] = np.array([paper, ink], dtype=np.uint8)[bits]
    return out
