"""Is this machine ready? Each check says what it found and the command that mends it.

    for check in diagnose():
        print(check.state, check.name, check.found, check.fix)

A `problem` keeps the main job from running; a `note` only narrows it (no GPU, no network).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from candlemark.candles.archive import PUBLIC_URL
from candlemark.candles.cache import default_folder

State = Literal["ok", "note", "problem"]

MINIMUM_PYTHON = (3, 11)
MINIMUM_FREE_BYTES = 2 * 1024**3
"""A dataset of pictures and a checkpoint of a large model fit into this."""

REACH_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at: what was found, and how to mend it where that is needed."""

    name: str
    state: State
    found: str
    fix: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)


def diagnose() -> Iterator[Check]:
    """Every check, cheapest first."""
    yield check_python()
    yield from check_packages()
    yield check_folder("cache", default_folder(), "export CANDLEMARK_CACHE=/a/writable/folder")
    yield check_folder("output", Path.cwd(), "cd to a folder that you may write to")
    yield check_devices()
    binance = os.environ.get("CANDLEMARK_BINANCE_URL", PUBLIC_URL)
    yield check_reach("Binance archive", binance, "candlemark bench --base-url file:///FOLDER")
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    yield check_reach("Hugging Face Hub", hub, "candlemark bench --weights random")


def check_python() -> Check:
    """The interpreter is new enough."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= MINIMUM_PYTHON:
        return Check(name="Python", state="ok", found=found)
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    return Check(name="Python", state="problem", found=found, fix=f"install Python {wanted}+")


def check_packages() -> Iterator[Check]:
    """Every requirement of this distribution is met; one line where all are."""
    broken = [check for text in _requirements() if (check := _check_requirement(text))]
    if broken:
        yield from broken
    else:
        versions = ", ".join(
            f"{name} {importlib.metadata.version(name)}"
            for name in ("torch", "torchvision", "timm", "transformers", "numpy")
        )
        yield Check(name="packages", state="ok", found=versions)


def _requirements() -> list[str]:
    return importlib.metadata.requires("candlemark") or []


def _check_requirement(text: str) -> Check | None:
    requirement = Requirement(text)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version is not None and requirement.specifier.contains(version, prereleases=True):
        return None
    return Check(
        name=requirement.name,
        state="problem",
        found=f"{version or 'not installed'}, wanted {requirement.specifier}",
        fix=f"python -m pip install '{requirement.name}{requirement.specifier}'",
    )


def check_folder(name: str, folder: Path, fix: str) -> Check:
    """The folder can be written and has room."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {free / 1024**3:.1f} GiB free"
    if not os.access(existing, os.W_OK):
        return Check(name=name, state="problem", found=f"{found}, not writable", fix=fix)
    if free < MINIMUM_FREE_BYTES:
        return Check(name=name, state="problem", found=found, fix=f"free disk space, or {fix}")
    return Check(name=name, state="ok", found=found)


def check_devices() -> Check:
    """What models can run on."""
    from candlemark.hardware.device import available_devices

    devices = available_devices()
    found = ", ".join(devices)
    if devices == ("cpu",):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return Check(name="devices", state="note", found=f"cpu only, {cores} cores", fix=None)
    return Check(name="devices", state="ok", found=found)


def check_reach(name: str, url: str, fix: str, get: Callable[[str], int] | None = None) -> Check:
    """The address answers; `get` maps an address to its HTTP status."""
    import httpx

    if url.startswith("file://"):
        folder = Path(url.removeprefix("file://"))
        state: State = "ok" if folder.is_dir() else "problem"
        found = f"{url} {'is there' if folder.is_dir() else 'does not exist'}"
        return Check(name=name, state=state, found=found, fix=None if folder.is_dir() else fix)
    try:
        status = (get or _status)(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        return Check(name=name, state="note", found=f"{url} cannot be reached: {reason}", fix=fix)
    return Check(name=name, state="ok", found=f"{url} answers ({status})")


def _status(url: str) -> int:
    import httpx

    return httpx.head(url, timeout=REACH_TIMEOUT_S, follow_redirects=True).status_code
