"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from candlemark.errors import ConfigError
from candlemark.hardware import device as module
from candlemark.hardware.device import available_devices, resolve_device, synchronise


def test_cpu_is_always_there_and_auto_takes_the_fastest() -> None:
    assert available_devices()[-1] == "cpu"
    assert resolve_device("cpu") == torch.device("cpu")
    assert str(resolve_device()) == available_devices()[0]
    synchronise(torch.device("cpu"))


def test_a_kind_without_a_number_is_its_first_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_devices", lambda: ("cuda:0", "cuda:1", "cpu"))
    assert resolve_device("auto") == torch.device("cuda:0")
    assert resolve_device("cuda") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="device 'cuda:2' is not here; available: cuda:0, cuda:1"):
        resolve_device("cuda:2")
    assert resolve_device("cpu:0") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device 'cpu:1' is not here"):
        resolve_device("cpu:1")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cuda0"])
def test_what_is_no_device_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown device '{name}'; allowed: auto, cuda"):
        resolve_device(name)
