"""Memory that is seen to grow, whatever ran in this process before."""

from __future__ import annotations

import ctypes
import sys

import pytest

M_MMAP_THRESHOLD, M_MMAP_MAX = -3, -4
"""As malloc.h of the GNU C library has them."""


@pytest.fixture(scope="session")
def pages_of_their_own() -> None:
    """Large blocks come from the kernel, not from what earlier tests have left free.

    Else a process that once held gigabytes hands out the same pages again, and nothing grows.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 65536)
        library.mallopt(M_MMAP_THRESHOLD, 2**20)
