"""Small models with known behaviour, as `python:MODULE:FUNCTION` finds them."""

from __future__ import annotations

import os
import resource
import time

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """Three linear layers: 32 x 64, 64 x 64 and 64 x 10 multiply-adds an item."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layers(features)}


def linear():
    return Linear(), {"features": torch.linspace(-1, 1, 32)[None]}


class Convolution(nn.Module):
    """Nothing that int8 could quantise."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"maps": self.layer(pixels)}


def convolution():
    return Convolution(), {"pixels": torch.ones(1, 3, 8, 8)}


class _Embedding(nn.Module):
    """Its output has the name of an operator inside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(16, 8)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        return {"embedding": self.table(ids).mean(1) * 2}


def embedding():
    return _Embedding(), {"ids": torch.arange(4)[None]}


class _Acting(Linear):
    def act(self) -> None:
        """What happens instead of an answer."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        self.act()
        return super().forward(features)


class _Raising(_Acting):
    def act(self) -> None:
        raise ValueError("this model always fails")


def raising():
    return _Raising(), {"features": torch.ones(1, 32)}


class _Leaving(_Acting):
    def act(self) -> None:
        os._exit(7)


def leaving():
    return _Leaving(), {"features": torch.ones(1, 32)}


class _Greedy(_Acting):
    def act(self) -> None:
        in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (in_use + (64 << 20), before[1]))
        try:
            torch.empty(256 << 20)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)


def greedy():
    return _Greedy(), {"features": torch.ones(1, 32)}


class _Sleeping(_Acting):
    seconds = 60.0

    def act(self) -> None:
        time.sleep(self.seconds)


def sleeping():
    return _Sleeping(), {"features": torch.ones(1, 32)}


class _Napping(_Sleeping):
    seconds = 0.02


def napping():
    return _Napping(), {"features": torch.ones(1, 32)}


class _Deciding(Linear):
    """Its path depends on its numbers, which no graph of fixed operators can express."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        if features.sum().item() > 100:
            return {"logits": features}
        return super().forward(features)


def deciding():
    return _Deciding(), {"features": torch.linspace(-1, 1, 32)[None]}
