"""The chart kernels on a CPU, and a CuPy that runs them there."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.resources import as_file, files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

FLAGS = ["-std=c++20", "-ffp-contract=off", "-Wno-unknown-pragmas", "-pthread"]


class Emulator:
    """The kernels, compiled for the CPU and called as a device driver calls them."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def launch(
        self, kernel: str, grid: int, threads: int, shared_bytes: int, arguments: Sequence[Any]
    ) -> None:
        """Run a kernel on numpy arrays, numpy scalars and None, changing arrays in place."""
        values = [
            np.array(
                0 if one is None else one.ctypes.data if isinstance(one, np.ndarray) else one,
                dtype=None if isinstance(one, np.generic) else np.uint64,
            )
            for one in arguments
        ]
        pointers = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        status = self._library.launch(kernel.encode(), grid, threads, shared_bytes, pointers)
        assert status == 0, {1: "wrote past its shared memory", 2: "no such kernel"}[status]


def build(target: Path, *flags: str) -> Path:
    """Compile the kernels for the CPU, or skip where no compiler is."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the CUDA source for the CPU")
    source = Path(__file__).parent / "cuda_on_cpu.cpp"
    with as_file(files("candlemark.charts").joinpath("kernels/charts.cu")) as kernels:
        command = [compiler, *FLAGS, *flags, f'-DKERNELS="{kernels}"', "-o", target, source]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0 and "sanitize" in " ".join(flags) and "cannot find" in done.stderr:
        pytest.skip("g++ has no sanitizer library")
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """The kernels in one library for the whole session."""
    folder = tmp_path_factory.mktemp("emulator")
    return Emulator(build(folder / "charts.so", "-O2", "-shared", "-fPIC"))


@pytest.fixture
def build_kernels() -> Callable[..., Path]:
    """`build`, for tests that want a program of their own."""
    return build


class FakeArray(np.ndarray):
    """An array on a device: numpy, with CuPy's word for where it is."""

    index = 0

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=self.index)


class CompileError(Exception):
    """What CuPy raises for source that does not compile."""


class FakeCupy:
    """As much of CuPy 14 as the drawing uses, with `count` devices that are this CPU.

    `streams` lists the streams that work was queued on, `kernels` the kernels called.
    """

    __version__ = "14.2.0"
    ndarray = FakeArray

    def __init__(self, emulator: Emulator, count: int = 1) -> None:
        self.emulator = emulator
        self.streams: list[str] = []
        self.kernels: list[str] = []
        self.device_of_call: list[int] = []
        self.driver_error: str | None = None
        self.compile_error: Exception | None = None
        fake = self

        class Device(nullcontext[None]):
            def __init__(self, index: int) -> None:
                super().__init__()
                fake.device_of_call.append(index)

        class Stream:
            null = nullcontext("null")

            @staticmethod
            def from_external(stream: Any) -> AbstractContextManager[str]:
                fake.streams.append(f"external {stream.__cuda_stream__()}")
                return nullcontext()

        class Kernel:
            limits: ClassVar[dict[str, int]] = {}

            def __init__(self, name: str) -> None:
                self.name = name

            @property
            def max_dynamic_shared_size_bytes(self) -> int:
                return self.limits.get(self.name, 48 * 1024)

            @max_dynamic_shared_size_bytes.setter
            def max_dynamic_shared_size_bytes(self, size: int) -> None:
                self.limits[self.name] = size

            def __call__(
                self,
                grid: tuple[int],
                block: tuple[int],
                arguments: tuple[Any, ...],
                *,
                shared_mem: int = 0,
            ) -> None:
                assert shared_mem <= self.max_dynamic_shared_size_bytes
                fake.kernels.append(self.name)
                fake.emulator.launch(self.name, grid[0], 1, shared_mem, arguments)

        class RawModule:
            def __init__(self, *, code: str, options: tuple[str, ...], backend: str) -> None:
                assert "draw_levels" in code
                assert "-fmad=false" in options
                assert backend == "nvrtc"

            def compile(self) -> None:
                if fake.compile_error is not None:
                    raise fake.compile_error

            def get_function(self, name: str) -> Kernel:
                return Kernel(name)

        def device_count() -> int:
            if fake.driver_error is not None:
                raise RuntimeError(fake.driver_error)
            return count

        self.RawModule = RawModule
        self.cuda = SimpleNamespace(
            Device=Device,
            Stream=Stream,
            compiler=SimpleNamespace(CompileException=CompileError),
            get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
            runtime=SimpleNamespace(
                getDeviceCount=device_count,
                getDeviceProperties=lambda index: {
                    "name": b"Emulated GPU",
                    "multiProcessorCount": 2,
                    "sharedMemPerMultiprocessor": 100 * 1024,
                },
            ),
        )

    def asarray(self, array: np.ndarray) -> FakeArray:
        return array.copy().view(FakeArray)

    def ascontiguousarray(self, array: FakeArray) -> FakeArray:
        return np.ascontiguousarray(array).view(FakeArray)

    def empty(self, shape: Any, dtype: Any) -> FakeArray:
        array = np.empty(shape, dtype=dtype)
        array.view(np.uint8).fill(0xA5)
        return array.view(FakeArray)

    def from_dlpack(self, tensor: Any) -> FakeArray:
        return tensor.array.view(FakeArray)


@pytest.fixture
def fake_cupy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    """`import cupy` gives a CuPy whose device is this CPU."""
    import sys

    fake = FakeCupy(emulator)
    monkeypatch.setitem(sys.modules, "cupy", fake)  # type: ignore[arg-type]
    return fake
