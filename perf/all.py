"""Every ratio that is claimed, side by side with the peers, in one run on this machine.

    python -m pip install -e ".[perf]"        # mplfinance, webdataset, datasets
    python perf/all.py --json perf.json [--quick]

Runs `render`, `render_gpu`, `stores`, `loading`, `fusion_loop`, `candles` and `segmentation` one
after the other, each in a process of its own so that none inherits another's memory, and then
prints each goal with what was measured. Without a GPU `render_gpu` says so, and its rows are
absent.
About 20 minutes; `--quick` takes small samples, which is enough to see that all of it runs and
too little to quote. Nothing else should run meanwhile. A peer that is not installed is named,
and its rows are absent.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from candlemark.hardware.device import resolve_device
from candlemark.hardware.snapshot import snapshot

SIZES = {
    "render": ["--seconds", "0.3"],
    "render_gpu": ["--rounds", "5"],
    "stores": ["--pictures", "20000", "--sample", "200"],
    "loading": ["--pictures", "600", "--seconds", "0.3"],
    "fusion_loop": ["--pictures", "600", "--seconds", "0.3", "--rounds", "1"],
    "candles": ["--months", "2", "--repeats", "2"],
    "segmentation": ["--size", "64", "--rounds", "1"],
}
"""The scripts, and what makes each of them quick."""

WRITING = ("stores", "loading", "fusion_loop")

PEERS = (
    *("mplfinance", "matplotlib", "h5py", "zarr", "webdataset", "datasets", "pandas", "pillow"),
    *("monai", "surface-distance"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One claim: what was measured, in which unit, and what it has to reach."""

    name: str
    measured: float
    goal: float
    unit: str
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal

    def line(self) -> str:
        """A row of the table."""
        sign = "<=" if self.at_most else ">="
        mark = "met" if self.met else "NOT MET"
        return f"{self.name:58}{self.measured:11.3f}  {sign} {self.goal:<7g}{self.unit:16}{mark}"


def goals(results: dict[str, Any]) -> Iterator[Goal]:
    """All goals, from what the scripts measured."""
    for name, row in results["render"]["styles"].items():
        goal = results["render"]["goals"][name]
        yield Goal(name=name, measured=row["share_of_fill"], goal=goal, unit="of fill")
    for name, row in results["render"]["styles"].items():
        gain = row["speedup_2_threads"]
        yield Goal(name=f"{name}, 2 threads", measured=gain, goal=1.9, unit="x 1 thread")
    gpu = results["render_gpu"]
    for name, row in gpu["cases"].items() if gpu is not None else ():
        share = row["share_of_fill"]
        yield Goal(name=f"{name}, on the GPU", measured=share, goal=0.6, unit="of fill")
    for name, case in results["loading"]["cases"].items():
        for kind in ("cold", "warm"):
            best = f"{name}, {kind}, against {case[f'{kind}_best_format']}"
            yield Goal(name=best, measured=case[f"{kind}_ratio"], goal=10, unit="x")
        for reader, share in case["share_of_bytes"].items():
            title = f"{name}, bytes of {reader}"
            yield Goal(name=title, measured=share, goal=0.01, unit="share", at_most=True)
    for name, case in results["fusion_loop"]["cases"].items():
        for part, title in (("data", "pictures and captions"), ("step", "the same and a step")):
            yield Goal(
                name=f"{name}, {title}", measured=case[part]["ratio"], goal=3, unit="x files"
            )
    built = results["stores"]["build"]
    million = f"{built['pictures']:,} ohlc4 pictures to HDF5"
    yield Goal(name=million, measured=built["seconds"], goal=40, unit="s", at_most=True)
    share = built["share_of_raw"]
    yield Goal(name=f"{million}, size", measured=share, goal=0.002, unit="of raw", at_most=True)
    times = results["stores"]["times_gzip"]
    yield Goal(name=f"{million}, against gzip", measured=times, goal=40, unit="x")
    if built["peak_bytes"] is not None:
        held = built["peak_bytes"] / 2**30
        yield Goal(name=f"{million}, memory", measured=held, goal=1, unit="GiB", at_most=True)
    parsed = results["candles"]
    rows = f"{parsed['rows']:,} candles of {parsed['zips']} zips"
    yield Goal(name=f"{rows}, cold", measured=parsed["first_s"], goal=2, unit="s", at_most=True)
    cached = parsed["cached_s"]
    yield Goal(name=f"{rows}, cached", measured=cached, goal=0.1, unit="s", at_most=True)
    masks = results["segmentation"]
    for name, times in masks["shapes"].items():
        for peer in sorted(times.keys() & masks["versions"].keys()):
            title = f"masks of {masks['size']}^3, {name}, against {peer}"
            yield Goal(name=title, measured=times[peer]["over_ours"], goal=10, unit="x")


def peers() -> dict[str, str | None]:
    """Versions of what we are measured against; None: not installed."""
    found: dict[str, str | None] = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def run(name: str, options: list[str], folder: Path | None) -> dict[str, Any] | None:
    """What one script measured, None if there was nothing to measure; it prints its own tables."""
    if folder is not None and name in WRITING:
        options = [*options, "--folder", str(folder)]
    with tempfile.TemporaryDirectory() as scratch:
        numbers = Path(scratch) / "numbers.json"
        script = Path(__file__).with_name(f"{name}.py")
        command = [sys.executable, str(script), *options, "--json", str(numbers)]
        subprocess.run(command, check=True)  # noqa: S603 -- our own scripts
        print(flush=True)
        if not numbers.exists():
            return None
        found: dict[str, Any] = json.loads(numbers.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small samples: a trial run")
    parser.add_argument("--json", type=Path, help="write the raw numbers and the goals here")
    parser.add_argument("--folder", type=Path, help="where to write, on the disk to measure")
    arguments = parser.parse_args()
    quick = arguments.quick
    results: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": snapshot(resolve_device("cpu")),
        "peers": peers(),
    }
    for name, sizes in SIZES.items():
        results[name] = run(name, sizes if quick else [], arguments.folder)
    reached = list(goals(results))
    print("\n" + "\n".join(goal.line() for goal in reached))
    if arguments.json:
        results["goals"] = [
            {"name": one.name, "measured": one.measured, "goal": one.goal, "met": one.met}
            for one in reached
        ]
        text = json.dumps(results, indent=2, default=str) + "\n"
        arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
