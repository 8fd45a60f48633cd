"""`candlemark fuse predict` and `candlemark app`: what they print, draw and refuse."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from candlemark.cli import main as command

Call = Callable[..., tuple[int, str, str]]


def _load(name: str, *parts: str) -> ModuleType:
    """A module of another folder of tests."""
    spec = spec_from_file_location(name, Path(__file__).parents[1].joinpath(*parts))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


models = _load("candlemark_test_small_models", "app", "small_models.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small model that reads `inputs`."""
    root, made = tmp_path_factory.mktemp("models"), {}

    def find(inputs: str) -> Path:
        if inputs not in made:
            made[inputs] = models.make_model(root / inputs, inputs=inputs)
        return made[inputs]

    return find


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `candlemark WORDS` here: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    path = tmp_path / "chart.png"
    Image.new("RGB", (80, 64), "white").save(path)
    return path


def test_a_market_is_answered_with_a_figure(
    call: Call, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    status, out, _ = call(
        "fuse", "predict", folder("both"), "--symbol", "random_walk", "--attention", "why.png"
    )
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("RANDOM_WALK 1h, ")
    assert lines[1].startswith("read: 10 candles.")
    assert [line.split()[0] for line in lines[3:6]] == ["bearish", "neutral", "bullish"]
    assert sum("<" in line for line in lines[3:6]) == 1
    assert lines[7].startswith("next close ")
    assert lines[7].endswith(" in 90 % of cases")
    assert lines[-1] == "attention: why.png"
    with Image.open(tmp_path / "why.png") as figure:
        assert figure.width > 400


def test_json_is_one_object(call: Call, folder: Callable[[str], Path]) -> None:
    status, out, _ = call("fuse", "predict", folder("numbers"), "--symbol", "random_walk", "--json")
    assert status == 0
    told = json.loads(out)
    assert told["model"] == str(folder("numbers"))
    assert told["label"] in told["probabilities"]
    assert told["next_close_low"] < told["next_close"] < told["next_close_high"]
    assert told["attention"] is None
    assert told["attention_reason"] == "a model of numbers looks at no chart"


def test_a_time_is_when_one_looks(call: Call, folder: Callable[[str], Path]) -> None:
    question = ("fuse", "predict", folder("numbers"), "--symbol", "random_walk", "--json")
    told = json.loads(call(*question, "--time", "2024-01-20 13:40")[1])
    assert told["window_end"] == "2024-01-20T13:00:00Z"


def test_a_chart_is_answered_with_a_note(
    call: Call, folder: Callable[[str], Path], chart: Path, tmp_path: Path
) -> None:
    status, out, _ = call(
        "fuse",
        "predict",
        folder("image"),
        "--chart",
        chart,
        "--last-close",
        "100",
        "--attention",
        "why.png",
    )
    assert status == 0
    assert out.startswith("chart.png\n")
    assert "note: the picture is 80 x 64 pixels and was resized to 40 x 32" in out
    assert "note: no attention: a model of pictures alone has no text that asks them" in out
    assert (tmp_path / "why.png").is_file()


def test_a_text_is_answered(call: Call, folder: Callable[[str], Path]) -> None:
    status, out, _ = call("fuse", "predict", folder("text"), "--text", "Price goes up.")
    assert status == 0
    assert out.startswith("a text\nread: Price goes up.\n")


@pytest.mark.parametrize(
    ("inputs", "words", "message"),
    [
        ("both", "", "there is nothing to ask about; give --symbol BTCUSDT, or --chart FILE"),
        ("both", "--symbol X --chart chart.png", "--symbol brings picture, text and last close"),
        ("both", "--chart chart.png --time 2024", "--time belongs to --symbol"),
        ("both", "--text up --interval 1h", "--interval belongs to --symbol"),
        ("both", "--chart chart.png --market um", "--market belongs to --symbol"),
        ("both", "--chart chart.png --via rest", "--via belongs to --symbol"),
        ("both", "--chart chart.png --base-url file:///x", "--base-url belongs to --symbol"),
        ("both", "--chart chart.png", "give --text TEXT too, such as '30 candles."),
        ("both", "--text up", "give --chart FILE too"),
        ("image", "--chart chart.png --text up", "leave out --text TEXT"),
        ("numbers", "--chart chart.png", "which no picture or text holds; give --symbol SYMBOL"),
        ("numbers", "--symbol random_walk --attention a.png", "looks at no chart; leave it out"),
        ("image", "--chart gone.png", "there is no file gone.png"),
        ("image", "--symbol random_walk --time 1999", "lies outside these candles"),
        ("image", "--symbol random_walk --time soon", "'soon' is not understood"),
        ("image", "--symbol random_walk --device gpu", "unknown device 'gpu'"),
        ("image", "--symbol ABC --base-url file:///nowhere", "nowhere"),
    ],
)
@pytest.mark.usefixtures("chart")
def test_what_cannot_be_answered_is_one_line(
    inputs: str, words: str, message: str, call: Call, folder: Callable[[str], Path]
) -> None:
    status, out, told = call("fuse", "predict", folder(inputs), *words.split())
    assert (status, out) == (2, "")
    assert message in told
    assert len(told.strip().splitlines()) == 1


def test_a_folder_without_a_model_is_one_line(call: Call, tmp_path: Path) -> None:
    status, _, told = call("fuse", "predict", tmp_path, "--symbol", "random_walk")
    assert status == 2
    assert "holds no config.json, so it is no model" in told


def test_the_same_question_draws_the_same_figure(
    call: Call, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    call("fuse", "predict", folder("both"), "--symbol", "random_walk", "--attention", "one.png")
    call("fuse", "predict", folder("both"), "--symbol", "random_walk", "--attention", "two.png")
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "two.png"))
    np.testing.assert_array_equal(one, two)


def test_the_page_of_a_port_that_is_taken_is_one_line(
    call: Call, folder: Callable[[str], Path]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, out, told = call("app", folder("numbers"), "--port", port)
    assert (status, out) == (2, "")
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use; name" in told


def test_a_space_is_written_without_a_page(
    call: Call, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    status, out, _ = call("app", folder("numbers"), "--space", tmp_path / "page")
    assert status == 0
    assert "candlemark hub push-model" in out
    assert {path.name for path in (tmp_path / "page").iterdir()} >= {
        "app.py",
        "requirements.txt",
        "README.md",
        "model.safetensors",
    }
