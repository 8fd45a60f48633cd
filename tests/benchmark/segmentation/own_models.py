"""A user's own models, as functions: one that is right, and each way of being wrong."""

from __future__ import annotations

import os
import time

import numpy as np


def bright(volume):
    return (volume > 150).astype(np.uint8)


def numbers_it_5(volume):
    return (volume > 150).astype(np.uint8) * 5


def transposed(volume):
    return (volume > 150).astype(np.uint8).T


def fails_on_case_2(volume, scan):
    if scan.id == "case_2":
        raise RuntimeError("the second\nis too hard")
    return (volume > 150).astype(np.uint8)


def leaves_on_case_2(volume, scan):
    if scan.id == "case_2":
        raise SystemExit("no licence")
    return (volume > 150).astype(np.uint8)


def no_memory(volume, scan):
    if scan.id == "case_3":
        raise MemoryError
    return (volume > 150).astype(np.uint8)


def kills_its_process(volume):
    os._exit(3)


def sleeps(volume):
    time.sleep(30)
    return (volume > 150).astype(np.uint8)
