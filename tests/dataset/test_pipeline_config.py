"""Configs in the shape of chart pipelines mean what they say, and say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from candlemark.config import parse, read_mapping
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.pipeline_config import PipelineConfig, read_pipeline
from candlemark.errors import ConfigError

WHOLE = """
data: {symbol: btcusdt, interval: 1m, start_date: 2020-01-01, end_date: 2023-12-31}
image:
  seq_len: 100
  resolution: {height: 500}
  storage: {format: hdf5, mode: batch, images_per_file: 1000}
paths: {raw_data: data/raw, processed_data: data/processed, models: models, logs: logs}
"""


def read(text: str) -> PipelineConfig:
    pipeline = read_pipeline(yaml.safe_load(text), where="old.yaml")
    assert pipeline is not None
    return pipeline


def built(text: str) -> DatasetConfig:
    return parse(DatasetConfig, read(text).dataset_values())


def storage(text: str) -> tuple[dict[str, Any], list[str]]:
    pipeline = read(f"data: {{symbol: BTCUSDT}}\nimage: {{storage: {text}}}")
    return pipeline.dataset_values()["storage"], pipeline.idle_storage()


def test_the_whole_shape() -> None:
    config = built(WHOLE)
    assert config.candles.symbols == ("BTCUSDT",)
    assert (config.candles.kind, config.candles.interval) == ("archive", "1m")
    assert (config.candles.start, config.candles.end) == ("2020-01-01", "2023-12-31")
    assert (config.style.kind, config.window, config.image_shape) == ("ohlc4", 100, (500, 400))
    assert config.storage.format == "hdf5"
    paths = read(WHOLE).paths
    assert (paths.raw_data, paths.processed_data) == (Path("data/raw"), Path("data/processed"))
    assert (paths.models, paths.logs) == (Path("models"), Path("logs"))


def test_what_is_left_out_has_defaults() -> None:
    config = built("data: {symbol: [ETHUSDT, BTCUSDT]}")
    assert config.candles.symbols == ("ETHUSDT", "BTCUSDT")
    assert (config.candles.interval, config.candles.start) == ("1h", None)
    assert (config.window, config.image_shape) == (30, (500, 120))
    assert config.storage.format == "none"
    assert read("data: {symbol: A1}").paths.raw_data is None


def test_several_symbols_and_synthetic_markets() -> None:
    assert built("data: {symbol: 'btcusdt, ETHUSDT'}").candles.symbols == ("BTCUSDT", "ETHUSDT")
    assert built("data: {symbol: random_walk, interval: 4h}").candles.kind == "random_walk"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2020-01-05", "2020-01-05"),
        ("'2020-01-05'", "2020-01-05"),
        ("2020", "2020"),
        ("2020-01", "2020-01"),
        ("1 Jan, 2020", "1 Jan, 2020"),
        ("2020-01-05 13:00:00", "2020-01-05 13:00:00"),
        ("null", None),
    ],
)
def test_dates_are_read_however_yaml_reads_them(written: str, meant: str | None) -> None:
    text = f"'{written}'" if "," in written else written
    assert built(f"data: {{symbol: A1, start_date: {text}}}").candles.start == meant


@pytest.mark.parametrize(
    ("text", "kept", "idle"),
    [
        ("{format: HDF5}", {"format": "hdf5"}, []),
        ("{format: .h5, mode: Batch}", {"format": "hdf5", "mode": "batch"}, []),
        ("{format: hdf5, mode: single}", {"format": "hdf5"}, ["mode: single"]),
        (
            "{format: hdf5, mode: single, images_per_file: 9}",
            {"format": "hdf5"},
            ["mode: single", "images_per_file: 9"],
        ),
        (
            "{format: npz, mode: batch, images_per_file: 9}",
            {"format": "npz", "mode": "batch", "images_per_file": 9},
            [],
        ),
        (
            "{format: npz, mode: single, images_per_file: 9}",
            {"format": "npz", "mode": "single"},
            ["images_per_file: 9"],
        ),
        ("{format: npz, images_per_file: 9}", {"format": "npz", "images_per_file": 9}, []),
        ("{format: zarr, images_per_file: 9}", {"format": "zarr", "images_per_file": 9}, []),
        ("{format: jpg, images_per_file: 9}", {"format": "jpeg"}, ["images_per_file: 9"]),
        ("{format: null, mode: batch}", {"format": "none"}, ["mode: batch"]),
        ("{}", {"format": "none"}, []),
    ],
)
def test_storage_as_people_write_it(text: str, kept: dict[str, Any], idle: list[str]) -> None:
    values, lines = storage(text)
    assert values == kept
    assert [line.split(" is not used: ")[0] for line in lines] == [
        f"image.storage.{one}" for one in idle
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {symbl: A1}", "unknown key 'data.symbl'; did you mean 'symbol'?"),
        ("data: {symbol: A1, start: 2020}", "unknown key 'data.start'; did you mean 'start_date'?"),
        ("data: {symbol: A1}\nimages: {}", "unknown key 'images'; did you mean 'image'?"),
        (
            "data: {symbol: A1}\npaths: {processed: x}",
            "unknown key 'paths.processed'; did you mean 'processed_data'?",
        ),
        ("image: {seq_len: 5}", "data: Field required"),
        ("data: {interval: 1h}", "data.symbol: Field required"),
        ("data: {symbol: A1, interval: 7m}", "data.interval = '7m': unknown interval; known: 1s"),
        ("data: {symbol: A1, start_date: 01/02/2020}", "data.start_date = '01/02/2020': .*write"),
        ("data: {symbol: []}", "data.symbol"),
        ("data: {symbol: A1}\nimage: {seq_len: 1}", "image.seq_len = 1: .*greater than or equal"),
        (
            "data: {symbol: A1}\nimage: {resolution: {height: 1}}",
            "image: height is 1 px; ohlc4 needs a height of at least 2",
        ),
        (
            "data: {symbol: A1}\nimage: {seq_len: 100, resolution: {width: 100}}",
            "image: width is 100 px; 100 slots of ohlc4 at 4 px or more need a width of at least",
        ),
        (
            "data: {symbol: A1}\nimage: {resolution: {heigth: 5}}",
            "unknown key 'image.resolution.heigth'; did you mean 'height'?",
        ),
        (
            "data: {symbol: A1}\nimage: {storage: {format: tiff}}",
            "image.storage: storage: format = 'tiff': .*'hdf5'",
        ),
        (
            "data: {symbol: A1}\nimage: {storage: {format: png, mode: batch}}",
            "mode 'batch' does not go with format 'png'",
        ),
        (
            "data: {symbol: A1}\nimage: {storage: {format: npz, mode: bulk}}",
            "image.storage.mode = 'bulk': Input should be 'single' or 'batch'",
        ),
        (
            "data: {symbol: A1}\nimage: {storage: {format: hdf5, mode: bulk}}",
            "image.storage.mode = 'bulk': Input should be 'single' or 'batch'",
        ),
        (
            "data: {symbol: A1}\nimage: {storage: {format: npz, images_per_file: 0}}",
            "image.storage.images_per_file = 0",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        built(text)
    assert str(error.value).startswith("old.yaml: ")
    assert "\n" not in str(error.value)


def test_a_mixture_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as error:
        read("data: {symbol: A1}\npaths: {}\nwindow: 9\nstyle: jkx")
    assert str(error.value).startswith(
        "old.yaml mixes two shapes: 'data', 'paths' of one and 'window', 'style' of the other; "
        "write all of it as 'data', 'image', 'paths', or all of it as 'candles', 'window', "
    )


@pytest.mark.parametrize("values", [{}, {"window": 9}, {"candels": {}}])
def test_the_other_shape_is_left_alone(values: dict[str, Any]) -> None:
    assert read_pipeline(values, where="new.yaml") is None


def test_variables_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT", "/data")
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "old.yaml"
    file.write_text(
        "data: {symbol: A1}\npaths: {raw_data: '${ROOT}/raw', logs: ~/logs}\n", encoding="utf-8"
    )
    pipeline = read_pipeline(read_mapping(file), where=str(file))
    assert pipeline is not None
    assert (pipeline.paths.raw_data, pipeline.paths.logs) == (
        Path("/data/raw"),
        tmp_path / "logs",
    )


@given(
    window=st.integers(2, 300),
    height=st.integers(2, 2000),
    extra=st.integers(0, 50),
)
def test_sizes_carry_over(window: int, height: int, extra: int) -> None:
    width = 4 * window + extra
    text = f"image: {{seq_len: {window}, resolution: {{height: {height}, width: {width}}}}}"
    assert built(f"data: {{symbol: A1}}\n{text}").image_shape == (height, width)
