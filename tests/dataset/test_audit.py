"""The audit: clean datasets pass, every planted leak is named, coincidences are told apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from candlemark.candles.series import CandleSeries
from candlemark.dataset.audit import Audit, audit
from candlemark.dataset.lazy import Dataset
from candlemark.dataset.manifest import describe_files
from candlemark.errors import DatasetError


def failed(found: Audit) -> set[str]:
    return {check.name for check in found.checks if not check.ok}


def edit_index(path: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """Change a column of the index and make the manifest's hash agree, as a forger would."""
    table = pq.read_table(path / "index.parquet")
    values = change(table.column(column).to_pylist())
    position = table.column_names.index(column)
    pq.write_table(table.set_column(position, column, pa.array(values)), path / "index.parquet")
    rehash(path)


def rehash(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    names = list(manifest["files"])
    entries = describe_files(path, names)
    manifest["files"] = {name: entry.model_dump() for name, entry in entries.items()}
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("label", ["last_candle", "next_candle", "triple_barrier"])
@pytest.mark.parametrize("experiment", ["regular", "irregular"])
def test_a_clean_dataset_passes(
    make_dataset: Callable[..., Dataset], label: str, experiment: str
) -> None:
    dataset = make_dataset(label={"name": label, "horizon": 3}, experiment=experiment)
    found = audit(dataset.path)
    assert found.ok, found.as_text()
    assert found.kind == ("recognition" if label == "last_candle" else "forecast")
    assert f"label is {found.kind}:" in found.as_text()
    assert "no leak found" in found.as_text()
    json.dumps(found.to_dict(), allow_nan=False)


def test_walk_forward_embargo_and_averages_pass(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(
        candles={"kind": "random_walk", "count": 900},
        split={"method": "walk_forward", "folds": 3, "fold": 1, "embargo": 5},
        style={"kind": "jkx", "moving_averages": [12], "height": 40},
    )
    found = audit(dataset)
    assert found.ok, found.as_text()
    assert "fold 1 of 3" in found.check("split").detail
    # Averages read 11 candles before the window, and the embargo keeps 5 more away.
    apart = found.check("reach").facts["starts_apart_candles"]
    assert min(apart.values()) == 10 + 1 + 11 + 5


def test_random_split_fails_and_is_called_leaky(make_dataset: Callable[..., Dataset]) -> None:
    found = audit(make_dataset(split={"method": "random"}))
    assert failed(found) == {"split", "reach", "candles"}
    assert "split 'random' is leaky" in found.check("split").detail
    assert "build again with --split time" in found.check("split").detail
    assert found.as_text().endswith("NOT TO BE TRUSTED: see the lines marked FAIL")


def test_a_window_moved_over_a_boundary_is_caught(make_dataset: Callable[..., Dataset]) -> None:
    path = make_dataset().path
    edit_index(path, "split", lambda names: ["test", *names[1:]])
    found = audit(path)
    assert failed(found) == {"reach", "candles"}
    assert "windows read past the boundary of their split" in found.check("reach").detail
    assert "train and test share 10 candles" in found.check("candles").detail


def test_a_missing_purge_is_caught(make_dataset: Callable[..., Dataset]) -> None:
    """One window slid over the boundary, its times with it: all rows are right, yet it leaks."""
    dataset = make_dataset()
    row, step = int(dataset.split("train")[-1]), 3

    def slide(by: int) -> Callable[[list[int]], list[int]]:
        return lambda values: [value + by * (n == row) for n, value in enumerate(values)]

    edit_index(dataset.path, "start_slot", slide(step))
    for column in ("window_start_ms", "window_end_ms", "reach_start_ms", "reach_end_ms"):
        edit_index(dataset.path, column, slide(step * 3_600_000))
    found = audit(dataset.path)
    assert {"reach", "candles"} <= failed(found)
    assert found.check("index").ok
    assert "train and validation share 3 candles" in found.check("candles").detail


def test_a_window_twice_is_caught(make_dataset: Callable[..., Dataset]) -> None:
    path = make_dataset().path
    table = pq.read_table(path / "index.parquet")
    pq.write_table(pa.concat_tables([table.slice(0, 1), table]), path / "index.parquet")
    rehash(path)
    found = audit(path)
    assert failed(found) == {"candles"}
    assert "1 windows are there more than once" in found.check("candles").detail


def test_forged_labels_are_caught(make_dataset: Callable[..., Dataset]) -> None:
    path = make_dataset().path
    edit_index(path, "target", lambda targets: [1 - targets[0], *targets[1:]])
    found = audit(path)
    assert failed(found) == {"labels"}
    assert "1 of " in found.check("labels").detail


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("start_slot", "1 windows lie outside their series"),
        ("window_start_ms", "1 windows have times that differ from their candles"),
    ],
)
def test_rows_that_point_elsewhere_are_caught(
    make_dataset: Callable[..., Dataset], column: str, message: str
) -> None:
    path = make_dataset().path
    edit_index(path, column, lambda values: [10**6, *values[1:]])
    found = audit(path)
    assert "index" in failed(found)
    assert message in found.check("index").detail


def test_a_recognition_label_passed_off_as_forecast_is_caught(
    make_dataset: Callable[..., Dataset],
) -> None:
    path = make_dataset(label={"name": "last_candle"}).path / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "label_kind": "forecast"}), encoding="utf-8")
    found = audit(path.parent)
    assert failed(found) == {"index"}
    assert found.kind == "recognition"


@pytest.mark.parametrize("name", ["candles.parquet", "index.parquet", "images.h5"])
def test_tampered_and_missing_files_are_named(
    make_dataset: Callable[..., Dataset], name: str
) -> None:
    path = make_dataset(storage={"format": "hdf5"}).path
    with (path / name).open("r+b") as file:
        # Bytes that no reader looks at, so that only the hash can tell.
        file.seek(-5 if name.endswith(".parquet") else 0, 2)
        if name.endswith(".h5"):
            file.write(b"\0")
    if name.endswith(".parquet"):
        table = pq.read_table(path / name)
        pq.write_table(table, path / name, compression="snappy")
    found = audit(path)
    assert failed(found) == {"files"}
    assert name in found.check("files").detail


def test_damaged_pictures_fail_two_checks_and_stop_no_other(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(storage={"format": "hdf5"})
    path = dataset.path / "images.h5"
    with h5py.File(path) as file:
        chunk = file["images_bits"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    found = audit(dataset.path)
    assert failed(found) == {"files", "pictures"}
    assert "images.h5 has SHA-256" in found.check("files").detail
    assert "chunk 0 (pictures 0 to" in found.check("pictures").detail


def test_the_same_market_under_two_names_is_caught(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    """A copy shifted in time, in another currency: train sees what test asks."""
    original = make_series(300, symbol="ONE")
    columns = original.to_numpy()
    scaled = {name: columns[name] * 8.0 for name in ("open", "high", "low", "close")}
    shifted = columns["open_time_ms"] + 290 * 3_600_000
    copy = CandleSeries.from_numpy(
        {**columns, **scaled, "open_time_ms": shifted}, symbol="COPY", interval="1h"
    )
    found = audit(make_dataset(series=[original, copy]))
    assert failed(found) == {"pictures"}
    assert "pictures of the same candles stand in more than one split" in (
        found.check("pictures").detail
    )


def test_pictures_too_coarse_to_differ_are_told_and_pass(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(
        window=2, style={"kind": "ohlc4", "height": 3}, label={"name": "next_candle"}
    )
    found = audit(dataset)
    assert found.ok
    check = found.check("pictures")
    assert check.facts["alike"] > 0
    assert "no candle is shared" in check.detail


def test_flat_markets_look_alike_and_pass(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    columns = make_series(300).to_numpy()
    flat = {name: np.full(300, 5.0) for name in ("open", "high", "low", "close")}
    series = CandleSeries.from_numpy(
        {**columns, **flat, "volume": np.zeros(300)}, symbol="FLAT", interval="1h"
    )
    found = audit(make_dataset(series=[series]))
    assert found.ok
    assert found.check("pictures").facts["alike"] > 0
    assert "train has no 'up'" in found.check("balance").detail
    assert "no AUROC, one class only" in found.check("visible rules").detail


def test_visible_rules_give_recognition_away(make_dataset: Callable[..., Dataset]) -> None:
    check = audit(make_dataset(label={"name": "last_candle"})).check("visible rules")
    assert check.facts["last visible candle"] == {"accuracy": 1.0, "auroc": 1.0}
    assert "no prediction" in check.detail


def test_visible_rules_know_nothing_of_a_random_walk(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(candles={"kind": "random_walk", "count": 3000, "seed": 4})
    for scores in audit(dataset).check("visible rules").facts.values():
        assert abs(scores["auroc"] - 0.5) < 0.05


def test_a_rule_that_is_always_wrong_is_as_suspicious_as_one_that_is_right(
    make_dataset: Callable[..., Dataset],
) -> None:
    generator = np.random.default_rng(0)
    opened = np.full(300, 100.0)
    closed = opened + np.where(np.arange(300) % 2, 1, -1) * generator.uniform(0.1, 1, 300)
    high, low = np.maximum(opened, closed) + 1, np.minimum(opened, closed) - 1
    series = CandleSeries(
        symbol="SWING",
        interval="1h",
        open_time_ms=np.arange(300) * 3_600_000,
        open=opened,
        high=high,
        low=low,
        close=closed,
        volume=generator.uniform(1, 2, 300),
    )
    check = audit(make_dataset(series=[series])).check("visible rules")
    assert check.facts["last visible candle"]["auroc"] == 0
    assert "suspiciously high for a forecast" in check.detail


def test_visible_rules_agree_with_scikit_learn(make_dataset: Callable[..., Dataset]) -> None:
    from sklearn.metrics import roc_auc_score

    dataset = make_dataset(label={"name": "forward_return", "horizon": 3}, experiment="irregular")
    rows = np.arange(len(dataset))
    shown = dataset.features(rows)
    trend = []
    for window in shown:
        seen = window[~np.isnan(window[:, 0])].astype(np.float64)
        trend.append(seen[-1, 3] - seen[0, 0])
    expected = roc_auc_score(dataset.targets(rows), trend)
    scores = audit(dataset).check("visible rules").facts["visible trend"]
    assert scores["auroc"] == pytest.approx(expected)


def test_gaps_and_left_out_windows_are_told(
    make_series: Callable[..., CandleSeries], make_dataset: Callable[..., Dataset]
) -> None:
    series = make_series(400, missing=range(100, 130))
    found = audit(make_dataset(series=[series]))
    assert found.ok
    detail = found.check("gaps").detail
    assert "30 missing in 1 gap (longest 30 from 2024-01-05 04:00)" in detail
    assert "missing candles" in detail


def test_unknown_check(make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(KeyError, match="no check 'x'; there are: files, index, split"):
        audit(make_dataset()).check("x")


def test_what_cannot_be_opened_is_an_error(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="no dataset at"):
        audit(tmp_path / "nowhere")
    path = make_dataset().path
    (path / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        DatasetError, match=r"index.parquet is damaged .*; delete its folder and build"
    ):
        audit(path)
    table = pa.table({"symbol": ["X"]})
    pq.write_table(table, path / "index.parquet")
    with pytest.raises(DatasetError, match=r"unknown name 'X'"):
        audit(path)
