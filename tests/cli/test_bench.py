"""`candlemark bench`, `run` and `doctor` as they are typed: what flags mean, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from candlemark.benchmark.config import BenchmarkConfig
from candlemark.cli import main as command
from candlemark.doctor import Check, check_reach
from candlemark.models.catalog import MODEL_SETS

BTC = ("bench", "--coin", "BTCUSDT", "--base-url", "http://127.0.0.1:9")
SMALL = "timm/test_byobnet.r160_in1k"
NUMBERS = """
datasets:
- candles: {kind: planted, count: 300}
  window: 12
  label: {name: next_candle}
  style: {kind: jkx}
baselines: [majority, persistence]
controls: []
measure: {replicates: 100}
device: cpu
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("CANDLEMARK_BINANCE_URL", raising=False)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `candlemark WORDS` in this process: (exit status, standard output, standard error)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def refused(call):
    """The one line that `candlemark WORDS` leaves on standard error, with exit status 2."""

    def run(*words: str) -> str:
        status, out, err = call(*words)
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return str(err)

    return run


class _StoppedError(Exception):
    """Carries the config that would have run."""


@pytest.fixture
def config_of(monkeypatch: pytest.MonkeyPatch):
    """The complete config that the flags resolve to; nothing runs."""

    def stop(config: BenchmarkConfig, **options: Any) -> None:
        raise _StoppedError(config, options)

    def run(*words: str) -> BenchmarkConfig:
        monkeypatch.setattr("candlemark.launch.run.run", stop)
        monkeypatch.setattr(sys, "argv", ["candlemark", *words])
        with pytest.raises(_StoppedError) as caught:
            command.main()
        config = caught.value.args[0]
        assert isinstance(config, BenchmarkConfig)
        return config

    return run


def test_defaults(config_of):
    config = config_of("bench", "--coin", "btcusdt")
    (dataset,) = config.datasets
    assert dataset.candles.symbols == ("BTCUSDT",)
    assert (dataset.candles.period, dataset.candles.interval) == ("365days", "1h")
    assert (dataset.window, dataset.label.name, dataset.style.kind) == (
        30,
        "next_candle",
        "candlestick",
    )
    assert config.models == MODEL_SETS["quick_test"]
    assert (config.weights, config.seeds, config.device) == ("pretrained", (0,), "auto")


@pytest.mark.parametrize(
    ("flags", "interval"),
    [
        (("--period", "7days"), "1m"),
        (("--period", "31days"), "1m"),
        (("--period", "32days"), "1h"),
        (("--period", "7days", "--interval", "5m"), "5m"),
        (("--start", "2024-01", "--end", "2024-01"), "1m"),
        (("--start", "2024-01", "--end", "2024-02"), "1h"),
        (("--start", "2024-01"), "1h"),
        (("--end", "2024-01"), "1h"),
    ],
)
def test_short_is_read_in_minutes_and_long_in_hours(config_of, flags, interval):
    assert config_of("bench", "--coin", "BTCUSDT", *flags).datasets[0].candles.interval == interval


def test_a_file_has_its_own_interval_and_may_be_cut(config_of):
    whole = config_of("bench", "--file", "x.csv").datasets[0].candles
    assert (whole.kind, whole.path, whole.interval, whole.period) == ("file", "x.csv", "auto", None)
    assert config_of("bench", "--file", "x.csv", "--period", "9days").datasets[
        0
    ].candles.period == ("9days")


def test_the_label_says_how_many_classes_it_has(config_of):
    (dataset,) = config_of(*BTC, "--label", "direction").datasets
    assert (dataset.label.name, dataset.label.classes) == ("direction", 3)
    (dataset,) = config_of(*BTC, "--label", "forward_return").datasets
    assert dataset.label.classes == 2


def test_every_flag_reaches_the_config(config_of):
    config = config_of(
        *BTC, "--symbol", "BTCUSDT,ETHUSDT", "--market", "um", "--models", f"{SMALL},a/b",
        "--models", "c/d", "--window-size", "20", "--experiment-type", "irregular",
        "--missing-share", "0.8", "--label", "forward_return", "--horizon", "4", "--classes", "3",
        "--style", "jkx", "--max-samples", "0", "--epochs", "3", "--batch-size", "8", "--weights",
        "random", "--allow-pickle", "--mode", "frozen", "--precision", "bf16", "--seeds", "0,2",
        "--device", "cpu", "--timeout", "60",
    )  # fmt: skip
    (dataset,) = config.datasets
    assert (dataset.candles.symbols, dataset.candles.market) == (("BTCUSDT", "ETHUSDT"), "um")
    assert (dataset.window, dataset.experiment, dataset.missing_share) == (20, "irregular", 0.8)
    label = dataset.label
    assert (label.name, label.horizon, label.classes) == ("forward_return", 4, 3)
    assert (dataset.style.kind, dataset.max_samples) == ("jkx", 0)
    training = config.training
    assert (training.epochs, training.batch_size, training.mode) == (3, 8, "frozen")
    assert training.precision == "bf16"
    assert config.models == (SMALL, "a/b", "c/d")
    assert (config.weights, config.allow_pickle, config.seeds) == ("random", True, (0, 2))
    assert (config.device, config.timeout_s) == ("cpu", 60)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("bench",), "one of the two; neither is given"),
        (("bench", "--coin", "A", "--file", "b.csv"), "one of the two; both are given"),
        (("bench", "--coin", ""), "symbols is empty; name at least one, such as BTCUSDT"),
        (("bench", "--coin", "BTC/USDT"), "'BTC/USDT' is no symbol"),
        ((*BTC, "--seeds", "a"), "--seeds 'a' is not understood; write whole numbers from 0"),
        ((*BTC, "--seeds", ""), "--seeds '' is not understood"),
        ((*BTC, "--seeds", "-1"), "--seeds '-1' is not understood"),
        ((*BTC, "--seeds", "1,1"), "seeds = (1, 1): names an entry twice"),
        ((*BTC, "--model-set", "moon"), "unknown model set 'moon'; known: quick_test, lightweight"),
        ((*BTC, "--model-set", "balanced", "--models", "a/b"), "are both given; name one"),
        ((*BTC, "--interval", "7m"), "interval = '7m': unknown interval; known: 1s, 1m"),
        ((*BTC, "--market", "moon"), "market = 'moon': Input should be 'spot', 'um' or 'cm'"),
        ((*BTC, "--period", "7lightyears"), "write a number and a unit, such as 7days"),
        ((*BTC, "--period", "7days", "--start", "2024-01"), "start and period are both given"),
        ((*BTC, "--start", "2024-05", "--end", "2024-01"), "'2024-05' is not before end '2024-01'"),
        ((*BTC, "--start", "2190-01"), "start '2190-01' is in the future"),
        ((*BTC, "--window-size", "1"), "window = 1: Input should be greater than or equal to 2"),
        ((*BTC, "--window-size", "700"), "700 slots of candlestick at 1 px or more need a width"),
        ((*BTC, "--experiment-type", "x"), "'regular', 'fullimage' or 'irregular'"),
        ((*BTC, "--experiment-type", "fullimage", "--style", "ohlc4"), "take --style candlestick"),
        ((*BTC, "--missing-share", "1"), "missing_share = 1.0: Input should be less than 1"),
        ((*BTC, "--classes", "3"), "three are offered by: forward_return, triple_barrier"),
        ((*BTC, "--classes", "5", "--label", "forward_return"), "label.classes = 5"),
        ((*BTC, "--horizon", "0"), "label.horizon = 0"),
        ((*BTC, "--style", "moon"), "'ohlc4', 'jkx' or 'candlestick'"),
        ((*BTC, "--max-samples", "-1"), "max_samples = -1"),
        ((*BTC, "--epochs", "0"), "epochs = 0"),
        ((*BTC, "--batch-size", "0"), "batch_size = 0"),
        ((*BTC, "--mode", "half"), "mode = 'half': Input should be 'full' or 'frozen'"),
        ((*BTC, "--precision", "fp8"), "precision = 'fp8'"),
        ((*BTC, "--timeout", "0"), "timeout_s = 0.0: Input should be greater than 0"),
        (("run", "absent.yaml"), "cannot read config absent.yaml: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_one_line(refused, flags, line):
    assert line in refused(*flags)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--device", "moon"), "unknown device 'moon'; allowed: auto, cuda, xpu, mps, cpu"),
        (("--models", "moon"), "'moon' is no catalog id, timm name, folder or Hub id"),
        (("--models", "no/such"), "check the id, or name a model folder instead"),
        (("--models", SMALL), f"model.safetensors of {SMALL} is not in the Hub cache"),
        (("--models", SMALL), "use --weights random"),
        (("--models", SMALL, "--weights", "absent"), "no weights at absent; allowed: pretrained"),
    ],
)
def test_models_and_devices_are_looked_at_before_candles_are_fetched(
    refused, monkeypatch: pytest.MonkeyPatch, flags, line
):
    # The address of the candles answers nothing, so a fetch would fail with another line.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights = () if SMALL in flags else ("--weights", "random")
    assert line in refused(*BTC, "--period", "7days", *flags, *weights)


def test_an_unwritable_output_folder_is_one_line(refused):
    Path("taken").write_text("a file", encoding="utf-8")
    assert "taken" in refused("run", str(_written(NUMBERS)), "--output-dir", "taken")


def test_a_config_with_unknown_keys_is_one_line(refused):
    path = _written(NUMBERS.replace("window:", "windw:"))
    assert "unknown key 'datasets.0.windw'; did you mean 'window'?" in refused("run", str(path))


def test_run_in_json_twice(call):
    path = str(_written(NUMBERS))
    status, out, _ = call("run", path, "--json", "--output-dir", "out")
    first = json.loads(out)
    assert (status, first["trained"]) == (0, 2)
    assert Path(first["results"], "candlemark.duckdb").is_file()
    status, out, _ = call("run", path, "--json", "--output-dir", "out")
    again = json.loads(out)
    assert (status, again["trained"], again["suite_id"]) == (0, 0, first["suite_id"])


def test_a_damaged_store_is_one_line_and_left_alone(refused):
    store = Path("out/results/candlemark.duckdb")
    store.parent.mkdir(parents=True)
    store.write_bytes(b"junk" * 5000)
    line = refused("run", str(_written(NUMBERS)), "--output-dir", "out")
    assert "candlemark.duckdb is not a DuckDB file" in line
    assert store.read_bytes() == b"junk" * 5000


def test_a_store_in_use_names_its_holder(refused):
    import subprocess

    holder = (
        "import sys; from candlemark.results.store import open_results\n"
        "with open_results('out/results') as store: print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        line = refused("run", str(_written(NUMBERS)), "--output-dir", "out")
        process.communicate("")
    assert f"(process {process.pid})" in line


def test_list_data(call, shared_data: Path):
    base_url = (shared_data / "binance").as_uri()
    status, out, err = call("bench", "--list-data", "--base-url", base_url)
    assert (status, err) == (0, "")
    assert "ETHUSDT" in out
    status, out, _ = call("bench", "--list-data", "--base-url", base_url, "--json")
    found = json.loads(out)["candles"]
    assert {"market": "um", "symbol": "AVAXUSDT", "interval": "1m"}.items() <= found[-1].items()


def test_list_data_of_an_empty_cache_names_the_next_command(call):
    status, out, _ = call("bench", "--list-data")
    assert status == 0
    assert "try: candlemark bench --coin BTCUSDT --period 7days" in " ".join(out.split())


def _doctored(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    monkeypatch.setattr("candlemark.doctor.diagnose", lambda: iter(checks))


GOOD = Check(name="Python", state="ok", found="3.11")
NARROW = Check(name="devices", state="note", found="cpu only")
BROKEN = Check(name="numpy", state="problem", found="not installed", fix="pip install numpy")


def test_doctor_is_content_with_notes(call, monkeypatch: pytest.MonkeyPatch):
    _doctored(monkeypatch, GOOD, NARROW)
    status, out, _ = call("doctor")
    assert status == 0
    assert "cpu only" in out


def test_doctor_exits_with_1_and_names_the_fix(call, monkeypatch: pytest.MonkeyPatch):
    _doctored(monkeypatch, GOOD, BROKEN)
    status, out, _ = call("doctor")
    assert status == 1
    assert "pip install numpy" in out
    status, out, _ = call("doctor", "--json")
    assert status == 1
    found = json.loads(out)
    assert found["ok"] is False
    assert found["checks"][1] == BROKEN.to_dict()


def test_doctor_survives_an_address_that_is_none():
    check = check_reach("Binance archive", "http://[", "export CANDLEMARK_BINANCE_URL=...")
    assert check.state == "note"
    assert "http://[ cannot be reached" in check.found


def _written(text: str) -> Path:
    path = Path("suite.yaml")
    path.write_text(text, encoding="utf-8")
    return path
