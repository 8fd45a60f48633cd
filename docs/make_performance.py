"""Put the numbers of a measurement into the tables of performance.md.

    python perf/all.py --json docs/performance.json
    python docs/make_performance.py
    python docs/make_performance.py --check       # fails where page and numbers differ

The raw numbers stay beside the page, in performance.json, and those of masks, which
`python perf/segmentation.py --json docs/segmentation.json` measures, in segmentation.json.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generated import write_or_check

FOLDER = Path(__file__).parent
NUMBERS, PAGE = FOLDER / "performance.json", FOLDER / "performance.md"
MASKS = FOLDER / "segmentation.json"


def table(header: str, rows: Iterator[list[str]]) -> str:
    """A Markdown table: the first column is text, the others are numbers."""
    names = header.split(" | ")
    lines = [f"| {header} |", "|---" + "|---:" * (len(names) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def machine(results: dict[str, Any]) -> str:
    """One line on where and when."""
    facts, peers = results["machine"], results["peers"]
    versions = ", ".join(f"{name} {peers[name]}" for name in sorted(peers) if peers[name])
    return (
        f"{facts['cpu']}, {facts['usable_cores']} cores, {facts['memory_bytes'] / 2**30:.0f} GiB, "
        f"no GPU, {facts['system']} {facts['release'].split('-')[0]}, Python {results['python']}, "
        f"{results['measured_at'][:10]}. {versions}."
    )


def drawing(results: dict[str, Any]) -> str:
    """Pictures a second and shares of fill."""
    found = results["render"]
    rows = (
        [
            name,
            f"{row['pictures_per_s']:,.0f}",
            f"{row['share_of_fill']:.2f}",
            f"{found['goals'][name]:.2f}",
            f"{row['speedup_2_threads']:.2f}x",
            f"{row['fill_speedup_2_threads']:.2f}x",
        ]
        for name, row in found["styles"].items()
    )
    header = "one thread | pictures/s | of fill | goal | two threads | fill on two"
    peer = found["mplfinance_pictures_per_s"]
    lines = [table(header, rows)]
    if peer is not None:
        ours = list(found["styles"].values())[-1]["pictures_per_s"]
        lines.append(
            f"\nmplfinance draws {peer:.1f} such candlestick charts a second, "
            f"{ours / peer:,.0f} times fewer."
        )
    return "\n".join(lines)


def loading(results: dict[str, Any]) -> str:
    """Pictures a second into a loop, and bytes."""
    parts = []
    for name, case in results["loading"]["cases"].items():
        rows = (
            [
                reader,
                f"{row['cold_pictures_per_s']:,.0f}",
                f"{row['warm_pictures_per_s']:,.0f}",
                f"{row['bytes'] / case['pictures']:,.1f}",
                f"{case['share_of_bytes'][reader]:.2%}" if reader in case["share_of_bytes"] else "",
            ]
            for reader, row in case["rows"].items()
        )
        parts.append(table(f"{name} | cold/s | warm/s | bytes each | ours of it", rows))
        ratios = ", ".join(
            f"{kind} {case[f'{kind}_ratio']:.1f}x the fastest format "
            f"({case[f'{kind}_best_format']})"
            for kind in ("cold", "warm")
        )
        parts.append(f"\n{case['pictures']:,} pictures; drawn on request: {ratios}.\n")
    return "\n".join(parts).rstrip()


def stores(results: dict[str, Any]) -> str:
    """The large build, and every format."""
    found = results["stores"]
    built, peer = found["build"], found["gzip"]
    text = (
        f"{built['pictures']:,} pictures of `ohlc4`, 500 x 400 (200 GB), into one HDF5 file: "
        f"{built['seconds']:.1f} s, {built['pictures_per_s']:,.0f} a second, "
        f"{built['bytes_per_picture']:.0f} bytes each ({built['share_of_raw']:.3%} of raw), "
        f"at most {built['peak_bytes'] / 2**20:,.0f} MiB of memory. Plain h5py with gzip, which "
        "has one thread, writes "
        f"{peer['write_per_s']:,.0f} a second: {found['times_gzip']:.0f} times fewer. Read back: "
        f"{built['read_sequential_per_s']:,.0f} a second in order, "
        f"{built['read_random_per_s']:,.0f} at random.\n"
    )
    parts = [text]
    for title, formats in found["formats"].items():
        rows = (
            [
                name,
                *(
                    f"{row[key]:,.0f}"
                    for key in (
                        "write_per_s",
                        "bytes_per_picture",
                        "read_sequential_per_s",
                        "read_random_per_s",
                    )
                ),
            ]
            for name, row in formats.items()
        )
        parts.append(table(f"{title} | write/s | bytes each | read/s | random/s", rows) + "\n")
    return "\n".join(parts).rstrip()


def candles(results: dict[str, Any]) -> str:
    """Parsing an archive."""
    found = results["candles"]
    rows = (
        [what, f"{found[key]:.3f} s", f"{found['rows'] / found[key] / 1e6:.1f} M"]
        for what, key in (
            ("first load, checksums proved", "first_s"),
            ("again, from the parsed cache, proved", "cached_s"),
            ("pandas.read_csv of every zip, unproved", "pandas_s"),
        )
    )
    title = f"{found['rows']:,} candles of 1 minute, {found['zips']} zips"
    return table(f"{title} | time | candles/s", rows)


def masks(results: dict[str, Any]) -> str:
    """Five scores of a pair of masks, beside what others take for the same."""
    measured = results["segmentation"]

    def share(row: dict[str, Any]) -> str:
        low, high = row["over_ours_range"]
        return f"{row['over_ours']:.0f}x ({low:.0f} to {high:.0f})"

    rows = (
        [name, f"{times['candlemark']['median_ms']:.0f} ms"]
        + [share(times[peer]) for peer in ("monai", "surface-distance")]
        for name, times in measured["shapes"].items()
    )
    versions = measured["versions"]
    size = measured["size"]
    header = (
        f"masks of {size} x {size} x {size} | candlemark | MONAI {versions['monai']} | "
        f"surface-distance {versions['surface-distance']}"
    )
    return table(header, rows)


TABLES = {
    "machine": machine,
    "drawing": drawing,
    "loading": loading,
    "stores": stores,
    "candles": candles,
    "masks": masks,
}


def filled(page: str, results: dict[str, Any]) -> str:
    """The page with every table between its markers made anew."""
    for name, make in TABLES.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if not marked.search(page):
            sys.exit(f"{PAGE.name} has no place for the table '{name}'")
        text = make(results)
        page = marked.sub(lambda found, text=text: found[1] + text + found[2], page)
    return page


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    numbers["segmentation"] = json.loads(MASKS.read_text(encoding="utf-8"))
    sys.exit(write_or_check(PAGE, filled(page, numbers)))
