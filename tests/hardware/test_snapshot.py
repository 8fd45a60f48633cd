"""What a number was measured on."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from candlemark.hardware import snapshot as module
from candlemark.hardware.comparability import COMPARED, comparability_key, differing_fields
from candlemark.hardware.sensors import SensorError
from candlemark.hardware.snapshot import attention_kernel, snapshot

CPU = torch.device("cpu")


def test_snapshot_is_plain_json_and_names_this_machine() -> None:
    here = snapshot(CPU, precision="fp32", batch_size=1)
    assert json.loads(json.dumps(here)) == here
    assert here["packages"]["numpy"] == np.__version__
    assert here["threads"] == torch.get_num_threads()
    assert here["usable_cores"] >= 1
    assert here["precision"] == "fp32"
    assert here["gpu"] is None


def test_equal_conditions_have_equal_keys() -> None:
    assert comparability_key(snapshot(CPU)) == comparability_key(snapshot(CPU))
    assert differing_fields(snapshot(CPU), snapshot(CPU)) == {}


def test_every_compared_field_changes_the_key_and_is_named() -> None:
    here = snapshot(CPU, precision="fp32", batch_size=1)
    for name in COMPARED:
        there = {**here, name: "something else"}
        assert comparability_key(there) != comparability_key(here), name
        assert list(differing_fields(here, there)) == [name]


def test_a_differing_package_is_named_with_both_versions() -> None:
    here = snapshot(CPU)
    there = {**here, "packages": {**here["packages"], "timm": "0.1"}}
    assert differing_fields(here, there) == {"packages.timm": (here["packages"]["timm"], "0.1")}


def test_what_moves_no_number_is_not_compared() -> None:
    here = snapshot(CPU)
    assert comparability_key({**here, "release": "other"}) == comparability_key(here)


def test_keys_stored_before_there_were_newer_fields_still_hold() -> None:
    stored = {"device": "cpu", "threads": 2, "precision": "fp32", "batch_size": 1}
    assert comparability_key(stored) == "54554345e478ae1f"
    assert comparability_key({**stored, "backend": None}) == comparability_key(stored)
    assert comparability_key({**stored, "backend": "eager"}) != comparability_key(stored)


def test_conditions_of_an_inference_run_are_compared_by_name() -> None:
    here = snapshot(CPU, backend="eager", sequence_length=128, power_cap_w=700)
    there = snapshot(CPU, backend="compile", sequence_length=256, power_cap_w=350)
    assert differing_fields(here, there) == {
        "backend": ("eager", "compile"),
        "sequence_length": (128, 256),
        "power_cap_w": (700, 350),
    }


def test_precision_flags_are_those_that_are_set() -> None:
    assert snapshot(CPU)["matmul_tf32"] is False
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        here = snapshot(CPU)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (here["matmul_tf32"], here["matmul_precision"]) == (True, "high")


def test_flags_are_read_where_torch_refuses_the_old_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refused)
    assert snapshot(CPU)["matmul_precision"] == "highest"


def test_attention_names_the_kernels_allowed_and_the_one_taken() -> None:
    assert set(snapshot(CPU)["attention_backends"]) >= {"flash", "math"}
    with sdpa_kernel(SDPBackend.MATH):
        assert snapshot(CPU)["attention_backends"] == ["math"]
        assert attention_kernel(CPU, torch.float32) == "math"
    assert attention_kernel(CPU, torch.float32, length=16, causal=True) in {"flash", "math"}


def test_attention_that_cannot_be_asked_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attention_kernel(CPU, torch.int64) in {None, "math"}
    monkeypatch.delattr(torch, "_fused_sdp_choice")
    assert attention_kernel(CPU, torch.float32) is None


class _Gpu:
    def settings(self) -> dict[str, object]:
        return {
            "driver": "580.65",
            "power_cap_w": 700.0,
            "sm_clock_max_mhz": 1980,
            "memory_clock_max_mhz": None,
        }


def test_a_gpus_settings_are_part_of_its_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="NVIDIA H100", total_memory=80)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(module, "open_gpu", lambda _: _Gpu())
    monkeypatch.setattr(module, "_nvidia_driver", lambda: None)
    here = snapshot(torch.device("cuda:0"))
    assert (here["gpu"], here["driver"], here["power_cap_w"]) == ("NVIDIA H100", "580.65", 700)

    def absent(_: object) -> None:
        raise SensorError("no NVML")

    monkeypatch.setattr(module, "open_gpu", absent)
    here = snapshot(torch.device("cuda:0"))
    assert (here["gpu"], here["driver"], here["power_cap_w"]) == ("NVIDIA H100", None, None)
