"""Memory that is lent: never to two at once, and again when it is free."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import numpy as np
import torch

from candlemark.dataset.buffers import Buffers


def test_memory_is_used_again_only_when_nobody_looks_into_it() -> None:
    buffers = Buffers(keep=4)
    tensor = torch.from_numpy(buffers.take((6, 2)))
    address = tensor.data_ptr()
    looks: list[Any] = [tensor[1:3].t(), tensor.split([2, 4])[1], tensor.numpy()[:, 1], tensor]
    del tensor
    while looks:
        gc.collect()
        other = buffers.take((6, 2))
        assert other.ctypes.data != address
        looks.pop()
        del other
    free = [buffers.take((6, 2)) for _ in range(4)]
    assert address in {array.ctypes.data for array in free}


def test_lent_memory_never_overlaps() -> None:
    buffers = Buffers(keep=3)
    random = np.random.default_rng(0)
    held: list[tuple[int, torch.Tensor]] = []
    for number in range(400):
        array = buffers.take((int(random.integers(1, 40)), 5))
        array[...] = number % 251
        held.append((number % 251, torch.from_numpy(array)))
        if random.random() < 0.7:
            held.pop(int(random.integers(len(held))))
        del array
        assert all(bool((tensor == value).all()) for value, tensor in held)


def test_a_pickled_pool_is_an_empty_one_of_the_same_size() -> None:
    buffers = Buffers(keep=1)
    for _ in range(3):
        buffers.take((1000,))
    assert len(pickle.dumps(buffers)) < 200
    again = pickle.loads(pickle.dumps(buffers))  # noqa: S301  # its own
    held = [again.take((10,)) for _ in range(3)]
    addresses = {array.ctypes.data for array in held}
    assert len(addresses) == 3
    del held
    gc.collect()
    assert sum(array.ctypes.data in addresses for array in [again.take((10,))]) == 1
