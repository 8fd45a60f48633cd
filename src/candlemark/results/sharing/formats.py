"""Every format that results are copied out in, by name.

    copy_out(results, Path("copies"), formats=("markdown", "prometheus"), run="main")

Each writes one file a suite (JSON also one a row, DuckDB one in all).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from candlemark.errors import ConfigError
from candlemark.results.selection import Selection, select
from candlemark.results.sharing.lm_eval import export_lm_eval
from candlemark.results.sharing.markdown import export_markdown
from candlemark.results.sharing.prometheus import export_prometheus
from candlemark.results.sharing.store_copy import copy_store
from candlemark.results.sharing.suites import export_csv, export_json
from candlemark.results.store import Results

FORMATS: dict[str, Callable[[Sequence[Selection], Path], list[Path]]] = {
    "json": export_json,
    "csv": export_csv,
    "markdown": export_markdown,
    "prometheus": export_prometheus,
    "lm-eval": export_lm_eval,
}
"""Formats that are written from records; `duckdb`, a copy of the tables, is beside them."""

NAMES = (*FORMATS, "duckdb")
DEFAULT = ("json", "csv")


def copy_out(
    results: Results,
    folder: str | Path,
    *,
    formats: Sequence[str] = DEFAULT,
    suite_id: str | None = None,
    run: str | None = None,
) -> list[Path]:
    """Write all suites, one suite, or what one run measured; returns the files written.

    Raises ConfigError: a format is unknown. ResultsError: there is no such suite or run,
    nothing to export, or the folder cannot be written.
    """
    for name in formats:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(NAMES)}"
            raise ConfigError(f"unknown format '{name}'; {hint}")
    selections = select(results, suite_id=suite_id, run=run)
    written: list[Path] = []
    for name in dict.fromkeys(formats):
        if name == "duckdb":
            written.append(copy_store(results, Path(folder), suite_id=suite_id, run=run))
        else:
            written += FORMATS[name](selections, Path(folder))
    return written
