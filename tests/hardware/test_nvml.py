"""NVML from the outside: what a GPU tells, and every way in which it does not."""

# ruff: noqa: N802, N815 - a fake has the names of what it stands for

from __future__ import annotations

import builtins
import os
import time
from types import SimpleNamespace

import pytest
import torch

from candlemark.hardware import nvml as module
from candlemark.hardware.nvml import SLOWED, NvmlGpu, open_gpu
from candlemark.hardware.sensors import SensorError

CUDA = torch.device("cuda:0")


class FakeNvml:
    """The part of `pynvml` that is used; `faults` raise instead of answering."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL = 0, 1
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NOT_FOUND, NVML_ERROR_GPU_IS_LOST = 3, 6, 15

    class NVMLError(Exception):
        def __init__(self, value):
            self.value = value

        def __str__(self):
            return {3: "Not Supported", 6: "Not Found", 15: "GPU is lost"}[self.value]

    def __init__(self, **faults):
        self.faults = faults
        self.handles = []

    def __getattribute__(self, name):
        faults = object.__getattribute__(self, "faults") if name.startswith("nvml") else {}
        if name in faults:
            fault = faults[name]
            if fault is AttributeError:
                raise AttributeError(name)

            def fail(*_):
                raise FakeNvml.NVMLError(fault)

            return fail
        return object.__getattribute__(self, name)

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.handles.append(uuid)
        return uuid

    def nvmlSystemGetDriverVersion(self):
        return b"580.65"

    def nvmlDeviceGetClockInfo(self, _, kind):
        return {1: 1980, 2: 2619}[kind]

    nvmlDeviceGetMaxClockInfo = nvmlDeviceGetClockInfo

    def nvmlDeviceGetTemperature(self, *_):
        return 41

    def nvmlDeviceGetPowerUsage(self, _):
        return 123_400

    def nvmlDeviceGetEnforcedPowerLimit(self, _):
        return 700_000

    def nvmlDeviceGetTotalEnergyConsumption(self, _):
        return 5_500

    def nvmlDeviceGetCurrentClocksEventReasons(self, _):
        return 0x4 | 0x20

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _):
        return 0x80

    def nvmlDeviceGetViolationStatus(self, _, policy):
        return SimpleNamespace(violationTime={0: 2_000_000_000, 1: 500_000_000}[policy])

    def nvmlDeviceGetComputeRunningProcesses(self, _):
        return [
            SimpleNamespace(pid=os.getpid(), usedGpuMemory=1024),
            SimpleNamespace(pid=2**22 + 1, usedGpuMemory=None),  # above the highest id of Linux
        ]

    def nvmlDeviceGetProcessUtilization(self, _, since):
        return [
            SimpleNamespace(pid=1, timeStamp=since + 1, smUtil=20),
            SimpleNamespace(pid=1, timeStamp=since + 2, smUtil=40),
            SimpleNamespace(pid=2, timeStamp=since - 1, smUtil=90),
        ]


def gpu(**faults):
    return NvmlGpu(FakeNvml(**faults), "handle")


def test_everything_that_a_gpu_tells_is_read():
    seen = gpu().read()
    assert (seen.driver, seen.sm_clock_mhz, seen.memory_clock_mhz) == ("580.65", 1980, 2619)
    assert (seen.temperature_c, seen.power_w, seen.power_cap_w) == (41, 123.4, 700)
    assert seen.reasons == ("power cap", "software thermal slowdown")
    assert (seen.power_capped_s, seen.thermal_slowdown_s) == (2.0, 0.5)
    own, other = seen.processes
    assert own.name is not None
    assert (other.name, other.memory_bytes) == (None, None)
    assert seen.utilisation == {1: 30}
    assert seen.unknown == {}


def test_what_a_gpu_does_not_offer_is_unknown_with_the_reason_and_the_rest_is_read():
    seen = gpu(
        nvmlDeviceGetViolationStatus=FakeNvml.NVML_ERROR_NOT_SUPPORTED,
        nvmlDeviceGetProcessUtilization=FakeNvml.NVML_ERROR_NOT_SUPPORTED,
    ).read()
    assert seen.thermal_slowdown_s is None
    assert seen.utilisation is None
    assert seen.unknown == dict.fromkeys(
        ("thermal_slowdown_s", "power_capped_s", "utilisation"), "NVML: Not Supported"
    )
    assert seen.temperature_c == 41


def test_no_sample_of_utilisation_means_that_nothing_ran():
    assert (
        gpu(nvmlDeviceGetProcessUtilization=FakeNvml.NVML_ERROR_NOT_FOUND).read().utilisation == {}
    )


def test_utilisation_is_asked_for_since_the_last_look(monkeypatch):
    since = []
    fake = FakeNvml()
    fake.nvmlDeviceGetProcessUtilization = lambda _, at: since.append(at) or []
    watched = NvmlGpu(fake, "handle")
    started = time.time() * 1e6
    watched.read()
    watched.read()
    assert since[0] <= started <= since[1]


def test_older_drivers_name_clock_reasons_otherwise():
    assert gpu(nvmlDeviceGetCurrentClocksEventReasons=AttributeError).read().reasons == (
        "power brake",
    )
    assert gpu(nvmlDeviceGetCurrentClocksEventReasons=3).read().reasons == ("power brake",)
    assert {"power brake"} < SLOWED


def test_a_gpu_that_falls_off_the_bus_is_unknown_in_everything():
    lost = dict.fromkeys(
        (name for name in dir(FakeNvml) if name.startswith(("nvmlDeviceGet", "nvmlSystem"))),
        FakeNvml.NVML_ERROR_GPU_IS_LOST,
    )
    seen = gpu(**lost).read()
    assert set(seen.unknown.values()) == {"NVML: GPU is lost"}
    assert seen.processes is None
    with pytest.raises(SensorError, match="NVML: GPU is lost"):
        gpu(**lost).energy_j()
    assert set(gpu(**lost).settings().values()) == {None}


def test_energy_power_and_settings_have_the_units_they_say():
    assert gpu().energy_j() == 5.5
    assert gpu().power_w() == 123.4
    assert gpu().settings() == {
        "driver": "580.65",
        "power_cap_w": 700,
        "sm_clock_max_mhz": 1980,
        "memory_clock_max_mhz": 2619,
    }


@pytest.mark.parametrize(
    ("uuid", "asked"), [("ab-cd", "GPU-ab-cd"), ("GPU-ab", "GPU-ab"), ("MIG-ab", "MIG-ab")]
)
def test_a_gpu_is_found_by_the_uuid_that_torch_knows(monkeypatch, uuid, asked):
    properties = SimpleNamespace(uuid=uuid)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    fake = FakeNvml()
    assert open_gpu(CUDA, fake).power_w() == 123.4
    assert fake.handles == [asked]


def test_nvml_that_does_not_start_is_refused(monkeypatch):
    monkeypatch.setattr(module, "_uuid", lambda _: "GPU-x")
    with pytest.raises(SensorError, match="NVML: Not Found"):
        open_gpu(CUDA, FakeNvml(nvmlInit=6))
    with pytest.raises(SensorError, match="NVML: Not Found"):
        open_gpu(CUDA, FakeNvml(nvmlDeviceGetHandleByUUID=6))


def test_a_gpu_without_uuid_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace())
    with pytest.raises(SensorError, match="torch does not know the GPU's UUID"):
        open_gpu(CUDA, FakeNvml())


def test_a_missing_package_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "pynvml":
            raise ImportError
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SensorError, match=r"candlemark\[cuda\]"):
        open_gpu(CUDA)


def test_other_devices_are_not_nvidias():
    with pytest.raises(SensorError, match="not the device 'xpu:0'"):
        open_gpu(torch.device("xpu:0"), FakeNvml())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_this_machines_gpu_can_be_asked():
    watched = open_gpu(CUDA)
    seen = watched.read()
    assert seen.driver
    assert seen.temperature_c is None or 0 < seen.temperature_c < 120
    assert watched.settings()["driver"] == seen.driver
