"""Export a dataset for others: one call, three forms.

    export(open_dataset("datasets/btc"), Path("shared/btc"), to="folder")

The folder appears whole or not at all, and one that holds anything is never written over.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from candlemark.dataset.captions import check_style
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.sharing.options import ExportOptions
from candlemark.dataset.sharing.place import appearing_whole
from candlemark.errors import ConfigError

FORMS: dict[str, str] = {
    "datasets": "candlemark.dataset.sharing.hf_dataset",
    "webdataset": "candlemark.dataset.sharing.tar_shards",
    "folder": "candlemark.dataset.sharing.folder",
}
"""Forms of an export and the modules that write them; each is imported only when it is used."""

MIN_SHARD_BYTES = 1_000_000


class _Form(Protocol):
    """What a module of `FORMS` defines."""

    def write(self, dataset: Dataset, folder: Path, options: ExportOptions) -> None: ...


def export(
    dataset: Dataset, out: str | Path, *, to: str, options: ExportOptions | None = None
) -> Path:
    """Write `dataset` to the folder `out` in the form `to`, and return it.

    to: "datasets" (Parquet that load_dataset opens), "webdataset" (tar shards) or "folder"
        (candles, one PNG a chart, an index)

    Raises ConfigError: no such form or caption style. MissingExtraError: "datasets" without
    that library. DatasetError: `out` holds something, the disk is full, a stored picture is
    damaged.
    """
    chosen = options or ExportOptions()
    check_style(chosen.caption)
    if to not in FORMS:
        raise ConfigError(f"unknown form '{to}'; a dataset is exported to: {', '.join(FORMS)}")
    if chosen.shard_bytes < MIN_SHARD_BYTES:
        raise ConfigError(
            f"shards of {chosen.shard_bytes} bytes; they must be allowed at least "
            f"{MIN_SHARD_BYTES}, such as --shard-mb 500"
        )
    form = cast("_Form", import_module(FORMS[to]))
    with appearing_whole(Path(out), what="export") as scratch:
        form.write(dataset, scratch, chosen)
    return Path(out)
