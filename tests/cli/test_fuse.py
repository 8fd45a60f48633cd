"""`candlemark fuse` as it is typed: what flags mean, what is refused, and one run to its end."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from candlemark.benchmark.fusion.config import FusionBenchmarkConfig
from candlemark.cli import main as command
from candlemark.dataset.build import build_dataset
from candlemark.dataset.config import DatasetConfig
from candlemark.dataset.sharing.folder_import import import_folder
from candlemark.errors import ModelError
from candlemark.execution.base import Failure, FailureKind, Outcome

TINY = (
    *("--text-encoder", "tiny:bert", "--image-encoder", "tiny:vit", "--weights", "random"),
    *("--epochs", "1", "--device", "cpu"),
)


class Here:
    """Runs trials in this process; what candlemark refuses is a refused trial."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Outcome]:
        for item in items:
            value, failure = None, None
            try:
                value = function(item)
            except ModelError as error:
                failure = Failure(kind=FailureKind.REFUSED, reason=str(error))
            yield Outcome(
                item=item, value=value, failure=failure, started_at="2026-01-01", duration_s=0.0
            )


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLEMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("candlemark.launch.fusion.local_executor", lambda timeout_s: Here())
    # Its ten seconds are worth nothing here.
    monkeypatch.setattr("candlemark.benchmark.fusion.network.forward_cost", lambda *_, **__: ())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pair"
    config = DatasetConfig.model_validate(
        {
            "candles": {"kind": "planted_pair", "count": 220},
            "window": 8,
            "label": {"name": "direction"},
            "style": {"kind": "ohlc4", "height": 32},
        }
    )
    return build_dataset(config, folder).path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `candlemark WORDS` in this process: (exit status, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["candlemark", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def refused(call):
    """The one line that `candlemark WORDS` leaves on standard error, with exit status 2."""

    def run(*words: object) -> str:
        status, out, err = call(*words)
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (status, out, len(lines)) == (2, "", 1), err
        return lines[0]

    return run


class _StoppedError(Exception):
    """Carries what would have run."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """The config and options that the flags resolve to; nothing runs."""

    def stop(config: FusionBenchmarkConfig, **options: Any) -> None:
        raise _StoppedError(config, options)

    def run(*words: str) -> SimpleNamespace:
        monkeypatch.setattr("candlemark.launch.fusion.run_fusion", stop)
        monkeypatch.setattr(sys, "argv", ["candlemark", *words])
        with pytest.raises(_StoppedError) as caught:
            command.main()
        config, options = caught.value.args
        return SimpleNamespace(config=config, **options)

    return run


def test_defaults_are_the_architecture_of_the_field(asked):
    config = asked("fuse", "train", "--data-dir", "d").config
    assert (config.model.text_encoder, config.model.image_encoder) == (
        "bert-base-uncased",
        "google/vit-base-patch16-224",
    )
    assert (config.inputs, config.fusions, config.controls) == (("both",), ("text_to_image",), ())
    assert config.baselines == ("majority", "persistence", "gradient_boosting")
    assert config.training.learning_rate == 5e-5
    assert config.keep_models


def test_every_flag_of_train_reaches_the_config(asked):
    found = asked(
        *("fuse", "train", "--data-dir", "d", "--inputs", "text", "--fusion", "late"),
        *("--text-encoder", "t", "--image-encoder", "i", "--weights", "random"),
        *("--caption", "classic", "--max-tokens", "64", "--batch-size", "8", "--epochs", "3"),
        *("--lr", "0.01", "--schedule", "linear", "--accumulation-steps", "4"),
        *("--precision", "bf16", "--freeze", "--patience", "2", "--seed", "7"),
        *("--device", "cpu", "--timeout", "9", "--output", "m", "--pytorch-bin"),
        *("--output-dir", "o", "--no-resume"),
    )
    config, training = found.config, found.config.training
    assert config.data_dirs == (Path("d"),)
    assert (config.inputs, config.fusions) == (("text",), ("late",))
    assert (config.model.text_encoder, config.model.image_encoder) == ("t", "i")
    assert (config.model.weights, config.model.caption) == ("random", "classic")
    assert config.model.max_tokens == 64
    assert (training.batch_size, training.epochs, training.learning_rate) == (8, 3, 0.01)
    assert (training.schedule, training.accumulation_steps) == ("linear", 4)
    assert (training.precision, training.mode, training.patience) == ("bf16", "frozen", 2)
    assert (config.seeds, config.device, config.timeout_s) == ((7,), "cpu", 9)
    assert (found.model_dir, found.pickle) == (Path("m"), True)
    assert (found.output_dir, found.resume) == (Path("o"), False)


@pytest.mark.parametrize(
    ("flags", "rate"),
    [
        ((), 5e-5),
        (("--freeze",), 1e-3),
        (("--weights", "random"), 1e-3),
        (("--lora-rank", "8"), 2e-4),
        (("--freeze", "--lr", "0.1"), 0.1),
    ],
)
def test_the_rate_follows_from_what_learns(asked, flags, rate):
    assert asked("fuse", "train", "--data-dir", "d", *flags).config.training.learning_rate == rate


def test_compare_asks_every_question_by_default(asked):
    config = asked("fuse", "compare", "--data-dir", "a", "--data-dir", "b").config
    assert config.data_dirs == (Path("a"), Path("b"))
    assert config.inputs == ("both", "image", "text", "numbers")
    assert config.controls == ("shuffled_labels", "random_walk")
    assert not config.keep_models
    all_ways = asked(
        *("fuse", "compare", "--data-dir", "a", "--fusion", "all", "--seeds", "0,1"),
        *("--inputs", "both,text", "--no-controls"),
    ).config
    assert len(all_ways.fusions) == 5
    assert (all_ways.inputs, all_ways.seeds, all_ways.controls) == (("both", "text"), (0, 1), ())


def test_wrong_words_are_one_line_before_anything_runs(refused, data):
    train = ("fuse", "train", *TINY, "--data-dir")
    assert "no dataset at nowhere; build one with: candlemark dataset build" in refused(
        *train, "nowhere"
    )
    assert "needs a name for the model; add --hub-model-id USER/NAME" in refused(
        *train, data, "--push-to-hub"
    )
    assert "publishes nothing by itself; add --push-to-hub" in refused(
        *train, data, "--hub-model-id", "me/x"
    )
    assert "inputs.0 = 'picture'" in refused(*train, data, "--inputs", "picture")
    assert "fusions.0 = 'early'" in refused(*train, data, "--fusion", "early")
    assert "leave one of them out" in refused(*train, data, "--freeze", "--lora-rank", "4")
    assert "known: tiny:bert" in refused(*train, data, "--text-encoder", "tiny:brt")
    assert "nobody/none" in refused(*train, data, "--image-encoder", "nobody/none")
    assert "--split 'late' is not known; allowed: train, validation, test" in refused(
        "fuse", "evaluate", "m", "--data-dir", data, "--split", "late"
    )


def test_pictures_without_candles_cannot_be_described(refused, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["file_name,label"]
    for number in range(400):
        Image.fromarray(np.full((8, 8), number % 256, dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
        lines.append(f"{number}.png,{'up' if number % 2 else 'down'}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    import_folder(folder, tmp_path / "imported")
    line = refused("fuse", "train", *TINY, "--data-dir", tmp_path / "imported")
    assert "pictures that were imported without candles" in line


def test_a_caption_that_is_too_long_stops_the_training_with_one_line(refused, data):
    line = refused(
        *("fuse", "train", *TINY, "--data-dir", data, "--inputs", "text"),
        *("--caption", "classic", "--max-tokens", "20"),
    )
    assert "max_tokens allows 20, and none is ever cut" in line


def test_train_then_evaluate_then_train_again(call, data, tmp_path):
    words = (
        *("fuse", "train", *TINY, "--data-dir", data, "--inputs", "text", "--caption", "classic"),
        *("--output", "m", "--pytorch-bin"),
    )
    status, out, _ = call(*words)
    assert status == 0
    assert "persistence" in out  # after "baseline:", which may stand on a line of its own
    assert "text only" in out
    assert "model:   m" in out
    assert "next:    candlemark fuse predict m --symbol planted_pair" in out
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert {
        *("config.json", "model.safetensors", "pytorch_model.bin", "training.json"),
        *("tokenizer.json", "modeling.py", "app.py", "README.md"),
    } <= names

    status, out, _ = call("fuse", "evaluate", "m", "--data-dir", data, "--device", "cpu")
    assert status == 0
    assert "MASE" in out
    assert "the same as training recorded, to the last digit" in out
    status, out, _ = call("fuse", "evaluate", "m", "--data-dir", data, "--split", "train")
    assert "these scores are no test: it was trained on these very windows" in out

    status, out, _ = call(*words, "--json")
    answer = json.loads(out)
    assert (status, answer["trained"], answer["model"]) == (0, 0, "m")
    told = json.loads((tmp_path / "m" / "training.json").read_text(encoding="utf-8"))
    assert answer["trial_id"] == told["trial_id"]
    status, out, _ = call("fuse", "evaluate", "m", "--data-dir", data, "--json")
    assert json.loads(out)["scores"]["auroc"]["value"] == told["measurements"]["auroc"]["value"]


def test_the_next_command_names_the_file_that_candles_came_from(call, make_series, tmp_path):
    from candlemark.candles.export import write

    write(make_series(120), tmp_path / "my candles.csv")
    call(
        *("dataset", "build", "--file", "my candles.csv", "--label", "direction", "--out", "d"),
        *("--window-size", "8", "--style", "ohlc4", "--height", "32"),
    )
    _, out, _ = call("fuse", "train", *TINY, "--data-dir", "d", "--inputs", "numbers")
    (line,) = (line for line in out.splitlines() if line.startswith("next:"))
    status, out, err = call(*shlex.split(line)[2:], "--device", "cpu", "--json")
    assert status == 0, (line, err)
    assert json.loads(out)


def test_what_is_trained_can_be_published_in_one_go(hub_double, call, refused, data, tmp_path):
    words = (
        *("fuse", "train", *TINY, "--data-dir", data, "--inputs", "numbers", "--output", "m"),
        *("--push-to-hub", "--hub-model-id", "tester/pair", "--private"),
    )
    line = refused(*words, "--token", "hf_wrong")
    assert "hf_wrong" not in line
    assert not (tmp_path / "m").exists(), "what cannot be published is not trained for it"

    hub_double.fail(403, on="/commit/")
    line = refused(*words)
    assert line.endswith("the model is kept: candlemark hub push-model m tester/pair")

    status, out, err = call(*words)
    assert (status, "hub:     " in out) == (0, True), err
    files = hub_double.files("tester/pair")
    for name in ("config.json", "model.safetensors", "modeling.py", "training.json"):
        assert files[name] == (tmp_path / "m" / name).read_bytes()
    assert b"candlemark:begin model" in files["README.md"]
    commits = hub_double.commits("tester/pair")
    assert hub_double.token.encode() not in b"".join(files.values())

    status, out, _ = call(*words, "--json")
    assert json.loads(out)["pushed"]["commit"] is None
    assert hub_double.commits("tester/pair") == commits


def test_help_shows_examples(call):
    for words in (("fuse",), ("fuse", "train"), ("fuse", "compare"), ("fuse", "evaluate")):
        status, out, _ = call(*words, "--help")
        assert status == 0
        assert "train" in out or "candlemark fuse" in out
    _, out, _ = call("fuse", "--help")
    assert all(name in out for name in ("train", "compare", "evaluate", "predict"))
